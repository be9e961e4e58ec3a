package catalog

import (
	"context"

	"github.com/blockframe/blockframe/store"
)

// Audit holds the rows of the view against one another, in both directions: names and
// versions, versions and contents, contents and uploads, uploads and extents, the repair
// queue, and all totals. It adds to a report what does not agree, and changes nothing: a
// view with a problem is made anew from the log by moving it away. It sees one state, and
// looks rows up one by one: memory does not depend on how many there are, but of backends.
func (c *Catalog) Audit(ctx context.Context, rep *store.AuditReport) error {
	before := *rep
	return c.readState(ctx, func(r *rows) error {
		*rep = before
		return r.audit(ctx, rep)
	})
}

func (r *rows) audit(ctx context.Context, rep *store.AuditReport) error {
	m := r.meta()
	if m == nil || r.err != nil {
		return nil
	}
	a := &auditor{rows: r, ctx: ctx, rep: rep, lies: map[store.BackendID]Held{}}
	for _, step := range []func(){a.nodes, a.versions, a.contents, a.places, a.uploads, a.extents, a.backends, a.queue} {
		if step(); a.err != nil {
			return a.err
		}
	}
	a.totals(&m.counts)
	rep.Versions, rep.Contents, rep.Uploads, rep.Extents = a.got.Versions, a.got.Contents, a.total, a.got.Extents
	return nil
}

// auditor is one audit under way.
type auditor struct {
	*rows
	ctx   context.Context
	err   error // of ctx
	rep   *store.AuditReport
	got   Counts
	total uint64 // uploads
	lies  map[store.BackendID]Held
}

// over reports whether the audit is to end.
func (a *auditor) over() bool {
	if a.err == nil {
		a.err = a.ctx.Err()
	}
	return a.err != nil || a.rows.err != nil
}

// nodes holds each name against its place, its versions, and what lies in it.
func (a *auditor) nodes() {
	for row := range a.scan([]byte{tNode}, nil) {
		n := a.node(be64(row.Key[1:]))
		if a.over() || n == nil {
			return
		}
		if n.inode != rootInode {
			a.place(n)
		}
		if n.dir {
			a.dir(n)
		} else {
			a.file(n)
		}
	}
}

// place counts a node and looks for the entry that leads to it.
func (a *auditor) place(n *node) {
	if !n.deleted && n.dir {
		a.got.Dirs++
	} else if !n.deleted {
		a.got.Objects++
	}
	v, ok := a.get(direntKey(n.parent, n.comp))
	if ok && be64(v) == n.inode {
		return
	}
	if _, parked := a.get(key(tParked, n.parent, n.comp, byte(0), n.inode)); !parked {
		a.rep.Add("inode %d, %q in directory %d, has no entry there", n.inode, n.comp, n.parent)
	}
}

// dir counts what lies in a directory.
func (a *auditor) dir(n *node) {
	live, holds := uint64(0), uint64(0)
	add := func(inode uint64, entry string) {
		child := a.node(inode)
		if child == nil {
			a.rep.Add("entry %q of directory %d leads to inode %d, which is not there", entry, n.inode, inode)
			return
		}
		if holds += child.holds; !child.deleted {
			live++
		}
	}
	for row := range a.scan(key(tDirent, n.inode), nil) {
		add(be64(row.Value), string(row.Key[9:]))
	}
	for row := range a.scan(key(tParked, n.inode), nil) {
		add(be64(row.Key[len(row.Key)-8:]), string(row.Key[9:]))
	}
	if live != n.live || holds != n.holds {
		a.rep.Add("directory %d, %q, counts %d entries and %d holds, there are %d and %d", n.inode, n.comp, n.live, n.holds, live, holds)
	}
}

// file counts the versions of a name.
func (a *auditor) file(n *node) {
	count, holds, newest := uint64(0), uint64(0), uint64(0)
	for row := range a.scan(key(tVersion, n.inode), nil) {
		v := &version{inode: n.inode, number: ^be64(row.Key[9:])}
		if !a.decode(row.Key, row.Value, v.decode) {
			return
		}
		count++
		newest = max(newest, v.number)
		if v.hold {
			holds++
		}
	}
	if count != n.count || holds != n.holds || newest != n.current {
		a.rep.Add("inode %d, %q, counts %d versions up to %d and %d holds, there are %d up to %d and %d",
			n.inode, n.comp, n.count, n.current, n.holds, count, newest, holds)
	}
}

// versions holds each version against the content that it refers to.
func (a *auditor) versions() {
	for row := range a.scan([]byte{tVersion}, nil) {
		v := &version{inode: be64(row.Key[1:9]), number: ^be64(row.Key[9:])}
		if a.over() || !a.decode(row.Key, row.Value, v.decode) {
			return
		}
		a.got.Versions++
		a.got.Bytes += v.size
		if n := a.node(v.inode); n == nil {
			a.rep.Add("version %d of inode %d, which is not there", v.number, v.inode)
		}
		if !v.hasContent() {
			continue
		}
		c := a.content(v.id)
		switch {
		case c == nil:
			a.rep.Add("version %d of inode %d refers to content %v, which is not there", v.number, v.inode, v.id)
			continue
		case c.size != v.size:
			a.rep.Add("version %d of inode %d has %d bytes, content %v %d", v.number, v.inode, v.size, v.id, c.size)
		}
		if _, ok := a.get(key(tReferrer, v.id, v.inode, v.number)); !ok && (c.inode != v.inode || c.version != v.number) {
			a.rep.Add("content %v does not know of version %d of inode %d", v.id, v.number, v.inode)
		}
	}
}

// contents holds each content against what refers to it, and where it is.
func (a *auditor) contents() {
	for row := range a.scan([]byte{tContent}, nil) {
		c := a.content(store.ID(row.Key[1:]))
		if a.over() || c == nil {
			return
		}
		a.got.Contents++
		a.got.Stored += c.size
		if c.inline() {
			a.got.Inline++
		}
		a.referrers(c)
		if c.upload.IsZero() {
			continue
		}
		if _, ok := a.get(placeKey(c.upload, c.offset, c.id)); !ok {
			a.rep.Add("content %v is at %d of upload %v, which does not know of it", c.id, c.offset, c.upload)
		}
		if u := a.upload(c.upload); u == nil || u.state == store.UploadDead || c.offset > u.length || c.size > u.length-c.offset {
			a.rep.Add("content %v is at %d of upload %v, which is dead, too short or not there", c.id, c.offset, c.upload)
		}
	}
}

// referrers counts the versions that refer to a content.
func (a *auditor) referrers(c *content) {
	refs := uint64(0)
	check := func(inode, number uint64) {
		refs++
		if v := a.version(inode, number); v == nil || !v.hasContent() || v.id != c.id {
			a.rep.Add("content %v is said to be that of version %d of inode %d, which has another, or is not there", c.id, number, inode)
		}
	}
	if c.inode != 0 {
		check(c.inode, c.version)
	}
	for row := range a.scan(key(tReferrer, c.id), nil) {
		k := row.Key[1+len(c.id):]
		check(be64(k[:8]), be64(k[8:]))
	}
	if refs != c.refs {
		a.rep.Add("content %v counts %d references, there are %d", c.id, c.refs, refs)
	}
}

// places holds what is said to be in an upload against the contents.
func (a *auditor) places() {
	for row := range a.scan([]byte{tPlace}, nil) {
		upload, offset, id := store.UploadID(row.Key[1:17]), be64(row.Key[17:25]), store.ID(row.Key[25:])
		if a.over() {
			return
		}
		if c := a.content(id); c == nil || c.upload != upload || uint64(c.offset) != offset {
			a.rep.Add("upload %v is said to have content %v at %d, which is elsewhere, or not there", upload, id, offset)
		}
	}
}

// uploads holds each upload against the contents and extents in it.
func (a *auditor) uploads() {
	for row := range a.scan([]byte{tUpload}, nil) {
		u := a.upload(store.UploadID(row.Key[1:]))
		if a.over() || u == nil {
			return
		}
		a.total++
		if int(u.state) < len(a.got.Uploads) {
			a.got.Uploads[u.state]++
		}
		refs, largest := uint64(0), int64(0)
		for row := range a.scan(key(tPlace, u.id), nil) {
			if c := a.content(store.ID(row.Key[25:])); c != nil {
				if largest = max(largest, c.size); c.refs > 0 {
					refs++
				}
			}
		}
		if _, kept := a.get(keptKey(u.id)); kept {
			refs++ // by the log
		}
		extents, length, missing := uint32(0), int64(0), uint32(0)
		for row := range a.scan(key(tOrdinal, u.id), nil) {
			x := a.extent(store.ExtentID(row.Value))
			if x == nil || x.Upload != u.id {
				a.rep.Add("upload %v is said to have extent %x, which is of another, or not there", u.id, row.Value)
				continue
			}
			extents++
			length += x.Length
			for _, s := range x.Shards {
				if s.Missing {
					missing++
				}
			}
		}
		if refs != u.refs || extents != u.extents || length != u.length || missing != u.missing || largest > u.largest {
			a.rep.Add("upload %v counts %d contents that are referred to, %d extents of %d bytes, %d missing shards; there are %d, %d of %d, %d",
				u.id, u.refs, u.extents, u.length, u.missing, refs, extents, length, missing)
		}
		if (u.state == store.UploadLive) != (refs > 0) {
			a.rep.Add("upload %v is in state %d, with %d contents that are referred to", u.id, u.state, refs)
		}
	}
}

// extents holds each extent against its upload.
func (a *auditor) extents() {
	for row := range a.scan([]byte{tExtent}, nil) {
		x := a.extent(store.ExtentID(row.Key[1:]))
		if a.over() || x == nil {
			return
		}
		a.got.Extents++
		v, ok := a.get(key(tOrdinal, x.Upload, uint32(x.Ordinal)))
		u := a.upload(x.Upload)
		if u != nil && u.state != store.UploadDead {
			a.lie(x)
		}
		if !ok || store.ExtentID(v) != x.ID || u == nil {
			a.rep.Add("extent %v is number %d of upload %v, which does not know of it", x.ID, x.Ordinal, x.Upload)
		}
	}
}

// queue holds the repair queue against itself.
func (a *auditor) queue() {
	for row := range a.scan([]byte{tQueue}, nil) {
		q := parseQueued(row.Key, row.Value)
		if a.over() {
			return
		}
		a.got.Repairs++
		if q == nil {
			a.rep.Add("a row of the repair queue that says nothing: %x", row.Key)
		} else if again, ok := a.rows.queue(q.extent, q.shard, q.backend); !ok || again.since != q.since || again.left != q.left {
			a.rep.Add("shard %d of extent %v is on the repair queue, and is not found there", q.shard, q.extent)
		}
	}
}

// totals compares what was counted with the totals.
func (a *auditor) totals(want *Counts) {
	names := []string{"names", "directories", "versions", "contents", "inline contents", "extents", "rows of the repair queue",
		"uploads in state 0", "open uploads", "live uploads", "condemned uploads", "dead uploads"}
	got := a.got.fields()
	for i, w := range want.fields() {
		if *got[i] != *w {
			a.rep.Add("%d %s are counted, there are %d", *w, names[i], *got[i])
		}
	}
	if a.got.Bytes != want.Bytes || a.got.Stored != want.Stored {
		a.rep.Add("%d bytes of versions and %d of contents are counted, there are %d and %d", want.Bytes, want.Stored, a.got.Bytes, a.got.Stored)
	}
}
