package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

const (
	moversAtOnce = 4   // extents whose shards move at the same time; each takes some MiB
	extentsAPage = 256 // of the catalog that are in memory at once, so that no state of it is held for long
	mostErrs     = 100 // that a report has
	moveTries    = 3   // backends that are tried for one shard
)

// MoveOptions says how shards are moved to other backends.
type MoveOptions struct {
	DryRun bool  // only tell what would be moved
	Rate   int64 // bytes a second that are written at most; 0: as fast as it goes

	// Prefer is where shards go that may and fit there; zero: wherever they fit.
	Prefer BackendID

	// Progress is called after each shard, not concurrently. It should return soon.
	Progress func(MoveReport)
}

// MoveReport says what became of the shards that were to be moved.
type MoveReport struct {
	Planned      int64   // shards that were to be moved, as far as was known at the beginning
	PlannedBytes int64   // of their blocks
	Shards       int64   // that moved, or would
	Bytes        int64   // of their blocks
	Computed     int64   // blocks that were computed, since they could not be read
	Left         int64   // shards that stay where they are
	Lost         int64   // extents of these that cannot be read: too few of their shards are left anywhere
	Errs         []error // why, at most 100 of them
}

// Err returns nil, or why shards stay where they are.
func (r MoveReport) Err() error {
	if r.Left == 0 {
		return nil
	}
	return fmt.Errorf("%d shards stay where they are: %w", r.Left, errors.Join(r.Errs[:min(3, len(r.Errs))]...))
}

// mover moves shards, several extents at a time.
//
// For each shard: the place is chosen; a blob of the next generation is written there,
// of sound blocks as they are and the others computed; it is read back; Replace is
// committed, the one commit point; the old blob is removed. A crash before leaves an
// orphan where the shard was to go, a crash after it one where it was. Nothing else is
// remembered: what is still to be moved is found by looking at all records again.
type mover struct {
	s     *Store
	opts  MoveOptions
	limit *rate.Limiter

	mu   sync.Mutex
	rep  MoveReport
	full map[BackendID]bool // they said so
}

func (s *Store) newMover(opts MoveOptions) *mover {
	m := &mover{s: s, opts: opts, full: map[BackendID]bool{}}
	if opts.Rate > 0 {
		m.limit = rate.NewLimiter(rate.Limit(opts.Rate), int(max(opts.Rate, pieceStripes*BlockSize)))
	}
	return m
}

// pace waits until so many bytes may be written.
func (m *mover) pace(ctx context.Context) func(int) error {
	if m.limit == nil {
		return nil
	}
	return func(n int) error {
		for ; n > 0; n -= m.limit.Burst() {
			if err := m.wait(ctx, min(n, m.limit.Burst())); err != nil {
				return err
			}
		}
		return nil
	}
}

// wait waits for n bytes, at most until ctx ends. (WaitN of the limiter gives up before, if
// it sees that coming.)
func (m *mover) wait(ctx context.Context, n int) error {
	r := m.limit.ReserveN(time.Now(), n)
	timer := time.NewTimer(r.Delay())
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err()
	case <-ctx.Done():
		r.Cancel()
		return ctx.Err()
	}
}

// extents calls f for all extents of which want says so, several at a time.
func (m *mover) extents(ctx context.Context, want func(*Extent) bool, f func(context.Context, ExtentID) error) error {
	work, wctx := errgroup.WithContext(ctx)
	work.SetLimit(moversAtOnce)
	for after := (ExtentID{}); ; {
		page, err := m.page(ctx, after)
		if err != nil {
			return errors.Join(work.Wait(), err)
		}
		for i := range page {
			if e := &page[i]; want(e) && wctx.Err() == nil {
				work.Go(func() error { return f(wctx, e.ID) })
			}
		}
		if len(page) < extentsAPage || wctx.Err() != nil {
			err := work.Wait()
			return cmp.Or(err, ctx.Err())
		}
		after = page[len(page)-1].ID
	}
}

// page returns the extents after one.
func (m *mover) page(ctx context.Context, after ExtentID) (page []Extent, err error) {
	if err := m.s.over(ctx); err != nil {
		return nil, err
	}
	for e, err := range m.s.cat.Extents(ctx, after) {
		if err != nil {
			return nil, err
		}
		if page = append(page, e); len(page) == extentsAPage {
			break
		}
	}
	return page, nil
}

// chooser returns where shard i of an extent may go, but for those that were tried.
type chooser func(ctx context.Context, e *Extent, i int, tried map[BackendID]bool) (BackendID, error)

// move moves shard i of an extent, which is locked against repairs. st says which of its
// blocks are known to be bad. It returns how many blocks were computed.
func (m *mover) move(ctx context.Context, x *handle, i int, st *shardState, choose chooser) (int, error) {
	tried, errs := map[BackendID]bool{}, []error(nil)
	for {
		to, err := choose(ctx, &x.e, i, tried)
		if err != nil {
			return 0, errors.Join(append(errs, err)...)
		}
		m.s.disk(to).wrote(shardNeed(&x.e, i))
		n, err := m.s.rewriteShard(ctx, x, i, st, to, m.pace(ctx))
		if err == nil || m.s.over(ctx) != nil || fatal(err) || errors.Is(err, ErrUnrecoverable) || len(tried)+1 == moveTries {
			return n, err
		}
		errs = append(errs, fmt.Errorf("to backend %v: %w", to, err))
		tried[to] = true
		if errors.Is(err, ErrNoSpace) {
			m.fill(to)
		}
	}
}

// fatal reports whether an error is one of the records: to go on would not help.
func fatal(err error) bool {
	return errors.Is(err, ErrUncertain) || errors.Is(err, fs.ErrPermission) && !errors.Is(err, ErrUnavailable)
}

// fill takes note of a backend that had no room.
func (m *mover) fill(id BackendID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.full[id] = true
}

// shardNeed returns how much room the blob of shard i takes, about.
func shardNeed(e *Extent, i int) int64 {
	g := e.Geometry()
	return g.ColumnLen(i) + tableLen(g) + headerSize + 4*trailerSize
}

// anywhere returns a chooser among the backends that are there, beyond a reserve.
func (m *mover) anywhere(reserve float64) chooser {
	return func(ctx context.Context, e *Extent, i int, tried map[BackendID]bool) (BackendID, error) {
		policies, backends := m.s.opts.Policies(), m.s.receivers()
		targets := m.s.targets(ctx, reserve)
		if err := ctx.Err(); err != nil {
			return BackendID{}, err
		}
		m.mu.Lock()
		targets = slices.DeleteFunc(targets, func(t Target) bool { return tried[t.ID] || m.full[t.ID] })
		full := len(m.full) > 0
		m.mu.Unlock()
		if at := slices.IndexFunc(targets, func(t Target) bool { return t.ID == m.opts.Prefer }); at >= 0 {
			if to, err := PlaceOne(e, i, shardNeed(e, i), policies, backends, targets[at:at+1]); err == nil {
				return to, nil
			}
		}
		to, err := PlaceOne(e, i, shardNeed(e, i), policies, backends, targets)
		if errors.Is(err, ErrTooFew) && full {
			err = fmt.Errorf("%w: others are full: %w", ErrNoSpace, err)
		}
		return to, err
	}
}

// moved counts a shard that moved, or did not.
func (m *mover) moved(e *Extent, i, computed int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		m.rep.Shards++
		m.rep.Bytes += e.Geometry().ColumnLen(i)
		m.rep.Computed += int64(computed)
	} else {
		m.rep.Left++
		if len(m.rep.Errs) < mostErrs {
			m.rep.Errs = append(m.rep.Errs, fmt.Errorf("shard %d of extent %v: %w", i, e.ID, err))
		}
	}
	if m.opts.Progress != nil {
		m.opts.Progress(m.rep)
	}
}
