package catalog

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/blockframe/blockframe/internal/kv"
	"github.com/blockframe/blockframe/store"
)

// view is the rows as of the newest record applied: those that Pebble holds, and over
// them the front, the rows of the newest records, which follow later and many
// together. Most rows of a busy store change again before that, or go: a directory
// with every put in it, a content that travelled in its record when it is packed. The
// log has them all, and gives them again after a crash.
//
// Rows come from one goroutine, the one that applies records; everything else may be
// called concurrently.
type view struct {
	db  *kv.DB
	gen atomic.Uint64 // grows with every merge, and when contents become rows

	settling chan struct{} // full over settle: one at a time
	merging  sync.RWMutex  // held over merge; by a read, to have the rows stay as they are

	mu     sync.RWMutex // guards what follows, and is never held over a call of db
	front  sheet
	below  sheet // on its way into db; its rows do not change
	kept   sheet // the last that was; its rows are those of db, and quicker to find
	inline inlines
}

// sheet is the rows of some records, over all older ones.
type sheet struct {
	rows map[string]change
	size int   // bytes, about
	meta *meta // as of its newest record; nil: it is empty
}

// change is a row as it is to be.
type change struct {
	value []byte
	ok    bool // false: there is no such row
}

func (l *sheet) put(key string, c change) {
	if l.rows == nil {
		l.rows = map[string]change{}
	}
	if old, known := l.rows[key]; known {
		l.size += len(c.value) - len(old.value)
	} else {
		l.size += len(key) + len(c.value) + rowCost
	}
	l.rows[key] = c
}

// rowCost is about what a row takes in memory beside its key and value.
const rowCost = 100

// newView returns the view over what db holds, with so many bytes of contents inline in
// memory at most.
func newView(db *kv.DB, inline int) *view {
	return &view{db: db, settling: make(chan struct{}, 1), inline: inlines{byID: map[store.ID]*inlined{}, limit: inline}}
}

// Get returns a copy of the value under key, and whether there is one.
func (v *view) Get(key []byte) ([]byte, bool, error) {
	if c, known := v.recent(key); known {
		return slices.Clone(c.value), c.ok, nil
	}
	return v.db.Get(key)
}

// recent returns the row under key if it is in memory.
func (v *view) recent(key []byte) (change, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if key[0] == tInline {
		if in := v.inline.byID[store.ID(key[1:])]; in != nil {
			return change{in.row, true}, true
		}
	}
	if c, known := v.front.rows[string(key)]; known {
		return c, true
	}
	if c, known := v.below.rows[string(key)]; known {
		return c, true
	}
	c, known := v.kept.rows[string(key)]
	return c, known
}

// merge adds the rows of applied records, the newest of which m describes.
func (v *view) merge(rows map[string]change, m *meta) {
	v.merging.Lock()
	defer v.merging.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	for key, c := range rows {
		if !v.inline.take(key, c, &v.front) {
			v.front.put(key, c)
		}
	}
	v.inline.sort()
	v.front.meta = m
	v.gen.Add(1)
}

// size returns about how many bytes of rows are to be written to Pebble, those under
// way included.
func (v *view) size() int {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.front.size + v.below.size + max(0, v.inline.bytes-v.inline.limit)
}

// settle writes the rows of all records merged so far to Pebble, in one batch. Reads
// find them all the time. They are not durable then: see kv.Batch.Commit.
func (v *view) settle() error {
	v.settling <- struct{}{}
	return v.settleNow()
}

// settleNow is settle for who has filled settling, and empties it.
func (v *view) settleNow() error {
	defer func() { <-v.settling }()
	// First: what an earlier batch left below when the view failed is read still, and
	// must not give way to the front.
	b, err := v.db.NewWrites()
	if err != nil {
		return err
	}
	m, rows := v.freeze()
	if m == nil {
		b.Drop()
		return v.db.Failed()
	}
	if err := write(b, rows, m); err != nil {
		b.Drop()
		return err
	}
	// A crash from here on takes the view back to an earlier batch, and the log
	// gives the rest again.
	if err := b.Commit(); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.kept, v.below = v.below, sheet{}
	return nil
}

// grow has contents that stay inline for long become rows: see inlines.
func (v *view) grow(applied uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.inline.grow(applied)
}

// flush writes the rows of all records merged so far, the newest of which is applied, to
// disk.
func (v *view) flush(applied uint64) error {
	v.grow(applied)
	if err := v.settle(); err != nil {
		return err
	}
	return v.db.Flush()
}

// freeze puts the front below, and returns its rows, which change no more.
// nil means that there are none.
func (v *view) freeze() (*meta, map[string]change) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.front.meta == nil {
		return nil, nil
	}
	if v.inline.spill(&v.front) {
		v.gen.Add(1)
	}
	m := *v.front.meta
	m.inline = v.inline.oldest()
	v.below, v.front = v.front, sheet{}
	return &m, v.below.rows
}

// write adds rows to a batch, and the row that says which record they are of.
func write(b *kv.Batch, rows map[string]change, m *meta) error {
	for key, c := range rows {
		var err error
		if c.ok {
			err = b.Set([]byte(key), c.value)
		} else {
			err = b.Delete([]byte(key))
		}
		if err != nil {
			return err
		}
	}
	return b.Set([]byte{tMeta}, m.encode())
}

// lately reads the rows as they are, one after the other: who reads several looks at
// gen before and after. It cannot scan.
type lately struct {
	*view
	scanned bool
}

// errScan says that a read needs one state of the rows to scan.
var errScan = errors.New("blockframe: a scan needs a state of its own")

// Scan yields nothing but an error.
func (l *lately) Scan(_, _ []byte) iter.Seq2[kv.KV, error] {
	l.scanned = true
	return func(yield func(kv.KV, error) bool) { yield(kv.KV{}, errScan) }
}

// state is the rows as of some record.
type state struct {
	kv.Reader
	snapshot *kv.Snapshot
}

func (s *state) close() { s.snapshot.Close() }

// state returns the rows of all records merged so far, or of some more. The caller
// closes it.
func (v *view) state(ctx context.Context) (*state, error) {
	if v.unsettled() {
		if settled, err := v.trySettle(ctx); err != nil {
			return nil, err
		} else if !settled {
			return v.layered()
		}
	}
	s, err := v.db.Snapshot()
	if err != nil {
		return nil, err
	}
	return &state{s, s}, nil
}

// unsettled reports whether db lacks a record: one may have changed the meta row alone.
func (v *view) unsettled() bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.front.meta != nil || v.below.meta != nil
}

// trySettle is settle for who reads: it does not wait for room on a full disk, and
// returns false then. However many give up, one goroutine at most goes on with it.
func (v *view) trySettle(ctx context.Context) (bool, error) {
	var done chan error // nil: somebody else is at it
	turn := v.settling
	look := time.NewTicker(fullPause)
	defer look.Stop()
	for !v.db.Full() {
		select {
		case turn <- struct{}{}:
			turn, done = nil, make(chan error, 1)
			go func() { done <- v.settleNow() }()
		case err := <-done:
			return err == nil, err
		case <-ctx.Done():
			return false, ctx.Err()
		case <-look.C:
		}
	}
	return false, nil
}

// layered returns the rows with those in memory over those of db. It costs time and
// memory for the rows in memory, and each scan time.
func (v *view) layered() (*state, error) {
	for {
		gen := v.gen.Load()
		over := v.recentRows()
		s, err := v.db.Snapshot()
		if err != nil {
			return nil, err
		}
		if v.gen.Load() != gen { // s may be ahead, or hold contents that have become rows
			s.Close()
			continue
		}
		o := kv.NewOverlay(s)
		for key, c := range over {
			if c.ok {
				err = o.Set([]byte(key), c.value)
			} else {
				err = o.Delete([]byte(key))
			}
			if err != nil {
				s.Close()
				return nil, err
			}
		}
		return &state{o, s}, nil
	}
}

// recentRows returns a copy of the rows that db may not hold yet.
func (v *view) recentRows() map[string]change {
	v.mu.RLock()
	defer v.mu.RUnlock()
	rows := maps.Clone(v.below.rows)
	if rows == nil {
		rows = map[string]change{}
	}
	maps.Copy(rows, v.front.rows)
	for _, m := range []*meta{v.below.meta, v.front.meta} {
		if m != nil {
			rows[string(tMeta)] = change{m.encode(), true}
		}
	}
	return rows
}

// waiting returns the contents that are inline in memory, oldest first, and whether
// older ones are rows.
func (v *view) waiting() ([]*inlined, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.inline.list(), v.inline.rows > 0
}

// pending is the changes of the records that are being applied, over the rows of a
// view. It is used by one goroutine.
type pending struct {
	view  *view
	rows  map[string]change
	batch *kv.Batch // the same changes, in order, once somebody scans
}

func newPending(v *view) *pending { return &pending{view: v, rows: map[string]change{}} }

// Get returns a copy of the value under key, and whether there is one.
func (p *pending) Get(key []byte) ([]byte, bool, error) {
	if c, known := p.rows[string(key)]; known {
		return slices.Clone(c.value), c.ok, nil
	}
	return p.view.Get(key)
}

// Set gives key the value.
func (p *pending) Set(key, value []byte) error {
	return p.Keep(string(key), slices.Clone(value), false)
}

// Delete removes key.
func (p *pending) Delete(key []byte) error { return p.Keep(string(key), nil, true) }

// Keep implements kv.Keeper.
func (p *pending) Keep(key string, value []byte, deleted bool) error {
	p.rows[key] = change{value, !deleted}
	switch {
	case p.batch == nil:
		return nil
	case deleted:
		return p.batch.Delete([]byte(key))
	}
	return p.batch.Set([]byte(key), value)
}

// Scan yields the rows whose keys lie in [lo, hi), in order. Of contents that are
// inline it yields nothing that can be relied on.
func (p *pending) Scan(lo, hi []byte) iter.Seq2[kv.KV, error] {
	if err := p.order(); err != nil {
		return func(yield func(kv.KV, error) bool) { yield(kv.KV{}, err) }
	}
	return p.batch.Scan(lo, hi)
}

// order puts all changes in order, over all rows of the view. From then on they stay
// so: a group of many records that scan costs no more for each of them.
func (p *pending) order() error {
	if p.batch != nil {
		return nil
	}
	if err := p.view.settle(); err != nil {
		return err
	}
	b, err := p.view.db.NewBatch()
	if err != nil {
		return err
	}
	for key, c := range p.rows {
		if c.ok {
			err = b.Set([]byte(key), c.value)
		} else {
			err = b.Delete([]byte(key))
		}
		if err != nil {
			b.Drop()
			return err
		}
	}
	p.batch = b
	return nil
}

// drop ends the changes. They are forgotten unless they were merged.
func (p *pending) drop() {
	if p.batch != nil {
		p.batch.Drop()
		p.batch = nil
	}
}
