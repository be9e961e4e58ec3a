// Package mem keeps blobs in memory: a [store.Backend] for tests, whose faults
// are injected and whose blobs can be damaged by hand.
//
//	b := mem.New(mem.Options{Capacity: 1 << 30})
//	b.SetFault(func(op mem.Op) *mem.Fault { … })   // each operation, in both arms
//	b.Flip(b.Keys()[0], 4096, 1)                   // a rotten block
//
// It holds its callers to the contract: a slice written that is not aligned as
// [store.BackendWriter] says is an error.
package mem

import (
	"context"
	"crypto/rand"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/blockframe/blockframe/store"
)

// boundless is what a backend without Capacity claims to hold.
const boundless = 1 << 50

// Options says what a Backend is like. The zero value is a roomy one.
type Options struct {
	ID         store.BackendID // random if zero
	Capacity   int64           // bytes that it holds, boundless if 0
	ElideZeros bool            // keep no memory for 64 KiB pieces that are zero
}

// Backend is a store.Backend in memory.
type Backend struct {
	id    store.BackendID
	elide bool

	mu       sync.Mutex // guards what follows
	blobs    map[store.BackendKey]*blob
	capacity int64
	used     int64 // bytes committed and being written
	handles  int   // readers and writers not done yet
	offline  bool
	fault    func(Op) *Fault
	latency  func(Op) time.Duration
}

var _ store.Backend = (*Backend)(nil)

// New returns an empty Backend.
func New(opts Options) *Backend {
	b := &Backend{id: opts.ID, elide: opts.ElideZeros, capacity: opts.Capacity, blobs: map[store.BackendKey]*blob{}}
	if b.id.IsZero() {
		rand.Read(b.id[:])
	}
	if b.capacity == 0 {
		b.capacity = boundless
	}
	return b
}

// ID returns the identity.
func (b *Backend) ID() store.BackendID { return b.id }

// Create starts a blob. ctx bounds the life of the writer.
func (b *Backend) Create(ctx context.Context, key store.BackendKey) (store.BackendWriter, error) {
	if err := key.Validate(); err != nil {
		return nil, err
	}
	w := &writer{b: b, ctx: ctx, key: key, content: content{elide: b.elide}}
	err := b.do(ctx, Op{Kind: Create, Key: key}, func() error { b.hold(1); return nil }, func() { b.hold(-1) })
	if err != nil {
		return nil, err
	}
	return w, nil
}

// Open opens a blob. ctx bounds the life of the reader.
func (b *Backend) Open(ctx context.Context, key store.BackendKey, opts store.OpenOptions) (store.BackendReader, error) {
	if err := key.Validate(); err != nil {
		return nil, err
	}
	var r *reader
	err := b.do(ctx, Op{Kind: Open, Key: key}, func() error {
		found, ok := b.lookup(key)
		if !ok {
			return &fs.PathError{Op: "open", Path: string(key), Err: fs.ErrNotExist}
		}
		b.hold(1)
		r = &reader{b: b, ctx: ctx, key: key, blob: found, size: found.get().size}
		return nil
	}, func() { b.hold(-1) })
	if err != nil {
		return nil, err
	}
	return r, nil
}

// List yields the keys that were there when it was called.
func (b *Backend) List(ctx context.Context, prefix, after store.BackendKey) iter.Seq2[store.BackendKey, error] {
	return func(yield func(store.BackendKey, error) bool) {
		var keys []store.BackendKey
		err := b.do(ctx, Op{Kind: List, Key: prefix}, func() error { keys = b.Keys(); return nil }, nil)
		if err != nil {
			yield("", err)
			return
		}
		for _, k := range keys {
			if k <= after || !strings.HasPrefix(string(k), string(prefix)) {
				continue
			}
			if err := ctx.Err(); err != nil {
				yield("", err)
				return
			}
			if !yield(k, nil) {
				return
			}
		}
	}
}

// Remove removes a blob. Readers that have it open go on.
func (b *Backend) Remove(ctx context.Context, key store.BackendKey) error {
	if err := key.Validate(); err != nil {
		return err
	}
	return b.do(ctx, Op{Kind: Remove, Key: key}, func() error { b.Delete(key); return nil }, nil)
}

// Usage returns the capacity, and what is left of it.
func (b *Backend) Usage(ctx context.Context) (u store.Usage, err error) {
	err = b.do(ctx, Op{Kind: Usage}, func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		u = store.Usage{Total: b.capacity, Free: max(0, b.capacity-b.used), Blobs: int64(len(b.blobs))}
		return nil
	}, nil)
	return u, err
}

// Handles returns how many readers are not closed and how many writers neither
// committed nor aborted.
func (b *Backend) Handles() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.handles
}

func (b *Backend) hold(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.handles += n
}

func (b *Backend) lookup(key store.BackendKey) (*blob, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	found, ok := b.blobs[key]
	return found, ok
}

// reserve takes n bytes of the capacity, or none.
func (b *Backend) reserve(n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > b.capacity-b.used {
		return fmt.Errorf("backend %v: %w", b.id, store.ErrNoSpace)
	}
	b.used += n
	return nil
}

// publish makes c the content of key if there is none.
func (b *Backend) publish(key store.BackendKey, c content) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.blobs[key]; ok {
		return &fs.PathError{Op: "commit", Path: string(key), Err: fs.ErrExist}
	}
	b.blobs[key] = newBlob(c)
	return nil
}

// Keys returns the keys of all blobs, in order.
func (b *Backend) Keys() []store.BackendKey {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.blobs))
}
