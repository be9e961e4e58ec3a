package catalog_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/catalog"
	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/durable/durabletest"
	"github.com/blockframe/blockframe/internal/journal"
	"github.com/blockframe/blockframe/store"
)

// echo is a Machine that answers a record by its index.
type echo struct {
	applied atomic.Uint64
	times   []time.Time
	groups  []int
	full    atomic.Bool // nothing is applied
}

func (e *echo) Apply(first uint64, records [][]byte) (out [][]store.Result, err error) {
	if e.full.Load() {
		return nil, durable.ErrNoSpace
	}
	e.groups = append(e.groups, len(records))
	for i, b := range records {
		r, err := catalog.DecodeRecord(b)
		if err != nil {
			return nil, err
		}
		e.times = append(e.times, r.Time)
		out = append(out, []store.Result{{Number: first + uint64(i)}})
	}
	e.applied.Store(first + uint64(len(records)) - 1)
	return out, nil
}

func (e *echo) Ready() error       { return nil }
func (e *echo) Applied() uint64    { return e.applied.Load() }
func (e *echo) LogTime() time.Time { return time.Unix(500, 0) }

func local(t testing.TB, fsys durable.FS, change func(*catalog.LocalOptions)) (*catalog.Local, *echo) {
	t.Helper()
	j, err := openLog(fsys)
	require.NoError(t, err)
	opts := catalog.LocalOptions{Journal: j}
	if change != nil {
		change(&opts)
	}
	l, e := catalog.NewLocal(opts), &echo{}
	require.NoError(t, l.Start(e))
	t.Cleanup(func() { require.NoError(t, l.Close()); require.NoError(t, j.Close()) })
	return l, e
}

var one = store.Record{Commands: []store.Command{store.OpenEpoch{}}}

// TestProof writes the empty frame 50 ms after the last ack, and at Close.
func TestProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := durabletest.New(durable.Mem(vfs.NewCrashableMem()), durabletest.Options{})
		l, _ := local(t, fsys, nil)
		_, err := l.Propose(ctx, one)
		require.NoError(t, err)
		synctest.Wait()
		before := fsys.Count()
		time.Sleep(49 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, before, fsys.Count())
		_, err = l.Propose(ctx, one)
		require.NoError(t, err)
		synctest.Wait()
		before = fsys.Count()
		time.Sleep(49 * time.Millisecond) // of the second
		synctest.Wait()
		require.Equal(t, before, fsys.Count())
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		require.Greater(t, fsys.Count(), before)
		before = fsys.Count()
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, before, fsys.Count(), "once")
		_, err = l.Propose(ctx, one)
		require.NoError(t, err)
		synctest.Wait()
		before = fsys.Count()
		require.NoError(t, l.Close())
		require.Greater(t, fsys.Count(), before)
	})
}

// TestProofOnFullDisk tries to prove the last frame of a segment until there is
// room for the next segment.
func TestProofOnFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := durabletest.New(durable.Mem(vfs.NewCrashableMem()), durabletest.Options{})
		l, _ := local(t, fsys, nil)
		fsys.SetFault(durabletest.All(durabletest.Create, "log/", durabletest.Before, syscall.ENOSPC))
		var err error
		for range (256<<10)/4096 - 2 { // every frame that the segment has room for
			_, err = l.Propose(ctx, one)
			require.NoError(t, err)
		}
		time.Sleep(time.Hour) // tries in vain, more and more rarely
		synctest.Wait()
		next := "log/a/0000000000000002.log"
		_, err = fsys.Stat(next)
		require.ErrorIs(t, err, fs.ErrNotExist)
		fsys.SetFault(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		_, err = fsys.Stat(next)
		require.NoError(t, err)
		before := fsys.Count()
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, before, fsys.Count(), "no more than that")
	})
}

// TestGroupCommit puts what waits during a sync into one frame, acknowledges each
// with its own results, and ends waits with their contexts.
func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hold atomic.Bool
		release := make(chan struct{})
		fsys := durabletest.New(durable.Mem(vfs.NewCrashableMem()), durabletest.Options{Before: func(op durabletest.Op) {
			if op.Kind == durabletest.Sync && hold.Load() {
				<-release
			}
		}})
		l, e := local(t, fsys, nil)
		hold.Store(true)
		var wg sync.WaitGroup
		numbers := make([]uint64, 65)
		propose := func(i int) {
			wg.Go(func() {
				res, err := l.Propose(ctx, one)
				require.NoError(t, err)
				numbers[i] = res[0].Number
			})
			synctest.Wait()
		}
		propose(0) // is being synced
		for i := 1; i < 65; i++ {
			propose(i)
		}
		// One that goes away before it is taken was never there; one that does
		// after may be.
		gone, cancel := context.WithCancel(ctx)
		wg.Go(func() {
			_, err := l.Propose(gone, one)
			require.ErrorIs(t, err, context.Canceled)
			require.NotErrorIs(t, err, journal.ErrUncertain)
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		hold.Store(false)
		close(release)
		wg.Wait()
		require.Equal(t, []int{1, 64}, e.groups)
		slices.Sort(numbers)
		for i, n := range numbers {
			require.Equal(t, uint64(i+1), n)
		}

		release = make(chan struct{})
		hold.Store(true)
		taken, cancel := context.WithCancel(ctx)
		wg.Go(func() {
			_, err := l.Propose(taken, one)
			require.ErrorIs(t, err, journal.ErrUncertain)
			require.ErrorIs(t, err, context.Canceled)
		})
		synctest.Wait()
		cancel()
		wg.Wait()
		hold.Store(false)
		close(release)
		synctest.Wait()
		require.Equal(t, uint64(66), e.Applied())
	})
}

// TestLogTime never goes back, whatever the clock does.
func TestLogTime(t *testing.T) {
	now := time.Unix(100, 0) // before the newest record of the log
	l, e := local(t, durable.Mem(vfs.NewCrashableMem()), func(o *catalog.LocalOptions) { o.Clock = func() time.Time { return now } })
	for _, sec := range []int64{100, 499, 500, 501, 501, 400, -5, 600, 1 << 40} {
		now = time.Unix(sec, 0)
		_, err := l.Propose(ctx, one)
		require.NoError(t, err)
	}
	at := time.Unix(500, 0)
	want := []time.Time{at.Add(1), at.Add(2), at.Add(3), time.Unix(501, 0), time.Unix(501, 1), time.Unix(501, 2), time.Unix(501, 3), time.Unix(600, 0), time.Unix(600, 1)}
	for i, w := range want {
		require.True(t, w.Equal(e.times[i]), "%d: %v, want %v", i, e.times[i], w)
	}
}

// TestLocalClosed refuses what comes after Close.
func TestLocalClosed(t *testing.T) {
	l, _ := local(t, durable.Mem(vfs.NewCrashableMem()), nil)
	require.NoError(t, l.Close())
	require.NoError(t, l.Close())
	_, err := l.Propose(ctx, one)
	require.ErrorIs(t, err, fs.ErrClosed)

	r := memRig(t)
	r.ok(inline("a", "1", 1))
	require.NoError(t, r.cat.Close())
	require.NoError(t, r.cat.Close())
	_, err = r.cat.Commit(ctx, one)
	require.ErrorIs(t, err, fs.ErrClosed)
	_, err = r.cat.Object(ctx, "a", 0)
	require.ErrorIs(t, err, fs.ErrClosed)
	for _, err := range r.cat.List(ctx, ".", "") {
		require.ErrorIs(t, err, fs.ErrClosed)
	}
}

// TestBigGroup splits what no frame has room for together.
func TestBigGroup(t *testing.T) {
	fsys := durable.Mem(vfs.NewCrashableMem())
	j, err := journal.Open(journal.Options{Members: members(fsys), StoreID: storeID, Create: true, SegmentSize: 64 << 10})
	require.NoError(t, err)
	l, e := catalog.NewLocal(catalog.LocalOptions{Journal: j}), &echo{}
	require.NoError(t, l.Start(e))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			_, err := l.Propose(ctx, store.Record{Commands: []store.Command{store.SetState{Key: "k", Value: make([]byte, 30<<10)}}})
			require.NoError(t, err)
		})
	}
	wg.Wait()
	require.Equal(t, uint64(16), e.Applied())
	require.NoError(t, l.Close())
	require.NoError(t, j.Close())
}

// BenchmarkCommit is tiny puts by 64 goroutines, each acked durable in two copies
// of the log on a real disk, beside the fdatasync of one file.
func BenchmarkCommit(b *testing.B) {
	for _, clients := range []int{1, 64} {
		b.Run(fmt.Sprint(clients), func(b *testing.B) {
			dir := b.TempDir()
			r := &rig{t: b, fs: durable.OS()}
			j, err := journal.Open(journal.Options{Members: []journal.Member{{FS: r.fs, Dir: dir + "/a", Name: "a"}, {FS: r.fs, Dir: dir + "/b", Name: "b"}}, StoreID: storeID, Create: true})
			require.NoError(b, err)
			cat, err := catalog.Open(catalog.Options{FS: r.fs, Dir: dir + "/view", StoreID: storeID, Journal: j})
			require.NoError(b, err)
			f := fdatasync(b, dir)
			var n atomic.Int64
			start := time.Now()
			b.ResetTimer()
			var wg sync.WaitGroup
			for range clients {
				wg.Go(func() {
					for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
						p := inline(fmt.Sprintf("d%d/n%d", i%100, i), fmt.Sprintf("content %d", i), int(i))
						if _, err := cat.Commit(ctx, store.Record{Commands: []store.Command{p}}); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			rate := float64(b.N) / time.Since(start).Seconds()
			b.ReportMetric(rate, "records/s")
			b.ReportMetric(float64(f.Microseconds()), "fdatasync-p50-µs")
			b.ReportMetric(rate*f.Seconds(), "records/F")
			require.NoError(b, cat.Close())
			require.NoError(b, j.Close())
		})
	}
}

// fdatasync is the median time of one, after a write of 4 KiB in place.
func fdatasync(b *testing.B, dir string) time.Duration {
	f, err := os.Create(dir + "/f")
	require.NoError(b, err)
	defer f.Close()
	file, err := durable.OS().OpenWrite(dir + "/f")
	require.NoError(b, err)
	defer file.Close()
	buf := make([]byte, 4096)
	var times []time.Duration
	for i := range 200 {
		_, err := file.WriteAt(buf, int64(i%16)*4096)
		require.NoError(b, err)
		start := time.Now()
		require.NoError(b, file.Sync())
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	return times[len(times)/2]
}

// TestApplyLate applies what there was no room for when there is, logs nothing in
// between, and does not wait for it when closed.
func TestApplyLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j *journal.Journal
		l, e := local(t, durable.Mem(vfs.NewCrashableMem()), func(o *catalog.LocalOptions) { j = o.Journal })
		for range 2 {
			e.full.Store(true)
			_, err := l.Propose(ctx, one)
			require.ErrorIs(t, err, journal.ErrUncertain)
			require.ErrorIs(t, err, durable.ErrNoSpace)
			last := j.Last()
			time.Sleep(time.Hour)
			_, err = l.Propose(ctx, one)
			require.ErrorIs(t, err, durable.ErrNoSpace)
			require.NotErrorIs(t, err, journal.ErrUncertain)
			require.NotErrorIs(t, err, fs.ErrPermission)
			require.Equal(t, last, j.Last())
			require.Equal(t, last-1, e.Applied())
			e.full.Store(false)
			time.Sleep(time.Second)
			require.Equal(t, last, e.Applied())
			res, err := l.Propose(ctx, one)
			require.NoError(t, err)
			require.Equal(t, last+1, res[0].Number)
		}
		e.full.Store(true)
		_, err := l.Propose(ctx, one)
		require.ErrorIs(t, err, journal.ErrUncertain)
		require.NoError(t, l.Close())
	})
}
