package blockframe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/blockframe/blockframe/store"
)

// ErrChanged says that a file was modified, lengthened or truncated while it was
// put: what was read is no state that the file ever had. Nothing was stored.
// Putting it again is the cure.
var ErrChanged = errors.New("blockframe: source changed while it was read")

// tick is more than the resolution of the times that filesystems keep: Linux
// stamps files with the time of the last timer interrupt, up to 10 ms ago
// (ktime_get_coarse_real_ts64).
const tick = 20 * time.Millisecond

// PutFile stores a file of the operating system with its mode, owner,
// modification time and extended attributes, unless opts.Attr says otherwise. A
// symbolic link at path is followed.
//
// The file must be regular. One that is changed while it is read gives ErrChanged
// and no object: its size, times and length read are compared. A file that is
// written to through a memory map may change without a trace until it is synced.
func (s *Store) PutFile(ctx context.Context, name, path string, opts PutOptions) (Object, error) {
	f, err := openSource(path, &opts)
	if err != nil {
		return Object{}, fmt.Errorf("put %s: %w", name, err)
	}
	defer f.Close()
	return s.Put(ctx, name, f, opts)
}

// openSource opens a regular file and fills in the attributes that opts leaves out.
func openSource(path string, opts *PutOptions) (*os.File, error) {
	// Stat before Open: opening a pipe would wait for its other end.
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "put", Path: path, Err: fmt.Errorf("%w: not a regular file (%v)", fs.ErrInvalid, info.Mode().Type())}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if opts.Attr == nil {
		attr, err := openFileAttr(f)
		if err != nil {
			f.Close()
			return nil, err
		}
		opts.Attr = &attr
	}
	return f, nil
}

// announce returns r, and the number of bytes that it will yield as far as that
// can be known, 0 if not. A file is watched: its end is an error if it changed
// since.
func announce(ctx context.Context, r io.Reader) (io.Reader, int64, error) {
	switch v := r.(type) {
	case *bytes.Reader:
		return r, int64(v.Len()), nil
	case *bytes.Buffer:
		return r, int64(v.Len()), nil
	case *strings.Reader:
		return r, int64(v.Len()), nil
	case *store.Reader:
		at, err := v.Seek(0, io.SeekCurrent)
		return r, max(v.Size()-at, 0), err
	case fs.File:
		return watch(ctx, v)
	}
	return bounded(ctx, r), 0, nil
}

// boundedReader reads from a reader that may block for as long as it likes, no longer
// than until its context ends. A Read that is under way then goes on, into memory that
// nobody else uses.
type boundedReader struct {
	ctx  context.Context
	r    io.Reader
	buf  []byte
	rest []byte // of buf, not handed out yet
	err  error
	got  chan readResult
}

type readResult struct {
	n        int
	err      error
	panicked bool
	value    any
}

// A boundedReader has so much memory.
const (
	boundedLeast = 4 << 10
	boundedMost  = 256 << 10
)

// noProgress is how many reads without bytes or error a reader may make in a row.
const noProgress = 100

// bounded returns a reader of r that fails when ctx ends.
func bounded(ctx context.Context, r io.Reader) io.Reader {
	if ctx.Done() == nil {
		return r
	}
	return &boundedReader{ctx: ctx, r: r, got: make(chan readResult, 1)}
}

// Read implements io.Reader.
func (b *boundedReader) Read(p []byte) (n int, err error) {
	for tries := 0; len(b.rest) == 0 && b.err == nil && len(p) > 0; tries++ {
		if tries == noProgress {
			b.err = io.ErrNoProgress
			break
		}
		b.fill(len(p))
	}
	n = copy(p, b.rest)
	if b.rest = b.rest[n:]; len(b.rest) == 0 {
		err = b.err
	}
	return n, err
}

// fill reads once.
func (b *boundedReader) fill(want int) {
	if want = min(want, boundedMost); cap(b.buf) < want {
		b.buf = make([]byte, max(want, boundedLeast))
	}
	buf := b.buf[:want]
	go func() {
		res := readResult{panicked: true}
		defer func() {
			if res.panicked {
				res.value = recover()
			}
			b.got <- res
		}()
		res.n, res.err = b.r.Read(buf)
		res.panicked = false
	}()
	select {
	case res := <-b.got:
		if res.panicked { // in whose goroutine it would be without us
			panic(res.value)
		}
		if res.n < 0 || res.n > want {
			res = readResult{err: fmt.Errorf("%w: the source says that it read %d bytes, of %d at most", fs.ErrInvalid, res.n, want)}
		}
		b.rest, b.err = buf[:res.n], res.err
	case <-b.ctx.Done():
		b.err = b.ctx.Err() // buf is written to yet
	}
}

// watched is a regular file that is being put.
type watched struct {
	f      fs.File
	before fs.FileInfo
}

// watch returns a reader of the rest of f that fails at the end if f changed
// meanwhile. What is no regular file is returned as it is.
func watch(ctx context.Context, f fs.File) (io.Reader, int64, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return bounded(ctx, f), 0, nil
	}
	if info, err = settled(ctx, f, info); err != nil {
		return nil, 0, err
	}
	seeker, ok := f.(io.Seeker)
	if !ok {
		return &watched{f, info}, 0, nil // may have been read from: the rest is unknown
	}
	at, err := seeker.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, 0, err
	}
	return &watched{f, info}, max(info.Size()-at, 0), nil
}

// settled returns the state of a file whose modification time lies at least a
// tick back: a later change cannot have the same one. It waits for that, which is
// nothing but for a file that was written just now.
func settled(ctx context.Context, f fs.File, info fs.FileInfo) (fs.FileInfo, error) {
	age := time.Since(changed(info))
	if age < 0 || age >= tick {
		return info, nil
	}
	t := time.NewTimer(tick - age)
	defer t.Stop()
	select {
	case <-t.C:
		return f.Stat()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Read reads from the file.
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.f.Read(p)
	if err == io.EOF {
		if cerr := w.check(); cerr != nil {
			err = cerr
		}
	}
	return n, err
}

// check compares the file with what it was before.
func (w *watched) check() error {
	now, err := w.f.Stat()
	if err != nil {
		return err
	}
	switch {
	case now.Size() != w.before.Size():
		return fmt.Errorf("%w: %s had %d bytes, now it has %d", ErrChanged, now.Name(), w.before.Size(), now.Size())
	case !now.ModTime().Equal(w.before.ModTime()), !changed(now).Equal(changed(w.before)):
		return fmt.Errorf("%w: %s was modified at %v", ErrChanged, now.Name(), changed(now).UTC())
	}
	return nil
}
