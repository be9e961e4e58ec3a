package catalog

import (
	"io/fs"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/blockframe/blockframe/store"
)

// reserved are the components of the root that are not for users.
var reserved = []string{store.LostFound, ".versions"}

// clean reports whether s can be part of a key and of a line of JSON.
func clean(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

// CheckName returns nil if name can be that of an object or directory, else an
// error that matches fs.ErrInvalid and says why not.
func CheckName(name string) error {
	if err := checkAny(name); err != nil {
		return err
	}
	return checkReserved(name, reserved...)
}

// CheckFound is CheckName for what may be there already: names below store.LostFound
// too, which only a rebuild gives.
func CheckFound(name string) error {
	if err := checkAny(name); err != nil {
		return err
	}
	return checkReserved(name, reserved[1:]...)
}

// checkReserved refuses names that are, or lie in, one of those components of the root.
func checkReserved(name string, reserved ...string) error {
	first, _, _ := strings.Cut(name, "/")
	for _, r := range reserved {
		if first == r {
			return invalid("name %q: %s is reserved", name, r)
		}
	}
	return nil
}

// checkAny returns what is wrong with a name, reserved or not.
func checkAny(name string) error {
	switch {
	case name == "":
		return invalid("name is empty")
	case len(name) > store.MaxName:
		return invalid("name of %d bytes, at most %d", len(name), store.MaxName)
	case !utf8.ValidString(name):
		return invalid("name %q is not valid UTF-8", name)
	case strings.Contains(name, "\x00"):
		return invalid("name %q holds a NUL byte", name)
	case name == ".":
		return invalid("name \".\" is the root")
	case !fs.ValidPath(name):
		return invalid("name %q has an empty component, a dot or two for one, or begins or ends with a slash", name)
	}
	for c := range strings.SplitSeq(name, "/") {
		if len(c) > store.MaxComponent {
			return invalid("name %q has a component of %d bytes, at most %d", name, len(c), store.MaxComponent)
		}
	}
	return nil
}

// walk returns the node that has the name now, or nil. Removed directories and
// deleted names are nodes too.
func (r *rows) walk(name string) *node {
	if name == "." {
		return r.node(rootInode)
	}
	var n *node
	dir := uint64(rootInode)
	for comp := range strings.SplitSeq(name, "/") {
		if n != nil && !n.dir {
			return nil
		}
		if n = r.dirent(dir, comp); n == nil {
			return nil
		}
		dir = n.inode
	}
	return n
}

// histories returns the nodes that have or had the name: the present one first,
// then those that were put aside when another took the name, oldest first.
func (r *rows) histories(name string) []*node {
	at := []*node{r.node(rootInode)}
	if name == "." {
		return at
	}
	for comp := range strings.SplitSeq(name, "/") {
		var next []*node
		for _, dir := range at {
			if dir == nil || !dir.dir {
				continue
			}
			if n := r.dirent(dir.inode, comp); n != nil {
				next = append(next, n)
			}
			next = append(next, r.parked(dir.inode, comp)...)
		}
		at = next
	}
	return at
}

// parked returns the nodes put aside under a component of a directory.
func (r *rows) parked(dir uint64, comp string) (out []*node) {
	prefix := key(tParked, dir, comp, byte(0))
	for row := range r.scan(prefix, nil) {
		if n := r.node(be64(row.Key[len(prefix):])); n != nil {
			out = append(out, n)
		}
	}
	return out
}

// path returns the name of a node.
func (r *rows) path(n *node) string {
	var up []*node
	dir := "."
	for depth := 0; n != nil && n.inode != rootInode && depth < store.MaxName; depth++ {
		if known, ok := r.paths[n.inode]; ok {
			dir = known
			break
		}
		up = append(up, n)
		n = r.node(n.parent)
	}
	for _, n := range slices.Backward(up) {
		dir = join(dir, n.comp)
		if r.paths != nil && n.dir && len(r.paths) < keepPaths {
			r.paths[n.inode] = dir
		}
	}
	return dir
}

// keepPaths bounds the names of directories that one read remembers.
const keepPaths = 1024

// object returns the current version of a node, or a directory.
func (r *rows) object(n *node, name string) (store.Object, bool) {
	if n.dir {
		return n.object(name), true
	}
	v := r.version(n.inode, n.current)
	if v == nil {
		return store.Object{}, false
	}
	o := v.object(name)
	o.Deleted = n.deleted
	return o, true
}

// object is what the outside sees of a directory.
func (n *node) object(name string) store.Object {
	o := store.Object{Name: name, Inode: n.inode, Attr: n.attr, Deleted: n.deleted}
	if n.made != 0 {
		o.Created = nanoTime(n.made)
	}
	return o
}
