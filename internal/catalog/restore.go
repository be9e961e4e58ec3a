package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/internal/journal"
	"github.com/blockframe/blockframe/internal/kv"
	"github.com/blockframe/blockframe/store"
)

// Saved is a snapshot or a segment that is kept outside of the log, found without the
// catalog.
type Saved struct {
	First, Last uint64 // records that it holds, or whose effects it has
	Number      uint64 // of a segment: higher than those of the log before, and of logs before that
	Open        func(ctx context.Context) (io.ReadCloser, error)
}

// saved returns those of a kind, the one with the newest records first.
func (c *Catalog) saved(kind store.Kind) ([]Saved, error) {
	if c.opts.Saved == nil {
		return nil, nil
	}
	return c.opts.Saved(context.Background(), kind)
}

// anewFromSnapshot makes a view from the newest snapshot that can be read and the records
// behind it. Each that fails gives way to the one before.
func (c *Catalog) anewFromSnapshot(last uint64) error {
	list, err := c.saved(store.KindSnapshot)
	if err != nil {
		return &logError{err}
	}
	errs := []error{fmt.Errorf("the view is lost, and the log begins at record %d: %w", c.opts.Journal.First(), fs.ErrNotExist)}
	for i := range list {
		s := &list[i]
		if s.Last > last {
			c.log.Warn("a snapshot of the catalog is newer than the log, and is not used", "snapshot", s.Last, "log", last)
			continue
		}
		began := time.Now()
		c.log.Warn("the index is restored from a snapshot", "record", s.Last, "then", last-s.Last)
		err := c.build(last, s)
		if err == nil {
			c.log.Warn("the index is restored", "record", last, "took", time.Since(began).Round(time.Millisecond))
			return nil
		}
		if errors.Is(err, durable.ErrNoSpace) || errors.Is(err, frame.ErrVersion) {
			return err
		}
		c.log.Warn("a snapshot of the catalog cannot be used", "record", s.Last, "err", kv.Brief(err))
		errs = append(errs, fmt.Errorf("snapshot of record %d: %w", s.Last, err))
	}
	return &logError{errors.Join(errs...)}
}

// restore puts the rows of a snapshot into an empty view, whose first row says that it is
// not whole: a crash before the last batch leaves a view that is not used.
func (c *Catalog) restore(db *kv.DB, from *Saved) error {
	rd, err := from.Open(context.Background())
	if err != nil {
		return err
	}
	defer rd.Close()
	s, err := newSnapReader(rd)
	if err != nil {
		return err
	}
	if s.info.storeID != c.opts.StoreID || s.info.index != from.Last {
		return corrupt("snapshot of record %d of store %x", s.info.index, s.info.storeID)
	}
	if err := putRows(db, []kv.KV{{Key: []byte{tMeta}, Value: []byte{viewRestoring}}}); err != nil {
		return err
	}
	final, err := c.fill(db, s)
	if err == nil {
		err = c.checkRestored(&s.info, final)
	}
	if err != nil {
		return err
	}
	// A crash before this is on disk leaves a view that Open makes again.
	if err := putRows(db, final); err != nil {
		return err
	}
	return db.Flush()
}

// fill puts all rows of a snapshot into a view but the meta row, which it returns.
func (c *Catalog) fill(db *kv.DB, s *snapReader) (final []kv.KV, err error) {
	told, n := time.Now(), 0
	for {
		list, err := s.next()
		if err == io.EOF {
			return final, nil
		}
		if err != nil {
			return nil, err
		}
		for i, row := range list {
			if bytes.Equal(row.Key, []byte{tMeta}) {
				final = []kv.KV{{Key: []byte{tMeta}, Value: bytes.Clone(row.Value)}}
				list = slices.Delete(list, i, i+1)
				break
			}
		}
		if err := putRows(db, list); err != nil {
			return nil, err
		}
		if n += len(list); time.Since(told) > restoreSays {
			told = time.Now()
			c.log.Warn("the index is being restored", "rows", n)
		}
	}
}

// restoreSays is the time between two lines about how far a restore is.
const restoreSays = 5 * time.Second

// checkRestored holds the meta row of a snapshot against its head.
func (c *Catalog) checkRestored(info *snapInfo, final []kv.KV) error {
	if len(final) == 0 {
		return corrupt("the snapshot has no meta row")
	}
	r := rows{r: oneRow(final[0])}
	m := r.meta()
	if r.err != nil {
		return r.err
	}
	if m.storeID != info.storeID || m.applied != info.index || m.hash != info.hash || m.inline != 0 {
		return corrupt("the snapshot's rows are of record %d", m.applied)
	}
	return nil
}

// oneRow is a reader of one row.
type oneRow kv.KV

func (r oneRow) Get(key []byte) ([]byte, bool, error) {
	return bytes.Clone(r.Value), bytes.Equal(key, r.Key), nil
}
func (r oneRow) Scan(_, _ []byte) iter.Seq2[kv.KV, error] { return func(func(kv.KV, error) bool) {} }

// putRows writes rows in one batch.
func putRows(db *kv.DB, list []kv.KV) error {
	b, err := db.NewWrites()
	if err != nil {
		return err
	}
	for _, row := range list {
		if err := b.Set(row.Key, row.Value); err != nil {
			b.Drop()
			return err
		}
	}
	return b.Commit()
}

// records yields the records of the log from one on. Where no copy of the log has them, they
// are taken from a segment that is kept outside of it, if there is one.
func (c *Catalog) records(from uint64) iter.Seq2[journal.Record, error] {
	return func(yield func(journal.Record, error) bool) {
		number := uint64(0)
		segments := sync.OnceValues(func() ([]Saved, error) { return c.saved(store.KindSegment) })
		for {
			failed, more := c.fromLog(&from, yield)
			if failed == nil || !more {
				return
			}
			at := from
			if errors.Is(failed, frame.ErrCorrupt) || errors.Is(failed, fs.ErrNotExist) {
				list, err := segments()
				if err == nil {
					more, err = c.fromSegment(list, &number, &from, yield)
				}
				failed = errors.Join(failed, err)
			}
			if !more {
				return
			}
			if from == at {
				yield(journal.Record{}, failed)
				return
			}
		}
	}
}

// fromLog yields the records of the log from one on, and moves it on. more is false when
// whoever takes them has enough.
func (c *Catalog) fromLog(from *uint64, yield func(journal.Record, error) bool) (failed error, more bool) {
	for rec, err := range c.opts.Journal.Records(*from) {
		if err != nil {
			return err, true
		}
		if !yield(rec, nil) {
			return nil, false
		}
		*from = rec.Index + 1
	}
	return nil, true
}

// fromSegment yields the records from one on of the segment that holds it, and moves it on:
// not at all, if there is no such segment that can be read. Segments of a log that went
// another way, before a rebuild, have lower numbers than one that was read, and higher ones
// than those of the log have none.
func (c *Catalog) fromSegment(list []Saved, number, from *uint64, yield func(journal.Record, error) bool) (more bool, err error) {
	at := *from
	for i := range list {
		s := &list[i]
		if s.First > at || s.Last < at || s.Number <= *number || s.Number > c.newestNumber(at) {
			continue
		}
		c.log.Warn("records are taken from a kept segment of the log", "first", at, "last", s.Last)
		more, serr := c.readSegment(s, from, yield)
		if !more || *from > at {
			*number = s.Number
			return more, nil
		}
		err = errors.Join(err, serr)
	}
	return true, err
}

// newestNumber returns the number of the segment of the log that holds a record, or of the
// oldest if that comes after it.
func (c *Catalog) newestNumber(record uint64) uint64 {
	segs := c.opts.Journal.Segments()
	for i := len(segs) - 1; i >= 0; i-- {
		if segs[i].First <= record {
			return segs[i].Number
		}
	}
	return segs[0].Number
}

func (c *Catalog) readSegment(s *Saved, next *uint64, yield func(journal.Record, error) bool) (more bool, err error) {
	rd, err := s.Open(context.Background())
	if err != nil {
		return true, err
	}
	defer rd.Close()
	for rec, err := range journal.Import(c.opts.StoreID, rd) {
		if err != nil {
			return true, err
		}
		if rec.Index < *next {
			continue
		}
		if rec.Index != *next {
			return true, corrupt("record %d of a kept segment follows %d", rec.Index, *next-1)
		}
		if !yield(rec, nil) {
			return false, nil
		}
		*next++
	}
	return true, nil
}

// Detach makes the view on disk independent of the records up to index, which are about to
// leave the log, and calls trim. No view is made from the log meanwhile.
func (c *Catalog) Detach(index uint64, trim func() error) error {
	c.making.Lock()
	defer c.making.Unlock()
	if c.closed.Load() {
		return fmt.Errorf("catalog: %w", fs.ErrClosed)
	}
	v := c.view.Load()
	if v.db.Full() {
		return fmt.Errorf("catalog: view: %w", durable.ErrNoSpace)
	}
	if err := v.let(index); err != nil {
		return fmt.Errorf("catalog: %w", err)
	}
	if err := v.db.Flush(); err != nil {
		return fmt.Errorf("catalog: %w", err)
	}
	return trim()
}

// let hands the rows of all records to Pebble, and the contents of records up to index that
// are inline with them.
func (v *view) let(index uint64) error {
	v.merging.RLock() // the newest record stays the one that the meta row says
	defer v.merging.RUnlock()
	if err := v.settle(); err != nil {
		return err
	}
	r := rows{r: v.db}
	m := r.meta()
	if r.err != nil {
		return r.err
	}
	if m == nil || m.applied < index {
		return invalid("the view does not hold record %d yet", index)
	}
	v.mu.Lock()
	v.inline.old = max(v.inline.old, index)
	v.front.meta = m // or else nothing is settled
	v.mu.Unlock()
	return v.settle()
}
