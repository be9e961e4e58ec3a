package kv

import (
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// scheduler allows one compaction at a time, and none before Open has succeeded.
// Pebble's own starts them while Open is under way: if that fails then, they run
// on into what was closed, and their panic is the end of the process.
//
// And it allows none in a view that has failed. A compaction that cannot read its
// tables is answered by Pebble with the same one again, at once and for ever: it
// would keep a processor busy for as long as the view is not closed.
//
// Its mutex comes after those of Pebble: no method of db is called with it held.
type scheduler struct {
	db     pebble.DBForCompaction // set once, before any other call
	failed <-chan struct{}        // closed once the view has failed
	wg     sync.WaitGroup         // calls of grant that were started here

	mu       sync.Mutex
	idle     *sync.Cond // granting became 0
	open     bool
	ended    bool
	busy     bool // a compaction runs, or is about to
	granting int  // calls of grant that are about to call db, or do
	missed   bool // Pebble was sent away while busy
}

var _ pebble.CompactionScheduler = (*scheduler)(nil)

func newScheduler(failed <-chan struct{}) *scheduler {
	s := &scheduler{failed: failed}
	s.idle = sync.NewCond(&s.mu)
	return s
}

// start lets compactions begin.
func (s *scheduler) start() {
	s.mu.Lock()
	s.open = true
	s.mu.Unlock()
	s.wg.Go(s.grant)
}

// end lets no more compactions begin.
func (s *scheduler) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
}

// Register is part of pebble.CompactionScheduler.
func (s *scheduler) Register(_ int, db pebble.DBForCompaction) { s.db = db }

// Unregister is part of pebble.CompactionScheduler.
func (s *scheduler) Unregister() {
	s.mu.Lock()
	s.ended = true
	for s.granting > 0 {
		s.idle.Wait()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// allowed reports whether compactions may begin. It needs mu.
func (s *scheduler) allowed() bool {
	select {
	case <-s.failed:
		return false
	default:
		return s.open && !s.ended
	}
}

// TrySchedule is part of pebble.CompactionScheduler.
func (s *scheduler) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.allowed() || s.busy {
		s.missed = true
		return false, nil
	}
	s.busy = true
	return true, s
}

// UpdateGetAllowedWithoutPermission is part of pebble.CompactionScheduler.
func (s *scheduler) UpdateGetAllowedWithoutPermission() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.allowed() { // Unregister has not begun to wait
		s.wg.Go(s.grant)
	}
}

// Done is part of pebble.CompactionGrantHandle.
func (s *scheduler) Done() {
	s.mu.Lock()
	s.busy = false
	s.mu.Unlock()
	s.grant()
}

// Started is part of pebble.CompactionGrantHandle.
func (s *scheduler) Started() {}

// MeasureCPU is part of pebble.CompactionGrantHandle.
func (s *scheduler) MeasureCPU(pebble.CompactionGoroutineKind) {}

// CumulativeStats is part of pebble.CompactionGrantHandle.
func (s *scheduler) CumulativeStats(pebble.CompactionGrantHandleStats) {}

// grant starts the compaction that waits, if there is one and none runs.
func (s *scheduler) grant() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.allowed() && !s.busy {
		// What db starts may be done before Schedule has returned, and its Done be
		// here too.
		s.busy, s.missed = true, false
		s.granting++
		s.mu.Unlock()
		waiting, _ := s.db.GetWaitingCompaction()
		started := waiting && s.db.Schedule(s)
		s.mu.Lock()
		s.granting--
		s.idle.Broadcast()
		if started {
			return
		}
		if s.busy = false; !s.missed {
			return
		}
	}
}
