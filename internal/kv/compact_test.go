package kv_test

import (
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2"
	"github.com/stretchr/testify/require"

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
		s, start := kv.NewScheduler()
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
