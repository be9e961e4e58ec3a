package catalog_test

import (
	"io/fs"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/catalog"
	"github.com/blockframe/blockframe/store"
)

func (m *model) adoptExtent(x store.Extent) error {
	old := m.extents[x.ID]
	if old == nil {
		if u := m.uploads[x.Upload]; u == nil && x.Ordinal == 0 && x.Epoch < m.epoch && !m.isGone(x) {
			now := m.epoch
			m.epoch = x.Epoch // as if its epoch still were
			defer func() { m.epoch = now }()
		}
		err := m.addExtent(x)
		if err == nil {
			m.state[store.AdoptingKey(x.Upload)] = "\x01"
		}
		return err
	}
	a, b := *old, x
	a.Shards, b.Shards = nil, nil
	if !reflect.DeepEqual(a, b) {
		return catalog.ErrConflict
	}
	if m.uploads[x.Upload].State == store.UploadDead {
		return catalog.ErrExpired
	}
	for i, s := range x.Shards { // those that change
		if old.Shards[i].Missing && (!s.Missing || !s.Backend.IsZero() && s.Backend != old.Shards[i].Backend) && m.isLost(s.Backend) {
			return catalog.ErrConflict
		}
	}
	old.Shards = slices.Clone(old.Shards)
	for i := range old.Shards {
		if old.Shards[i].Missing && x.Shards[i].Missing && !x.Shards[i].Backend.IsZero() {
			old.Shards[i].Backend = x.Shards[i].Backend
		}
		if old.Shards[i].Missing && !x.Shards[i].Missing {
			old.Shards[i] = x.Shards[i]
			delete(m.queue, queueKey(store.Repair{Extent: x.ID, Shard: i}))
		}
	}
	return nil
}

func (m *model) adopt(c store.Adopt) error {
	u := m.uploads[c.Upload]
	if u == nil || u.State == store.UploadDead {
		return catalog.ErrExpired
	}
	first := m.extents[u.list[0]]
	p := store.Put{Name: c.Name, Attr: c.Attr, Policy: c.Policy, ID: c.ID, Size: c.Size, Upload: c.Upload, Offset: c.Offset, Code: first.Code, Expect: store.AnyVersion}
	if c.Offset+c.Size > u.Length || first.Whole && first.Kind == store.KindObject && store.ID(first.Hash) != c.ID ||
		u.kind == store.KindObject && (c.Offset != 0 || c.Size != u.Length) {
		return fs.ErrInvalid
	}
	if k := m.contents[c.ID]; k != nil && k.Size != c.Size {
		return fs.ErrInvalid
	}
	n := m.find(c.Name)
	own := store.Content{ID: c.ID, Size: c.Size, Upload: c.Upload, Offset: c.Offset, Code: first.Code}
	if cur := n.live(); n != nil {
		if cur == nil || cur.ID != c.ID || cur.Policy != c.Policy || !sameAttr(cur.Attr, c.Attr) {
			return fs.ErrExist
		}
	}
	if !m.relies(p, own) {
		m.place(own)
	}
	if n != nil {
		return nil
	}
	n, err := m.slot(c.Name, n, c.Attr)
	if err != nil {
		return err
	}
	m.add(n, store.Object{ID: c.ID, Size: c.Size, Attr: c.Attr, Policy: c.Policy, Upload: c.Upload})
	return nil
}

func (m *model) adopted(id store.UploadID) {
	k := store.AdoptingKey(id)
	if m.state[k] == "" {
		return
	}
	delete(m.state, k)
	if u := m.uploads[id]; u != nil && u.State == store.UploadOpen {
		u.State, u.Until = store.UploadCondemned, m.now.Add(m.grace)
	}
}

// adoption adopts, or does something with what was adopted.
func (g *gen) adoption() store.Command {
	name := g.found()
	n := g.upload()
	switch g.IntN(12) {
	case 0:
		return store.RaiseEpoch{Epoch: uint64(g.IntN(30))}
	case 1:
		return catalog.Delete{Name: name}
	case 2:
		return catalog.Purge{Name: name, All: true}
	case 3:
		return catalog.Rename{From: g.oneOf(name, "lost+found"), To: g.name()}
	case 4:
		return catalog.Rmdir{Name: g.oneOf("lost+found", name)}
	case 5:
		return store.Adopted{Upload: uid(1 + g.IntN(g.uploads+1))}
	case 6, 7, 8: // what is there, or begins
		x := located(name, "F"+g.oneOf("A", "B"), 300, n, uint64(g.IntN(int(g.m.epoch)+1))).Extents[0]
		for i := range x.Shards {
			x.Shards[i].Missing = i < 1 && g.IntN(2) == 0
		}
		if old := g.m.extents[eid(n)]; old != nil {
			x = *old
			x.Shards = slices.Clone(x.Shards)
			for i := range x.Shards {
				if x.Shards[i].Missing && g.IntN(2) == 0 {
					x.Shards[i].Backend = bid(g.IntN(3))
				} else if x.Shards[i].Missing {
					x.Shards[i] = store.Shard{Backend: bid(6), Generation: 3}
				}
			}
		}
		return store.AdoptExtent{Extent: x}
	}
	c := store.Adopt{Name: name, Attr: g.attr(), ID: idOf("F" + g.oneOf("A", "B")), Size: 300, Upload: uid(n)}
	if x := g.m.extents[eid(n)]; x != nil && x.Whole {
		c.ID = store.ID(x.Hash)
	}
	return c
}

func (g *gen) found() string { return "lost+found/" + g.oneOf("a", "b", "a/b") }

// What was found in an earlier epoch is adopted under a name that nothing else may have;
// an adoption that has not ended is not killed; collection of what nothing refers to
// waits for the grace.
func TestAdopt(t *testing.T) {
	r := memRig(t)
	for range 3 {
		r.epoch()
	}
	old := located("lost+found/a/f", "found", 500, 1, 1)
	r.refused(catalog.ErrExpired, store.AddExtent{Extent: old.Extents[0]})
	x := old.Extents[0]
	x.Shards[0] = store.Shard{Missing: true} // just K are left
	_, err := r.cat.Commit(ctx, store.Record{Commands: []store.Command{store.AddExtent{Extent: x}}})
	require.ErrorIs(t, err, fs.ErrInvalid)
	r.ok(store.AdoptExtent{Extent: x})
	r.refused(fs.ErrInvalid, store.AdoptExtent{Extent: extent(9, 9, 0, 0, 100, 7)})
	r.ok(store.RaiseEpoch{Epoch: 7})
	require.EqualValues(t, 7, r.cat.Epoch())
	require.False(t, r.ok(store.Kill{Upload: uid(1)}).Changed, "its adoption has not ended")

	adopt := store.Adopt{Name: "lost+found/a/f", Attr: old.Attr, ID: old.ID, Size: 500, Upload: uid(1)}
	bad := adopt
	bad.Name = "a/f"
	r.refused(fs.ErrInvalid, bad)
	require.True(t, r.ok(adopt).Changed)
	require.False(t, r.ok(adopt).Changed)
	bad = adopt
	bad.Attr.UID = 9
	r.refused(fs.ErrExist, bad)
	r.refused(fs.ErrInvalid, inline("lost+found/a/g", "g", 5))
	require.Equal(t, uid(1), r.object("lost+found/a/f", 0).Upload)

	// A disk is back. Each knows what lies on it, and what is to.
	r.ok(catalog.SetBackends{Backends: []catalog.Backend{{ID: bid(1)}, {ID: bid(5)}, {ID: bid(6)}}})
	r.ok(catalog.DropBackend{ID: bid(6)})
	x.Shards[0] = store.Shard{Backend: bid(6), Missing: true}
	r.refused(catalog.ErrConflict, store.AdoptExtent{Extent: x})
	x.Shards[0].Backend = bid(5)
	require.True(t, r.ok(store.AdoptExtent{Extent: x}).Changed)
	require.Equal(t, catalog.Held{Shards: 1, Missing: 1, Bytes: 500}, must(r.cat.Held(ctx, bid(5))))
	x.Shards[0] = store.Shard{Backend: bid(1), Generation: 2}
	require.True(t, r.ok(store.AdoptExtent{Extent: x}).Changed)
	require.Zero(t, must(r.cat.Held(ctx, bid(5))))
	r.sound("rejoin")
	require.Zero(t, r.cat.Counts().Repairs)
	r.ok(store.Adopted{Upload: uid(1)})
	require.Equal(t, store.UploadLive, r.upload(1).State)

	// The same content once more: nothing refers to it.
	twin := located("", "found", 500, 2, 1)
	r.ok(store.AdoptExtent{Extent: twin.Extents[0]})
	adopt.Upload = uid(2)
	require.False(t, r.ok(adopt).Changed)
	r.ok(store.Adopted{Upload: uid(2)})
	require.Equal(t, store.UploadCondemned, r.upload(2).State)
	require.True(t, r.upload(2).Until.After(r.cat.LogTime().Add(6*24*time.Hour)))

	r.ok(catalog.Rename{From: "lost+found/a/f", To: "a/f"})
	r.ok(catalog.Rmdir{Name: "lost+found/a"})
	r.ok(catalog.Rmdir{Name: "lost+found"})
	require.Equal(t, old.ID, r.object("a/f", 0).ID)
}
