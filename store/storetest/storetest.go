// Package storetest is the contract of [store.Backend] in executable form. Every
// implementation runs it, and a new one needs no other specification:
//
//	func TestBackend(t *testing.T) {
//		storetest.Run(t, func(t testing.TB) store.Backend { return newMine(t.TempDir()) })
//	}
package storetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/store"
)

// Run tests the backends that open makes. Each call returns a new, empty one,
// with room for at least 64 MiB, and arranges with t.Cleanup for what it needs.
func Run(t *testing.T, open func(t testing.TB) store.Backend) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, store.Backend)
	}{
		{"Sizes", testSizes},
		{"NothingVisibleBeforeCommit", testVisibility},
		{"CommitOfAnExistingKey", testExist},
		{"ConcurrentCommitsOfOneKey", testRace},
		{"ConcurrentCommits", testConcurrentCommits},
		{"AbortLeavesNothing", testAbort},
		{"WriterIsDone", testWriterDone},
		{"BuffersAreNotRetained", testBuffers},
		{"ReadAt", testReadAt},
		{"ConcurrentReads", testConcurrentReads},
		{"OpenReaderOutlivesRemove", testOpenThenRemove},
		{"Absent", testAbsent},
		{"Remove", testRemove},
		{"ListOrder", testListOrder},
		{"ListPrefixAndAfter", testListPrefix},
		{"ListWhileChanging", testListChanging},
		{"Cancelled", testCancelled},
		{"InvalidKeys", testInvalidKeys},
		{"Large", testLarge},
		{"Usage", testUsage},
		{"Identity", testIdentity},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// Key returns a valid key that depends on n alone. Different n give different
// keys, spread over the folders.
func Key(n int) store.BackendKey {
	sum := sha256.Sum256(fmt.Append(nil, n))
	var extent store.ExtentID
	copy(extent[:], sum[:])
	return store.Key(extent, n%200, 1, 2, store.UploadID{3})
}

// Content returns n bytes, aligned as a writer wants them, that depend on n and
// seed alone.
func Content(seed, n int) []byte {
	b := frame.Aligned(n)
	x := uint64(seed)*0x9e3779b97f4a7c15 + uint64(n) + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return b
}

// Put writes and commits one blob, in pieces of at most 256 KiB. content is
// aligned.
func Put(ctx context.Context, b store.Backend, key store.BackendKey, content []byte) error {
	w, err := b.Create(ctx, key)
	if err != nil {
		return err
	}
	if err := write(w, content); err != nil {
		return errors.Join(err, w.Abort())
	}
	return w.Commit()
}

func write(w io.Writer, content []byte) error {
	for len(content) > 0 {
		n := min(len(content), 256<<10)
		m, err := w.Write(content[:n])
		if err != nil {
			return err
		}
		if m != n {
			return fmt.Errorf("Write of %d bytes returned %d without an error", n, m)
		}
		content = content[n:]
	}
	return nil
}

// Get returns the content of a blob.
func Get(ctx context.Context, b store.Backend, key store.BackendKey, opts store.OpenOptions) ([]byte, error) {
	r, err := b.Open(ctx, key, opts)
	if err != nil {
		return nil, err
	}
	p := frame.Aligned(int(r.Size()))
	n, err := r.ReadAt(p, 0)
	if err == io.EOF && n == len(p) {
		err = nil
	}
	return p[:n], errors.Join(err, r.Close())
}

// Keys returns what List yields.
func Keys(ctx context.Context, b store.Backend, prefix, after store.BackendKey) (keys []store.BackendKey, err error) {
	for k, err := range b.List(ctx, prefix, after) {
		if err != nil {
			return keys, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func mustPut(t testing.TB, b store.Backend, key store.BackendKey, content []byte) {
	t.Helper()
	require.NoError(t, Put(t.Context(), b, key, content))
}

// mustHold asserts that key has content, read both ways.
func mustHold(t testing.TB, b store.Backend, key store.BackendKey, content []byte) {
	t.Helper()
	for _, uncached := range []bool{false, true} {
		got, err := Get(t.Context(), b, key, store.OpenOptions{Uncached: uncached})
		require.NoError(t, err)
		require.Equal(t, len(content), len(got))
		require.Equal(t, frame.Sum(content), frame.Sum(got), "content of %s", key)
	}
}

// mustLack asserts that key is neither opened nor listed.
func mustLack(t testing.TB, b store.Backend, key store.BackendKey) {
	t.Helper()
	_, err := b.Open(t.Context(), key, store.OpenOptions{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	keys, err := Keys(t.Context(), b, "", "")
	require.NoError(t, err)
	require.NotContains(t, keys, key)
}
