package blockframe_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/internal/durable"
)

// A scrub of a store that has lost much reports it all, and what of that is kept stays short.
func TestScrubMuchLoss(t *testing.T) {
	fsys := durable.Mem(vfs.NewCrashableMem())
	opts := blockframe.WithSegment(blockframe.WithFS(blockframe.Options{Dirs: []string{"/d0", "/d1", "/d2"}, NoRepair: true, Upkeep: blockframe.Upkeep{Off: true}}, fsys), 1<<20)
	ctx := context.Background()
	st, err := blockframe.Open(ctx, opts)
	require.NoError(t, err)
	b := st.Batch(ctx)
	for i := range 300 {
		require.NoError(t, b.Put(fmt.Sprintf("music/%s/track-%04d", strings.Repeat("R&B&", 12), i), bytes.NewReader(content(byte(i), 5000+i)), blockframe.PutOptions{}))
	}
	_, err = b.Commit()
	require.NoError(t, err)
	all, err := blobs(fsys, opts.Dirs)
	require.NoError(t, err)
	for _, name := range all {
		require.NoError(t, fsys.Remove(name))
	}
	require.NoError(t, st.Close())
	st, err = blockframe.Open(ctx, opts)
	require.NoError(t, err)
	rep, err := st.Scrub(ctx, blockframe.ScrubOptions{Deep: true})
	require.NoError(t, err)
	total := int64(len(rep.Lost)) + rep.LostMore
	require.GreaterOrEqual(t, total, int64(300))
	require.NoError(t, st.Close())
	st, err = blockframe.Open(ctx, opts)
	require.NoError(t, err)
	defer st.Close()
	status, err := st.ScrubStatus(ctx)
	require.NoError(t, err)
	require.NotNil(t, status.DeepLast)
	require.NotEmpty(t, status.DeepLast.Lost)
	require.EqualValues(t, total, int64(len(status.DeepLast.Lost))+status.DeepLast.LostMore)
}
