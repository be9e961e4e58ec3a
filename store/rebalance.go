package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// levelSlack is how much fuller than all together a backend must be before something is
// moved off it.
const levelSlack = 0.01

// level is how full a backend is, as moves that are planned make it.
type level struct {
	total, used int64
	full        bool // nothing more goes there
}

func (l *level) fill(more int64) float64 { return float64(l.used+more) / float64(l.total) }

// levels are how full all backends are that shards may be moved between.
type levels struct {
	reserve float64
	mean    float64 // of all together
	of      map[BackendID]*level
}

// Level is the space of a backend, as [Store.Rebalance] sees it.
type Level struct {
	ID    BackendID
	Total int64
	Free  int64
}

func newLevels(list []Level, reserve float64) *levels {
	l := &levels{reserve: reserve, of: map[BackendID]*level{}}
	var total, used int64
	for _, b := range list {
		if b.Total > 0 {
			l.of[b.ID] = &level{total: b.Total, used: b.Total - b.Free}
			total, used = total+b.Total>>10, used+(b.Total-b.Free)>>10 // in KiB: without a limit it is a large number
		}
	}
	if total > 0 {
		l.mean = float64(used) / float64(total)
	}
	return l
}

// pick returns the shard of an extent whose move is of most use, and where to: one that lies
// together with others and need not; or one whose move brings levels together. The move is
// counted.
func (l *levels) pick(e *Extent, policies []Policy) (shard int, to BackendID, ok bool) {
	on, most := map[BackendID]int{}, e.most(policies)
	if e.Kind == KindPack && len(l.of) > 0 {
		most = max(most, (e.Code.Shards()+len(l.of)-1)/len(l.of))
	}
	for _, s := range e.Shards {
		on[s.Backend]++
	}
	if shard, to, ok = l.apart(e, on, most); !ok {
		shard, to, ok = l.flatter(e, policies, on, most)
	}
	if ok {
		l.count(e, shard, to, 1)
	}
	return shard, to, ok
}

// apart returns a shard of those of which more than most lie on one backend, and the
// emptiest that it is better off on. Nothing that flatter does leads back.
func (l *levels) apart(e *Extent, on map[BackendID]int, most int) (shard int, to BackendID, ok bool) {
	for i, s := range e.Shards {
		if l.of[s.Backend] == nil || s.Missing || on[s.Backend] <= most {
			continue
		}
		need, least := shardNeed(e, i), 0.0
		for id, b := range l.of {
			fill := b.fill(need)
			if on[id] >= most || b.full || fill > 1-l.reserve || ok && (fill > least || fill == least && id.String() > to.String()) {
				continue
			}
			shard, to, ok, least = i, id, true, fill
		}
		if ok {
			break
		}
	}
	return shard, to, ok
}

// flatter returns the shard whose move brings levels together most: from a backend that is
// fuller than all together, to the emptiest that may take it, and only if it is then no
// fuller than the other, and has no more of the extent.
func (l *levels) flatter(e *Extent, policies []Policy, on map[BackendID]int, most int) (shard int, to BackendID, ok bool) {
	best := 0.0
	for i, s := range e.Shards {
		from, need := l.of[s.Backend], shardNeed(e, i)
		if from == nil || s.Missing || from.fill(0) <= l.mean+levelSlack {
			continue
		}
		for id, b := range l.of {
			gain := from.fill(-need) - b.fill(need)
			if b.full || gain < best || gain == best && ok && id.String() > to.String() || b.fill(need) > 1-l.reserve ||
				id == s.Backend || on[id] >= max(most, on[s.Backend]) || !e.MayMove(i, id, policies, len(l.of)) {
				continue
			}
			shard, to, ok, best = i, id, true, gain
		}
	}
	return shard, to, ok
}

// count counts a move, or with -1 takes it back.
func (l *levels) count(e *Extent, i int, to BackendID, n int64) {
	l.of[e.Shards[i].Backend].used -= n * shardNeed(e, i)
	l.of[to].used += n * shardNeed(e, i)
}

// Rebalance moves shards from backends that are fuller than all together to those that are
// emptier, until they are about as full as each other, or nothing more may be moved: the
// reserve of each is kept, and no shards of a stripe come together. Those that do, since
// there was no other place for them, part first. Backends that are
// draining, absent or not well take no part.
//
// What a backend has no room for after all stays where it was, and counts in Left of the
// report. It is safe beside everything else, as [Store.Evacuate] is, and looks at the
// records as that does.
func (s *Store) Rebalance(ctx context.Context, opts MoveOptions) (MoveReport, error) {
	b := &balance{mover: s.newMover(opts)}
	if err := s.writable(); err != nil {
		return b.rep, err
	}
	if err := s.moving.take(ctx); err != nil {
		return b.rep, fmt.Errorf("rebalance: wait for another pass to end: %w", err)
	}
	defer s.moving.give()
	b.levels = newLevels(s.levelsNow(ctx), s.opts.Reserve)
	err := b.run(ctx)
	if over := s.over(ctx); over != nil {
		err = over
	}
	if err != nil {
		err = fmt.Errorf("rebalance: %w", err)
	}
	return b.rep, err
}

// levelsNow asks the backends that shards may be placed on.
func (s *Store) levelsNow(ctx context.Context) (list []Level) {
	for _, t := range s.targets(ctx, 0) {
		if u, err := s.disk(t.ID).Usage(ctx); err == nil {
			list = append(list, Level{t.ID, u.Total, u.Free})
		}
	}
	return list
}

// balance is one pass under way.
type balance struct {
	*mover
	at     sync.Mutex // of levels
	levels *levels
}

func (b *balance) run(ctx context.Context) error {
	for {
		before := b.rep.Shards
		if err := b.extents(ctx, func(*Extent) bool { return true }, b.extent); err != nil {
			return err
		}
		if b.opts.DryRun || b.rep.Left > 0 || b.rep.Shards == before {
			return nil
		}
	}
}

// extent moves a shard of the extent, if that is of use.
func (b *balance) extent(ctx context.Context, id ExtentID) error {
	unlock, err := b.s.healing.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	e, err := b.s.current(ctx, id)
	if err != nil {
		return passAbsent(err)
	}
	b.at.Lock()
	i, to, ok := b.levels.pick(&e, b.s.opts.Policies())
	b.at.Unlock()
	if !ok {
		return nil
	}
	n, err := 0, error(nil)
	if !b.opts.DryRun {
		n, err = b.shard(ctx, e, i, to)
	}
	if over := b.s.over(ctx); over != nil {
		return over
	}
	if err != nil {
		b.at.Lock()
		b.levels.count(&e, i, to, -1)
		b.levels.of[to].full = b.levels.of[to].full || errors.Is(err, ErrNoSpace)
		b.at.Unlock()
		if isAbsent(err) && b.s.collected(ctx, id) {
			return nil
		}
	}
	b.moved(&e, i, n, err)
	if err != nil && fatal(err) {
		return err
	}
	return nil
}

// shard moves one shard.
func (b *balance) shard(ctx context.Context, e Extent, i int, to BackendID) (int, error) {
	x, err := b.s.open.get(ctx, e)
	if err != nil {
		return 0, err
	}
	defer b.s.open.put(x)
	x.retry()
	return b.move(ctx, x, i, &shardState{}, func(_ context.Context, _ *Extent, _ int, tried map[BackendID]bool) (BackendID, error) {
		if tried[to] {
			return to, fmt.Errorf("%w: it was to go to backend %v only", ErrUnavailable, to)
		}
		return to, nil
	})
}
