package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Evacuate moves all shards of a backend to others: of one that is draining, that is
// absent, or that is none of the store's any more. What cannot be read of it is computed.
// Where a shard may not go anywhere it stays, and is in the report: ErrTooFew among its
// errors says that every other backend has as many shards of the stripe as it may,
// ErrNoSpace that those that have not are full. The error is for the pass itself.
//
// It is safe beside everything else, ends with ctx, and can be begun anew at any time: what
// moved stays so. It looks at the records of all extents, of a few hundred at a time, and
// again until it finds no more on the backend or cannot move what it finds, since puts
// that began earlier may yet write there.
func (s *Store) Evacuate(ctx context.Context, id BackendID, opts MoveOptions) (MoveReport, error) {
	v := &evacuation{mover: s.newMover(opts), from: id}
	if err := s.writable(); err != nil {
		return v.rep, err
	}
	if err := s.moving.take(ctx); err != nil {
		return v.rep, fmt.Errorf("move shards: wait for another pass to end: %w", err)
	}
	defer s.moving.give()
	err := v.run(ctx)
	if err == nil && v.rep.Left == 0 && !opts.DryRun && !s.registeredNow(id) {
		err = s.commitOne(ctx, Intact{Backend: id}) // nothing of it is missed any more
	}
	if over := s.over(ctx); over != nil {
		err = over
	}
	if err != nil {
		err = fmt.Errorf("move shards off backend %v: %w", id, err)
	}
	return v.rep, err
}

// evacuation is one under way.
type evacuation struct {
	*mover
	from BackendID
}

func (v *evacuation) run(ctx context.Context) error {
	choose := v.anywhere(v.s.opts.Reserve)
	if !v.s.registeredNow(v.from) {
		choose = v.anywhere(0) // the reserve is for what is lost
	}
	if err := v.plan(ctx); err != nil {
		return err
	}
	for {
		before := v.rep.Shards
		v.rep.Left, v.rep.Lost, v.rep.Errs = 0, 0, nil
		if err := v.extents(ctx, v.holds, func(ctx context.Context, id ExtentID) error { return v.extent(ctx, id, choose) }); err != nil {
			return err
		}
		if v.opts.DryRun || v.rep.Shards == before {
			return nil
		}
	}
}

// holds reports whether a shard of the extent is on the backend.
func (v *evacuation) holds(e *Extent) bool {
	return slices.ContainsFunc(e.Shards, func(s Shard) bool { return s.Backend == v.from })
}

// plan counts what is to be moved.
func (v *evacuation) plan(ctx context.Context) error {
	for after := (ExtentID{}); ; {
		page, err := v.page(ctx, after)
		if err != nil {
			return err
		}
		for _, e := range page {
			for i, sh := range e.Shards {
				if sh.Backend == v.from {
					v.rep.Planned++
					v.rep.PlannedBytes += e.Geometry().ColumnLen(i)
				}
			}
		}
		if len(page) < extentsAPage {
			return nil
		}
		after = page[len(page)-1].ID
	}
}

// extent moves what an extent has on the backend. No repair of it is under way meanwhile.
func (v *evacuation) extent(ctx context.Context, id ExtentID, choose chooser) error {
	unlock, err := v.s.healing.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	lost := false
	for i := 0; ; i++ {
		e, err := v.s.current(ctx, id)
		if isAbsent(err) || err == nil && i >= len(e.Shards) {
			return nil
		}
		if err != nil {
			return err
		}
		if e.Shards[i].Backend != v.from {
			continue
		}
		n, err := v.shard(ctx, e, i, choose)
		if over := v.s.over(ctx); over != nil {
			return over
		}
		if isAbsent(err) && v.s.collected(ctx, id) {
			return nil
		}
		v.moved(&e, i, n, err)
		if err != nil && !lost {
			lost = v.lost(ctx, &e)
		}
		if err != nil && fatal(err) {
			return err
		}
	}
}

// lost reports whether an extent has too few shards left anywhere, and counts it. Those that
// do not answer, or are on backends that are absent, count as there.
func (v *evacuation) lost(ctx context.Context, e *Extent) bool {
	there := 0
	for i, sh := range e.Shards {
		if sh.Missing || !v.s.registeredNow(sh.Backend) {
			continue
		}
		l, err := v.s.lookAt(ctx, e, i)
		if err == nil {
			l.close()
		}
		if !isAbsent(err) {
			there++
		}
	}
	if there >= e.Code.K || v.s.over(ctx) != nil {
		return false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.rep.Lost++
	return true
}

// shard moves one shard.
func (v *evacuation) shard(ctx context.Context, e Extent, i int, choose chooser) (int, error) {
	if v.opts.DryRun {
		_, err := choose(ctx, &e, i, nil)
		return 0, err
	}
	x, err := v.s.open.get(ctx, e)
	if err != nil {
		return 0, err
	}
	defer v.s.open.put(x)
	x.retry()
	return v.move(ctx, x, i, &shardState{}, choose)
}

// relocate makes a shard anew on another backend: the one that it is on is to be written
// to no more. st says what is known of it.
func (s *Store) relocate(ctx context.Context, x *handle, i int, st *shardState) (int, error) {
	m := s.newMover(MoveOptions{})
	return m.move(ctx, x, i, st, m.anywhere(0))
}

// rebuildLost makes anew what lay on backends that were lost, as far as there are others
// to take it. What that is not the case for stays on the repair queue, by one row for each
// backend.
func (s *Store) rebuildLost(ctx context.Context, lost []BackendID) (rep RepairReport, err error) {
	for _, id := range lost {
		moved, err := s.Evacuate(ctx, id, MoveOptions{})
		rep.Repaired += moved.Shards
		rep.Blocks += moved.Computed
		if err != nil {
			return rep, err
		}
		if moved.Left > 0 {
			rep.Left++
			rep.Errs = append(rep.Errs, fmt.Errorf("backend %v was lost: %w", id, moved.Err()))
		}
	}
	return rep, nil
}

// add adds what another report says.
func (r *RepairReport) add(o RepairReport) {
	r.Repaired += o.Repaired
	r.Blocks += o.Blocks
	r.Intact += o.Intact
	r.Left += o.Left
	r.Errs = append(r.Errs, o.Errs...)
	r.Errs = r.Errs[:min(len(r.Errs), mostErrs)]
}

// runMover makes anew in the background what lay on backends that were lost, when the
// repairer finds them on the queue: that takes long, and other repairs do not wait for it.
func (s *Store) runMover() {
	for {
		select {
		case <-s.ctx.Done():
			return
		case lost := <-s.moveNow:
			rep, err := s.rebuildLost(s.ctx, lost)
			if err = errors.Join(append(rep.Errs, err)...); err != nil && s.ctx.Err() == nil {
				s.log.Warn("what lay on lost disks is not made anew, or not all of it", "err", err)
			}
		}
	}
}
