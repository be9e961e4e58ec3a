package blockframe_test

import (
	"context"
	"fmt"
	"path"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/store/mem"
)

// loseLogs removes every copy of the log, and the view.
func loseLogs(t testing.TB, fsys durable.FS, dirs []string) {
	t.Helper()
	for _, d := range dirs {
		require.NoError(t, fsys.RemoveAll(path.Join(d, "log")))
		require.NoError(t, fsys.RemoveAll(path.Join(d, "view")))
		require.NoError(t, fsys.SyncDir(d))
	}
}

// rebuilt rebuilds a store and returns the report, and what was told of.
func rebuilt(t testing.TB, opts blockframe.Options, how blockframe.RebuildOptions) (blockframe.RebuildReport, []blockframe.Found) {
	t.Helper()
	var list []blockframe.Found
	how.Found = func(f blockframe.Found) { list = append(list, f) }
	rep, err := blockframe.Rebuild(context.Background(), opts, how)
	require.NoError(t, err)
	return rep, list
}

// Every copy of the log and of its view is lost: what shards prove comes back below
// lost+found, byte for byte, and a second run has nothing to do. // R5
func TestRebuildFromShards(t *testing.T) {
	ctx := context.Background()
	fsys := durable.Mem(vfs.NewCrashableMem())
	opts := crashOptions(fsys, 6)
	st, err := blockframe.Open(ctx, opts)
	require.NoError(t, err)
	sizes := map[string]int{"a/group": 20_000, "a/b/stream": 300_000, "extents": 3*mib + 70_000, "top": 5000}
	for name, size := range sizes {
		require.NoError(t, putStep(name, byte(size), size).do(ctx, st, fsys))
	}
	require.NoError(t, st.Close())
	loseLogs(t, fsys, opts.Dirs)
	_, err = blockframe.Open(ctx, opts)
	require.Error(t, err)

	rep, found := rebuilt(t, opts, blockframe.RebuildOptions{})
	require.True(t, rep.LogLost)
	require.EqualValues(t, len(sizes), rep.Named, "%+v %v", rep, found)
	require.Zero(t, rep.Incomplete+rep.Stray+rep.Missing+rep.Damaged)

	st, err = blockframe.Open(ctx, opts)
	require.NoError(t, err)
	for name, size := range sizes {
		b, err := readAll(ctx, st, "lost+found/"+name, 0)
		require.NoError(t, err, name)
		require.Equal(t, content(byte(size), size), b, name)
		obj, err := st.Stat(ctx, "lost+found/"+name)
		require.NoError(t, err)
		require.Equal(t, *attr, blockframe.Attr{Mode: obj.Mode, UID: obj.UID, GID: obj.GID, ModTime: attr.ModTime})
		require.True(t, obj.ModTime.Equal(attr.ModTime))
	}
	scrub, err := st.Scrub(ctx, blockframe.ScrubOptions{Deep: true})
	require.NoError(t, err)
	require.True(t, scrub.Clean(), fmt.Sprintf("%+v", scrub))
	col, err := st.Collect(ctx, blockframe.CollectOptions{Unclaimed: true})
	require.NoError(t, err)
	require.ErrorContains(t, col.Skipped, "not accepted")
	require.NoError(t, st.Close())

	rep, found = rebuilt(t, opts, blockframe.RebuildOptions{})
	require.False(t, rep.LogLost || rep.Adoptable() || rep.Accepted)
	require.Empty(t, found)
	rep, _ = rebuilt(t, opts, blockframe.RebuildOptions{Accept: true})
	require.True(t, rep.Accepted)
	st, err = blockframe.Open(ctx, opts)
	require.NoError(t, err)
	require.NoError(t, collected(ctx, st, fsys, opts.Dirs, true))
	require.NoError(t, st.Close())
}

// A store over backends of another kind, whose log directories lost the log.
func TestRebuildBackends(t *testing.T) {
	ctx := context.Background()
	fsys := durable.Mem(vfs.NewCrashableMem())
	opts := blockframe.WithSegment(blockframe.WithFS(blockframe.Options{LogDirs: []string{"/l0", "/l1"}}, fsys), 64<<10)
	for i := range 3 {
		opts.Backends = append(opts.Backends, mem.New(mem.Options{ID: blockframe.BackendID{byte(i + 1)}}))
	}
	acts(t, opts, func(_ context.Context, st *blockframe.Store) { putTo(t, st, "x", content(1, 300_000)) })
	loseLogs(t, fsys, opts.LogDirs)
	rep, _ := rebuilt(t, opts, blockframe.RebuildOptions{})
	require.True(t, rep.LogLost)
	require.EqualValues(t, 1, rep.Named)
	acts(t, opts, func(_ context.Context, st *blockframe.Store) {
		b, err := readAll(ctx, st, "lost+found/x", 0)
		require.NoError(t, err)
		require.Equal(t, content(1, 300_000), b)
	})
}
