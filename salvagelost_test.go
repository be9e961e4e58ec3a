package blockframe_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/store"
)

// Records of a log that went back name what was dropped, purged and collected since: after
// the rebuild nothing that is kept is without its shards, so that scrubs are clean and disks
// can be drained; contents that are gone are told of, each by its name. R5
func TestRebuildFindsWhatWasCollected(t *testing.T) {
	r := newKeepRig(t, 4)
	ctx := t.Context()
	r.close()
	r.opts.Upkeep = blockframe.Upkeep{Off: true}
	r.open()
	r.history(120)
	var uploads []string
	for _, name := range []string{"gone/a", "gone/b"} {
		o, err := r.st.Put(ctx, name, bytes.NewReader(content(name[5]+140, 300_000)), blockframe.PutOptions{})
		require.NoError(t, err)
		uploads = append(uploads, o.Upload.String())
	}
	for i := 0; ; i++ { // until a snapshot has the names
		require.Less(t, i, 200)
		_, err := r.st.Put(ctx, "more", bytes.NewReader(content(byte(i), 3000)), blockframe.PutOptions{})
		require.NoError(t, err)
		before := newestFirst(r.keptBlobs(store.KindSnapshot))
		require.NoError(t, r.st.KeepPass(ctx))
		if after := newestFirst(r.keptBlobs(store.KindSnapshot)); after[0] > before[0] {
			break
		}
	}
	require.NoError(t, r.st.Delete(ctx, "gone/a", blockframe.DeleteOptions{All: true}))
	require.NoError(t, r.st.Delete(ctx, "gone/b", blockframe.DeleteOptions{All: true}))
	_, err := r.st.Collect(ctx, blockframe.CollectOptions{})
	require.NoError(t, err)
	names, err := blobs(r.fs, r.opts.Dirs)
	require.NoError(t, err)
	for _, name := range names {
		require.False(t, strings.HasSuffix(name, uploads[0]) || strings.HasSuffix(name, uploads[1]), name)
	}
	r.close()
	loseLogs(t, r.fs, r.opts.Dirs)
	opts := blockframe.WithFS(r.opts, r.fs)
	gone := map[string]bool{}
	for _, how := range []blockframe.RebuildOptions{{DryRun: true}, {}, {Accept: true}} {
		rep, found := rebuilt(t, opts, how)
		var lost []string
		for _, f := range found {
			if f.State != store.FoundIncomplete || f.Name == "" {
				continue
			}
			gone[f.Name] = true
			if strings.HasPrefix(f.Name, "gone/") {
				require.ErrorIs(t, f.Err, store.ErrUnrecoverable)
				lost = append(lost, f.Name)
			}
		}
		require.ElementsMatch(t, []string{"gone/a", "gone/b"}, lost)
		require.GreaterOrEqual(t, rep.Lost, int64(2))
		require.GreaterOrEqual(t, rep.Incomplete, rep.Lost)
	}
	r.open()
	for name := range gone {
		require.NoError(t, r.st.Delete(ctx, name, blockframe.DeleteOptions{All: true}))
	}
	_, err = r.st.Collect(ctx, blockframe.CollectOptions{})
	require.NoError(t, err)
	rep, err := r.st.Scrub(ctx, blockframe.ScrubOptions{Deep: true})
	require.NoError(t, err)
	require.True(t, rep.Clean(), "%+v", rep)
	_, err = r.st.AddDisk(ctx, "/e0")
	require.NoError(t, err)
	d := r.st.Disks(ctx)[3]
	_, err = r.st.DrainDisk(ctx, d.ID, blockframe.MoveOptions{})
	require.NoError(t, err)
	_, err = r.st.RemoveDisk(ctx, d.ID, blockframe.RemoveOptions{})
	require.NoError(t, err)
}

// Right after such a rebuild a disk can be drained and removed.
func TestDrainAfterRebuild(t *testing.T) {
	r := newKeepRig(t, 4)
	ctx := t.Context()
	r.history(120)
	r.trimmed()
	r.close()
	loseLogs(t, r.fs, r.opts.Dirs)
	opts := blockframe.WithFS(r.opts, r.fs)
	rebuilt(t, opts, blockframe.RebuildOptions{})
	rebuilt(t, opts, blockframe.RebuildOptions{Accept: true})
	r.open()
	_, err := r.st.AddDisk(ctx, "/e0")
	require.NoError(t, err)
	d := r.st.Disks(ctx)[3]
	_, err = r.st.DrainDisk(ctx, d.ID, blockframe.MoveOptions{})
	require.NoError(t, err)
	_, err = r.st.RemoveDisk(ctx, d.ID, blockframe.RemoveOptions{})
	require.NoError(t, err)
}
