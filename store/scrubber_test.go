package store_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/mem"
)

// kept makes a store look after itself.
func kept(u store.Upkeep, more ...func(*store.Options)) func(*store.Options) {
	return func(o *store.Options) {
		for _, f := range more {
			f(o)
		}
		o.Upkeep = u
	}
}

// again opens the store of a rig anew, after it was closed.
func (r *rig) again(change func(*store.Options)) *rig {
	r.t.Helper()
	require.NoError(r.t, r.Close())
	opts := store.Options{Catalog: r.cat, NoRepair: true, StoreID: [16]byte{'r', 'i', 'g'}}
	for _, m := range r.mems {
		opts.Backends = append(opts.Backends, m)
	}
	change(&opts)
	s, err := store.New(r.t.Context(), opts)
	require.NoError(r.t, err)
	r.t.Cleanup(func() { require.NoError(r.t, s.Close()) })
	return &rig{Store: s, t: r.t, cat: r.cat, mems: r.mems}
}

// slow makes every opening of a blob take so long.
func (r *rig) slow(d time.Duration) {
	for _, m := range r.mems {
		m.SetLatency(func(op mem.Op) time.Duration {
			if op.Kind == mem.Open {
				return d
			}
			return 0
		})
	}
}

// opened counts the extents whose blobs were opened.
type opened struct {
	mu      sync.Mutex
	extents map[string]int
}

func (o *opened) watch(r *rig) {
	o.extents = map[string]int{}
	for _, m := range r.mems {
		m.SetFault(func(op mem.Op) *mem.Fault {
			if op.Kind == mem.Open {
				o.mu.Lock()
				defer o.mu.Unlock()
				o.extents[string(op.Key)[3:35]]++
			}
			return nil
		})
	}
}

func (o *opened) ids() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Sorted(maps.Keys(o.extents))
}

func (r *rig) status() store.ScrubStatus {
	r.t.Helper()
	st, err := r.ScrubStatus(r.t.Context())
	require.NoError(r.t, err)
	return st
}

// commits returns the number of records that were applied.
func (r *rig) commits() int {
	r.cat.mu.Lock()
	defer r.cat.mu.Unlock()
	return len(r.cat.records)
}

// An open store scrubs by itself: not in its first minute; then quick and deep, and again
// when it is time. Damage is found, told and put on the repair queue, and a store at rest
// writes a record or two a day.
func TestScrubsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var ended []store.ScrubPass
		began := 0
		passes := func() int { mu.Lock(); defer mu.Unlock(); return len(ended) }
		r := newRig(t, 4, kept(store.Upkeep{}, coded(2, 2, miB), func(o *store.Options) {
			o.Paths = map[store.BackendID]string{{1}: "/one"}
			o.Events.ScrubBegan = func(store.ScrubPass) { mu.Lock(); defer mu.Unlock(); began++ }
			o.Events.ScrubEnded = func(p store.ScrubPass) { mu.Lock(); defer mu.Unlock(); ended = append(ended, p) }
		}))
		o := r.put("x", content(1, 3*miB))
		time.Sleep(59 * time.Second)
		synctest.Wait()
		require.Zero(t, r.Stats().ScrubBytes, "who opens a store for a moment does not pay for it")
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 2, passes())
		mu.Lock()
		require.Equal(t, 2, began)
		require.False(t, ended[0].Deep)
		require.True(t, ended[1].Deep)
		require.True(t, ended[1].Clean())
		require.EqualValues(t, 3, ended[1].Extents)
		require.EqualValues(t, 12, ended[1].Blobs)
		require.Len(t, ended[1].Disks, 4)
		require.Equal(t, "/one", ended[1].Disks[0].Path)
		require.EqualValues(t, 3, ended[1].Disks[0].Blobs)
		sum := int64(0)
		for _, d := range ended[1].Disks {
			sum += d.Bytes
		}
		mu.Unlock()
		require.Equal(t, ended[1].Bytes, sum)
		require.Greater(t, sum, int64(6*miB))

		e := r.extents(o)[1]
		m, key := r.shard(&e, 2)
		m.Flip(key, page+100, 1)
		before := r.commits()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		require.InDelta(t, 26, passes(), 3, "a quick pass each hour")
		require.LessOrEqual(t, r.commits()-before, 3, "the log does not grow with them")
		require.Zero(t, r.queued(), "a quick pass does not read blocks")
		time.Sleep(34 * 24 * time.Hour)
		synctest.Wait()
		require.Equal(t, 1, r.queued())
		st := r.status()
		require.NotNil(t, st.DeepLast)
		require.Nil(t, st.DeepNow)
		require.EqualValues(t, 1, st.DeepLast.Damaged)
		require.EqualValues(t, 1, st.DeepLast.Left)
		at := slices.IndexFunc(st.DeepLast.Disks, func(d store.ScrubDisk) bool { return d.Backend == m.ID() })
		require.EqualValues(t, 1, st.DeepLast.Disks[at].Damaged)
		require.Len(t, st.DeepLast.Degraded, 1)
		require.Equal(t, "x", st.DeepLast.Degraded[0].Name)
		require.Equal(t, int64(passes()), r.Stats().Scrubs)

		again := r.again(func(o *store.Options) { o.Upkeep.Off = true; o.Paths = map[store.BackendID]string{{1}: "/one"} })
		got := again.status()
		require.Equal(t, st.DeepLast.Disks, got.DeepLast.Disks)
		require.Equal(t, st.DeepLast.Degraded, got.DeepLast.Degraded)
		require.True(t, st.DeepLast.Ended.Equal(got.DeepLast.Ended))
		require.NotNil(t, got.QuickLast)
		require.True(t, st.QuickLast.Ended.Equal(got.QuickLast.Ended), "what was not worth a record is recorded at the end")
	})
}

// A store that is told not to does nothing by itself.
func TestScrubsNotByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, coded(2, 1, miB))
		r.put("x", content(1, miB))
		time.Sleep(100 * 24 * time.Hour)
		require.Zero(t, r.Stats().ScrubBytes)
	})
}

// A deep pass that a restart cuts short goes on where it was: no extent is looked at twice,
// none is left out, and the counts are those of the whole pass.
func TestScrubGoesOn(t *testing.T) { // R6
	synctest.Test(t, func(t *testing.T) {
		deep := kept(store.Upkeep{Quick: -1}, coded(2, 1, miB))
		r := newRig(t, 3, deep)
		for i := range 40 {
			r.put(fmt.Sprint(i), content(uint64(i), 300_000))
		}
		r.slow(time.Second)
		var first, second opened
		first.watch(r)
		time.Sleep(time.Minute + 50*time.Second)
		require.NotNil(t, r.status().DeepNow)
		before := r.Stats()
		require.InDelta(t, 0.5, before.ScrubDone, 0.49)
		require.Positive(t, before.ScrubLeft)
		require.NoError(t, r.Close())
		saved := r.status().DeepNow
		require.Greater(t, saved.Extents, int64(3))
		require.Less(t, saved.Extents, int64(37))

		began := time.Now()
		s := r.again(deep)
		second.watch(r)
		require.Equal(t, saved.Extents, s.status().DeepNow.Extents)
		time.Sleep(time.Hour)
		synctest.Wait()
		last := s.status().DeepLast
		require.NotNil(t, last)
		require.EqualValues(t, 40, last.Extents)
		require.EqualValues(t, 120, last.Blobs)
		require.True(t, last.Began.Before(began))
		a, b := first.ids(), second.ids()
		require.Len(t, b, 40-int(saved.Extents))
		require.LessOrEqual(t, len(a)+len(b), 41, "the one that Close cut short is looked at anew")
		require.Len(t, slices.Compact(slices.Sorted(slices.Values(append(a, b...)))), 40)
	})
}

// A store that is not closed, but killed, loses at most half a minute of a pass.
func TestScrubIsSaved(t *testing.T) { // R6
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, kept(store.Upkeep{Quick: -1}, coded(2, 1, miB)))
		for i := range 200 {
			r.put(fmt.Sprint(i), content(uint64(i), 300_000))
		}
		r.slow(time.Second)
		for range 4 {
			time.Sleep(55 * time.Second)
			synctest.Wait()
		}
		var st struct{ Now struct{ Extents int } }
		r.cat.mu.Lock()
		require.NoError(t, json.Unmarshal(r.cat.state["scrub/deep"], &st))
		n := 0
		for _, rec := range r.cat.records {
			if _, ok := rec.Commands[0].(store.SetState); ok {
				n++
			}
		}
		r.cat.mu.Unlock()
		require.InDelta(t, 5, n, 1, "one record for each 30 s")
		require.Greater(t, st.Now.Extents, 50)
		require.InDelta(t, r.status().DeepNow.Extents, st.Now.Extents, 31)
	})
}

// What is recorded of passes may be of a newer program, or nonsense: then they begin anew.
func TestScrubStateUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, coded(2, 1, miB))
		r.put("x", content(1, 300_000))
		r.cat.state["scrub/deep"] = []byte(`{"v":99,"now":{"done":"much"}}`)
		r.cat.state["scrub/quick"] = []byte("\xff")
		s := r.again(kept(store.Upkeep{}))
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.EqualValues(t, 1, s.status().DeepLast.Extents)
		require.EqualValues(t, 1, s.status().QuickLast.Extents)
	})
}

// While others read, a pass takes a tenth of the time; when they stop it goes on at once.
func TestScrubGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, kept(store.Upkeep{Quick: -1, Rate: -1}, uncached(2, 1, miB)))
		for i := range 600 {
			r.put(fmt.Sprint(i), content(uint64(i), 300_000))
		}
		for _, m := range r.mems {
			m.SetLatency(func(op mem.Op) time.Duration {
				if op.Kind == mem.Read {
					return 50 * time.Millisecond
				}
				return 0
			})
		}
		rd := r.open(r.cat.names["0"])
		ctx, cancel := context.WithCancel(t.Context())
		var reads sync.WaitGroup
		reads.Go(func() {
			for ctx.Err() == nil {
				rd.ReadAt(make([]byte, 10), 0)
				time.Sleep(time.Millisecond)
			}
		})
		time.Sleep(time.Minute + 20*time.Second)
		busy := r.status().DeepNow.Extents
		cancel()
		reads.Wait()
		time.Sleep(20 * time.Second)
		alone := r.status().DeepNow.Extents - busy
		require.Positive(t, busy, "it does not stand still")
		require.Greater(t, alone, 3*busy)
	})
}

// A pass keeps to its rate.
func TestScrubRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, kept(store.Upkeep{Quick: -1, Rate: 4 * miB}, coded(2, 1, miB)))
		for i := range 300 {
			r.put(fmt.Sprint(i), content(uint64(i), miB))
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.NotNil(t, r.status().DeepNow)
		require.InDelta(t, 60*4*miB, r.Stats().ScrubBytes, 8*miB)
		require.Zero(t, r.SlabsLent(), "nobody waits for memory that a pass holds while it waits")
	})
}

// A backend that hangs holds a pass up once, and does not stop it; nor does it stop Close.
func TestScrubBesideAHungBackend(t *testing.T) { // R7
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 4, kept(store.Upkeep{Quick: -1}, coded(2, 2, miB)))
		for i := range 30 {
			r.put(fmt.Sprint(i), content(uint64(i), 300_000))
		}
		hang := make(chan struct{})
		r.mems[1].SetFault(func(op mem.Op) *mem.Fault {
			if op.Kind == mem.Open || op.Kind == mem.Read {
				<-hang
			}
			return nil
		})
		time.Sleep(10 * time.Minute)
		last := r.status().DeepLast
		require.NotNil(t, last)
		require.EqualValues(t, 30, last.Extents)
		require.EqualValues(t, 30, last.Absent)
		require.EqualValues(t, 30, last.Disks[1].Absent)
		require.Zero(t, last.Damaged)
		close(hang)
		r.mems[1].SetFault(nil)
	})
}

// Reads that fail are told by disk.
func TestScrubTellsFailingDisks(t *testing.T) { // R7
	r := newRig(t, 4, coded(2, 2, miB))
	r.put("x", content(1, 3*miB))
	r.mems[2].SetFault(func(op mem.Op) *mem.Fault {
		if op.Kind == mem.Read && op.Off > 0 && op.Off < 3*blk {
			return &mem.Fault{Arm: mem.Before, Err: errBroken}
		}
		return nil
	})
	rep, err := r.Scrub(t.Context(), store.ScrubOptions{Deep: true})
	require.NoError(t, err)
	require.Positive(t, rep.Disks[2].Errors)
	require.EqualValues(t, 3, rep.Disks[2].Damaged)
	for _, i := range []int{0, 1, 3} {
		require.Zero(t, rep.Disks[i].Errors)
		require.Zero(t, rep.Disks[i].Damaged)
	}
}

// Passes beside puts, deletions and collections find nothing wrong.
func TestScrubBesideEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 4, kept(store.Upkeep{After: time.Millisecond, Quick: time.Second, Deep: 2 * time.Second, Rate: -1}, uncached(2, 2, miB)))
		for _, m := range r.mems {
			m.SetLatency(func(mem.Op) time.Duration { return 100 * time.Microsecond })
		}
		var work sync.WaitGroup
		for w := range 3 {
			work.Go(func() {
				for i := range 20 {
					data := content(uint64(100*w+i), 200_000+100_000*(i%4))
					name := fmt.Sprint(w, "/", i)
					o, err := r.Put(t.Context(), name, bytes.NewReader(data), store.PutOptions{Expect: store.AnyVersion})
					if err != nil {
						t.Errorf("put: %v", err)
					}
					if i%3 == 0 {
						r.cat.mu.Lock()
						k := r.cat.contents[o.ID]
						k.Refs--
						r.cat.contents[o.ID] = k
						delete(r.cat.names, name)
						r.cat.mu.Unlock()
					}
					time.Sleep(time.Second)
				}
			})
		}
		work.Go(func() {
			for range 20 {
				if _, err := r.Collect(t.Context(), store.CollectOptions{}); err != nil {
					t.Errorf("collect: %v", err)
				}
				time.Sleep(time.Second)
			}
		})
		work.Wait()
		st, stats := r.status(), r.Stats()
		require.Greater(t, stats.Scrubs, int64(9))
		require.Zero(t, stats.Damaged)
		require.True(t, st.DeepLast.Clean(), "%+v", st.DeepLast)
		require.Zero(t, r.queued())
	})
}

// The state of a pass that found very much is one record still.
func TestScrubStateIsSmall(t *testing.T) {
	r := newRig(t, 3, coded(2, 1, miB))
	for i := range 300 {
		o := r.put(strings.Repeat("n", 250)+fmt.Sprint(i), content(uint64(i), 300_000))
		e := r.extents(o)[0]
		for j := range 2 {
			m, key := r.shard(&e, j)
			m.Flip(key, page+9, 1)
		}
	}
	rep, err := r.Scrub(t.Context(), store.ScrubOptions{Deep: true})
	require.NoError(t, err)
	require.Len(t, rep.Degraded, 300)
	require.Less(t, len(r.cat.state["scrub/deep"]), 48<<10)
	s := r.again(func(o *store.Options) { o.Upkeep.Off = true })
	last := s.status().DeepLast
	require.EqualValues(t, 300, int64(len(last.Degraded))+last.DegradedMore)
	require.EqualValues(t, int64(len(rep.Lost)), int64(len(last.Lost))+last.LostMore)
	require.NotEmpty(t, last.Lost)
}

// Close ends a pass that waits for a backend which does not answer.
func TestCloseEndsAScrubThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, kept(store.Upkeep{}, coded(2, 1, miB)))
		for i := range 5 {
			r.put(fmt.Sprint(i), content(uint64(i), 300_000))
		}
		hang := make(chan struct{})
		r.mems[1].SetFault(func(op mem.Op) *mem.Fault {
			if op.Kind == mem.Open {
				<-hang
			}
			return nil
		})
		time.Sleep(time.Minute + time.Second)
		began := time.Now()
		require.NoError(t, r.Close())
		require.LessOrEqual(t, time.Since(began), 3*time.Second)
		close(hang)
	})
}

// A pass that somebody asked for is as good as one that the store would have run.
func TestScrubNotTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, kept(store.Upkeep{Quick: -1}, coded(2, 1, miB)))
		r.put("x", content(1, 300_000))
		time.Sleep(time.Hour)
		synctest.Wait()
		require.EqualValues(t, 1, r.Stats().Scrubs)
		time.Sleep(25 * 24 * time.Hour)
		_, err := r.Scrub(t.Context(), store.ScrubOptions{Deep: true})
		require.NoError(t, err)
		time.Sleep(25 * 24 * time.Hour)
		require.EqualValues(t, 1, r.Stats().Scrubs)
		time.Sleep(10 * 24 * time.Hour)
		synctest.Wait()
		require.EqualValues(t, 2, r.Stats().Scrubs)
	})
}

// Quick passes come between the extents of a deep one, and do not keep it from its end,
// however long they take.
func TestQuickScrubsBetween(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, kept(store.Upkeep{Quick: time.Minute}, coded(2, 1, miB)))
		for i := range 100 {
			r.put(fmt.Sprint(i), content(uint64(i), 300_000))
		}
		r.slow(2 * time.Second)
		time.Sleep(9 * time.Minute)
		st := r.status()
		require.NotNil(t, st.QuickLast)
		require.NotNil(t, st.DeepNow)
		for range 40 {
			time.Sleep(time.Minute)
		}
		require.NotNil(t, r.status().DeepLast)
		require.Greater(t, r.Stats().Scrubs, int64(3))
	})
}
