package blockframe

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"

	"github.com/blockframe/blockframe/internal/catalog"
)

// DrainDisk moves all that a disk holds to others, so that it can be removed. From then
// on it takes nothing new, but for what finds no place elsewhere of a put that had begun
// before: another DrainDisk moves that. What it holds is read as before until it has
// moved. Of a disk that is absent all is computed from the others.
//
// What may go nowhere stays, and makes an error beside the report: ErrTooFew where every
// other disk has its part of the same data already, ErrNoSpace where those that have not
// are full. The disk is draining all the same, also when ctx ends, and after a restart:
// another DrainDisk goes on, and [Store.KeepDisk] ends it. The last disk cannot be drained.
//
// It is safe beside everything else. It looks at the records of all extents, in little
// memory; moving takes some MiB.
func (s *Store) DrainDisk(ctx context.Context, id BackendID, opts MoveOptions) (MoveReport, error) {
	rep, err := s.drainDisk(ctx, id, opts)
	if err != nil {
		err = fmt.Errorf("drain disk %s: %w", s.calls(id), err)
	}
	return rep, err
}

func (s *Store) drainDisk(ctx context.Context, id BackendID, opts MoveOptions) (rep MoveReport, err error) {
	d, err := s.registered(id)
	if err != nil {
		return rep, err
	}
	if s.disks.placeable() == 1 && d.state == catalog.BackendActive {
		return rep, fmt.Errorf("%w: it is the last one", ErrTooFew)
	}
	if !opts.DryRun {
		if err := s.setDraining(ctx, id, true); err != nil {
			return rep, err
		}
	}
	if rep, err = s.eng.Evacuate(ctx, id, opts); err == nil {
		err = rep.Err()
	}
	return rep, err
}

// KeepDisk ends the draining of a disk: it takes new data again. What has moved stays
// where it is.
func (s *Store) KeepDisk(ctx context.Context, id BackendID) error {
	_, err := s.registered(id)
	if err == nil {
		err = s.setDraining(ctx, id, false)
	}
	if err != nil {
		return fmt.Errorf("keep disk %s: %w", s.calls(id), err)
	}
	return nil
}

// setDraining records whether a disk is draining, and lets placement know.
func (s *Store) setDraining(ctx context.Context, id BackendID, on bool) error {
	s.disks.adding.Lock()
	defer s.disks.adding.Unlock()
	if _, err := s.change(ctx, "record", "disk", catalog.DrainBackend{ID: id, On: on}); err != nil {
		return err
	}
	state := catalog.BackendActive
	if on {
		state = catalog.BackendDraining
	}
	s.disks.turn(id, state)
	s.eng.SetDraining(id, on)
	return nil
}

// RemoveOptions says how a disk is removed.
type RemoveOptions struct {
	// Lost gives the disk up with what it holds, for good: that is made anew on the
	// others, as far as these may take it. What is on it is never used again, also if it
	// comes back.
	Lost bool

	// Move says how what was lost is made anew.
	Move MoveOptions
}

// RemoveDisk takes a disk off the store: one that is drained, or with Lost any. While
// shards lie on it, it is ErrConflict without Lost. The directory is left as it is, and
// is not used again; Dirs of the next Open need not name it. A put that is writing there
// at this moment may fail with ErrConflict; repeated, it writes elsewhere.
//
// The record that it is removed is the commit point. With Lost, what lay on it is made
// anew then: a crash, the end of ctx, or disks that are too few or too full for it leave
// some of it missing, which is on the repair queue and done later by itself. The error
// says so, and matches ErrTooFew or ErrNoSpace. The last disk that takes anything, where
// all others are draining, is not removed: that is ErrTooFew before anything changes.
func (s *Store) RemoveDisk(ctx context.Context, id BackendID, opts RemoveOptions) (rep MoveReport, err error) {
	if _, err = s.registered(id); err == nil {
		err = s.dropDisk(ctx, id, opts.Lost)
	}
	if err == nil && opts.Lost {
		if rep, err = s.eng.Evacuate(ctx, id, opts.Move); err == nil {
			err = rep.Err()
		}
	}
	if err != nil {
		err = fmt.Errorf("remove disk %s: %w", s.calls(id), err)
	}
	return rep, err
}

// dropDisk records that a disk is gone, and lets go of it.
func (s *Store) dropDisk(ctx context.Context, id BackendID, lost bool) error {
	if held, err := s.cat.Held(ctx, id); err != nil || held.Shards > 0 && !lost {
		return cmp.Or(err, fmt.Errorf("%w: %s holds %d shards, %d of them not written yet: drain it first", ErrConflict, s.calls(id), held.Shards, held.Missing))
	}
	release, err := s.begin()
	if err != nil {
		return err
	}
	defer release()
	s.logsMu.Lock() // no copy of the log comes to the disk meanwhile
	defer s.logsMu.Unlock()
	if err := s.logLeaves(id); err != nil {
		return err
	}
	s.disks.adding.Lock()
	defer s.disks.adding.Unlock()
	if _, err := s.change(ctx, "record", "disk", catalog.DropBackend{ID: id, Lost: lost}); err != nil {
		s.tendNow() // it may take its copy of the log back
		return err
	}
	s.eng.Detach(id)
	d, _ := s.disks.find(id)
	d.state, d.backend, d.err = catalog.BackendRemoved, nil, nil
	if lost {
		d.state = catalog.BackendLost
	}
	s.disks.set(d)
	s.log.Info("disk taken off the store", "disk", d.id, "path", d.path, "state", d.state)
	if h := s.homes.byID(id); h != nil && h.at(viewName) == s.viewAt {
		s.log.Warn("the index stays on the disk until the store is opened again", "path", d.path)
		return nil
	}
	if h := s.homes.part(id); h != nil {
		return h.disk.Close()
	}
	return nil
}

// ReplaceDisk makes a directory a disk of the store, as [Store.AddDisk] does, moves or
// computes there what a disk holds, and removes that disk. The directory may be that of
// the old disk, if that is absent: another one was mounted there. Shards that do not fit,
// or may not be there, since the new one has their data's other parts, go to other disks.
//
// What may go nowhere stays, and makes an error beside the report, as of [Store.DrainDisk]:
// both disks are then of the store. ReplaceDisk again goes on.
func (s *Store) ReplaceDisk(ctx context.Context, old BackendID, name string, opts MoveOptions) (rep MoveReport, err error) {
	if rep, err = s.replaceDisk(ctx, old, name, opts); err != nil {
		err = fmt.Errorf("replace disk %s by %s: %w", s.calls(old), name, err)
	}
	return rep, err
}

func (s *Store) replaceDisk(ctx context.Context, old BackendID, name string, opts MoveOptions) (rep MoveReport, err error) {
	if _, err := s.registered(old); err != nil {
		return rep, err
	}
	if opts.DryRun {
		return rep, fmt.Errorf("%w: there is no dry run of it", fs.ErrInvalid)
	}
	d, err := s.addDisk(ctx, name, old)
	if err != nil {
		return rep, err
	}
	if d.id == old {
		return rep, fmt.Errorf("%w: that is the disk itself", fs.ErrInvalid)
	}
	opts.Prefer = d.id
	if rep, err = s.drainDisk(ctx, old, opts); err == nil {
		err = s.dropDisk(ctx, old, false)
	}
	return rep, err
}

// Rebalance moves data from disks that are fuller than all together to those that are
// emptier, as after [Store.AddDisk]. With DryRun nothing is moved, and the report says
// what would be. What a disk had no room for after all stays where it was, and makes an
// error beside the report. It is safe beside everything else, can be ended by ctx and
// begun anew at any time, and looks at the records of all extents, in little memory.
func (s *Store) Rebalance(ctx context.Context, opts MoveOptions) (MoveReport, error) {
	rep, err := s.eng.Rebalance(ctx, opts)
	if err == nil {
		err = rep.Err()
	}
	return rep, err
}

// registered returns a disk of the store.
func (s *Store) registered(id BackendID) (disk, error) {
	d, ok := s.disks.find(id)
	if !ok {
		return d, fmt.Errorf("%w: no disk of the store is %v", fs.ErrNotExist, id)
	}
	if d.state.Gone() {
		return d, fmt.Errorf("%w: the disk is %v", fs.ErrNotExist, d.state)
	}
	return d, nil
}

// calls returns what people call a disk.
func (s *Store) calls(id BackendID) string {
	if d, _ := s.disks.find(id); d.path != "" {
		return d.path
	}
	return id.String()
}
