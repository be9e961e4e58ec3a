package blockframe_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
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
		name := fmt.Sprintf("d%d/%c%d", r.rng.IntN(3), "nnnm"[r.rng.IntN(4)], r.rng.IntN(12))
		switch r.rng.IntN(8) {
		case 0:
			if r.want[name] != nil {
				require.NoError(r.t, r.st.Delete(ctx, name, blockframe.DeleteOptions{All: true}))
				delete(r.want, name)
			}
		case 1:
			to := fmt.Sprintf("d%d/m%d", r.rng.IntN(3), r.rng.IntN(12))
			if r.want[name] != nil && r.want[to] == nil {
				require.NoError(r.t, r.st.Rename(ctx, name, to))
				r.want[to] = r.want[name]
				delete(r.want, name)
			}
		default:
			size := []int{0, 1, 100, 3000, 5000, 70_000, 300_000}[r.rng.IntN(7)]
			if r.want[name] != nil && r.rng.IntN(8) > 0 {
				require.NoError(r.t, r.st.Delete(ctx, name, blockframe.DeleteOptions{All: true}))
			}
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
			if errors.Is(err, fs.ErrNotExist) {
				break
			}
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

// keptBlobs returns the shard files of what is kept of a kind, by the record it ends with.
func (r *keepRig) keptBlobs(kind store.Kind) map[uint64][]string {
	r.t.Helper()
	list, err := r.st.Kept(r.t.Context())
	require.NoError(r.t, err)
	all, err := blobs(r.fs, r.opts.Dirs)
	require.NoError(r.t, err)
	out := map[uint64][]string{}
	for _, k := range list {
		for _, name := range all {
			if k.Kind == kind && strings.HasSuffix(name, "-"+k.Upload.String()) {
				out[k.Last] = append(out[k.Last], name)
			}
		}
		require.True(r.t, k.Kind != kind || len(out[k.Last]) > 0, "%v has no blobs", k)
	}
	return out
}

func newestFirst(m map[uint64][]string) []uint64 {
	list := slices.Sorted(maps.Keys(m))
	slices.Reverse(list)
	return list
}
