package blockframe

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/blockframe/blockframe/internal/catalog"
	"github.com/blockframe/blockframe/internal/journal"
	"github.com/blockframe/blockframe/store"
)

// Sealed segments of the commit log and snapshots of the view are kept as coded streams on
// the disks, so that neither the log nor what it takes to make a lost view grows with the
// history of the store. One pass of the keeper
//
//  1. keeps each sealed segment that the oldest of three snapshots does not cover,
//  2. takes a snapshot when the log has grown by some segments since the last one, or when
//     the log begins behind all that are kept,
//  3. drops the snapshots before the last three, and the segments that the oldest of these
//     covers,
//  4. trims the log of them,
//  5. and keeps anew, a few in a pass, what was kept in a narrower code than there is now,
//     since disks were missing: see narrow.
//
// In a store that was rebuilt, nothing is dropped or trimmed before that is accepted.
//
// Each step has a commit point of its own: the records Keep and Release, and the mark of
// the trim. A crash anywhere leaves steps to do, and the next pass does them.
const (
	keepSnapshots = 3
	keepSegments  = 4                // sealed since the last snapshot, before there is another
	keepLook      = 5 * time.Second  // from one look at the log to the next
	keepAgain     = time.Minute      // after a pass that failed
	keepAtEnd     = 30 * time.Second // that Close spends on a snapshot that is overdue
)

// keeper keeps segments and snapshots of a store.
type keeper struct {
	s     *Store
	calm  bool         // of a rebuild: nothing is done at Close
	every int          // sealed segments from one snapshot to the next
	size  atomic.Int64 // bytes of the newest snapshot
	turn  sync.Mutex   // held over a pass
	more  atomic.Bool  // the last pass left something to the next
}

// startKeeper takes over what is kept, and looks after it from then on.
func (s *Store) startKeeper(ctx context.Context, o *Options) error {
	s.keeper = &keeper{s: s, calm: o.rebuild, every: cmp.Or(o.snapshotEvery, keepSegments)}
	if s.journal.ReadOnly() != nil {
		return nil
	}
	snaps, _, err := s.keeper.list(ctx)
	if err != nil {
		return err
	}
	if len(snaps) > 0 && !s.keeper.lacks(snaps) {
		s.journal.SetSnapshot(journal.Snapshot{ID: snaps[0].ID, Index: snaps[0].Last})
		s.keeper.size.Store(snaps[0].Size)
	}
	pause := cmp.Or(o.keepPause, keepLook)
	if pause < 0 {
		return nil
	}
	release, err := s.begin()
	if err != nil {
		return err
	}
	go func() {
		defer release()
		s.keeper.run(pause)
	}()
	return nil
}

// run looks at the log now and then. It begins nothing while records come fast, unless a
// snapshot is overdue.
func (k *keeper) run(pause time.Duration) {
	look := time.NewTicker(pause)
	defer look.Stop()
	seen, until := k.s.journal.Last(), time.Time{}
	passed := uint64(0) // the newest record when there was nothing left to do
	for {
		select {
		case <-look.C:
		case <-k.s.ctx.Done():
			return
		}
		last := k.s.journal.Last()
		lull := last == seen
		seen = last
		if last == passed || time.Now().Before(until) || !lull && !k.due(2) {
			continue
		}
		switch err := k.pass(k.s.ctx); {
		case err == nil:
			seen = k.s.journal.Last()
			if passed = seen; k.more.Load() {
				passed = 0
			}
		case k.s.ctx.Err() == nil:
			k.s.log.Warn("the log is not trimmed for now", "err", err)
			until = time.Now().Add(keepAgain)
		}
	}
}

// last ends what is overdue: a program that opens a store for moments only would never come
// to it.
func (k *keeper) last() {
	if k == nil || k.calm || !k.due(2) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), keepAtEnd)
	defer cancel()
	if err := k.pass(ctx); err != nil {
		k.s.log.Warn("the log is not trimmed for now", "err", err)
	}
}

// due reports whether so many times as many segments were sealed since the last snapshot as
// there are to be, and with half as many bytes at least as the snapshot has: a large view
// is not written again for every few segments.
func (k *keeper) due(times int) bool {
	covered := k.s.journal.Snapshot().Index
	n, bytes := 0, int64(0)
	for _, seg := range k.s.journal.Segments() {
		if seg.Sealed && seg.Last > covered {
			n++
			bytes += seg.Size
		}
	}
	return n >= times*k.every && bytes >= int64(times)*k.size.Load()/2
}

// list returns the snapshots that are kept, the newest first, and the segments, the oldest
// first.
func (k *keeper) list(ctx context.Context) (snaps, segs []store.Kept, err error) {
	all, err := k.s.cat.Kept(ctx)
	for _, kept := range all {
		if kept.Kind == store.KindSnapshot {
			snaps = append(snaps, kept)
		} else {
			segs = append(segs, kept)
		}
	}
	slices.SortFunc(snaps, func(a, b store.Kept) int { return cmp.Compare(b.Last, a.Last) })
	slices.SortFunc(segs, func(a, b store.Kept) int { return cmp.Compare(a.Number, b.Number) })
	return snaps, segs, err
}

// lacks reports whether the log begins behind all snapshots that are kept, given these. So
// it is after a rebuild: the record that the one is kept which it began with came after it,
// and was lost.
func (k *keeper) lacks(snaps []store.Kept) bool {
	first := k.s.journal.First()
	return first > 1 && (len(snaps) == 0 || snaps[0].Last < first-1)
}

// lacksSnapshot is lacks, of what is kept now.
func (s *Store) lacksSnapshot(ctx context.Context) (bool, error) {
	k := &keeper{s: s}
	snaps, _, err := k.list(ctx)
	return err == nil && k.lacks(snaps), err
}

// secure takes a snapshot if the log begins behind all that are kept. Once there is one, and
// the store is accepted, nothing is left of streams that a rebuild released.
func (k *keeper) secure(ctx context.Context, accepted bool) error {
	k.turn.Lock()
	defer k.turn.Unlock()
	if k.s.journal.ReadOnly() != nil || k.s.scratch != nil {
		return nil
	}
	lacks, err := k.s.lacksSnapshot(ctx)
	if err == nil && lacks {
		err = k.snapshot(ctx)
	}
	if err != nil || !accepted {
		return err
	}
	return k.s.eng.DropRest(ctx)
}

// covered returns the record up to which nothing needs the log any more, given the snapshots.
func covered(snaps []store.Kept) uint64 {
	if len(snaps) < keepSnapshots {
		return 0
	}
	return snaps[keepSnapshots-1].Last
}

// pass does what there is to do.
func (k *keeper) pass(ctx context.Context) error {
	k.turn.Lock()
	defer k.turn.Unlock()
	if k.s.journal.ReadOnly() != nil || k.s.scratch != nil {
		return nil
	}
	snaps, segs, err := k.list(ctx)
	if err != nil {
		return err
	}
	if err := k.keepSealed(ctx, covered(snaps), segs); err != nil {
		return err
	}
	narrow, err := k.narrow(ctx, snaps, segs)
	if err != nil {
		return err
	}
	if k.due(1) || k.lacks(snaps) || narrow.snapshot {
		if err := k.snapshot(ctx); err != nil {
			return err
		}
	} else if err := k.widen(ctx, narrow.segments); err != nil {
		return err
	}
	k.more.Store(narrow.snapshot || len(narrow.segments) > keepWiden)
	return k.drop(ctx)
}

// keepSealed keeps the segments that are sealed, not covered, and not kept yet.
func (k *keeper) keepSealed(ctx context.Context, covered uint64, have []store.Kept) error {
	for _, seg := range k.s.journal.Segments() {
		if !seg.Sealed || seg.Last <= covered || seg.Last < seg.First ||
			slices.ContainsFunc(have, func(h store.Kept) bool { return h.Number == seg.Number && h.First == seg.First }) {
			continue
		}
		kept := store.Kept{Kind: store.KindSegment, Number: seg.Number, First: seg.First, Last: seg.Last}
		if _, err := k.keep(ctx, kept, func(w io.Writer) error { return k.s.journal.Export(seg.Number, w) }); err != nil {
			return err
		}
	}
	return nil
}

// snapshot keeps one of the view as it is now. Records go on meanwhile.
func (k *keeper) snapshot(ctx context.Context) error {
	snap, err := k.s.cat.Snapshot(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer snap.Close()
	kept, err := k.keep(ctx, store.Kept{Kind: store.KindSnapshot, First: 1, Last: snap.Index}, func(w io.Writer) error {
		_, err := snap.WriteTo(w)
		return err
	})
	if err == nil {
		k.s.journal.SetSnapshot(journal.Snapshot{ID: kept.ID, Index: kept.Last})
		k.size.Store(kept.Size)
		k.s.log.Info("snapshot of the index is kept", "record", kept.Last, "bytes", kept.Size)
	}
	return err
}

// keep stores what write writes.
func (k *keeper) keep(ctx context.Context, kept store.Kept, write func(io.Writer) error) (store.Kept, error) {
	r, w := io.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.CloseWithError(write(w)) // nil is the end
	}()
	kept, err := k.s.eng.Keep(ctx, kept, r)
	r.Close() // ends write, if it has not
	<-ended
	return kept, err
}

// drop ends what three snapshots make superfluous, and trims the log.
func (k *keeper) drop(ctx context.Context) error {
	snaps, segs, err := k.list(ctx)
	if err != nil {
		return err
	}
	if mark, err := k.s.cat.State(ctx, store.StateRebuilt); err != nil || string(mark) == store.Unaccepted {
		return err
	}
	if !k.lacks(snaps) {
		if err := k.s.eng.DropRest(ctx); err != nil {
			return err
		}
	}
	if len(snaps) < keepSnapshots {
		return nil
	}
	upTo := covered(snaps)
	if err := k.trim(upTo); err != nil {
		return err
	}
	for _, kept := range snaps[keepSnapshots:] {
		if err := k.s.eng.Drop(ctx, kept.Upload); err != nil {
			return err
		}
	}
	first := k.s.journal.First()
	for _, kept := range segs {
		if kept.Last > upTo || kept.Last >= first {
			break
		}
		if err := k.s.eng.Drop(ctx, kept.Upload); err != nil {
			return err
		}
	}
	return nil
}

// trim trims the log. Before anything goes that the view on disk might need, it is written
// out.
func (k *keeper) trim(upTo uint64) error {
	trim := func() error { _, err := k.s.journal.Trim(upTo); return err }
	if k.s.journal.Segments()[0].Last > upTo {
		return trim() // what a member brought back
	}
	return k.s.cat.Detach(upTo, trim)
}

// keptOn returns where to look for what is kept without the catalog.
func (s *Store) keptOn(o *Options, kind store.Kind) store.FindOptions {
	opts := store.FindOptions{StoreID: s.homes.storeID(), Backends: slices.Clone(o.Backends), Kind: kind, Logger: s.log}
	for _, h := range s.homes.all() {
		if h.holds && h.present() {
			opts.Backends = append(opts.Backends, h.disk)
		}
	}
	return opts
}

// saved finds what is kept without the catalog.
func (s *Store) saved(o *Options) func(context.Context, store.Kind) ([]catalog.Saved, error) {
	return func(ctx context.Context, kind store.Kind) ([]catalog.Saved, error) {
		found, err := store.FindKept(ctx, s.keptOn(o, kind))
		list := make([]catalog.Saved, len(found))
		for i := range found {
			list[i] = catalog.Saved{First: found[i].First, Last: found[i].Last, Number: found[i].Number, Open: found[i].Open}
		}
		return list, err
	}
}
