package catalog

import (
	"bytes"
	"io/fs"
	"maps"
	"path"
	"strings"

	"github.com/blockframe/blockframe/store"
)

// put makes content visible under a name, or finds that it is already. Whatever
// comes of it, the upload is settled: from here on it lives by references alone.
func (t *tx) put(p *store.Put) store.Result {
	if err := CheckName(p.Name); err != nil {
		return store.Result{Err: err}
	}
	n := t.walk(p.Name)
	cur := t.current(n)
	if cur != nil && cur.upload == p.Upload && t.same(cur, p) {
		return store.Result{Object: cur.object(p.Name)} // a repetition
	}
	u, err := t.named(p)
	if err != nil {
		return store.Result{Err: err}
	}
	own, err := t.own(p, u)
	if err != nil {
		return store.Result{Err: err}
	}
	if err := expect(p.Name, cur, p.Expect); err != nil {
		return store.Result{Err: err}
	}
	c := t.content(p.ID)
	if c != nil && c.size != p.Size {
		return store.Result{Err: invalid("put %q: content %v has %d bytes, not %d", p.Name, p.ID, c.size, p.Size)}
	}
	res := t.store(p, n, cur, c, own)
	if res.Err == nil && u != nil {
		t.settle(u.id)
	}
	return res
}

// store decides on sameness (DESIGN, section 3).
func (t *tx) store(p *store.Put, n *node, cur *version, c *content, own spot) store.Result {
	relies := t.relies(c, p, own)
	if cur != nil && t.same(cur, p) {
		if !relies {
			// The name is as it should be and its bytes are not: they move,
			// and with them every name that shares them.
			t.place(c, p.ID, p.Size, own)
		}
		return store.Result{Object: cur.object(p.Name), Changed: !relies}
	}
	n, err := t.open(p.Name, n, &p.Attr)
	if err != nil {
		return store.Result{Err: err}
	}
	if !relies {
		c = t.place(c, p.ID, p.Size, own)
	}
	v := t.add(n, &version{id: p.ID, size: p.Size, attr: normal(p.Attr), policy: p.Policy, upload: p.Upload})
	t.refer(c, v)
	return store.Result{Object: v.object(p.Name), Changed: true}
}

// named records the extents of a put and returns its upload, nil when it has
// none, as for a content that is inline.
func (t *tx) named(p *store.Put) (*upload, error) {
	if p.Size == 0 || len(p.Inline) > 0 {
		return nil, nil
	}
	for i := range p.Extents {
		if _, _, err := t.addExtent(&p.Extents[i]); err != nil {
			return nil, err
		}
	}
	u := t.upload(p.Upload)
	if u != nil && u.state == store.UploadDead {
		return nil, refuse(ErrExpired, "put %q: upload %v is dead", p.Name, p.Upload)
	}
	return u, nil
}

// current returns the current version of a node, or nil if there is none. It
// counts as deleted when the node does.
func (t *tx) current(n *node) *version {
	if n == nil || n.dir {
		return nil
	}
	v := t.version(n.inode, n.current)
	if v != nil {
		v.deleted = n.deleted
	}
	return v
}

// same reports whether a version is what the put wants it to be.
func (t *tx) same(v *version, p *store.Put) bool {
	return !v.deleted && v.id == p.ID && v.size == p.Size && v.policy == p.Policy && sameAttr(&v.attr, &p.Attr)
}

func sameAttr(a, b *store.Attr) bool {
	return a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID && a.ModTime.Equal(b.ModTime) &&
		a.Target == b.Target && maps.EqualFunc(a.Xattrs, b.Xattrs, bytes.Equal)
}

// normal returns a in the form in which it is kept.
func normal(a store.Attr) store.Attr {
	a.ModTime = a.ModTime.UTC()
	if len(a.Xattrs) == 0 {
		a.Xattrs = nil
	}
	return a
}

// expect checks the version that a command expects of a name.
func expect(name string, cur *version, want int64) error {
	switch {
	case want == store.AnyVersion:
		return nil
	case want == 0 && (cur == nil || cur.deleted):
		return nil
	case cur != nil && uint64(want) == cur.number:
		return nil
	case cur == nil:
		return refuse(ErrConflict, "%q does not exist, want version %d", name, want)
	}
	return refuse(ErrConflict, "%q has version %d, want %d", name, cur.number, want)
}

// open returns the node that versions of the name are added to: n, if it is one,
// else a new one. Directories above are made.
func (t *tx) open(name string, n *node, a *store.Attr) (*node, error) {
	if n != nil && n.dir && !n.deleted {
		return nil, refuse(fs.ErrExist, "%q is a directory", name)
	}
	dir, err := t.parents(name, a)
	if err != nil {
		return nil, err
	}
	if n != nil && !n.dir {
		return n, nil
	}
	if n != nil {
		t.park(n) // a directory that was removed
	}
	return t.enter(dir, path.Base(name), &node{deleted: true}), nil
}

// enter gives a new node an inode and a place. It counts as deleted until shown.
func (t *tx) enter(dir *node, comp string, n *node) *node {
	n.inode, n.parent, n.comp = t.meta.nextInode, dir.inode, comp
	t.meta.nextInode++
	t.save(direntKey(dir.inode, comp), be64s(n.inode))
	t.saveNode(n)
	return n
}

func (t *tx) saveNode(n *node) { t.save(nodeKey(n.inode), n.encode()) }

// park takes a deleted node out of its place, so that another may take it. Its
// history stays to be found under the name.
func (t *tx) park(n *node) {
	t.del(key(tDirent, n.parent, n.comp))
	t.setFlag(key(tParked, n.parent, n.comp, byte(0), n.inode))
}

// parents returns the directory that the name is in. Those that lack on the way
// are made, with the owner and time of a.
func (t *tx) parents(name string, a *store.Attr) (*node, error) {
	made := store.Attr{Mode: fs.ModeDir | 0o755, UID: a.UID, GID: a.GID, ModTime: a.ModTime.UTC()}
	dir := t.root()
	for i := 0; ; {
		j := strings.IndexByte(name[i:], '/')
		if j < 0 {
			return dir, nil
		}
		comp := name[i : i+j]
		i += j + 1
		n := t.dirent(dir.inode, comp)
		if n != nil && !n.dir && !n.deleted {
			return nil, invalid("name %q: %q is an object", name, name[:i-1])
		}
		dir = t.descend(dir, comp, n, &made)
	}
}

// root returns the directory of all, making its row at first use.
func (t *tx) root() *node {
	if n := t.node(rootInode); n != nil {
		return n
	}
	n := &node{inode: rootInode, parent: rootInode, dir: true, attr: store.Attr{Mode: fs.ModeDir | 0o755}}
	t.saveNode(n)
	return n
}

// descend returns the live directory at comp, where n is now.
func (t *tx) descend(dir *node, comp string, n *node, a *store.Attr) *node {
	if n != nil && n.dir && !n.deleted {
		return n
	}
	if n != nil && !n.dir {
		t.park(n)
		n = nil
	}
	if n == nil {
		n = t.enter(dir, comp, &node{dir: true, deleted: true})
	}
	n.attr, n.made = normal(*a), t.now
	t.show(n, true)
	return n
}

// show makes a node live, or deleted, and counts it.
func (t *tx) show(n *node, live bool) {
	if n.deleted == !live {
		t.saveNode(n)
		return
	}
	one := uint64(1)
	if !live {
		one = ^uint64(0)
	}
	n.deleted = !live
	if n.dir {
		t.meta.counts.Dirs += one
	} else {
		t.meta.counts.Objects += one
	}
	t.saveNode(n)
	if dir := t.node(n.parent); dir != nil {
		dir.live += one
		t.saveNode(dir)
	}
}

// add puts a version on top of a node.
func (t *tx) add(n *node, v *version) *version {
	n.last++
	n.current = n.last
	n.count++
	v.inode, v.number, v.created = n.inode, n.last, t.now
	t.save(v.key(), v.encode())
	t.meta.counts.Versions++
	t.meta.counts.Bytes += v.size
	t.show(n, !v.deleted)
	return v
}
