package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// All logs and views of six disks are gone, and two of the disks: rebuild says what it
// would do, does it, says what it could not prove, and does nothing the second time; gc
// waits until it is accepted. // R5, R15
func TestRebuild(t *testing.T) {
	t.Parallel()
	home, dirs := newStore(t, 6) // 4+2
	at := func(args ...string) []string { return append([]string{"--store", home}, args...) }
	src := t.TempDir()
	ok(t, at("put", write(t, filepath.Join(src, "a.bin"), 1, 1_000_000), write(t, filepath.Join(src, "b.bin"), 2, 30_000))...)
	require.Contains(t, ok(t, at("rebuild")...), "nothing to do")
	for _, d := range dirs {
		require.NoError(t, os.RemoveAll(filepath.Join(d, "log")))
		require.NoError(t, os.RemoveAll(filepath.Join(d, "view")))
	}
	require.NoError(t, os.RemoveAll(dirs[0]))
	require.NoError(t, os.RemoveAll(dirs[4]))
	require.Contains(t, exits(t, exitError, at("ls")...).err, "blockframe rebuild restores")

	rows := lines(t, exits(t, exitDamaged, at("--json", "rebuild", "--dry-run")...).out)
	require.Len(t, rows, 3)
	require.EqualValues(t, 2, rows[2]["named"])
	require.NoDirExists(t, filepath.Join(dirs[1], "log"))
	r := exits(t, exitDamaged, at("rebuild")...)
	require.Contains(t, r.out, "lost+found/a.bin\n")
	require.Contains(t, r.out, "2 disks are not there")
	require.Equal(t, string(content(1, 1_000_000)), ok(t, at("get", "lost+found/a.bin")...))
	ok(t, at("mv", "lost+found/a.bin", "a.bin")...)
	require.Contains(t, ok(t, at("ls")...), "b.bin")
	r = cli(t, at("stat", "a.bin")...)
	require.Contains(t, r.err, "nothing is collected until that is accepted")
	r = exits(t, exitError, at("gc")...)
	require.Contains(t, r.err, "nothing was removed")

	rows = lines(t, exits(t, exitDamaged, at("--json", "rebuild", "--accept")...).out)
	require.Len(t, rows, 1)
	require.EqualValues(t, 0, rows[0]["objects"])
	require.Equal(t, true, rows[0]["accepted"])
	require.NotContains(t, cli(t, at("stat", "a.bin")...).err, "accepted")
}

// More disks are gone than the code can lose: what is incomplete is named, with what is
// missing, and the exit code says so; with the disks all is restored. // R15
func TestRebuildIncomplete(t *testing.T) {
	t.Parallel()
	home, dirs := newStore(t, 4) // 2+2
	at := func(args ...string) []string { return append([]string{"--store", home}, args...) }
	ok(t, at("put", write(t, filepath.Join(t.TempDir(), "a.bin"), 1, 1_000_000))...)
	for _, d := range dirs {
		require.NoError(t, os.RemoveAll(filepath.Join(d, "log")))
		require.NoError(t, os.RemoveAll(filepath.Join(d, "view")))
	}
	for _, d := range dirs[1:] {
		require.NoError(t, os.Rename(d, d+".away"))
	}
	r := exits(t, exitLost, at("rebuild")...)
	require.Contains(t, r.out, "INCOMPLETE a.bin: ")
	require.Contains(t, r.out, "1 of its 4 shards are there, it takes 2 to read it")
	require.Contains(t, r.out, "3 disks are not there")
	for _, d := range dirs[1:] {
		require.NoError(t, os.Rename(d+".away", d))
	}
	r = exits(t, exitRepaired, at("rebuild")...)
	require.Contains(t, r.out, "lost+found/a.bin\n")
	require.Contains(t, r.out, "3 disks are taken in")
	require.Equal(t, string(content(1, 1_000_000)), ok(t, at("get", "lost+found/a.bin")...))
	ok(t, at("rebuild", "--accept")...)
	ok(t, at("gc")...)
}
