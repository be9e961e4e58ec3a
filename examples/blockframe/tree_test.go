package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
)

// inTree is what describes an entry of a tree: attributes, and content or target.
type inTree struct {
	attr    blockframe.Attr
	content string
}

// readTree reads a tree with everything that put -r keeps.
func readTree(t testing.TB, root string) map[string]inTree {
	t.Helper()
	all := map[string]inTree{}
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		rel, err := filepath.Rel(root, path)
		require.NoError(t, err)
		attr, err := blockframe.ReadAttr(path)
		require.NoError(t, err)
		e := inTree{attr: attr}
		if attr.Mode.IsRegular() {
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			e.content = string(b)
		}
		all[rel] = e
		return nil
	}))
	return all
}

// manyFiles is the number of files in one part of the tree: more than a batch holds.
const manyFiles = batchEntries + 10

// makeOddTree makes a tree with one of everything: sizes around the limits of
// inline, packed and streamed contents, modes, owners, times, links to and from
// nowhere, empty directories, and extended attributes where there are any.
func makeOddTree(t testing.TB, root string) {
	t.Helper()
	for i, size := range []int{0, 1, 4095, 4096, 4097, 65_535, 65_536, 65_537, 256<<10 - 1, 256 << 10, 256<<10 + 1, 1 << 20, alone, alone + 1} {
		write(t, filepath.Join(root, "sizes", fmt.Sprint(size)), byte(i), size)
	}
	for _, dir := range []string{"empty", "deep/er/and/deeper", "closed"} {
		require.NoError(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	for i := range manyFiles {
		write(t, filepath.Join(root, "many", fmt.Sprint(i%10), fmt.Sprint(i)), byte(i), i)
	}
	for target, name := range map[string]string{"sizes/1": "link", "/does/not/exist": "dangling", "..": "deep/up", "empty": "dirlink", "loop": "loop"} {
		require.NoError(t, os.Symlink(target, filepath.Join(root, name)))
	}
	write(t, filepath.Join(root, "closed", "secret"), 7, 100)
	for name, mode := range map[string]fs.FileMode{"sizes/1": 0o600, "sizes/4095": 0o755, "sizes/4096": 0o444, "closed": 0o700, "empty": 0o1777 & 0o777, "deep/er": 0o500} {
		require.NoError(t, os.Chmod(filepath.Join(root, name), mode))
	}
	old := time.Date(1999, 12, 31, 23, 59, 59, 123456789, time.UTC)
	require.NoError(t, os.Chmod(filepath.Join(root, "sizes/4095"), 0o755|fs.ModeSetuid))
	if os.Geteuid() == 0 {
		require.NoError(t, os.Lchown(filepath.Join(root, "sizes/4097"), 1234, 5678))
		require.NoError(t, os.Lchown(filepath.Join(root, "dangling"), 1234, 5678))
	}
	for _, name := range []string{"sizes/0", "sizes/65536", "empty", "many"} {
		require.NoError(t, os.Chtimes(filepath.Join(root, name), old, old))
	}
}

// put -r and get -r give back the same tree, metadata included, and a second put
// changes nothing.
func TestTreeRoundTrip(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a thousand synced files, three times, under the race detector")
	}
	home, _ := newStore(t, 3)
	src, dst := filepath.Join(t.TempDir(), "tree"), filepath.Join(t.TempDir(), "restored")
	makeOddTree(t, src)
	xattrs := setXattr(filepath.Join(src, "sizes/1"), "user.blockframe.test", "a value\x00with a zero") == nil
	if !xattrs {
		t.Log("the filesystem takes no extended attributes: they are not compared")
	}
	want := readTree(t, src)
	require.Contains(t, ok(t, "--store", home, "put", "-r", src), fmt.Sprintf("stored %d files", manyFiles+15))
	rows := lines(t, ok(t, "--store", home, "--json", "ls"))
	require.Len(t, rows, len(want))

	require.Contains(t, ok(t, "--store", home, "get", "-r", "tree", "-o", dst), fmt.Sprintf("restored %d files", manyFiles+15))
	requireTree(t, want, dst)
	if xattrs {
		require.NotEmpty(t, want["sizes/1"].attr.Xattrs)
	}

	// Again: the same versions, and nothing overwritten without --force.
	for _, sub := range []string{"sizes", "deep", "closed"} {
		ok(t, "--store", home, "put", "-r", filepath.Join(src, sub), "--name", "tree/"+sub)
	}
	require.Equal(t, rows, lines(t, ok(t, "--store", home, "--json", "ls")))
	r := exits(t, exitError, "--store", home, "get", "-r", "tree", "-o", dst)
	require.Contains(t, r.err, "exists, and was left as it is")
	requireTree(t, want, dst)
	require.NoError(t, os.WriteFile(filepath.Join(dst, "sizes/4095"), []byte("changed"), 0o644))
	ok(t, "--store", home, "get", "-r", "tree", "-o", dst, "--force")
	requireTree(t, want, dst)

	// A tree put at the top of the store.
	ok(t, "--store", home, "put", "-r", filepath.Join(src, "deep"), "--name", ".")
	require.Contains(t, ok(t, "--store", home, "ls", "er"), "er/and/deeper")
	for _, dir := range []string{src, dst} {
		require.NoError(t, os.Chmod(filepath.Join(dir, "deep/er"), 0o700)) // for TempDir to remove
	}
}

// requireTree compares a tree on disk with what it must be.
func requireTree(t testing.TB, want map[string]inTree, root string) {
	t.Helper()
	got := readTree(t, root)
	for name, w := range want {
		g, there := got[name]
		require.True(t, there, "%s is missing", name)
		if name == "." {
			continue
		}
		require.Equal(t, w.attr.ModTime, g.attr.ModTime, "%s: mtime", name)
		w.attr.ModTime, g.attr.ModTime = time.Time{}, time.Time{}
		require.Equal(t, w.attr, g.attr, name)
		require.True(t, w.content == g.content, "%s: content", name)
	}
	require.Len(t, got, len(want))
}

// R13: names that trip programs up are stored as they are. What is no valid UTF-8
// is named, the rest is stored, and the exit code is 1.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("other systems have other rules for names")
	}
	home, _ := newStore(t, 1)
	src := filepath.Join(t.TempDir(), "src")
	names := []string{"with space", "#hash", "?question", "%41", "a+b&c=d", "übér", "日本語", "-rf", "--json", "*", "\\back", "new\nline", "\"quoted\"", "'", "...",
		"b3:00", "b3:" + strings.Repeat("0", 64), strings.Repeat("x", 255), "e\u0301 decomposed", "\u202e right to left", "$(rm x)", "~", ".hidden", "CON"}
	for i, name := range names {
		write(t, filepath.Join(src, name), byte(i), 1000+i)
	}
	write(t, filepath.Join(src, "bad\xff"), 99, 10)
	write(t, filepath.Join(src, "baddir\xfe", "inside"), 99, 10)
	require.NoError(t, os.Symlink("target\xff", filepath.Join(src, "badlink")))

	r := exits(t, exitError, "--store", home, "put", "-r", src)
	require.Contains(t, r.err, `bad\xff`)
	require.Contains(t, r.err, `baddir\xfe`)
	require.Contains(t, r.err, "badlink")
	require.Contains(t, r.err, "3 names could not be stored")
	require.Contains(t, r.out, fmt.Sprintf("stored %d files", len(names)))
	for i, name := range names {
		require.Equal(t, string(content(byte(i), 1000+i)), ok(t, "--store", home, "get", "src/"+name), name)
	}
	dst := filepath.Join(t.TempDir(), "dst")
	ok(t, "--store", home, "get", "-r", "src", "-o", dst)
	require.NoError(t, os.Remove(filepath.Join(src, "bad\xff")))
	require.NoError(t, os.RemoveAll(filepath.Join(src, "baddir\xfe")))
	require.NoError(t, os.Remove(filepath.Join(src, "badlink")))
	want := readTree(t, src)
	delete(want, ".") // its time changed just now
	got := readTree(t, dst)
	delete(got, ".")
	require.Equal(t, want, got)

	// R14: names that lead elsewhere are no names.
	file := filepath.Join(src, "#hash")
	for _, name := range []string{"../x", "/etc/x", "a/../../x", "lost+found/x", ".versions/x", "bad\xff", strings.Repeat("x", 256), strings.Repeat("x/", 2100) + "x"} {
		r := exits(t, exitError, "--store", home, "put", file, "--name", name)
		require.Contains(t, r.err, "invalid", name)
	}
	require.Len(t, lines(t, ok(t, "--store", home, "--json", "ls", "--flat")), 1)
}

// What is neither file, directory nor link is named, and the rest is stored. The
// store does not store itself.
func TestOddThings(t *testing.T) {
	t.Parallel()
	src := filepath.Join(t.TempDir(), "src")
	home := filepath.Join(src, "store")
	write(t, filepath.Join(src, "good"), 1, 10)
	ok(t, "--store", home, "init")
	if err := mkfifo(filepath.Join(src, "pipe")); err != nil {
		t.Skip("no named pipes here:", err)
	}
	r := exits(t, exitError, "--store", home, "put", "-r", src)
	require.Contains(t, r.err, filepath.Join(src, "pipe")+": invalid argument: a named pipe is not stored")
	require.Contains(t, r.err, "the store itself lies there")
	require.Contains(t, r.out, "stored 1 file, 1 directory")
	require.Equal(t, string(content(1, 10)), ok(t, "--store", home, "get", "src/good"))

	// A name that is taken by a directory keeps nothing else out.
	second := filepath.Join(t.TempDir(), "src")
	write(t, filepath.Join(second, "good", "now", "a", "directory"), 2, 10)
	write(t, filepath.Join(second, "new"), 3, 10)
	r = exits(t, exitError, "--store", home, "put", "-r", second)
	require.Contains(t, r.err, "good")
	require.Equal(t, string(content(3, 10)), ok(t, "--store", home, "get", "src/new"))
	require.Equal(t, string(content(1, 10)), ok(t, "--store", home, "get", "src/good"))
}

// What cannot be put in a batch is named, and all else of that batch, of the one before
// and of the one after is stored, in the directories it belongs to.
func TestPutOfManyBatches(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("three thousand files, most of them put one by one, under the race detector")
	}
	home, _ := newStore(t, 3)
	src := filepath.Join(t.TempDir(), "src")
	const files = 3*batchEntries + 10
	name := func(i int) string { return fmt.Sprintf("src/d%d/%05d", i/700, i) }
	for i := range files {
		write(t, filepath.Join(filepath.Dir(src), name(i)), byte(i), i%300+1)
	}
	for i := range (files + 699) / 700 {
		require.NoError(t, os.Chmod(filepath.Join(src, fmt.Sprint("d", i)), 0o700|fs.FileMode(i)))
	}
	taken := []int{3, batchEntries + 5, files - 1}
	for _, i := range taken { // directories of the same name
		ok(t, "--store", home, "put", filepath.Join(filepath.Dir(src), name(0)), "--name", name(i)+"/below")
	}
	r := exits(t, exitError, "--store", home, "put", "-r", src)
	require.Contains(t, r.out, fmt.Sprintf("stored %d files", files-len(taken)))
	for i := range files {
		if slices.Contains(taken, i) {
			require.Contains(t, r.err, name(i))
		}
	}
	dst := filepath.Join(t.TempDir(), "restored")
	ok(t, "--store", home, "get", "-r", "src", "-o", dst)
	want, got := readTree(t, src), readTree(t, dst)
	for path, w := range want {
		if i, err := strconv.Atoi(filepath.Base(path)); err == nil && slices.Contains(taken, i) {
			continue
		}
		g, there := got[path]
		require.True(t, there, path)
		require.True(t, w.content == g.content, "%s: content", path)
		if path != "." {
			require.Equal(t, w.attr.Mode, g.attr.Mode, path)
		}
	}
}

// Files that are there already are counted, in the store and on disk.
func TestGetOverFiles(t *testing.T) {
	t.Parallel()
	home, _ := newStore(t, 1)
	src := filepath.Join(t.TempDir(), "src")
	for i := range 15 {
		write(t, filepath.Join(src, fmt.Sprint(i)), byte(i), 10)
	}
	ok(t, "--store", home, "put", "-r", src)
	write(t, filepath.Join(src, "new"), 99, 10)
	require.Contains(t, ok(t, "--store", home, "put", "-r", src), "stored 1 file, 1 directory, 10 B; 15 files were stored before, unchanged\n")
	require.NoError(t, os.Remove(filepath.Join(src, "new")))
	r := exits(t, exitError, "--store", home, "get", "-r", "src", "-o", src)
	require.Equal(t, mostExisting+1, strings.Count(r.err, "\n"), r.err)
	require.Contains(t, r.err, "15 files exist and were left as they were (--force replaces them)\n")
	require.Len(t, lines(t, cli(t, "--store", home, "--json", "get", "-r", "src", "-o", src).err), 17) // what the first one restored, too
	require.Empty(t, cli(t, "--store", home, "get", "-r", "src", "-o", src, "--force").err)
}

// get writes nothing outside of its target, replaces nothing unasked, and leaves
// no half of a file.
func TestGetInto(t *testing.T) {
	t.Parallel()
	home, _ := newStore(t, 1)
	src := filepath.Join(t.TempDir(), "src")
	write(t, filepath.Join(src, "dir", "file"), 1, 1000)
	require.NoError(t, os.Symlink("dir/file", filepath.Join(src, "link")))
	ok(t, "--store", home, "put", "-r", src)

	// The whole store.
	whole := filepath.Join(t.TempDir(), "whole")
	ok(t, "--store", home, "get", "-r", ".", "-o", whole)
	requireTree(t, readTree(t, src), filepath.Join(whole, "src"))

	// A link in the target that leads out of it.
	outside, target := t.TempDir(), t.TempDir()
	require.NoError(t, os.Symlink(outside, filepath.Join(target, "dir")))
	r := exits(t, exitError, "--store", home, "get", "-r", "src", "-o", target, "--force")
	require.Contains(t, r.err, "symbolic link")
	entries, err := os.ReadDir(outside)
	require.NoError(t, err)
	require.Empty(t, entries)

	out := filepath.Join(t.TempDir(), "out")
	ok(t, "--store", home, "get", "src/link", "-o", out) // the link is followed
	b, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, string(content(1, 1000)), string(b))
	require.Contains(t, exits(t, exitError, "--store", home, "get", "src/dir/file", "-o", out).err, "--force replaces it")
	row := lines(t, ok(t, "--store", home, "--json", "get", "src/dir/file", "-o", out, "--force"))[0]
	require.Equal(t, out, row["file"])
	ok(t, "--store", home, "get", "src/dir/file", "-o", os.DevNull)
	exits(t, exitUsage, "--store", home, "get", "src/dir/file", "-o", target)
	exits(t, exitUsage, "--store", home, "get", "src/dir")
	exits(t, exitUsage, "--store", home, "get", "-r", "src/dir/file")
	exits(t, exitUsage, "--store", home, "get", "-r", ".")
	exits(t, exitError, "--store", home, "get", "-r", "src", "-o", filepath.Join(out, "below a file"))
}

// Purged files in packs give their space back: compact moves what is left, and gc frees
// the rest.
func TestCompact(t *testing.T) {
	t.Parallel()
	home, _ := newStore(t, 3)
	src := filepath.Join(t.TempDir(), "src")
	for i := range 40 {
		write(t, filepath.Join(src, fmt.Sprint(i)), byte(i), 20_000)
	}
	ok(t, "--store", home, "put", "-r", src)
	require.Contains(t, ok(t, "--store", home, "compact"), "nothing is gained")
	for i := range 30 {
		ok(t, "--store", home, "rm", "--all", fmt.Sprint("src/", i))
	}
	require.Contains(t, ok(t, "--store", home, "compact", "--dry-run"), "would empty 1 pack\n")
	row := lines(t, ok(t, "--store", home, "--json", "compact"))[0]
	require.Equal(t, []any{10.0, 200_000.0, 1.0}, []any{row["contents"], row["moved"], row["written"]})
	require.Contains(t, ok(t, "--store", home, "compact"), "nothing is gained")
	for i := 30; i < 40; i++ {
		require.Equal(t, string(content(byte(i), 20_000)), ok(t, "--store", home, "get", fmt.Sprint("src/", i)))
	}
	exits(t, exitOK, "--store", home, "scrub", "--deep")
}
