package catalog

import (
	"io/fs"
	"path"

	"github.com/blockframe/blockframe/store"
)

// mkdir makes a directory.
func (t *tx) mkdir(c *Mkdir) store.Result {
	if err := CheckName(c.Name); err != nil {
		return store.Result{Err: err}
	}
	if c.Attr.Mode&fs.ModeType&^fs.ModeDir != 0 || c.Attr.Target != "" {
		return store.Result{Err: invalid("mkdir %q: mode %v is not that of a directory", c.Name, c.Attr.Mode)}
	}
	n := t.walk(c.Name)
	if n != nil && !n.deleted {
		if n.dir && c.Parents {
			return store.Result{Object: n.object(c.Name)}
		}
		return store.Result{Err: refuse(fs.ErrExist, "%q", c.Name)}
	}
	up := t.walk(path.Dir(c.Name))
	dir, err := t.parents(c.Name, &c.Attr)
	if err == nil && !c.Parents && path.Dir(c.Name) != "." && (up == nil || up.deleted) {
		err = notExist("%q", path.Dir(c.Name))
	}
	if err != nil {
		return store.Result{Err: err}
	}
	attr := c.Attr
	attr.Mode |= fs.ModeDir
	n = t.descend(dir, path.Base(c.Name), n, &attr)
	return store.Result{Object: n.object(c.Name), Changed: true}
}

// rmdir removes a directory that has no live entries.
func (t *tx) rmdir(c *Rmdir) store.Result {
	n, err := t.live(c.Name)
	switch {
	case err != nil:
		return store.Result{Err: err}
	case !n.dir:
		return store.Result{Err: invalid("%q is not a directory", c.Name)}
	case n.live > 0:
		return store.Result{Err: refuse(ErrNotEmpty, "%q has %d entries", c.Name, n.live)}
	}
	t.show(n, false)
	if !t.hasEntries(n) {
		t.remove(n)
	}
	return store.Result{Object: n.object(c.Name), Changed: true}
}

// symlink adds a version that is a symbolic link.
func (t *tx) symlink(c *Symlink) store.Result {
	if err := CheckName(c.Name); err != nil {
		return store.Result{Err: err}
	}
	if c.Attr.Mode&fs.ModeType&^fs.ModeSymlink != 0 || c.Attr.Target == "" || !clean(c.Attr.Target) {
		return store.Result{Err: invalid("symlink %q to %q with mode %v", c.Name, c.Attr.Target, c.Attr.Mode)}
	}
	attr := normal(c.Attr)
	attr.Mode |= fs.ModeSymlink
	n := t.walk(c.Name)
	if cur := t.current(n); cur != nil && !cur.deleted {
		if sameAttr(&cur.attr, &attr) {
			return store.Result{Object: cur.object(c.Name)}
		}
		return store.Result{Err: refuse(fs.ErrExist, "%q", c.Name)}
	}
	n, err := t.open(c.Name, n, &attr)
	if err != nil {
		return store.Result{Err: err}
	}
	v := t.add(n, &version{attr: attr})
	return store.Result{Object: v.object(c.Name), Changed: true}
}

// setAttr changes attributes in place.
func (t *tx) setAttr(c *SetAttr) store.Result {
	n, err := t.live(c.Name)
	if err != nil {
		return store.Result{Err: err}
	}
	if n.dir {
		attr := c.over(n.attr)
		changed := !sameAttr(&attr, &n.attr)
		n.attr = attr
		t.saveNode(n)
		return store.Result{Object: n.object(c.Name), Changed: changed}
	}
	v := t.current(n)
	if v == nil {
		return store.Result{}
	}
	if err := t.retained(c.Name, v); err != nil {
		return store.Result{Err: err}
	}
	attr := c.over(v.attr)
	changed := !sameAttr(&attr, &v.attr)
	v.attr = attr
	t.save(v.key(), v.encode())
	return store.Result{Object: v.object(c.Name), Changed: changed}
}

// over returns a with the fields that c sets.
func (c *SetAttr) over(a store.Attr) store.Attr {
	if c.Mask&SetMode != 0 {
		a.Mode = a.Mode&fs.ModeType | c.Attr.Mode&attrModes
	}
	if c.Mask&SetUID != 0 {
		a.UID = c.Attr.UID
	}
	if c.Mask&SetGID != 0 {
		a.GID = c.Attr.GID
	}
	if c.Mask&SetModTime != 0 {
		a.ModTime = c.Attr.ModTime
	}
	if c.Mask&SetXattrs != 0 {
		a.Xattrs = c.Attr.Xattrs
	}
	return normal(a)
}
