package blockframe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/blockframe/blockframe/internal/catalog"
)

// DiskState says in one word how a disk is.
type DiskState string

// The states of a disk. Of several that are true the first of this list is told.
const (
	DiskRemoved  DiskState = "removed"  // it was taken off the store, and held nothing
	DiskLost     DiskState = "lost"     // it was taken off the store with what it held
	DiskAbsent   DiskState = "absent"   // it is not there; what it holds is computed meanwhile
	DiskDraining DiskState = "draining" // what it holds moves to others, and it takes nothing new
	DiskFailing  DiskState = "failing"  // it takes no changes, or does not answer
	DiskSuspect  DiskState = "suspect"  // it gave errors, wrong bytes or late answers
	DiskFull     DiskState = "full"     // there is no room for more
	DiskActive   DiskState = "active"   // all is well
)

// Disk is a backend that is registered, or was.
type Disk struct {
	ID    BackendID
	Path  string // the directory; "" for one of Options.Backends
	Log   bool   // a copy of the commit log is on it
	Err   error  // why it is absent, takes no changes or is not used; nil if all is well
	State DiskState
	Usage

	// By the records: what is to lie on it, also while it is absent.
	Shards  uint64
	Missing uint64 // of these, not written yet: they are on the repair queue
	Bytes   int64  // of the blocks of all of them

	Trouble DiskTrouble // what it gave readers besides good blocks
}

// disk is one backend of the store.
type disk struct {
	id      BackendID
	path    string
	backend Backend // nil: absent, or gone
	err     error   // why
	state   catalog.BackendState
}

// disks are the backends of the store. The list is replaced, not changed.
type disks struct {
	adding sync.Mutex // one adds or removes at a time
	mu     sync.Mutex // of list
	list   []disk
}

func (d *disks) all() []disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.list
}

// registered returns those that are not gone.
func (d *disks) registered() []disk {
	return slices.DeleteFunc(slices.Clone(d.all()), func(d disk) bool { return d.state.Gone() })
}

// placeable returns how many there are that take shards, absent ones included.
func (d *disks) placeable() (n int) {
	for _, d := range d.all() {
		if d.state == catalog.BackendActive {
			n++
		}
	}
	return n
}

// find returns the disk with an id.
func (d *disks) find(id BackendID) (disk, bool) {
	for _, d := range d.all() {
		if d.id == id {
			return d, true
		}
	}
	return disk{}, false
}

// set puts a disk into the list, in the place of what was known of it.
func (d *disks) set(n disk) {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := slices.Clone(d.list)
	if i := slices.IndexFunc(list, func(o disk) bool { return o.id == n.id }); i >= 0 {
		list[i] = n
	} else {
		list = append(list, n)
	}
	d.list = list
}

// turn changes the state of a disk.
func (d *disks) turn(id BackendID, state catalog.BackendState) {
	if n, ok := d.find(id); ok {
		n.state = state
		d.set(n)
	}
}

// recognised is the error of a disk that is gone, and there.
func recognised(state catalog.BackendState) error {
	return fmt.Errorf("%w: it was %s the store; it is not used, and left as it is", ErrFormerDisk, map[catalog.BackendState]string{
		catalog.BackendRemoved: "removed from", catalog.BackendLost: "given up as lost by"}[state])
}

// Disks returns the state of all registered backends, absent ones included. Each that is
// there is asked for its space; nothing is read of what it holds.
func (s *Store) Disks(ctx context.Context) []Disk {
	var list []Disk
	for _, d := range s.disks.registered() {
		list = append(list, s.describe(ctx, d))
	}
	return list
}

// FormerDisks returns the disks that were taken off the store: those that were lost with
// shards which are not made anew yet, for want of disks to take them, and those that are
// among the directories that the store was opened with.
func (s *Store) FormerDisks(ctx context.Context) (list []Disk) {
	for _, d := range s.disks.all() {
		if !d.state.Gone() {
			continue
		}
		if f := s.describe(ctx, d); f.Err != nil || f.Shards > 0 {
			list = append(list, f)
		}
	}
	return list
}

// describe asks a disk, and the records, how it is.
func (s *Store) describe(ctx context.Context, d disk) Disk {
	out := Disk{ID: d.id, Path: d.path, Log: s.logOn(d.id), Err: d.err}
	held, err := s.cat.Held(ctx, d.id)
	out.Shards, out.Missing, out.Bytes = held.Shards, held.Missing, held.Bytes
	out.Err = errors.Join(out.Err, err)
	if d.state.Gone() {
		out.Missing = out.Shards // whatever is there of them is not read
	}
	if d.backend != nil {
		if out.Usage, err = d.backend.Usage(ctx); err != nil {
			out.Err = errors.Join(out.Err, err)
		} else if b, ok := d.backend.(interface{ Err() error }); ok && out.Err == nil {
			out.Err = b.Err()
		}
	}
	out.Trouble = s.eng.Trouble(d.id)
	out.State = stateOf(d, &out)
	return out
}

// fullBelow is how much room a disk must have not to be called full: that of a shard.
const fullBelow = 16 << 20

func stateOf(d disk, out *Disk) DiskState {
	switch {
	case d.state == catalog.BackendRemoved:
		return DiskRemoved
	case d.state == catalog.BackendLost:
		return DiskLost
	case d.backend == nil || errors.Is(out.Err, ErrUnavailable) && out.Total == 0:
		return DiskAbsent
	case d.state == catalog.BackendDraining:
		return DiskDraining
	case out.Err != nil:
		return DiskFailing
	case out.Trouble.Suspect() != "":
		return DiskSuspect
	case out.Free < fullBelow && out.Total > 0:
		return DiskFull
	}
	return DiskActive
}
