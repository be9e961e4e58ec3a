package store_test

import (
	"bytes"
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/mem"
)

// reborn closes the store, and opens another on the same backends and catalog.
func (r *rig) reborn(change func(*store.Options)) {
	r.t.Helper()
	require.NoError(r.t, r.Close())
	opts := store.Options{Catalog: r.cat, NoRepair: true, StoreID: [16]byte{'r', 'i', 'g'}}
	for _, m := range r.mems {
		opts.Backends = append(opts.Backends, m)
	}
	change(&opts)
	s, err := store.New(r.t.Context(), opts)
	require.NoError(r.t, err)
	r.Store = s
	r.t.Cleanup(func() { require.NoError(r.t, s.Close()) })
}

// A backend that fails in one region: reads are right, it is suspect, with a count, also
// after a restart; a deep scrub in which nothing is wrong clears it.
func TestSuspectErrors(t *testing.T) {
	r := newRig(t, 3, uncached(2, 1, miB))
	k := &stored{r: r}
	k.add("a", content(1, 3*miB))
	bad := r.mems[1]
	require.Empty(t, r.Trouble(bad.ID()).Suspect())
	bad.SetFault(func(op mem.Op) *mem.Fault {
		if op.Kind == mem.Read && op.Off < 3*blk && op.Off+op.Len > 2*blk {
			return &mem.Fault{Arm: mem.Before, Err: syscall.EIO}
		}
		return nil
	})
	r.reads(k.objs[0], k.data[0])
	require.Positive(t, r.Trouble(bad.ID()).Errors)
	require.Contains(t, r.Trouble(bad.ID()).Suspect(), "failed")
	for _, m := range []*mem.Backend{r.mems[0], r.mems[2]} {
		require.Zero(t, r.Trouble(m.ID()))
	}
	bad.SetFault(nil)
	was := r.Trouble(bad.ID())
	r.reborn(uncached(2, 1, miB))
	require.Equal(t, was, r.Trouble(bad.ID()))
	_, err := r.Scrub(t.Context(), store.ScrubOptions{})
	require.NoError(t, err)
	require.Equal(t, was, r.Trouble(bad.ID()), "a quick pass does not look at blocks")
	_, err = r.Scrub(t.Context(), store.ScrubOptions{Deep: true})
	require.NoError(t, err)
	require.Zero(t, r.Trouble(bad.ID()))
	r.reborn(uncached(2, 1, miB))
	require.Zero(t, r.Trouble(bad.ID()))
}

// A backend that takes a second for each read: reads are right, and bounded by far less
// than a second a block; it is suspect.
func TestSuspectSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 4, uncached(2, 2, miB))
		k := &stored{r: r}
		for i := range 4 {
			k.add(fmt.Sprint(i), content(uint64(i), 2*miB))
		}
		slow := r.mems[2]
		slow.SetLatency(func(op mem.Op) time.Duration {
			if op.Kind == mem.Read {
				return time.Second
			}
			return 0
		})
		began := time.Now()
		for i, o := range k.objs {
			r.reads(o, k.data[i])
		}
		require.Less(t, time.Since(began), 20*time.Second, "of 128 blocks, read twice")
		time.Sleep(time.Minute)
		require.Contains(t, r.Trouble(slow.ID()).Suspect(), "half a second")
		require.Zero(t, r.Trouble(r.mems[0].ID()))
		slow.SetLatency(nil)
		k.whole()
	})
}

// Blocks that rot are counted, and make a backend suspect when they are many.
func TestSuspectRot(t *testing.T) {
	r := newRig(t, 3, uncached(2, 1, 4*miB))
	k := &stored{r: r}
	k.add("a", content(1, 4*miB))
	e := r.extents(k.objs[0])[0]
	m, key := r.shard(&e, 0)
	m.Flip(key, 4096+100, 1)
	r.reads(k.objs[0], k.data[0])
	require.Positive(t, r.Trouble(m.ID()).Rotten)
	require.Empty(t, r.Trouble(m.ID()).Suspect(), "one bit may rot anywhere")
	for i := range 30 {
		m.Flip(key, int64(4096+i*blk+200), 1)
	}
	r.reads(k.objs[0], k.data[0])
	require.Contains(t, r.Trouble(m.ID()).Suspect(), "not what was written")
}

// A backend that fails three times in a row is off: puts avoid it, and it is tried again
// later. // T15
func TestOffAfterThreeFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 4, uncached(2, 1, miB))
		bad, tries := r.mems[0], 0
		bad.SetFault(func(op mem.Op) *mem.Fault {
			if op.Kind == mem.Commit {
				tries++
				return &mem.Fault{Arm: mem.Before, Err: syscall.EIO}
			}
			return nil
		})
		k := &stored{r: r}
		for i := range 20 {
			data := content(uint64(i), miB)
			o, err := r.Put(t.Context(), fmt.Sprint(i), bytes.NewReader(data), store.PutOptions{Expect: store.AnyVersion})
			if err != nil {
				require.ErrorIs(t, err, syscall.EIO)
				continue
			}
			k.objs, k.data = append(k.objs, o), append(k.data, data)
		}
		require.Equal(t, 3, tries)
		require.Len(t, k.objs, 17, "each of the three was refused")
		require.Contains(t, r.Trouble(bad.ID()).Suspect(), "failed")
		bad.SetFault(nil)
		time.Sleep(time.Minute)
		n := len(bad.Keys())
		for i := range 20 {
			k.add(fmt.Sprint("b", i), content(uint64(i+50), miB))
		}
		require.Greater(t, len(bad.Keys()), n, "it is back")
		_, err := r.Repair(t.Context())
		require.NoError(t, err)
		k.whole()
	})
}

// What everything survives is the least of all, by the records.
func TestTolerates(t *testing.T) {
	r := newRig(t, 4, uncached(2, 2, miB))
	tolerates := func() store.Survival {
		of, err := r.Tolerates(t.Context())
		require.NoError(t, err)
		return of
	}
	require.Zero(t, tolerates())
	r.put("a", content(1, miB))
	require.Equal(t, store.Survival{Shards: 2, Disks: 2}, tolerates())
	o := r.put("b", content(2, 5*miB))
	require.Equal(t, store.Survival{Shards: 2, Disks: 2}, tolerates())
	e := r.extents(o)[3]
	require.NoError(t, r.cat.report(store.Repair{Extent: e.ID, Shard: 1}))
	require.Equal(t, store.Survival{Shards: 1, Disks: 1}, tolerates())
	r.Detach(e.Shards[0].Backend)
	require.Equal(t, store.Survival{Shards: 0, Disks: 0}, tolerates())
	r.Detach(e.Shards[2].Backend)
	require.Equal(t, store.Survival{Shards: -1, Disks: -1}, tolerates())
}
