package dir

import (
	"context"
	"errors"
	"io/fs"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/store"
)

// readStep is how much is read between two looks at the context. The kernel
// cannot be called off a read that it has begun.
const readStep = 1 << 20

// reader reads one blob.
type reader struct {
	ctx  context.Context
	file durable.File
	size int64
}

// Open opens a blob. A read of the returned reader that has begun when ctx ends
// goes on to its next mebibyte. fs.ErrNotExist says that this one blob is
// absent; if all is, it is store.ErrUnavailable.
func (b *Backend) Open(ctx context.Context, key store.BackendKey, opts store.OpenOptions) (store.BackendReader, error) {
	if err := errors.Join(key.Validate(), ctx.Err()); err != nil {
		return nil, err
	}
	if b.hasClosed() {
		return nil, b.isClosed()
	}
	name, _ := b.blob(key)
	f, err := b.fs.Open(name, durable.OpenOptions{Uncached: opts.Uncached})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, b.gone(err)
	}
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &reader{ctx: ctx, file: f, size: size}, nil
}

func (r *reader) Size() int64 { return r.size }

func (r *reader) ReadAt(p []byte, off int64) (n int, err error) {
	for {
		if err := r.ctx.Err(); err != nil {
			return n, err
		}
		step := p[n:min(len(p), n+readStep)]
		m, err := r.file.ReadAt(step, off+int64(n))
		n += m
		if err != nil || n == len(p) {
			return n, err
		}
	}
}

func (r *reader) Close() error { return r.file.Close() }
