package catalog_test

import (
	"io/fs"
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/blockframe/blockframe/internal/catalog"
	"github.com/blockframe/blockframe/store"
)

func (m *model) addExtent(x store.Extent) error {
	x.Shards = slices.Clone(x.Shards)
	u := m.uploads[x.Upload]
	if old := m.extents[x.ID]; old != nil {
		a, b := *old, x
		a.Shards, b.Shards = nil, nil
		if !reflect.DeepEqual(a, b) {
			return catalog.ErrConflict
		}
		if u.State == store.UploadDead {
			return catalog.ErrExpired
		}
		return nil
	}
	for _, s := range x.Shards {
		if m.isLost(s.Backend) && !s.Missing {
			return catalog.ErrConflict
		}
	}
	switch {
	case x.Epoch > m.epoch:
		return fs.ErrInvalid
	case u == nil && (x.Epoch < m.epoch || x.Ordinal > 0 || m.isGone(x)):
		return catalog.ErrExpired
	case u == nil:
		u = &mUpload{Upload: store.Upload{ID: x.Upload, State: store.UploadOpen, Epoch: x.Epoch}, kind: x.Kind}
	case u.State == store.UploadDead:
		return catalog.ErrExpired
	case u.State == store.UploadLive:
		return catalog.ErrConflict
	}
	if x.Epoch != u.Epoch || x.Kind != u.kind || x.Ordinal != u.Extents || x.Offset != u.Length {
		return fs.ErrInvalid
	}
	if len(u.list) > 0 && m.extents[u.list[0]].Whole {
		return fs.ErrInvalid
	}
	u.Extents++
	u.Length += x.Length
	u.list = append(slices.Clone(u.list), x.ID)
	m.uploads[x.Upload], m.extents[x.ID] = u, &x
	missing := 0
	for _, s := range x.Shards {
		if s.Missing {
			missing++
		}
	}
	for i, s := range x.Shards {
		if s.Missing {
			m.enqueue(store.Repair{Extent: x.ID, Shard: i, Left: x.Code.M - missing})
		}
	}
	return nil
}

func (m *model) missing(u *mUpload) (n int) {
	for _, id := range u.list {
		for _, s := range m.extents[id].Shards {
			if s.Missing {
				n++
			}
		}
	}
	return n
}

func sameAttr(a, b store.Attr) bool {
	if len(a.Xattrs) == 0 {
		a.Xattrs = nil
	}
	if len(b.Xattrs) == 0 {
		b.Xattrs = nil
	}
	return reflect.DeepEqual(a, b)
}

func (m *model) put(p store.Put) error {
	n := m.find(p.Name)
	cur := n.live()
	same := cur != nil && cur.ID == p.ID && cur.Policy == p.Policy && sameAttr(cur.Attr, p.Attr)
	if same && cur.Upload == p.Upload {
		return nil
	}
	for _, x := range p.Extents {
		if err := m.addExtent(x); err != nil {
			return err
		}
	}
	u := m.uploads[p.Upload]
	here := p.Size == 0 || len(p.Inline) > 0 // the upload does not matter
	if u != nil && u.State == store.UploadDead && !here {
		return catalog.ErrExpired
	}
	own := store.Content{ID: p.ID, Size: p.Size, Inline: p.Inline}
	if p.Size > 0 {
		own.Code = p.Code
	}
	if !here {
		if u == nil {
			return catalog.ErrExpired
		}
		if p.Offset+p.Size > u.Length {
			return fs.ErrInvalid
		}
		if x := m.extents[u.list[0]]; x.Whole && x.Kind == store.KindObject && store.ID(x.Hash) != p.ID {
			return fs.ErrInvalid
		}
		own.Upload, own.Offset, own.Code = p.Upload, p.Offset, m.extents[u.list[0]].Code
	}
	var top uint64
	if n != nil && !n.dir {
		top = n.top().Version
	}
	if p.Expect != store.AnyVersion && uint64(p.Expect) != top && !(p.Expect == 0 && cur == nil) {
		return catalog.ErrConflict
	}
	if c := m.contents[p.ID]; c != nil && c.Size != p.Size {
		return fs.ErrInvalid
	}
	if same {
		if !m.relies(p, own) {
			m.place(own)
		}
		if !here {
			m.abandon(p.Upload)
		}
		return nil
	}
	n, err := m.slot(p.Name, n, p.Attr)
	if err != nil {
		return err
	}
	if !m.relies(p, own) {
		m.place(own)
	}
	m.add(n, store.Object{ID: p.ID, Size: p.Size, Attr: p.Attr, Policy: p.Policy, Upload: p.Upload})
	if !here {
		m.abandon(p.Upload)
	}
	return nil
}

// relies reports whether what is there is as good as what the put brings.
func (m *model) relies(p store.Put, own store.Content) bool {
	c := m.contents[p.ID]
	if c == nil {
		return false
	}
	if c.Size == 0 {
		return true
	}
	if c.Code.M < p.Code.M {
		return false
	}
	if c.Upload.IsZero() {
		return true
	}
	if c.Upload == p.Distrust {
		return false
	}
	lost := m.missing(m.uploads[c.Upload]) > 0
	better := own.Upload.IsZero() || m.missing(m.uploads[own.Upload]) == 0
	return c.Upload == own.Upload || !(lost && better)
}

func (m *model) place(own store.Content) {
	m.inline = slices.DeleteFunc(m.inline, func(i store.ID) bool { return i == own.ID })
	if own.Upload.IsZero() && own.Size > 0 {
		m.inline = append(m.inline, own.ID)
	}
	if own.Size == 0 {
		own.Inline = nil
	}
	m.contents[own.ID] = &own
}

// slot returns the node that takes another version of the name.
func (m *model) slot(name string, n *mNode, a store.Attr) (*mNode, error) {
	if n != nil && n.dir && !n.deleted {
		return nil, fs.ErrExist
	}
	dir, err := m.up(name, a)
	if err != nil {
		return nil, err
	}
	if n != nil && n.dir {
		n.parked, n = true, nil
	}
	if n == nil {
		n = m.mk(dir, path.Base(name), &mNode{})
	}
	return n, nil
}

func (m *model) add(n *mNode, o store.Object) {
	n.last++
	o.Inode, o.Version, o.Created = n.inode, n.last, m.now
	n.vers = append(n.vers, &mVer{Object: o})
	n.deleted = o.Deleted
}

func (m *model) retained(v *mVer) bool {
	return v.Hold || !v.ends.IsZero() && m.clock.Before(v.ends)
}

// keeps reports whether any version in a node, or below it, is retained.
func (m *model) keeps(n *mNode) bool {
	if slices.ContainsFunc(n.vers, m.retained) {
		return true
	}
	return slices.ContainsFunc(m.nodes, func(o *mNode) bool { return o.parent == n && o != n && m.keeps(o) })
}

func (m *model) delete(c catalog.Delete) error {
	n := m.find(c.Name)
	switch {
	case n == nil || n.deleted:
		return fs.ErrNotExist
	case n.dir:
		return fs.ErrInvalid
	case c.Expect > 0 && uint64(c.Expect) != n.top().Version:
		return catalog.ErrConflict
	case m.retained(n.top()):
		return catalog.ErrRetained
	}
	m.add(n, store.Object{Deleted: true})
	return nil
}

func (m *model) purge(c catalog.Purge) error {
	if !c.All {
		for _, n := range m.all(c.Name) {
			for _, v := range n.vers {
				if v.Version == c.Version {
					if m.retained(v) {
						return catalog.ErrRetained
					}
					m.drop(n, v)
					return nil
				}
			}
		}
		return fs.ErrNotExist
	}
	var nodes []*mNode
	for _, n := range m.all(c.Name) {
		if !n.dir {
			nodes = append(nodes, n)
		}
		for _, v := range n.vers {
			if m.retained(v) {
				return catalog.ErrRetained
			}
		}
	}
	if len(nodes) == 0 {
		return fs.ErrNotExist
	}
	for _, n := range nodes {
		for len(n.vers) > 0 {
			m.drop(n, n.vers[0])
		}
	}
	return nil
}

func (m *model) drop(n *mNode, v *mVer) {
	n.vers = slices.DeleteFunc(n.vers, func(w *mVer) bool { return w == v })
	if len(n.vers) > 0 {
		if !n.parked && !n.parent.deleted {
			n.deleted = n.top().Deleted
		}
		return
	}
	m.remove(n)
}

// remove drops a node, and removed directories above that it leaves empty.
func (m *model) remove(n *mNode) {
	m.nodes = slices.DeleteFunc(m.nodes, func(o *mNode) bool { return o == n })
	for _, o := range m.nodes {
		if o.parent == n.parent {
			return
		}
	}
	if n.parent.deleted {
		m.remove(n.parent)
	}
}

func (m *model) rename(c catalog.Rename) error {
	n := m.find(c.From)
	if n == nil || n.deleted {
		return fs.ErrNotExist
	}
	if c.From == c.To {
		return nil
	}
	if m.keeps(n) {
		return catalog.ErrRetained
	}
	a := n.attr
	if !n.dir {
		a = n.top().Attr
	}
	a.ModTime = m.now
	to := m.find(c.To)
	if to != nil && !to.deleted {
		return fs.ErrExist
	}
	dir, err := m.up(c.To, a)
	if err != nil {
		return err
	}
	if strings.HasPrefix(c.To, c.From+"/") {
		return fs.ErrInvalid
	}
	if to != nil {
		to.parked = true
	}
	n.parent, n.comp = dir, path.Base(c.To)
	return nil
}

func (m *model) mkdir(c catalog.Mkdir) error {
	n := m.find(c.Name)
	if n != nil && !n.deleted {
		if n.dir && c.Parents {
			return nil
		}
		return fs.ErrExist
	}
	above := m.nodes[0]
	if d := path.Dir(c.Name); d != "." {
		above = m.find(d)
	}
	missing := above == nil || above.deleted
	dir, err := m.up(c.Name, c.Attr)
	if err != nil {
		return err
	}
	if missing && !c.Parents {
		return fs.ErrNotExist
	}
	c.Attr.Mode |= fs.ModeDir
	m.mkdirAt(dir, path.Base(c.Name), n, c.Attr)
	return nil
}

func (m *model) rmdir(c catalog.Rmdir) error {
	n := m.find(c.Name)
	if n == nil || n.deleted {
		return fs.ErrNotExist
	}
	if !n.dir {
		return fs.ErrInvalid
	}
	empty := true
	for _, o := range m.nodes {
		if o.parent == n {
			empty = false
			if !o.deleted {
				return catalog.ErrNotEmpty
			}
		}
	}
	n.deleted = true
	if empty {
		m.remove(n)
	}
	return nil
}

func (m *model) symlink(c catalog.Symlink) error {
	c.Attr.Mode |= fs.ModeSymlink
	n := m.find(c.Name)
	if cur := n.live(); cur != nil {
		if sameAttr(cur.Attr, c.Attr) {
			return nil
		}
		return fs.ErrExist
	}
	n, err := m.slot(c.Name, n, c.Attr)
	if err != nil {
		return err
	}
	m.add(n, store.Object{Attr: c.Attr})
	return nil
}

func (m *model) setAttr(c catalog.SetAttr) error {
	n := m.find(c.Name)
	if n == nil || n.deleted {
		return fs.ErrNotExist
	}
	a := &n.attr
	if !n.dir {
		if m.retained(n.top()) {
			return catalog.ErrRetained
		}
		a = &n.top().Attr
	}
	if c.Mask&catalog.SetMode != 0 {
		a.Mode = a.Mode.Type() | c.Attr.Mode&^fs.ModeType
	}
	if c.Mask&catalog.SetUID != 0 {
		a.UID = c.Attr.UID
	}
	if c.Mask&catalog.SetGID != 0 {
		a.GID = c.Attr.GID
	}
	if c.Mask&catalog.SetModTime != 0 {
		a.ModTime = c.Attr.ModTime
	}
	if c.Mask&catalog.SetXattrs != 0 {
		a.Xattrs = c.Attr.Xattrs
	}
	return nil
}

func (m *model) subject(name string, number uint64) (*mVer, error) {
	if number == 0 {
		n := m.find(name)
		if n == nil || n.deleted {
			return nil, fs.ErrNotExist
		}
		if n.dir {
			return nil, fs.ErrInvalid
		}
		return n.top(), nil
	}
	for _, n := range m.all(name) {
		for _, v := range n.vers {
			if v.Version == number {
				if v.Deleted {
					return nil, fs.ErrNotExist
				}
				return v, nil
			}
		}
	}
	return nil, fs.ErrNotExist
}

func (m *model) hold(c catalog.Hold) error {
	v, err := m.subject(c.Name, c.Version)
	if err == nil {
		v.Hold = c.On
	}
	return err
}

func (m *model) retain(c catalog.Retain) error {
	v, err := m.subject(c.Name, c.Version)
	if err != nil {
		return err
	}
	ends := m.clock.Add(c.Until.Sub(m.now))
	switch {
	case ends.Before(v.ends):
		return catalog.ErrRetained
	case ends.After(v.ends):
		v.ends, v.RetainUntil = ends, c.Until
	}
	return nil
}
