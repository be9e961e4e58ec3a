package catalog_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/catalog"
	"github.com/blockframe/blockframe/store"
)

// The state of a catalog as text, as its reads tell it and as the model does.

func line(o store.Object) string {
	return fmt.Sprintf("%s i%d v%d %v %d %v %d %d %v %q %v %v %q %x del=%v hold=%v until=%v", o.Name, o.Inode, o.Version, o.ID, o.Size, o.Mode,
		o.UID, o.GID, o.ModTime.UTC(), o.Target, sortedAttrs(o.Xattrs), o.Created.UTC(), o.Policy, o.Upload, o.Deleted, o.Hold, o.RetainUntil.UTC())
}

func sortedAttrs(m map[string][]byte) (s string) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		s += fmt.Sprintf("%s=%x", k, m[k])
	}
	return s
}

func collect[T any](r *rig, seq iter.Seq2[T, error]) (out []T) {
	r.t.Helper()
	for v, err := range seq {
		require.NoError(r.t, err)
		out = append(out, v)
	}
	return out
}

// dump is all that can be seen of a catalog.
func (r *rig) dump() string {
	r.t.Helper()
	var b strings.Builder
	for _, name := range names() {
		if o, err := r.cat.Object(ctx, name, 0); err == nil {
			fmt.Fprintln(&b, "now", line(o))
		} else {
			require.ErrorIs(r.t, err, fs.ErrNotExist)
		}
		for o, err := range r.cat.Versions(ctx, name) {
			if err != nil {
				require.ErrorIs(r.t, err, fs.ErrNotExist)
				break
			}
			fmt.Fprintln(&b, "version", line(o))
		}
	}
	for _, o := range collect(r, r.cat.Walk(ctx, ".", "")) {
		fmt.Fprintln(&b, "walk", line(o))
	}
	r.dumpData(&b)
	for _, p := range must(r.cat.Policies(ctx)) {
		fmt.Fprintln(&b, "policy", p)
	}
	for _, id := range collect(r, r.cat.Narrow(ctx, store.UploadID{})) {
		fmt.Fprintf(&b, "narrow %v\n", id)
	}
	for _, k := range []string{"k", "l"} {
		fmt.Fprintf(&b, "state %s %s\n", k, must(r.cat.State(ctx, k)))
	}
	fmt.Fprintf(&b, "%+v epoch %d grace %v\n", r.cat.Counts(), r.cat.Epoch(), r.cat.Grace())
	b.WriteString(r.dumpDisks())
	return b.String()
}

// points is what is read without a scan: so the rows stay where they are.
func (r *rig) points() string {
	r.t.Helper()
	var b strings.Builder
	for _, name := range names() {
		if o, err := r.cat.Object(ctx, name, 0); err == nil {
			fmt.Fprintln(&b, "now", line(o))
		} else {
			require.ErrorIs(r.t, err, fs.ErrNotExist)
		}
	}
	for _, id := range contentIDs() {
		if c, err := r.cat.Content(ctx, id); err == nil {
			fmt.Fprintf(&b, "content %v %d refs %d %v %x %d %q\n", c.ID, c.Size, c.Refs, c.Code, c.Upload, c.Offset, c.Inline)
		}
	}
	for _, c := range collect(r, r.cat.Inline(ctx)) {
		fmt.Fprintf(&b, "inline %v %q of", c.Content.ID, c.Content.Inline)
		var of []string
		for _, o := range c.Names {
			of = append(of, fmt.Sprintf(" %d.%d", o.Inode, o.Version))
		}
		slices.Sort(of)
		fmt.Fprintln(&b, of)
	}
	fmt.Fprintf(&b, "%+v epoch %d grace %v\n", r.cat.Counts(), r.cat.Epoch(), r.cat.Grace())
	b.WriteString(r.dumpDisks())
	return b.String()
}

// points is the same of a model.
func (m *model) points() string {
	m.settle()
	var b strings.Builder
	for _, name := range names() {
		m.dumpNow(&b, name)
	}
	for _, id := range contentIDs() {
		if c := m.contents[id]; c != nil {
			fmt.Fprintf(&b, "content %v %d refs %d %v %x %d %q\n", c.ID, c.Size, c.Refs, c.Code, c.Upload, c.Offset, c.Inline)
		}
	}
	for _, id := range m.inline {
		fmt.Fprintf(&b, "inline %v %q of", id, m.contents[id].Inline)
		var of []string
		for _, n := range m.nodes {
			for _, v := range n.vers {
				if v.ID == id && !v.Deleted && v.Mode.IsRegular() {
					of = append(of, fmt.Sprintf(" %d.%d", v.Inode, v.Version))
				}
			}
		}
		slices.Sort(of)
		fmt.Fprintln(&b, of)
	}
	fmt.Fprintf(&b, "%+v epoch %d grace %v\n", m.counts(), m.epoch, m.grace)
	b.WriteString(m.dumpDisks())
	return b.String()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (r *rig) dumpData(b *strings.Builder) {
	for _, u := range collect(r, r.cat.Uploads(ctx, store.UploadID{})) {
		fmt.Fprintf(b, "upload %x %d refs %d epoch %d extents %d length %d until %v\n", u.ID, u.State, u.Refs, u.Epoch, u.Extents, u.Length, u.Until.UTC())
		owners := collect(r, r.cat.Owners(ctx, u.ID, 0, 1<<40))
		slices.SortFunc(owners, byOwner)
		for _, o := range owners {
			fmt.Fprintln(b, "owner", o.Offset, line(o.Object))
		}
		for i := range u.Extents {
			x, err := r.cat.ExtentAt(ctx, u.ID, i)
			require.NoError(r.t, err)
			fmt.Fprintf(b, "at %x %d %x\n", u.ID, i, x.ID)
		}
	}
	for _, k := range must(r.cat.Kept(ctx)) {
		fmt.Fprintf(b, "kept %x %+v\n", k.Upload, k)
		require.Equal(r.t, &k, must(r.cat.Upload(ctx, k.Upload)).Kept)
	}
	for _, x := range collect(r, r.cat.Extents(ctx, store.ExtentID{})) {
		fmt.Fprintf(b, "extent %+v\n", x)
	}
	for _, id := range contentIDs() {
		if c, err := r.cat.Content(ctx, id); err == nil {
			fmt.Fprintf(b, "content %v %d refs %d %v %x %d %q\n", c.ID, c.Size, c.Refs, c.Code, c.Upload, c.Offset, c.Inline)
		}
	}
	for _, c := range collect(r, r.cat.Inline(ctx)) {
		fmt.Fprintf(b, "inline %v %q\n", c.Content.ID, c.Content.Inline)
	}
	for _, q := range collect(r, r.cat.Repairs(ctx)) {
		fmt.Fprintf(b, "repair %x %d %x %x left %d since %v\n", q.Extent, q.Shard, q.Backend, q.Stripes, q.Left, q.Since.UTC())
	}
}

func byOwner(a, b store.Owner) int {
	return strings.Compare(fmt.Sprintf("%020d %d %d", a.Offset, a.Object.Inode, a.Object.Version), fmt.Sprintf("%020d %d %d", b.Offset, b.Object.Inode, b.Object.Version))
}

func contentIDs() (out []store.ID) {
	for _, c := range []string{"A", "B", "C", ""} {
		out = append(out, idOf(c), idOf("L"+c), idOf("M"+c), idOf(c+"!"))
	}
	return out
}

// dump is the same of a model.
func (m *model) dump(uploads int) string {
	m.settle()
	var b strings.Builder
	for _, name := range names() {
		m.dumpName(&b, name)
	}
	m.walk(&b, m.nodes[0])
	m.dumpData(&b)
	for _, k := range slices.Sorted(maps.Keys(m.policies)) {
		fmt.Fprintln(&b, "policy", m.policies[k])
	}
	for _, id := range slices.SortedFunc(maps.Keys(m.narrow), func(a, b store.UploadID) int { return bytes.Compare(a[:], b[:]) }) {
		fmt.Fprintf(&b, "narrow %v\n", id)
	}
	for _, k := range []string{"k", "l"} {
		fmt.Fprintf(&b, "state %s %s\n", k, m.state[k])
	}
	fmt.Fprintf(&b, "%+v epoch %d grace %v\n", m.counts(), m.epoch, m.grace)
	b.WriteString(m.dumpDisks())
	return b.String()
}

func (m *model) dumpNow(b *strings.Builder, name string) {
	for i, n := range m.all(name) {
		if n.dir && n.deleted {
			continue
		}
		o := n.object(name)
		if i == 0 || o.Deleted && !n.dir {
			fmt.Fprintln(b, "now", line(o))
			break
		}
	}
}

func (m *model) dumpName(b *strings.Builder, name string) {
	m.dumpNow(b, name)
	for _, n := range m.all(name) {
		for i := len(n.vers) - 1; i >= 0; i-- {
			o := n.vers[i].Object
			o.Name = name
			fmt.Fprintln(b, "version", line(o))
		}
	}
}

func (n *mNode) object(name string) store.Object {
	o := store.Object{Inode: n.inode, Attr: n.attr, Created: n.made}
	if !n.dir {
		o = n.top().Object
	}
	o.Name, o.Deleted = name, n.deleted
	return o
}

func (m *model) walk(b *strings.Builder, dir *mNode) {
	var in []*mNode
	for _, n := range m.nodes {
		if n.parent == dir && !n.parked && !n.deleted {
			in = append(in, n)
		}
	}
	slices.SortFunc(in, func(a, b *mNode) int { return strings.Compare(a.comp, b.comp) })
	for _, n := range in {
		fmt.Fprintln(b, "walk", line(n.object(m.path(n))))
		m.walk(b, n)
	}
}

func (m *model) dumpData(b *strings.Builder) {
	for _, id := range slices.SortedFunc(maps.Keys(m.uploads), func(a, b store.UploadID) int { return bytes.Compare(a[:], b[:]) }) {
		u := m.uploads[id]
		fmt.Fprintf(b, "upload %x %d refs %d epoch %d extents %d length %d until %v\n", u.ID, u.State, u.Refs, u.Epoch, u.Extents, u.Length, u.Until.UTC())
		var owners []store.Owner
		for _, n := range m.nodes {
			for _, v := range n.vers {
				if c := m.contents[v.ID]; c != nil && c.Upload == id && !v.Deleted && v.Mode.IsRegular() {
					o := v.Object
					o.Name = m.path(n)
					owners = append(owners, store.Owner{Object: o, Offset: c.Offset})
				}
			}
		}
		slices.SortFunc(owners, byOwner)
		for _, o := range owners {
			fmt.Fprintln(b, "owner", o.Offset, line(o.Object))
		}
		for i, x := range u.list {
			fmt.Fprintf(b, "at %x %d %x\n", u.ID, i, x)
		}
	}
	for _, id := range slices.SortedFunc(maps.Keys(m.kept), func(a, b store.UploadID) int { return bytes.Compare(a[:], b[:]) }) {
		fmt.Fprintf(b, "kept %x %+v\n", id, m.kept[id])
	}
	for _, id := range slices.SortedFunc(maps.Keys(m.extents), func(a, b store.ExtentID) int { return bytes.Compare(a[:], b[:]) }) {
		fmt.Fprintf(b, "extent %+v\n", *m.extents[id])
	}
	for _, id := range contentIDs() {
		if c := m.contents[id]; c != nil {
			fmt.Fprintf(b, "content %v %d refs %d %v %x %d %q\n", c.ID, c.Size, c.Refs, c.Code, c.Upload, c.Offset, c.Inline)
		}
	}
	for _, id := range m.inline {
		fmt.Fprintf(b, "inline %v %q\n", id, m.contents[id].Inline)
	}
	var queue []store.Repair
	for _, q := range m.queue {
		queue = append(queue, *q)
	}
	slices.SortFunc(queue, func(a, b store.Repair) int {
		key := func(q store.Repair) string {
			return fmt.Sprintf("%03d %020d %v %03d %v", q.Left+1, q.Since.UnixNano(), q.Extent, q.Shard, q.Backend)
		}
		return strings.Compare(key(a), key(b))
	})
	for _, q := range queue {
		fmt.Fprintf(b, "repair %x %d %x %x left %d since %v\n", q.Extent, q.Shard, q.Backend, q.Stripes, q.Left, q.Since.UTC())
	}
}

func (m *model) counts() (c catalog.Counts) {
	for _, n := range m.nodes[1:] {
		switch {
		case n.dir && !n.deleted:
			c.Dirs++
		case !n.dir && !n.deleted:
			c.Objects++
		}
		c.Versions += uint64(len(n.vers))
		for _, v := range n.vers {
			c.Bytes += v.Size
		}
	}
	c.Contents, c.Inline = uint64(len(m.contents)), uint64(len(m.inline))
	for _, k := range m.contents {
		c.Stored += k.Size
	}
	for _, u := range m.uploads {
		c.Uploads[u.State]++
	}
	c.Extents, c.Repairs = uint64(len(m.extents)), uint64(len(m.queue))
	return c
}
