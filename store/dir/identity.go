package dir

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/store"
)

// Identity says which store a directory belongs to, and which of its disks it
// is, so that a disk which was moved, or mounted in another's place, is
// recognised.
//
// The file id holds it twice, each copy 4096 bytes, of which the first that is
// sound counts. Integers are big-endian:
//
//	offset size field
//	0      8    magic 89 42 46 44 0D 0A 1A 0A
//	8      2    version, 1: compared before anything else is looked at
//	10     2    zero
//	12     16   store id
//	28     16   disk id
//	44     4020 zero
//	4064   32   BLAKE3 of the 4064 bytes before
type Identity struct {
	Store [16]byte
	Disk  store.BackendID
}

const (
	idMagic   = "\x89BFD\r\n\x1a\n"
	idVersion = 1
	idSize    = frame.Grid // of one copy
	idCopies  = 2
)

// encode returns one copy.
func (id Identity) encode() []byte {
	e := frame.Encoder{B: make([]byte, 0, idSize)}
	e.Raw([]byte(idMagic))
	e.U16(idVersion)
	e.U16(0)
	e.Raw(id.Store[:])
	e.Raw(id.Disk[:])
	e.Raw(make([]byte, idSize-32-len(e.B)))
	sum := frame.Sum(e.B)
	e.Raw(sum[:])
	return e.B
}

// encodeFile returns the content of the file id.
func (id Identity) encodeFile() []byte {
	one := id.encode()
	return append(one, one...)
}

// decodeIdentity reads one copy.
func decodeIdentity(b []byte) (Identity, error) {
	d := frame.NewDecoder(b)
	if len(b) != idSize {
		d.Fail("identity has %d bytes, want %d", len(b), idSize)
	}
	if magic := string(d.Raw(8)); magic != idMagic {
		d.Fail("identity begins with %q", magic)
	}
	version := d.U16()
	if d.Err() == nil && version != idVersion {
		return Identity{}, fmt.Errorf("%w: identity has version %d, want %d", frame.ErrVersion, version, idVersion)
	}
	if d.U16() != 0 {
		d.Fail("identity has bytes set that must be zero")
	}
	id := Identity{Store: d.ID(), Disk: d.ID()}
	if d.Err() == nil && !frame.Zero(d.Raw(idSize-32-44)) {
		d.Fail("identity has bytes set that must be zero")
	}
	if sum := d.Hash(); d.Err() == nil && sum != frame.Sum(b[:idSize-32]) {
		d.Fail("identity does not match its hash")
	}
	if d.Err() == nil && id.Disk.IsZero() {
		d.Fail("identity has no disk id")
	}
	return id, d.Done()
}

// decodeFile reads the file id. whole is false when a copy must be renewed.
func decodeFile(b []byte) (id Identity, whole bool, err error) {
	bad := 0
	for i := range idCopies {
		one := b[min(len(b), i*idSize):min(len(b), (i+1)*idSize)]
		got, derr := decodeIdentity(one)
		if derr != nil {
			bad++
			err = errors.Join(err, fmt.Errorf("copy %d: %w", i+1, derr))
		} else if id.Disk.IsZero() {
			id = got
		} else if id != got {
			bad++
		}
	}
	if bad < idCopies {
		err = nil
	}
	return id, bad == 0 && len(b) == idCopies*idSize, err
}

// ReadIdentity returns who a directory is, without locking it. It is
// fs.ErrNotExist if the directory is missing or holds no blob; store.ErrCorrupt
// or ErrVersion if there are blobs, but no identity that can be read. fsys is nil for
// the operating system's files.
func ReadIdentity(fsys durable.FS, path string) (Identity, error) {
	id, _, err := readIdentity(orOS(fsys), path)
	return id, err
}

func readIdentity(fsys durable.FS, dir string) (id Identity, whole bool, err error) {
	b := &Backend{fs: fsys, path: dir}
	raw, err := durable.ReadFile(fsys, b.at(idName), 1<<20)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Identity{}, false, b.whyNoIdentity()
	case errors.Is(err, fs.ErrInvalid): // far too long
		return Identity{}, false, fmt.Errorf("%w: %w", frame.ErrCorrupt, err)
	case err != nil:
		return Identity{}, false, err
	}
	id, whole, err = decodeFile(raw)
	if err != nil {
		err = fmt.Errorf("%s: %w", b.at(idName), err)
	}
	return id, whole, err
}

// whyNoIdentity tells a directory that never was one of ours, or was emptied,
// from one that lost its identity.
func (b *Backend) whyNoIdentity() error {
	holds, err := b.firstBlob()
	if err != nil {
		return err
	}
	if holds != "" {
		return fmt.Errorf("%s is missing, but there is %s: %w", b.at(idName), holds, frame.ErrCorrupt)
	}
	return fmt.Errorf("%s is missing or empty: %w", b.path, &fs.PathError{Op: "open", Path: b.at(idName), Err: fs.ErrNotExist})
}

// firstBlob returns the place of some blob, "" if there is none.
func (b *Backend) firstBlob() (string, error) {
	for i := range folders {
		names, err := b.fs.List(b.at(dataName, folderName(i)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if len(names) > 0 {
			return b.at(dataName, folderName(i), names[0]), nil
		}
	}
	return "", nil
}
