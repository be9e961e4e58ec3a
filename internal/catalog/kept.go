package catalog

import (
	"context"
	"errors"

	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/store"
)

// keptKey is the key of the row of a stream that is kept. There are a few dozen of them.
func keptKey(id store.UploadID) []byte { return append(newKey(tKept, len(id)), id[:]...) }

func encodeKept(e *frame.Encoder, k *store.Kept) error {
	if err := checkKept(k); err != nil {
		return err
	}
	e.U8(uint8(k.Kind))
	e.Raw(k.Upload[:])
	e.Raw(k.ID[:])
	e.I64(k.Size)
	e.U64(k.Number)
	e.U64(k.First)
	e.U64(k.Last)
	return nil
}

func decodeKept(d *frame.Decoder) store.Kept {
	k := store.Kept{Kind: store.Kind(d.U8()), Upload: d.ID(), ID: d.Hash(), Size: d.I64(), Number: d.U64(), First: d.U64(), Last: d.U64()}
	if d.Err() == nil {
		if err := checkKept(&k); err != nil {
			d.Fail("%v", err)
		}
	}
	return k
}

func checkKept(k *store.Kept) error {
	switch err := k.Check(); {
	case err != nil:
		return invalid("kept: %v", err)
	case k.Upload.IsZero():
		return invalid("kept: no upload id")
	case k.Size < 1 || k.Size > 1<<61:
		return invalid("kept upload %v: size %d", k.Upload, k.Size)
	}
	return nil
}

func encodeKeep(e *frame.Encoder, c *store.Keep) error {
	if err := checkKeep(c); err != nil {
		return err
	}
	if err := encodeKept(e, &c.Kept); err != nil {
		return err
	}
	e.U32(uint32(len(c.Extents)))
	for i := range c.Extents {
		if err := encodeExtent(e, &c.Extents[i]); err != nil {
			return err
		}
	}
	return nil
}

func decodeKeep(d *frame.Decoder) (c store.Keep) {
	c.Kept = decodeKept(d)
	for range d.Count(minExtent) {
		c.Extents = append(c.Extents, decodeExtent(d))
	}
	if d.Err() == nil {
		if err := checkKeep(&c); err != nil {
			d.Fail("%v", err)
		}
	}
	return c
}

func checkKeep(c *store.Keep) error {
	for i := range c.Extents {
		if c.Extents[i].Upload != c.Upload || c.Extents[i].Kind != c.Kind {
			return invalid("keep upload %v: extent of another upload or kind", c.Upload)
		}
	}
	return nil
}

// kept returns the row of a stream that is kept, or nil.
func (r *rows) keptRow(id store.UploadID) *store.Kept {
	var k store.Kept
	if !r.load(keptKey(id), func(d *frame.Decoder) { k = decodeKept(d) }) {
		return nil
	}
	return &k
}

// keep makes an upload live by a row of its own.
func (t *tx) keep(c *store.Keep) store.Result {
	if old := t.keptRow(c.Upload); old != nil {
		if *old != c.Kept {
			return store.Result{Err: refuse(ErrConflict, "upload %v is kept as %v", c.Upload, *old)}
		}
		return store.Result{}
	}
	for i := range c.Extents {
		if _, _, err := t.addExtent(&c.Extents[i]); err != nil {
			return store.Result{Err: err}
		}
	}
	u := t.upload(c.Upload)
	switch {
	case u == nil:
		return store.Result{Err: refuse(ErrExpired, "keep: nothing is recorded of upload %v", c.Upload)}
	case u.state == store.UploadDead:
		return store.Result{Err: refuse(ErrExpired, "keep: upload %v is dead", c.Upload)}
	case u.kind != c.Kind || u.length != c.Size:
		return store.Result{Err: invalid("keep upload %v: kind %d with %d bytes, want kind %d with %d", c.Upload, u.kind, u.length, c.Kind, c.Size)}
	}
	if x := t.extentAt(u.id, 0); x != nil && x.Whole && store.ID(x.Hash) != c.ID {
		return store.Result{Err: invalid("keep upload %v: extent %v holds another content than %v", u.id, x.ID, c.ID)}
	}
	var e frame.Encoder
	must(encodeKept(&e, &c.Kept))
	t.save(keptKey(c.Upload), e.B)
	t.gain(c.Upload)
	return store.Result{Changed: true}
}

// release takes the row away. What has no name cannot be revived: it needs no grace.
func (t *tx) release(id store.UploadID) store.Result {
	if t.keptRow(id) == nil {
		return store.Result{}
	}
	t.del(keptKey(id))
	t.lose(id)
	if u := t.upload(id); u != nil && u.state == store.UploadCondemned {
		u.until = t.now
		t.saveUpload(u)
	}
	return store.Result{Changed: true}
}

// Kept returns the streams that are kept, sealed segments and snapshots, in the order of
// their upload ids.
func (c *Catalog) Kept(ctx context.Context) ([]store.Kept, error) {
	var list []store.Kept
	for k, err := range stream(ctx, c, func(r *rows, yield func(store.Kept) bool) error {
		for row := range r.scan([]byte{tKept}, nil) {
			var k store.Kept
			if !r.decode(row.Key, row.Value, func(d *frame.Decoder) { k = decodeKept(d) }) || !yield(k) {
				return nil
			}
		}
		return nil
	}) {
		if err != nil {
			return nil, err
		}
		list = append(list, k)
	}
	return list, nil
}

// errLogTrimmed is why a view cannot be used that needs records which the log does not
// hold any more.
var errLogTrimmed = errors.New("it needs records that are not in the log any more")
