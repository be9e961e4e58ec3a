package blockframe

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"github.com/blockframe/blockframe/internal/durable"
)

// scratch is a directory among the temporary files of the system, for a view that
// cannot be in a directory of the store. It is locked as long as it is in use, since
// nothing else may be: a store whose directories take no changes has no lock there.
type scratch struct {
	dir  string // slash-separated
	lock io.Closer
}

// scratchLock is the file in it that is locked.
const scratchLock = "LOCK"

// newScratch makes one, and removes those that killed processes left of this store.
func newScratch(id [16]byte) (*scratch, error) {
	prefix := fmt.Sprintf("blockframe-view-%x-", id)
	sweepScratch(prefix)
	dir, err := os.MkdirTemp("", prefix)
	if err != nil {
		return nil, err
	}
	s := &scratch{dir: filepath.ToSlash(dir)}
	// A process that sweeps just now may have locked it, or removed it: an error,
	// and nothing is lost.
	if s.lock, err = durable.OS().Lock(path.Join(s.dir, scratchLock)); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, nil
}

func (s *scratch) view() string { return path.Join(s.dir, viewName) }

// remove ends the use of s, which removes what is in it.
func (s *scratch) remove() error {
	return errors.Join(s.lock.Close(), os.RemoveAll(filepath.FromSlash(s.dir)))
}

// sweepScratch removes the scratch directories that nobody has locked. What cannot be
// removed, as that of another user, stays.
func sweepScratch(prefix string) {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		if info, err := os.Lstat(dir); err != nil || !info.IsDir() {
			continue
		}
		lock, err := durable.OS().Lock(path.Join(filepath.ToSlash(dir), scratchLock))
		if err != nil {
			continue
		}
		s := &scratch{dir: filepath.ToSlash(dir), lock: lock}
		_ = s.remove()
	}
}
