package journal_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/durable/durabletest"
	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/internal/journal"
)

// fill appends records of a frame each until the log has so many segments. Every third
// segment that is begun names a snapshot of all records before.
func fill(t testing.TB, j *journal.Journal, segments int) {
	t.Helper()
	for have := 0; have < segments; {
		if segs := j.Segments(); len(segs) != have {
			if have = len(segs); have%3 == 0 {
				j.SetSnapshot(journal.Snapshot{ID: [32]byte{byte(have)}, Index: segs[have-1].First - 1})
			}
		}
		if have < segments {
			add(t, j, record(int(j.Last()), 3000))
		}
	}
}

func files(t testing.TB, fsys durable.FS, dir string) (list []string) {
	t.Helper()
	names, err := fsys.List(dir)
	require.NoError(t, err)
	for _, n := range names {
		if strings.HasSuffix(n, ".log") {
			list = append(list, n)
		}
	}
	return list
}

func firsts(j *journal.Journal) (list []string) {
	for _, s := range j.Segments() {
		list = append(list, s.Name)
	}
	return list
}

// What is covered goes, on all members, and what is not, or what no header vouches for,
// stays.
func TestTrim(t *testing.T) {
	fsys := durable.Mem(vfs.NewCrashableMem())
	j := open(t, options(fsys))
	n, err := j.Trim(1 << 40)
	require.NoError(t, err)
	require.Zero(t, n)
	fill(t, j, 10)
	before, last := j.Segments(), j.Last()

	n, err = j.Trim(before[1].Last - 1)
	require.NoError(t, err)
	require.Equal(t, 1, n, "the second segment has a record that is not covered")
	n, err = j.Trim(before[1].Last)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	n, err = j.Trim(last)
	require.NoError(t, err)
	covered := before[9].Snapshot.Index // the newest that is in a header
	require.Equal(t, covered+1, j.First(), "%d went", n)
	for range 2 {
		require.Equal(t, firsts(j), files(t, fsys, "log/a"))
		require.Equal(t, firsts(j), files(t, fsys, "log/b"))
		require.Equal(t, last, j.Last())
		require.Len(t, all(t, j, j.First()), int(last-covered))
		_, err = collect(j, covered)
		require.ErrorIs(t, err, fs.ErrNotExist)
		rep, err := j.Verify(t.Context())
		require.NoError(t, err)
		require.Empty(t, rep.Lost)
		require.Empty(t, j.Repairs())
		require.NoError(t, j.Close())
		j = open(t, options(fsys))
	}
	add(t, j, record(99, 100))
	require.NoError(t, j.Close())
	_, err = j.Trim(1)
	require.ErrorIs(t, err, fs.ErrClosed)
}

// A member that was away while the log was trimmed brings its old segments back. They are
// not copied to the others, and go with the next trim. R15
func TestTrimMemberReturns(t *testing.T) {
	for _, gap := range []bool{false, true} {
		fsys := durable.Mem(vfs.NewCrashableMem())
		j := open(t, options(fsys))
		fill(t, j, 10)
		old := map[string][]byte{}
		for _, name := range files(t, fsys, "log/b")[:6] {
			b, err := durable.ReadFile(fsys, "log/b/"+name, 1<<20)
			require.NoError(t, err)
			if !gap || len(old) < 2 {
				old["log/b/"+name] = b
			}
		}
		_, err := j.Trim(j.Last())
		require.NoError(t, err)
		want := firsts(j)
		require.NoError(t, j.Close())
		for name, b := range old {
			require.NoError(t, durable.WriteFile(fsys, name, b))
		}
		require.NoError(t, fsys.Remove("log/b/trimmed"))
		j = open(t, options(fsys))
		require.Equal(t, want, firsts(j))
		require.Equal(t, want, files(t, fsys, "log/a"))
		require.Empty(t, j.Repairs())
		n, err := j.Trim(j.Last())
		require.NoError(t, err)
		require.Zero(t, n)
		require.Equal(t, want, files(t, fsys, "log/b"))
	}
}

// A mark that is damaged, of another store, or beyond what a snapshot covers, is ignored.
func TestTrimMark(t *testing.T) {
	fsys := durable.Mem(vfs.NewCrashableMem())
	j := open(t, options(fsys))
	fill(t, j, 8)
	want := firsts(j)
	require.NoError(t, j.Close())
	for what, b := range map[string][]byte{
		"beyond":        journal.EncodeCut(storeID, 8),
		"no such":       journal.EncodeCut(storeID, 1000),
		"another store": journal.EncodeCut([16]byte{9}, 3),
		"flipped":       flipped(journal.EncodeCut(storeID, 3), 30),
		"short":         journal.EncodeCut(storeID, 3)[:40],
		"long":          append(journal.EncodeCut(storeID, 3), 0),
		"empty":         nil,
	} {
		require.NoError(t, durable.WriteFile(fsys, "log/a/trimmed", b))
		j = open(t, options(fsys))
		require.Equal(t, want, firsts(j), what)
		require.NoError(t, j.Close())
	}
	require.NoError(t, durable.WriteFile(fsys, "log/b/trimmed", journal.EncodeCut(storeID, 3)))
	require.Equal(t, want[2:], firsts(open(t, options(fsys))))
}

func flipped(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

// A power cut at every operation of a trim leaves a log that opens, with every record that
// no snapshot covers; nothing counts as damage; and the next trim ends the work. R6
func TestTrimCrash(t *testing.T) {
	m := vfs.NewCrashableMem()
	require.NoError(t, func() error {
		j := open(t, options(durable.Mem(m)))
		fill(t, j, 10)
		return j.Close()
	}())
	var want [][]byte
	images := 0
	covered := uint64(0)
	visit := func(img durabletest.Image) {
		images++
		what := fmt.Sprintf("after %d %s, seed %d", img.Op.N, img.Op, img.Seed)
		fsys := durable.Mem(img.FS)
		j, err := journal.Open(options(fsys))
		require.NoError(t, err, what)
		defer j.Close()
		require.NoError(t, j.ReadOnly(), what)
		require.LessOrEqual(t, j.First(), covered+1, what)
		require.Equal(t, want, all(t, j, covered+1), what)
		require.Empty(t, j.Repairs(), what)
		_, err = j.Trim(covered)
		require.NoError(t, err, what)
		require.Equal(t, covered+1, j.First(), what)
		require.Equal(t, firsts(j), files(t, fsys, "log/a"), what)
		require.Equal(t, firsts(j), files(t, fsys, "log/b"), what)
		require.NoError(t, j.Prove(), what)
		_, err = j.Append([][]byte{[]byte("after")})
		require.NoError(t, err, what)
	}
	fsys := durabletest.New(durable.Mem(m), durabletest.Options{After: func(op durabletest.Op) {
		if covered > 0 {
			durabletest.Crashes(m, 3, visit)(op)
		}
	}})
	j := open(t, options(fsys))
	segs := j.Segments()
	to := segs[9].Snapshot.Index
	want = all(t, j, to+1)
	covered = to
	n, err := j.Trim(covered)
	require.NoError(t, err)
	require.GreaterOrEqual(t, n, 5)
	covered = 0
	require.Greater(t, images, 40)
}

// A trim that fails at any operation leaves the log as it is or shorter, and working.
func TestTrimFault(t *testing.T) {
	for n := 1; ; n++ {
		m := vfs.NewCrashableMem()
		j := open(t, options(durable.Mem(m)))
		fill(t, j, 10)
		require.NoError(t, j.Close())
		fsys := durabletest.New(durable.Mem(m), durabletest.Options{})
		j = open(t, options(fsys))
		done := len(fsys.Ops())
		fsys.SetFault(durabletest.Nth(done+n, durabletest.Before, syscall.EIO))
		_, err := j.Trim(j.Last())
		count := len(fsys.Ops()) - done
		fsys.SetFault(nil)
		add(t, j, record(7, 50))
		first := j.First()
		require.NoError(t, j.Close())
		j = open(t, options(fsys))
		require.GreaterOrEqual(t, j.First(), first)
		all(t, j, j.First())
		if count < n {
			require.NoError(t, err)
			return
		}
		_, err = j.Trim(j.Last() - 1)
		require.NoError(t, err)
		require.Equal(t, firsts(j), files(t, fsys, "log/a"))
	}
}

// What Export writes Import reads, and nothing else: every truncation at a frame's end is
// a shorter segment, any other, and any flipped byte, is damage. R2
func TestExport(t *testing.T) {
	j := open(t, options(durable.Mem(vfs.NewCrashableMem())))
	fill(t, j, 3)
	segs := j.Segments()
	require.ErrorIs(t, j.Export(segs[2].Number, &bytes.Buffer{}), fs.ErrNotExist)
	require.ErrorIs(t, j.Export(99, &bytes.Buffer{}), fs.ErrNotExist)
	var b bytes.Buffer
	require.NoError(t, j.Export(segs[1].Number, &b))
	want := all(t, j, segs[1].First)[:segs[1].Last-segs[1].First+1]
	got, err := imported(b.Bytes())
	require.NoError(t, err)
	require.Equal(t, want, got)

	for n := 0; n < b.Len(); n += 511 {
		got, err := imported(b.Bytes()[:n])
		if n%frame.Grid != 0 || n < 8192 {
			require.ErrorIs(t, err, frame.ErrCorrupt, "cut to %d", n)
		}
		require.True(t, len(got) < len(want) && slices.EqualFunc(got, want[:len(got)], bytes.Equal), "cut to %d", n)
		got, err = imported(flipped(b.Bytes(), n))
		require.Error(t, err, "flipped at %d", n)
		require.True(t, slices.EqualFunc(got, want[:len(got)], bytes.Equal), "flipped at %d", n)
	}
	for _, err = range journal.Import([16]byte{7}, bytes.NewReader(b.Bytes())) {
	}
	require.ErrorIs(t, err, frame.ErrCorrupt)
}

func imported(b []byte) (list [][]byte, err error) {
	for rec, err := range journal.Import(storeID, bytes.NewReader(b)) {
		if err != nil {
			return list, err
		}
		list = append(list, rec.Data)
	}
	return list, nil
}

func FuzzImport(f *testing.F) {
	j := open(f, options(durable.Mem(vfs.NewCrashableMem())))
	fill(f, j, 2)
	var b bytes.Buffer
	require.NoError(f, j.Export(1, &b))
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:12288])
	f.Fuzz(func(t *testing.T, b []byte) {
		total := 0
		for rec, err := range journal.Import(storeID, bytes.NewReader(b)) {
			if err == nil {
				total += len(rec.Data)
			}
		}
		require.LessOrEqual(t, total, len(b))
	})
}
