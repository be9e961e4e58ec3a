package journal_test

import (
	"context"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/durable/durabletest"
	"github.com/blockframe/blockframe/internal/journal"
)

// Changes of the set that meet full disks, power cuts, copies from backups and copies of
// another way.

// fullAtRotation returns a log whose next segment is on all members but the last, which is full.
func fullAtRotation(t *testing.T, fsys *durabletest.FS, opts journal.Options, full string) (*journal.Journal, [][]byte) {
	j := open(t, opts)
	var want [][]byte
	fsys.SetFault(durabletest.All(durabletest.Create, full, durabletest.Before, syscall.ENOSPC))
	for range perSegment {
		want = append(want, record(len(want), 10))
		add(t, j, want[len(want)-1])
	}
	_, err := j.Append([][]byte{[]byte("no room")})
	require.ErrorIs(t, err, durable.ErrNoSpace)
	require.NoError(t, j.ReadOnly())
	return j, want
}

// The member that has no room for the next segment leaves.
func TestLogSetLeaveOfFullMember(t *testing.T) {
	fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
	j, want := fullAtRotation(t, fsys, three(fsys), "log/c")
	require.NoError(t, j.Leave("c"))
	for i := range 3 {
		want = append(want, record(100+i, 10))
		add(t, j, want[len(want)-1]) // acknowledged
	}
	got, err := collect(j, 1)
	require.NoError(t, j.Close())
	fsys.SetFault(nil)
	j, err = journal.Open(three(fsys))
	require.NoError(t, err)
	got, err = collect(j, 1)
	require.Equal(t, want, got)
}

// Another one than that leaves: not before there is room.
func TestLogSetLeaveBesideFullMember(t *testing.T) {
	fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
	j, want := fullAtRotation(t, fsys, three(fsys), "log/b")
	require.ErrorIs(t, j.Leave("c"), durable.ErrNoSpace)
	requireSet(t, j, 1, "a", "b", "c")
	fsys.SetFault(nil)
	want = append(want, record(len(want), 10))
	add(t, j, want[len(want)-1])
	require.NoError(t, j.Leave("c"))
	j = reopen(t, j, three(fsys))
	require.Equal(t, want, all(t, j, 1))
}

// A member that fails to be repaired while the next segment waits for room.
func TestLogSetHealFailsWhileFull(t *testing.T) {
	fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
	j, want := fullAtRotation(t, fsys, three(fsys), "log/c")
	name := j.Segments()[0].Name
	flip(t, fsys, "log/b/"+name, 8192*8+100)
	fsys.SetFault(func(op durabletest.Op) *durabletest.Fault {
		if op.Kind == durabletest.Write && strings.HasPrefix(op.Name, "log/b") {
			return &durabletest.Fault{Arm: durabletest.Before, Err: syscall.EIO}
		}
		return nil
	})
	_, err := j.Verify(t.Context())
	_ = err // b is left behind, or the log is read-only
	if j.ReadOnly() == nil {
		for i := range 3 {
			want = append(want, record(100+i, 10))
			add(t, j, want[len(want)-1])
		}
	}
	require.NoError(t, j.Close())
	fsys.SetFault(nil)
	j, err = journal.Open(three(fsys))
	require.NoError(t, err)
	require.Equal(t, want, all(t, j, 1))
}

// A join that one full disk held up is tried again.
func TestLogSetJoinAgainAfterFull(t *testing.T) {
	fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
	j := open(t, options(fsys))
	add(t, j, []byte("one"))
	full := 0
	fsys.SetFault(func(op durabletest.Op) *durabletest.Fault {
		if op.Kind == durabletest.Create && strings.HasPrefix(op.Name, "log/b") {
			if full++; full > 1 { // the segment that seals the newest has room
				return &durabletest.Fault{Arm: durabletest.Before, Err: syscall.ENOSPC}
			}
		}
		return nil
	})
	err := j.Join(t.Context(), memberC(fsys))
	require.ErrorIs(t, err, durable.ErrNoSpace)
	require.NoError(t, j.ReadOnly())
	fsys.SetFault(nil)
	require.NoError(t, j.Join(t.Context(), memberC(fsys)))
	requireSet(t, j, 2, "a", "b", "c")
	add(t, j, []byte("two"))
	require.NoError(t, j.Close())
	j, err = journal.Open(three(fsys))
	require.NoError(t, err)
	require.Equal(t, [][]byte{[]byte("one"), []byte("two")}, all(t, j, 1))
}

func TestLogSetJoinFailedIsNoMember(t *testing.T) {
	fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
	j := open(t, options(fsys))
	add(t, j, []byte("one"))
	full := 0
	fsys.SetFault(func(op durabletest.Op) *durabletest.Fault {
		if op.Kind == durabletest.Create && strings.HasPrefix(op.Name, "log/b") {
			if full++; full > 1 {
				return &durabletest.Fault{Arm: durabletest.Before, Err: syscall.ENOSPC}
			}
		}
		return nil
	})
	require.ErrorIs(t, j.Join(t.Context(), memberC(fsys)), durable.ErrNoSpace)
	fsys.SetFault(nil)
	add(t, j, []byte("two"))
	_, set := j.Set()
	require.ElementsMatch(t, []string{"a", "b"}, set)
}

// A join that fails when the header is on the new member; then b fails, and a goes on alone;
// then b and c are there.
func TestLogSetBegunByJoinThenAlone(t *testing.T) {
	mem := durable.Mem(vfs.NewMem())
	fsys := durabletest.New(mem, durabletest.Options{})
	j := open(t, options(fsys))
	add(t, j, []byte("one"))
	fsys.SetFault(func(op durabletest.Op) *durabletest.Fault {
		if op.Kind == durabletest.SyncDir && strings.HasPrefix(op.Name, "log/c") && fileThere(mem, "log/c/0000000000000003.log") {
			return &durabletest.Fault{Arm: durabletest.Before, Err: syscall.EIO}
		}
		return nil
	})
	err := j.Join(t.Context(), memberC(fsys))
	require.Error(t, err)
	fsys.SetFault(durabletest.All(durabletest.Write, "log/b", durabletest.Before, syscall.EIO))
	add(t, j, []byte("two")) // acknowledged by a alone
	_, set := j.Set()
	require.Equal(t, []string{"a"}, set)
	require.NoError(t, j.Close())
	fsys.SetFault(nil)
	opts := without(three(fsys), "a")
	j, err = journal.Open(opts)
	require.NoError(t, err)
	require.Error(t, j.ReadOnly(), "record two is on a alone, and b and c go on without it")
}

func fileThere(fsys durable.FS, name string) bool { _, err := fsys.Stat(name); return err == nil }

// The older segments of another way are set aside, not removed.
func TestLogSetAsideOlder(t *testing.T) {
	fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
	j := open(t, options(fsys))
	fill(t, j, 2)
	require.NoError(t, j.Close())
	// b goes its own way, as does a: an operator's word, twice.
	only := func(keep, lost string) journal.Options {
		o := without(options(fsys), lost)
		o.AssumeLost = []string{lost}
		_ = keep
		return o
	}
	jb := open(t, only("b", "a"))
	for jb.Last() < 60 {
		add(t, jb, []byte("b's own"), record(1, 3000))
	}
	require.NoError(t, jb.Close())
	ja := open(t, only("a", "b"))
	fill(t, ja, 9)
	n, err := ja.Trim(ja.Last())
	require.NoError(t, err)
	require.Positive(t, n)
	before := files(t, fsys, "log/b")
	require.NoError(t, ja.Join(t.Context(), options(fsys).Members[1]))
	names, err := fsys.List("log/b")
	require.NoError(t, err)
	for _, name := range before[2:] { // 3 and later are b's own
		found := false
		for _, x := range names {
			found = found || strings.HasPrefix(x, name+".") && strings.HasSuffix(x, ".aside")
		}
		require.True(t, found, "segment %s of b's way is gone", name)
	}
}

// A mark of another way does not shorten the log.
func TestLogSetMarkOfAnotherWay(t *testing.T) {
	fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
	j := open(t, options(fsys))
	fill(t, j, 4)
	// c was of another way of this log, in which more was trimmed
	require.NoError(t, fsys.MkdirAll("log/c"))
	require.NoError(t, durable.WriteFile(fsys, "log/c/trimmed", journal.EncodeCut(storeID, 7)))
	require.NoError(t, j.Join(t.Context(), memberC(fsys)))
	fill(t, j, 12)
	first := j.First()
	want := all(t, j, first)
	require.NoError(t, j.Close())
	j = open(t, three(fsys))
	got, err := collect(j, first)
	require.NoError(t, err)
	require.Equal(t, len(want), len(got))
}

// between is a context that calls a function when it is asked for its end for the n-th time.
type between struct {
	context.Context
	n  int
	do func()
}

func (c *between) Err() error {
	if c.n--; c.n == 0 {
		c.do()
	}
	return nil
}

// A join ends at Close, which says that nothing is changed any more.
func TestLogSetJoinAfterClose(t *testing.T) {
	fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
	j := open(t, options(fsys))
	fill(t, j, 6)
	n := 0
	require.ErrorIs(t, j.Join(&between{t.Context(), 2, func() { require.NoError(t, j.Close()); n = fsys.Count() }}, memberC(fsys)), fs.ErrClosed)
	require.Equal(t, n, fsys.Count())
}

// Every copy is given up and Create is set.
func TestLogSetAllGivenUp(t *testing.T) {
	fsys := durable.Mem(vfs.NewMem())
	j := open(t, options(fsys))
	add(t, j, []byte("one"))
	require.NoError(t, j.Close())
	opts := options(fsys)
	opts.AssumeLost = []string{"a", "b"}
	require.NotPanics(t, func() { _, err := journal.Open(opts); t.Log(err) })
}

// A join that fails for want of room seals no segments.
func TestLogSetJoinAgainAndAgain(t *testing.T) {
	fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
	j := open(t, options(fsys))
	fsys.SetFault(durabletest.All(durabletest.Create, "log/c", durabletest.Before, syscall.ENOSPC))
	for range 10 {
		add(t, j, []byte("one"))
		require.ErrorIs(t, j.Join(t.Context(), memberC(fsys)), durable.ErrNoSpace)
	}
	require.Less(t, len(j.Segments()), 4)
}

// A copy that was restored from a backup is stale, also where the newest segment is empty.
func TestLogSetStaleOlderSegment(t *testing.T) {
	fsys := durable.Mem(vfs.NewMem())
	j := open(t, three(fsys))
	for i := range 2 {
		add(t, j, record(i, 10))
	}
	copyDir(t, fsys, "log/b", "backup/b")
	for i := range 3 {
		add(t, j, record(i, 10))
	}
	want := all(t, j, 1)
	require.NoError(t, j.Leave("c")) // begins a segment, which stays empty
	require.NoError(t, j.Close())
	require.NoError(t, fsys.RemoveAll("log/b"))
	copyDir(t, fsys, "backup/b", "log/b")
	opts := without(three(fsys), "c")
	requireReadOnly(t, opts, want, "b")
}

// The same as TestLogSetBegunByJoinThenAlone with a power cut instead of a failed join.
func TestLogSetBegunByCrashThenAlone(t *testing.T) {
	m := vfs.NewCrashableMem()
	fsys := durabletest.New(durable.Mem(m), durabletest.Options{})
	opts := options(fsys)
	j := open(t, opts)
	add(t, j, []byte("one"))
	// The power is cut in the middle of a join: the header is on c, and on no other yet.
	var cut *vfs.MemFS
	fsys.SetFault(func(op durabletest.Op) *durabletest.Fault {
		if cut == nil && op.Kind.Changes() && strings.HasPrefix(op.Name, "log/a") && fileThere(durable.Mem(m), "log/c/0000000000000003.log") {
			cut = m.CrashClone(vfs.CrashCloneCfg{})
		}
		return nil
	})
	require.NoError(t, j.Join(t.Context(), memberC(fsys)))
	require.NotNil(t, cut)
	fsys = durabletest.New(durable.Mem(cut), durabletest.Options{})
	require.NoError(t, fsys.Rename("log/c", "away")) // that disk is away
	opts = options(fsys)
	j = open(t, opts)
	fsys.SetFault(durabletest.All(durabletest.Write, "log/b", durabletest.Before, syscall.EIO))
	add(t, j, []byte("two")) // acknowledged by a alone
	require.NoError(t, j.Close())
	fsys.SetFault(nil)
	require.NoError(t, fsys.Rename("away", "log/c"))
	j, err := journal.Open(without(three(fsys), "a"))
	require.NoError(t, err)
	require.Error(t, j.ReadOnly(), "record two is on a alone, and b and c go on without it")
}
