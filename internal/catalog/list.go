package catalog

import (
	"context"
	"iter"
	"strings"
	"time"

	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/store"
)

// List yields what is in a directory, "." being the root, by the order of its
// components, from the first that sorts after after: directories, and the current
// versions of names that are not deleted. It takes memory for one of them.
func (c *Catalog) List(ctx context.Context, dir, after string) iter.Seq2[store.Object, error] {
	return c.list(ctx, dir, after, false)
}

// ListAll is List with removed directories and deleted names, whose Deleted is
// set.
func (c *Catalog) ListAll(ctx context.Context, dir, after string) iter.Seq2[store.Object, error] {
	return c.list(ctx, dir, after, true)
}

func (c *Catalog) list(ctx context.Context, dir, after string, all bool) iter.Seq2[store.Object, error] {
	return stream(ctx, c, func(r *rows, yield func(store.Object) bool) error {
		if dir != "." {
			if err := CheckFound(dir); err != nil {
				return err
			}
		}
		n := r.walk(dir)
		if n == nil && dir == "." {
			return nil // nothing was ever put
		}
		if n == nil || n.deleted && !all {
			return notExist("%q", dir)
		}
		if !n.dir {
			return invalid("%q is not a directory", dir)
		}
		r.children(n, dir, after, all, yield)
		return nil
	})
}

// children yields the entries of a directory that sort after after.
func (r *rows) children(n *node, dir, after string, all bool, yield func(store.Object) bool) bool {
	prefix := key(tDirent, n.inode)
	from := prefix
	if after != "" {
		from = append(key(tDirent, n.inode, after), 0)
	}
	for row := range r.scan(prefix, from) {
		child := r.node(be64(row.Value))
		if child == nil {
			if r.err == nil {
				r.fail(corrupt("entry %q of %q has no node", row.Key[len(prefix):], dir))
			}
			return false
		}
		if child.deleted && !all {
			continue
		}
		o, ok := r.object(child, join(dir, child.comp))
		if ok && !yield(o) {
			return false
		}
	}
	return true
}

// Walk yields everything below a directory that is not deleted, a directory
// before what is in it, entries by the order of their components. It begins with
// the first that comes after the name after, in this order. It takes memory for
// one entry of each directory on the way down.
func (c *Catalog) Walk(ctx context.Context, dir, after string) iter.Seq2[store.Object, error] {
	return stream(ctx, c, func(r *rows, yield func(store.Object) bool) error {
		if dir != "." {
			if err := CheckFound(dir); err != nil {
				return err
			}
		}
		n := r.walk(dir)
		if n == nil && dir == "." {
			return nil
		}
		if n == nil || n.deleted || !n.dir {
			return notExist("directory %q", dir)
		}
		rest := after
		if dir != "." && after != "" {
			below, ok := strings.CutPrefix(after, dir+"/")
			if !ok {
				return invalid("%q does not lie in %q", after, dir)
			}
			rest = below
		}
		r.tree(n, dir, rest, yield)
		return nil
	})
}

// tree yields what is below n and after the relative name rest.
func (r *rows) tree(n *node, dir, rest string, yield func(store.Object) bool) bool {
	comp, below, _ := strings.Cut(rest, "/")
	if comp != "" {
		// The entry that rest goes through was yielded; what is in it was not.
		if child := r.dirent(n.inode, comp); child != nil && child.dir && !child.deleted {
			if !r.tree(child, join(dir, comp), below, yield) {
				return false
			}
		}
	}
	return r.children(n, dir, comp, false, func(o store.Object) bool {
		if !yield(o) {
			return false
		}
		if !o.Mode.IsDir() {
			return true
		}
		child := r.node(o.Inode)
		return child != nil && r.tree(child, o.Name, "", yield)
	})
}

// Versions yields the versions of a name, newest first, markers included; after
// those of the present name those of names that stood there before and were put
// aside when another took the place, told apart by Inode.
func (c *Catalog) Versions(ctx context.Context, name string) iter.Seq2[store.Object, error] {
	return stream(ctx, c, func(r *rows, yield func(store.Object) bool) error {
		if err := CheckFound(name); err != nil {
			return err
		}
		found := false
		for _, n := range r.histories(name) {
			if n == nil {
				continue
			}
			found = found || !n.dir || !n.deleted
			for row := range r.scan(key(tVersion, n.inode), nil) {
				v := &version{inode: n.inode, number: ^be64(row.Key[9:])}
				if !r.decode(row.Key, row.Value, v.decode) || !yield(v.object(name)) {
					return nil
				}
			}
		}
		if !found {
			return notExist("%q", name)
		}
		return nil
	})
}

// Policies returns the policies in force, by prefix and size.
func (c *Catalog) Policies(ctx context.Context) (out []store.Policy, err error) {
	err = c.readState(ctx, func(r *rows) error { out = r.policies(); return nil })
	return out, err
}

func (r *rows) policies() (list []store.Policy) {
	for row := range r.scan([]byte{tPolicy}, nil) {
		r.decode(row.Key, row.Value, func(d *frame.Decoder) { list = append(list, decodePolicy(d)) })
	}
	return list
}

// LastScrub returns the last finished pass of scrub of its kind, fs.ErrNotExist
// if there was none.
func (c *Catalog) LastScrub(ctx context.Context, deep bool) (out store.Scrubbed, err error) {
	err = c.read(ctx, func(r *rows) error {
		if !r.load(scrubbedKey(deep), func(d *frame.Decoder) { out = decodeScrubbed(d) }) {
			return notExist("no pass of scrub was finished")
		}
		return nil
	})
	return out, err
}

// Clock returns the retention clock, and the log time at which it was read.
func (c *Catalog) Clock() (clock, logTime time.Time) {
	m := c.meta.Load()
	return nanoTime(m.clock), nanoTime(m.time)
}

// ReadRows calls f with the rows of a row set, as of one record.
func (c *Catalog) ReadRows(ctx context.Context, s RowSet, f func(RowReader) error) error {
	return c.readState(ctx, func(r *rows) error { return f(&rowTx{prefix: rowPrefix(s), r: r.r}) })
}
