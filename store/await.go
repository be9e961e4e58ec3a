package store

import (
	"context"
	"fmt"
	"time"
)

// A backend may take a call and not come back from it: a disk that died, or a server
// that is gone, holds whoever asks it for as long as it likes, whatever their context
// says. Nobody waits for it longer than this.
const (
	// stallTime is how long a call may make no progress before the backend counts as
	// failed. Linux gives a disk as long before it resets it (the default of the
	// timeout of a SCSI command), so that whoever is only slow comes back in time.
	stallTime = 30 * time.Second

	// stallRate is what a commit has more time for, in bytes a second: it may have to
	// write out all that came before it.
	stallRate = 4 * miB

	// leaveTime is how long a call is waited for after the end of its context: one
	// that takes notice of it ends much sooner, and then all is cleared away when the
	// caller hears of it.
	leaveTime = time.Second

	// maxLeft is how many calls of a backend may be left behind before it is asked
	// nothing more: contexts may end much sooner than stallTime is over.
	maxLeft = 64
)

// call is a call of a backend. Its state is guarded by the mutex of the disk.
type call struct {
	op    string
	key   BackendKey
	until time.Time // when it has stalled
	left  bool
	ended bool
}

// stalled returns the error for a call that takes too long.
func (c *call) stalled() error {
	return fmt.Errorf("%w: %s %s does not return", ErrUnavailable, c.op, c.key)
}

// await calls f, which does one thing with the backend, and returns its error. If that
// takes longer than patience, or does not end when ctx does, f is left behind: await
// returns why, and left is true. What f uses belongs to it from then on: nobody else
// may touch it before f ends, and then late, if not nil, is called with its error.
//
// While a call that was left behind has stalled, the backend is asked nothing else, and
// no shard is placed on it. So what gathers is bounded by what was under way when it
// stopped to answer. As soon as the last one ends, the backend is as good as before.
func (d *disk) await(ctx context.Context, patience time.Duration, op string, key BackendKey, f func() error, late func(error)) (left bool, err error) {
	if err := d.hangs(); err != nil {
		return false, err
	}
	return d.attempt(ctx, patience, op, key, f, late)
}

// attempt is await also while the backend hangs: for what must be done in the end.
func (d *disk) attempt(ctx context.Context, patience time.Duration, op string, key BackendKey, f func() error, late func(error)) (left bool, err error) {
	c := &call{op: op, key: key, until: time.Now().Add(patience)}
	ended := make(chan error, 1)
	go func() {
		err := f()
		if !d.end(c) {
			ended <- err
			return
		}
		if late != nil {
			late(err)
		}
		d.forget(c)
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err := <-ended:
		return false, err
	case <-timer.C:
		err = c.stalled()
	case <-ctx.Done():
		timer.Reset(leaveTime)
		select {
		case err := <-ended:
			return false, err
		case <-timer.C:
		}
		err = fmt.Errorf("%s %s: %w", op, key, ctx.Err())
	}
	if !d.leave(c) {
		return false, <-ended
	}
	return true, err
}

// leave leaves a call behind, unless it has ended.
func (d *disk) leave(c *call) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.ended {
		return false
	}
	if d.left == nil {
		d.left = map[*call]bool{}
	}
	c.left, d.left[c] = true, true
	return true
}

// end takes note of the end of a call, and reports whether it was left behind.
func (d *disk) end(c *call) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	c.ended = true
	return c.left
}

// forget takes a call that was left behind off the list: it has ended.
func (d *disk) forget(c *call) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.left, c)
}

// hangs returns why the backend is asked nothing now, nil if it may be.
func (d *disk) hangs() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.left) == 0 {
		return nil
	}
	now := time.Now()
	for c := range d.left {
		if len(d.left) >= maxLeft || !now.Before(c.until) {
			return c.stalled()
		}
	}
	return nil
}

// blobWriter writes a blob to a backend that may stop to answer. After an error it is
// good for nothing but abort.
type blobWriter struct {
	ctx  context.Context
	d    *disk
	key  BackendKey
	out  BackendWriter
	n    int64
	left bool // the last call was left behind, and has out
}

// newBlob starts a blob.
func (d *disk) newBlob(ctx context.Context, key BackendKey) (*blobWriter, error) {
	var out BackendWriter
	create := func() (err error) {
		if out, err = d.Create(ctx, key); err != nil {
			d.saw(err) // only a commit shows that the backend is well
		}
		return err
	}
	_, err := d.await(ctx, stallTime, "create", key, create, func(err error) {
		if err == nil {
			out.Abort()
		}
	})
	if err != nil {
		return nil, err // out may be written to yet
	}
	return &blobWriter{ctx: ctx, d: d, key: key, out: out}, nil
}

// write writes b. When left is true, b is in use still; free, if not nil, is called
// when it no longer is.
func (w *blobWriter) write(b []byte, free func()) (left bool, err error) {
	write := func() error {
		_, err := w.out.Write(b)
		if err != nil {
			w.d.saw(err)
		}
		return err
	}
	w.left, err = w.d.await(w.ctx, stallTime, "write", w.key, write, func(error) {
		w.out.Abort()
		if free != nil {
			free()
		}
	})
	w.n += int64(len(b))
	return w.left, err
}

// commit commits the blob. When the call was left behind, late is called with its
// outcome: the blob may have become visible, and no record names it.
func (w *blobWriter) commit(late func(error)) (err error) {
	patience := stallTime + time.Duration(w.n)*time.Second/stallRate
	commit := func() error {
		err := w.out.Commit()
		w.d.saw(err)
		return err
	}
	w.left, err = w.d.await(w.ctx, patience, "commit", w.key, commit, late)
	return err
}

// abort drops what was written, unless a call that was left behind will. It does nothing
// after a commit.
func (w *blobWriter) abort() {
	if w.left {
		return
	}
	ctx := w.ctx
	if w.d.hangs() != nil { // it is aborted all the same, but not waited for long
		gone, cancel := context.WithCancel(ctx)
		cancel()
		ctx = gone
	}
	w.d.attempt(ctx, stallTime, "abort", w.key, w.out.Abort, nil)
}
