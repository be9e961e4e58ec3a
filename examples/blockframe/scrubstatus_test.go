package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// scrub --status tells, in a process of its own, what the last passes found, on which disk.
func TestScrubStatus(t *testing.T) { // R15
	t.Parallel()
	home, dirs := newStore(t, 3)
	at := func(args ...string) []string { return append([]string{"--store", home}, args...) }
	require.Contains(t, ok(t, at("scrub", "--status")...), "deep scrub: none has ended yet")
	file := write(t, filepath.Join(t.TempDir(), "file.bin"), 1, 900_000)
	ok(t, at("put", file)...)
	ok(t, at("scrub", "--deep")...)
	require.Regexp(t, `deep scrub: ended \d{4}-.*; 3 shards in 1 extent, .* read; clean`, ok(t, at("scrub", "--status")...))

	shards, err := filepath.Glob(filepath.Join(dirs[1], "data", "*", "*"))
	require.NoError(t, err)
	require.Len(t, shards, 1)
	require.NoError(t, os.Remove(shards[0]))
	found := lines(t, exits(t, exitDamaged, at("--json", "scrub")...).out)
	row := found[len(found)-1]
	require.Len(t, row["by_disk"], 3)
	out := ok(t, at("scrub", "--status")...)
	require.Contains(t, out, "quick scrub: ended")
	require.Contains(t, out, "1 damaged")
	require.Contains(t, out, dirs[1]+": 1 of 1 shard damaged")
	require.Contains(t, out, "deep scrub: ended")
	for _, row := range lines(t, ok(t, at("--json", "scrub", "--status")...)) {
		require.Equal(t, "ended", row["state"])
		require.Len(t, row["by_disk"], 3)
		if row["type"] == "quick" {
			require.EqualValues(t, 1, row["damaged"])
		}
	}
	exits(t, exitUsage, at("scrub", "--status", "--deep")...)
}
