package storetest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/store"
)

// ReadAt is short only at the end, and says io.EOF then, as io.ReaderAt has it.
func testReadAt(t *testing.T, b store.Backend) {
	const g = frame.Grid
	content := Content(1, 5*g+100)
	mustPut(t, b, Key(1), content)
	for _, uncached := range []bool{false, true} {
		r, err := b.Open(t.Context(), Key(1), store.OpenOptions{Uncached: uncached})
		require.NoError(t, err)
		require.EqualValues(t, len(content), r.Size())
		for _, off := range []int{0, 1, g - 1, g, g + 1, 5 * g, len(content) - 1, len(content), len(content) + 1, 8 * g} {
			for _, n := range []int{0, 1, g, g + 1, 2 * g, len(content), 8 * g} {
				readOne(t, r, content, off, frame.Aligned(n))
				readOne(t, r, content, off, frame.Aligned(n + 1)[1:])
			}
		}
		_, err = r.ReadAt(make([]byte, 1), -1)
		require.Error(t, err, "ReadAt with a negative offset")
		require.NoError(t, r.Close())
		_, err = r.ReadAt(make([]byte, 1), 0)
		require.Error(t, err, "ReadAt after Close")
	}
}

// readOne compares one read with content. At the end exactly, io.EOF and nil
// are both right.
func readOne(t *testing.T, r store.BackendReader, content []byte, off int, p []byte) {
	t.Helper()
	want := content[min(off, len(content)):min(off+len(p), len(content))]
	n, err := r.ReadAt(p, int64(off))
	require.Equal(t, len(want), n, "ReadAt of %d bytes at %d of %d", len(p), off, len(content))
	require.True(t, slices.Equal(want, p[:n]), "ReadAt of %d bytes at %d: wrong bytes", len(p), off)
	if n < len(p) || err != nil {
		require.Equal(t, io.EOF, err, "ReadAt of %d bytes at %d of %d", len(p), off, len(content))
	}
}

func testConcurrentReads(t *testing.T, b store.Backend) {
	content := Content(1, 64*frame.Grid)
	mustPut(t, b, Key(1), content)
	for _, uncached := range []bool{false, true} {
		r, err := b.Open(t.Context(), Key(1), store.OpenOptions{Uncached: uncached})
		require.NoError(t, err)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for j := range 16 {
					off := (i*16 + j) % 64 * frame.Grid
					p := frame.Aligned(frame.Grid)
					if n, err := r.ReadAt(p, int64(off)); n != len(p) || err != nil && err != io.EOF || !slices.Equal(p, content[off:off+n]) {
						t.Errorf("ReadAt at %d = %d, %v, or wrong bytes", off, n, err)
					}
				}
			})
		}
		wg.Wait()
		require.NoError(t, r.Close())
	}
}

// A reader that is open when its blob is removed returns the right bytes or an
// error, and the key is free.
func testOpenThenRemove(t *testing.T, b store.Backend) {
	mustPut(t, b, Key(1), Content(1, 9000))
	r, err := b.Open(t.Context(), Key(1), store.OpenOptions{})
	require.NoError(t, err)
	require.NoError(t, b.Remove(t.Context(), Key(1)))
	mustPut(t, b, Key(1), Content(2, 9000))
	p := make([]byte, 9000)
	if n, err := r.ReadAt(p, 0); err == nil || err == io.EOF {
		require.Equal(t, Content(1, 9000), p[:n])
	}
	require.NoError(t, r.Close())
	mustHold(t, b, Key(1), Content(2, 9000))
}

func testAbsent(t *testing.T, b store.Backend) { // T14
	mustLack(t, b, Key(1))
	keys, err := Keys(t.Context(), b, "", "")
	require.NoError(t, err)
	require.Empty(t, keys)
}

func testRemove(t *testing.T, b store.Backend) {
	require.NoError(t, b.Remove(t.Context(), Key(1)), "removing an absent blob is success")
	for i := range 3 {
		mustPut(t, b, Key(i), Content(i, 1000))
	}
	require.NoError(t, b.Remove(t.Context(), Key(1)))
	require.NoError(t, b.Remove(t.Context(), Key(1)))
	mustLack(t, b, Key(1))
	mustHold(t, b, Key(0), Content(0, 1000))
	mustHold(t, b, Key(2), Content(2, 1000))
}

// A context that has ended fails every method, and ends reads that are under
// way or to come.
func testCancelled(t *testing.T, b store.Backend) {
	mustPut(t, b, Key(1), Content(1, 1<<20))
	ctx, cancel := context.WithCancel(t.Context())
	r, err := b.Open(ctx, Key(1), store.OpenOptions{})
	require.NoError(t, err)
	w, err := b.Create(ctx, Key(2))
	require.NoError(t, err)
	require.NoError(t, write(w, Content(2, 4096)))
	done := readUntilError(r)
	cancel()
	select {
	case err := <-done:
		require.ErrorIs(t, err, context.Canceled, "ReadAt after the end of the context of Open")
	case <-time.After(time.Minute):
		t.Fatal("reads go on a minute after the context of Open was cancelled")
	}
	require.NoError(t, r.Close())
	require.NoError(t, w.Abort(), "a writer can be aborted after its context ended")

	_, err = b.Open(ctx, Key(1), store.OpenOptions{})
	require.ErrorIs(t, err, context.Canceled, "Open after the end of its context")
	require.ErrorIs(t, Put(ctx, b, Key(2), nil), context.Canceled, "Create after the end of its context")
	require.ErrorIs(t, b.Remove(ctx, Key(1)), context.Canceled, "Remove after the end of its context")
	_, err = Keys(ctx, b, "", "")
	require.ErrorIs(t, err, context.Canceled, "List after the end of its context")
	_, err = b.Usage(ctx)
	require.ErrorIs(t, err, context.Canceled, "Usage after the end of its context")

	mustHold(t, b, Key(1), Content(1, 1<<20))
	mustLack(t, b, Key(2))
}

// readUntilError reads over and over, and sends the first error.
func readUntilError(r store.BackendReader) <-chan error {
	done := make(chan error, 1)
	go func() {
		p := frame.Aligned(1 << 20)
		for {
			if _, err := r.ReadAt(p, 0); err != nil && err != io.EOF {
				done <- err
				return
			}
		}
	}()
	return done
}

// Keys that are no keys are refused with fs.ErrInvalid by everything that makes
// or removes, and lead nowhere.
func testInvalidKeys(t *testing.T, b store.Backend) { // R14
	for _, key := range []store.BackendKey{"", "x", "../x", "00/../../x", "/etc/passwd", "00/", "00/x/y", "zz/x", Key(1) + "0", Key(1)[1:]} {
		_, err := b.Create(t.Context(), key)
		require.ErrorIs(t, err, fs.ErrInvalid, "Create(%q)", key)
		require.ErrorIs(t, b.Remove(t.Context(), key), fs.ErrInvalid, "Remove(%q)", key)
		_, err = b.Open(t.Context(), key, store.OpenOptions{})
		require.True(t, errors.Is(err, fs.ErrInvalid) || errors.Is(err, fs.ErrNotExist), "Open(%q) = %v", key, err)
	}
}
