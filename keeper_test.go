package blockframe_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/store"
)

// keepRig is a store with a log of small segments that is trimmed, and what is in it.
type keepRig struct {
	t    testing.TB
	fs   durable.FS
	opts blockframe.Options
	st   *blockframe.Store
	rng  *rand.Rand
	want map[string][]byte
	log  int64 // bytes of the log, at most so far
}

func newKeepRig(t testing.TB, dirs int) *keepRig {
	r := &keepRig{t: t, fs: durable.Mem(vfs.NewCrashableMem()), rng: rand.New(rand.NewPCG(1, uint64(dirs))), want: map[string][]byte{}}
	for i := range dirs {
		r.opts.Dirs = append(r.opts.Dirs, fmt.Sprintf("/d%d", i))
	}
	r.opts.Grace = -1
	r.opts = blockframe.WithSnapshots(blockframe.WithSegment(r.opts, 64<<10), 2)
	r.open()
	return r
}

func (r *keepRig) open() {
	r.t.Helper()
	var err error
	r.st, err = blockframe.Open(r.t.Context(), blockframe.WithFS(r.opts, r.fs))
	require.NoError(r.t, err)
	st := r.st
	r.t.Cleanup(func() { st.Close() })
}

func (r *keepRig) close() {
	r.t.Helper()
	require.NoError(r.t, r.st.Close())
}

// work puts, overwrites, renames and deletes for a while, with a pass of the keeper now
// and then.
func (r *keepRig) work(steps int) {
	r.t.Helper()
	ctx := r.t.Context()
	for i := range steps {
		name := fmt.Sprintf("d%d/n%d", r.rng.IntN(3), r.rng.IntN(12))
		switch r.rng.IntN(8) {
		case 0:
			if r.want[name] != nil {
				require.NoError(r.t, r.st.Delete(ctx, name, blockframe.DeleteOptions{All: true}))
				delete(r.want, name)
			}
		case 1:
			to := fmt.Sprintf("d%d/m%d", r.rng.IntN(3), r.rng.Uint32())
			if r.want[name] != nil {
				require.NoError(r.t, r.st.Rename(ctx, name, to))
				r.want[to] = r.want[name]
				delete(r.want, name)
			}
		default:
			size := []int{0, 1, 100, 3000, 5000, 70_000, 300_000}[r.rng.IntN(7)]
			r.want[name] = content(byte(r.rng.IntN(250)), size)
			_, err := r.st.Put(ctx, name, bytes.NewReader(r.want[name]), blockframe.PutOptions{})
			require.NoError(r.t, err)
		}
		if i%10 == 9 {
			require.NoError(r.t, r.st.KeepPass(ctx))
			size := int64(0)
			for _, s := range r.st.Log() {
				size += s.Size
			}
			r.log = max(r.log, size)
		}
	}
}

// check reads everything.
func (r *keepRig) check() {
	r.t.Helper()
	for name, want := range r.want {
		got, err := readAll(r.t.Context(), r.st, name, 0)
		require.NoError(r.t, err, name)
		require.True(r.t, bytes.Equal(want, got), name)
	}
	for dir := range 3 {
		for o, err := range r.st.List(r.t.Context(), fmt.Sprintf("d%d", dir), blockframe.ListOptions{}) {
			require.NoError(r.t, err)
			require.Contains(r.t, r.want, o.Name)
		}
	}
}

func (r *keepRig) trimmed() {
	r.t.Helper()
	require.Greater(r.t, r.st.Log()[0].First, uint64(1), "the log was never trimmed")
}

func (r *keepRig) kept() (snaps, segs int) {
	r.t.Helper()
	list, err := r.st.Kept(r.t.Context())
	require.NoError(r.t, err)
	for _, k := range list {
		if k.Kind == store.KindSnapshot {
			snaps++
		} else {
			segs++
		}
	}
	return snaps, segs
}

func (r *keepRig) dropViews() {
	r.t.Helper()
	for _, d := range r.opts.Dirs {
		require.NoError(r.t, r.fs.RemoveAll(path.Join(d, "view")))
	}
}

// A log that was trimmed and a view that is gone: the store comes back whole from the
// newest snapshot and what is left of the log, again and again. R5
func TestViewRestoredFromSnapshot(t *testing.T) {
	for _, dirs := range []int{1, 2, 4, 6} {
		t.Run(fmt.Sprintf("%d disks", dirs), func(t *testing.T) {
			r := newKeepRig(t, dirs)
			for range 3 {
				r.work(120)
				r.trimmed()
				r.check()
				r.close()
				r.dropViews()
				r.open()
				require.NoError(t, r.st.ReadOnly())
				r.check()
			}
			snaps, segs := r.kept()
			require.Equal(t, 3, snaps)
			require.LessOrEqual(t, segs, 12)
			rep, err := r.st.Scrub(context.Background(), blockframe.ScrubOptions{Deep: true})
			require.NoError(t, err)
			require.True(t, rep.Clean(), "%+v", rep)
			_, err = r.st.Collect(context.Background(), blockframe.CollectOptions{})
			require.NoError(t, err)
			after, _ := r.kept()
			require.Equal(t, 3, after)
			r.close()
			r.dropViews()
			r.open()
			r.check()
		})
	}
}

func keptBlobs(t testing.TB, r *keepRig) (list []string) {
	all, err := blobs(r.fs, r.opts.Dirs)
	require.NoError(t, err)
	for _, name := range all {
		if strings.Contains(name, "-62666b04") {
			list = append(list, name)
		}
	}
	return list
}
