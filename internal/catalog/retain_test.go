package catalog_test

import (
	"fmt"
	"io/fs"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/catalog"
	"github.com/blockframe/blockframe/store"
)

const day = 24 * time.Hour

// pass lets time go by: on both clocks.
func (r *rig) pass(d time.Duration) { r.now, r.ran = r.now.Add(d), r.ran+d }

// TestRetention keeps a version for as long as it was asked to, and nothing else.
// R26: no setting of the clock makes that shorter by more than a day of downtime.
func TestRetention(t *testing.T) {
	r := memRig(t)
	r.ok(inline("n", "1", 1))
	r.ok(catalog.Retain{Name: "n", Until: r.now.Add(30 * day)})
	for _, c := range []store.Command{catalog.Purge{Name: "n", Version: 1}, catalog.Purge{Name: "n", All: true}, catalog.Rename{From: "n", To: "m"}} {
		require.ErrorContains(t, r.do(c).Err, "retained until "+r.now.Add(30*day).UTC().Format(time.RFC3339))
	}
	kept := func() {
		t.Helper()
		for _, c := range []store.Command{catalog.Purge{Name: "n", Version: 1}, catalog.Purge{Name: "n", All: true},
			catalog.Delete{Name: "n"}, catalog.Rename{From: "n", To: "m"}, catalog.SetAttr{Name: "n", Mask: catalog.SetMode}} {
			r.refused(catalog.ErrRetained, c)
		}
		r.object("n", 1)
	}
	kept()

	// The clock is set forward while the store is open, and back.
	r.now = r.now.Add(10 * 365 * day)
	kept()
	r.now = r.now.Add(-20 * 365 * day)
	kept()

	// It is set forward before the store is opened: a day, at most.
	r.now = r.now.Add(30 * 365 * day)
	r.reopen()
	kept()
	r.pass(28 * day)
	kept()

	// Once it has run for the time, it is over.
	r.pass(2 * day)
	r.ok(catalog.Purge{Name: "n", Version: 1})
	r.absent("n")
}

// TestRetentionAfterLag is asked for in the time of day, though the clock of
// retention is years behind.
func TestRetentionAfterLag(t *testing.T) {
	r := memRig(t)
	r.ok(inline("n", "1", 1))
	r.pass(3 * 365 * day)
	r.reopen()
	r.ok(inline("m", "2", 2))
	clock, now := r.cat.Clock()
	require.Greater(t, now.Sub(clock), 2*365*day)
	until := r.now.Add(10 * day)
	r.ok(catalog.Retain{Name: "m", Until: until})
	require.True(t, until.Equal(r.object("m", 0).RetainUntil))
	r.pass(9 * day)
	r.refused(catalog.ErrRetained, catalog.Purge{Name: "m", Version: 1})
	r.pass(day)
	r.ok(catalog.Purge{Name: "m", Version: 1})
}

// TestRetainOnlyExtends.
func TestRetainOnlyExtends(t *testing.T) {
	r := memRig(t)
	r.ok(inline("n", "1", 1))
	until := r.now.Add(30 * day)
	require.True(t, r.ok(catalog.Retain{Name: "n", Version: 1, Until: until}).Changed)
	r.refused(catalog.ErrRetained, catalog.Retain{Name: "n", Version: 1, Until: until.Add(-day)})
	require.True(t, r.ok(catalog.Retain{Name: "n", Until: until.Add(day)}).Changed)
	r.refused(fs.ErrNotExist, catalog.Retain{Name: "n", Version: 2, Until: until})
	r.refused(fs.ErrNotExist, catalog.Retain{Name: "x", Until: until})

	// A new version may come on top; it is free, the old one is not.
	r.ok(inline("n", "2", 2))
	r.ok(catalog.Delete{Name: "n"})
	r.ok(catalog.Purge{Name: "n", Version: 2})
	r.refused(catalog.ErrRetained, catalog.Purge{Name: "n", Version: 1})
	r.refused(catalog.ErrRetained, catalog.Purge{Name: "n", All: true})
	require.Equal(t, idOf("1"), r.object("n", 1).ID)
}

// TestHold keeps a version until it is lifted.
func TestHold(t *testing.T) {
	r := memRig(t)
	r.ok(inline("n", "1", 1))
	require.True(t, r.ok(catalog.Hold{Name: "n", On: true}).Changed)
	require.False(t, r.ok(catalog.Hold{Name: "n", Version: 1, On: true}).Changed)
	require.True(t, r.object("n", 0).Hold)
	r.refused(catalog.ErrRetained, catalog.Purge{Name: "n", Version: 1})
	r.refused(catalog.ErrRetained, catalog.Delete{Name: "n"})
	r.reopen()
	r.refused(catalog.ErrRetained, catalog.Delete{Name: "n"})
	r.ok(catalog.Hold{Name: "n"})
	r.ok(catalog.Delete{Name: "n"})
	r.refused(fs.ErrNotExist, catalog.Hold{Name: "n", Version: 2, On: true})
	r.ok(catalog.Mkdir{Name: "d"})
	r.refused(fs.ErrInvalid, catalog.Hold{Name: "d", On: true})
}

// TestLifeCycle takes an upload through all its states.
func TestLifeCycle(t *testing.T) {
	r := memRig(t, func(o *catalog.Options) { o.Grace = 7 * day })
	e := r.epoch()
	r.ok(located("n", "X", 500, 1, e))
	require.Equal(t, store.UploadLive, r.upload(1).State)
	require.False(t, r.ok(store.Kill{Upload: uid(1)}).Changed)

	// Deleted is not unreferenced; purged is.
	r.ok(catalog.Delete{Name: "n"})
	require.Equal(t, store.UploadLive, r.upload(1).State)
	r.ok(catalog.Purge{Name: "n", All: true})
	u := r.upload(1)
	require.Equal(t, store.UploadCondemned, u.State)
	require.Equal(t, 7*day, u.Until.Sub(r.cat.LogTime()))
	require.Zero(t, r.content("X").Refs)
	require.False(t, r.ok(store.Kill{Upload: uid(1)}).Changed)
	r.refused(catalog.ErrConflict, store.Forget{Upload: uid(1)})

	// Revived by a put of the same bytes, condemned again, killed in time.
	r.ok(located("m", "X", 500, 2, e))
	require.Equal(t, uid(1), r.content("X").Upload)
	require.Equal(t, store.UploadLive, r.upload(1).State)
	require.Equal(t, store.UploadCondemned, r.upload(2).State)
	r.ok(catalog.Purge{Name: "m", All: true})
	r.pass(7*day - time.Minute)
	require.False(t, r.ok(store.Kill{Upload: uid(1)}).Changed)
	r.pass(time.Minute)
	require.True(t, r.ok(store.Kill{Upload: uid(1)}).Changed)
	require.True(t, r.ok(store.Kill{Upload: uid(1)}).Changed, "is dead")
	_, err := r.cat.Content(ctx, idOf("X"))
	require.ErrorIs(t, err, fs.ErrNotExist)

	// Dead is final: a late put of the same upload fails, another is stored.
	r.refused(catalog.ErrExpired, located("m", "X", 500, 1, e))
	r.refused(fs.ErrNotExist, store.Replace{Extent: eid(1), To: store.Shard{Backend: bid(9), Generation: 1}})
	r.ok(located("m", "X", 500, 3, e))
	require.Equal(t, uid(3), r.content("X").Upload)
	require.True(t, r.ok(store.Forget{Upload: uid(1)}).Changed)
	require.False(t, r.ok(store.Forget{Upload: uid(1)}).Changed)
	_, err = r.cat.Upload(ctx, uid(1))
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = r.cat.Extent(ctx, eid(1))
	require.ErrorIs(t, err, fs.ErrNotExist)
	r.refused(fs.ErrNotExist, store.Kill{Upload: uid(1)})
}

// TestForgottenStaysDead refuses the repetition of a record of an upload that was
// forgotten meanwhile, which would bring it back without its blobs: in its own epoch
// by a row, later by the epoch.
func TestForgottenStaysDead(t *testing.T) {
	r := memRig(t)
	e := r.epoch()
	first := store.AddExtent{Extent: extent(1, 1, 0, 0, 100, e)}
	r.ok(first)
	r.ok(store.Abandon{Upload: uid(1)})
	require.True(t, r.ok(store.Kill{Upload: uid(1)}).Changed)
	r.ok(store.Forget{Upload: uid(1)})
	for range 2 {
		r.refused(catalog.ErrExpired, first)
		r.refused(catalog.ErrExpired, located("n", "X", 100, 1, e))
		require.Empty(t, collect(r, r.cat.Uploads(ctx, store.UploadID{})))
		r.reopen()
	}
	rows := len(r.decided())
	r.epoch()
	require.Len(t, r.decided(), rows-1, "the row is gone with the epoch")
	r.refused(catalog.ErrExpired, first)
}

// TestAbandon gives up an upload that no put will name: it may be killed at once,
// though its epoch lasts.
func TestAbandon(t *testing.T) {
	r := memRig(t, func(o *catalog.Options) { o.Grace = day })
	e := r.epoch()
	r.ok(store.AddExtent{Extent: extent(1, 1, 0, 0, 100, e)})
	r.ok(located("n", "X", 100, 2, e))
	require.False(t, r.ok(store.Kill{Upload: uid(1)}).Changed)
	require.True(t, r.ok(store.Abandon{Upload: uid(1)}).Changed)
	require.Equal(t, store.UploadCondemned, r.upload(1).State)
	require.False(t, r.ok(store.Abandon{Upload: uid(1)}).Changed)
	require.True(t, r.ok(store.Kill{Upload: uid(1)}).Changed)
	require.False(t, r.ok(store.Abandon{Upload: uid(1)}).Changed)

	// What a put named lives on, and what was never recorded is none.
	require.False(t, r.ok(store.Abandon{Upload: uid(2)}).Changed)
	require.Equal(t, store.UploadLive, r.upload(2).State)
	require.False(t, r.ok(store.Abandon{Upload: uid(3)}).Changed)
}

// TestEpochs protect an upload without a put until the next, and not longer.
func TestEpochs(t *testing.T) {
	r := memRig(t)
	e := r.epoch()
	r.ok(store.AddExtent{Extent: extent(1, 1, 0, 0, 100, e)})
	require.False(t, r.ok(store.Kill{Upload: uid(1)}).Changed)
	require.Equal(t, e+1, r.epoch())
	p := located("late", "L", 100, 2, e)
	r.refused(catalog.ErrExpired, p) // of the old epoch, and never heard of
	r.refused(catalog.ErrExpired, store.AddExtent{Extent: extent(3, 3, 0, 0, 100, e)})

	// One that is known may still be put, until it is killed.
	p = store.Put{Name: "n", ID: idOf("N"), Size: 100, Upload: uid(1), Expect: store.AnyVersion}
	require.True(t, r.ok(store.Kill{Upload: uid(1)}).Changed)
	r.refused(catalog.ErrExpired, p)

	// A refused put settles its upload too: it can go at once.
	q := located("n", "Q", 100, 4, e+1)
	q.Expect = 7
	r.refused(catalog.ErrConflict, q)
	require.Equal(t, store.UploadCondemned, r.upload(4).State)
	require.True(t, r.ok(store.Kill{Upload: uid(4)}).Changed)
}

// TestGrace is logged, so that it is the same whenever the log is replayed.
func TestGrace(t *testing.T) {
	r := memRig(t)
	require.Equal(t, 7*day, r.cat.Grace())
	r.reopen(func(o *catalog.Options) { o.Grace = time.Hour })
	require.Equal(t, time.Hour, r.cat.Grace())
	r.reopen()
	require.Equal(t, time.Hour, r.cat.Grace())
	r.reopen(func(o *catalog.Options) { o.Grace = -1 })
	require.Zero(t, r.cat.Grace())
	require.Equal(t, uint64(2), r.cat.Applied())
}

// TestEndlessGrace keeps what nothing refers to, however far the end of the grace is off.
func TestEndlessGrace(t *testing.T) {
	r := memRig(t)
	r.ok(catalog.SetGrace{Grace: math.MaxInt64})
	r.ok(located("n", "N", 100, 1, r.epoch()))
	r.ok(catalog.Purge{Name: "n", All: true})
	require.Equal(t, store.UploadCondemned, r.upload(1).State)
	require.True(t, r.upload(1).Until.After(r.now))
	r.pass(100 * 365 * day)
	require.False(t, r.ok(store.Kill{Upload: uid(1)}).Changed)
}

// TestKeptNames are not moved, by a directory above them neither, nor when another
// version is on top; once all is free they are.
func TestKeptNames(t *testing.T) {
	r := memRig(t)
	r.ok(inline("a/b/n", "1", 1))
	r.ok(inline("a/b/n", "2", 2))
	r.ok(inline("a/c", "3", 3))
	kept := func(names ...string) {
		t.Helper()
		for _, name := range names {
			r.refused(catalog.ErrRetained, catalog.Rename{From: name, To: "z"})
		}
	}
	r.ok(catalog.Hold{Name: "a/b/n", Version: 1, On: true})
	r.ok(catalog.Hold{Name: "a/b/n", Version: 2, On: true})
	r.ok(catalog.Retain{Name: "a/b/n", Version: 1, Until: r.now.Add(day)})
	kept("a", "a/b", "a/b/n")
	r.ok(catalog.Hold{Name: "a/b/n", Version: 2})
	r.reopen()
	kept("a", "a/b", "a/b/n")
	r.ok(catalog.Rename{From: "a/c", To: "c"})

	// Also when nothing is left but history.
	r.ok(catalog.Delete{Name: "a/b/n"})
	r.ok(catalog.Rmdir{Name: "a/b"})
	kept("a")
	r.ok(catalog.Mkdir{Name: "a/b"})
	r.ok(catalog.Hold{Name: "a/b/n", Version: 1})
	kept("a", "a/b")
	r.pass(day)
	r.ok(catalog.Rename{From: "a/b", To: "b"})
	r.ok(catalog.Rename{From: "a", To: "d/a"})
	require.Equal(t, idOf("1"), r.object("b/n", 1).ID)

	// What is kept in its new place counts there.
	r.ok(catalog.Hold{Name: "b/n", Version: 2, On: true})
	kept("b")
	r.ok(catalog.Rename{From: "d", To: "e"})
}

// TestPurgeAllOrNothing drops nothing of a name that has a kept version, be it in
// the history of another that stood there before.
func TestPurgeAllOrNothing(t *testing.T) {
	for _, kept := range []uint64{1, 2, 3} {
		r := memRig(t)
		r.ok(inline("n", "1", 1))
		r.ok(inline("n", "2", 2))
		r.ok(inline("n", "3", 3))
		r.ok(catalog.Hold{Name: "n", Version: kept, On: true})
		before := r.cat.Counts()
		r.refused(catalog.ErrRetained, catalog.Purge{Name: "n", All: true})
		require.Equal(t, before, r.cat.Counts())
		if kept == 3 {
			continue
		}
		r.ok(catalog.Delete{Name: "n"})
		r.ok(inline("m", "4", 4))
		r.ok(catalog.Rename{From: "m", To: "n"}) // the old history is put aside
		r.ok(inline("n", "5", 5))
		before = r.cat.Counts()
		r.refused(catalog.ErrRetained, catalog.Purge{Name: "n", All: true})
		require.Equal(t, before, r.cat.Counts())
	}
}

// TestPurgeOfManyVersions takes more than one record: the first looks at all.
func TestPurgeOfManyVersions(t *testing.T) {
	r := memRig(t)
	for i := 0; i < catalog.PurgeLimit+10; {
		var rec store.Record
		for range 500 {
			i++
			rec.Commands = append(rec.Commands, inline("n", fmt.Sprint(i), i))
		}
		_, err := r.cat.Commit(ctx, rec)
		require.NoError(t, err)
	}
	r.ok(catalog.Hold{Name: "n", Version: 1, On: true})
	before := r.cat.Counts()
	r.refused(catalog.ErrRetained, catalog.Purge{Name: "n", All: true})
	require.Equal(t, before, r.cat.Counts())
	r.ok(catalog.Hold{Name: "n", Version: 1})
	left := before.Versions - catalog.PurgeLimit
	require.Equal(t, left, r.ok(catalog.Purge{Name: "n", All: true}).Number)
	require.Zero(t, r.ok(catalog.Purge{Name: "n", All: true}).Number)
	r.absent("n")
}
