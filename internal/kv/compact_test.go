package kv_test

import (
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/kv"
)

// backlog is a DB that always has a compaction waiting.
type backlog struct {
	schedule func(pebble.CompactionGrantHandle) bool
}

func (backlog) GetAllowedWithoutPermission() int { return 1 }
func (backlog) GetWaitingCompaction() (bool, pebble.WaitingCompaction) {
	return true, pebble.WaitingCompaction{}
}
func (b backlog) Schedule(g pebble.CompactionGrantHandle) bool { return b.schedule(g) }

// TestUnregisterWaits lets the first compaction be done before the Schedule that
// began it returns, and holds the Schedule of the second: Unregister waits for that.
func TestUnregisterWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, start := kv.NewScheduler(make(chan struct{}))
		second, held := make(chan bool), make(chan bool)
		calls := 0
		s.Register(2, backlog{func(g pebble.CompactionGrantHandle) bool {
			if calls++; calls == 1 {
				go g.Done()
				<-second
				return true
			}
			close(second)
			<-held
			return false
		}})
		start()
		synctest.Wait()
		unregistered := false
		go func() { s.Unregister(); unregistered = true }()
		synctest.Wait()
		require.False(t, unregistered, "a call of the DB is under way")
		close(held)
		synctest.Wait()
		require.True(t, unregistered)
	})
}

// unreadable fails reads of tables, once armed, and stops who does not rest.
type unreadable struct {
	t      *testing.T
	armed  atomic.Bool
	opened chan struct{} // closed: such reads return
	reads  atomic.Int64
}

func (u *unreadable) inject(op errorfs.Op) error {
	if !u.armed.Load() || !strings.HasSuffix(op.Path, ".sst") || op.Kind != errorfs.OpOpen && op.Kind != errorfs.OpFileReadAt {
		return nil
	}
	<-u.opened
	if u.reads.Add(1) == 10_000 {
		u.t.Error("tables that cannot be read are read again and again")
		select {}
	}
	return syscall.EIO
}

// TestUnreadableTables leaves a view open whose compaction cannot read its tables:
// it is not tried again.
func TestUnreadableTables(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &unreadable{t: t, opened: make(chan struct{})}
		close(u.opened)
		db := open(t, faulty{durable.Mem(vfs.NewCrashableMem()), u.inject})
		for i := 0; db.Failed() == nil; i++ {
			put(t, db, "row", "value")
			u.armed.Store(i == 3) // as many tables as make a compaction
			if err := db.FlushSoon(); err != nil {
				require.ErrorIs(t, err, syscall.EIO) // of the compaction, already
			}
			synctest.Wait()
			require.Less(t, i, 4)
		}
		require.ErrorIs(t, db.Failed(), syscall.EIO)
		tried := u.reads.Load()
		time.Sleep(time.Hour)
		require.Equal(t, tried, u.reads.Load())
	})
}

// TestCloseUnderSnapshot closes a view that somebody has a snapshot of, while a
// compaction is about to read its tables: nothing changes any more when Close has
// returned, since the directory may be opened again then.
func TestCloseUnderSnapshot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var armed, closed atomic.Bool
		var reading, late atomic.Int64
		opened := make(chan struct{})
		disk := durable.Mem(vfs.NewCrashableMem())
		db := open(t, faulty{disk, func(op errorfs.Op) error {
			if armed.Load() && strings.HasSuffix(op.Path, ".sst") && (op.Kind == errorfs.OpOpen || op.Kind == errorfs.OpFileReadAt) {
				reading.Add(1)
				<-opened
			}
			if closed.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && op.Kind != errorfs.OpFileClose {
				late.Add(1)
			}
			return nil
		}})
		for i := range 4 { // as many tables as make a compaction
			fill(t, db, i*50, i*50+50)
			armed.Store(i == 3)
			require.NoError(t, db.FlushSoon())
			synctest.Wait()
		}
		require.NotZero(t, reading.Load())
		s, err := db.Snapshot()
		require.NoError(t, err)
		require.NoError(t, db.Close())
		closed.Store(true)
		again, err := kv.Open(kv.Options{FS: disk, Dir: "view"})
		require.NoError(t, err)
		close(opened)
		synctest.Wait()
		_, _, err = s.Get([]byte("count"))
		require.ErrorIs(t, err, kv.ErrClosed)
		s.Close()
		synctest.Wait()
		require.Zero(t, late.Load(), "changes")
		n, err := prefix(t, again)
		require.NoError(t, err)
		require.Equal(t, 200, n)
		require.NoError(t, again.Close())
	})
}

// TestUnreadableAtOpen opens a view of tables that cannot be read. Pebble tries for
// as long as it is open, and rests in between.
func TestUnreadableAtOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &unreadable{t: t, opened: make(chan struct{})}
		fs := faulty{durable.Mem(vfs.NewCrashableMem()), u.inject}
		db := open(t, fs)
		put(t, db, "row", "value")
		require.NoError(t, db.Flush())
		require.NoError(t, db.Close())
		u.armed.Store(true)
		db = open(t, fs)
		close(u.opened)
		time.Sleep(time.Minute)
		require.ErrorIs(t, db.Failed(), syscall.EIO)
		require.Less(t, u.reads.Load(), int64(1000))
	})
}
