package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A disk is given up whose data's other parts are gone already: what is lost for good
// decides the exit code.
func TestDiskRemoveLostForGood(t *testing.T) {
	home, dirs := newStore(t, 3)
	file := write(t, filepath.Join(t.TempDir(), "file.bin"), 1, 900_000)
	ok(t, "--store", home, "put", file)
	shards, err := filepath.Glob(filepath.Join(dirs[1], "data", "*", "*"))
	require.NoError(t, err)
	require.NotEmpty(t, shards)
	for _, name := range shards {
		require.NoError(t, os.Remove(name))
	}
	require.NoError(t, os.RemoveAll(dirs[2]))
	r := exits(t, exitLost, "--store", home, "disk", "remove", "--lost", dirs[2])
	require.Contains(t, r.err, "lost for good")
	require.Contains(t, r.err, "scrub --deep")
	require.Contains(t, r.out, "computed 0 shards")
	require.Contains(t, exits(t, exitLost, "--store", home, "scrub", "--deep").out, "file.bin")
}
