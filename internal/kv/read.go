package kv

import (
	"errors"
	"iter"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// Reader is what a DB, a Snapshot, a Batch and an Overlay have in common.
type Reader interface {
	// Get returns a copy of the value under key, and whether there is one.
	Get(key []byte) (value []byte, ok bool, err error)

	// Scan yields the rows whose keys lie in [lo, hi), in order. nil is no
	// bound.
	Scan(lo, hi []byte) iter.Seq2[KV, error]
}

// Get returns a copy of the value under key, and whether there is one.
func (db *DB) Get(key []byte) ([]byte, bool, error) {
	if err := db.acquire(); err != nil {
		return nil, false, err
	}
	defer db.release()
	return db.get(db.pebble, key)
}

// Scan yields the rows whose keys lie in [lo, hi), in order, as they were at its
// first step. nil is no bound.
func (db *DB) Scan(lo, hi []byte) iter.Seq2[KV, error] {
	return func(yield func(KV, error) bool) {
		if err := db.acquire(); err != nil {
			yield(KV{}, err)
			return
		}
		defer db.release()
		db.scan(db.pebble, lo, hi, yield)
	}
}

// Snapshot is the view as it was when it was taken.
type Snapshot struct {
	db *DB
	s  *pebble.Snapshot
}

// Snapshot returns the view as it is now. The caller closes it.
func (db *DB) Snapshot() (*Snapshot, error) {
	if err := db.acquire(); err != nil {
		return nil, err
	}
	taken := make(chan *pebble.Snapshot, 1)
	err := db.run(func() error { taken <- db.pebble.NewSnapshot(); return nil })
	if err != nil {
		// One that was taken meanwhile is dropped with the view that failed.
		db.release()
		return nil, err
	}
	return &Snapshot{db: db, s: <-taken}, nil
}

// Get returns a copy of the value under key, and whether there is one.
func (s *Snapshot) Get(key []byte) ([]byte, bool, error) { return s.db.get(s.s, key) }

// Scan yields the rows whose keys lie in [lo, hi), in order. nil is no bound.
func (s *Snapshot) Scan(lo, hi []byte) iter.Seq2[KV, error] {
	return func(yield func(KV, error) bool) { s.db.scan(s.s, lo, hi, yield) }
}

// Close releases the snapshot. No read of it may be in progress.
func (s *Snapshot) Close() {
	if !s.db.guard.fatal.Load() {
		s.db.run(s.s.Close)
	}
	s.db.release()
}

func (db *DB) get(r pebble.Reader, key []byte) ([]byte, bool, error) {
	if err := db.usable(); err != nil {
		return nil, false, err
	}
	db.reads.Add(1)
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		// Absence is only as good as the tables it was looked for in.
		return nil, false, db.Failed()
	}
	if err != nil {
		return nil, false, db.check(err)
	}
	v = slices.Clone(v)
	return v, true, db.check(db.end(closer.Close))
}

// scan yields until the end, the consumer's break, the first error, or the end
// of the view.
func (db *DB) scan(r pebble.Reader, lo, hi []byte, yield func(KV, error) bool) {
	if err := db.usable(); err != nil {
		yield(KV{}, err)
		return
	}
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		yield(KV{}, db.check(err))
		return
	}
	defer db.end(it.Close)
	for ok := it.First(); ok; ok = it.Next() {
		db.reads.Add(1)
		v, err := it.ValueAndErr()
		if err != nil {
			yield(KV{}, db.check(err))
			return
		}
		if err := db.usable(); err != nil {
			yield(KV{}, err)
			return
		}
		if !yield(KV{it.Key(), v}, nil) {
			return
		}
	}
	if err := errors.Join(db.check(it.Error()), db.Failed()); err != nil {
		yield(KV{}, err)
	}
}

// Reads returns the number of rows that were looked at since the view was opened, and of
// keys that were looked for.
func (db *DB) Reads() int64 { return db.reads.Load() }

// end closes what a read took. In a view that has failed, that may come to stand
// behind locks which are never released, and is left behind then.
func (db *DB) end(closing func() error) error {
	switch {
	case db.guard.fatal.Load():
		<-db.guard.failed // any moment
		return db.Failed()
	case db.Failed() == nil:
		return closing()
	}
	db.finish(closing)
	return db.Failed()
}

func (db *DB) usable() error {
	if db.closed.Load() {
		return ErrClosed
	}
	return db.Failed()
}
