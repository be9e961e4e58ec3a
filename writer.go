package blockframe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
)

// Writer takes the content of an object piece by piece. Nothing is visible before
// Commit. It is used by one goroutine at a time, and must be ended by Commit or
// Abort: until then it holds memory for at least one stripe, and the context that
// it was made with bounds its life. Options.SlabBytes divided by a stripe of the code
// is how many may have begun to store at a time: a Write of the next one waits until one
// of them ends.
type Writer struct {
	pipe *io.PipeWriter
	done chan struct{} // closed when the put has ended
	once sync.Once
	obj  Object
	err  error
}

var errAborted = errors.New("blockframe: put aborted")

// Create starts an object under name. opts are those of Put.
func (s *Store) Create(ctx context.Context, name string, opts PutOptions) (*Writer, error) {
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	release, err := s.begin()
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	r, pipe := io.Pipe()
	w := &Writer{pipe: pipe, done: make(chan struct{})}
	// A put that waits for the next piece waits in Read: both ends of its life
	// have to be told to the pipe.
	stop := context.AfterFunc(ctx, func() { pipe.CloseWithError(context.Cause(ctx)) })
	stopClose := context.AfterFunc(s.ctx, func() { pipe.CloseWithError(fs.ErrClosed) })
	go func() {
		defer release()
		defer close(w.done)
		w.obj, w.err = s.Put(ctx, name, r, opts)
		stop()
		stopClose()
		r.CloseWithError(w.err) // what is still being written learns why
	}()
	return w, nil
}

// Write adds to the content. An error is final, and is that of the put.
func (w *Writer) Write(p []byte) (int, error) {
	n, err := w.pipe.Write(p)
	if err == io.ErrClosedPipe { // the put has ended, or is about to
		<-w.done
		err = cmp.Or(w.err, err)
	}
	return n, err
}

// Commit ends the content and makes the object durable and visible, as Put does.
// A second call returns what the first did, and fails after Abort.
func (w *Writer) Commit() (Object, error) {
	w.once.Do(func() { w.pipe.Close() })
	<-w.done
	return w.obj, w.err
}

// Abort drops what was written. It does nothing after Commit.
func (w *Writer) Abort() error {
	w.once.Do(func() { w.pipe.CloseWithError(errAborted) })
	<-w.done
	return nil
}
