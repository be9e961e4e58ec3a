package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/store"
)

// writer writes one blob to tmp/.
type writer struct {
	b      *Backend
	ctx    context.Context
	key    store.BackendKey
	temp   string
	file   durable.File // nil once closed
	failed error        // of a Write: the blob has a hole, and cannot be committed
	done   bool
}

// Create starts a blob. ctx bounds the life of the writer.
func (b *Backend) Create(ctx context.Context, key store.BackendKey) (store.BackendWriter, error) {
	if err := errors.Join(key.Validate(), ctx.Err()); err != nil {
		return nil, err
	}
	w := &writer{b: b, ctx: ctx, key: key, temp: b.at(tmpName, fmt.Sprintf("%08x", b.temps.Add(1)))}
	err := b.change(func() (err error) {
		w.file, err = b.fs.Create(w.temp, durable.CreateOptions{Direct: !b.opts.Buffered})
		if errors.Is(err, fs.ErrNotExist) {
			err = b.gone(err)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

// Write adds p to the blob. After an error nothing more can be written or
// committed, and the space is given back.
func (w *writer) Write(p []byte) (n int, err error) {
	if w.done {
		return 0, w.isDone("write")
	}
	if w.failed != nil {
		return 0, w.failed
	}
	w.failed = w.b.change(func() (err error) {
		if err = w.ctx.Err(); err == nil {
			n, err = w.file.Write(p)
		}
		return err
	})
	if w.failed != nil {
		w.drop()
	}
	return n, w.failed
}

// Commit makes the blob durable, then visible, then that durable. If the sync
// of its content or of its folder fails, the backend takes no more changes; a
// disk that turns out to be full fails this blob alone.
func (w *writer) Commit() error {
	if w.done {
		return w.isDone("commit")
	}
	w.done = true
	err := w.failed
	if err == nil {
		err = w.b.change(w.publish)
	}
	if err != nil {
		w.drop()
	}
	return err
}

func (w *writer) publish() error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if err := w.file.Sync(); err != nil {
		if !errors.Is(err, durable.ErrNoSpace) {
			w.b.refuse(err)
		}
		return err
	}
	// A crash here leaves a file in tmp/, which Open removes.
	if err := w.closeFile(); err != nil {
		return err
	}
	name, folder := w.b.blob(w.key)
	if err := w.rename(name, folder); err != nil {
		return err
	}
	// A crash here leaves the blob whole, in tmp/ or under its key, or drops it.
	return w.b.syncFolder(folder)
}

// rename makes the folder anew if somebody removed it.
func (w *writer) rename(name, folder string) error {
	err := w.b.fs.RenameNew(w.temp, name)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := w.b.gone(nil); err != nil {
		return err
	}
	if err := w.b.fs.MkdirAll(folder); err != nil {
		return err
	}
	return w.b.fs.RenameNew(w.temp, name)
}

// Abort drops what was written.
func (w *writer) Abort() error {
	if w.done {
		return nil
	}
	w.done = true
	w.drop()
	return nil
}

// drop closes the file and removes it. What cannot be removed now, Open will. Once the
// backend is closed nothing is: its next Open has done so, and may have given the name to
// another blob.
func (w *writer) drop() {
	if err := w.closeFile(); err != nil {
		w.b.log.Warn("unfinished blob", "file", w.temp, "err", err)
	}
	if w.temp == "" {
		return
	}
	err := w.b.whileOpen(func() error { return w.b.fs.Remove(w.temp) })
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrClosed) {
		w.b.log.Warn("unfinished blob remains", "file", w.temp, "err", err)
	}
	w.temp = ""
}

func (w *writer) closeFile() error {
	if w.file == nil {
		return nil
	}
	f := w.file
	w.file = nil
	return f.Close()
}

func (w *writer) isDone(op string) error {
	return &fs.PathError{Op: op, Path: string(w.key), Err: fs.ErrClosed}
}
