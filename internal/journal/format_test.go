package journal_test

import (
	"bytes"
	"encoding/binary"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/internal/journal"
)

var update = flag.Bool("update", false, "write the golden files anew")

// counting returns a source of keys that are the same in every run.
func counting() func([]byte) {
	n := byte(0)
	return func(b []byte) {
		n++
		for i := range b {
			b[i] = n ^ byte(i)
		}
	}
}

// goldenLog makes the log of testdata: two segments of 16 KiB, which hold a
// frame of two records, one of a single record, and behind the seam an empty
// record and an empty frame.
func goldenLog(t testing.TB, fsys durable.FS) *journal.Journal {
	opts := options(fsys)
	opts.SegmentSize = 16 << 10
	opts.SetRandom(counting())
	j := open(t, opts)
	add(t, j, []byte("first"), []byte("second"))
	j.SetSnapshot(journal.Snapshot{ID: [32]byte{9, 9}, Index: 2})
	add(t, j, bytes.Repeat([]byte("x"), 300))
	add(t, j, nil)
	require.NoError(t, j.Close())
	return j
}

var goldenNames = []string{"0000000000000001.log", "0000000000000002.log"}

func golden(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "log", name))
	require.NoError(t, err)
	return b
}

// The format is frozen: what is written today is what was written then, and
// what was written then is read today.
func TestGolden(t *testing.T) {
	fsys := durable.Mem(vfs.NewCrashableMem())
	goldenLog(t, fsys)
	for _, name := range goldenNames {
		got := readFile(t, fsys, "log/a/"+name)
		if *update {
			require.NoError(t, os.MkdirAll("testdata/log", 0o755))
			require.NoError(t, os.WriteFile(filepath.Join("testdata/log", name), got, 0o644))
		}
		require.True(t, bytes.Equal(golden(t, name), got), name)
	}

	old := durable.Mem(vfs.NewCrashableMem())
	for _, dir := range []string{"log/a", "log/b"} {
		require.NoError(t, old.MkdirAll(dir))
		for _, name := range goldenNames {
			require.NoError(t, durable.WriteFile(old, dir+"/"+name, golden(t, name)))
		}
	}
	j := open(t, options(old))
	require.Equal(t, [][]byte{[]byte("first"), []byte("second"), bytes.Repeat([]byte("x"), 300), {}}, all(t, j, 1))
	require.EqualValues(t, 2, j.Snapshot().Index)
	require.Empty(t, j.Repairs())
}

// What the package comment says, read with nothing but it.
func TestGoldenByHand(t *testing.T) {
	seg := golden(t, goldenNames[0])
	be := binary.BigEndian
	require.Equal(t, "BFLOGSEG", string(seg[:8]))
	require.EqualValues(t, 1, be.Uint32(seg[8:]))
	require.Equal(t, storeID[:], seg[20:36])
	require.EqualValues(t, 1, be.Uint64(seg[36:]))
	require.EqualValues(t, 1, be.Uint64(seg[44:]))
	require.EqualValues(t, 1, be.Uint64(seg[52:]))
	require.EqualValues(t, len(seg), be.Uint64(seg[60:]))
	require.EqualValues(t, 2, be.Uint32(seg[172:]))
	require.Equal(t, []byte{0, 0, 0, 1, 'a', 0, 0, 0, 1, 'b', 0}, seg[176:187])
	sum := frame.Sum(seg[:4064])
	require.Equal(t, sum[:], seg[4064:4096])

	f := seg[8192:]
	require.Equal(t, "BFLOGFRM", string(f[:8]))
	require.EqualValues(t, 2, be.Uint32(f[12:]))
	require.EqualValues(t, 1, be.Uint64(f[24:]))
	require.EqualValues(t, 8192, be.Uint64(f[32:]))
	require.EqualValues(t, 4+5+4+6, be.Uint32(f[40:]))
	require.Equal(t, sum[:], f[48:80])
	require.Equal(t, "\x00\x00\x00\x05first\x00\x00\x00\x06second", string(f[112:131]))
	require.Equal(t, f[131:163], seg[12288+48:12288+80]) // the next frame's prev
	require.Equal(t, seg[12288+112+304:][:32], golden(t, goldenNames[1])[68:100])
}

func TestHeaderFromTheFuture(t *testing.T) {
	h := golden(t, goldenNames[0])[:frame.Grid]
	for name, at := range map[string]int{"version": 11, "incompatible feature": 15} {
		b := slices.Clone(h)
		b[at] = 2
		_, err := journal.ReencodeHeader(b)
		require.ErrorIs(t, err, frame.ErrCorrupt, name) // damage, for the hash is wrong
		_, err = journal.ReencodeHeader(journal.Seal(b))
		require.ErrorIs(t, err, frame.ErrVersion, name)
	}
	b := slices.Clone(h)
	b[19] = 2 // a compatible feature is ignored, and kept
	b = journal.Seal(b)
	again, err := journal.ReencodeHeader(b)
	require.NoError(t, err)
	require.Equal(t, b, again)

	fsys := durable.Mem(vfs.NewCrashableMem())
	goldenLog(t, fsys)
	b[11] = 2
	b = journal.Seal(b)
	patch(t, fsys, "log/a/"+goldenNames[0], 0, append(b, b...))
	_, err = journal.Open(options(fsys))
	require.ErrorIs(t, err, frame.ErrVersion)
	require.ErrorContains(t, err, "log member a, segment 0000000000000001.log")
}

func TestHeaderRefused(t *testing.T) {
	h := golden(t, goldenNames[0])[:frame.Grid]
	for name, change := range map[string]func([]byte){
		"number 0":     func(b []byte) { b[43] = 0 },
		"first 0":      func(b []byte) { b[59] = 0 },
		"size off":     func(b []byte) { b[67] = 1 },
		"huge":         func(b []byte) { b[60] = 0x7f },
		"no members":   func(b []byte) { clear(b[172:190]) },
		"many members": func(b []byte) { b[172] = 0xff },
		"long name":    func(b []byte) { b[177] = 1 },
		"twice":        func(b []byte) { b[185] = 'a' },
		"padding":      func(b []byte) { b[4000] = 1 },
	} {
		b := slices.Clone(h)
		change(b)
		_, err := journal.ReencodeHeader(journal.Seal(b))
		require.ErrorIs(t, err, frame.ErrCorrupt, name)
	}
	for n := range len(h) {
		_, err := journal.ReencodeHeader(h[:n])
		require.ErrorIs(t, err, frame.ErrCorrupt)
	}
}

func FuzzHeader(f *testing.F) {
	for _, name := range goldenNames {
		f.Add(golden(f, name)[:180])
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		page := make([]byte, frame.Grid-32)
		copy(page, b)
		page = journal.Seal(page) // or nothing but the hash would be tried
		again, err := journal.ReencodeHeader(page)
		if err == nil {
			require.Equal(t, page, again)
		}
	})
}

func FuzzFrame(f *testing.F) {
	key, prev := [32]byte{1}, [32]byte{2}
	f.Add(journal.ForgeFrame(key, 1, 8192, 1, prev, nil))
	f.Add(journal.ForgeFrame(key, 1, 8192, 7, prev, [][]byte{{}, []byte("ab"), make([]byte, 5000)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < frame.Grid {
			b = append(slices.Clone(b), make([]byte, frame.Grid-len(b))...)
		}
		b = slices.Clone(b[:len(b)&^(frame.Grid-1)])
		journal.SealFrame(key, b) // or nothing but the hashes would be tried
		again, _, err := journal.ReencodeFrame(b, key, 1, 8192, 8192+int64(len(b)))
		if err == nil {
			require.Equal(t, b[:len(again)], again)
		}
		// And as contents.
		recs := [][]byte{b[:len(b)/2], b[len(b)/2:]}
		forged := journal.ForgeFrame(key, 1, 8192, 3, prev, recs)
		again, got, err := journal.ReencodeFrame(forged, key, 1, 8192, 8192+int64(len(forged)))
		require.NoError(t, err)
		require.Equal(t, forged, again)
		require.Equal(t, recs, got)
	})
}

// patch overwrites a part of a file.
func patch(t testing.TB, fsys durable.FS, name string, off int64, b []byte) {
	t.Helper()
	f, err := fsys.OpenWrite(name)
	require.NoError(t, err)
	_, err = f.WriteAt(b, off)
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	require.NoError(t, f.Close())
}

// flip inverts one bit of a file.
func flip(t testing.TB, fsys durable.FS, name string, bit int64) {
	t.Helper()
	f, err := fsys.OpenWrite(name)
	require.NoError(t, err)
	b := make([]byte, 1)
	_, err = f.ReadAt(b, bit/8)
	require.NoError(t, err)
	b[0] ^= 1 << (bit % 8)
	_, err = f.WriteAt(b, bit/8)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// requireGolden compares got with a text of testdata.
func requireGolden(t testing.TB, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}
