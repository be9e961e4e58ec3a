package store_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/mem"
)

// stored are objects and what they must read as.
type stored struct {
	r    *rig
	objs []store.Object
	data [][]byte
}

// keeps puts objects of the sizes that matter: small ones in packs, and extents with a
// short last stripe.
func (r *rig) keeps(n int) *stored {
	k := &stored{r: r}
	for i, size := range slices.Repeat([]int{1, blk - 1, blk, 200 * kiB, miB + 1, 3*miB + 77}, n) {
		k.add(fmt.Sprintf("o%d", i), content(uint64(i), size))
	}
	return k
}

func (k *stored) add(name string, data []byte) {
	k.objs, k.data = append(k.objs, k.r.put(name, data)), append(k.data, data)
}

// whole compares every byte, and wants a deep scrub to find nothing.
func (k *stored) whole() {
	k.r.t.Helper()
	for i, o := range k.objs {
		k.r.reads(o, k.data[i])
	}
	k.r.cleanScrub()
}

// apart fails unless the shards of each extent lie on as many backends. // T15
func (r *rig) apart() {
	r.t.Helper()
	for e, err := range r.cat.Extents(r.t.Context(), store.ExtentID{}) {
		require.NoError(r.t, err)
		on := map[store.BackendID]bool{}
		for _, s := range e.Shards {
			on[s.Backend] = true
		}
		require.Len(r.t, on, len(e.Shards), "extent %v", e.ID)
	}
}

// on returns how many shards the records have on a backend.
func (r *rig) on(id store.BackendID) (n int) {
	r.t.Helper()
	for e, err := range r.cat.Extents(r.t.Context(), store.ExtentID{}) {
		require.NoError(r.t, err)
		for _, s := range e.Shards {
			if s.Backend == id {
				n++
			}
		}
	}
	return n
}

// attach gives the store one backend more.
func (r *rig) attach() *mem.Backend {
	m := mem.New(mem.Options{ID: store.BackendID{byte(len(r.mems) + 1)}})
	r.mems = append(r.mems, m)
	r.Attach(m, "")
	return m
}

func (r *rig) evacuate(m *mem.Backend, opts store.MoveOptions) store.MoveReport {
	r.t.Helper()
	rep, err := r.Evacuate(r.t.Context(), m.ID(), opts)
	require.NoError(r.t, err)
	return rep
}

// drain marks a backend and moves all that it has.
func (r *rig) drain(m *mem.Backend) store.MoveReport {
	r.t.Helper()
	r.SetDraining(m.ID(), true)
	return r.evacuate(m, store.MoveOptions{})
}

// One backend comes, another is drained: its shards move as they are, nothing is left on
// it, no two of a stripe come together, and what is put then avoids it.
func TestDrain(t *testing.T) {
	r := newRig(t, 3, uncached(2, 1, miB))
	k := r.keeps(2)
	old := r.mems[0]
	n := r.on(old.ID())
	fresh := r.attach()
	r.SetDraining(old.ID(), true)

	dry := r.evacuate(old, store.MoveOptions{DryRun: true})
	require.EqualValues(t, n, dry.Shards)
	require.Zero(t, dry.Left)
	require.Equal(t, n, r.on(old.ID()))
	k.add("late", content(99, 2*miB))
	require.Equal(t, n, r.on(old.ID()), "a draining backend takes nothing new")

	var last store.MoveReport
	rep := r.evacuate(old, store.MoveOptions{Progress: func(p store.MoveReport) { last = p }})
	require.EqualValues(t, n, rep.Shards)
	require.Equal(t, dry.Bytes, rep.Bytes)
	require.Equal(t, rep.Bytes, rep.PlannedBytes)
	require.Equal(t, rep.Shards, last.Shards)
	require.Zero(t, rep.Computed)
	require.NoError(t, rep.Err())
	require.Empty(t, old.Keys(), "what moved is removed where it was")
	require.Zero(t, r.on(old.ID()))
	require.Greater(t, r.on(fresh.ID()), n/2, "objects of three shards went to the only one that had none")
	r.apart()
	k.whole()
	require.Zero(t, r.evacuate(old, store.MoveOptions{}).Shards)

	r.Detach(old.ID())
	old.SetOffline(true)
	k.add("later", content(98, 2*miB))
	k.whole()
}

// Where every other backend has a shard of the stripe, none moves, and that is what is
// said; what is put then takes a narrower code. // T15
func TestDrainTooFew(t *testing.T) {
	r := newRig(t, 3, uncached(2, 1, miB))
	k := &stored{r: r}
	k.add("a", content(1, 3*miB))
	n := r.on(r.mems[0].ID())
	rep := r.drain(r.mems[0])
	require.EqualValues(t, n, rep.Left)
	require.ErrorIs(t, rep.Err(), store.ErrTooFew)
	require.Equal(t, n, r.on(r.mems[0].ID()))
	k.add("b", content(2, 3*miB))
	require.Equal(t, n, r.on(r.mems[0].ID()))
	k.whole()
	r.attach()
	require.NoError(t, r.evacuate(r.mems[0], store.MoveOptions{}).Err())
	r.apart()
	k.whole()
}

// A store of one disk moves to another one, all shards of a stripe together as they were,
// and with two more they go apart.
func TestDrainOfOneDisk(t *testing.T) {
	r := newRig(t, 1, func(o *store.Options) { o.CacheBytes = -1 })
	k := r.keeps(1)
	second := r.attach()
	require.NoError(t, r.drain(r.mems[0]).Err())
	require.Empty(t, r.mems[0].Keys())
	k.whole()
	third, fourth := r.attach(), r.attach()
	require.NoError(t, r.drain(second).Err())
	require.InDelta(t, r.on(third.ID()), r.on(fourth.ID()), 6)
	k.whole()
}

// Room that another backend has not is no reason to lose anything: the shards that fit
// move, the others stay and are named; with room they follow.
func TestDrainNoSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, uncached(2, 1, miB))
		k := r.keeps(2)
		fresh := r.attach()
		fresh.SetCapacity(3 * miB)
		n := r.on(r.mems[0].ID())
		rep := r.drain(r.mems[0])
		require.ErrorIs(t, rep.Err(), store.ErrNoSpace)
		require.Positive(t, rep.Shards)
		require.EqualValues(t, n, rep.Shards+rep.Left)
		k.whole()
		fresh.SetCapacity(1 << 30)
		time.Sleep(time.Minute) // free space is not asked for all the time
		require.NoError(t, r.evacuate(r.mems[0], store.MoveOptions{}).Err())
		r.apart()
		k.whole()
	})
}

// A backend that says it is full in the middle, though it had room, is left for another.
func TestDrainTargetFails(t *testing.T) {
	for _, err := range []error{store.ErrNoSpace, syscall.EIO, store.ErrUnavailable} {
		for _, kind := range []mem.Kind{mem.Create, mem.Write, mem.Commit} {
			t.Run(fmt.Sprint(kind, " ", err), func(t *testing.T) {
				r := newRig(t, 3, uncached(2, 1, miB))
				k := r.keeps(1)
				bad := r.attach()
				r.attach()
				bad.SetFault(func(op mem.Op) *mem.Fault {
					if op.Kind == kind && op.Off < 2*blk {
						return &mem.Fault{Arm: mem.Before, Err: err}
					}
					return nil
				})
				require.NoError(t, r.drain(r.mems[0]).Err())
				require.Empty(t, r.mems[0].Keys())
				r.apart()
				k.whole()
			})
		}
	}
}

// What cannot be read of the backend is computed: a bad region, rotten blocks, blobs that
// are gone, all of it away.
func TestDrainDamaged(t *testing.T) {
	for name, hurt := range map[string]func(m *mem.Backend){
		"a region": func(m *mem.Backend) {
			m.SetFault(func(op mem.Op) *mem.Fault {
				if op.Kind == mem.Read && op.Off < 3*blk && op.Off+op.Len > 2*blk {
					return &mem.Fault{Arm: mem.Before, Err: syscall.EIO}
				}
				return nil
			})
		},
		"rot": func(m *mem.Backend) {
			for _, key := range m.Keys() {
				m.Flip(key, 5000, 1)
			}
		},
		"gone": func(m *mem.Backend) {
			for _, key := range m.Keys()[:2] {
				m.Delete(key)
			}
		},
		"away": func(m *mem.Backend) { m.SetOffline(true) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 3, uncached(2, 1, miB))
			k := r.keeps(1)
			r.attach()
			hurt(r.mems[0])
			rep := r.drain(r.mems[0])
			require.NoError(t, rep.Err())
			require.Positive(t, rep.Computed)
			require.Zero(t, r.on(r.mems[0].ID()))
			r.apart()
			k.whole()
		})
	}
}

// A lost backend: what lay on it is missing, and comes back on the others by way of the
// repair queue, as far as these may take it. One that was lost and answers again is not
// asked, and what lies on it stays.
func TestLostBackend(t *testing.T) {
	r := newRig(t, 4, uncached(2, 1, miB))
	k := r.keeps(2)
	lost := r.mems[0]
	was := lost.Keys()
	r.Detach(lost.ID())
	for i, o := range k.objs {
		r.reads(o, k.data[i])
	}
	require.NoError(t, r.cat.report(store.Repair{Backend: lost.ID()}))
	rep, err := r.Repair(t.Context())
	require.NoError(t, err)
	require.Zero(t, rep.Left, "%v", rep.Errs)
	require.Zero(t, r.on(lost.ID()))
	require.Zero(t, r.queued())
	require.Equal(t, was, lost.Keys())
	r.apart()
	k.whole()
	_, err = r.Collect(t.Context(), store.CollectOptions{})
	require.NoError(t, err, "nobody waits for it")
	require.Equal(t, was, lost.Keys())

	// One more, and there are fewer than shards: those stay missing, and on the queue.
	second := r.mems[1]
	n := r.on(second.ID())
	r.Detach(second.ID())
	require.NoError(t, r.cat.report(store.Repair{Backend: second.ID()}))
	rep, err = r.Repair(t.Context())
	require.NoError(t, err)
	require.Positive(t, rep.Left)
	require.ErrorIs(t, rep.Errs[len(rep.Errs)-1], store.ErrTooFew)
	require.Positive(t, r.on(second.ID()))
	require.LessOrEqual(t, r.on(second.ID()), n)
	require.Positive(t, r.queued())
	for i, o := range k.objs {
		r.reads(o, k.data[i])
	}
	r.attach()
	rep, err = r.Repair(t.Context())
	require.NoError(t, err)
	require.Zero(t, rep.Left, "%v", rep.Errs)
	require.Zero(t, r.queued())
	k.whole()
}

// The mover of the background does the same by itself.
func TestLostBackendInBackground(t *testing.T) {
	r := newRig(t, 4, func(o *store.Options) { uncached(2, 1, miB)(o); o.NoRepair = false })
	k := r.keeps(1)
	r.Detach(r.mems[0].ID())
	require.NoError(t, r.cat.report(store.Repair{Backend: r.mems[0].ID()}))
	r.Detach(store.BackendID{77}) // something happened: the queue is looked at
	eventually(t, func() bool { return r.on(r.mems[0].ID()) == 0 && r.queued() == 0 }, "it is not made anew")
	k.whole()
}

// No more bytes a second are written than was said, and the end of the context ends it: the
// rest is for the next pass.
func TestDrainPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, uncached(2, 1, miB))
		k := &stored{r: r}
		for i := range 24 {
			k.add(fmt.Sprint(i), content(uint64(i), miB))
		}
		r.attach()
		r.SetDraining(r.mems[0].ID(), true)
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		rep, err := r.Evacuate(ctx, r.mems[0].ID(), store.MoveOptions{Rate: miB})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Positive(t, rep.Shards)
		require.Positive(t, r.on(r.mems[0].ID()))
		rest := r.evacuate(r.mems[0], store.MoveOptions{Rate: miB})
		require.NoError(t, rest.Err())
		require.EqualValues(t, 24, rep.Shards+rest.Shards)
		require.InDelta(t, 12, time.Since(began).Seconds(), 4)
		k.whole()
	})
}

// A backend that takes a second for each read: its shards move, read or computed, and
// reads meanwhile are right.
func TestDrainSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 4, uncached(2, 1, miB))
		k := r.keeps(1)
		r.mems[0].SetLatency(func(op mem.Op) time.Duration {
			if op.Kind == mem.Read {
				return time.Second
			}
			return 0
		})
		began := time.Now()
		require.NoError(t, r.drain(r.mems[0]).Err())
		require.Less(t, time.Since(began), 2*time.Minute)
		r.mems[0].SetLatency(nil)
		r.apart()
		k.whole()
	})
}

// Draining beside puts, reads, scrubs that repair, repairs, compaction and collection: run
// by the race detector. Every byte is compared.
func TestDrainRaces(t *testing.T) {
	r := newRig(t, 4, func(o *store.Options) { uncached(2, 1, miB)(o); o.NoRepair = false })
	k := r.keeps(2)
	r.attach()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var mu sync.Mutex
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
	first, data := slices.Clone(k.objs), slices.Clone(k.data)
	loop(func(i int) error {
		if i == 30 {
			<-ctx.Done()
			return nil
		}
		data := content(uint64(1000+i), 300*kiB+i)
		o := r.put(fmt.Sprintf("race%d", i), data)
		mu.Lock()
		defer mu.Unlock()
		k.objs, k.data = append(k.objs, o), append(k.data, data)
		return nil
	})
	loop(func(i int) error { r.reads(first[i%len(first)], data[i%len(first)]); return nil })
	loop(func(int) error { _, err := r.Scrub(ctx, store.ScrubOptions{Deep: true, Repair: true}); return err })
	loop(func(int) error { _, err := r.Repair(ctx); return err })
	loop(func(int) error { _, err := r.Collect(ctx, store.CollectOptions{}); return err })
	loop(func(int) error { _, err := r.Compact(ctx, store.CompactOptions{}); return err })
	rounds := 6
	if testing.Short() {
		rounds = 2 // with the race detector
	}
	for i := range rounds {
		m := r.mems[i%3]
		require.NoError(t, r.drain(m).Err())
		r.SetDraining(m.ID(), false)
	}
	require.NoError(t, r.drain(r.mems[0]).Err())
	cancel()
	wg.Wait()
	require.NoError(t, r.evacuate(r.mems[0], store.MoveOptions{}).Err(), "of puts that had begun")
	r.apart()
	k.whole()
	_, err := r.Collect(t.Context(), store.CollectOptions{})
	require.NoError(t, err)
	require.Empty(t, r.mems[0].Keys())
}

// Where all backends are draining nothing can be written, and nothing panics.
func TestAllDraining(t *testing.T) {
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			r := newRig(t, n, nil)
			o := r.put("a", content(1, 300_000))
			small := r.put("b", content(2, 300))
			for _, m := range r.mems {
				r.SetDraining(m.ID(), true)
			}
			_, err := r.Put(t.Context(), "c", bytes.NewReader(content(3, 300_000)), store.PutOptions{})
			require.ErrorIs(t, err, store.ErrUnavailable)
			b := r.NewBatch(t.Context())
			err = b.Put("d", bytes.NewReader(content(4, 30_000)), store.PutOptions{})
			if err == nil {
				_, err = b.Commit()
			}
			require.ErrorIs(t, err, store.ErrUnavailable)
			require.ErrorIs(t, r.PackInline(t.Context()), store.ErrUnavailable)
			_, err = r.Keep(t.Context(), store.Kept{Kind: store.KindSegment, Number: 1, First: 1, Last: 2}, strings.NewReader("segment"))
			require.ErrorIs(t, err, store.ErrUnavailable)
			_, err = r.Reshape(t.Context(), store.ReshapeOptions{All: true})
			require.NoError(t, err)
			r.reads(o, content(1, 300_000))
			r.reads(small, content(2, 300))
		})
	}
}
