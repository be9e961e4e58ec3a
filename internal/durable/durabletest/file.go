package durabletest

import (
	"errors"

	"github.com/blockframe/blockframe/internal/durable"
)

// file is an open file of an FS.
type file struct {
	fs   *FS
	in   durable.File
	name string
	pos  int64 // where Read and Write go on
}

// transfer carries out a read or write. A fault returns 0 bytes, even in the
// arm in which they did arrive.
func (f *file) transfer(op Op, call func() (int, error)) (n int, err error) {
	op.Name = f.name
	err = f.fs.do(op, func() (err error) { n, err = call(); return err }, func() { n = 0 })
	return n, err
}

func (f *file) Read(p []byte) (int, error) {
	return f.transfer(Op{Kind: Read, Off: f.pos, Len: int64(len(p))}, func() (int, error) {
		n, err := f.in.Read(p)
		f.pos += int64(n)
		return n, err
	})
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	return f.transfer(Op{Kind: Read, Off: off, Len: int64(len(p))}, func() (int, error) { return f.in.ReadAt(p, off) })
}

func (f *file) Write(p []byte) (int, error) {
	return f.transfer(Op{Kind: Write, Off: f.pos, Len: int64(len(p))}, func() (int, error) {
		n, err := f.in.Write(p)
		f.pos += int64(n)
		return n, err
	})
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	return f.transfer(Op{Kind: Write, Off: off, Len: int64(len(p))}, func() (int, error) { return f.in.WriteAt(p, off) })
}

func (f *file) Sync() error { return f.fs.do(Op{Kind: Sync, Name: f.name}, f.in.Sync, nil) }

func (f *file) Size() (size int64, err error) {
	err = f.fs.do(Op{Kind: Stat, Name: f.name}, func() (err error) { size, err = f.in.Size(); return err }, nil)
	return size, err
}

// Close closes the file in either arm, so that no descriptor is lost.
func (f *file) Close() error {
	err := f.fs.do(Op{Kind: Close, Name: f.name}, func() error { return nil }, nil)
	return errors.Join(err, f.in.Close())
}
