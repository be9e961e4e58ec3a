package store_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/mem"
	"github.com/stretchr/testify/require"
)

var anyVersion = store.PutOptions{Expect: store.AnyVersion}

// A content moves, at another offset, under a reader that has fetched ahead of where
// it was.
func TestContentMovesUnderReadahead(t *testing.T) {
	r := newRig(t, 3, coded(2, 1, miB))
	x := content(7, 3*miB)
	o := r.put("x", x)
	rd := r.open(o)
	buf := make([]byte, 32<<10)
	for pos := 0; pos < 8*len(buf); pos += len(buf) {
		_, err := rd.Read(buf)
		require.NoError(t, err)
		require.True(t, bytes.Equal(buf, x[pos:pos+len(buf)]))
	}
	for _, e := range r.extents(o) { // beyond repair: the new copy takes its place
		for i := range 2 {
			m, k := r.shard(&e, i)
			m.Flip(k, 4096+7*65536+1, 1)
		}
	}
	_, err := r.Put(t.Context(), "x2", bytes.NewReader(x), anyVersion)
	require.NoError(t, err)
	pos := 8 * len(buf)
	for {
		n, err := rd.Read(buf)
		if n == 0 {
			break
		}
		require.NoError(t, err)
		require.True(t, bytes.Equal(buf[:n], x[pos:pos+n]), "at %d", pos)
		pos += n
	}
	require.Equal(t, len(x), pos)
}

// A deep scrub that is cancelled gives all its memory back.
func TestCancelledScrubReturnsMemory(t *testing.T) {
	r := newRig(t, 3, coded(2, 1, 0))
	r.put("x", content(1, 4*miB))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, m := range r.mems {
		m.SetLatency(func(op mem.Op) time.Duration {
			if op.Len >= 65536 {
				cancel()
			}
			return 0
		})
	}
	_, err := r.Scrub(ctx, store.ScrubOptions{Deep: true})
	require.ErrorIs(t, err, context.Canceled)
	lent, _ := r.SlabsUse()
	require.Zero(t, lent)
}

// The limit of open extents holds after a scrub found something lost.
func TestHandlesStayBounded(t *testing.T) {
	r := newRig(t, 3, coded(2, 1, miB))
	o := r.put("x", content(1, miB))
	e := r.extents(o)[0]
	for i := range 2 {
		m, k := r.shard(&e, i)
		m.Flip(k, 4096+100, 1)
	}
	rep, err := r.Scrub(t.Context(), store.ScrubOptions{Deep: true})
	require.NoError(t, err)
	require.NotEmpty(t, rep.Lost)
	for i := range 60 {
		data := content(uint64(10+i), 300<<10)
		r.reads(r.put(fmt.Sprint("y", i), data), data)
	}
	open, idle := r.Handles()
	require.LessOrEqual(t, idle, 24)
	require.LessOrEqual(t, open, 32) // some reads that nobody waits for may not have ended
}

// What was repaired since a pass began is neither lost nor damaged.
func TestScrubBesideRepair(t *testing.T) {
	r := newRig(t, 2, nil)
	for i := range 2 {
		o := r.put(fmt.Sprint("x", i), content(uint64(i), 200<<10))
		e := r.extents(o)[0]
		for i := range e.Shards {
			m, k := r.shard(&e, i)
			m.Flip(k, 4096+int64(i)*65536+100, 1)
		}
	}
	var once sync.Once
	rep, err := r.Scrub(t.Context(), store.ScrubOptions{Deep: true, Progress: func(store.ScrubReport) {
		once.Do(func() {
			inner, err := r.Scrub(context.Background(), store.ScrubOptions{Deep: true, Repair: true})
			require.NoError(t, err)
			require.EqualValues(t, 4, inner.Repaired)
		})
	}})
	require.NoError(t, err)
	require.Empty(t, rep.Lost)
	require.EqualValues(t, 2, rep.Damaged, "of the extent looked at before the repair")
}

// A stream in a batch does not wait for memory that its own pack holds.
func TestBatchOfAWideCode(t *testing.T) {
	r := newRig(t, 1, coded(200, 50, 0))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b := r.NewBatch(ctx)
	require.NoError(t, b.Put("small", bytes.NewReader(content(1, 100_000)), anyVersion))
	require.NoError(t, b.Put("big", bytes.NewReader(content(2, miB)), anyVersion))
	_, err := b.Commit()
	require.NoError(t, err)
}

// A backend that can be read but takes no writes fails a few puts, not all of them,
// however much is read meanwhile.
func TestBackendThatRefusesWrites(t *testing.T) {
	r := newRig(t, 3, func(o *store.Options) { o.CacheBytes = -1 })
	r.put("a", content(1, 300<<10))
	r.mems[0].SetFault(func(op mem.Op) *mem.Fault {
		if op.Kind == mem.Create {
			return &mem.Fault{Arm: mem.Before, Err: fmt.Errorf("after a failed sync: %w", store.ErrUnavailable)}
		}
		return nil
	})
	failed := 0
	for i := range 10 {
		_, err := r.Scrub(t.Context(), store.ScrubOptions{})
		require.NoError(t, err)
		if _, err := r.Put(t.Context(), fmt.Sprint("n", i), bytes.NewReader(content(uint64(i+5), 300<<10)), anyVersion); err != nil {
			failed++
		}
	}
	require.LessOrEqual(t, failed, 2)
}

// Putting a batch of small files again reads their pack a bounded number of times.
func TestBatchAgainReadsLittle(t *testing.T) {
	const files = 400
	r := newRig(t, 3, func(o *store.Options) { o.CacheBytes = -1 })
	var read atomic.Int64
	put := func() {
		b := r.NewBatch(t.Context())
		for i := range files {
			require.NoError(t, b.Put(fmt.Sprint("f", i), bytes.NewReader(content(uint64(i), 4200)), anyVersion))
		}
		_, err := b.Commit()
		require.NoError(t, err)
	}
	put()
	for _, m := range r.mems {
		m.SetLatency(func(op mem.Op) time.Duration {
			if op.Kind == mem.Read {
				read.Add(int64(op.Len))
			}
			return 0
		})
	}
	put()
	require.Less(t, read.Load(), int64(20*files*4200))
}

// An extent that is collected while a shard of it is being repaired is no damage, neither
// for a scrub nor for the repair queue.
func TestCollectedDuringRepair(t *testing.T) {
	for _, scrub := range []bool{false, true} {
		t.Run(fmt.Sprint("scrub ", scrub), func(t *testing.T) {
			r := newRig(t, 3, uncached(2, 1, miB))
			data := content(1, 700_000)
			o := r.put("x", data)
			e := r.extents(o)[0]
			m, key := r.shard(&e, 1)
			m.Flip(key, page+77, 1)
			if !scrub {
				r.reads(o, data)
			}
			m.SetFault(func(op mem.Op) *mem.Fault {
				if op.Kind == mem.Create { // of the new blob
					r.cat.mu.Lock()
					defer r.cat.mu.Unlock()
					clear(r.cat.names)
					clear(r.cat.contents)
					clear(r.cat.extents)
				}
				return nil
			})
			if scrub {
				rep, err := r.Scrub(t.Context(), store.ScrubOptions{Deep: true, Repair: true})
				require.NoError(t, err)
				require.True(t, rep.Clean(), "%+v", rep)
				require.Zero(t, rep.Left+rep.Blocks)
			} else {
				rep, err := r.Repair(t.Context())
				require.NoError(t, err)
				require.Zero(t, rep.Left, "%v", rep.Errs)
			}
			_, err := r.Collect(t.Context(), store.CollectOptions{Unclaimed: true})
			require.NoError(t, err)
			require.Zero(t, r.blobs())
		})
	}
}

// A row of the repair queue that was read before its extent was collected tells nobody
// that something is lost.
func TestRepairOfCollected(t *testing.T) {
	lost := 0
	change := func(o *store.Options) {
		uncached(2, 1, miB)(o)
		o.Events.Lost = func(*store.CorruptError) { lost++ }
	}
	r := newRig(t, 3, change)
	data := content(1, 700_000)
	o := r.put("x", data)
	e := r.extents(o)[0]
	m, key := r.shard(&e, 1)
	m.Flip(key, page+77, 1)
	r.reads(o, data)
	eventually(t, func() bool { return r.queued() == 1 }, "nothing is queued")
	r = r.reopened(change) // no blob is open
	clear(r.cat.names)
	clear(r.cat.contents)
	require.True(t, r.cat.one(store.Kill{Upload: e.Upload}).Changed)
	for i := range e.Shards {
		m, key := r.shard(&e, i)
		m.Delete(key)
	}
	rep, err := r.Repair(t.Context())
	require.NoError(t, err)
	require.Zero(t, rep.Left, "%v", rep.Errs)
	require.Zero(t, lost)
}

// A store that is closed in the middle of a scrub, or of a repair, has lost nothing.
func TestCloseDuringScrub(t *testing.T) {
	for _, kind := range []mem.Kind{mem.Open, mem.Read} {
		for _, deep := range []bool{false, true} {
			t.Run(fmt.Sprint(kind, " deep ", deep), func(t *testing.T) {
				for n := int64(1); closeDuringScrub(t, kind, n, deep); n++ {
				}
			})
		}
	}
}

// closeDuringScrub closes the store at the nth operation of a scrub, and reports whether
// there were so many.
func closeDuringScrub(t *testing.T, kind mem.Kind, n int64, deep bool) bool {
	var lost, ops atomic.Int64
	change := func(o *store.Options) {
		uncached(2, 1, miB)(o)
		o.Events.Lost = func(*store.CorruptError) { lost.Add(1) }
	}
	r := newRig(t, 3, change)
	var objs []store.Object
	for i := range 3 {
		objs = append(objs, r.put(fmt.Sprint(i), content(uint64(i), 300_000)))
	}
	r = r.reopened(change) // no table is in memory
	closed := make(chan error, 1)
	for _, m := range r.mems {
		m.SetFault(func(op mem.Op) *mem.Fault {
			if op.Kind == kind && ops.Add(1) == n {
				go func() { closed <- r.Close() }()
				for {
					rd, err := r.Store.Open(context.Background(), objs[0])
					if err != nil {
						return nil
					}
					rd.Close()
				}
			}
			return nil
		})
	}
	rep, err := r.Scrub(context.Background(), store.ScrubOptions{Deep: deep})
	if ops.Load() < n {
		require.NoError(t, err)
		return false
	}
	require.ErrorIs(t, err, fs.ErrClosed)
	require.Empty(t, rep.Lost)
	require.Zero(t, rep.Damaged+lost.Load())
	require.NoError(t, <-closed)
	return true
}
