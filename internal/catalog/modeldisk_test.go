package catalog_test

import (
	"fmt"
	"io/fs"
	"slices"

	"github.com/blockframe/blockframe/internal/catalog"
	"github.com/blockframe/blockframe/store"
)

// backend returns a backend that was ever registered, or nil.
func (m *model) backend(id store.BackendID) *catalog.Backend {
	for i := range m.backends {
		if m.backends[i].ID == id {
			return &m.backends[i]
		}
	}
	return nil
}

func (m *model) isLost(id store.BackendID) bool {
	b := m.backend(id)
	return b != nil && b.State.Gone()
}

// held adds up what lies on a backend: no count of the catalog is looked at.
func (m *model) held(id store.BackendID) (h catalog.Held) {
	if b := m.backend(id); b != nil {
		h.State = b.State
	}
	for _, x := range m.extents {
		if m.uploads[x.Upload].State == store.UploadDead {
			continue
		}
		for i, s := range x.Shards {
			if s.Backend == id {
				h.Shards++
				h.Bytes += x.Geometry().ColumnLen(i)
				if s.Missing {
					h.Missing++
				}
			}
		}
	}
	return h
}

func (m *model) disk(c store.Command) error {
	switch c := c.(type) {
	case catalog.SetBackends:
		var list []catalog.Backend
		for _, b := range c.Backends {
			if old := m.backend(b.ID); old != nil {
				b.State = old.State
			}
			list = append(list, b)
		}
		for _, b := range m.backends {
			if b.State.Gone() && !slices.ContainsFunc(list, func(l catalog.Backend) bool { return l.ID == b.ID }) {
				list = append(list, b)
			}
		}
		m.backends = list
	case catalog.AddBackend:
		b := m.backend(c.Backend.ID)
		switch {
		case b != nil && b.State.Gone():
			return catalog.ErrConflict
		case b != nil:
			b.Path = c.Backend.Path
		default:
			m.backends = append(m.backends, c.Backend)
		}
	case catalog.DrainBackend:
		b := m.backend(c.ID)
		if b == nil || b.State.Gone() {
			return fs.ErrNotExist
		}
		if c.On && m.lastActive(b) {
			return store.ErrTooFew
		}
		b.State = catalog.BackendActive
		if c.On {
			b.State = catalog.BackendDraining
		}
	case catalog.DropBackend:
		return m.dropBackend(c)
	default:
		panic(fmt.Sprintf("%T", c))
	}
	return nil
}

func (m *model) dropBackend(c catalog.DropBackend) error {
	b, active := m.backend(c.ID), 0
	for _, o := range m.backends {
		if !o.State.Gone() {
			active++
		}
	}
	switch n := m.held(c.ID).Shards; {
	case b == nil:
		return fs.ErrNotExist
	case b.State.Gone():
		return nil
	case active == 1:
		return fs.ErrInvalid
	case m.lastActive(b):
		return store.ErrTooFew
	case n > 0 && !c.Lost:
		return catalog.ErrConflict
	case c.Lost:
		b.State = catalog.BackendLost
		delete(m.queue, queueKey(store.Repair{Backend: c.ID}))
		if n > 0 {
			m.enqueue(store.Repair{Backend: c.ID})
		}
	default:
		b.State = catalog.BackendRemoved
		delete(m.queue, queueKey(store.Repair{Backend: c.ID}))
	}
	return nil
}

// lastActive reports whether shards can be placed on no other.
func (m *model) lastActive(b *catalog.Backend) bool {
	return b.State == catalog.BackendActive && !slices.ContainsFunc(m.backends, func(o catalog.Backend) bool {
		return o.ID != b.ID && o.State == catalog.BackendActive
	})
}

// mayMove tries every set of backends that could be lost.
func (m *model) mayMove(x *store.Extent, shard int, to store.BackendID) error {
	if m.isLost(to) {
		return catalog.ErrConflict
	}
	after := slices.Clone(x.Shards)
	after[shard].Backend = to
	together := 0
	for _, s := range after {
		if s.Backend == to {
			together++
		}
	}
	for _, p := range m.policies {
		if p.Code == x.Code && together <= p.PerBackend {
			return nil
		}
	}
	active, draining := 0, 0
	for _, b := range m.backends {
		switch b.State {
		case catalog.BackendActive:
			active++
		case catalog.BackendDraining:
			draining++
		}
	}
	if active == 1 && draining > 1 {
		active = 2 // the others could be kept
	}
	if x.Kind == store.KindPack && active > 0 && survives(after, x.Code.K) > 0 && (together-1)*active < len(after) {
		return nil
	}
	if active != 1 && together > 1 && survives(after, x.Code.K) < survives(x.Shards, x.Code.K) {
		return fs.ErrInvalid
	}
	return nil
}

// survives returns how many backends, whichever they are, can be lost and leave k shards.
func survives(shards []store.Shard, k int) int {
	least := len(shards)
	for lost := range 1 << len(shards) { // the backends of these shards
		gone := map[store.BackendID]bool{}
		for i, s := range shards {
			if lost>>i&1 == 1 {
				gone[s.Backend] = true
			}
		}
		left := 0
		for _, s := range shards {
			if !gone[s.Backend] {
				left++
			}
		}
		if left < k {
			least = min(least, len(gone)-1)
		}
	}
	return least
}

func (g *gen) disk() store.Command {
	id := bid(4 + g.IntN(3))
	switch g.IntN(8) {
	case 0:
		return catalog.SetBackends{Backends: []catalog.Backend{{ID: bid(1)}, {ID: bid(2), Path: "/2"}, {ID: id}}[:1+g.IntN(3)]}
	case 1, 2, 3:
		return catalog.AddBackend{Backend: catalog.Backend{ID: id, Path: g.oneOf("", "/x")}}
	case 4, 5:
		return catalog.DrainBackend{ID: id, On: g.IntN(2) == 0}
	}
	return catalog.DropBackend{ID: id, Lost: g.IntN(3) == 0}
}

// dumpDisks is what a catalog says of its backends.
func (r *rig) dumpDisks() (s string) {
	s = fmt.Sprintln(must(r.cat.Backends(ctx)))
	for n := range 7 {
		s += fmt.Sprintf("held %d %+v\n", n, must(r.cat.Held(ctx, bid(n))))
	}
	return s
}

func (m *model) dumpDisks() (s string) {
	s = fmt.Sprintln(m.backends)
	for n := range 7 {
		s += fmt.Sprintf("held %d %+v\n", n, m.held(bid(n)))
	}
	return s
}
