package mem

import (
	"context"
	"fmt"
	"time"

	"github.com/blockframe/blockframe/store"
)

// Kind is what an operation does.
type Kind string

// The operations of a backend, and of its readers and writers.
const (
	Create Kind = "create"
	Write  Kind = "write"
	Commit Kind = "commit"
	Abort  Kind = "abort"
	Open   Kind = "open"
	Read   Kind = "read"
	List   Kind = "list"
	Remove Kind = "remove"
	Usage  Kind = "usage"
)

// Op is one operation.
type Op struct {
	Kind     Kind
	Key      store.BackendKey // the prefix, of List
	Off, Len int64            // of reads and writes, in bytes
}

// Arm says on which side of an operation a fault strikes.
type Arm int

const (
	Before Arm = iota + 1 // it did not happen, and an error is returned
	After                 // it did happen, and an error is returned all the same
)

// Fault is an error to be returned in place of an operation's own result.
type Fault struct {
	Arm Arm
	Err error
}

// SetFault makes the operations fail for which fault returns a Fault; nil ends
// it. It is called by whoever calls the backend, several at once.
func (b *Backend) SetFault(fault func(Op) *Fault) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fault = fault
}

// SetLatency makes each operation take as long as latency says before it
// happens, unless its context ends first; nil ends it.
func (b *Backend) SetLatency(latency func(Op) time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.latency = latency
}

// SetOffline makes every operation fail with store.ErrUnavailable, those of
// readers and writers that exist included.
func (b *Backend) SetOffline(offline bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.offline = offline
}

// SetCapacity changes the capacity, to less than what is there if so wished.
func (b *Backend) SetCapacity(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.capacity = n
}

// do carries out one operation by calling act. undo, if not nil, takes back
// what act acquired when a fault makes the caller believe that it failed.
func (b *Backend) do(ctx context.Context, op Op, act func() error, undo func()) error {
	b.mu.Lock()
	latency, fault := b.latency, b.fault
	b.mu.Unlock()
	if latency != nil {
		if err := wait(ctx, latency(op)); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if b.isOffline() {
		return fmt.Errorf("backend %v is offline: %w", b.id, store.ErrUnavailable)
	}
	var f *Fault
	if fault != nil {
		f = fault(op)
	}
	if f == nil {
		return act()
	}
	if f.Arm == After && act() == nil && undo != nil {
		undo()
	}
	return fmt.Errorf("%s %s: %w", op.Kind, op.Key, f.Err)
}

func (b *Backend) isOffline() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.offline
}

// wait returns after d, or when ctx ends with its error.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
