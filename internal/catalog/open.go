package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/internal/kv"
	"github.com/blockframe/blockframe/store"
)

const (
	frontBytes  = 4 << 20               // of rows that wait to be written to Pebble, about
	inlineBytes = 16 << 20              // of contents in memory that wait to be packed
	groupBytes  = 1 << 20               // of records applied together in a replay, but for the last
	flushBytes  = 32 << 20              // of records to be replayed after a crash, about
	flushAfter  = 30 * time.Second      // the same by time, when records come
	fullPause   = 10 * time.Millisecond // from one look at a full disk to the next
	retryAfter  = time.Second           // from one try to make the view anew, for which there was no room, to the next
)

// openView opens the newest view and replays what it lacks. A view that cannot
// be used gives way to one made from the whole log.
func (c *Catalog) openView() error {
	if err := c.opts.FS.MkdirAll(c.opts.Dir); err != nil {
		return err
	}
	numbers, err := c.views()
	if err != nil {
		return err
	}
	if len(numbers) > 0 {
		c.dir = slices.Max(numbers)
		err := c.try(c.opts.Journal.Last(), nil)
		if err == nil {
			return c.tidy()
		}
		if fatal(err) {
			return err
		}
		c.sayAnew(err)
	}
	return c.anew(c.opts.Journal.Last())
}

// sayAnew says that the view was damaged, once for each.
func (c *Catalog) sayAnew(reason error) {
	c.log.Warn("the index in "+c.opts.Dir+" was damaged and is made anew; nothing is lost", "reason", kv.Brief(reason))
}

// views returns the numbers of the views on disk.
func (c *Catalog) views() ([]uint64, error) {
	names, err := c.opts.FS.List(c.opts.Dir)
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, name := range names {
		if n, err := strconv.ParseUint(name, 16, 64); err == nil && len(name) == 16 {
			numbers = append(numbers, n)
		}
	}
	return numbers, nil
}

func (c *Catalog) viewDir() string { return path.Join(c.opts.Dir, fmt.Sprintf("%016x", c.dir)) }

// tidy removes views that were given up. What cannot be removed now is tried
// again by the next Open.
func (c *Catalog) tidy() error {
	numbers, err := c.views()
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if n == c.dir {
			continue
		}
		dir := path.Join(c.opts.Dir, fmt.Sprintf("%016x", n))
		if err := kv.Destroy(c.opts.FS, dir); err != nil {
			c.log.Warn("old view not removed", "dir", dir, "err", kv.Brief(err))
		}
	}
	return nil
}

// anew makes a view from the log, in a directory of its own beside the old ones:
// something may still hold those. A crash on the way leaves a view that lacks
// records, as any crash does.
func (c *Catalog) anew(last uint64) error {
	c.making.Lock() // the log keeps what it has until the view is made
	defer c.making.Unlock()
	if c.opts.Journal.First() > 1 {
		return c.anewFromSnapshot(last)
	}
	return c.build(last, nil)
}

// build makes the view in a directory of its own, from the records alone or from a snapshot
// and those behind it.
func (c *Catalog) build(last uint64, from *Saved) error {
	numbers, err := c.views()
	if err != nil {
		return err
	}
	c.dir = slices.Max(append(numbers, c.dir)) + 1
	if err := c.try(last, from); err != nil {
		// It would only take room; what another crash leaves of it, tidy removes.
		if derr := kv.Destroy(c.opts.FS, c.viewDir()); derr != nil {
			c.log.Warn("view that failed while it was made is not removed", "dir", c.viewDir(), "err", kv.Brief(derr))
		}
		return err
	}
	return c.tidy()
}

// try opens the view in viewDir, into which a snapshot is put if there is one, and applies
// the records up to last that it lacks.
func (c *Catalog) try(last uint64, from *Saved) (err error) {
	db, err := kv.Open(kv.Options{FS: c.opts.FS, Dir: c.viewDir(), Logger: c.log, MemTable: c.opts.MemTable, Cache: c.opts.Cache})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			db.Close()
		}
	}()
	if from != nil {
		if err = c.restore(db, from); err != nil {
			return err
		}
	}
	v := newView(db, c.opts.Inline)
	m, err := c.check(db, last)
	if err == nil && from == nil && m.applied+1 < c.opts.Journal.First() {
		err = errLogTrimmed // it was put aside for long
	}
	if err != nil {
		return err
	}
	if err = c.recall(v, m); err != nil {
		return err
	}
	if m, err = c.replay(v, m, last); err != nil {
		return err
	}
	db.Patient()
	c.meta.Store(m)
	if old := c.view.Swap(v); old != nil {
		old.db.Close()
	}
	if c.closed.Load() {
		db.Impatient() // Close looks for the view once it has set closed
	}
	return nil
}

// check reads the meta row, and holds the view against the log. Records come to
// the view when they are durable on all members of the log, so one that the log
// does not have was acknowledged and is gone: the view is the proof of it, and is
// left as it is.
func (c *Catalog) check(db *kv.DB, last uint64) (*meta, error) {
	r := rows{r: db}
	m := r.meta()
	if r.err != nil {
		return nil, r.err
	}
	first := c.opts.Journal.First()
	if m == nil && first == 1 {
		return newMeta(c.opts.StoreID), nil
	}
	if m == nil {
		return nil, errLogTrimmed
	}
	if m.storeID != c.opts.StoreID {
		return nil, fmt.Errorf("view of another store, %x", m.storeID)
	}
	if m.applied > last {
		return nil, c.lost(fmt.Sprintf("the log ends at record %d, the view holds %d", last, m.applied))
	}
	if m.inline > 0 && m.inline < first {
		return nil, errLogTrimmed
	}
	if m.applied < first {
		return m, nil // a snapshot covers it, or a segment that is kept outside of the log
	}
	for rec, err := range c.records(m.applied) {
		if err != nil {
			return nil, &logError{err}
		}
		if frame.Sum(rec.Data) != m.hash {
			return nil, c.lost(fmt.Sprintf("the log holds another record %d than the view", m.applied))
		}
		break
	}
	return m, nil
}

// lost says that the log lacks records which were acknowledged, and what to do.
func (c *Catalog) lost(what string) error {
	return &logError{fmt.Errorf("%w: %s: records that were acknowledged are gone; restore the newer copy of the log, or move %s away to accept the loss: the shards of what is lost are still on the disks, and a collection (gc) leaves complete objects alone",
		frame.ErrCorrupt, what, c.opts.Dir)}
}

// logError is a failure that making the view anew does not cure.
type logError struct{ err error }

func (e *logError) Error() string { return e.err.Error() }
func (e *logError) Unwrap() error { return e.err }

func fatal(err error) bool {
	var l *logError
	return errors.As(err, &l) || errors.Is(err, durable.ErrNoSpace) || errors.Is(err, frame.ErrVersion)
}

// recall reads the contents that are inline, and no rows of the view, from the log.
func (c *Catalog) recall(v *view, m *meta) error {
	r := rows{r: v.db}
	for row := range r.scan([]byte{tInlineAge}, nil) {
		v.inline.rows++
		v.inline.newest = parseAge(row.Key)
	}
	v.inline.seen = m.applied
	if m.inline == 0 || r.err != nil {
		return r.err
	}
	for rec, err := range c.records(m.inline) {
		if err != nil {
			return &logError{err}
		}
		if rec.Index > m.applied {
			break
		}
		e, err := DecodeRecord(rec.Data)
		if err != nil {
			return &logError{fmt.Errorf("record %d: %w", rec.Index, err)}
		}
		for i, command := range e.Commands {
			if p, ok := command.(store.Put); ok && len(p.Inline) > 0 {
				v.recall(&r, &p, rec.Index, uint32(i))
			}
		}
	}
	v.inline.sort()
	return r.err
}

// recall keeps the content that a command of a record brought, if it is still inline
// from there and no row.
func (v *view) recall(r *rows, p *store.Put, record uint64, number uint32) {
	c := r.content(p.ID)
	if c == nil || !c.inline() || c.record != record || c.number != number {
		return
	}
	if _, ok := r.get(key(tInline, p.ID)); !ok && r.err == nil {
		v.inline.add(parseInline(p.ID, inlineRow(record, number, p.Inline)))
	}
}

// replay applies the records of the log after those of m, up to last.
func (c *Catalog) replay(v *view, m *meta, last uint64) (*meta, error) {
	var group [][]byte
	size := 0
	apply := func() (err error) {
		if len(group) > 0 {
			m, _, err = c.group(v, m, m.applied+1, group)
		}
		group, size = nil, 0
		if err == nil && v.size() > c.opts.Front {
			err = v.settle()
		}
		return err
	}
	if m.applied == last {
		return m, nil
	}
	for rec, err := range c.records(m.applied + 1) {
		if err != nil {
			return nil, &logError{err}
		}
		if rec.Index > last {
			break
		}
		group, size = append(group, rec.Data), size+len(rec.Data)
		if size >= groupBytes {
			if err := apply(); err != nil {
				return nil, err
			}
		}
	}
	if err := apply(); err != nil {
		return nil, err
	}
	if m.applied != last {
		return nil, &logError{fmt.Errorf("%w: log yields records up to %d, want %d", frame.ErrCorrupt, m.applied, last)}
	}
	return m, v.settle() // it fails now, if it does
}

// group applies records, and makes what they do visible together.
func (c *Catalog) group(v *view, before *meta, first uint64, records [][]byte) (*meta, [][]store.Result, error) {
	after := *before
	p := newPending(v)
	defer p.drop()
	m := machine{view: p, meta: &after, sets: c.opts.Rows}
	results := make([][]store.Result, len(records))
	size := int64(0)
	for i, data := range records {
		var err error
		if results[i], err = m.record(first+uint64(i), data); err != nil {
			return nil, nil, err
		}
		size += int64(len(data))
	}
	after.hash = frame.Sum(records[len(records)-1])
	v.merge(p.rows, &after)
	c.fresh += size
	return &after, results, nil
}

// tend writes the view out now and then, beside the work: rows to Pebble, to bound
// what is in memory, and Pebble's to disk, to bound what is replayed. c.mu is held.
func (c *Catalog) tend(v *view) {
	now := time.Now()
	if c.when.IsZero() {
		c.when = now
	}
	if v.db.Full() {
		return // a lack of room is waited for elsewhere, and nothing more is logged
	}
	flush := c.fresh >= flushBytes || now.Sub(c.when) >= flushAfter
	size := v.size()
	if !flush && size < c.opts.Front || c.settling() {
		c.holdBack(v, size)
		return
	}
	if flush {
		c.fresh, c.when = 0, now
		v.grow(c.meta.Load().applied)
	}
	c.settled = make(chan struct{})
	go func(done chan struct{}) {
		defer close(done)
		err := v.settle()
		if err == nil && flush {
			err = v.db.FlushSoon()
		}
		if err != nil && !errors.Is(err, kv.ErrClosed) {
			c.log.Info("rows not written to the view", "err", kv.Brief(err)) // which has failed
		}
	}(c.settled)
}

// settling reports whether rows are being written to Pebble. c.mu is held.
func (c *Catalog) settling() bool {
	if c.settled == nil {
		return false
	}
	select {
	case <-c.settled:
		c.settled = nil
		return false
	default:
		return true
	}
}

// holdBack waits for Pebble while far more rows came than it has taken.
func (c *Catalog) holdBack(v *view, size int) {
	if size < 4*c.opts.Front || c.settled == nil {
		return
	}
	look := time.NewTicker(fullPause)
	defer look.Stop()
	for !v.db.Full() {
		select {
		case <-c.settled:
			return
		case <-v.db.Failing():
			return
		case <-look.C:
		}
	}
}

// Apply implements Machine.
func (c *Catalog) Apply(first uint64, records [][]byte) ([][]store.Result, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil && !errors.Is(c.broken, durable.ErrNoSpace) {
		return nil, c.broken
	}
	if applied := c.meta.Load().applied; first != applied+1 {
		return nil, fmt.Errorf("catalog: record %d after record %d", first, applied)
	}
	var failed error
	for again := false; ; again = true {
		if !again {
			failed = c.view.Load().db.Failed()
		}
		if failed != nil {
			if err := c.renew(failed); err != nil {
				return nil, err
			}
		}
		v := c.view.Load()
		m, results, err := c.group(v, c.meta.Load(), first, records)
		if err == nil {
			c.meta.Store(m)
			c.broken = nil
			c.tend(v)
			return results, nil
		}
		if again || fatal(err) {
			c.broken = fmt.Errorf("catalog: %w", err)
			return nil, c.broken
		}
		failed = err
	}
}

// renew makes the view anew from the log, up to the newest record applied, and says why.
func (c *Catalog) renew(reason error) error {
	if c.closed.Load() {
		return fmt.Errorf("catalog: %w", fs.ErrClosed)
	}
	if c.broken != nil && (!errors.Is(c.broken, durable.ErrNoSpace) || time.Now().Before(c.retry)) {
		return c.broken
	}
	c.broken = nil
	c.sayAnew(reason)
	if err := c.anew(c.meta.Load().applied); err != nil {
		c.broken = fmt.Errorf("catalog: view cannot be made again: %w", err)
		c.retry = time.Now().Add(retryAfter)
	}
	return c.broken
}

// cure makes the view anew after a read of old failed, unless that was done
// meanwhile.
func (c *Catalog) cure(old *view, reason error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Load() {
		return fmt.Errorf("catalog: %w", fs.ErrClosed)
	}
	if c.view.Load() != old {
		return nil
	}
	return c.renew(reason)
}
