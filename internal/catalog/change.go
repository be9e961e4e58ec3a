package catalog

import (
	"fmt"
	"io/fs"
	"path"

	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/store"
)

// live returns the node that has the name now, if it is not deleted.
func (t *tx) live(name string) (*node, error) {
	if err := CheckFound(name); err != nil {
		return nil, err
	}
	n := t.walk(name)
	if n == nil || n.deleted {
		return nil, notExist("%q", name)
	}
	return n, nil
}

// delete puts a marker on top of a name.
func (t *tx) delete(c *Delete) store.Result {
	n, err := t.live(c.Name)
	if err != nil {
		return store.Result{Err: err}
	}
	if n.dir {
		return store.Result{Err: invalid("%q is a directory", c.Name)}
	}
	cur := t.current(n)
	if cur == nil {
		return store.Result{}
	}
	if c.Expect > 0 && uint64(c.Expect) != cur.number {
		return store.Result{Err: refuse(ErrConflict, "%q has version %d, want %d", c.Name, cur.number, c.Expect)}
	}
	if err := t.retained(c.Name, cur); err != nil {
		return store.Result{Err: err}
	}
	v := t.add(n, &version{deleted: true})
	return store.Result{Object: v.object(c.Name), Changed: true}
}

// purge drops versions for good.
func (t *tx) purge(c *Purge) store.Result {
	if err := CheckFound(c.Name); err != nil {
		return store.Result{Err: err}
	}
	if c.All == (c.Version != 0) {
		return store.Result{Err: invalid("purge %q: want either a version or all", c.Name)}
	}
	if !c.All {
		return t.purgeOne(c)
	}
	budget, left := PurgeLimit, uint64(0)
	found := false
	nodes := t.histories(c.Name)
	for _, n := range nodes {
		if n == nil || n.dir {
			continue
		}
		if err := t.kept(c.Name, n); err != nil {
			return store.Result{Err: err}
		}
	}
	// Those put aside first: the name that is there now goes last.
	for i := len(nodes) - 1; i >= 0; i-- {
		if n := nodes[i]; n != nil && !n.dir {
			found = true
			left += t.purgeNode(n, &budget)
		}
	}
	if !found {
		return store.Result{Err: notExist("%q", c.Name)}
	}
	return store.Result{Changed: true, Number: left}
}

func (t *tx) purgeOne(c *Purge) store.Result {
	n, v := t.find(c.Name, c.Version)
	if v == nil {
		return store.Result{Err: notExist("%q has no version %d", c.Name, c.Version)}
	}
	if err := t.retained(c.Name, v); err != nil {
		return store.Result{Err: err}
	}
	t.drop(n, v)
	t.settleNode(n)
	return store.Result{Object: v.object(c.Name), Changed: true}
}

// find returns a version of a name and its node; version 0 is the current one.
func (r *rows) find(name string, number uint64) (*node, *version) {
	if n := r.walk(name); n != nil && !n.dir { // the first of its histories
		want := number
		if want == 0 {
			want = n.current
		}
		if v := r.version(n.inode, want); v != nil {
			return n, v
		}
	}
	for _, n := range r.histories(name) {
		if n == nil || n.dir {
			continue
		}
		want := number
		if want == 0 {
			want = n.current
		}
		if v := r.version(n.inode, want); v != nil {
			return n, v
		}
	}
	return nil, nil
}

// purgeNode drops as many versions of a node as the budget allows, the current
// one last, and returns how many are left. None of them is kept.
func (t *tx) purgeNode(n *node, budget *int) uint64 {
	var cur *version
	for row := range t.scan(key(tVersion, n.inode), nil) {
		if *budget == 0 {
			break
		}
		v := &version{inode: n.inode, number: ^be64(row.Key[9:])}
		if !t.decode(row.Key, row.Value, v.decode) {
			return 0
		}
		if v.number == n.current {
			cur = v
			continue
		}
		t.drop(n, v)
		*budget--
	}
	if cur != nil && n.count == 1 && *budget > 0 {
		t.drop(n, cur)
		*budget--
	}
	left := n.count
	t.settleNode(n)
	return left
}

// drop removes a version, without writing the row of its node.
func (t *tx) drop(n *node, v *version) {
	t.del(v.key())
	n.count--
	t.meta.counts.Versions--
	t.meta.counts.Bytes -= v.size
	if v.hasContent() {
		t.unrefer(v)
	}
}

// settleNode writes a node that lost versions: on top is the newest that is
// left, so that a name whose marker is purged is back. Without any, the name is
// dropped.
func (t *tx) settleNode(n *node) {
	for row := range t.scan(key(tVersion, n.inode), nil) {
		v := &version{inode: n.inode, number: ^be64(row.Key[9:])}
		if t.decode(row.Key, row.Value, v.decode) {
			n.current = v.number
			if dir := t.node(n.parent); t.isParked(n) || dir == nil || dir.deleted {
				t.saveNode(n) // stays deleted, whatever is on top
			} else {
				t.show(n, !v.deleted)
			}
		}
		return
	}
	t.show(n, false)
	t.remove(n)
}

// isParked reports whether another node, or none, has the place of n.
func (t *tx) isParked(n *node) bool {
	v, ok := t.get(key(tDirent, n.parent, n.comp))
	return !ok || be64(v) != n.inode
}

// remove drops a deleted node that nothing belongs to any more, and the removed
// directories above that are left empty by it.
func (t *tx) remove(n *node) {
	for t.err == nil {
		if t.isParked(n) {
			t.del(key(tParked, n.parent, n.comp, byte(0), n.inode))
		} else {
			t.del(key(tDirent, n.parent, n.comp))
		}
		t.del(key(tNode, n.inode))
		if n = t.node(n.parent); n == nil || !n.deleted || t.hasEntries(n) {
			return
		}
	}
}

// hasEntries reports whether any row lies in the directory, deleted ones included.
func (t *tx) hasEntries(n *node) bool {
	for range t.scan(key(tDirent, n.inode), nil) {
		return true
	}
	for range t.scan(key(tParked, n.inode), nil) {
		return true
	}
	return false
}

// rename moves a node to another place.
func (t *tx) rename(c *Rename) store.Result {
	n, err := t.live(c.From)
	if err == nil {
		err = CheckName(c.To)
	}
	if err != nil {
		return store.Result{Err: err}
	}
	if c.From == c.To {
		o, _ := t.object(n, c.To)
		return store.Result{Object: o}
	}
	if err := t.kept(c.From, n); err != nil {
		return store.Result{Err: err}
	}
	attr := n.attr
	if cur := t.current(n); cur != nil {
		attr = cur.attr
	}
	attr.ModTime = nanoTime(t.now)
	dir, err := t.target(c, n, &attr)
	if err != nil {
		return store.Result{Err: err}
	}
	t.move(n, dir, path.Base(c.To))
	o, _ := t.object(n, c.To)
	return store.Result{Object: o, Changed: true}
}

// target returns the directory that n is renamed into, its place there free.
func (t *tx) target(c *Rename, n *node, a *store.Attr) (*node, error) {
	to := t.walk(c.To)
	if to != nil && !to.deleted {
		return nil, refuse(fs.ErrExist, "%q", c.To)
	}
	dir, err := t.parents(c.To, a)
	if err != nil {
		return nil, err
	}
	for up := dir; up != nil; up = t.node(up.parent) {
		if up.inode == n.inode {
			return nil, invalid("%q lies in %q", c.To, c.From)
		}
		if up.inode == rootInode {
			break
		}
	}
	if to != nil {
		t.park(to)
	}
	return dir, nil
}

// move takes a live node from its place to a free one.
func (t *tx) move(n, dir *node, comp string) {
	t.del(key(tDirent, n.parent, n.comp))
	if from := t.node(n.parent); from != nil {
		from.live--
		t.saveNode(from)
	}
	n.parent, n.comp = dir.inode, comp
	t.saveNode(n)
	t.save(direntKey(dir.inode, comp), be64s(n.inode))
	if to := t.node(dir.inode); to != nil {
		to.live++
		t.saveNode(to)
	}
}

// corrupt is what a row that another promises and that is not there means.
func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: view: %s", frame.ErrCorrupt, fmt.Sprintf(format, args...))
}
