package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// R15: scrub tells clean, repaired, damaged and lost apart by its exit code, and
// lost parity is damage like any other. get is right while it can be, and says
// that it had to repair.
func TestDamage(t *testing.T) {
	t.Parallel()
	home, dirs := newStore(t, 3) // 2+1
	at := func(args ...string) []string { return append([]string{"--store", home}, args...) }
	src := t.TempDir()
	ok(t, at("put", write(t, filepath.Join(src, "a.bin"), 1, 1_000_000), write(t, filepath.Join(src, "b.bin"), 2, 1_000_000))...)
	exits(t, exitOK, at("scrub", "--deep")...)

	// A block in every shard, in different stripes.
	for i, s := range shards(t, dirs, "a.bin") {
		s.rot(t, i)
	}
	before := digests(t, dirs)
	rows := lines(t, exits(t, exitDamaged, at("--json", "scrub", "--deep")...).out)
	require.Len(t, rows, 2)
	require.Equal(t, map[string]any{"type": "degraded", "name": "a.bin", "version": 1.0, "tolerance": 0.0}, rows[0])
	require.EqualValues(t, 3, rows[1]["damaged"])
	require.EqualValues(t, 3, rows[1]["left"])
	require.EqualValues(t, exitDamaged, rows[1]["exit"])
	require.Equal(t, before, digests(t, dirs), "scrub without --repair changes nothing")
	r := exits(t, exitDamaged, at("scrub", "--deep")...)
	require.Contains(t, r.out, "3 left, 0 on disks that are not there; scrub --deep --repair makes whole")
	r = exits(t, exitRepaired, at("scrub", "--deep", "--repair")...)
	require.Contains(t, r.out, "repaired: 3 shards damaged, 3 blocks bad in them, 3 repaired")
	require.Contains(t, exits(t, exitOK, at("scrub", "--deep")...).out, "clean")

	// A rotten block that get comes across.
	for _, s := range shards(t, dirs, "a.bin") {
		if s.Shard == 0 {
			s.rot(t, 2)
			require.Contains(t, exits(t, exitDamaged, "inspect", s.path).out, "stripes [2]")
		}
	}
	r = cli(t, at("get", "a.bin")...)
	require.Equal(t, exitOK, r.code, r.err)
	require.Equal(t, string(content(1, 1_000_000)), r.out)
	require.Contains(t, r.err, "repaired 1 shard (1 block)")
	exits(t, exitOK, at("scrub", "--deep")...)

	// Parity alone.
	for _, s := range shards(t, dirs, "a.bin") {
		if s.Shard == 2 {
			require.NoError(t, os.Remove(s.path))
		}
	}
	require.Contains(t, exits(t, exitDamaged, at("health")...).out, "a.bin can lose 0 shards more")
	exits(t, exitRepaired, at("health", "--repair")...)
	exits(t, exitOK, at("health", "--deep")...)

	testLost(t, at, dirs)
}

// testLost makes more bad blocks in a stripe than parity can make up for: that
// range is lost and named, nothing is modified, all else is readable.
func testLost(t *testing.T, at func(...string) []string, dirs []string) {
	for _, s := range shards(t, dirs, "a.bin") {
		if s.Shard < 2 {
			s.rot(t, 3)
		}
	}
	before := digests(t, dirs)
	const stripe = 2 * 64 << 10
	file := filepath.Join(t.TempDir(), "out")
	r := exits(t, exitLost, at("get", "a.bin", "-o", file)...)
	require.Contains(t, r.err, "a.bin")
	require.NoFileExists(t, file, "not even a part of it")
	entries, err := os.ReadDir(filepath.Dir(file))
	require.NoError(t, err)
	require.Empty(t, entries)
	r = exits(t, exitLost, at("--json", "get", "a.bin", "-o", file)...)
	rows := lines(t, r.err)
	lost := map[string]any{}
	for _, row := range rows {
		if l, is := row["lost"].(map[string]any); is {
			lost = l
		}
	}
	require.Equal(t, "a.bin", lost["name"], r.err)
	require.NotContains(t, r.err, "computed", "nothing could be")
	damage := map[float64]map[string]any{}
	for _, row := range rows {
		if row["type"] == "damage" {
			damage[row["shard"].(float64)] = row
		}
	}
	require.Len(t, damage, 2, r.err)
	for _, row := range damage {
		require.Equal(t, "a.bin", row["name"])
		require.EqualValues(t, 3, row["block"])
		require.DirExists(t, row["path"].(string))
	}

	rows = lines(t, exits(t, exitLost, at("--json", "scrub", "--deep", "--repair")...).out)
	var from, to float64 = 1e9, 0
	for _, row := range rows {
		if row["type"] == "lost" {
			require.Equal(t, "a.bin", row["name"])
			from, to = min(from, row["offset"].(float64)), max(to, row["offset"].(float64)+row["length"].(float64))
		}
	}
	require.EqualValues(t, 3*stripe, from)
	require.EqualValues(t, 4*stripe, to)
	require.Equal(t, before, digests(t, dirs), "nothing of what is left is modified")
	require.Equal(t, string(content(2, 1_000_000)), ok(t, at("get", "b.bin")...))

	// Good bytes put again over the damage repair it.
	ok(t, at("put", write(t, filepath.Join(t.TempDir(), "a.bin"), 1, 1_000_000))...)
	require.Equal(t, string(content(1, 1_000_000)), ok(t, at("get", "a.bin")...))
}

// Copies of the log that go back to an older backup, with the index moved away as the
// message says, name less than the disks hold: gc says what, and leaves it alone.
func TestLogGoesBack(t *testing.T) {
	t.Parallel()
	home, dirs := newStore(t, 3) // 2+1: two copies of the log
	at := func(args ...string) []string { return append([]string{"--store", home}, args...) }
	src, backup := t.TempDir(), t.TempDir()
	ok(t, at("put", write(t, filepath.Join(src, "old.bin"), 1, 300_000))...)
	logs := func(do func(log, kept string)) {
		for i, dir := range dirs[:2] {
			do(filepath.Join(dir, "log"), filepath.Join(backup, string(rune('a'+i))))
		}
	}
	logs(func(log, kept string) { require.NoError(t, os.CopyFS(kept, os.DirFS(log))) })
	ok(t, at("put", write(t, filepath.Join(src, "new.bin"), 2, 300_000))...)
	logs(func(log, kept string) {
		require.NoError(t, os.RemoveAll(log))
		require.NoError(t, os.CopyFS(log, os.DirFS(kept)))
	})
	r := cli(t, at("ls")...)
	require.Contains(t, r.err, "a collection (gc) leaves complete objects alone")
	require.NoError(t, os.Rename(filepath.Join(dirs[0], "view"), filepath.Join(src, "view")))

	want := digests(t, dirs)
	const kept = "1 complete object that no record names is kept: of puts that were cut off before they were acknowledged, or of a log that was restored from an older copy"
	r = exits(t, exitOK, at("scrub", "--deep")...)
	require.Contains(t, r.out, kept)
	require.Contains(t, r.out, "new.bin")
	out := ok(t, at("gc")...)
	require.Contains(t, out, "removed 0 shards")
	require.Contains(t, out, kept)
	require.Contains(t, out, "new.bin")
	require.Equal(t, want, digests(t, dirs))
	row := lines(t, ok(t, at("--json", "gc")...))[0]
	require.EqualValues(t, 1, row["unclaimed"])
	require.Equal(t, []any{"new.bin"}, row["unclaimed_names"])
	require.Contains(t, ok(t, at("gc", "--unclaimed")...), "removed 3 shards")
	require.NotContains(t, ok(t, at("scrub", "--deep")...), "no record names")
	require.Equal(t, string(content(1, 300_000)), ok(t, at("get", "old.bin")...))
}

// What opening the store repairs of its log is told by the exit code of the next scrub,
// whatever command came upon it.
func TestLogDamage(t *testing.T) {
	t.Parallel()
	home, dirs := newStore(t, 3)
	ok(t, "--store", home, "put", write(t, filepath.Join(t.TempDir(), "f"), 1, 500_000))
	list, err := filepath.Glob(filepath.Join(dirs[1], "log", "*.log"))
	require.NoError(t, err)
	require.Len(t, list, 1)
	damage := func() {
		f, err := os.OpenFile(list[0], os.O_RDWR, 0)
		require.NoError(t, err)
		b := make([]byte, 1)
		_, err = f.ReadAt(b, 8192+115)
		require.NoError(t, err)
		b[0] ^= 1
		_, err = f.WriteAt(b, 8192+115)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	damage()
	require.Contains(t, cli(t, "--store", home, "ls").err, "log repaired from another copy")
	require.Contains(t, exits(t, exitRepaired, "--store", home, "scrub").out, "repaired: 1 damaged place in a copy of the commit log")
	require.Contains(t, ok(t, "--store", home, "scrub"), "clean")
	damage()
	exits(t, exitRepaired, "--store", home, "scrub", "--deep")
	require.Regexp(t, "deep scrub: .* 0 ranges lost\n  commit log: 1 place made whole from another copy", ok(t, "--store", home, "scrub", "--status"))
	ok(t, "--store", home, "scrub", "--deep")
	require.Regexp(t, "deep scrub: .* clean\n", ok(t, "--store", home, "scrub", "--status"))
}

// A disk that is gone is damage left, not loss: everything is still readable.
func TestDiskGone(t *testing.T) {
	t.Parallel()
	home, dirs := newStore(t, 3)
	ok(t, "--store", home, "put", write(t, filepath.Join(t.TempDir(), "f"), 1, 500_000))
	away := filepath.Join(t.TempDir(), "away")
	require.NoError(t, os.Rename(dirs[2], away))
	r := exits(t, exitDamaged, "--store", home, "scrub")
	require.Contains(t, r.out, dirs[2])
	require.Contains(t, r.out, "; attach all disks and run scrub --deep --repair")
	require.Equal(t, string(content(1, 500_000)), ok(t, "--store", home, "get", "f"))
	require.NoError(t, os.Rename(away, dirs[2]))
	exits(t, exitOK, "--store", home, "scrub", "--deep")
}

// stat says what an object survives, as far as damage is known. // R15
func TestStatSurvives(t *testing.T) {
	t.Parallel()
	home, dirs := newStore(t, 6) // 4+2
	ok(t, "--store", home, "put", write(t, filepath.Join(t.TempDir(), "f"), 1, 300_000), "--name", "d/f")
	ok(t, "--store", home, "put", write(t, filepath.Join(t.TempDir(), "g"), 2, 100), "--name", "g")
	survives := func(name string) []any {
		row := lines(t, ok(t, "--store", home, "--json", "stat", name))[0]
		return []any{row["survives"], row["tolerance"]}
	}
	require.Equal(t, []any{2.0, 2.0}, survives("d/f"))
	require.Equal(t, []any{2.0, 0.0}, survives("d"))
	require.Contains(t, ok(t, "--store", home, "stat", "d/f"), "survives  the loss of any 2 disks, or of any 2 shards\n")
	require.NoError(t, os.RemoveAll(filepath.Join(dirs[0], "data")))
	exits(t, exitDamaged, "--store", home, "scrub")
	require.Equal(t, []any{1.0, 1.0}, survives("d/f"))
}
