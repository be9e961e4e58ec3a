package dir

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/store"
)

// formatText is what FORMAT.txt says; %x stand for the ids of store and disk.
const formatText = `This disk, or directory, is part of a blockframe store.

Store %x
Disk  %x

It holds pieces ("shards") of files, written so that the files survive damaged
and lost disks. Please do not change or delete anything here. If other
directories belong to the same store, keep them too: the files are put together
from several. Each has a FORMAT.txt like this one, with the same store id.

To get the files back, use blockframe, https://github.com/blockframe/blockframe:

    blockframe --store DIRECTORY ls
    blockframe --store DIRECTORY get NAME

If that program is no longer to be had, the files still are. Every shard names
the file that it belongs to, in plain text, at its end:

    strings data/*/* | grep '"type":"object"'

and the format is simple enough to write a reader for it in a day. It is
specified in the comment at the top of store/format.go in blockframe's sources;
internal/oracle/read.py there is such a reader, one file of standard Python. In
short: a shard is a header of 4096 bytes, then blocks of the file (or parity
blocks, from which missing ones are computed), 65536 bytes each, then a table
with the BLAKE3 hashes of all blocks, then lines of JSON, and a trailer of 4096
bytes.

What lies here:

    FORMAT.txt   this text
    LOCK         an empty file, locked while the store is open
    id           which store and which disk this is (store/dir/identity.go)
    tmp/         shards being written; of no use when the store is not open
    data/        the shards, in 256 folders
    log/         the log of what was stored, on some disks
    view/        an index that can be made anew from the rest, on one disk
`

// InitOptions says what a new directory is.
type InitOptions struct {
	Store [16]byte        // the store that it belongs to
	ID    store.BackendID // random if zero
}

// Init makes a directory, or an existing empty one, ready for Open; all of it is
// durable when Init returns. One that has an identity, holds blobs, or holds
// anything that is not ours is fs.ErrExist, and left as it is. After an error,
// or a crash, Init can be called again. fsys is nil for the operating system's files.
func Init(fsys durable.FS, path string, opts InitOptions) error {
	fsys = orOS(fsys)
	b := &Backend{fs: fsys, path: path}
	if err := b.mustBeFree(); err != nil {
		return err
	}
	id := Identity{Store: opts.Store, Disk: opts.ID}
	if id.Disk.IsZero() {
		rand.Read(id.Disk[:])
	}
	if err := fsys.MkdirAll(path); err != nil {
		return err
	}
	lock, err := fsys.Lock(b.at(lockName))
	if err != nil {
		return err
	}
	return errors.Join(b.build(id), lock.Close())
}

// build makes what Init promises, the identity last.
func (b *Backend) build(id Identity) error {
	if err := b.mustBeFree(); err != nil { // again, now that nobody else can
		return err
	}
	if err := b.fs.MkdirAll(b.at(tmpName)); err != nil {
		return err
	}
	if err := b.makeFolders(); err != nil {
		return err
	}
	if err := durable.WriteFile(b.fs, b.at(formatName), fmt.Appendf(nil, formatText, id.Store, id.Disk[:])); err != nil {
		return err
	}
	// A crash up to here leaves a directory without an identity, which counts
	// as empty.
	return durable.WriteFile(b.fs, b.at(idName), id.encodeFile())
}

// makeFolders makes those of the 256 folders that are missing, durably.
func (b *Backend) makeFolders() error {
	if err := b.fs.MkdirAll(b.at(dataName)); err != nil {
		return err
	}
	names, err := b.fs.List(b.at(dataName))
	if err != nil {
		return err
	}
	made := 0
	for i := range folders {
		if _, found := slices.BinarySearch(names, folderName(i)); found {
			continue
		}
		if err := b.fs.Mkdir(b.at(dataName, folderName(i))); err != nil {
			return err
		}
		made++
	}
	if made == 0 {
		return nil
	}
	// A crash here leaves some of the folders; the next Open makes the rest.
	return b.fs.SyncDir(b.at(dataName))
}

func folderName(i int) string { return fmt.Sprintf("%02x", i) }

// mustBeFree returns nil if Init may use the directory.
func (b *Backend) mustBeFree() error {
	names, err := b.fs.List(b.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == idName || !isOurs(name) {
			return &fs.PathError{Op: "init", Path: b.at(name), Err: fs.ErrExist}
		}
	}
	holds, err := b.firstBlob()
	if err == nil && holds != "" {
		err = &fs.PathError{Op: "init", Path: holds, Err: fs.ErrExist}
	}
	return err
}

// isOurs reports whether a name at the top of the directory has a meaning to
// us or to the rest of blockframe, or comes with a filesystem.
func isOurs(name string) bool {
	switch name {
	case formatName, formatName + ".tmp", lockName, idName, idName + ".tmp", tmpName, dataName, "log", "view", "disks", "lost+found":
		return true
	}
	return false
}

// tidy removes what a crash left behind and makes what is missing, while the
// lock is held.
func (b *Backend) tidy() error {
	left, err := b.fs.List(b.at(tmpName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil {
		err = b.fs.MkdirAll(b.at(tmpName))
	}
	if err != nil {
		return err
	}
	for _, name := range left {
		if err := b.fs.RemoveAll(b.at(tmpName, name)); err != nil {
			return err
		}
	}
	if len(left) > 0 {
		b.log.Info("removed unfinished blobs", "dir", b.path, "count", len(left))
	}
	if err := b.makeFolders(); err != nil {
		return err
	}
	return b.renewIdentity()
}

// renewIdentity writes the identity again if one of its copies is bad.
func (b *Backend) renewIdentity() error {
	_, whole, err := readIdentity(b.fs, b.path)
	if whole || err != nil {
		return err
	}
	b.log.Warn("one copy of the identity was damaged", "file", b.at(idName))
	return durable.WriteFile(b.fs, b.at(idName), b.id.encodeFile())
}
