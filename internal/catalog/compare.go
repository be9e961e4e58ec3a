package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/kv"
)

// Compare makes another view from the log, in a directory of fsys, and returns how many
// rows are not the same in this one. It is 0 in a view that is what it should be. Records
// that are applied meanwhile would be told of. The other view is left for the caller to
// remove. It takes as long as to replay the log; fs.ErrNotExist is a log that does not
// reach back to its first record.
func (c *Catalog) Compare(ctx context.Context, fsys durable.FS, dir string) (differ int64, err error) {
	opts := c.opts
	opts.FS, opts.Dir = fsys, dir
	other := &Catalog{opts: opts, log: c.log}
	if err := fsys.MkdirAll(dir); err != nil {
		return 0, err
	}
	if err := other.anew(c.Applied()); err != nil {
		return 0, fmt.Errorf("catalog: %w", err)
	}
	defer func() { err = errors.Join(err, other.view.Load().db.Close()) }()
	err = other.readState(ctx, func(want *rows) error {
		return c.readState(ctx, func(got *rows) error {
			differ, err = compare(ctx, want.r, got.r)
			return err
		})
	})
	return differ, err
}

// Renew makes the view anew from the log, as if it were damaged.
func (c *Catalog) Renew() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.renew(errors.New("it is not what the log makes"))
}

// ownRows are the tables that each view has in its own way: which contents are rows while
// they wait to be packed, and what the meta row says of that.
var ownRows = []byte{tInline, tInlineAge, tMeta}

// compare counts the rows that two views do not have in common.
func compare(ctx context.Context, want, got kv.Reader) (differ int64, err error) {
	next, stop := iter.Pull2(got.Scan(nil, nil))
	defer stop()
	g, gerr, more := next()
	step := func() { g, gerr, more = next() }
	for w, err := range want.Scan(nil, nil) {
		if err := errors.Join(err, ctx.Err(), gerr); err != nil {
			return differ, err
		}
		for more && bytes.Compare(g.Key, w.Key) < 0 {
			differ += count(g.Key)
			if step(); gerr != nil {
				return differ, gerr
			}
		}
		if !more || !bytes.Equal(g.Key, w.Key) {
			differ += count(w.Key)
			continue
		}
		if !bytes.Equal(g.Value, w.Value) {
			differ += count(w.Key)
		}
		step()
	}
	for ; more; step() {
		if gerr != nil {
			return differ, gerr
		}
		differ += count(g.Key)
	}
	return differ, nil
}

// count is 1 for a row that all views have.
func count(key []byte) int64 {
	if len(key) > 0 && bytes.IndexByte(ownRows, key[0]) >= 0 {
		return 0
	}
	return 1
}
