package kv

import (
	"iter"

	"github.com/cockroachdb/pebble/v2"
)

// Writer is what a Batch and an Overlay have in common.
type Writer interface {
	Set(key, value []byte) error
	Delete(key []byte) error
}

// Batch collects changes that become visible together. Reads of a batch see its
// changes over the view as it is. A batch is used by one goroutine at a time.
type Batch struct {
	db *DB
	b  *pebble.Batch
}

// NewBatch returns an empty batch. The caller ends it with Commit or Drop.
func (db *DB) NewBatch() (*Batch, error) {
	if err := db.acquire(); err != nil {
		return nil, err
	}
	return &Batch{db: db, b: db.pebble.NewIndexedBatch()}, nil
}

// NewWrites returns an empty batch that cannot be read, and takes changes faster.
func (db *DB) NewWrites() (*Batch, error) {
	if err := db.acquire(); err != nil {
		return nil, err
	}
	return &Batch{db: db, b: db.pebble.NewBatch()}, nil
}

// Get returns a copy of the value under key, and whether there is one.
func (b *Batch) Get(key []byte) ([]byte, bool, error) { return b.db.get(b.b, key) }

// Scan yields the rows whose keys lie in [lo, hi), in order. Changes made to the
// batch meanwhile may or may not be seen.
func (b *Batch) Scan(lo, hi []byte) iter.Seq2[KV, error] {
	return func(yield func(KV, error) bool) { b.db.scan(b.b, lo, hi, yield) }
}

// Set gives key the value. Both are copied.
func (b *Batch) Set(key, value []byte) error { return b.db.check(b.b.Set(key, value, nil)) }

// Delete removes key, if it is there.
func (b *Batch) Delete(key []byte) error { return b.db.check(b.b.Delete(key, nil)) }

// Len returns the bytes of the changes so far.
func (b *Batch) Len() int { return b.b.Len() }

// Commit makes the changes visible to reads that begin after it. They are not
// durable: a crash may drop this batch and those after it. It waits while older
// rows are written out. The batch is done, whatever is returned.
func (b *Batch) Commit() error {
	if err := b.db.usable(); err != nil {
		b.Drop()
		return err
	}
	err := b.db.run(func() error { return b.b.Commit(pebble.NoSync) })
	if err != nil {
		// Some goroutine may still hold the batch: it goes with the view.
		b.db.guard.poison(err)
		b.db.release()
		return b.db.Failed()
	}
	b.Drop()
	return nil
}

// Drop ends the batch without its changes.
func (b *Batch) Drop() {
	b.b.Close()
	b.db.release()
}
