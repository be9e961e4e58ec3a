package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// inspect tells a damaged shard from what is no shard at all.
func TestInspect(t *testing.T) {
	t.Parallel()
	home, dirs := newStore(t, 1)
	ok(t, "--store", home, "put", write(t, filepath.Join(t.TempDir(), "f"), 1, 500_000))
	s := shards(t, dirs, "f")[0]
	require.Contains(t, ok(t, "inspect", s.path), "0 of an object, bytes [0, 500000)")

	for _, name := range []string{"id", "LOCK", "FORMAT.txt"} {
		r := exits(t, exitError, "inspect", filepath.Join(dirs[0], name))
		require.Contains(t, r.err, name+": not a shard file")
		require.NotContains(t, r.err, "scrub")
	}
	require.Contains(t, exits(t, exitError, "inspect", dirs[0]).err, dirs[0]+" is a directory\n")

	s.rot(t, 0)
	r := exits(t, exitDamaged, "inspect", s.path)
	require.Contains(t, r.out, "stripes [0]")
	require.Equal(t, "blockframe: "+s.path+" is damaged\n", r.err)

	info, err := os.Stat(s.path)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(s.path, info.Size()-100))
	r = exits(t, exitDamaged, "inspect", s.path)
	require.Contains(t, r.out, "0 of an object, from byte 0 on\n  header   ok\n")
	require.NotContains(t, r.out, "hash  ")
	require.NotContains(t, r.out, "[0, 0)")
}
