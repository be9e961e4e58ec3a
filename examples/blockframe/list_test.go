package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// What was deleted is told from what never was, and can be found.
func TestDeleted(t *testing.T) {
	t.Parallel()
	home, _ := newStore(t, 1)
	at := func(args ...string) []string { return append([]string{"--store", home}, args...) }
	file := write(t, filepath.Join(t.TempDir(), "f"), 1, 10)
	ok(t, at("put", file)...)
	ok(t, at("put", file, "--name", "d/x")...)
	ok(t, at("rm", "f")...)
	ok(t, at("rm", "-r", "d")...)

	require.Equal(t, "blockframe: stat nope: file does not exist\n", exits(t, exitError, at("stat", "nope")...).err)
	require.Contains(t, exits(t, exitError, at("ls", "nope")...).err, "list nope: file does not exist\n")
	r := exits(t, exitError, at("get", "f")...)
	require.Contains(t, r.err, "stat f: file does not exist: deleted at 2")
	require.Contains(t, r.err, "get --version N still reads it")
	require.Contains(t, exits(t, exitError, at("stat", "f", "--version", "9")...).err, `"f" has no version 9`)

	require.Regexp(t, `^deleted +20\d\d-\d\d-\d\d \d\d:\d\d  d\ndeleted +20\d\d-\d\d-\d\d \d\d:\d\d  f\n$`, ok(t, at("ls", "--deleted")...))
	require.Empty(t, ok(t, at("ls")...))
}
