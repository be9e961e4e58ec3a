package durabletest

import (
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/blockframe/blockframe/internal/durable"
)

// Options says what is done around each operation. Any may be nil. Operations
// of several goroutines overlap, and so do the calls of these functions: they
// may block, to hold one operation while others go on, but may not use the FS
// that calls them.
type Options struct {
	// Text replaces what differs from run to run, such as random ids, in the
	// names of the recorded text.
	Text func(name string) string

	// Before and After are called around each change, whether it fails or not.
	Before, After func(Op)

	// Fault makes an operation fail. See also [FS.SetFault].
	Fault func(Op) *Fault
}

// FS is a durable.FS that records, calls and fails as its Options say.
type FS struct {
	inner durable.FS
	opts  Options

	mu    sync.Mutex // guards what follows
	fault func(Op) *Fault
	n     int
	ops   []Op
}

var _ durable.FS = (*FS)(nil)

// New wraps inner.
func New(inner durable.FS, opts Options) *FS {
	return &FS{inner: inner, opts: opts, fault: opts.Fault}
}

// SetFault replaces the fault predicate, nil for none.
func (f *FS) SetFault(fault func(Op) *Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// Ops returns the recorded changes.
func (f *FS) Ops() []Op {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Op(nil), f.ops...)
}

// Count returns the number of the last change.
func (f *FS) Count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

// Reset forgets the recorded changes and begins to number from 1 again.
func (f *FS) Reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n, f.ops = 0, nil
}

// Log returns the recorded changes as text, one per line, with the names as
// Options.Text makes them.
func (f *FS) Log() string {
	text := f.opts.Text
	if text == nil {
		text = func(name string) string { return name }
	}
	var b strings.Builder
	for _, op := range f.Ops() {
		op.Name, op.To = text(op.Name), text(op.To)
		fmt.Fprintln(&b, op)
	}
	return b.String()
}

// do carries out one operation by calling act, with all that the options ask
// for around it. undo, if not nil, releases what act acquired when a fault
// makes the caller believe that it failed.
func (f *FS) do(op Op, act func() error, undo func()) error {
	op, fault := f.begin(op)
	if op.N > 0 && f.opts.Before != nil {
		f.opts.Before(op)
	}
	var err error
	if fault == nil || fault.Arm == After {
		err = act()
	}
	if op.N > 0 && f.opts.After != nil {
		f.opts.After(op)
	}
	if fault == nil {
		return err
	}
	if fault.Arm == After && err == nil && undo != nil {
		undo()
	}
	return durable.Classify(&fs.PathError{Op: string(op.Kind), Path: op.Name, Err: fault.Err})
}

// begin numbers and records op, and asks whether it shall fail.
func (f *FS) begin(op Op) (Op, *Fault) {
	f.mu.Lock()
	if op.Kind.Changes() {
		f.n++
		op.N = f.n
		f.ops = append(f.ops, op)
	}
	fault := f.fault
	f.mu.Unlock()
	if fault == nil {
		return op, nil
	}
	return op, fault(op)
}

func (f *FS) Create(name string, opts durable.CreateOptions) (durable.File, error) {
	return f.open(Op{Kind: Create, Name: name, Direct: opts.Direct}, func() (durable.File, error) { return f.inner.Create(name, opts) })
}

func (f *FS) Open(name string, opts durable.OpenOptions) (durable.File, error) {
	return f.open(Op{Kind: Open, Name: name}, func() (durable.File, error) { return f.inner.Open(name, opts) })
}

func (f *FS) OpenWrite(name string) (durable.File, error) {
	return f.open(Op{Kind: Open, Name: name}, func() (durable.File, error) { return f.inner.OpenWrite(name) })
}

func (f *FS) open(op Op, call func() (durable.File, error)) (durable.File, error) {
	var in durable.File
	err := f.do(op, func() (err error) { in, err = call(); return err }, func() { in.Close() })
	if err != nil {
		return nil, err
	}
	return &file{fs: f, in: in, name: op.Name}, nil
}

func (f *FS) Rename(old, new string) error {
	return f.do(Op{Kind: Rename, Name: old, To: new}, func() error { return f.inner.Rename(old, new) }, nil)
}

func (f *FS) RenameNew(old, new string) error {
	return f.do(Op{Kind: RenameNew, Name: old, To: new}, func() error { return f.inner.RenameNew(old, new) }, nil)
}

func (f *FS) Remove(name string) error {
	return f.do(Op{Kind: Remove, Name: name}, func() error { return f.inner.Remove(name) }, nil)
}

func (f *FS) RemoveAll(name string) error {
	return f.do(Op{Kind: RemoveAll, Name: name}, func() error { return f.inner.RemoveAll(name) }, nil)
}

func (f *FS) Mkdir(dir string) error {
	return f.do(Op{Kind: Mkdir, Name: dir}, func() error { return f.inner.Mkdir(dir) }, nil)
}

func (f *FS) MkdirAll(dir string) error {
	return f.do(Op{Kind: MkdirAll, Name: dir}, func() error { return f.inner.MkdirAll(dir) }, nil)
}

func (f *FS) SyncDir(dir string) error {
	return f.do(Op{Kind: SyncDir, Name: dir}, func() error { return f.inner.SyncDir(dir) }, nil)
}

func (f *FS) List(dir string) (names []string, err error) {
	err = f.do(Op{Kind: List, Name: dir}, func() (err error) { names, err = f.inner.List(dir); return err }, nil)
	return names, err
}

func (f *FS) Stat(name string) (info durable.Info, err error) {
	err = f.do(Op{Kind: Stat, Name: name}, func() (err error) { info, err = f.inner.Stat(name); return err }, nil)
	return info, err
}

func (f *FS) Lock(name string) (l io.Closer, err error) {
	err = f.do(Op{Kind: Lock, Name: name}, func() (err error) { l, err = f.inner.Lock(name); return err }, func() { l.Close() })
	if err != nil {
		return nil, err
	}
	return l, nil
}

func (f *FS) Usage(dir string) (total, free int64, err error) {
	err = f.do(Op{Kind: Usage, Name: dir}, func() (err error) { total, free, err = f.inner.Usage(dir); return err }, nil)
	return total, free, err
}

func (f *FS) Pebble() vfs.FS { return &pebbleFS{FS: f.inner.Pebble(), fs: f} }
