package main

import (
	"bytes"
	"context"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
)

// T9, and what else people write.
func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"1GB": 1e9, "500MB": 500e6, "1024": 1024, "0": 0, "1": 1, "1B": 1, "10k": 10e3, "64KiB": 64 << 10, "64 kib": 64 << 10,
		"1.5GiB": 3 << 29, "1.5 GB": 1.5e9, " 2 TB ": 2e12, "3Ti": 3 << 40, "9223372036854775807": math.MaxInt64, "0.5KB": 500,
	} {
		got, err := parseSize(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "GB", "-1", "1XB", "1e3", "0x10", "1/2", "1.5", "0.0001KB", "9223372036854775808", "10000000TB", "1 GB 2", "..", "1..2MB"} {
		_, err := parseSize(text)
		require.Error(t, err, text)
	}
}

func TestParseSpan(t *testing.T) {
	for text, want := range map[string]time.Duration{"12h": 12 * time.Hour, "30d": 720 * time.Hour, "7y": 7 * 365 * 24 * time.Hour, "90m": 90 * time.Minute} {
		got, err := parseSpan(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "d", "-1d", "-5m", "1.5d", "1000000y", "soon"} {
		_, err := parseSpan(text)
		require.Error(t, err, text)
	}
}

// Every command once, as people and as programs see it: what is printed, and that
// each line of --json is an object.
func TestCommands(t *testing.T) {
	t.Parallel()
	home, dirs := newStore(t, 3)
	at := func(args ...string) []string { return append([]string{"--store", home}, args...) }
	json := func(args ...string) []map[string]any {
		return lines(t, ok(t, at(append([]string{"--json"}, args...)...)...))
	}
	pipe := func(in []byte, args ...string) {
		r := cliIn(t, in, args...)
		require.Equal(t, exitOK, r.code, r.err)
	}
	file := write(t, filepath.Join(t.TempDir(), "file.bin"), 1, 300_000)

	require.Equal(t, "stored 1 file, 300 kB\n", ok(t, at("put", file)...))
	require.Equal(t, string(content(1, 300_000)), ok(t, at("get", "file.bin")...))
	row := json("stat", "file.bin")[0]
	require.Equal(t, "file", row["type"])
	require.EqualValues(t, 300_000, row["size"])
	id := row["id"].(string)
	require.Equal(t, string(content(1, 300_000)), ok(t, at("get", id)...), "by its address")

	// T2: the same bytes under another name have the same address.
	require.Equal(t, id, json("commit", file, "--name", "a/b/copy")[0]["id"])
	pipe([]byte("from a pipe"), at("put", "-", "--name", "a/pipe")...)
	require.Equal(t, "from a pipe", ok(t, at("get", "a/pipe")...))
	require.Len(t, json("ls"), 5)
	require.Len(t, json("ls", "a"), 3)
	require.Len(t, json("ls", "a/"), 3)
	require.Len(t, json("ls", "a/p"), 1, "a prefix that is no directory")
	require.Len(t, json("ls", "--flat", "a"), 2)
	exits(t, exitError, at("ls", "nothing")...)
	require.Contains(t, ok(t, at("stat", "file.bin")...), id)

	// Other content is a new version; the old one stays.
	pipe([]byte("second"), at("put", "-", "--name", "a/pipe")...)
	require.Equal(t, "second", ok(t, at("get", "a/pipe")...))
	require.Equal(t, "from a pipe", ok(t, at("get", "a/pipe", "--version", "1")...))
	require.Len(t, json("stat", "--history", "a/pipe"), 2)
	require.Len(t, strings.Split(ok(t, at("stat", "--history", "a/pipe")...), "\n"), 3)

	json("mv", "a/pipe", "a/renamed")
	ok(t, at("mv", "a/renamed", "a/b")...) // into a directory
	require.Equal(t, "second", ok(t, at("get", "a/b/renamed")...))
	exits(t, exitError, at("mv", "a/b/renamed", "file.bin")...)

	json("hold", "a/b/renamed")
	require.Contains(t, exits(t, exitError, at("rm", "a/b/renamed")...).err, "hold NAME --off lifts it")
	ok(t, at("hold", "--off", "a/b/renamed")...)
	json("rm", "a/b/renamed")
	exits(t, exitError, at("get", "a/b/renamed")...)
	require.Equal(t, "second", ok(t, at("get", "a/b/renamed", "--version", "2")...))
	json("rm", "--all", "a/b/renamed")
	exits(t, exitError, at("get", "a/b/renamed", "--version", "2")...)
	require.Contains(t, ok(t, at("retain", "file.bin", "--for", "30d")...), "retained until")
	r := exits(t, exitError, at("rm", "--all", "file.bin")...)
	require.Contains(t, r.err, "retained until 2")
	require.Contains(t, r.err, "a retention ends with its time")
	exits(t, exitError, at("rm", "a")...) // not empty
	ok(t, at("rm", "-r", "a")...)
	require.Len(t, json("ls"), 1)

	require.Equal(t, "2+1", json("policy", "set", "books/", "--code", "2+1", "--max-size", "1GB", "--name", "books")[0]["code"])
	require.Len(t, json("policy", "list"), 2)
	require.Contains(t, ok(t, at("policy", "get", "books/")...), "survives any 1 disk")
	json("policy", "unset", "books/")
	exits(t, exitError, at("policy", "get", "books/")...)
	exits(t, exitError, at("policy", "set", "x", "--code", "200+50")...)

	require.Contains(t, ok(t, at("gc", "--dry-run")...), "would remove")
	require.EqualValues(t, 3, json("gc")[0]["shards"], "of the copy of what was stored already; what was purged waits for its grace")
	require.EqualValues(t, 0, json("gc")[0]["shards"])
	s := shards(t, dirs, "file.bin")[0]
	require.Contains(t, ok(t, "inspect", s.path), `"name":"file.bin"`)
	require.Equal(t, true, lines(t, ok(t, "--json", "inspect", s.path))[0]["sound"])
	exits(t, exitError, "inspect", file)
	require.Equal(t, "clean", lastLine(ok(t, at("health")...)))
	require.EqualValues(t, 0, json("scrub", "--deep")[0]["damaged"])
}

// A name with a slash at its end is a directory, and no name leads up.
func TestNameFor(t *testing.T) {
	for _, c := range []struct {
		name    string
		several bool
		want    string
	}{{"", false, "f"}, {"a", false, "a"}, {"a", true, "a/f"}, {"a/", false, "a/f"}, {"a/b//", true, "a/b/f"}, {".", false, "."}, {"/", false, "."}} {
		got, err := nameFor("dir/f", c.name, c.several)
		require.NoError(t, err)
		require.Equal(t, c.want, got, "%+v", c)
	}
	for _, name := range []string{"..", "../x", "a/../b", "a/.."} {
		_, err := nameFor("dir/f", name, false)
		require.ErrorIs(t, err, fs.ErrInvalid, name)
	}
	_, err := nameFor("-", "a/", false)
	require.Error(t, err)
	require.Contains(t, ok(t, "help", "policy", "set"), "--preset")
	require.Contains(t, ok(t, "help"), "help")
	require.Contains(t, ok(t, "help", "scrub"), "repair\nqueue")
}

// Of policies the prefix is named, and the default is one.
func TestPolicies(t *testing.T) {
	t.Parallel()
	home, _ := newStore(t, 3)
	at := func(args ...string) []string { return append([]string{"--store", home, "policy"}, args...) }
	require.Regexp(t, `^"" +any size +2\+1 +survives any 1 disk  default\n$`, ok(t, at("list")...))
	r := exits(t, exitError, at("set", "books/", "--code", "9+9")...)
	require.Contains(t, r.err, `for the prefix "books/": a 9+9 code needs`)
	r = exits(t, exitError, at("set", "books/", "--code", "6+1", "--per-disk", "3")...)
	require.Contains(t, r.err, `for the prefix "books/": survives the loss of no disk`)
	require.Contains(t, exits(t, exitError, at("unset", "")...).err, `unset policy: file does not exist: none has the prefix ""`)
	require.Contains(t, exits(t, exitError, at("get", "x")...).err, `none has the prefix "x"`)

	ok(t, at("set", "", "--code", "1+2")...)
	require.Regexp(t, `^"" +any size +1\+2 +survives any 2 disks  \n$`, ok(t, at("list")...))
	exits(t, exitUsage, at("set", "")...)
	require.Contains(t, ok(t, at("list")...), "1+2")

	home, _ = newStore(t, 1)
	require.Contains(t, ok(t, "--store", home, "policy", "list"), "survives no disk")
}

func lastLine(s string) string {
	all := strings.Split(strings.TrimSpace(s), "\n")
	return all[len(all)-1]
}

// Exit code 2 is for the command line, whatever the store is.
func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{}, {"frob"}, {"help", "frob"}, {"help", "policy", "frob"}, {"--frob", "ls"}, {"get"}, {"get", "a", "b"}, {"put"}, {"stat"}, {"mv", "a"}, {"ls", "a", "b"}, {"inspect"},
		{"ls"}, {"init"}, // no store
		{"--store", "x", "put", "-"}, {"--store", "x", "put", "."}, {"--store", "x", "get", "-r", "a", "-o", "-"},
		{"--store", "x", "get", "-r", "a", "--version", "1"}, {"--store", "x", "--json", "get", "a"},
		{"--store", "x", "rm", "--all", "--version", "1", "a"}, {"--store", "x", "retain", "a"}, {"--store", "x", "retain", "a", "--for", "soon"},
		{"--store", "x", "init", "--code", "eight"}, {"--store", "x", "policy"}, {"--store", "x", "policy", "set", "p", "--max-size", "big"},
		{"--store", "x", "policy", "set", "p"}, {"--store", "x", "policy", "set", "p", "--max-size", "1GB"},
		{"--store", "x", "--store", "y", "init", "--disk", "z"}, {"--store", "x", "scrub", "--rate", "fast"}, {"bench", "--rows", "frob"},
	} {
		r := exits(t, exitUsage, args...)
		require.NotContains(t, r.err, "panic")
	}
	require.Contains(t, exits(t, exitUsage, "scrbu").err, "did you mean scrub?")
}

// T5: only init creates a store, and a source that is not there changes nothing.
func TestNothingIsMade(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	absent := filepath.Join(dir, "absent")
	file := write(t, filepath.Join(dir, "file"), 1, 10)
	for _, args := range [][]string{{"ls"}, {"put", file}, {"get", "x"}, {"scrub"}, {"gc"}, {"policy", "list"}, {"rm", "x"}} {
		r := exits(t, exitError, append([]string{"--store", absent}, args...)...)
		require.Contains(t, r.err, "init makes a new store")
	}
	require.NoDirExists(t, absent)

	home, _ := newStore(t, 1)
	exits(t, exitError, "--store", home, "put", filepath.Join(dir, "none"))
	exits(t, exitError, "--store", home, "put", file, filepath.Join(dir, "none"))
	require.Empty(t, ok(t, "--store", home, "ls"))
	exits(t, exitUsage, "--store", home, "put", dir) // a directory without -r
	r := exits(t, exitError, "--store", home, "put", "/dev/null")
	require.Contains(t, r.err, "is a character device")
}

// A store is found by the directory that was named with it, by each of its disks,
// by all of them, and by the environment.
func TestFindStore(t *testing.T) {
	home, dirs := newStore(t, 3)
	ok(t, "--store", home, "put", write(t, filepath.Join(t.TempDir(), "f"), 1, 100_000))
	for _, dir := range append(dirs, home) {
		require.Contains(t, ok(t, "--store", dir, "ls"), " f\n", dir)
	}
	require.Contains(t, ok(t, "--store", dirs[2], "--store", dirs[0], "--store", dirs[1], "ls"), " f\n")
	t.Setenv("BLOCKFRAME_STORE", strings.Join(dirs, string(os.PathListSeparator)))
	require.Contains(t, ok(t, "ls"), " f\n")
	t.Setenv("BLOCKFRAME_STORE", "")

	r := exits(t, exitError, "--store", home, "init", "--disk", filepath.Join(t.TempDir(), "other"))
	require.Contains(t, r.err, "leads to a store already")
	r = exits(t, exitError, "init", "--disk", dirs[0], "--disk", dirs[1], "--disk", dirs[2])
	require.Contains(t, r.err, "holds a store already")

	// Moved together, all that lies beneath is found by relative paths.
	moved := filepath.Join(t.TempDir(), "moved")
	require.NoError(t, os.Rename(home, moved))
	require.Contains(t, ok(t, "--store", moved, "ls"), " f\n")

	require.NoError(t, os.WriteFile(filepath.Join(moved, "disks"), []byte("# nothing\n"), 0o644))
	require.Contains(t, exits(t, exitError, "--store", moved, "ls").err, "names no disk")
	require.NoError(t, os.WriteFile(filepath.Join(moved, "disks"), bytes.Repeat([]byte("x"), maxList+1), 0o644))
	require.Contains(t, exits(t, exitError, "--store", moved, "ls").err, "is no list of disks")
}

// Mounts that changed places are found by the lists of the others; a copy of a disk is
// not taken for the disk; a directory that is no disk of the store is refused.
func TestFindStoreAmongOthers(t *testing.T) {
	t.Parallel()
	home, dirs := newStore(t, 3)
	ok(t, "--store", home, "put", write(t, filepath.Join(t.TempDir(), "f"), 1, 100_000))
	aside := filepath.Join(home, "aside")
	for _, move := range [][2]string{{dirs[0], aside}, {dirs[1], dirs[0]}, {aside, dirs[1]}} {
		require.NoError(t, os.Rename(move[0], move[1]))
	}
	for _, dir := range append(dirs, home) {
		r := ok(t, "--store", dir, "ls")
		require.Contains(t, r, " f\n", dir)
		ok(t, "--store", dir, "scrub")
	}

	copied := filepath.Join(t.TempDir(), "copy")
	require.NoError(t, os.CopyFS(copied, os.DirFS(dirs[2])))
	before := ok(t, "--store", home, "--json", "ls")
	for _, args := range [][]string{{"ls"}, {"put", write(t, filepath.Join(t.TempDir(), "g"), 2, 10)}} {
		r := exits(t, exitError, append([]string{"--store", copied}, args...)...)
		require.Contains(t, r.err, "is a copy of")
	}
	require.Equal(t, before, ok(t, "--store", home, "--json", "ls"))

	empty := t.TempDir()
	r := exits(t, exitError, "--store", dirs[0], "--store", dirs[1], "--store", dirs[2], "--store", empty, "ls")
	require.Contains(t, r.err, empty)
	require.Contains(t, r.err, "none of the 3 disks of the store")
}

// Where others have the store open, the message says so.
func TestLocked(t *testing.T) {
	t.Parallel()
	home, dirs := newStore(t, 1)
	st, err := blockframe.Open(context.Background(), blockframe.Options{Dirs: dirs})
	require.NoError(t, err)
	r := exits(t, exitError, "--store", home, "ls")
	require.Contains(t, r.err, "another process has the store open")
	rows := lines(t, exits(t, exitError, "--store", home, "--json", "ls").err)
	require.EqualValues(t, exitError, rows[len(rows)-1]["exit"])
	require.NoError(t, st.Close())
	ok(t, "--store", home, "ls")
}

// A directory that is not empty becomes no disk, and nothing in it is touched.
func TestInitRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "photo.jpg"), 1, 10)
	exits(t, exitError, "--store", dir, "init")
	exits(t, exitError, "init", "--disk", dir, "--disk", filepath.Join(dir, "b"))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
}
