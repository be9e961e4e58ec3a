package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"

	"github.com/blockframe/blockframe/internal/kv"
	"github.com/blockframe/blockframe/store"
)

// errDamaged ends an iteration that cannot be continued: its state of the
// catalog is gone with the view that held it, and the new view is of another.
var errDamaged = errors.New("blockframe: the view was damaged and has been made again, start over")

// read calls f with one state of the rows, and again with another where records were
// applied meanwhile or the view turned out to be damaged and was made anew: f must not
// have told anybody anything.
func (c *Catalog) read(ctx context.Context, f func(r *rows) error) error {
	return c.retrying(ctx, func(v *view) (err, bad error) {
		if done, err, bad := readLately(v, f); done {
			return err, bad
		}
		return readState(ctx, v, f)
	})
}

// readState is read for an f that scans, or takes long.
func (c *Catalog) readState(ctx context.Context, f func(r *rows) error) error {
	return c.retrying(ctx, func(v *view) (err, bad error) { return readState(ctx, v, f) })
}

// retrying calls f with the view, and once more with another where that was damaged. f
// returns its own error, or what is wrong with the view.
func (c *Catalog) retrying(ctx context.Context, f func(v *view) (err, bad error)) error {
	for again := false; ; again = true {
		if err := ctx.Err(); err != nil {
			return err
		}
		if c.closed.Load() {
			return fmt.Errorf("catalog: %w", fs.ErrClosed)
		}
		v := c.view.Load()
		err, bad := f(v)
		if bad == nil {
			return err
		}
		if c.closed.Load() {
			return fmt.Errorf("catalog: %w", fs.ErrClosed)
		}
		if again && !errors.Is(bad, kv.ErrClosed) {
			return fmt.Errorf("catalog: %w", bad)
		}
		if err := c.cure(v, bad); err != nil {
			return err
		}
	}
}

// latelyTries is how often a read is tried before the next record has to wait for it.
const latelyTries = 3

// readLately calls f with the rows as they are, which costs next to nothing. It reports
// whether f scanned nothing, so that what f saw is one state: no record was applied
// meanwhile. Contents that are inline and in memory are in no state but these rows.
func readLately(v *view, f func(r *rows) error) (done bool, err, bad error) {
	l := &lately{view: v}
	try := func() error {
		r := &rows{r: l}
		err = f(r)
		return r.verdict(err)
	}
	for range latelyTries {
		gen := v.gen.Load()
		bad = try()
		if l.scanned {
			return false, nil, nil
		}
		if v.gen.Load() == gen {
			return true, err, bad
		}
	}
	v.merging.RLock()
	defer v.merging.RUnlock()
	bad = try()
	if l.scanned {
		return false, nil, nil
	}
	return true, err, bad
}

// readState calls f with a state of the rows.
func readState(ctx context.Context, v *view, f func(r *rows) error) (err, bad error) {
	s, err := v.state(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		return ctx.Err(), nil
	case err != nil:
		return nil, err
	}
	defer s.close()
	r := &rows{r: s, paths: map[uint64]string{}}
	err = f(r)
	return err, r.verdict(err)
}

// verdict returns what is wrong with the view, as far as f, which returned err, saw it.
func (r *rows) verdict(err error) error {
	if r.err == nil && errors.Is(err, kv.ErrFailed) {
		r.err = err
	}
	return r.err
}

// stream yields what f yields, from one state of the view, with the errors of the
// view and the end of ctx. When the view is made anew on the way it goes on behind
// what was yielded, if no record was applied since it began: then f yields the same
// again.
func stream[T any](ctx context.Context, c *Catalog, f func(r *rows, yield func(T) bool) error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		told, stopped := 0, false
		var began uint64 // the newest record when it began
		var ended error
		err := c.readState(ctx, func(r *rows) error {
			now := uint64(0)
			if m := r.meta(); m != nil {
				now = m.applied
			}
			if told > 0 && now != began {
				return errDamaged
			}
			skip := told
			began = now
			err := f(r, func(v T) bool {
				if ended = ctx.Err(); ended != nil {
					return false
				}
				if skip > 0 {
					skip--
					return true
				}
				told++
				stopped = !yield(v, nil)
				return !stopped
			})
			return errors.Join(err, ended)
		})
		if err != nil && !stopped {
			yield(none, err)
		}
	}
}

// Object implements store.Catalog. The name of a directory, or "." for the root,
// yields it as a version 0.
func (c *Catalog) Object(ctx context.Context, name string, number uint64) (o store.Object, err error) {
	if name != "." {
		if err := CheckFound(name); err != nil {
			return o, err
		}
	}
	err = c.read(ctx, func(r *rows) error {
		ok := false
		if number != 0 {
			if _, v := r.find(name, number); v != nil {
				o, ok = v.object(name), true
			}
		} else {
			o, ok = r.now(name)
		}
		switch {
		case !ok && number != 0:
			return notExist("%q has no version %d", name, number)
		case !ok:
			return fs.ErrNotExist // all callers say of what
		}
		return nil
	})
	return o, err
}

// now returns what has the name, or the marker that says that it was deleted.
func (r *rows) now(name string) (store.Object, bool) {
	if n := r.walk(name); n != nil && !(n.dir && n.deleted) {
		if o, ok := r.object(n, name); ok { // the first of its histories
			return o, true
		}
	}
	for i, n := range r.histories(name) {
		if n == nil || n.dir && n.deleted {
			continue
		}
		o, ok := r.object(n, name)
		if ok && (i == 0 || o.Deleted && !n.dir) {
			return o, true
		}
	}
	return store.Object{}, false
}

// Content implements store.Catalog.
func (c *Catalog) Content(ctx context.Context, id store.ID) (out store.Content, err error) {
	err = c.read(ctx, func(r *rows) error {
		row := r.content(id)
		if row == nil {
			return notExist("content %v", id)
		}
		out = r.public(row)
		return nil
	})
	return out, err
}

func (r *rows) public(c *content) store.Content {
	out := c.public()
	if c.inline() {
		out.Inline = r.inlineBytes(c.id)
	}
	return out
}

// public is what the outside sees of a content, but for its bytes.
func (c *content) public() store.Content {
	return store.Content{ID: c.id, Size: c.size, Refs: c.refs, Code: c.code, Upload: c.upload, Offset: c.offset}
}

// Extent implements store.Catalog.
func (c *Catalog) Extent(ctx context.Context, id store.ExtentID) (store.Extent, error) {
	return c.oneExtent(ctx, func(r *rows) *store.Extent { return r.extent(id) }, "extent %v", id)
}

// ExtentAt implements store.Catalog.
func (c *Catalog) ExtentAt(ctx context.Context, upload store.UploadID, ordinal int) (store.Extent, error) {
	return c.oneExtent(ctx, func(r *rows) *store.Extent {
		if ordinal < 0 || ordinal > 1<<30 {
			return nil
		}
		return r.extentAt(upload, uint32(ordinal))
	}, "extent %d of upload %v", ordinal, upload)
}

func (c *Catalog) oneExtent(ctx context.Context, f func(*rows) *store.Extent, format string, args ...any) (out store.Extent, err error) {
	err = c.read(ctx, func(r *rows) error {
		x := f(r)
		if x == nil {
			return notExist(format, args...)
		}
		out = *x
		return nil
	})
	return out, err
}

// Upload implements store.Catalog.
func (c *Catalog) Upload(ctx context.Context, id store.UploadID) (out store.Upload, err error) {
	err = c.read(ctx, func(r *rows) error {
		u := r.upload(id)
		if u == nil {
			return notExist("upload %v", id)
		}
		out = u.public()
		if u.kind == store.KindSegment || u.kind == store.KindSnapshot {
			out.Kept = r.keptRow(id)
		}
		return nil
	})
	return out, err
}

// State implements store.Catalog.
func (c *Catalog) State(ctx context.Context, name string) (value []byte, err error) {
	err = c.read(ctx, func(r *rows) error {
		value, _ = r.get(key(tState, name))
		return nil
	})
	return value, err
}

// Inode returns the current version of the name, or the directory, that has the
// inode.
func (c *Catalog) Inode(ctx context.Context, inode uint64) (o store.Object, err error) {
	err = c.read(ctx, func(r *rows) error {
		n := r.node(inode)
		if n == nil {
			return notExist("inode %d", inode)
		}
		ok := false
		if o, ok = r.object(n, r.path(n)); !ok {
			return notExist("inode %d", inode)
		}
		return nil
	})
	return o, err
}

// Extents implements store.Catalog.
func (c *Catalog) Extents(ctx context.Context, past store.ExtentID) iter.Seq2[store.Extent, error] {
	return stream(ctx, c, func(r *rows, yield func(store.Extent) bool) error {
		for row := range r.scan([]byte{tExtent}, append(key(tExtent, past), 0)) {
			if x := r.parseExtent(row); x == nil || !yield(*x) {
				return nil
			}
		}
		return nil
	})
}

func (r *rows) parseExtent(row kv.KV) *store.Extent {
	return r.extent(store.ExtentID(row.Key[1:]))
}

// Uploads implements store.Catalog.
func (c *Catalog) Uploads(ctx context.Context, past store.UploadID) iter.Seq2[store.Upload, error] {
	return stream(ctx, c, func(r *rows, yield func(store.Upload) bool) error {
		for row := range r.scan([]byte{tUpload}, append(key(tUpload, past), 0)) {
			u := &upload{id: store.UploadID(row.Key[1:])}
			if !r.decode(row.Key, row.Value, u.decode) || !yield(u.public()) {
				return nil
			}
		}
		return nil
	})
}

// Repairs implements store.Catalog.
func (c *Catalog) Repairs(ctx context.Context) iter.Seq2[store.Repair, error] {
	return stream(ctx, c, func(r *rows, yield func(store.Repair) bool) error {
		for row := range r.scan([]byte{tQueue}, nil) {
			q := parseQueued(row.Key, row.Value)
			if q == nil {
				r.fail(corrupt("repair row %q", row.Key))
				return nil
			}
			if !yield(q.public()) {
				return nil
			}
		}
		return nil
	})
}

// Queued implements store.Catalog.
func (c *Catalog) Queued(ctx context.Context, id store.ExtentID) (list []store.Repair, err error) {
	err = c.readState(ctx, func(r *rows) error {
		list = nil
		for row := range r.scan(key(tQueued, id), nil) {
			if len(row.Key) != len((&queued{}).find()) {
				r.fail(corrupt("repair row %q", row.Key))
				return nil
			}
			if q, ok := r.queue(id, row.Key[17], store.BackendID(row.Key[18:])); ok {
				list = append(list, q.public())
			}
		}
		return nil
	})
	return list, err
}

// Inline implements store.Catalog. Each content is as of a state of its own: who packs
// them compares, and while they wait in memory looking at them costs little.
func (c *Catalog) Inline(ctx context.Context) iter.Seq2[store.Inline, error] {
	return func(yield func(store.Inline, error) bool) {
		v := c.view.Load()
		waiting, spilled := v.waiting() // first: what becomes a row meanwhile is in both
		var last *inlined
		if spilled {
			for in, err := range c.spilled(ctx) {
				if err != nil {
					yield(store.Inline{}, err)
					return
				}
				if last = in; !c.inline(ctx, in, yield) {
					return
				}
			}
			if c.view.Load() != v { // which of them are rows is up to each view
				yield(store.Inline{}, fmt.Errorf("catalog: %w", errDamaged))
				return
			}
		}
		for _, in := range waiting {
			if last != nil && byAge(in, last) <= 0 {
				continue
			}
			if !c.inline(ctx, in, yield) {
				return
			}
		}
	}
}

// spilled yields the contents that are rows, oldest first.
func (c *Catalog) spilled(ctx context.Context) iter.Seq2[*inlined, error] {
	return stream(ctx, c, func(r *rows, yield func(*inlined) bool) error {
		for row := range r.scan([]byte{tInlineAge}, nil) {
			id := store.ID(row.Key[len(row.Key)-len(store.ID{}):])
			if in := parseInline(id, r.inlineRow(id)); in == nil || !yield(in) {
				return nil
			}
		}
		return nil
	})
}

// inline yields a content, if it still is inline.
func (c *Catalog) inline(ctx context.Context, in *inlined, yield func(store.Inline, error) bool) bool {
	var out store.Inline
	err := c.read(ctx, func(r *rows) error {
		out = store.Inline{}
		row := r.content(in.id)
		if row == nil || !row.inline() || row.record != in.record || row.number != in.number {
			return nil
		}
		r.owners(row, func(o store.Owner) bool {
			out.Names = append(out.Names, o.Object)
			return len(out.Names) < store.MaxInlineNames
		})
		out.Content = row.public()
		out.Content.Inline = in.bytes()
		return nil
	})
	if err == nil && out.Content.Inline == nil {
		return true // packed, or gone
	}
	return yield(out, err) && err == nil
}

// Owners implements store.Catalog.
func (c *Catalog) Owners(ctx context.Context, upload store.UploadID, lo, hi int64) iter.Seq2[store.Owner, error] {
	return stream(ctx, c, func(r *rows, yield func(store.Owner) bool) error {
		u := r.upload(upload)
		if u == nil || hi <= lo || hi <= 0 {
			return nil
		}
		// No content that begins before from reaches lo.
		from := max(0, lo-u.largest)
		prefix := key(tPlace, upload)
		for row := range r.scan(prefix, key(tPlace, upload, uint64(from))) {
			offset := int64(be64(row.Key[len(prefix) : len(prefix)+8]))
			if offset >= hi {
				return nil
			}
			content := r.content(store.ID(row.Key[len(prefix)+8:]))
			if content == nil || offset+content.size <= lo {
				continue
			}
			if !r.owners(content, yield) {
				return nil
			}
		}
		return nil
	})
}

// owners yields the versions that refer to a content.
func (r *rows) owners(c *content, yield func(store.Owner) bool) bool {
	left := c.refs
	if c.inode != 0 {
		if left--; !r.owner(c, c.inode, c.version, yield) {
			return false
		}
	}
	if left == 0 {
		return true
	}
	for row := range r.scan(key(tReferrer, c.id), nil) {
		k := row.Key[1+len(c.id):]
		if !r.owner(c, be64(k[:8]), be64(k[8:]), yield) {
			return false
		}
	}
	return r.err == nil
}

// owner yields one of them.
func (r *rows) owner(c *content, inode, number uint64, yield func(store.Owner) bool) bool {
	n, v := r.node(inode), r.version(inode, number)
	if n == nil || v == nil {
		if r.err == nil {
			r.fail(corrupt("content %v is referred to by nothing", c.id))
		}
		return false
	}
	return yield(store.Owner{Object: v.object(r.path(n)), Offset: c.offset})
}

// join is path.Join for a directory of the catalog and a component.
func join(dir, comp string) string {
	if dir == "." {
		return comp
	}
	return path.Join(dir, comp)
}
