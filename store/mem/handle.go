package mem

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"sync/atomic"

	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/store"
)

// writer gathers one blob.
type writer struct {
	b       *Backend
	ctx     context.Context
	key     store.BackendKey
	content content
	failed  error // of a Write: the blob has a hole, and cannot be committed
	done    bool
}

// Write copies p. After an error nothing more can be written or committed.
func (w *writer) Write(p []byte) (int, error) {
	if w.done {
		return 0, w.closed("write")
	}
	if !frame.IsAligned(p) && len(p) > 0 || w.content.size%frame.Grid != 0 {
		return 0, fmt.Errorf("%w: write of %d bytes at %d of %s is off the 4 KiB grid", fs.ErrInvalid, len(p), w.content.size, w.key)
	}
	if w.failed != nil {
		return 0, w.failed
	}
	n := 0
	w.failed = w.b.do(w.ctx, Op{Kind: Write, Key: w.key, Off: w.content.size, Len: int64(len(p))}, func() error {
		if err := w.b.reserve(int64(len(p))); err != nil {
			return err
		}
		w.content.append(p)
		n = len(p)
		return nil
	}, func() { n = 0 })
	return n, w.failed
}

// Commit makes the blob visible. In the Before arm of a fault what was written
// is dropped.
func (w *writer) Commit() error {
	if w.done {
		return w.closed("commit")
	}
	if w.failed != nil {
		w.finish(false)
		return w.failed
	}
	published := false
	err := w.b.do(w.ctx, Op{Kind: Commit, Key: w.key, Len: w.content.size}, func() error {
		err := w.b.publish(w.key, w.content)
		published = err == nil
		return err
	}, nil)
	w.finish(published)
	return err
}

// Abort drops what was written, also under a fault.
func (w *writer) Abort() error {
	if w.done {
		return nil
	}
	err := w.b.do(context.WithoutCancel(w.ctx), Op{Kind: Abort, Key: w.key}, func() error { return nil }, nil)
	w.finish(false)
	return err
}

func (w *writer) finish(published bool) {
	w.done = true
	w.b.hold(-1)
	if !published {
		_ = w.b.reserve(-w.content.size)
	}
	w.content = content{}
}

func (w *writer) closed(op string) error {
	return &fs.PathError{Op: op, Path: string(w.key), Err: fs.ErrClosed}
}

// reader reads one blob, as it is at the moment of each read: rot shows.
type reader struct {
	b      *Backend
	ctx    context.Context
	key    store.BackendKey
	blob   *blob
	size   int64
	closed atomic.Bool
}

// Size returns the length that the blob had when it was opened.
func (r *reader) Size() int64 { return r.size }

// ReadAt waits as long as the backend's latency says, but not beyond the end of
// the context.
func (r *reader) ReadAt(p []byte, off int64) (n int, err error) {
	if r.closed.Load() {
		return 0, &fs.PathError{Op: "read", Path: string(r.key), Err: fs.ErrClosed}
	}
	if off < 0 {
		return 0, &fs.PathError{Op: "read", Path: string(r.key), Err: fs.ErrInvalid}
	}
	eof := false
	err = r.b.do(r.ctx, Op{Kind: Read, Key: r.key, Off: off, Len: int64(len(p))}, func() error {
		c := r.blob.get()
		n = c.readAt(p, off)
		eof = n < len(p)
		return nil
	}, func() { n = 0 })
	if err == nil && eof {
		err = io.EOF
	}
	return n, err
}

func (r *reader) Close() error {
	if !r.closed.Swap(true) {
		r.b.hold(-1)
	}
	return nil
}
