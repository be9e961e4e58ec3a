package blockframe_test

import (
	"context"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/internal/durable"
)

// A disk whose shards a rebuild joins to what it adopted without them counts them: it is
// not removed as an empty one, and drained it is.
func TestRebuildRejoinCounts(t *testing.T) {
	for _, given := range []bool{true, false} {
		fsys := durable.Mem(vfs.NewCrashableMem())
		opts := spread(fsys, 4)
		acts(t, opts, func(_ context.Context, st *blockframe.Store) { putTo(t, st, "x", content(1, 2*mib+500_000)) })
		loseLogs(t, fsys, opts.Dirs)
		all, err := blobs(fsys, opts.Dirs)
		require.NoError(t, err)
		at := 0
		for i, dir := range opts.Dirs {
			for _, name := range all {
				if i > 0 && strings.HasPrefix(name, dir+"/") {
					at = i
				}
			}
		}
		dir := opts.Dirs[at]
		away := save(t, fsys, dir)
		require.NoError(t, fsys.RemoveAll(dir))
		one := opts
		one.Policies = nil
		if !given {
			one.Dirs = append(append([]string{}, opts.Dirs[:at]...), opts.Dirs[at+1:]...)
		}
		rep, found := rebuilt(t, one, blockframe.RebuildOptions{})
		require.EqualValues(t, 1, rep.Named, "%v", brief(found))
		away.back(t, fsys, dir)
		rep, _ = rebuilt(t, opts, blockframe.RebuildOptions{Accept: true})
		require.Positive(t, rep.Joined)
		acts(t, opts, func(ctx context.Context, st *blockframe.Store) {
			aud, err := st.Audit(ctx)
			require.NoError(t, err)
			require.Empty(t, aud.Problems)
			for _, d := range st.Disks(ctx) {
				if d.Path == dir {
					_, err := st.RemoveDisk(ctx, d.ID, blockframe.RemoveOptions{})
					require.ErrorIs(t, err, blockframe.ErrConflict)
					_, err = st.AddDisk(ctx, "/d9")
					require.NoError(t, err)
					_, err = st.DrainDisk(ctx, d.ID, blockframe.MoveOptions{})
					require.NoError(t, err)
					_, err = st.RemoveDisk(ctx, d.ID, blockframe.RemoveOptions{})
					require.NoError(t, err)
				}
			}
			rep, err := st.Scrub(ctx, blockframe.ScrubOptions{})
			require.NoError(t, err)
			require.True(t, rep.Clean(), "%+v", rep)
		})
	}
}
