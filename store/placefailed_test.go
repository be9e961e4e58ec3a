package store_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/mem"
)

// after calls do once n bytes were read.
type after struct {
	io.Reader
	n  int
	do func()
}

func (a *after) Read(b []byte) (int, error) {
	if a.n <= 0 && a.do != nil {
		a.do()
		a.do = nil
	}
	n, err := a.Reader.Read(b[:min(len(b), 64<<10)])
	a.n -= n
	return n, err
}

// Where a backend fails while a stream is written, its shards are missing, and do not go to
// one that is draining: there they would lie until another drain. Where one begins to drain
// while no other can take its part, the stream ends all the same.
func TestPlaceFailed(t *testing.T) {
	t.Run("fails", func(t *testing.T) {
		r := newRig(t, 5, coded(2, 2, miB))
		r.SetDraining(r.mems[4].ID(), true)
		data := content(1, 12*miB)
		o, err := r.Put(t.Context(), "a", &after{bytes.NewReader(data), 2 * miB, func() {
			r.mems[0].SetFault(func(mem.Op) *mem.Fault { return &mem.Fault{Arm: mem.Before, Err: store.ErrUnavailable} })
		}}, store.PutOptions{Expect: store.AnyVersion})
		require.NoError(t, err)
		missing := 0
		for _, e := range r.extents(o) {
			for _, s := range e.Shards {
				require.NotEqual(t, r.mems[4].ID(), s.Backend)
				if s.Missing {
					missing++
				}
			}
		}
		require.Positive(t, missing)
		r.reads(o, data)
		r.mems[0].SetFault(nil)
	})
	r := newRig(t, 3, coded(2, 1, miB))
	data := content(2, 4*miB)
	o, err := r.Put(t.Context(), "b", &after{bytes.NewReader(data), 2 * miB, func() { r.SetDraining(r.mems[0].ID(), true) }},
		store.PutOptions{Expect: store.AnyVersion})
	require.NoError(t, err)
	r.reads(o, data)
}
