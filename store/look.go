package store

import (
	"context"
	"time"
)

// look is a blob that is open for a look at what the medium has, on a backend that may
// stop to answer. It is used by one goroutine at a time.
type look struct {
	d    *disk
	key  BackendKey
	r    BackendReader
	left bool // a call was left behind, and closes r
}

// lookAt opens the blob of shard i.
func (s *Store) lookAt(ctx context.Context, e *Extent, i int) (*look, error) {
	open := func() (BackendReader, error) { return s.openBlob(ctx, e, i, OpenOptions{Uncached: true}) }
	return s.disk(e.Shards[i].Backend).look(ctx, e.Key(i), open)
}

// look opens a blob.
func (d *disk) look(ctx context.Context, key BackendKey, open func() (BackendReader, error)) (*look, error) {
	l := &look{d: d, key: key}
	var r BackendReader
	_, err := d.await(ctx, stallTime, "open", key, func() (err error) { r, err = open(); return err }, func(err error) {
		if err == nil {
			r.Close()
		}
	})
	if err != nil {
		return nil, err // r may be written to yet
	}
	l.r = r
	return l, nil
}

// do calls f with the open blob. When left is true, f goes on, with all that it uses:
// free, if not nil, is called at its end. Nothing more can be done with the blob then.
func (l *look) do(ctx context.Context, f func(r BackendReader) error, free func()) (left bool, err error) {
	l.left, err = l.d.await(ctx, stallTime, "read", l.key, func() error {
		defer l.d.trouble.took(time.Now())
		return f(l.r)
	}, func(error) {
		l.r.Close()
		if free != nil {
			free()
		}
	})
	return l.left, err
}

// close closes the blob, unless a call that was left behind will.
func (l *look) close() {
	if l != nil && !l.left {
		l.r.Close()
	}
}

// withBlob calls f with the blob of shard i that readers use. When it returns an error,
// f may go on, with all that it uses.
func (s *Store) withBlob(ctx context.Context, x *handle, i int, f func(r BackendReader) error) error {
	s.open.retain(x)
	left, err := s.disk(x.e.Shards[i].Backend).await(ctx, stallTime, "read", x.e.Key(i), func() error {
		r, err := x.blob(ctx, s, i)
		if err != nil {
			return err
		}
		return f(r)
	}, func(error) { s.open.put(x) })
	if !left {
		s.open.put(x)
	}
	return err
}
