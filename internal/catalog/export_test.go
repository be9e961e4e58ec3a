package catalog

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/blockframe/blockframe/internal/kv"
	"github.com/blockframe/blockframe/store"
)

// View returns Pebble under the view as it is now.
func (c *Catalog) View() *kv.DB { return c.view.Load().db }

// Settle writes the rows of all records to Pebble.
func (c *Catalog) Settle() error { return c.view.Load().settle() }

// Flush writes the rows of all records to disk.
func (c *Catalog) Flush() error { return c.view.Load().flush(c.Applied()) }

// FlushSoon starts what Flush does.
func (c *Catalog) FlushSoon() error {
	if err := c.Settle(); err != nil {
		return err
	}
	return c.View().FlushSoon()
}

// ContentWhile is Content, and calls during in the middle of each try.
func (c *Catalog) ContentWhile(ctx context.Context, id store.ID, during func()) (out store.Content, err error) {
	err = c.read(ctx, func(r *rows) error {
		row := r.content(id)
		during()
		out = r.public(row)
		return nil
	})
	return out, err
}

// InlineMemory returns about how many bytes the contents in memory take, and those that
// are gone but not forgotten.
func (c *Catalog) InlineMemory() (live, gone int) {
	v := c.view.Load()
	v.mu.RLock()
	defer v.mu.RUnlock()
	for _, in := range v.inline.queue {
		if v.inline.byID[in.id] == in {
			live += in.cost()
		} else {
			gone += in.cost()
		}
	}
	return live, gone
}

// InlineChanges returns how many rows of inline contents wait to be written to Pebble.
func (c *Catalog) InlineChanges() (n int) {
	v := c.view.Load()
	v.mu.RLock()
	defer v.mu.RUnlock()
	for key := range v.front.rows {
		if key[0] == tInline || key[0] == tInlineAge {
			n++
		}
	}
	return n
}

// RenewFrom closes the view, and makes another one of a snapshot and the records behind it.
func (c *Catalog) RenewFrom(s *Saved) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.build(c.meta.Load().applied, s)
}

// ReadSnapshot decodes a snapshot, and encodes what it found.
func ReadSnapshot(r io.Reader) (again []byte, rows []kv.KV, err error) {
	s, err := newSnapReader(r)
	if err != nil {
		return nil, nil, err
	}
	var out bytes.Buffer
	w := &snapWriter{w: &out}
	w.head(&meta{storeID: s.info.storeID, applied: s.info.index, hash: s.info.hash})
	for {
		list, err := s.next()
		if err == io.EOF {
			w.flush()
			return out.Bytes(), rows, w.err
		}
		if err != nil {
			return nil, rows, err
		}
		for _, row := range list {
			w.row(row)
			rows = append(rows, kv.KV{Key: bytes.Clone(row.Key), Value: bytes.Clone(row.Value)})
		}
		w.flush()
	}
}

// Rows returns the rows that an audit looks at.
func (c *Catalog) Rows(ctx context.Context) (list []kv.KV, err error) {
	err = c.readState(ctx, func(r *rows) error {
		for _, table := range []byte{tNode, tDirent, tParked, tVersion, tContent, tReferrer, tUpload, tPlace, tExtent, tOrdinal, tHeld, tQueue, tQueued} {
			for row := range r.scan([]byte{table}, nil) {
				list = append(list, kv.KV{Key: bytes.Clone(row.Key), Value: bytes.Clone(row.Value)})
			}
		}
		return nil
	})
	return list, err
}

// AuditAs audits what there would be if a row had another value, nil: if it were gone.
func (c *Catalog) AuditAs(ctx context.Context, key, value []byte) (rep store.AuditReport, err error) {
	err = c.readState(ctx, func(r *rows) error {
		o := kv.NewOverlay(r.r)
		if value == nil {
			err = o.Delete(key)
		} else {
			err = o.Set(key, value)
		}
		if err != nil {
			return err
		}
		over := &rows{r: o}
		return errors.Join(over.audit(ctx, &rep), over.err)
	})
	return rep, err
}
