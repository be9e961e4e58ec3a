package durable_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/blockframe/blockframe/internal/durable"
)

// A lock ends when it is closed, though a child that was forked meanwhile has a
// copy of the open file until it executes its program.
func TestLockEndsDespiteCopies(t *testing.T) {
	name := filepath.Join(t.TempDir(), "LOCK")
	l, err := durable.OS().Lock(name)
	require.NoError(t, err)
	dup, err := unix.Dup(descriptor(t, name))
	require.NoError(t, err)
	defer unix.Close(dup)
	_, err = durable.OS().Lock(name)
	require.ErrorIs(t, err, durable.ErrLocked)
	require.NoError(t, l.Close())
	l, err = durable.OS().Lock(name)
	require.NoError(t, err)
	require.NoError(t, l.Close())
}

// descriptor returns that of an open file of this process.
func descriptor(t testing.TB, name string) int {
	t.Helper()
	const open = "/proc/self/fd"
	entries, err := os.ReadDir(open)
	require.NoError(t, err)
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(open, e.Name())); err == nil && to == name {
			fd, err := strconv.Atoi(e.Name())
			require.NoError(t, err)
			return fd
		}
	}
	t.Fatalf("%s is not open", name)
	return -1
}
