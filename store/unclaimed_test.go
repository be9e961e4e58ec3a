package store_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/mem"
)

// forgotten opens another store over the backends whose catalog knows nothing of what
// they hold, as after the log was restored from an older copy.
func (r *rig) forgotten(change func(*store.Options)) *rig {
	r.t.Helper()
	r.cat = newTables()
	return r.reopened(change)
}

// collect collects and returns the report.
func (r *rig) collect(opts store.CollectOptions) store.CollectReport {
	r.t.Helper()
	rep, err := r.Collect(r.t.Context(), opts)
	require.NoError(r.t, err)
	require.NoError(r.t, rep.Skipped)
	return rep
}

// Complete objects that no record names are what is left of acknowledged ones when a log
// was rolled back: a collection names them and leaves them alone, with all their
// extents, until it is told otherwise.
func TestCollectLeavesUnclaimedAlone(t *testing.T) {
	base := coded(2, 1, miB)
	for name, size := range map[string]int{"small": 70_000, "stream": 700_000, "extents": 3*miB + 70_000} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 3, base)
			r.put("x", content(1, size))
			want := r.blobs()
			r = r.forgotten(base)
			for _, dry := range []bool{true, false, false} {
				rep := r.collect(store.CollectOptions{DryRun: dry})
				require.EqualValues(t, 1, rep.Unclaimed)
				require.Equal(t, []string{"x"}, rep.UnclaimedNames)
				require.Zero(t, rep.Blobs+rep.Orphans)
				require.Equal(t, want, r.blobs())
			}
			rep := r.collect(store.CollectOptions{Unclaimed: true})
			require.EqualValues(t, 1, rep.Unclaimed)
			require.EqualValues(t, want, rep.Orphans)
			require.Zero(t, r.blobs())
			require.Zero(t, r.collect(store.CollectOptions{}).Unclaimed)
		})
	}
}

// A pack whose contents are kept elsewhere too proves nothing that was lost: so it is with
// what was moved into a pack that no record came to name.
func TestCollectRemovesPacksOfWhatIsKept(t *testing.T) {
	base := coded(2, 1, miB)
	r := newRig(t, 3, base)
	r.packed("x", sizes(3, 50_000)...)
	r = r.forgotten(base)
	for i := range 2 {
		r.put(fmt.Sprint("y", i), content(uint64(i)*256+'x', 50_000))
	}
	rep := r.collect(store.CollectOptions{})
	require.EqualValues(t, 1, rep.Unclaimed)
	require.Equal(t, []string{"x2"}, rep.UnclaimedNames)
	require.Zero(t, rep.Blobs)
	r.put("y2", content(2*256+'x', 50_000))
	rep = r.collect(store.CollectOptions{})
	require.Zero(t, rep.Unclaimed)
	require.EqualValues(t, 3, rep.Orphans)
}

// The record of where a content is kept else says nothing when its blobs are gone: the log
// may be older than their collection.
func TestCollectKeepsTheOnlyCopy(t *testing.T) {
	base := coded(2, 1, miB)
	r := newRig(t, 3, base)
	r.packed("x", 50_000, 50_000)
	kept := r.blobs()
	r = r.forgotten(base)
	for i := range 2 {
		o := r.put(fmt.Sprint("y", i), content(uint64(i)*256+'x', 50_000))
		e := r.extents(o)[0]
		for j := range e.Shards {
			m, key := r.shard(&e, j)
			m.Delete(key)
		}
	}
	rep := r.collect(store.CollectOptions{})
	require.EqualValues(t, 2, rep.Unclaimed)
	require.Zero(t, rep.Blobs)
	require.Equal(t, kept, r.blobs())
}

// A log that was restored to the middle of a put knows the first extents of an object that
// was acknowledged since.
func TestCollectKeepsWhatWasPutSince(t *testing.T) {
	base := coded(2, 1, miB)
	r := newRig(t, 3, base)
	o := r.put("x", content(1, 3*miB+70_000))
	first, blobs := r.extents(o)[0], r.blobs()
	r.cat = newTables()
	r.cat.epoch, r.cat.extents[first.ID] = 5, first
	r = r.reopened(base)
	for range 2 {
		rep := r.collect(store.CollectOptions{})
		require.EqualValues(t, 1, rep.Unclaimed)
		require.Zero(t, rep.Blobs+rep.Killed)
		require.Equal(t, blobs, r.blobs())
	}
	r.collect(store.CollectOptions{Unclaimed: true})
	require.Zero(t, r.blobs())
}

// A log that was restored to before a repair names a blob that is gone: the one that took
// its place stays.
func TestCollectKeepsWhatWasRepairedSince(t *testing.T) {
	r := newRig(t, 3, uncached(1, 2, miB))
	data := content(1, 300_000)
	o := r.put("x", data)
	before := r.extents(o)[0]
	for i := range before.Shards {
		m, key := r.shard(&before, i)
		m.Flip(key, page+5, 1)
		_, err := r.Scrub(t.Context(), store.ScrubOptions{Deep: true, Repair: true})
		require.NoError(t, err)
	}
	after := r.extents(o)[0]
	r.cat.extents[before.ID] = before
	require.Zero(t, r.collect(store.CollectOptions{}).Blobs)
	r.cat.extents[before.ID] = after
	r.reads(o, data)
	r.cleanScrub()
}

// Of what an interrupted put left, nothing is kept that proves no object: an object that
// lacks its last extent, or one of which too few shards are left to read it.
func TestCollectRemovesWhatProvesNothing(t *testing.T) {
	base := coded(2, 1, miB)
	for name, spoil := range map[string]func(r *rig, list []store.Extent){
		"no last extent": func(r *rig, list []store.Extent) {
			for i := range 3 {
				m, key := r.shard(&list[len(list)-1], i)
				m.Delete(key)
			}
		},
		"one shard of it": func(r *rig, list []store.Extent) {
			for i := range 2 {
				m, key := r.shard(&list[len(list)-1], i)
				m.Delete(key)
			}
		},
		"no trailer of it": func(r *rig, list []store.Extent) {
			for i := range 3 {
				m, key := r.shard(&list[len(list)-1], i)
				m.Flip(key, m.Size(key)-100, 1)
			}
		},
		"no manifests of it": func(r *rig, list []store.Extent) {
			for i := range 3 {
				m, key := r.shard(&list[len(list)-1], i)
				_, _, manifests, _ := parts(m.Bytes(key))
				m.Flip(key, int64(manifests)+3, 1)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 3, base)
			o := r.put("x", content(1, 3*miB))
			spoil(r, r.extents(o))
			r = r.forgotten(base)
			rep := r.collect(store.CollectOptions{})
			require.Zero(t, rep.Unclaimed)
			require.Positive(t, rep.Orphans)
			require.Zero(t, r.blobs())
		})
	}
}

// A blob that cannot be read is kept with a sibling that can.
func TestCollectKeepsDamagedSiblings(t *testing.T) {
	base := coded(2, 2, miB)
	r := newRig(t, 4, base)
	list := r.extents(r.put("x", content(1, 2*miB)))
	for i := range 2 {
		m, key := r.shard(&list[i], i)
		m.SetBytes(key, make([]byte, 5000))
	}
	broken, key := r.shard(&list[1], 2)
	want := r.blobs()
	r = r.forgotten(base)
	broken.SetFault(func(op mem.Op) *mem.Fault {
		if op.Kind == mem.Read && op.Key == key {
			return &mem.Fault{Arm: mem.Before, Err: errBroken}
		}
		return nil
	})
	require.EqualValues(t, 1, r.collect(store.CollectOptions{}).Unclaimed)
	require.Equal(t, want, r.blobs())
}

// Names are counted, and the first ones are listed.
func TestCollectNamesUnclaimed(t *testing.T) {
	base := coded(1, 1, miB)
	r := newRig(t, 2, base)
	r.packed("n", sizes(130, 5000)...)
	r = r.forgotten(base)
	rep := r.collect(store.CollectOptions{})
	require.EqualValues(t, 130, rep.Unclaimed)
	require.Len(t, rep.UnclaimedNames, 100)
	require.Contains(t, rep.UnclaimedNames, "n0")
}

// A repair that crashed leaves a blob of an upload that is known: it goes, also when the
// upload does in the same collection.
func TestCollectLeavesNothingOfThePurged(t *testing.T) {
	r := newRig(t, 3, coded(2, 1, miB))
	o := r.put("x", content(1, 700_000))
	e := r.extents(o)[0]
	for i := range 3 {
		m, key := r.shard(&e, i)
		again := e
		again.Shards = append([]store.Shard(nil), e.Shards...)
		again.Shards[i].Generation++
		m.SetBytes(again.Key(i), m.Bytes(key))
	}
	clear(r.cat.names)
	clear(r.cat.contents)
	r.cat.given[e.Upload] = true
	require.Zero(t, r.collect(store.CollectOptions{}).Unclaimed)
	require.Zero(t, r.blobs())
}
