package storetest

import (
	"io/fs"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/store"
)

// A blob has the bytes that were written, at lengths around the grid.
func testSizes(t *testing.T, b store.Backend) {
	const g = frame.Grid
	for i, n := range []int{0, 1, g - 1, g, g + 1, 2 * g, 64<<10 - 1, 64 << 10, 64<<10 + 1, 300_000, 1 << 20} {
		mustPut(t, b, Key(i), Content(i, n))
		mustHold(t, b, Key(i), Content(i, n))
	}
	mustPut(t, b, Key(99), frame.Aligned(1<<20)) // all zero
	mustHold(t, b, Key(99), frame.Aligned(1<<20))
}

func testVisibility(t *testing.T, b store.Backend) {
	content := Content(1, 3*frame.Grid)
	w, err := b.Create(t.Context(), Key(1))
	require.NoError(t, err)
	mustLack(t, b, Key(1))
	require.NoError(t, write(w, content))
	mustLack(t, b, Key(1))
	require.NoError(t, w.Commit())
	mustHold(t, b, Key(1), content)
}

// Commit over an existing key fails with fs.ErrExist, and changes nothing.
func testExist(t *testing.T, b store.Backend) {
	mustPut(t, b, Key(1), Content(1, 5000))
	require.ErrorIs(t, Put(t.Context(), b, Key(1), Content(2, 6000)), fs.ErrExist, "Commit over a key that exists")
	mustHold(t, b, Key(1), Content(1, 5000))
	keys, err := Keys(t.Context(), b, "", "")
	require.NoError(t, err)
	require.Equal(t, []store.BackendKey{Key(1)}, keys)
	require.NoError(t, b.Remove(t.Context(), Key(1)))
	mustPut(t, b, Key(1), Content(2, 6000))
	mustHold(t, b, Key(1), Content(2, 6000))
}

// Of several writers of one key, all at once, one wins.
func testRace(t *testing.T, b store.Backend) {
	const writers = 8
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = Put(t.Context(), b, Key(1), Content(i, 20_000)) })
	}
	wg.Wait()
	winner := -1
	for i, err := range errs {
		if err == nil {
			require.Equal(t, -1, winner, "two writers won")
			winner = i
			continue
		}
		require.ErrorIs(t, err, fs.ErrExist, "Commit of a key that another writer took")
	}
	require.NotEqual(t, -1, winner, "no writer won")
	mustHold(t, b, Key(1), Content(winner, 20_000))
}

// Many blobs at once, as the shards of many puts are written.
func testConcurrentCommits(t *testing.T, b store.Backend) { // T13, T14
	const blobs = 24
	errs := make([]error, blobs)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = Put(t.Context(), b, Key(i), Content(i, i*1000)) })
	}
	wg.Wait()
	for i, err := range errs {
		require.NoError(t, err)
		mustHold(t, b, Key(i), Content(i, i*1000))
	}
	keys, err := Keys(t.Context(), b, "", "")
	require.NoError(t, err)
	require.Len(t, keys, blobs)
}

func testAbort(t *testing.T, b store.Backend) {
	before, err := b.Usage(t.Context())
	require.NoError(t, err)
	for _, n := range []int{0, 1, 100_000} {
		w, err := b.Create(t.Context(), Key(1))
		require.NoError(t, err)
		require.NoError(t, write(w, Content(1, n)))
		require.NoError(t, w.Abort())
		require.NoError(t, w.Abort(), "a second Abort does nothing")
		mustLack(t, b, Key(1))
	}
	after, err := b.Usage(t.Context())
	require.NoError(t, err)
	require.Equal(t, before.Blobs, after.Blobs, "Usage.Blobs counts what was aborted")
	require.Equal(t, before.Stray, after.Stray, "Usage.Stray counts what was aborted")
	mustPut(t, b, Key(1), Content(2, 100))
	mustHold(t, b, Key(1), Content(2, 100))
}

// A writer does nothing once it was committed or aborted.
func testWriterDone(t *testing.T, b store.Backend) {
	w, err := b.Create(t.Context(), Key(1))
	require.NoError(t, err)
	require.NoError(t, write(w, Content(1, 5000)))
	require.NoError(t, w.Commit())
	require.NoError(t, w.Abort(), "Abort after Commit does nothing")
	require.Error(t, w.Commit(), "a second Commit")
	_, err = w.Write(Content(1, 10))
	require.Error(t, err, "Write after Commit")
	mustHold(t, b, Key(1), Content(1, 5000))

	w, err = b.Create(t.Context(), Key(2))
	require.NoError(t, err)
	require.NoError(t, w.Abort())
	require.Error(t, w.Commit(), "Commit after Abort")
	_, err = w.Write(Content(1, 10))
	require.Error(t, err, "Write after Abort")
	mustLack(t, b, Key(2))
}

// The caller uses one buffer for everything that it writes.
func testBuffers(t *testing.T, b store.Backend) {
	buf := frame.Aligned(64 << 10)
	var want []byte
	w, err := b.Create(t.Context(), Key(1))
	require.NoError(t, err)
	for i, n := range []int{len(buf), frame.Grid, 3 * frame.Grid, len(buf), 777} {
		piece := Content(i, n)
		want = append(want, piece...)
		copy(buf, piece)
		_, err := w.Write(buf[:n])
		require.NoError(t, err)
		require.Equal(t, piece, buf[:n], "Write changed what it was given")
		clear(buf)
	}
	require.NoError(t, w.Commit())
	mustHold(t, b, Key(1), want)
}

func testLarge(t *testing.T, b store.Backend) {
	if testing.Short() {
		t.Skip("32 MiB: not with -short")
	}
	content := Content(7, 32<<20+5)
	mustPut(t, b, Key(1), content)
	mustHold(t, b, Key(1), content)
}
