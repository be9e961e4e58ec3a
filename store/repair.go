package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Rows that could not be repaired are tried anew after repairAgain, and after twice as
// long each time, up to repairRarely, until there is news.
const (
	repairAgain  = time.Minute
	repairRarely = time.Hour
)

// RepairReport says what became of the rows of the repair queue.
type RepairReport struct {
	Repaired int64   // shards made whole
	Blocks   int64   // blocks computed for them
	Intact   int64   // rows whose shard was found in order
	Left     int64   // rows that stay on the queue
	Errs     []error // why, at most 100 of them
}

// Repair works off the repair queue: everything that reads and scrubs have found
// damaged so far, least remaining redundancy first. What cannot be repaired stays
// on the queue and is in the report; the error is for the queue itself. What lay on
// backends that were lost comes last.
func (s *Store) Repair(ctx context.Context) (rep RepairReport, err error) {
	rep, lost, err := s.repairQueue(ctx)
	if err == nil && len(lost) > 0 {
		var more RepairReport
		more, err = s.rebuildLost(ctx, lost)
		rep.add(more)
	}
	return rep, err
}

// repairQueue works off the queue, but for the backends on it that were lost.
func (s *Store) repairQueue(ctx context.Context) (rep RepairReport, lost []BackendID, err error) {
	if err := s.writable(); err != nil {
		return rep, lost, err
	}
	s.damage.flush(ctx)
	if err := s.repairing.take(ctx); err != nil {
		return rep, lost, fmt.Errorf("repair: wait for another one to end: %w", err)
	}
	defer s.repairing.give()
	for r, err := range s.cat.Repairs(ctx) {
		if err != nil {
			return rep, lost, err
		}
		if err := s.over(ctx); err != nil {
			return rep, lost, err
		}
		if r.Extent == (ExtentID{}) && !s.registeredNow(r.Backend) {
			lost = append(lost, r.Backend)
			continue
		}
		n, err := s.repairRow(ctx, r)
		switch {
		case err != nil && s.over(ctx) != nil:
			return rep, lost, s.over(ctx)
		case err != nil && r.Extent != (ExtentID{}) && s.collected(ctx, r.Extent): // its rows went with it
		case err != nil:
			rep.Left++
			if len(rep.Errs) < 100 {
				rep.Errs = append(rep.Errs, err)
			}
		case n == 0:
			rep.Intact++
		default:
			rep.Repaired++
			rep.Blocks += int64(n)
		}
	}
	return rep, lost, nil
}

// repairRow repairs what one row names.
func (s *Store) repairRow(ctx context.Context, r Repair) (int, error) {
	if r.Extent != (ExtentID{}) {
		n, err := s.healShard(ctx, r.Extent, r.Shard)
		if err != nil && errors.Is(err, ErrUnrecoverable) {
			s.reportLost(ctx, err)
		}
		return n, err
	}
	if _, err := s.disk(r.Backend).Usage(ctx); err != nil {
		return 0, err
	}
	s.damage.forgetBackend(r.Backend)
	return 0, s.commitOne(ctx, Intact{Backend: r.Backend})
}

// current returns the record of an extent as it is now, fs.ErrNotExist if its upload
// is dead.
func (s *Store) current(ctx context.Context, id ExtentID) (Extent, error) {
	e, err := s.cat.Extent(ctx, id)
	if err != nil {
		return e, err
	}
	u, err := s.cat.Upload(ctx, e.Upload)
	if err == nil && u.State == UploadDead {
		err = fs.ErrNotExist
	}
	return e, err
}

// collected reports whether a collection came between: nothing of the extent is to be
// repaired any more.
func (s *Store) collected(ctx context.Context, id ExtentID) bool {
	_, err := s.current(ctx, id)
	return isAbsent(err)
}

// reportLost tells whoever listens what a shard that cannot be repaired lost. A parity
// block is nobody's: where it cannot be computed, a data block of its stripe is lost too,
// and has a row of its own.
func (s *Store) reportLost(ctx context.Context, err error) {
	var ce *CorruptError
	if s.opts.Events.Lost == nil || !errors.As(err, &ce) {
		return
	}
	e, err := s.cat.Extent(ctx, ce.Extent)
	if err != nil || ce.Stripe >= 0 && ce.Offset-e.Offset >= int64(ce.Stripe+1)*int64(e.Code.K)*BlockSize {
		return
	}
	s.eachLost(ctx, *ce, e.Upload, nil)
}

// runRepairer repairs in the background whatever is found damaged.
func (s *Store) runRepairer() {
	timer := time.NewTimer(0) // what was left by the last process
	defer timer.Stop()
	wait := repairAgain
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.repairNow:
			wait = repairAgain
		case <-timer.C:
		}
		rep, lost, err := s.repairQueue(s.ctx)
		if len(lost) > 0 {
			select {
			case s.moveNow <- lost:
			default: // it is at it
			}
		}
		if err != nil && s.ctx.Err() == nil {
			s.log.Warn("repair queue cannot be worked off", "err", err)
		}
		if rep.Left > 0 {
			s.log.Warn("damage stays on the repair queue", "rows", rep.Left, "err", rep.Errs[0]) // the first of them
		}
		if rep.Left > 0 || len(lost) > 0 {
			timer.Reset(wait)
			wait = min(2*wait, repairRarely)
		}
	}
}

// wakeRepairer makes the background repair look at the queue.
func (s *Store) wakeRepairer() {
	select {
	case s.repairNow <- struct{}{}:
	default:
	}
}

// repairSoon wakes the repairer when a put left shards missing.
func (s *Store) repairSoon(extents []Extent) {
	for i := range extents {
		for _, sh := range extents[i].Shards {
			if sh.Missing {
				s.wakeRepairer()
				return
			}
		}
	}
}

// eachShard runs f for 0 ≤ i < n, a few at a time, and waits.
func (s *Store) eachShard(n int, f func(i int)) {
	var work errgroup.Group
	work.SetLimit(max(4, 2*runtime.GOMAXPROCS(0)))
	for i := range n {
		work.Go(func() error { f(i); return nil })
	}
	work.Wait()
}

// extentLocks lets one repair at a time work on an extent.
type extentLocks struct {
	mu   sync.Mutex
	held map[ExtentID]*heldLock
}

type heldLock struct {
	turn turn
	n    int // holders and waiters
}

// lock locks an extent and returns what unlocks it, or the error of ctx if that ends
// first.
func (l *extentLocks) lock(ctx context.Context, id ExtentID) (unlock func(), err error) {
	h := l.join(id)
	if err := h.turn.take(ctx); err != nil {
		l.leave(id, h)
		return nil, fmt.Errorf("wait for a repair of extent %v: %w", id, err)
	}
	return func() {
		h.turn.give()
		l.leave(id, h)
	}, nil
}

// join counts one more who holds the lock of an extent or waits for it.
func (l *extentLocks) join(id ExtentID) *heldLock {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held = map[ExtentID]*heldLock{}
	}
	h := l.held[id]
	if h == nil {
		h = &heldLock{turn: newTurn()}
		l.held[id] = h
	}
	h.n++
	return h
}

func (l *extentLocks) leave(id ExtentID, h *heldLock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h.n--; h.n == 0 {
		delete(l.held, id)
	}
}
