package catalog_test

import (
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/blockframe/blockframe/internal/catalog"
	"github.com/blockframe/blockframe/store"
)

func queueKey(r store.Repair) string { return fmt.Sprintf("%v %d %v", r.Extent, r.Shard, r.Backend) }

func (m *model) enqueue(r store.Repair) {
	r.Since = m.now
	if old := m.queue[queueKey(r)]; old != nil {
		r.Since = old.Since
		if len(r.Stripes) > 0 && len(old.Stripes) > 0 {
			all := make([]byte, max(len(r.Stripes), len(old.Stripes)))
			for i := range all {
				if i < len(r.Stripes) {
					all[i] |= r.Stripes[i]
				}
				if i < len(old.Stripes) {
					all[i] |= old.Stripes[i]
				}
			}
			r.Stripes = all
		} else {
			r.Stripes = nil
		}
	}
	m.queue[queueKey(r)] = &r
}

func (m *model) report(c store.Report) error {
	for _, d := range c.Damage {
		if !d.Backend.IsZero() {
			if b := m.backend(d.Backend); !m.isLost(d.Backend) || b.State == catalog.BackendLost && m.held(d.Backend).Shards > 0 {
				m.enqueue(d)
			}
			continue
		}
		x := m.healable(d.Extent)
		if x == nil {
			continue
		}
		if d.Shard >= len(x.Shards) {
			return fs.ErrInvalid
		}
		m.enqueue(d)
	}
	return nil
}

func (m *model) healable(id store.ExtentID) *store.Extent {
	x := m.extents[id]
	if x == nil || m.uploads[x.Upload].State == store.UploadDead {
		return nil
	}
	return x
}

func (m *model) replace(c store.Replace) error {
	x := m.healable(c.Extent)
	if x == nil {
		return fs.ErrNotExist
	}
	if c.Shard >= len(x.Shards) || c.To.Generation <= c.From {
		return fs.ErrInvalid
	}
	if x.Shards[c.Shard] == c.To {
		return nil
	}
	if x.Shards[c.Shard].Generation != c.From {
		return catalog.ErrConflict
	}
	if x.Shards[c.Shard].Backend != c.To.Backend {
		if err := m.mayMove(x, c.Shard, c.To.Backend); err != nil {
			return err
		}
	}
	x.Shards[c.Shard] = c.To
	delete(m.queue, queueKey(store.Repair{Extent: x.ID, Shard: c.Shard}))
	return nil
}

func (m *model) intact(c store.Intact) error {
	if !c.Backend.IsZero() {
		if b := m.backend(c.Backend); b != nil && b.State == catalog.BackendLost && m.held(c.Backend).Shards > 0 {
			return catalog.ErrConflict
		}
		delete(m.queue, queueKey(store.Repair{Backend: c.Backend}))
		return nil
	}
	x := m.healable(c.Extent)
	if x == nil || c.Shard >= len(x.Shards) {
		return fs.ErrNotExist
	}
	if x.Shards[c.Shard].Generation != c.Generation {
		return catalog.ErrConflict
	}
	x.Shards[c.Shard].Missing = false
	delete(m.queue, queueKey(store.Repair{Extent: x.ID, Shard: c.Shard}))
	return nil
}

func (m *model) pack(c store.Pack) error {
	return m.moveInto(c.Extent, c.Members, func(i int, old *store.Content) bool { return len(old.Inline) == int(c.Members[i].Size) })
}

func (m *model) repack(c store.Repack) error {
	var members []store.Member
	for _, moved := range c.Members {
		members = append(members, moved.Member)
	}
	var from []store.UploadID
	err := m.moveInto(c.Extent, members, func(i int, old *store.Content) bool {
		moves := len(old.Inline) == 0 && !old.Upload.IsZero() && old.Upload == c.Members[i].From && old.Upload != c.Extent.Upload && old.Refs > 0 &&
			old.Size == members[i].Size && old.Code.M <= c.Extent.Code.M
		if moves {
			from = append(from, c.Members[i].From)
		}
		return moves
	})
	for _, id := range from {
		m.empty(id)
	}
	return err
}

func (m *model) moveInto(x store.Extent, members []store.Member, moves func(i int, old *store.Content) bool) error {
	if err := m.addExtent(x); err != nil {
		return err
	}
	u := m.uploads[x.Upload]
	for i, member := range members {
		if member.Offset+member.Size > u.Length {
			return fs.ErrInvalid
		}
		if old := m.contents[member.ID]; old != nil && moves(i, old) {
			m.place(store.Content{ID: member.ID, Size: member.Size, Upload: u.ID, Offset: member.Offset, Code: x.Code})
		}
	}
	m.abandon(u.ID)
	return nil
}

func (m *model) kill(id store.UploadID) error {
	u := m.uploads[id]
	if u == nil {
		return fs.ErrNotExist
	}
	ripe := u.State == store.UploadCondemned && !m.now.Before(u.Until) || u.State == store.UploadOpen && u.Epoch < m.epoch
	if !ripe || m.state[store.AdoptingKey(id)] != "" {
		return nil
	}
	u.State, u.Until = store.UploadDead, time.Time{}
	delete(m.narrow, id)
	for id, c := range m.contents {
		if c.Upload == u.ID {
			delete(m.contents, id)
		}
	}
	for k, r := range m.queue {
		if slices.Contains(u.list, r.Extent) {
			delete(m.queue, k)
		}
	}
	return nil
}

func (m *model) forget(id store.UploadID) error {
	u := m.uploads[id]
	if u == nil {
		return nil
	}
	if u.State != store.UploadDead {
		return catalog.ErrConflict
	}
	for _, x := range u.list {
		delete(m.extents, x)
	}
	delete(m.uploads, id)
	m.gone[id] = u.Epoch
	return nil
}

func (m *model) isGone(x store.Extent) bool {
	epoch, ok := m.gone[x.Upload]
	return ok && epoch == x.Epoch
}

func (m *model) keep(c store.Keep) error {
	if old, ok := m.kept[c.Upload]; ok {
		if old != c.Kept {
			return catalog.ErrConflict
		}
		return nil
	}
	for _, x := range c.Extents {
		if err := m.addExtent(x); err != nil {
			return err
		}
	}
	u := m.uploads[c.Upload]
	if u == nil || u.State == store.UploadDead {
		return catalog.ErrExpired
	}
	x := m.extents[u.list[0]]
	if u.kind != c.Kind || u.Length != c.Size || x.Whole && store.ID(x.Hash) != c.ID {
		return fs.ErrInvalid
	}
	m.kept[c.Upload] = c.Kept
	return nil
}

// release lets an upload go that nothing else refers to, without a grace.
func (m *model) release(id store.UploadID) {
	if _, ok := m.kept[id]; !ok {
		return
	}
	delete(m.kept, id)
	if m.settle(); m.uploads[id].State == store.UploadCondemned {
		m.uploads[id].Until = m.now
	}
}
