package blockframe_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
)

// shelf of disks: a store on so many directories in a code of 2+1, whose log is on the
// first two, and what it holds.
func disked(t *testing.T, n int) (*blockframe.Store, []string, map[string][]byte) {
	t.Helper()
	list := dirs(t, n)
	st := open(t, blockframe.Options{Dirs: list, Code: blockframe.Code{K: 2, M: 1}, NoRepair: true})
	want := map[string][]byte{}
	for i, size := range []int{0, 1000, 50_000, 300_000, 700_000, 2_000_001, 3_000_000} {
		name := fmt.Sprintf("in/f%d", i)
		want[name] = content(byte(i), size)
		put(t, st, name, want[name])
	}
	require.NoError(t, st.PackInline(context.Background()))
	return st, list, want
}

// diskAt returns the disk of a directory.
func diskAt(t testing.TB, st *blockframe.Store, dir string) blockframe.Disk {
	t.Helper()
	for _, d := range append(st.Disks(context.Background()), st.FormerDisks(context.Background())...) {
		if d.Path == filepath.ToSlash(dir) {
			return d
		}
	}
	t.Fatalf("no disk %s", dir)
	return blockframe.Disk{}
}

// requireSound compares every byte, and wants a deep scrub to find nothing.
func requireSound(t *testing.T, st *blockframe.Store, want map[string][]byte) {
	t.Helper()
	requireAll(t, st, want)
	rep, err := st.Scrub(context.Background(), blockframe.ScrubOptions{Deep: true})
	require.NoError(t, err)
	require.True(t, rep.Clean(), "%+v", rep)
}

// reopened closes a store and opens it on other directories.
func reopened(t *testing.T, st *blockframe.Store, list []string) *blockframe.Store {
	t.Helper()
	require.NoError(t, st.Close())
	return open(t, blockframe.Options{Dirs: list, NoRepair: true, NoCreate: true})
}

// A disk is added, another one drained and removed; every byte is right all the time, and
// in the next Open with the new list. The old one is left as it is, and recognised.
func TestAddDrainRemove(t *testing.T) {
	ctx := context.Background()
	st, list, want := disked(t, 4)
	old, next := diskAt(t, st, list[3]), list[3]+"-new"
	require.Equal(t, blockframe.DiskActive, old.State)
	require.Positive(t, old.Shards)
	require.Positive(t, old.Bytes)

	_, err := st.RemoveDisk(ctx, old.ID, blockframe.RemoveOptions{})
	require.ErrorIs(t, err, blockframe.ErrConflict, "it holds something")
	fresh, err := st.AddDisk(ctx, next)
	require.NoError(t, err)
	require.Equal(t, blockframe.DiskActive, fresh.State)
	again, err := st.AddDisk(ctx, next)
	require.NoError(t, err)
	require.Equal(t, fresh.ID, again.ID)
	require.Len(t, st.Disks(ctx), 5)

	rep, err := st.DrainDisk(ctx, old.ID, blockframe.MoveOptions{})
	require.NoError(t, err)
	require.EqualValues(t, old.Shards, rep.Shards)
	require.Equal(t, old.Bytes, rep.Bytes)
	require.Equal(t, blockframe.DiskDraining, diskAt(t, st, list[3]).State)
	require.Zero(t, diskAt(t, st, list[3]).Shards)
	n, _ := shards(t, list[3:4])
	require.Zero(t, n)
	requireSound(t, st, want)

	st = reopened(t, st, append(list, next))
	require.Equal(t, blockframe.DiskDraining, diskAt(t, st, list[3]).State, "it is recorded")
	want["after"] = content(99, 900_000)
	put(t, st, "after", want["after"])
	require.Zero(t, diskAt(t, st, list[3]).Shards, "nothing new goes there")
	delete(want, "after")
	require.NoError(t, st.Delete(ctx, "after", blockframe.DeleteOptions{All: true}))
	_, err = st.RemoveDisk(ctx, old.ID, blockframe.RemoveOptions{})
	require.NoError(t, err)
	require.Len(t, st.Disks(ctx), 4)
	requireSound(t, st, want)
	_, err = st.AddDisk(ctx, list[3])
	require.ErrorIs(t, err, blockframe.ErrFormerDisk)
	_, err = st.DrainDisk(ctx, old.ID, blockframe.MoveOptions{})
	require.ErrorIs(t, err, fs.ErrNotExist)

	// With the old directory still in the list it is named, and not used.
	st = reopened(t, st, append(list, next))
	require.Len(t, st.Disks(ctx), 4)
	former := st.FormerDisks(ctx)
	require.Len(t, former, 1)
	require.Equal(t, blockframe.DiskRemoved, former[0].State)
	require.ErrorIs(t, former[0].Err, blockframe.ErrFormerDisk)
	requireSound(t, st, want)
	st = reopened(t, st, append(list[:3:3], next))
	require.Empty(t, st.FormerDisks(ctx))
	require.NoError(t, st.ReadOnly())
	requireSound(t, st, want)
}

// What is not a new disk is refused, and left as it is: foreign content, a disk of
// another store, an empty mount point of a disk that is absent, a copy of a disk.
func TestAddDiskRefuses(t *testing.T) {
	ctx := context.Background()
	st, list, want := disked(t, 4)
	foreign := filepath.Join(t.TempDir(), "photos")
	require.NoError(t, os.MkdirAll(foreign, 0o777))
	require.NoError(t, os.WriteFile(filepath.Join(foreign, "cat.jpg"), []byte("cat"), 0o666))
	_, err := st.AddDisk(ctx, foreign)
	require.ErrorIs(t, err, fs.ErrExist)
	left, err := os.ReadDir(foreign)
	require.NoError(t, err)
	require.Len(t, left, 1)

	other := dirs(t, 1)
	require.NoError(t, open(t, blockframe.Options{Dirs: other}).Close())
	_, err = st.AddDisk(ctx, other[0])
	require.ErrorIs(t, err, fs.ErrExist)
	require.ErrorContains(t, err, "belongs to store")

	twin := filepath.Join(t.TempDir(), "twin")
	require.NoError(t, os.CopyFS(twin, os.DirFS(list[3])))
	_, err = st.AddDisk(ctx, twin)
	require.ErrorIs(t, err, fs.ErrInvalid)
	_, err = st.AddDisk(ctx, list[3])
	require.NoError(t, err, "it is there")

	// A disk goes, and its mount point is empty: it is missing, never adopted.
	aside := list[3] + ".aside"
	require.NoError(t, st.Close())
	require.NoError(t, os.Rename(list[3], aside))
	require.NoError(t, os.Mkdir(list[3], 0o777))
	st = open(t, blockframe.Options{Dirs: list, NoRepair: true})
	require.Equal(t, blockframe.DiskAbsent, diskAt(t, st, list[3]).State)
	_, err = st.AddDisk(ctx, list[3])
	require.ErrorIs(t, err, fs.ErrExist)
	require.ErrorContains(t, err, "absent")
	left, err = os.ReadDir(list[3])
	require.NoError(t, err)
	require.Empty(t, left)
	requireAll(t, st, want)

	// It comes back while the store is open, by another way: it is the disk again.
	back, err := st.AddDisk(ctx, aside)
	require.NoError(t, err)
	require.Positive(t, back.Shards)
	require.Len(t, st.Disks(ctx), 4)
	_, err = st.Repair(ctx)
	require.NoError(t, err)
	requireSound(t, st, want)
}

// A disk dies and is given up: what it held is made anew on the others. It comes back,
// and is neither wiped nor used. // T14
func TestRemoveLost(t *testing.T) {
	ctx := context.Background()
	st, list, want := disked(t, 4)
	dead := diskAt(t, st, list[3])
	require.NoError(t, st.Close())
	aside := list[3] + ".aside"
	require.NoError(t, os.Rename(list[3], aside))
	was, _ := shards(t, []string{aside})
	st = open(t, blockframe.Options{Dirs: list, NoRepair: true})
	require.Equal(t, blockframe.DiskAbsent, diskAt(t, st, list[3]).State)
	requireAll(t, st, want)
	require.Equal(t, dead.Shards, diskAt(t, st, list[3]).Shards, "it is not lost until somebody says so")

	rep, err := st.RemoveDisk(ctx, dead.ID, blockframe.RemoveOptions{Lost: true})
	require.NoError(t, err)
	require.EqualValues(t, dead.Shards, rep.Shards)
	require.Empty(t, st.FormerDisks(ctx))
	requireSound(t, st, want)
	require.Zero(t, st.Stats().Queued)

	require.NoError(t, os.Rename(aside, list[3]))
	st = reopened(t, st, list)
	require.Len(t, st.Disks(ctx), 3)
	require.Equal(t, blockframe.DiskLost, diskAt(t, st, list[3]).State)
	_, err = st.AddDisk(ctx, list[3])
	require.ErrorIs(t, err, blockframe.ErrFormerDisk)
	_, err = st.Collect(ctx, blockframe.CollectOptions{Unclaimed: true})
	require.NoError(t, err)
	n, _ := shards(t, list[3:])
	require.Equal(t, was, n, "nothing was removed from it")
	requireSound(t, st, want)
}

// With too few disks left for what a lost one held, that stays missing and is said; it is
// made anew when there is another disk.
func TestRemoveLostTooFew(t *testing.T) {
	ctx := context.Background()
	st, list, want := disked(t, 3)
	dead := diskAt(t, st, list[2])
	rep, err := st.RemoveDisk(ctx, dead.ID, blockframe.RemoveOptions{Lost: true})
	require.ErrorIs(t, err, blockframe.ErrTooFew)
	require.Positive(t, rep.Left)
	requireAll(t, st, want)
	former := st.FormerDisks(ctx)
	require.Len(t, former, 1)
	require.EqualValues(t, rep.Left, former[0].Missing)
	require.Positive(t, st.Stats().Queued)
	scrub, err := st.Scrub(ctx, blockframe.ScrubOptions{})
	require.NoError(t, err)
	require.False(t, scrub.Clean())
	require.NotEmpty(t, scrub.Degraded) // R15

	_, err = st.AddDisk(ctx, list[2]+"-new")
	require.NoError(t, err)
	left, err := st.Repair(ctx)
	require.NoError(t, err)
	require.Zero(t, left.Left, "%v", left.Errs)
	require.Empty(t, st.FormerDisks(ctx))
	require.Zero(t, st.Stats().Queued)
	requireSound(t, st, want)
}

// A disk is replaced: while it is there its data moves; one that died is replaced by
// another at the same mount point.
func TestReplaceDisk(t *testing.T) {
	ctx := context.Background()
	st, list, want := disked(t, 3)
	old := diskAt(t, st, list[2])
	next := list[2] + "-new"
	rep, err := st.ReplaceDisk(ctx, old.ID, next, blockframe.MoveOptions{})
	require.NoError(t, err)
	require.EqualValues(t, old.Shards, rep.Shards)
	require.Zero(t, rep.Computed)
	require.Len(t, st.Disks(ctx), 3)
	require.Equal(t, old.Shards, diskAt(t, st, next).Shards)
	requireSound(t, st, want)

	require.NoError(t, st.Close())
	require.NoError(t, os.RemoveAll(next))
	require.NoError(t, os.Mkdir(next, 0o777))
	st = open(t, blockframe.Options{Dirs: append(list[:2:2], next), NoRepair: true})
	dead := diskAt(t, st, next)
	require.Equal(t, blockframe.DiskAbsent, dead.State)
	rep, err = st.ReplaceDisk(ctx, dead.ID, next, blockframe.MoveOptions{})
	require.NoError(t, err)
	require.Positive(t, rep.Computed)
	require.NotEqual(t, dead.ID, diskAt(t, st, next).ID)
	requireSound(t, st, want)
	st = reopened(t, st, append(list[:2:2], next))
	requireSound(t, st, want)
	require.NoError(t, st.ReadOnly())
}

// A disk with a copy of the log, and with the index, is removed like any other: another
// one takes the copy first. One that holds shards stays, and so does its copy.
func TestLogDiskRemoved(t *testing.T) {
	ctx := context.Background()
	st, list, want := disked(t, 5)
	copies := logs(st)
	require.Greater(t, copies, 1)
	old := diskAt(t, st, list[0])
	require.True(t, old.Log)
	require.DirExists(t, filepath.Join(list[0], "view"))
	_, err := st.RemoveDisk(ctx, old.ID, blockframe.RemoveOptions{})
	require.ErrorIs(t, err, blockframe.ErrConflict)
	require.True(t, diskAt(t, st, list[0]).Log)

	_, err = st.DrainDisk(ctx, old.ID, blockframe.MoveOptions{})
	require.NoError(t, err)
	_, err = st.RemoveDisk(ctx, old.ID, blockframe.RemoveOptions{})
	require.NoError(t, err)
	require.Equal(t, copies, logs(st))
	requireSound(t, st, want)
	require.NoError(t, st.Close())
	require.NoError(t, os.RemoveAll(list[0]))
	st = reopened(t, st, list[1:])
	require.NoError(t, st.ReadOnly())
	requireSound(t, st, want)

	next := list[1] + "-new"
	_, err = st.ReplaceDisk(ctx, diskAt(t, st, list[1]).ID, next, blockframe.MoveOptions{})
	require.NoError(t, err)
	require.Equal(t, copies, logs(st))
	require.NoError(t, st.Close())
	require.NoError(t, os.RemoveAll(list[1]))
	st = reopened(t, st, append(list[2:len(list):len(list)], next))
	require.NoError(t, st.ReadOnly())
	requireSound(t, st, want)
}

// The only directory with the log stays, as long as no other takes a copy.
func TestOnlyLogStays(t *testing.T) {
	st := fresh(t, 1)
	_, err := st.RemoveDisk(context.Background(), st.Disks(context.Background())[0].ID, blockframe.RemoveOptions{Lost: true})
	require.ErrorIs(t, err, blockframe.ErrHoldsLog)
}

// The last disk that takes anything is not drained.
func TestDrainLast(t *testing.T) {
	ctx := context.Background()
	st := fresh(t, 1)
	_, err := st.DrainDisk(ctx, st.Disks(ctx)[0].ID, blockframe.MoveOptions{})
	require.ErrorIs(t, err, blockframe.ErrTooFew)
	put(t, st, "a", content(1, 500_000))
}

// Nor is it removed: a store whose disks are all draining could write nothing.
func TestRemoveLastActive(t *testing.T) {
	ctx := context.Background()
	st := fresh(t, 3)
	put(t, st, "a", content(1, 500_000))
	disks := st.Disks(ctx)
	for _, d := range disks[:2] {
		_, _ = st.DrainDisk(ctx, d.ID, blockframe.MoveOptions{}) // what may go nowhere stays
	}
	_, err := st.RemoveDisk(ctx, disks[2].ID, blockframe.RemoveOptions{Lost: true})
	require.ErrorIs(t, err, blockframe.ErrTooFew)
	put(t, st, "b", content(2, 500_000))
}

// After a disk was added, Rebalance fills it; nothing else changes.
func TestRebalance(t *testing.T) {
	st, list, want := disked(t, 3)
	_, err := st.AddDisk(context.Background(), list[0]+"-new")
	require.NoError(t, err)
	dry, err := st.Rebalance(context.Background(), blockframe.MoveOptions{DryRun: true})
	require.NoError(t, err)
	rep, err := st.Rebalance(context.Background(), blockframe.MoveOptions{})
	require.NoError(t, err)
	require.Equal(t, dry.Shards, rep.Shards, "they share one filesystem: all are as full")
	requireSound(t, st, want)
}

// Disks are added, replaced and given up while others put, read, scrub, and ask how things
// are. Run by the race detector; every byte is compared. // T14
func TestDisksChangeInUse(t *testing.T) {
	st, list, want := disked(t, 4)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	loop := func(f func(i int) error) {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if err := f(i); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	held := maps.Clone(want)
	loop(func(i int) error {
		name := fmt.Sprintf("in/f%d", i%7)
		requireBytes(t, held[name], get(t, st, name, 0), name)
		return nil
	})
	var puts sync.Map
	loop(func(i int) error {
		if i == 25 {
			<-ctx.Done()
			return nil
		}
		data := content(byte(100+i), 250_000+i*10_000)
		_, err := st.Put(ctx, fmt.Sprintf("in/p%d", i), bytes.NewReader(data), blockframe.PutOptions{})
		if errors.Is(err, blockframe.ErrConflict) {
			return nil // its disk was taken off under it
		}
		if err == nil {
			puts.Store(fmt.Sprintf("in/p%d", i), data)
		}
		return err
	})
	loop(func(int) error { _, err := st.Scrub(ctx, blockframe.ScrubOptions{}); return err })
	loop(func(int) error {
		st.Disks(ctx)
		st.FormerDisks(ctx)
		st.Survives()
		_, err := st.Tolerance(ctx)
		return errors.Join(err, st.ReadOnly())
	})
	at := list[3]
	for i := range 3 {
		next := fmt.Sprintf("%s-%d", list[3], i)
		for {
			_, err := st.ReplaceDisk(ctx, diskAt(t, st, at).ID, next, blockframe.MoveOptions{})
			if err == nil {
				break
			}
			require.ErrorIs(t, err, blockframe.ErrConflict) // a put had begun there
		}
		at = next
	}
	_, err := st.AddDisk(ctx, at+"-more")
	require.NoError(t, err)
	_, err = st.RemoveDisk(ctx, diskAt(t, st, at).ID, blockframe.RemoveOptions{Lost: true})
	require.NoError(t, err)
	cancel()
	wg.Wait()
	puts.Range(func(name, data any) bool { want[name.(string)] = data.([]byte); return true })
	for name, data := range want {
		requireBytes(t, data, get(t, st, name, 0), name)
	}
	_, err = st.Repair(context.Background())
	require.NoError(t, err)
	rep, err := st.Scrub(context.Background(), blockframe.ScrubOptions{Deep: true})
	require.NoError(t, err)
	require.True(t, rep.Clean(), "%+v", rep)
}
