package blockframe_test

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/durable/durabletest"
)

// wasteful makes a store with a pack of which most was purged, and returns what is to be
// seen of it.
func wasteful(t *testing.T, opts blockframe.Options, names []string) string {
	t.Helper()
	ctx := context.Background()
	st, err := blockframe.Open(ctx, opts)
	require.NoError(t, err)
	b := st.Batch(ctx)
	for i, name := range names {
		require.NoError(t, b.Put(name, bytes.NewReader(content(byte(i), 20_000)), blockframe.PutOptions{Attr: attr}))
	}
	_, err = b.Commit()
	require.NoError(t, err)
	for _, name := range names[2:] {
		require.NoError(t, st.Delete(ctx, name, blockframe.DeleteOptions{All: true}))
	}
	seen, err := dump(ctx, st, names)
	require.NoError(t, err)
	require.NoError(t, st.Close())
	return seen
}

// R6, I3, I5, I6: the power is cut after every file operation of a store that compacts, and
// scrubs, by itself. What is to be seen of it does not change.
func TestCrashDuringUpkeep(t *testing.T) {
	var names []string
	for i := range 8 {
		names = append(names, fmt.Sprint("p/", i))
	}
	m := vfs.NewCrashableMem()
	opts := crashOptions(nil, 1)
	seen := wasteful(t, blockframe.WithFS(opts, durable.Mem(m)), names)

	c := newCrasher(t, opts, []string{seen, seen}, names)
	fsys := durabletest.New(durable.Mem(m), durabletest.Options{After: c.hook(m, every(1, 4))})
	mine := blockframe.WithFS(opts, fsys)
	mine.Upkeep = blockframe.Upkeep{After: time.Millisecond}
	st, err := blockframe.Open(context.Background(), mine)
	require.NoError(t, err)
	for late := time.Now().Add(time.Minute); st.Stats().Compactions == 0 || st.Stats().Scrubs < 2; runtime.Gosched() {
		require.True(t, time.Now().Before(late), "%+v", st.Stats())
	}
	require.EqualValues(t, 2, st.Stats().Compacted)
	require.NoError(t, st.Close())
	c.wait()
	require.Positive(t, c.count.Load())
	t.Logf("%d changes, %d images", fsys.Count(), c.count.Load())
}
