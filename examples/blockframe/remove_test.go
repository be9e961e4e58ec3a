package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// rm goes on after what it cannot delete, names it, and says how much went.
func TestRemoveGoesOn(t *testing.T) {
	t.Parallel()
	home, _ := newStore(t, 1)
	at := func(args ...string) []string { return append([]string{"--store", home}, args...) }
	src := filepath.Join(t.TempDir(), "src")
	for i, name := range []string{"a", "b", "deep/er/held", "deep/er/x", "deep/y", "z/z"} {
		write(t, filepath.Join(src, name), byte(i), 10)
	}
	ok(t, at("put", "-r", src)...)
	ok(t, at("hold", "src/deep/er/held")...)

	r := exits(t, exitError, at("rm", "-r", "src")...)
	require.Contains(t, r.err, "src/deep/er/held")
	require.Contains(t, r.err, "6 names were deleted, 4 were kept") // z too; src, deep and er hold what is held
	require.NotContains(t, r.err, "not empty")
	rows := lines(t, ok(t, at("--json", "ls")...))
	require.Len(t, rows, 4)
	require.Equal(t, "src/deep/er/held", rows[3]["name"])

	// So does a list of names.
	ok(t, at("put", write(t, filepath.Join(t.TempDir(), "one"), 1, 10), write(t, filepath.Join(t.TempDir(), "two"), 2, 10))...)
	r = exits(t, exitError, at("rm", "one", "absent", "two")...)
	require.Contains(t, r.err, "absent")
	require.Contains(t, r.err, "2 names were deleted, 1 was not there")
	require.Len(t, lines(t, ok(t, at("--json", "ls")...)), 4)

	// One name alone needs no summary.
	require.NotContains(t, exits(t, exitError, at("rm", "absent")...).err, "not there")
	ok(t, at("hold", "--off", "src/deep/er/held")...)
	require.Empty(t, cli(t, at("rm", "-r", "src")...).err)
	require.Empty(t, ok(t, at("ls")...))
}
