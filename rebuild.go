package blockframe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"slices"
	"time"

	"github.com/blockframe/blockframe/internal/catalog"
	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/journal"
	"github.com/blockframe/blockframe/store"
)

// Rebuild brings back what a store that is closed has lost of its records.
//
// Where a copy of the commit log is left, the names are in it, and Open makes all else
// from it. Rebuild holds the index against one that is made from the log anew, and takes
// that if they differ. Then it looks for complete objects on the disks that
// the log does not name, as when it was restored from an older copy: they get names
// below lost+found. What the log declared dead stays dead.
//
// Where no copy of the log is left, nor of its view, it makes a new log. That goes on
// from the newest snapshot of the index, and the segments of the old log behind it, that
// the disks keep, or without a snapshot from the first segment: names, versions,
// directories, policies and holds are as they were at the end of these. What was purged
// and collected since is reported as incomplete, by its name. A snapshot of what was made
// is kept. The rest is what the shards alone prove, with any disks missing as
// long as enough shards are left of an object: each gets the name that it was put under, below lost+found, with mode,
// owner, times and extended attributes. Shards do not know of directories without
// objects, symbolic links, renames, deletions, versions, policies, retentions and holds,
// nor of objects of up to 4096 bytes that were not packed yet and empty ones: these were
// in the log alone. Of several contents under one name each gets a name of its own,
// NAME.put-HEX: nothing tells which came last. Directories that are given and not there
// count as disks that are absent; one that comes back later is taken in by the next Rebuild.
//
// What is adopted goes below lost+found, and never over a name that is there. What is not
// complete is reported with what is missing. Blobs are not touched, but, with Accept,
// what is left of parts of a log that nothing needs; and Collect removes nothing until then. A crash leaves a store as it was, or one that
// serves what was restored so far: Rebuild then does the rest, and once more changes
// nothing. A dry run writes to none of the directories.
func Rebuild(ctx context.Context, opts Options, how RebuildOptions) (rep RebuildReport, err error) {
	if err := opts.Validate(); err != nil {
		return rep, err
	}
	opts = opts.withDefaults()
	opts.NoCreate, opts.NoRepair, opts.pause, opts.keepPause, opts.rebuild, opts.still = true, true, 24*time.Hour, -1, true, how.DryRun
	hs, err := openHomes(&opts)
	if err != nil {
		return rep, err
	}
	s := &Store{homes: hs, log: opts.Logger, now: func() time.Time { return opts.clock().Round(0).UTC() }}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	rep, err = s.rebuild(ctx, &opts, how)
	return rep, errors.Join(err, s.Close())
}

// rebuild opens what is left of the store, and adopts what shards prove.
func (s *Store) rebuild(ctx context.Context, o *Options, how RebuildOptions) (rep RebuildReport, err error) {
	p, err := s.toRebuild(o)
	if err == nil {
		err = s.reopen(ctx, o, p)
	}
	if err != nil {
		return rep, err
	}
	joined, err := s.joinDisks(ctx, o)
	if err == nil {
		err = s.start(ctx, o)
	}
	if err != nil {
		return rep, err
	}
	rows, err := newScratch(s.homes.storeID())
	if err != nil {
		return rep, fmt.Errorf("rebuild: %w", err)
	}
	defer func() { err = errors.Join(err, rows.remove()) }()
	differ := int64(0)
	if p == nil && !o.still {
		if differ, err = s.checkIndex(ctx, path.Join(rows.dir, "index")); err != nil {
			return rep, fmt.Errorf("rebuild: %w", err)
		}
	}
	rep, err = s.eng.Rebuild(ctx, store.Rebuilding{RebuildOptions: how, FS: durable.OS(), Dir: path.Join(rows.dir, "rows"), Dead: s.forgotten()})
	rep.LogLost, rep.Disks, rep.Index, rep.Records = p != nil, joined, differ, s.restored
	if err != nil || o.still {
		return rep, err
	}
	// A crash before this leaves the snapshot that the log began with, which no record names:
	// collection leaves that alone until the keeper has taken another one.
	if err := s.keeper.secure(ctx, how.Accept && rep.Accepted); err != nil {
		s.log.Warn("what the rebuilt store keeps of its log is not in order yet: it is put so when the store is open", "err", err)
	}
	return rep, ctx.Err()
}

// checkIndex holds the view against one that is made anew from the log, in dir, and makes
// it anew too if they differ. Where the log does not reach back that far, nothing is
// compared.
func (s *Store) checkIndex(ctx context.Context, dir string) (differ int64, err error) {
	differ, err = s.cat.Compare(ctx, durable.OS(), dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && s.journal.First() > 1:
		return 0, nil
	case err == nil && differ > 0:
		s.log.Warn("the index is not what the log makes, and is made anew", "rows", differ)
		err = s.cat.Renew()
	}
	return differ, err
}

// toRebuild returns the plan of a new log, nil where there is one.
//
// It is carried out as the creation of a store is, see create.go: the plan is written to
// the directories that will have the log; the log is made, and its first record names the
// disks and says that the store is not accepted, the commit point; the plans are removed.
// Before the commit point Open refuses a store with such a plan, and Rebuild goes on
// with it.
func (s *Store) toRebuild(o *Options) (*plan, error) {
	hs := s.homes
	if hs.first() == nil {
		return nil, fmt.Errorf("rebuild: no directory of a store is there: %w", cmp.Or(hs.reasons(), fs.ErrNotExist))
	}
	if p := hs.halfMade(); p != nil {
		if !p.Rebuild {
			return nil, fmt.Errorf("rebuild: %w: the creation of the store on %v was interrupted, there is nothing in it; create it again", fs.ErrInvalid, p.Paths)
		}
		return p, hs.complete(p)
	}
	if hs.anyLog(o) {
		return nil, nil
	}
	for _, h := range hs.list {
		// It would know more than what is kept of it, but for what it lacks nobody knows.
		if left, err := hs.fs.List(h.at(viewName)); err == nil && len(left) > 0 {
			return nil, fmt.Errorf("rebuild: %w: no copy of the log is left, but %s is, made from it: bring back a copy of the log; or move %s away: then a rebuild goes on from the newest snapshot of it, and the segments of the log behind, that the disks keep, and what came later has the names that its shards know, below lost+found",
				fs.ErrExist, h.at(viewName), h.at(viewName))
		}
	}
	p := &plan{Store: fmt.Sprintf("%x", hs.storeID()), Rebuild: true}
	copies := min(o.code().M+1, 3)
	for _, h := range hs.list {
		if !h.present() {
			continue
		}
		id := h.disk.ID().String()
		p.Disks, p.Paths = append(p.Disks, id), append(p.Paths, h.path)
		if h.logs && hs.pin || !hs.pin && len(p.Logs) < copies && !hs.remains(h) {
			p.Logs = append(p.Logs, id)
		}
	}
	if len(p.Logs) == 0 && !hs.pin {
		return nil, fmt.Errorf("rebuild: %w: there are segments in log/ of each directory, none of which is a whole copy of the log: move them away", fs.ErrExist)
	}
	if len(p.Logs) == 0 {
		return nil, fmt.Errorf("rebuild: none of LogDirs is a directory of the store: %w", cmp.Or(hs.reasons(), fs.ErrNotExist))
	}
	return p, nil
}

// complete returns which directory of an interrupted rebuild is missing.
func (hs *homes) complete(p *plan) error {
	for i, id := range p.Disks {
		if slices.Contains(p.Logs, id) && hs.byID(store.BackendID(parse16(id))) == nil {
			return fmt.Errorf("rebuild: %w: a rebuild was interrupted, and %s with its part of the new log is not there", store.ErrUnavailable, p.Paths[i])
		}
	}
	return nil
}

// reopen opens the log and the catalog, new ones if there is a plan.
func (s *Store) reopen(ctx context.Context, o *Options, p *plan) error {
	if p == nil {
		err := s.openCatalog(ctx, o, nil, nil)
		if err == nil && !o.still {
			err = s.homes.finish(false)
		}
		return err
	}
	for _, h := range s.homes.list {
		h.logs = h.present() && slices.Contains(p.Logs, h.disk.ID().String())
	}
	left, err := s.findSalvage(ctx, o)
	if err != nil {
		return fmt.Errorf("rebuild: %w", err)
	}
	if o.still {
		if err := s.openElsewhere(ctx, o, &left); err != nil {
			return err
		}
		return s.foundAgain(ctx, o, &left)
	}
	// A crash before the first plan is durable leaves all as it was.
	if err := s.homes.writePlan(p); err != nil {
		return err
	}
	if err := s.openCatalog(ctx, o, p, &left); err != nil {
		return err
	}
	if err := s.foundAgain(ctx, o, &left); err != nil {
		return err
	}
	return s.homes.finish(true)
}

// openElsewhere opens a log and a catalog of what is left, outside of the directories.
func (s *Store) openElsewhere(ctx context.Context, o *Options, left *salvage) (err error) {
	id := s.homes.storeID()
	if s.scratch, err = newScratch(id); err != nil {
		return err
	}
	log := journal.Options{StoreID: id, Create: true, SegmentSize: o.segment, Logger: s.log,
		Members: []journal.Member{{FS: durable.OS(), Dir: path.Join(s.scratch.dir, logName), Name: "dry"}}}
	left.begin(&log)
	if s.journal, err = journal.Open(log); err == nil {
		err = left.replay(ctx, s)
	}
	if err == nil {
		err = s.openView(o, durable.OS(), s.scratch.view())
	}
	return err
}

// lifeEpochs is by how much a new log raises the open epoch: more than a log before it,
// what it kept on disks that are away included, can have gone on by.
const lifeEpochs = 1 << 20

// foundAgain commits the first record of the new log. What is kept from here on is of a
// later epoch than all that was kept of another one.
func (s *Store) foundAgain(ctx context.Context, o *Options, left *salvage) error {
	if s.cat == nil {
		return nil // it was not opened: the error is known
	}
	have, err := s.cat.Backends(ctx)
	if err != nil {
		return err
	}
	commands := []store.Command{store.RaiseEpoch{Epoch: max(s.cat.Epoch(), left.epoch()) + lifeEpochs},
		store.SetState{Key: store.StateRebuilt, Value: []byte(store.Unaccepted)}}
	if len(have) > 0 { // a snapshot knows them, and more; or it was done
		mark, err := s.cat.State(ctx, store.StateRebuilt)
		if err != nil || string(mark) == store.Unaccepted {
			return err
		}
		return s.commitAll(ctx, commands)
	}
	disks := s.given(o)
	for _, h := range s.homes.list {
		if h.holds && !h.present() {
			b := catalog.Backend{ID: store.BackendID(parse16(randomHex())), Path: h.path}
			disks = append(disks, b)
			commands = append(commands, store.SetState{Key: unidentified(b.ID), Value: []byte(h.path)})
		}
	}
	commands = append(commands, catalog.SetBackends{Backends: disks})
	for _, p := range o.firstPolicies() {
		commands = append(commands, catalog.SetPolicy{Policy: p})
	}
	return s.commitAll(ctx, commands)
}

// commitAll commits a record of a rebuild.
func (s *Store) commitAll(ctx context.Context, commands []store.Command) error {
	res, err := s.cat.Commit(ctx, store.Record{Commands: commands})
	for i := range res {
		err = errors.Join(err, res[i].Err)
	}
	if err != nil {
		return fmt.Errorf("rebuild: %w", err)
	}
	return nil
}

// unidentified is the key of the state that says that a registered disk was not there when
// the store was rebuilt: it has an identity of its own, which nothing that was left tells.
func unidentified(id BackendID) string { return "unidentified/" + id.String() }

// joinDisks registers disks of the store that a rebuild had to leave out, since they were
// not there and nothing else knew of them. Each takes the place of one that was not
// identified, that of its directory if there is one.
func (s *Store) joinDisks(ctx context.Context, o *Options) (int, error) {
	mark, err := s.cat.State(ctx, store.StateRebuilt)
	if err != nil || len(mark) == 0 {
		return 0, err
	}
	list, err := s.cat.Backends(ctx)
	if err != nil {
		return 0, err
	}
	var commands []store.Command
	joined := 0
	for _, b := range s.given(o) {
		if slices.ContainsFunc(list, func(r catalog.Backend) bool { return r.ID == b.ID }) {
			continue
		}
		joined++
		i, err := s.placeOf(ctx, list, b.Path)
		if err != nil {
			return 0, err
		}
		if i < 0 {
			list = append(list, b)
			continue
		}
		commands = append(commands, store.SetState{Key: unidentified(list[i].ID)})
		list[i] = b
	}
	if joined == 0 || o.still {
		if joined > 0 {
			s.joining = list
		}
		return joined, nil
	}
	res, err := s.cat.Commit(ctx, store.Record{Commands: append(commands, catalog.SetBackends{Backends: list})})
	if err == nil {
		err = res[0].Err
	}
	if err != nil {
		return 0, fmt.Errorf("rebuild: register disks: %w", err)
	}
	return joined, nil
}

// placeOf returns which of the registered disks a disk that was found takes the place of,
// -1 if all are identified.
func (s *Store) placeOf(ctx context.Context, list []catalog.Backend, path string) (int, error) {
	at := -1
	for i, b := range list {
		mark, err := s.cat.State(ctx, unidentified(b.ID))
		if err != nil {
			return 0, err
		}
		if len(mark) > 0 && (at < 0 || b.Path == path) {
			at = i
		}
	}
	return at, nil
}

// forgotten yields the uploads that the log has forgotten after they were dead.
func (s *Store) forgotten() iter.Seq2[store.UploadID, error] {
	return func(yield func(store.UploadID, error) bool) {
		for rec, err := range s.journal.Records(s.journal.First()) {
			if err != nil {
				yield(store.UploadID{}, err)
				return
			}
			e, err := catalog.DecodeRecord(rec.Data)
			if err != nil {
				yield(store.UploadID{}, fmt.Errorf("record %d: %w", rec.Index, err))
				return
			}
			for _, c := range e.Commands {
				if f, ok := c.(store.Forget); ok && !yield(f.Upload, nil) {
					return
				}
			}
		}
	}
}
