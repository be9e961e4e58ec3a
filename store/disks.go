package store

import (
	"context"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"slices"
)

// diskSet is which backends the store has. It is not changed but replaced, so that who
// looks at it twice sees one state.
type diskSet struct {
	here     map[BackendID]*disk
	absent   []BackendID
	draining map[BackendID]bool
	paths    map[BackendID]string
}

// newDisks returns the set that the store is opened with.
func newDisks(o *Options) (*diskSet, error) {
	n := &diskSet{here: map[BackendID]*disk{}, absent: slices.Clone(o.Absent), draining: map[BackendID]bool{}, paths: maps.Clone(o.Paths)}
	for _, b := range o.Backends {
		if _, twice := n.here[b.ID()]; twice {
			return nil, fmt.Errorf("%w: backend %v was given twice", fs.ErrInvalid, b.ID())
		}
		n.here[b.ID()] = &disk{Backend: b, id: b.ID()}
	}
	for _, id := range o.Draining {
		n.draining[id] = true
	}
	return n, nil
}

// change replaces the set by what f makes of a copy.
func (s *Store) changeDisks(f func(n *diskSet)) {
	s.setMu.Lock()
	defer s.setMu.Unlock()
	old := s.set.Load()
	n := &diskSet{here: maps.Clone(old.here), absent: slices.Clone(old.absent), draining: maps.Clone(old.draining), paths: maps.Clone(old.paths)}
	if n.paths == nil {
		n.paths = map[BackendID]string{}
	}
	f(n)
	s.set.Store(n)
}

// here returns the backends that are there. The map is not changed.
func (s *Store) here() map[BackendID]*disk { return s.set.Load().here }

// path returns what people call a backend, "" if nothing.
func (s *Store) path(id BackendID) string { return s.set.Load().paths[id] }

// disk returns the backend with this id. One that is absent fails every call; one that
// is none of the store's any more holds nothing.
func (s *Store) disk(id BackendID) *disk {
	set := s.set.Load()
	switch d := set.here[id]; {
	case d != nil:
		return d
	case slices.Contains(set.absent, id):
		return &disk{Backend: absent(id), id: id}
	}
	return &disk{Backend: gone{absent(id)}, id: id}
}

// leaves reports whether no shard is to be written to a backend: it is draining, or is
// none of the store's any more.
func (s *Store) leaves(id BackendID) bool {
	return s.set.Load().draining[id] || !s.registeredNow(id)
}

// registeredNow reports whether a backend is one of the store's.
func (s *Store) registeredNow(id BackendID) bool {
	set := s.set.Load()
	return set.here[id] != nil || slices.Contains(set.absent, id)
}

// registered returns the number of backends that shards may be placed on, absent ones
// included.
func (s *Store) registered() (n int) {
	set := s.set.Load()
	for id := range set.here {
		if !set.draining[id] {
			n++
		}
	}
	for _, id := range set.absent {
		if !set.draining[id] {
			n++
		}
	}
	return n
}

// receivers is what [Receivers] says of the backends that there are.
func (s *Store) receivers() int { return Receivers(s.registered(), len(s.set.Load().draining)) }

// Attach gives the store one backend more, which is in the records, or back one that was
// absent. What waits for it on the repair queue is tried soon. Path is what people call
// it, or "".
func (s *Store) Attach(b Backend, path string) {
	s.changeDisks(func(n *diskSet) {
		if n.here[b.ID()] == nil {
			n.here[b.ID()] = &disk{Backend: b, id: b.ID()}
		}
		n.absent = slices.DeleteFunc(n.absent, func(id BackendID) bool { return id == b.ID() })
		if path != "" {
			n.paths[b.ID()] = path
		}
	})
	s.damage.forgetBackend(b.ID())
	s.open.close() // what is open remembers that it was absent
	s.wakeRepairer()
}

// Detach takes a backend off the store, of which the records say that it is gone. Whoever
// has something of it open goes on until it is closed; then other shards are read.
func (s *Store) Detach(id BackendID) {
	s.changeDisks(func(n *diskSet) {
		delete(n.here, id)
		delete(n.draining, id)
		n.absent = slices.DeleteFunc(n.absent, func(a BackendID) bool { return a == id })
	})
	s.damage.forgetBackend(id)
	s.open.close()
	s.wakeRepairer()
}

// SetDraining says whether shards may be placed on a backend.
func (s *Store) SetDraining(id BackendID, on bool) {
	s.changeDisks(func(n *diskSet) {
		delete(n.draining, id)
		if on {
			n.draining[id] = true
		}
	})
}

// gone is a backend that is none of the store's any more: what lay on it is not there.
type gone struct{ absent }

func (g gone) Open(context.Context, BackendKey, OpenOptions) (BackendReader, error) {
	return nil, fmt.Errorf("backend %v is none of the store's: %w", g.ID(), fs.ErrNotExist)
}

func (g gone) List(context.Context, BackendKey, BackendKey) iter.Seq2[BackendKey, error] {
	return func(func(BackendKey, error) bool) {}
}

func (g gone) Remove(context.Context, BackendKey) error { return nil }
