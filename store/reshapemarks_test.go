package store_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/mem"
)

// A pass gets past any number of marks: the mark of an upload goes with the last content
// that leaves it, and those that stay are looked at page by page.
func TestReshapeManyMarks(t *testing.T) {
	r := newRig(t, 5, coded(3, 2, miB))
	r = r.without(off(coded(3, 2, miB)), 1, 4)
	var objs []store.Object
	for i := range 12 {
		objs = append(objs, r.put(fmt.Sprint("o", i), content(uint64(i), 700_000)))
	}
	r.cat.mu.Lock()
	for i := range 600 { // of contents that were purged: they stay until the grace is over
		r.cat.narrow[store.UploadID{0, byte(i >> 8), byte(i), 1}] = true
	}
	r.cat.mu.Unlock()
	r = r.without(off(coded(3, 2, miB)))
	rep := r.reshape(store.ReshapeOptions{})
	require.EqualValues(t, 12, rep.Moved)
	require.Equal(t, 600, r.marks())
	for _, o := range objs {
		require.Equal(t, "3+2", r.code(o))
	}
}

// What cannot be written waits, and does not keep others from being reshaped.
func TestReshapeGoesOn(t *testing.T) {
	r := newRig(t, 5, coded(3, 2, miB))
	r = r.without(off(coded(3, 2, miB)), 1, 4)
	for i := range 6 {
		r.put(fmt.Sprint("o", i), content(uint64(i), 700_000))
	}
	r = r.without(off(coded(3, 2, miB)))
	failed := false
	r.mems[3].SetFault(func(op mem.Op) *mem.Fault {
		if op.Kind != mem.Commit || failed {
			return nil
		}
		failed = true
		return &mem.Fault{Arm: mem.Before, Err: store.ErrNoSpace}
	})
	rep := r.reshape(store.ReshapeOptions{})
	require.EqualValues(t, 1, rep.Waiting)
	require.EqualValues(t, 5, rep.Moved)
	require.Equal(t, 1, r.marks())
	require.EqualValues(t, 1, r.reshape(store.ReshapeOptions{}).Moved)
	require.Zero(t, r.marks())
}
