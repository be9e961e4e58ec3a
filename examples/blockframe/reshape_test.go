package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// reshape gives what was put without a disk the code of its policy, and on demand what was
// put under another policy.
func TestReshapeCommand(t *testing.T) {
	t.Parallel()
	home, dirs := newStore(t, 4)
	at := func(args ...string) []string { return append([]string{"--store", home}, args...) }
	file := write(t, filepath.Join(t.TempDir(), "file.bin"), 1, 900_000)
	away := dirs[3] + ".away"
	require.NoError(t, os.Rename(dirs[3], away))
	require.NoError(t, os.Mkdir(dirs[3], 0o777))
	ok(t, at("put", file)...)
	require.Contains(t, ok(t, at("reshape")...), "1 wait until more disks are there")
	require.NoError(t, os.Remove(dirs[3]))
	require.NoError(t, os.Rename(away, dirs[3]))
	require.Contains(t, ok(t, at("reshape", "--dry-run")...), "would write 1 file or pack anew")
	row := lines(t, ok(t, at("--json", "reshape")...))[0]
	require.EqualValues(t, 1, row["moved"])
	require.EqualValues(t, 900_000, row["bytes"])
	require.Contains(t, ok(t, at("reshape", "--all")...), "nothing had to be written anew")
	ok(t, at("policy", "set", "file", "--code", "1+3")...)
	require.Contains(t, ok(t, at("reshape")...), "nothing")
	require.Contains(t, ok(t, at("reshape", "--policy", "fi")...), "wrote 1 file or pack anew")
	ok(t, at("scrub", "--deep")...)
	got := filepath.Join(t.TempDir(), "got")
	ok(t, at("get", "file.bin", "-o", got)...)
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	have, err := os.ReadFile(got)
	require.NoError(t, err)
	require.Equal(t, want, have)
	exits(t, exitUsage, at("reshape", "--all", "--policy", "x")...)
}
