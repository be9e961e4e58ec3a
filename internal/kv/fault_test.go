package kv_test

import (
	"fmt"
	"math/rand/v2"
	"path"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/kv"
)

// faulty gives Pebble files that fail as inject says.
type faulty struct {
	durable.FS
	inject func(op errorfs.Op) error
}

func (f faulty) Pebble() vfs.FS {
	return errorfs.Wrap(f.FS.Pebble(), errorfs.InjectorFunc(f.inject))
}

// fill commits n batches; batch i holds row i and the count so far.
func fill(t testing.TB, db *kv.DB, lo, hi int) {
	t.Helper()
	for i := lo; i < hi; i++ {
		put(t, db, fmt.Sprintf("row%05d", i), strings.Repeat("v", i%200), "count", strconv.Itoa(i+1))
	}
}

// prefix reads the count and checks that exactly that many rows are there.
func prefix(t testing.TB, db *kv.DB) (int, error) {
	t.Helper()
	v, ok, err := db.Get([]byte("count"))
	if err != nil {
		return 0, err
	}
	n := 0
	if ok {
		n, err = strconv.Atoi(string(v))
		require.NoError(t, err)
	}
	i := 0
	for row, err := range db.Scan([]byte("row"), nil) {
		if err != nil {
			return 0, err
		}
		require.Equal(t, fmt.Sprintf("row%05d", i), string(row.Key))
		require.Equal(t, strings.Repeat("v", i%200), string(row.Value))
		i++
	}
	require.Equal(t, n, i)
	return n, nil
}

// TestCrash loses a suffix of batches and nothing else, and nothing flushed.
func TestCrash(t *testing.T) {
	mem := vfs.NewCrashableMem()
	db := open(t, durable.Mem(mem))
	flushed := 0
	for round := range 12 {
		fill(t, db, round*300, round*300+300)
		if round%3 == 2 {
			require.NoError(t, db.Flush())
			flushed = round*300 + 300
		}
		for percent, seed := range []uint64{1, 2, 3, 4} {
			cfg := vfs.CrashCloneCfg{}
			if percent > 0 {
				cfg.UnsyncedDataPercent, cfg.RNG = 25*percent, rand.New(rand.NewPCG(seed, uint64(round)))
			}
			again, err := kv.Open(kv.Options{FS: durable.Mem(mem.CrashClone(cfg)), Dir: "view"})
			require.NoError(t, err)
			n, err := prefix(t, again)
			require.NoError(t, err)
			require.GreaterOrEqual(t, n, flushed)
			require.NoError(t, again.Close())
		}
	}
}

// TestFlippedBit flips one bit at a time in every file. What is read then is a
// state that was, or an error; never anything else.
func TestFlippedBit(t *testing.T) {
	mem := vfs.NewCrashableMem()
	db := open(t, durable.Mem(mem))
	for i := range 4 {
		fill(t, db, i*60, i*60+60)
		require.NoError(t, db.Flush())
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	mem = mem.CrashClone(vfs.CrashCloneCfg{}) // nobody works on this one
	names, err := durable.Mem(mem).List("view")
	require.NoError(t, err)
	var failed, whole, older int
	for _, name := range names {
		b, err := durable.ReadFile(durable.Mem(mem), path.Join("view", name), 1<<20)
		require.NoError(t, err)
		for off := rng.IntN(16); off < len(b); off += 1 + rng.IntN(len(b)/24+1) {
			m := mem.CrashClone(vfs.CrashCloneCfg{})
			flip(t, m, path.Join("view", name), int64(off), 1<<rng.IntN(8))
			var n int
			bubble(t, func(t *testing.T) { n, err = reopened(t, durable.Mem(m)) })
			switch {
			case err != nil:
				failed++
			case n == 240:
				whole++
			default:
				require.Zero(t, n%60, "%s byte %d", name, off)
				older++
			}
		}
	}
	t.Logf("%d failed, %d whole, %d older", failed, whole, older)
	require.NotZero(t, failed)
}

// TestDamagedManifest flips every byte of the manifest of a view whose rows are in
// several tables: what opens holds all rows, or a state that was, and keeps to it
// while more are written.
func TestDamagedManifest(t *testing.T) {
	mem := vfs.NewCrashableMem()
	db := open(t, durable.Mem(mem))
	for i := range 3 {
		fill(t, db, i*20, i*20+20)
		require.NoError(t, db.Flush())
	}
	require.NoError(t, db.Close())
	db = open(t, durable.Mem(mem)) // begins a manifest that lists the tables
	put(t, db, "other", "row")
	require.NoError(t, db.Flush())
	mem = mem.CrashClone(vfs.CrashCloneCfg{})
	names, err := durable.Mem(mem).List("view")
	require.NoError(t, err)
	for _, name := range names {
		if !strings.HasPrefix(name, "MANIFEST") {
			continue
		}
		b, err := durable.ReadFile(durable.Mem(mem), path.Join("view", name), 1<<20)
		require.NoError(t, err)
		for off := range b {
			m := mem.CrashClone(vfs.CrashCloneCfg{})
			flip(t, m, path.Join("view", name), int64(off), 1<<(off%8))
			again, err := kv.Open(kv.Options{FS: durable.Mem(m), Dir: "view"})
			if err != nil {
				continue
			}
			before, err := prefix(t, again)
			for i := 0; i < 100 && err == nil; i++ {
				put(t, again, "other", strconv.Itoa(i))
				var now int
				if now, err = prefix(t, again); err == nil {
					require.Equal(t, before, now, "%s byte %d: rows show up", name, off)
				}
			}
			if err != nil {
				require.ErrorIs(t, err, kv.ErrFailed)
			}
			require.NoError(t, again.Close())
		}
	}
}

func reopened(t testing.TB, fs durable.FS) (int, error) {
	db, err := kv.Open(kv.Options{FS: fs, Dir: "view"})
	if err != nil {
		return 0, err
	}
	n, err := prefix(t, db)
	if err != nil {
		require.ErrorIs(t, err, kv.ErrFailed)
		_, _, again := db.Get([]byte("count"))
		require.ErrorIs(t, again, kv.ErrFailed, "a view that failed stays failed")
	}
	require.NoError(t, db.Close())
	return n, err
}

func flip(t testing.TB, m *vfs.MemFS, name string, off int64, bit byte) {
	t.Helper()
	f, err := durable.Mem(m).OpenWrite(name)
	require.NoError(t, err)
	b := make([]byte, 1)
	_, err = f.ReadAt(b, off)
	require.NoError(t, err)
	b[0] ^= bit
	_, err = f.WriteAt(b, off)
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	require.NoError(t, f.Close())
}

// TestFailedWrites fails one kind of write: every call returns, with ErrFailed or
// before the failure, the process lives, and nothing is changed any more. What is on
// disk then is a state that was, or no view.
func TestFailedWrites(t *testing.T) {
	for _, part := range []string{"MANIFEST", ".sst", "marker"} {
		for _, kind := range []errorfs.OpKind{errorfs.OpFileWrite, errorfs.OpFileSyncData, errorfs.OpFileSync, errorfs.OpCreate, errorfs.OpFileSyncTo, errorfs.OpRename} {
			t.Run(fmt.Sprint(part, kind), func(t *testing.T) {
				bubble(t, func(t *testing.T) { failWrite(t, part, kind) })
			})
		}
	}
}

func failWrite(t *testing.T, part string, kind errorfs.OpKind) {
	var armed, hit atomic.Bool
	var later atomic.Int64
	disk := durable.Mem(vfs.NewCrashableMem())
	db := open(t, faulty{disk, func(op errorfs.Op) error {
		if hit.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && op.Kind != errorfs.OpFileClose {
			later.Add(1)
		}
		if armed.Load() && op.Kind == kind && strings.Contains(op.Path, part) {
			hit.Store(true)
			return syscall.EIO
		}
		return nil
	}})
	fill(t, db, 0, 100)
	armed.Store(true)
	err := db.Flush()
	if !hit.Load() {
		require.NoError(t, err)
		return
	}
	require.ErrorIs(t, err, kv.ErrFailed)
	require.ErrorIs(t, err, syscall.EIO)
	<-db.Failing()
	_, err = db.NewBatch()
	require.ErrorIs(t, err, kv.ErrFailed)
	_, err = db.Snapshot()
	require.ErrorIs(t, err, kv.ErrFailed)
	require.ErrorIs(t, db.Flush(), kv.ErrFailed)
	for _, err := range db.Scan(nil, nil) {
		require.ErrorIs(t, err, kv.ErrFailed)
	}
	require.NoError(t, db.Close())
	require.Zero(t, later.Load())
	n, err := reopened(t, disk)
	if err == nil {
		require.Contains(t, []int{0, 100}, n)
	}
}

// TestEveryFault fails each operation of a life of a view, once or from then on: an
// error, no hang, and what is read is a state that was.
func TestEveryFault(t *testing.T) {
	for _, lasting := range []bool{false, true} {
		for n := int64(1); ; n++ {
			var ops atomic.Int64
			fs := faulty{durable.Mem(vfs.NewCrashableMem()), func(op errorfs.Op) error {
				if i := ops.Add(1); i == n || lasting && i > n {
					return syscall.EIO
				}
				return nil
			}}
			bubble(t, func(t *testing.T) { life(t, fs) })
			if ops.Load() < n {
				require.Greater(t, n, int64(20))
				break
			}
			if testing.Short() {
				n += 14
			}
		}
	}
}

// bubble calls f in a synctest bubble: if something waits for ever then, or is left
// behind when the views are closed, it panics.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f(t)
		time.Sleep(time.Minute) // what a failed view left on its way ends
	})
}

// life makes a view, fills, flushes and reads it, as far as it goes.
func life(t *testing.T, fs durable.FS) {
	for range 2 {
		db, err := kv.Open(kv.Options{FS: fs, Dir: "view", MemTable: 64 << 10})
		if err != nil {
			return
		}
		n, err := prefix(t, db)
		for ; err == nil && n < 200; n++ {
			var b *kv.Batch
			if b, err = db.NewBatch(); err == nil {
				write(t, b, fmt.Sprintf("row%05d", n), strings.Repeat("v", n%200), "count", strconv.Itoa(n+1))
				err = b.Commit()
			}
			if err == nil && n%50 == 49 {
				err = db.Flush()
			}
		}
		if err == nil {
			_, err = prefix(t, db)
		}
		if err != nil {
			require.ErrorIs(t, err, kv.ErrFailed)
		}
		db.Close() // may be what failed
	}
}

// TestCommitOutlivesFailedFlush fails the flush that a commit waits for: the view can
// be closed all the same.
func TestCommitOutlivesFailedFlush(t *testing.T) {
	bubble(t, func(t *testing.T) {
		fail := make(chan struct{})
		var armed atomic.Bool
		db := open(t, faulty{durable.Mem(vfs.NewCrashableMem()), func(op errorfs.Op) error {
			if armed.Load() && op.Kind == errorfs.OpFileWrite {
				<-fail
				return syscall.EIO
			}
			return nil
		}})
		armed.Store(true)
		var done atomic.Bool
		var err error
		go func() {
			for err == nil {
				var b *kv.Batch
				if b, err = db.NewBatch(); err == nil {
					write(t, b, "row", strings.Repeat("v", 10_000))
					err = b.Commit()
				}
			}
			done.Store(true)
		}()
		synctest.Wait()
		require.False(t, done.Load(), "a commit waits")
		close(fail)
		synctest.Wait()
		require.ErrorIs(t, err, kv.ErrFailed)
		require.NoError(t, db.Close())
	})
}

// TestFullDisk waits for room, lets reads go on, and finishes when there is some.
func TestFullDisk(t *testing.T) {
	var full, hit atomic.Bool
	waits := make(chan struct{}, 1)
	fs := faulty{durable.Mem(vfs.NewCrashableMem()), func(op errorfs.Op) error {
		if full.Load() && (op.Kind == errorfs.OpFileWrite || op.Kind == errorfs.OpCreate) {
			if !hit.Swap(true) {
				waits <- struct{}{}
			}
			return syscall.ENOSPC
		}
		return nil
	}}
	db := open(t, fs)
	fill(t, db, 0, 100)
	full.Store(true)
	db.Patient()
	flushed := make(chan error, 1)
	go func() { flushed <- db.Flush() }()
	<-waits
	require.Eventually(t, db.Full, 1e10, 1e6)
	n, err := prefix(t, db)
	require.NoError(t, err)
	require.Equal(t, 100, n)
	fill(t, db, 100, 200)

	full.Store(false)
	require.NoError(t, <-flushed)
	require.False(t, db.Full())
	n, err = prefix(t, db)
	require.NoError(t, err)
	require.Equal(t, 200, n)

	// Closing does not wait for room.
	full.Store(true)
	require.NoError(t, db.FlushSoon())
	require.NoError(t, db.Close())
}

// TestFullWhileTryingAgain looks at the view at each try of a write for which there is no
// room: it is full from the first one on.
func TestFullWhileTryingAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var db *kv.DB
		var full atomic.Bool
		var tries, room atomic.Int64
		db = open(t, faulty{durable.Mem(vfs.NewCrashableMem()), func(op errorfs.Op) error {
			if !full.Load() || op.Kind != errorfs.OpFileWrite {
				return nil
			}
			if tries.Add(1) > 1 && !db.Full() {
				room.Add(1)
			}
			return syscall.ENOSPC
		}})
		fill(t, db, 0, 100)
		full.Store(true)
		db.Patient()
		require.NoError(t, db.FlushSoon())
		time.Sleep(time.Second)
		require.Greater(t, tries.Load(), int64(5))
		require.Zero(t, room.Load())
		full.Store(false)
		require.NoError(t, db.Flush())
		require.False(t, db.Full())
	})
}

// TestFullDiskImpatient fails, so that Open of what rebuilds a view can say so.
func TestFullDiskImpatient(t *testing.T) {
	var full atomic.Bool
	db := open(t, faulty{durable.Mem(vfs.NewCrashableMem()), func(op errorfs.Op) error {
		if full.Load() && op.Kind == errorfs.OpFileWrite {
			return syscall.ENOSPC
		}
		return nil
	}})
	fill(t, db, 0, 100)
	full.Store(true)
	err := db.Flush()
	require.ErrorIs(t, err, durable.ErrNoSpace)
	require.ErrorIs(t, err, kv.ErrFailed)
}
