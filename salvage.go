package blockframe

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"slices"

	"github.com/blockframe/blockframe/internal/journal"
	"github.com/blockframe/blockframe/store"
)

// salvage is what the disks keep of a log of which no copy is left: the newest snapshot of
// the index that can be read, and the segments that go on from it. Where there is no
// snapshot yet, they go on from the first record.
type salvage struct {
	snap *store.KeptStream  // nil: none
	segs []store.KeptStream // those kept last come first
}

// findSalvage looks for it.
func (s *Store) findSalvage(ctx context.Context, o *Options) (l salvage, err error) {
	if l.segs, err = store.FindKept(ctx, s.keptOn(o, store.KindSegment)); err != nil {
		return l, err
	}
	snaps, err := store.FindKept(ctx, s.keptOn(o, store.KindSnapshot))
	if err != nil {
		return l, err
	}
	for i := range snaps {
		err := readThrough(ctx, &snaps[i])
		if err == nil {
			l.snap = &snaps[i]
			return l, nil
		}
		if ctx.Err() != nil {
			return l, ctx.Err()
		}
		s.log.Warn("a snapshot of the index cannot be read: an older one is looked for", "record", snaps[i].Last, "err", err)
	}
	return l, nil
}

// readThrough reads a kept stream to its end: every byte is verified on the way.
func readThrough(ctx context.Context, k *store.KeptStream) error {
	rd, err := k.Open(ctx)
	if err != nil {
		return err
	}
	defer rd.Close()
	_, err = io.Copy(io.Discard, rd)
	return err
}

// epoch returns the latest open epoch that anything was kept in.
func (l *salvage) epoch() (e uint64) {
	if l.snap != nil {
		e = l.snap.Epoch()
	}
	for i := range l.segs {
		e = max(e, l.segs[i].Epoch())
	}
	return e
}

// begin says where a new log goes on. Its segments have higher numbers than any before, so
// that those that are kept of it can be told from those of a log that went another way.
func (l *salvage) begin(o *journal.Options) {
	for i := range l.segs {
		o.Number = max(o.Number, l.segs[i].Number+1)
	}
	if l.snap != nil {
		o.First, o.Snapshot = l.snap.Last+1, journal.Snapshot{ID: l.snap.ID, Index: l.snap.Last}
	}
}

// replay appends the records of the segments to the new log, as far as they go on without
// a gap. One that a crash cut short goes on with the record after its last.
//
// A store that was rebuilt before may have left segments of a log that went another way:
// those have lower numbers, and were kept in earlier epochs (see foundAgain).
func (l *salvage) replay(ctx context.Context, s *Store) error {
	number := uint64(0)
	epoch, ok, err := l.from(ctx, s)
	if err != nil || !ok {
		return err
	}
	for {
		before := s.journal.Last()
		if before == 0 {
			before = s.journal.First() - 1
		}
		s.restored = before
		i := slices.IndexFunc(l.segs, func(k store.KeptStream) bool {
			return k.First <= before+1 && before+1 <= k.Last && k.Number > number && k.Epoch() >= epoch
		})
		if i < 0 {
			return nil
		}
		if err := s.replaySegment(ctx, &l.segs[i]); err != nil {
			return err
		}
		number = l.segs[i].Number
		if s.journal.Last() <= before {
			number--
			l.segs = slices.Delete(l.segs, i, i+1) // another one may have them
		}
	}
}

// from reports whether the new log can go on from something, and the epoch from which on
// segments are of the same log. Without a snapshot there must be a segment with the first
// record; one that was kept anew since is of a later epoch than those behind it, by less than
// there is between two logs.
func (l *salvage) from(ctx context.Context, s *Store) (epoch uint64, ok bool, err error) {
	if l.snap != nil {
		return l.snap.Epoch(), true, nil
	}
	for i := range l.segs {
		k := &l.segs[i]
		if k.First != 1 {
			continue
		}
		if ok, err = s.beganWith(ctx, k); err != nil || ok {
			return k.Epoch() - min(k.Epoch(), lifeEpochs/2), ok, err
		}
	}
	return 0, false, nil
}

// beganWith reports whether the first record of a segment can be read, and is that of the
// new log, if it has one already. It has one of its own after a crash, where nothing
// was found before.
func (s *Store) beganWith(ctx context.Context, seg *store.KeptStream) (bool, error) {
	first, err := firstOf(ctx, s.homes.storeID(), seg)
	if err != nil {
		s.log.Warn("a kept segment of the log cannot be read", "first", seg.First, "last", seg.Last, "err", err)
		return false, ctx.Err()
	}
	if s.journal.Last() == 0 {
		return true, nil
	}
	next, stop := iter.Pull2(s.journal.Records(1))
	defer stop()
	rec, err, _ := next()
	return err == nil && bytes.Equal(rec.Data, first), err
}

// firstOf returns the first record of a segment.
func firstOf(ctx context.Context, id [16]byte, seg *store.KeptStream) ([]byte, error) {
	rd, err := seg.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer rd.Close()
	next, stop := iter.Pull2(journal.Import(id, rd))
	defer stop()
	rec, err, ok := next()
	if err == nil && !ok {
		err = fmt.Errorf("%w: it has no record", store.ErrCorrupt)
	}
	return bytes.Clone(rec.Data), err
}

// replayBytes is about how much of a segment is appended at a time.
const replayBytes = 1 << 20

// replaySegment appends what the log lacks of a segment, to its end or to where it cannot
// be read: that is told, and what comes behind is lost.
func (s *Store) replaySegment(ctx context.Context, seg *store.KeptStream) error {
	rd, err := seg.Open(ctx)
	if err != nil {
		s.log.Warn("a kept segment of the log cannot be read", "first", seg.First, "last", seg.Last, "err", err)
		return ctx.Err()
	}
	defer rd.Close()
	var list [][]byte
	size, next := 0, s.journal.Last()+1
	flush := func() error {
		if len(list) == 0 {
			return nil
		}
		_, err := s.journal.Append(list)
		list, size = nil, 0
		return err
	}
	for rec, err := range journal.Import(s.homes.storeID(), rd) {
		if err != nil {
			s.log.Warn("a kept segment of the log cannot be read to its end", "first", seg.First, "last", seg.Last, "err", err)
			break
		}
		if rec.Index < next {
			continue
		}
		if rec.Index > next {
			return fmt.Errorf("rebuild: %w: kept segment of records %d to %d has %d where %d is due", store.ErrCorrupt, seg.First, seg.Last, rec.Index, next)
		}
		list, size, next = append(list, rec.Data), size+len(rec.Data), next+1
		if size >= replayBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	return ctx.Err()
}
