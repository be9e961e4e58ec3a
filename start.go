package blockframe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/blockframe/blockframe/internal/catalog"
	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/journal"
	"github.com/blockframe/blockframe/store"
)

// openCatalog opens the log and the catalog over it; p is set when the store is
// being created, and left when a new log is made of what is left of one.
func (s *Store) openCatalog(ctx context.Context, o *Options, p *plan, left *salvage) (err error) {
	id := s.homes.storeID()
	still := !slices.ContainsFunc(s.homes.logHomes(), takesChanges)
	log := journal.Options{Members: s.homes.members(), StoreID: id, Create: p != nil, ReadOnly: still,
		AssumeLost: s.homes.givenUp(o.AssumeLost), Least: s.homes.leastLogs(), Left: s.logLeft,
		SegmentSize: o.segment, Sequential: o.calm, Logger: s.log}
	if left != nil {
		left.begin(&log)
	}
	s.journal, err = journal.Open(log)
	if err == nil && left != nil {
		err = left.replay(ctx, s)
	}
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	// Of directories without a copy that is in use, one may have left the store.
	if s.viewAt = s.homes.view(s.logHomes()); s.viewAt != "" && !still {
		err = s.openView(o, o.fs, s.viewAt)
	}
	if s.viewAt == "" || still || p == nil && errors.Is(err, store.ErrNoSpace) {
		if err != nil {
			s.log.Warn("no room for the view: it is made anew elsewhere, for now", "dir", s.viewAt, "err", err)
		}
		s.viewAt = ""
		// The view can lie anywhere: it is made from the log.
		if s.scratch, err = newScratch(id); err == nil {
			err = s.openView(o, durable.OS(), s.scratch.view())
		}
	}
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	return nil
}

// openView opens the catalog with its view in a directory of fsys.
func (s *Store) openView(o *Options, fsys durable.FS, view string) (err error) {
	s.cat, err = catalog.Open(catalog.Options{FS: fsys, Dir: view, StoreID: s.homes.storeID(), Journal: s.journal, Clock: o.clock, Grace: o.Grace, Logger: s.log,
		Saved: s.saved(o)})
	return err
}

// storeID returns the identity of the store, of which some directory is there.
func (hs *homes) storeID() [16]byte { return hs.first().disk.Identity().Store }

// found commits the first record of a store, the commit point of its creation.
func (s *Store) found(ctx context.Context, o *Options) error {
	have, err := s.cat.Backends(ctx)
	if err != nil {
		return err
	}
	if len(have) > 0 {
		return s.foundBefore()
	}
	commands := []store.Command{catalog.SetBackends{Backends: s.given(o)}}
	for _, p := range o.firstPolicies() {
		commands = append(commands, catalog.SetPolicy{Policy: p})
	}
	res, err := s.cat.Commit(ctx, store.Record{Commands: commands})
	if err == nil {
		err = res[0].Err
	}
	if err != nil {
		return fmt.Errorf("create store: %w", err)
	}
	// A crash here leaves a store with a plan in every directory of the log: the
	// next Open comes by foundBefore.
	return nil
}

// foundBefore checks that a store which is there, but whose creation did not come
// to its end, was never used.
func (s *Store) foundBefore() error {
	if c := s.cat.Counts(); c.Versions > 0 || c.Extents > 0 {
		return fmt.Errorf("create store: %w: %s says that the store is being created, but it holds %d versions; remove that file if the directories are right",
			store.ErrCorrupt, s.homes.logHomes()[0].at(logName, planName), c.Versions)
	}
	return nil
}

// given returns the backends that were given, as they are registered.
func (s *Store) given(o *Options) (list []catalog.Backend) {
	for _, b := range o.Backends {
		list = append(list, catalog.Backend{ID: b.ID()})
	}
	for _, h := range s.homes.list {
		if h.holds && h.present() {
			list = append(list, catalog.Backend{ID: h.disk.ID(), Path: h.path})
		}
	}
	return list
}

// start finds the registered backends among those that were given, and starts the
// engine over them.
func (s *Store) start(ctx context.Context, o *Options) error {
	registered, err := s.cat.Backends(ctx)
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	if s.joining != nil {
		registered = s.joining
	}
	given := s.given(o)
	for _, b := range given {
		if !slices.ContainsFunc(registered, func(r catalog.Backend) bool { return r.ID == b.ID }) {
			if s.notAdded(ctx, b.ID) {
				continue
			}
			return fmt.Errorf("open store: %w: backend %v, %s, is not one of the store", fs.ErrInvalid, b.ID, b.Path)
		}
	}
	for _, r := range registered {
		s.disks.list = append(s.disks.list, s.disk(o, r))
	}
	if err := s.surplus(); err != nil && !o.rebuild {
		return err
	}
	if err := s.loadPolicies(ctx); err != nil {
		return err
	}
	if err := s.run(ctx, o); err != nil {
		return err
	}
	mark, err := s.cat.State(ctx, store.StateRebuilt)
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	s.unaccepted = string(mark) == store.Unaccepted && !o.rebuild
	s.warn()
	if err := s.remember(ctx, registered); err != nil {
		return err
	}
	if err := s.loadLogRepairs(ctx); err != nil {
		return err
	}
	if err := s.tendLogs(); err != nil {
		return err
	}
	return s.startKeeper(ctx, o)
}

// notAdded reports whether a directory is one that AddDisk gave an identity, and did not
// come to record: it is not used before it is added again.
func (s *Store) notAdded(ctx context.Context, id BackendID) bool {
	h := s.homes.byID(id)
	if h == nil || unused(ctx, []Backend{h.disk}) != nil {
		return false
	}
	s.log.Warn("a directory was to become a disk of the store, and was not recorded: it is not used until it is added again", "path", h.path)
	return true
}

// surplus returns an error for a directory that cannot be a disk of the store, since all
// of these are there: it would not be used, and whoever gave it would not know.
func (s *Store) surplus() error {
	known := s.disks.registered()
	for _, d := range known {
		if d.backend == nil {
			return nil // it may be that one, with nothing mounted on it
		}
	}
	for _, h := range s.homes.list {
		was := slices.ContainsFunc(s.disks.all(), func(d disk) bool { return d.state.Gone() && d.path == h.path })
		if h.holds && !h.present() && !was {
			return fmt.Errorf("open store: %w: %s is none of the %d disks of the store, which are all there; open it without, and add it: %w",
				fs.ErrInvalid, h.path, len(known), h.err)
		}
	}
	return nil
}

// disk returns what is there of a registered backend.
func (s *Store) disk(o *Options, r catalog.Backend) disk {
	d := disk{id: r.ID, path: r.Path, state: r.State}
	if r.State.Gone() {
		if h := s.homes.byID(r.ID); h != nil {
			d.path, d.err = h.path, recognised(r.State)
		}
		return d
	}
	for _, b := range o.Backends {
		if b.ID() == r.ID {
			d.backend = b
		}
	}
	if h := s.homes.byID(r.ID); h != nil {
		d.path, d.backend, d.err = h.path, h.disk, h.disk.Err()
	}
	if d.backend == nil {
		d.err = fmt.Errorf("absent: %w", store.ErrUnavailable)
		for _, h := range s.homes.list {
			if h.path == r.Path && !h.present() {
				d.err = fmt.Errorf("absent: %w: %w", store.ErrUnavailable, h.err)
			}
		}
	}
	return d
}

// run starts the engine.
func (s *Store) run(ctx context.Context, o *Options) (err error) {
	opts := store.Options{StoreID: s.homes.storeID(), Catalog: s.cat, Policies: s.policies,
		SlabBytes: o.SlabBytes, CacheBytes: o.CacheBytes, WriteAll: o.WriteAll, NoRepair: o.NoRepair, Events: o.Events, Logger: s.log,
		PackAfter: o.pause, Paths: map[BackendID]string{}, Upkeep: o.Upkeep, ScrubLog: func(ctx context.Context) (rep store.LogReport, err error) {
			err = s.scrubLog(ctx, &rep)
			return rep, err
		}, NeedsKept: s.lacksSnapshot}
	for _, d := range s.disks.all() {
		if d.path != "" {
			opts.Paths[d.id] = d.path
		}
		if d.state.Gone() {
			continue
		}
		if d.state == catalog.BackendDraining {
			opts.Draining = append(opts.Draining, d.id)
		}
		if d.backend != nil {
			opts.Backends = append(opts.Backends, d.backend)
		} else {
			opts.Absent = append(opts.Absent, d.id)
		}
	}
	if s.eng, err = store.New(ctx, opts); err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	return nil
}

// warn says which directories are missing or take no changes.
func (s *Store) warn() {
	for _, d := range s.disks.all() {
		switch {
		case d.err != nil && d.state.Gone():
			s.log.Warn("a disk that was taken off the store is there again: it is not used, and left as it is", "disk", d.id, "path", d.path, "state", d.state)
		case d.err != nil:
			s.log.Warn("a disk of the store is missing or takes no changes", "disk", d.id, "path", d.path, "reason", d.err)
		}
	}
	if err := s.ReadOnly(); err != nil {
		s.log.Warn("the store takes no changes", "reason", err)
	}
	if s.unaccepted {
		s.log.Warn("the store was rebuilt from its shards: nothing is collected until that is accepted")
	}
}

// remember records where the directories are now, for people.
func (s *Store) remember(ctx context.Context, registered []catalog.Backend) error {
	var now []catalog.Backend
	for _, d := range s.disks.registered() {
		now = append(now, catalog.Backend{ID: d.id, Path: d.path, State: d.state})
	}
	registered = slices.DeleteFunc(registered, func(b catalog.Backend) bool { return b.State.Gone() })
	if slices.Equal(now, registered) || s.journal.ReadOnly() != nil {
		return nil
	}
	_, err := s.change(ctx, "record", "directories", catalog.SetBackends{Backends: now})
	if errors.Is(err, store.ErrNoSpace) {
		return nil // the store is to be opened all the same
	}
	return err
}

// begin notes a goroutine that Close waits for; release ends that.
func (s *Store) begin() (release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return nil, fs.ErrClosed
	}
	s.wg.Add(1)
	return s.wg.Done, nil
}

// Close ends background work, waits for it, and releases the directories. It is
// never needed for durability: what was acknowledged is. Readers and writers that
// are open fail from here on. A second Close returns what the first did.
func (s *Store) Close() error {
	s.once.Do(func() {
		s.mu.Lock()
		s.cancel()
		s.mu.Unlock()
		s.wg.Wait()
		s.closed = s.shut()
	})
	return s.closed
}

// shut closes what Open opened, the last first.
func (s *Store) shut() error {
	var errs []error
	if s.eng != nil {
		s.keeper.last()
		errs = append(errs, s.eng.Close())
		s.keepLogRepairs()
	}
	if s.cat != nil {
		errs = append(errs, s.cat.Close())
	}
	if s.journal != nil {
		errs = append(errs, s.journal.Close())
	}
	errs = append(errs, s.homes.close())
	if s.scratch != nil {
		errs = append(errs, s.scratch.remove())
	}
	return errors.Join(errs...)
}
