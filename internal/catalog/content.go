package catalog

import (
	"bytes"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/store"
)

// spot is where a put says that its content is.
type spot struct {
	code   erasure.Code
	upload store.UploadID // zero: inline or empty
	offset int64
	bytes  []byte // when inline
	whole  bool   // no shard of the upload is missing
}

// own returns the spot that a put brought along.
func (t *tx) own(p *store.Put, u *upload) (spot, error) {
	if p.Size == 0 {
		return spot{whole: true}, nil
	}
	if len(p.Inline) > 0 { // the code says how many copies its pack is to have
		return spot{code: p.Code, bytes: p.Inline, whole: true}, nil
	}
	if u == nil {
		return spot{}, refuse(ErrExpired, "put %q: nothing is recorded of upload %v", p.Name, p.Upload)
	}
	if p.Offset > u.length || p.Size > u.length-p.Offset {
		return spot{}, invalid("put %q: bytes [%d, %d) of an upload of %d", p.Name, p.Offset, p.Offset+p.Size, u.length)
	}
	first := t.extentAt(u.id, 0)
	if first == nil {
		return spot{}, nil // t.err says why
	}
	if first.Whole && first.Kind == store.KindObject && store.ID(first.Hash) != p.ID {
		return spot{}, invalid("put %q: extent %v holds another content than %v", p.Name, first.ID, p.ID)
	}
	return spot{code: first.Code, upload: u.id, offset: p.Offset, whole: u.missing == 0}, nil
}

// relies reports whether the put can refer to the content as it is kept already:
// it is not distrusted, not in a weaker code, and not short of shards that the
// put brings along.
func (t *tx) relies(c *content, p *store.Put, own spot) bool {
	if c == nil {
		return false
	}
	if c.size == 0 {
		return true
	}
	if c.code.M < p.Code.M {
		return false
	}
	if c.inline() { // bytes that are other ones than who proposed them checked are not relied on
		return len(p.Inline) == 0 || bytes.Equal(t.inlineBytes(c.id), p.Inline)
	}
	if c.upload == p.Distrust {
		return false
	}
	if c.upload == own.upload || !own.whole {
		return true
	}
	u := t.upload(c.upload)
	return u != nil && u.missing == 0
}

// place makes the content row point to a spot, and returns it: a new one without
// references, or the old one with those it had.
func (t *tx) place(c *content, id store.ID, size int64, s spot) *content {
	if c == nil {
		c = &content{id: id, size: size}
		t.meta.counts.Contents++
		t.meta.counts.Stored += size
	} else {
		t.unplace(c)
	}
	c.code, c.upload, c.offset = s.code, s.upload, s.offset
	switch {
	case !s.upload.IsZero():
		t.setFlag(placeKey(s.upload, s.offset, id))
		if c.refs > 0 {
			t.gain(s.upload)
		}
		if u := t.upload(s.upload); u != nil && u.largest < size {
			u.largest = size
			t.saveUpload(u)
		}
	case size > 0:
		c.record, c.number = t.index, t.seq
		t.save(idKey(tInline, id), inlineRow(c.record, c.number, s.bytes))
		t.meta.counts.Inline++
	}
	t.saveContent(c)
	return c
}

// unplace takes a content from where it is, without writing its row.
func (t *tx) unplace(c *content) {
	switch {
	case c.inline():
		t.del(idKey(tInline, c.id))
		t.del(key(tInlineAge, c.record, c.number, c.id))
		t.meta.counts.Inline--
	case !c.upload.IsZero():
		t.del(key(tPlace, c.upload, uint64(c.offset), c.id))
		if c.refs > 0 {
			t.lose(c.upload)
		}
	}
	c.record, c.number = 0, 0
}

func (t *tx) saveContent(c *content) { t.save(idKey(tContent, c.id), c.encode()) }

// refer adds a reference from a version. The first one revives the upload.
func (t *tx) refer(c *content, v *version) {
	c.refs++
	if c.refs == 1 && !c.upload.IsZero() {
		t.gain(c.upload)
	}
	if c.inode == 0 {
		c.inode, c.version = v.inode, v.number
	} else {
		t.setFlag(key(tReferrer, c.id, v.inode, v.number))
	}
	t.saveContent(c)
}

// unrefer takes the reference of a version away. With the last one, content that
// is in an upload stays revivable as long as the upload; inline content goes.
func (t *tx) unrefer(v *version) {
	c := t.content(v.id)
	if c == nil {
		return
	}
	if c.inode == v.inode && c.version == v.number {
		c.inode, c.version = 0, 0
	} else {
		t.del(key(tReferrer, v.id, v.inode, v.number))
	}
	c.refs--
	if c.refs > 0 {
		t.saveContent(c)
		return
	}
	if c.upload.IsZero() {
		t.unplace(c)
		t.dropContent(c.id)
		return
	}
	t.saveContent(c)
	t.lose(c.upload)
}

// dropContent removes the row of a content that nothing refers to.
func (t *tx) dropContent(id store.ID) {
	c := t.content(id)
	if c == nil {
		return
	}
	t.del(key(tContent, id))
	t.meta.counts.Contents--
	t.meta.counts.Stored -= c.size
}

// pack moves inline contents into an extent, those that are still inline.
func (t *tx) pack(p *store.Pack) store.Result {
	return t.moveInto(&p.Extent, len(p.Members), func(i int) (store.Member, func(c *content) bool) {
		return p.Members[i], (*content).inline
	})
}

// repack moves contents from packs into another, those that are where they were and are
// referred to. What is not, and may yet be revived, stays.
func (t *tx) repack(p *store.Repack) store.Result {
	res := t.moveInto(&p.Extent, len(p.Members), func(i int) (store.Member, func(c *content) bool) {
		m := &p.Members[i]
		return m.Member, func(c *content) bool {
			return !c.upload.IsZero() && c.upload == m.From && c.upload != p.Extent.Upload && c.refs > 0 && c.code.M <= p.Extent.Code.M
		}
	})
	if res.Changed {
		for i := range p.Members {
			if from := p.Members[i].From; i == 0 || from != p.Members[i-1].From {
				t.empty(from)
			}
		}
	}
	return res
}

// moveInto moves contents into a pack: n members, each if it is as member says.
func (t *tx) moveInto(x *store.Extent, n int, member func(i int) (m store.Member, moves func(c *content) bool)) (res store.Result) {
	u, _, err := t.addExtent(x)
	if err != nil {
		return store.Result{Err: err}
	}
	for i := range n {
		m, moves := member(i)
		if m.Offset < 0 || m.Size < 1 || m.Offset > u.length || m.Size > u.length-m.Offset {
			return store.Result{Err: invalid("member %v: bytes [%d, %d) of a pack of %d", m.ID, m.Offset, m.Offset+m.Size, u.length)}
		}
		c := t.content(m.ID)
		if c == nil || c.size != m.Size || !moves(c) {
			continue
		}
		t.place(c, c.id, c.size, spot{code: x.Code, upload: u.id, offset: m.Offset})
		res.Changed = true
		res.Number++
	}
	t.settle(u.id)
	return res
}
