package journal_test

import (
	"bytes"
	"errors"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/durable/durabletest"
	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/internal/journal"
)

// requireReadOnly checks that the log serves want, names the member and takes
// nothing.
func requireReadOnly(t testing.TB, opts journal.Options, want [][]byte, member string) {
	t.Helper()
	j, err := journal.Open(opts)
	require.NoError(t, err)
	defer j.Close()
	require.ErrorIs(t, j.ReadOnly(), journal.ErrReadOnly)
	require.ErrorContains(t, j.ReadOnly(), "log member "+member)
	require.Equal(t, want, all(t, j, 1))
	_, err = j.Append([][]byte{{1}})
	require.ErrorIs(t, err, journal.ErrReadOnly)
	require.NotErrorIs(t, err, journal.ErrUncertain)
	require.ErrorIs(t, j.Prove(), journal.ErrReadOnly)
	rep, err := j.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, rep.Lost)
}

// copyDir copies the files of a directory, which must not exist.
func copyDir(t testing.TB, fsys durable.FS, from, to string) {
	t.Helper()
	names, err := fsys.List(from)
	require.NoError(t, err)
	require.NoError(t, fsys.MkdirAll(to))
	for _, n := range names {
		require.NoError(t, durable.WriteFile(fsys, to+"/"+n, readFile(t, fsys, from+"/"+n)))
	}
}

// A member that is missing, empty, stale, of another store or unreadable makes
// the log read-only, is named, and is left as it is.
func TestMemberNotWhole(t *testing.T) {
	eio := func(kind durabletest.Kind) func(durabletest.Op) *durabletest.Fault {
		return durabletest.All(kind, "log/b", durabletest.Before, syscall.EIO)
	}
	for name, c := range map[string]struct {
		change func(t *testing.T, fsys *durabletest.FS, opts *journal.Options)
		says   string
	}{
		"missing": {func(t *testing.T, fsys *durabletest.FS, _ *journal.Options) {
			require.NoError(t, fsys.RemoveAll("log/b"))
		}, "missing or empty"},
		"missing, create not set": {func(t *testing.T, fsys *durabletest.FS, o *journal.Options) {
			require.NoError(t, fsys.RemoveAll("log/b"))
			o.Create = false
		}, "missing or empty"},
		"empty": {func(t *testing.T, fsys *durabletest.FS, _ *journal.Options) {
			require.NoError(t, fsys.RemoveAll("log/b"))
			require.NoError(t, fsys.MkdirAll("log/b"))
		}, "missing or empty"},
		"stale": {func(t *testing.T, fsys *durabletest.FS, _ *journal.Options) {
			require.NoError(t, fsys.RemoveAll("log/b"))
			copyDir(t, fsys, "old", "log/b")
		}, "stale"},
		"stale by segments": {func(t *testing.T, fsys *durabletest.FS, _ *journal.Options) {
			require.NoError(t, fsys.Remove("log/b/0000000000000002.log"))
		}, "stale"},
		"of another store": {func(t *testing.T, fsys *durabletest.FS, _ *journal.Options) {
			require.NoError(t, fsys.RemoveAll("log/b"))
			copyDir(t, fsys, "other", "log/b")
		}, "belongs to store 010203010000"},
		"not given": {func(_ *testing.T, _ *durabletest.FS, o *journal.Options) { o.Members = o.Members[:1] }, "no directory was given"},
		"unlistable": {func(_ *testing.T, fsys *durabletest.FS, _ *journal.Options) {
			fsys.SetFault(eio(durabletest.List))
		}, "input/output error"},
		"fails at the sync": {func(_ *testing.T, fsys *durabletest.FS, _ *journal.Options) {
			fsys.SetFault(eio(durabletest.Sync))
		}, "input/output error"},
		"fails at the open": {func(_ *testing.T, fsys *durabletest.FS, _ *journal.Options) {
			fsys.SetFault(eio(durabletest.Open))
		}, "input/output error"},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
			other := options(fsys)
			other.Members = []journal.Member{{FS: fsys, Dir: "other", Name: "b"}, {FS: fsys, Dir: "another", Name: "a"}}
			other.StoreID[3] = 1
			j := open(t, other)
			add(t, j, []byte("foreign"))
			require.NoError(t, j.Close())

			j = open(t, options(fsys))
			want := [][]byte{record(0, 9), record(1, 9), record(2, 9)}
			add(t, j, want[0])
			copyDir(t, fsys, "log/b", "old")
			add(t, j, want[1])
			for i := 3; i < 10; i++ {
				add(t, j, record(i-1, 9))
				want = append(want[:i-1], record(i-1, 9))
			}
			require.NoError(t, j.Close())

			copyDir(t, fsys, "log/b", "b.whole")
			opts := options(fsys)
			c.change(t, fsys, &opts)
			before, _ := fsys.List("log/b")
			requireReadOnly(t, opts, want, "b")
			j, err := journal.Open(opts)
			require.NoError(t, err)
			require.ErrorContains(t, j.ReadOnly(), c.says)
			require.NoError(t, j.Close())
			after, _ := fsys.List("log/b")
			require.Equal(t, before, after)

			// The member comes back whole.
			fsys.SetFault(nil)
			require.NoError(t, fsys.RemoveAll("log/b"))
			copyDir(t, fsys, "b.whole", "log/b")
			j = open(t, options(fsys))
			require.Equal(t, want, all(t, j, 1))
			add(t, j, []byte("more"))
		})
	}
}

func TestAllMembersMissing(t *testing.T) {
	fsys := durable.Mem(vfs.NewMem())
	longLog(t, fsys)
	opts := options(fsys)
	opts.StoreID[0]++ // every member is of another store: not a place to create one
	_, err := journal.Open(opts)
	require.ErrorContains(t, err, "belongs to store")
	opts = options(fsys)
	for i := range opts.Members {
		opts.Members[i].Name += "x"
	}
	_, err = journal.Open(opts)
	require.ErrorContains(t, err, "not in the log set")
}

// Swapped directories hold equal files: nothing happens.
func TestSwappedMembers(t *testing.T) {
	fsys := durable.Mem(vfs.NewMem())
	want := longLog(t, fsys)
	opts := options(fsys)
	opts.Members[0].Dir, opts.Members[1].Dir = opts.Members[1].Dir, opts.Members[0].Dir
	j := open(t, opts)
	require.Equal(t, want, all(t, j, 1))
	add(t, j, []byte("more"))
}

// Two copies that each went on alone are never merged nor overwritten.
func TestDiverged(t *testing.T) {
	for name, extra := range map[string][2]int{"same length": {1, 1}, "one longer": {1, 3}, "another segment": {1, 12}, "both": {12, 13}} {
		t.Run(name, func(t *testing.T) {
			var sides [2]durable.FS
			for i, n := range extra {
				sides[i] = durable.Mem(vfs.NewMem())
				opts := options(sides[i])
				opts.SetRandom(counting())
				j := open(t, opts)
				add(t, j, []byte("common"))
				for k := range n {
					add(t, j, record(100*i+k, 10))
				}
				require.NoError(t, j.Close())
			}
			opts := options(sides[0])
			opts.Members[1].FS = sides[1]
			var before [2][]byte
			for i := range sides {
				before[i] = readFile(t, sides[i], opts.Members[i].Dir+"/0000000000000001.log")
			}
			_, err := journal.Open(opts)
			require.ErrorIs(t, err, journal.ErrDiverged)
			for i := range sides {
				require.True(t, bytes.Equal(before[i], readFile(t, sides[i], opts.Members[i].Dir+"/0000000000000001.log")))
			}
		})
	}
}

// A member that fails with a frame under way, and cannot be done without: the outcome is
// unknown, nothing more is taken, and what was acknowledged is served.
func TestMemberFails(t *testing.T) {
	for _, kind := range []durabletest.Kind{durabletest.Write, durabletest.Sync} {
		fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
		opts := options(fsys)
		opts.Least = 2
		j := open(t, opts)
		add(t, j, []byte("one"))
		fsys.SetFault(durabletest.All(kind, "log/b/", durabletest.Before, syscall.EIO))
		_, err := j.Append([][]byte{[]byte("two")})
		require.ErrorIs(t, err, journal.ErrUncertain)
		require.ErrorIs(t, err, syscall.EIO)
		require.NotErrorIs(t, err, journal.ErrReadOnly)
		require.ErrorContains(t, err, "log member b")
		require.ErrorContains(t, j.ReadOnly(), "log member b")

		fsys.SetFault(nil)
		_, err = j.Append([][]byte{[]byte("three")})
		require.ErrorIs(t, err, journal.ErrReadOnly)
		require.NotErrorIs(t, err, journal.ErrUncertain)
		require.EqualValues(t, 1, j.Last())
		require.Equal(t, [][]byte{[]byte("one")}, all(t, j, 1))
		j = reopen(t, j, opts)
		require.Equal(t, [][]byte{[]byte("one"), []byte("two")}, all(t, j, 1))
	}
}

// A full disk is not a failed member: the frame is cut away, later ones fit.
func TestNoSpace(t *testing.T) {
	for _, kind := range []durabletest.Kind{durabletest.Write, durabletest.Sync} {
		for _, arm := range []durabletest.Arm{durabletest.Before, durabletest.After} {
			fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
			j := open(t, options(fsys))
			add(t, j, []byte("one"))
			once := true
			fsys.SetFault(func(op durabletest.Op) *durabletest.Fault {
				if op.Kind != kind || !once {
					return nil
				}
				once = false
				return &durabletest.Fault{Arm: arm, Err: syscall.ENOSPC}
			})
			_, err := j.Append([][]byte{record(1, 9000), record(2, 9000)})
			require.ErrorIs(t, err, durable.ErrNoSpace)
			require.NotErrorIs(t, err, journal.ErrUncertain)
			require.NoError(t, j.ReadOnly())
			require.Equal(t, [][]byte{[]byte("one")}, all(t, j, 1))
			add(t, j, []byte("two"))
			j = reopen(t, j, options(fsys))
			require.Equal(t, [][]byte{[]byte("one"), []byte("two")}, all(t, j, 1))
			require.Empty(t, j.Repairs())
		}
	}
}

// A disk with no room for the next segment, on either member: the log takes
// records again when there is room.
func TestNoSpaceForSegment(t *testing.T) {
	for _, dir := range []string{"log/a", "log/b"} {
		fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
		j := open(t, options(fsys))
		var want [][]byte
		fsys.SetFault(durabletest.All(durabletest.Create, dir, durabletest.Before, syscall.ENOSPC))
		for range perSegment {
			want = append(want, record(len(want), 10))
			add(t, j, want[len(want)-1])
		}
		for range 3 {
			_, err := j.Append([][]byte{[]byte("no room")})
			require.ErrorIs(t, err, durable.ErrNoSpace)
			require.NoError(t, j.ReadOnly())
		}
		require.Equal(t, want, all(t, j, 1))
		require.ErrorIs(t, j.Prove(), durable.ErrNoSpace)
		fsys.SetFault(nil)
		require.NoError(t, j.Prove())
		require.Len(t, j.Segments(), 2)
		want = append(want, []byte("room"))
		add(t, j, want[len(want)-1])
		j = reopen(t, j, options(fsys))
		require.Equal(t, want, all(t, j, 1))
	}
}

// A cut that fails as well leaves the outcome unknown.
func TestCutFails(t *testing.T) {
	fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
	j := open(t, options(fsys))
	fsys.SetFault(durabletest.All(durabletest.Write, "log/b/", durabletest.Before, syscall.ENOSPC))
	_, err := j.Append([][]byte{[]byte("one")})
	require.ErrorIs(t, err, journal.ErrUncertain)
	require.NotErrorIs(t, err, durable.ErrNoSpace)
	require.False(t, errors.Is(j.ReadOnly(), durable.ErrNoSpace))
}

// Inspection writes nothing, not even what Open would repair.
func TestReadOnlyOption(t *testing.T) {
	fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
	want := longLog(t, fsys)
	for i := range 2 {
		name, off := frameAt(3 + i*5)
		flip(t, fsys, "log/b/"+name, off*8)
	}
	fsys.Reset()
	opts := options(fsys)
	opts.ReadOnly = true
	j, err := journal.Open(opts)
	require.NoError(t, err)
	require.ErrorContains(t, j.ReadOnly(), "opened for reading")
	require.Equal(t, want, all(t, j, 1))
	rep, err := j.Verify(t.Context())
	require.NoError(t, err)
	require.Equal(t, 2, rep.Bad)
	require.NoError(t, j.Close())
	require.Empty(t, fsys.Log())
}

// The newest segment of a member removed while the log is open: frames still go
// to the file that has no name any more, so no more are taken.
func TestNewestSegmentRemoved(t *testing.T) {
	for name, notice := range map[string]func(*testing.T, *journal.Journal){
		"verify": func(t *testing.T, j *journal.Journal) {
			_, err := j.Verify(t.Context())
			require.ErrorIs(t, err, journal.ErrReadOnly)
		},
		"read": func(t *testing.T, j *journal.Journal) { require.Len(t, all(t, j, 1), 1) },
	} {
		t.Run(name, func(t *testing.T) {
			fsys := durable.Mem(vfs.NewMem())
			opts := options(fsys)
			opts.Least = 2
			j := open(t, opts)
			add(t, j, []byte("one"))
			require.NoError(t, fsys.Remove("log/a/0000000000000001.log"))
			notice(t, j)
			require.ErrorContains(t, j.ReadOnly(), "log member a: its newest segment 0000000000000001.log was removed while it was open")
			_, err := j.Append([][]byte{[]byte("two")})
			require.ErrorIs(t, err, journal.ErrReadOnly)
			require.Empty(t, j.Repairs())
			require.Equal(t, [][]byte{[]byte("one")}, all(t, j, 1))
			require.NoError(t, j.Close())
			requireReadOnly(t, options(fsys), [][]byte{[]byte("one")}, "a")
		})
	}
}

// A log opened without one of its members is not written to: what it shows of
// damage is needed when they are together again.
func TestMissingMemberChangesNothing(t *testing.T) {
	for name, without := range map[string]func(*testing.T, durable.FS, *journal.Options){
		"not given": func(_ *testing.T, _ durable.FS, o *journal.Options) { o.Members = o.Members[1:] },
		"away":      func(_ *testing.T, _ durable.FS, o *journal.Options) { o.Members[0].Dir = "elsewhere" },
	} {
		t.Run(name, func(t *testing.T) {
			fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
			want := longLog(t, fsys)
			segment, last := frameAt(9) // and the empty frame behind it
			patch(t, fsys, "log/b/"+segment, last, bytes.Repeat([]byte{0x55}, 2*frame.Grid))
			before := images(t, fsys)
			fsys.Reset()

			opts := options(fsys)
			without(t, fsys, &opts)
			requireReadOnly(t, opts, want[:9], "a")
			require.Empty(t, fsys.Log())
			require.Equal(t, before, images(t, fsys))

			j := open(t, options(fsys))
			require.Equal(t, want, all(t, j, 1))
			require.NotEmpty(t, j.Repairs())
			require.True(t, bytes.Equal(before["log/a/"+segment], readFile(t, fsys, "log/b/"+segment)))
		})
	}
}
