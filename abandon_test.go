package blockframe_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"testing"
	"testing/iotest"

	"github.com/blockframe/blockframe"
	"github.com/stretchr/testify/require"
)

// A put of several extents that fails leaves nothing that a collection of the same
// process does not remove.
func TestFailedLongPutIsCollected(t *testing.T) {
	dir := t.TempDir()
	st, err := blockframe.Open(t.Context(), blockframe.Options{Dirs: []string{dir},
		Policies: []blockframe.Policy{{Extent: 1 << 20}}})
	require.NoError(t, err)
	defer st.Close()
	broken := errors.New("the cable is out")
	src := io.MultiReader(io.LimitReader(zeros{}, 3<<20+12345), iotest.ErrReader(broken))
	_, err = st.Put(t.Context(), "long", src, blockframe.PutOptions{})
	require.ErrorIs(t, err, broken)
	_, err = st.Put(t.Context(), "other", io.LimitReader(zeros{}, 3<<20), blockframe.PutOptions{ID: blockframe.ID{1}})
	require.ErrorIs(t, err, blockframe.ErrCorrupt)
	b := st.Batch(t.Context())
	require.NoError(t, b.Put("batched", io.LimitReader(zeros{}, 3<<20), blockframe.PutOptions{}))
	b.Abort()
	ctx, cancel := context.WithCancel(t.Context())
	b = st.Batch(ctx)
	require.NoError(t, b.Put("batched", io.LimitReader(zeros{}, 3<<20), blockframe.PutOptions{}))
	cancel()
	_, err = b.Commit()
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, blockframe.ErrUncertain)
	_, err = st.Collect(t.Context(), blockframe.CollectOptions{})
	require.NoError(t, err)
	blobs := 0
	require.NoError(t, filepath.WalkDir(filepath.Join(dir, "data"), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			blobs++
		}
		return err
	}))
	require.Zero(t, blobs)
}
