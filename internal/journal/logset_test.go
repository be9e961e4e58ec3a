package journal_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/durable/durabletest"
	"github.com/blockframe/blockframe/internal/journal"
)

// three returns options of a log with members a, b and c.
func three(fsys durable.FS) journal.Options {
	opts := options(fsys)
	opts.Members = append(opts.Members, memberC(fsys))
	return opts
}

func memberC(fsys durable.FS) journal.Member {
	return journal.Member{FS: fsys, Dir: "log/c", Name: "c"}
}

// without returns opts without a member.
func without(opts journal.Options, names ...string) journal.Options {
	opts.Members = slices.DeleteFunc(slices.Clone(opts.Members), func(m journal.Member) bool { return slices.Contains(names, m.Name) })
	return opts
}

func requireSet(t testing.TB, j *journal.Journal, epoch uint64, names ...string) {
	t.Helper()
	e, set := j.Set()
	require.Equal(t, epoch, e)
	require.ElementsMatch(t, names, set)
}

// A member that fails while the log is open leaves the set, and the record is
// acknowledged by the others; two of three members open the log; the one that comes back
// is stale, is told so, and joins again with all that it missed.
func TestMemberLeavesAndReturns(t *testing.T) {
	for _, kind := range []durabletest.Kind{durabletest.Write, durabletest.Sync, durabletest.Rename} {
		t.Run(string(kind), func(t *testing.T) {
			fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
			opts, lost := three(fsys), 0
			opts.Left = func(name string) {
				require.Equal(t, "c", name)
				lost++
			}
			j := open(t, opts)
			requireSet(t, j, 1, "a", "b", "c")
			var want [][]byte
			more := func(n int) {
				for range n {
					want = append(want, record(len(want), 500))
					add(t, j, want[len(want)-1])
				}
			}
			more(3)
			fsys.SetFault(durabletest.All(kind, "log/c/", durabletest.Before, syscall.EIO))
			more(perSegment)
			fsys.SetFault(nil)
			requireSet(t, j, 2, "a", "b")
			require.Equal(t, 1, lost)
			require.Len(t, j.Others(), 1)
			more(2 * perSegment)
			j = reopen(t, j, opts)
			require.Equal(t, want, all(t, j, 1))
			requireSet(t, j, 2, "a", "b")
			require.Equal(t, "c", j.Others()[0].Name)

			require.ErrorIs(t, j.Join(context.Background(), opts.Members[0]), fs.ErrExist)
			require.NoError(t, j.Join(context.Background(), opts.Members[2]))
			requireSet(t, j, 3, "a", "b", "c")
			require.Empty(t, j.Others())
			more(2)
			require.Empty(t, j.Repairs(), "what a new member lacks is no damage")
			require.NoError(t, j.Close())
			for _, s := range []string{"a", "b"} { // c has all of it
				j = open(t, without(opts, s))
				require.Equal(t, want, all(t, j, 1))
				require.NoError(t, j.Close())
				j = open(t, opts)
				require.NoError(t, j.Join(context.Background(), opts.Members[slices.Index([]string{"a", "b"}, s)]))
				require.NoError(t, j.Close())
			}
		})
	}
}

// Of two members one that is missing is needed: it may have gone on alone. An operator can
// give it up.
func TestAssumeLost(t *testing.T) {
	fsys := durable.Mem(vfs.NewMem())
	want := longLog(t, fsys)
	opts := options(fsys)
	requireReadOnly(t, without(opts, "b"), want, "b")
	given := without(opts, "b")
	given.AssumeLost = []string{"b"}
	j := open(t, given)
	requireSet(t, j, 2, "a")
	require.Equal(t, want, all(t, j, 1))
	add(t, j, []byte("alone"))
	want = append(want, []byte("alone"))
	require.NoError(t, j.Close())

	j = open(t, opts) // b is there again, and stale: its word is not needed any more
	requireSet(t, j, 2, "a")
	require.NoError(t, j.Join(context.Background(), opts.Members[1]))
	require.NoError(t, j.Close())
	j = open(t, opts)
	requireSet(t, j, 3, "a", "b")
	require.Equal(t, want, all(t, j, 1))
}

// An operator who gives up a member that is there is taken at his word: it is not read.
// One who gives up one of three does not do without a second one.
func TestAssumeLostOfThree(t *testing.T) {
	fsys := durable.Mem(vfs.NewMem())
	opts := three(fsys)
	j := open(t, opts)
	add(t, j, []byte("one"))
	require.NoError(t, j.Close())
	opts.AssumeLost = []string{"c"}
	requireReadOnly(t, without(opts, "b"), [][]byte{[]byte("one")}, "b")
	j = open(t, opts)
	requireSet(t, j, 2, "a", "b")
}

// Two that each went on alone: which one is right only an operator can say. The other way
// is set aside, not removed, when its disk joins again.
func TestDivergedChosen(t *testing.T) {
	fsys := durable.Mem(vfs.NewMem())
	common := longLog(t, fsys)
	opts := options(fsys)
	alone := map[string]string{"a": "b", "b": "a"}
	for name, other := range alone {
		o := without(opts, other)
		o.AssumeLost = []string{other}
		j := open(t, o)
		add(t, j, []byte("only "+name))
		require.NoError(t, j.Close())
	}
	_, err := journal.Open(opts)
	require.ErrorIs(t, err, journal.ErrDiverged)
	require.ErrorContains(t, err, "member a has segment")
	theirs := readFile(t, fsys, "log/b/0000000000000003.log")

	o := opts
	o.AssumeLost = []string{"b"}
	j := open(t, o)
	require.Equal(t, append(slices.Clone(common), []byte("only a")), all(t, j, 1))
	require.NoError(t, j.Join(context.Background(), opts.Members[1]))
	add(t, j, []byte("both"))
	require.NoError(t, j.Close())
	require.Equal(t, theirs, readFile(t, fsys, "log/b/0000000000000003.log.1.aside"))
	j = open(t, opts)
	require.Equal(t, append(slices.Clone(common), []byte("only a"), []byte("both")), all(t, j, 1))
}

// A frame that only a member got which then was left behind was never acknowledged: it
// goes aside.
func TestFrameOfOneAlone(t *testing.T) {
	m := vfs.NewCrashableMem()
	var img *vfs.MemFS
	fsys := durabletest.New(durable.Mem(m), durabletest.Options{After: func(op durabletest.Op) {
		if op.Kind == durabletest.Sync && op.Name == "log/a/0000000000000001.log" {
			img = m.CrashClone(vfs.CrashCloneCfg{})
		}
	}})
	j := open(t, three(fsys))
	add(t, j, []byte("one"))
	_, err := j.Append([][]byte{[]byte("on a alone")})
	require.NoError(t, err)
	disks := durable.Mem(img) // as after the sync of a
	j = open(t, without(three(disks), "a"))
	require.Equal(t, [][]byte{[]byte("one")}, all(t, j, 1))
	add(t, j, []byte("two"))
	require.NoError(t, j.Close())
	j = open(t, three(disks))
	requireSet(t, j, 2, "b", "c")
	require.NoError(t, j.Join(context.Background(), three(disks).Members[0]))
	require.Equal(t, [][]byte{[]byte("one"), []byte("two")}, all(t, j, 1))
	names, err := disks.List("log/a")
	require.NoError(t, err)
	require.Contains(t, names, "0000000000000001.log.1.aside")
}

// Leave: not the last one, nor one of fewer than Options.Least.
func TestLeave(t *testing.T) {
	fsys := durable.Mem(vfs.NewMem())
	opts := three(fsys)
	j := open(t, opts)
	add(t, j, []byte("one"))
	require.ErrorIs(t, j.Leave("d"), fs.ErrNotExist)
	require.NoError(t, j.Leave("a"))
	add(t, j, []byte("two"))
	require.NoError(t, j.Leave("c"))
	require.ErrorIs(t, j.Leave("b"), fs.ErrInvalid)
	add(t, j, []byte("three"))
	require.NoError(t, j.Close())
	j = open(t, without(opts, "a", "c"))
	requireSet(t, j, 3, "b")
	require.Len(t, all(t, j, 1), 3)
	require.NoError(t, j.Close())
	requireReadOnly(t, without(opts, "b", "c"), [][]byte{[]byte("one")}, "b") // a alone
}

// What joins must be of the store, and have room; otherwise all is as before.
func TestJoinRefused(t *testing.T) {
	fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
	other := options(fsys)
	other.StoreID[0]++
	other.Members = []journal.Member{{FS: fsys, Dir: "log/c", Name: "c"}}
	require.NoError(t, open(t, other).Close())
	want := longLog(t, fsys)
	j := open(t, options(fsys))
	err := j.Join(context.Background(), memberC(fsys))
	require.ErrorIs(t, err, fs.ErrInvalid)
	require.ErrorContains(t, err, "belongs to store")
	require.NoError(t, fsys.RemoveAll("log/c"))

	for _, kind := range []durabletest.Kind{durabletest.Create, durabletest.Write, durabletest.Sync, durabletest.Rename, durabletest.SyncDir} {
		for _, cause := range []error{syscall.ENOSPC, syscall.EIO} {
			fsys.SetFault(durabletest.All(kind, "log/c", durabletest.Before, cause))
			require.ErrorIs(t, j.Join(context.Background(), memberC(fsys)), cause)
			fsys.SetFault(nil)
			require.NoError(t, j.ReadOnly())
			requireSet(t, j, 1, "a", "b")
			want = append(want, record(len(want), 10))
			add(t, j, want[len(want)-1])
		}
	}
	require.NoError(t, j.Join(context.Background(), memberC(fsys)))
	require.Equal(t, want, all(t, j, 1))
}

// Records go on while a member joins, and it has all of them.
func TestJoinBesideAppend(t *testing.T) {
	fsys := durable.Mem(vfs.NewMem())
	opts := options(fsys)
	opts.Sequential = false
	j := open(t, opts)
	var want [][]byte
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 300 {
			want = append(want, record(i, 900))
			if _, err := j.Append(want[i : i+1]); err != nil {
				t.Error(err)
				return
			}
		}
	})
	c := memberC(fsys)
	for range 6 {
		require.NoError(t, j.Join(context.Background(), c))
		_, err := j.Verify(t.Context())
		require.NoError(t, err)
		require.NoError(t, j.Leave("c"))
	}
	require.NoError(t, j.Join(context.Background(), c))
	wg.Wait()
	require.NoError(t, j.Close())
	j = open(t, without(three(fsys), "a"))
	require.Equal(t, want, all(t, j, 1))
}

// A power cut at every operation while a member that was left behind joins.
func TestCrashInJoin(t *testing.T) {
	m := vfs.NewCrashableMem()
	fsys := durable.Mem(m)
	opts := three(fsys)
	j := open(t, opts)
	var want [][]byte
	more := func(j *journal.Journal, n int) {
		for range n {
			want = append(want, record(len(want), 500))
			add(t, j, want[len(want)-1])
		}
	}
	more(j, perSegment+2)
	require.NoError(t, j.Leave("c"))
	more(j, perSegment+2)
	require.NoError(t, j.Close())
	images := 0
	visit := func(img durabletest.Image) {
		images++
		what := fmt.Sprintf("after %d %s, seed %d", img.Op.N, img.Op, img.Seed)
		disks := durable.Mem(img.FS)
		j, err := journal.Open(three(disks))
		require.NoError(t, err, what)
		require.NoError(t, j.ReadOnly(), what)
		require.Equal(t, want, all(t, j, 1), what)
		if _, set := j.Set(); len(set) == 2 {
			require.NoError(t, j.Join(context.Background(), memberC(disks)), what)
		}
		require.NoError(t, j.Close())
		j, err = journal.Open(without(three(disks), "b"))
		require.NoError(t, err, what)
		require.NoError(t, j.ReadOnly(), what)
		require.Equal(t, want, all(t, j, 1), what)
		require.NoError(t, j.Close())
	}
	hooked := durabletest.New(fsys, durabletest.Options{After: durabletest.Crashes(m, 2, visit)})
	j = open(t, three(hooked))
	require.NoError(t, j.Join(context.Background(), memberC(hooked)))
	require.Greater(t, images, 60)
}

// Disks at random over a long time: they fail, are absent, or are restored from an older
// copy, one at a time, beside power cuts. What a program was promised stays; where a
// restored disk is needed, an operator gives it up.
func TestLongLife(t *testing.T) {
	lives := 60
	if testing.Short() {
		lives = 6
	}
	if heavy() {
		lives = 3000
	}
	seed := rand.Uint64()
	for i := range lives {
		l := &life{TB: t, world: newWorld(t), rng: rand.New(rand.NewPCG(seed+uint64(i), 1)), what: fmt.Sprintf("seed %d", seed+uint64(i))}
		for range 40 {
			l.day()
		}
		require.Greater(t, len(l.must), 10, l.what)
	}
}

type life struct {
	testing.TB
	*world
	rng    *rand.Rand
	what   string
	backup *vfs.MemFS
	whole  bool   // all three were in the set at the end of the day before
	lost   string // restored since, or ""
}

// day opens the log on some disks, once or twice, appends, and ends, perhaps in the dark.
func (l *life) day() {
	fsys := durabletest.New(durable.Mem(l.disks), durabletest.Options{})
	if l.backup == nil || l.rng.IntN(6) == 0 {
		l.backup = l.disks.CrashClone(vfs.CrashCloneCfg{})
	}
	there := slices.Clone(diskNames)
	l.rng.Shuffle(3, func(i, k int) { there[i], there[k] = there[k], there[i] })
	switch l.rng.IntN(4) {
	case 0:
		there = there[1:]
	case 1:
		if l.whole {
			l.restore(fsys, there[0])
		}
	}
	opts := l.options(fsys, there)
	j, err := journal.Open(opts)
	if err == nil && j.ReadOnly() != nil && l.lost != "" && slices.Contains(there, l.lost) {
		require.NoError(l, j.Close())
		opts.AssumeLost = []string{l.lost}
		j, err = journal.Open(opts)
	}
	l.whole = false
	if err != nil {
		require.True(l, errors.Is(err, journal.ErrDiverged) || errors.Is(err, fs.ErrNotExist), "%s: %v", l.what, err)
		return
	}
	require.NoError(l, l.check(j), l.what)
	if j.ReadOnly() == nil {
		l.work(fsys, j, there)
	}
	left := l.disks.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: l.rng.IntN(2) * 50, RNG: l.rng})
	require.NoError(l, j.Close(), l.what)
	if l.rng.IntN(2) == 0 {
		left = l.disks.CrashClone(vfs.CrashCloneCfg{})
	}
	l.disks = left
}

// restore puts the copy of the backup in the place of a disk.
func (l *life) restore(fsys durable.FS, disk string) {
	old := durable.Mem(l.backup)
	names, err := old.List("log/" + disk)
	require.NoError(l, err)
	require.NoError(l, fsys.RemoveAll("log/"+disk))
	require.NoError(l, fsys.MkdirAll("log/"+disk))
	for _, n := range names {
		require.NoError(l, durable.WriteFile(fsys, "log/"+disk+"/"+n, readFile(l, old, "log/"+disk+"/"+n)))
	}
	l.lost = disk
}

// work joins whoever is there, and appends until something fails, or not.
func (l *life) work(fsys *durabletest.FS, j *journal.Journal, there []string) {
	if len(l.must) < int(j.Last()) {
		l.must = append(slices.Clone(l.must), l.may)
	}
	l.may = nil
	for _, d := range there {
		if _, set := j.Set(); !slices.Contains(set, d) {
			require.NoError(l, j.Join(context.Background(), journal.Member{FS: fsys, Dir: "log/" + d, Name: d}), l.what)
		}
	}
	for range l.rng.IntN(6) {
		l.may = fmt.Appendf(nil, "record %d", l.rng.Uint64())
		if l.rng.IntN(8) == 0 {
			fsys.SetFault(durabletest.All(durabletest.Sync, "log/"+diskNames[l.rng.IntN(3)]+"/", durabletest.After, syscall.EIO))
		}
		if _, err := j.Append([][]byte{l.may}); err != nil {
			break
		}
		l.must, l.may = append(slices.Clone(l.must), l.may), nil
	}
	fsys.SetFault(nil)
	if j.ReadOnly() == nil && l.rng.IntN(3) == 0 { // a snapshot, and later the log without what it covers
		_, err := j.Trim(j.Snapshot().Index)
		require.NoError(l, err, l.what)
		j.SetSnapshot(journal.Snapshot{ID: [32]byte{1}, Index: j.Last()})
	}
	_, set := j.Set()
	if l.whole = len(set) == 3; l.whole {
		l.lost = ""
	}
}
