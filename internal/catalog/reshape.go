package catalog

import (
	"context"
	"iter"

	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/store"
)

// narrowKey is the row of an upload that is marked by a Narrow.
func narrowKey(id store.UploadID) []byte { return key(tNarrow, id) }

// narrow marks an upload, or takes the mark away.
func (t *tx) narrow(c *store.Narrow) store.Result {
	k := narrowKey(c.Upload)
	_, had := t.get(k)
	if !c.On {
		if had {
			t.del(k)
		}
		return store.Result{Changed: had}
	}
	u := t.upload(c.Upload)
	if u == nil || u.state == store.UploadDead || had {
		return store.Result{}
	}
	t.setFlag(k)
	return store.Result{Changed: true}
}

// empty takes the mark of an upload away that no content lies in any more.
func (t *tx) empty(id store.UploadID) {
	for range t.scan(key(tPlace, id), nil) {
		return
	}
	t.unmark(id)
}

// unmark takes the mark of an upload away.
func (t *tx) unmark(id store.UploadID) {
	if _, had := t.get(narrowKey(id)); had {
		t.del(narrowKey(id))
	}
}

// reshape moves a content to an upload that has it in another code.
func (t *tx) reshape(c *store.Reshape) store.Result {
	for i := range c.Extents {
		if _, _, err := t.addExtent(&c.Extents[i]); err != nil {
			return store.Result{Err: err}
		}
	}
	u := t.upload(c.Upload)
	if u == nil || u.state == store.UploadDead {
		return store.Result{Err: refuse(ErrExpired, "reshape %v: nothing is recorded of upload %v, or it is dead", c.ID, c.Upload)}
	}
	first := t.extentAt(u.id, 0)
	if first == nil {
		return store.Result{} // t.err says why
	}
	if u.kind != store.KindObject || u.length != c.Size || first.Whole && store.ID(first.Hash) != c.ID {
		return store.Result{Err: invalid("reshape %v: upload %v holds something else", c.ID, u.id)}
	}
	row := t.content(c.ID)
	moves := row != nil && row.size == c.Size && row.refs > 0 && row.upload == c.From && c.From != u.id && u.missing == 0 &&
		(row.code.M <= first.Code.M || row.refs == c.Refs)
	if moves {
		t.place(row, c.ID, c.Size, spot{code: first.Code, upload: u.id})
		t.empty(c.From)
	}
	t.settle(u.id)
	return store.Result{Changed: moves}
}

// Narrow implements store.Catalog.
func (c *Catalog) Narrow(ctx context.Context, after store.UploadID) iter.Seq2[store.UploadID, error] {
	return stream(ctx, c, func(r *rows, yield func(store.UploadID) bool) error {
		for row := range r.scan([]byte{tNarrow}, append(narrowKey(after), 0)) {
			if !yield(store.UploadID(row.Key[1:])) {
				return nil
			}
		}
		return nil
	})
}

func encodeNarrow(e *frame.Encoder, c *store.Narrow) {
	e.Raw(c.Upload[:])
	e.Bool(c.On)
}

func decodeNarrow(d *frame.Decoder) store.Narrow {
	return store.Narrow{Upload: d.ID(), On: d.Bool()}
}

func encodeReshape(e *frame.Encoder, c *store.Reshape) error {
	if err := checkReshape(c); err != nil {
		return err
	}
	e.Raw(c.ID[:])
	e.I64(c.Size)
	e.Raw(c.From[:])
	e.Raw(c.Upload[:])
	e.U32(uint32(len(c.Extents)))
	for i := range c.Extents {
		if err := encodeExtent(e, &c.Extents[i]); err != nil {
			return err
		}
	}
	e.U64(c.Refs)
	return nil
}

func decodeReshape(d *frame.Decoder) (c store.Reshape) {
	c.ID, c.Size, c.From, c.Upload = d.Hash(), d.I64(), d.ID(), d.ID()
	for range d.Count(minExtent) {
		c.Extents = append(c.Extents, decodeExtent(d))
	}
	c.Refs = d.U64()
	if d.Err() == nil {
		if err := checkReshape(&c); err != nil {
			d.Fail("%v", err)
		}
	}
	return c
}

// checkReshape holds what can be said of it without looking at any row.
func checkReshape(c *store.Reshape) error {
	if c.From.IsZero() || c.Upload.IsZero() || c.Size < 1 || c.Size > 1<<61 {
		return invalid("reshape %v of %d bytes from upload %v to %v", c.ID, c.Size, c.From, c.Upload)
	}
	for i := range c.Extents {
		if c.Extents[i].Upload != c.Upload {
			return invalid("reshape %v: extent of another upload", c.ID)
		}
	}
	return nil
}
