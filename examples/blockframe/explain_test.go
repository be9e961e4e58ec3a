package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// What to do about a store that cannot be opened is not what would make it worse.
func TestExplainOpen(t *testing.T) {
	t.Parallel()
	other := t.TempDir()
	write(t, filepath.Join(other, "photo.jpg"), 1, 10)
	r := exits(t, exitError, "--store", other, "ls")
	require.Contains(t, r.err, "is not a directory of a store: it has no file id")
	require.NotContains(t, r.err, "init")
	require.Contains(t, exits(t, exitError, "--store", t.TempDir(), "ls").err, "init makes a new store")

	home, dirs := newStore(t, 3)
	var logs []string
	for _, dir := range dirs[:2] {
		found, err := filepath.Glob(filepath.Join(dir, "log", "*.log"))
		require.NoError(t, err)
		logs = append(logs, found...)
	}
	for _, log := range logs {
		require.NoError(t, os.Truncate(log, 100))
	}
	r = exits(t, exitLost, "--store", home, "ls")
	require.Contains(t, r.err, "bring back the folder log/")
	require.NotContains(t, r.err, "scrub")
	for _, dir := range dirs[:2] {
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "log")))
	}
	r = exits(t, exitError, "--store", home, "ls")
	require.Contains(t, r.err, "bring back the folder log/")
	require.NotContains(t, r.err, "init")

	home, dirs = newStore(t, 1)
	ok(t, "--store", home, "put", write(t, filepath.Join(t.TempDir(), "f"), 1, 100_000))
	require.NoError(t, os.Remove(filepath.Join(dirs[0], "id")))
	r = exits(t, exitLost, "--store", home, "ls")
	require.Contains(t, r.err, "Bring back the file id")
}
