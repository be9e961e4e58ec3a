package journal_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/durable/durabletest"
	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/internal/journal"
)

const smallSegment = 32 << 10 // the header and six frames of 4 KiB

var storeID = [16]byte{1, 2, 3}

// options returns those of a small log with members a and b in fsys.
func options(fsys durable.FS) journal.Options {
	return journal.Options{
		Members: []journal.Member{{FS: fsys, Dir: "log/a", Name: "a"}, {FS: fsys, Dir: "log/b", Name: "b"}},
		StoreID: storeID, Create: true, SegmentSize: smallSegment, Sequential: true,
	}
}

// open opens a log that must be writable, and closes it with the test.
func open(t testing.TB, opts journal.Options) *journal.Journal {
	t.Helper()
	j, err := journal.Open(opts)
	require.NoError(t, err)
	t.Cleanup(func() { j.Close() })
	require.NoError(t, j.ReadOnly())
	return j
}

// all returns the records from index from on.
func all(t testing.TB, j *journal.Journal, from uint64) [][]byte {
	t.Helper()
	out, err := collect(j, from)
	require.NoError(t, err)
	return out
}

func collect(j *journal.Journal, from uint64) (out [][]byte, err error) {
	next := max(from, 1)
	for r, err := range j.Records(from) {
		if err != nil {
			return out, err
		}
		if r.Index != next {
			return out, fmt.Errorf("record %d follows %d", r.Index, next-1)
		}
		next++
		out = append(out, r.Data)
	}
	return out, nil
}

// record returns distinct content of n bytes for record i.
func record(i, n int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "record %d. ", i), n/8+1)[:n]
}

func add(t testing.TB, j *journal.Journal, records ...[]byte) {
	t.Helper()
	want := j.Last() + 1
	first, err := j.Append(records)
	require.NoError(t, err)
	require.Equal(t, want, first)
	require.Equal(t, want+uint64(len(records))-1, j.Last())
}

func TestAppendAndReopen(t *testing.T) {
	fsys := durable.Mem(vfs.NewCrashableMem())
	j := open(t, options(fsys))
	require.Zero(t, j.Last())
	require.EqualValues(t, 1, j.First())
	require.Empty(t, all(t, j, 0))

	var want [][]byte
	for i, n := range []int{0, 1, 4096 - 148, 4096 - 147, 5000, 100, 20000, 24576 - 148, 7} {
		want = append(want, record(i, n))
		if n <= 5000 {
			want = append(want, record(i+100, n/2))
		}
		add(t, j, want[int(j.Last()):]...)
		require.Equal(t, want, all(t, j, 1))
	}
	require.Greater(t, len(j.Segments()), 3)
	for range 2 {
		require.NoError(t, j.Close())
		require.NoError(t, j.Close())
		j = open(t, options(fsys))
		require.EqualValues(t, len(want), j.Last())
		for from := range len(want) + 2 {
			require.Equal(t, want[min(max(from, 1)-1, len(want)):], append([][]byte{}, all(t, j, uint64(from))...))
		}
		require.Empty(t, j.Repairs())
		want = append(want, record(len(want), 50))
		add(t, j, want[len(want)-1])
	}
}

func TestSegments(t *testing.T) {
	j := open(t, options(durable.Mem(vfs.NewCrashableMem())))
	snap := journal.Snapshot{ID: [32]byte{7}, Index: 3}
	for i := range 14 {
		add(t, j, record(i, 10))
		if i == 4 {
			j.SetSnapshot(snap)
		}
	}
	require.Equal(t, []journal.Segment{
		{Number: 1, Name: "0000000000000001.log", First: 1, Last: 6, Size: smallSegment, Sealed: true},
		{Number: 2, Name: "0000000000000002.log", First: 7, Last: 12, Size: smallSegment, Sealed: true, Snapshot: snap},
		{Number: 3, Name: "0000000000000003.log", First: 13, Last: 14, Size: smallSegment, Snapshot: snap},
	}, j.Segments())
	require.EqualValues(t, 3*smallSegment, j.Size())
	require.Equal(t, snap, j.Snapshot())
}

func TestLimits(t *testing.T) {
	opts := options(durable.Mem(vfs.NewCrashableMem()))
	j := open(t, opts)
	_, err := j.Append(nil)
	require.ErrorIs(t, err, fs.ErrInvalid)
	_, err = j.Append([][]byte{make([]byte, 24576-147)})
	require.ErrorIs(t, err, journal.ErrTooLarge)
	require.NoError(t, j.Close())

	if testing.Short() {
		t.Skip("hashing the largest frames is slow under -race")
	}
	opts.SegmentSize = 16 << 20
	j = open(t, opts)
	_, err = j.Append([][]byte{make([]byte, journal.MaxRecord+1)})
	require.ErrorIs(t, err, journal.ErrTooLarge)
	full := make([][]byte, 8)
	for i := range full {
		full[i] = record(i, journal.MaxRecord-4)
	}
	full[0] = full[0][:len(full[0])-(journal.MaxFrame-journal.MaxBatch)+1]
	_, err = j.Append(full)
	require.ErrorIs(t, err, journal.ErrTooLarge)
	require.Zero(t, j.Last())

	// The first segment is small and stays without a frame.
	full[0] = full[0][:len(full[0])-1]
	add(t, j, full...)
	require.Len(t, j.Segments(), 2)
	require.Equal(t, full, all(t, j, 1))
	require.NoError(t, j.Close())
	require.Equal(t, full, all(t, open(t, opts), 1))

	_, err = j.Append(full)
	require.ErrorIs(t, err, fs.ErrClosed)
	_, err = collect(j, 1)
	require.ErrorIs(t, err, fs.ErrClosed)
}

func TestBadOptions(t *testing.T) {
	fsys := durable.Mem(vfs.NewCrashableMem())
	for name, change := range map[string]func(*journal.Options){
		"no member":    func(o *journal.Options) { o.Members = nil },
		"twice":        func(o *journal.Options) { o.Members[1].Name = "a" },
		"no directory": func(o *journal.Options) { o.Members[1].Dir = "" },
		"odd size":     func(o *journal.Options) { o.SegmentSize++ },
	} {
		opts := options(fsys)
		change(&opts)
		_, err := journal.Open(opts)
		require.ErrorIs(t, err, fs.ErrInvalid, name)
	}
	opts := options(fsys)
	opts.Create = false
	_, err := journal.Open(opts)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestProve(t *testing.T) {
	fsys := durable.Mem(vfs.NewCrashableMem())
	j := open(t, options(fsys))
	require.NoError(t, j.Prove()) // nothing to prove
	add(t, j, record(0, 10))
	require.NoError(t, j.Prove())
	require.NoError(t, j.Prove())
	rep, err := j.Verify(t.Context())
	require.NoError(t, err)
	require.Equal(t, 2, rep.Frames)
	require.EqualValues(t, 1, rep.Records)
	require.NoError(t, j.Close())
	j = open(t, options(fsys))
	require.NoError(t, j.Prove()) // the last frame is empty still
	rep, err = j.Verify(t.Context())
	require.NoError(t, err)
	require.Equal(t, 2, rep.Frames)
}

func readFile(t testing.TB, fsys durable.FS, name string) []byte {
	t.Helper()
	b, err := durable.ReadFile(fsys, name, 1<<30)
	require.NoError(t, err)
	return b
}

func TestCopiesAreEqual(t *testing.T) {
	fsys := durable.Mem(vfs.NewCrashableMem())
	j := open(t, options(fsys))
	for i := range 9 {
		add(t, j, record(i, 10))
	}
	for _, s := range j.Segments() {
		a, b := readFile(t, fsys, "log/a/"+s.Name), readFile(t, fsys, "log/b/"+s.Name)
		require.Len(t, a, smallSegment)
		require.Equal(t, a, b)
		require.Equal(t, a[:frame.Grid], a[frame.Grid:2*frame.Grid])
	}
}

// Reading from the middle does not look at the segments before.
func TestRecordsStartInTheirSegment(t *testing.T) {
	fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
	want := longLog(t, fsys)
	j := open(t, options(fsys))
	fsys.SetFault(durabletest.All(durabletest.Open, "0000000000000001.log", durabletest.Before, syscall.EIO))
	require.Equal(t, want[perSegment:], all(t, j, perSegment+1))
	require.Equal(t, want[9:], all(t, j, 10))
	require.Empty(t, all(t, j, 11))
	_, err := collect(j, perSegment)
	require.ErrorIs(t, err, frame.ErrCorrupt)
}

// A copy that cannot be read is as one that is damaged: the other serves.
func TestUnreadableCopy(t *testing.T) {
	fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
	want := longLog(t, fsys)
	j := open(t, options(fsys))
	fsys.SetFault(durabletest.All(durabletest.Read, "log/a/", durabletest.Before, syscall.EIO))
	require.Equal(t, want, all(t, j, 1))
	j = reopen(t, j, options(fsys))
	require.Equal(t, want, all(t, j, 1))
	require.NotEmpty(t, j.Repairs())
	add(t, j, []byte("more"))
}

// The caller may stop early, and keeps what it was given.
func TestRecordsAreTheCallers(t *testing.T) {
	j := open(t, options(durable.Mem(vfs.NewMem())))
	add(t, j, []byte("one"), []byte("two"))
	add(t, j, []byte("three"))
	var got [][]byte
	for r, err := range j.Records(1) {
		require.NoError(t, err)
		got = append(got, append(r.Data, '!'))
		if r.Index == 2 {
			add(t, j, []byte("four")) // from within the loop
			break
		}
	}
	require.Equal(t, [][]byte{[]byte("one!"), []byte("two!")}, got)
	require.Len(t, all(t, j, 1), 4)
}

// R7: files that are not ours are left alone.
func TestStrayFiles(t *testing.T) {
	fsys := durable.Mem(vfs.NewMem())
	want := longLog(t, fsys)
	stray := []string{"0000000000000000.log", "0000000000000003.LOG", "3.log", "000000000000000G.log", "0000000000000003.log.bak", "lost+found", "spare"}
	for _, name := range stray {
		require.NoError(t, durable.WriteFile(fsys, "log/a/"+name, []byte("stray")))
	}
	j := open(t, options(fsys))
	require.Equal(t, want, all(t, j, 1))
	for i := range perSegment {
		add(t, j, record(i, 10)) // takes a new segment, and not from a spare of the wrong size
	}
	for _, name := range stray[:6] {
		require.Equal(t, "stray", string(readFile(t, fsys, "log/a/"+name)))
	}
}
