package blockframe

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/journal"
	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/dir"
)

// Names in a directory of a store, beside those of package dir.
const (
	logName  = "log"
	viewName = "view"
)

// home is one directory of a store. It has an identity of its own, by which it is
// known wherever it is mounted.
type home struct {
	path  string // absolute, slash-separated
	disk  *dir.Backend
	err   error // why disk is nil
	holds bool  // shards, not only the log
	logs  bool  // a copy of the log is in it, or in one of the folders of it
	found bool  // there is something in log/
	half  *plan // of a store whose creation was not finished
}

// present reports whether the home has an identity and is open.
func (h *home) present() bool { return h.disk != nil }

func (h *home) at(elem ...string) string { return path.Join(append([]string{h.path}, elem...)...) }

// homes are the directories that a store was opened with.
type homes struct {
	fs    durable.FS
	log   *slog.Logger
	mu    sync.Mutex // of who changes list while the store is open
	list  []*home
	still bool // nothing may be changed
	pin   bool // LogDirs were given: they are the places of the log, no others

	creating []io.Closer // locks held while a store is created
}

// openHomes opens and locks all directories. One that is not there is kept with
// the reason. The error is for what makes the others useless: a lock that is held,
// a future version, directories of two stores. Nothing is changed but what the
// opening of a disk cleans up.
func openHomes(o *Options) (*homes, error) {
	hs := &homes{fs: o.fs, log: o.Logger, pin: len(o.LogDirs) > 0, still: o.still}
	for _, p := range o.Dirs {
		if err := hs.add(p, true, false); err != nil {
			return nil, err
		}
	}
	for _, p := range o.LogDirs {
		if err := hs.add(p, false, true); err != nil {
			return nil, err
		}
	}
	for _, h := range hs.list {
		if err := hs.open(h); err != nil {
			return nil, errors.Join(err, hs.close())
		}
	}
	if err := hs.oneStore(); err != nil {
		return nil, errors.Join(err, hs.close())
	}
	return hs, nil
}

// add notes a directory; one of Dirs may be one of LogDirs too.
func (hs *homes) add(name string, holds, logs bool) error {
	abs, err := filepath.Abs(name)
	if err != nil {
		return err
	}
	abs = filepath.ToSlash(abs)
	for _, h := range hs.list {
		if h.path == abs {
			h.logs = h.logs || logs
			return nil
		}
	}
	hs.list = append(hs.list, &home{path: abs, holds: holds, logs: logs})
	return nil
}

// open opens one directory.
func (hs *homes) open(h *home) error {
	h.disk, h.err = dir.Open(hs.fs, h.path, dir.Options{Logger: hs.log, ReadOnly: hs.still})
	switch {
	case errors.Is(h.err, store.ErrLocked):
		return fmt.Errorf("open store: %s: %w", h.path, h.err)
	case errors.Is(h.err, store.ErrVersion):
		return fmt.Errorf("open store: %w", h.err)
	case h.err != nil:
		h.disk = nil
	}
	if err := hs.findLog(h); err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	h.logs = h.logs || h.found && !hs.pin
	return nil
}

// findLog looks whether anything of a log is in a directory, and reads the plan
// of a creation that was not finished.
func (hs *homes) findLog(h *home) (err error) {
	names, err := hs.fs.List(h.at(logName))
	if err != nil {
		return nil // absent, or as good as: the reason is told when it is missed
	}
	h.found = slices.ContainsFunc(names, isLog)
	if h.found {
		h.half, err = readPlan(hs.fs, h.at(logName, planName))
	}
	return err
}

// isLog reports whether a file in log/ is of a log, or of one that is being made.
// What people leave there does not make the directory one with a copy.
func isLog(name string) bool {
	number, isSegment := strings.CutSuffix(name, ".log")
	if isSegment && len(number) == 16 {
		_, err := strconv.ParseUint(number, 16, 64)
		return err == nil
	}
	return name == planName || strings.HasPrefix(name, "spare") || slices.Contains(twins, name)
}

// oneStore checks that all directories that are there belong to one store, and that none
// is a copy of another.
func (hs *homes) oneStore() error {
	first := hs.first()
	for _, h := range hs.list {
		if !h.present() {
			continue
		}
		if other := hs.byID(h.disk.ID()); other != h {
			return &fs.PathError{Op: "open store", Path: h.path, Err: fmt.Errorf("%w: it is a copy of %s, or that of it: give only the one that is meant", fs.ErrInvalid, other.path)}
		}
		if h.disk.Identity().Store != first.disk.Identity().Store {
			return &fs.PathError{Op: "open store", Path: h.path, Err: fmt.Errorf("%w: it belongs to store %x, and %s to store %x",
				fs.ErrInvalid, h.disk.Identity().Store, first.path, first.disk.Identity().Store)}
		}
	}
	return nil
}

// all returns the directories as they are now. The list is not changed.
func (hs *homes) all() []*home {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	return hs.list[:len(hs.list):len(hs.list)]
}

// join adds a directory to those of an open store.
func (hs *homes) join(h *home) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(hs.list), func(o *home) bool { return !o.present() && o.path == h.path })
	hs.list = append(list, h)
}

// part takes a directory off an open store, and returns it; nil if there is none.
func (hs *homes) part(id store.BackendID) *home {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	for i, h := range hs.list {
		if h.present() && h.disk.ID() == id {
			hs.list = slices.Delete(slices.Clone(hs.list), i, i+1)
			return h
		}
	}
	return nil
}

// first returns the first directory that is there, or nil.
func (hs *homes) first() *home {
	for _, h := range hs.all() {
		if h.present() {
			return h
		}
	}
	return nil
}

// reasons returns why directories are missing.
func (hs *homes) reasons() error {
	var errs []error
	for _, h := range hs.list {
		if !h.present() {
			errs = append(errs, fmt.Errorf("directory %s: %w", h.path, h.err))
		}
	}
	return errors.Join(errs...)
}

// byID returns the directory with an identity, or nil.
func (hs *homes) byID(id store.BackendID) *home {
	for _, h := range hs.all() {
		if h.present() && h.disk.ID() == id {
			return h
		}
	}
	return nil
}

// logHomes returns the directories with copies of the log.
func (hs *homes) logHomes() (list []*home) {
	for _, h := range hs.all() {
		if h.logs && h.present() {
			list = append(list, h)
		}
	}
	return list
}

// Copies of the log in the only directory that has any.
var twins = []string{"a", "b"}

// members returns the copies of the log. Where one directory alone has the log it is
// kept twice in it. A copy is named by the identity of its directory, so that the
// order of the directories does not matter.
func (hs *homes) members() (members []journal.Member) {
	for _, h := range hs.logHomes() {
		if !hs.twins(h) {
			members = append(members, hs.member(h))
			continue
		}
		for _, name := range twins {
			members = append(members, hs.twin(h, name))
		}
	}
	return members
}

// member returns the copy of the log that a directory has, or may have.
func (hs *homes) member(h *home) journal.Member {
	return journal.Member{FS: hs.fs, Dir: h.at(logName), Name: h.disk.ID().String()}
}

// twin returns one of the two copies in one directory.
func (hs *homes) twin(h *home, name string) journal.Member {
	return journal.Member{FS: hs.fs, Dir: h.at(logName, name), Name: name}
}

// anyLog reports whether a copy of the log is there that was not given up.
func (hs *homes) anyLog(o *Options) bool {
	lost := hs.givenUp(o.AssumeLost)
	return slices.ContainsFunc(hs.members(), func(m journal.Member) bool {
		given := slices.ContainsFunc(lost, func(name string) bool { return name == m.Name || len(name) >= 8 && strings.HasPrefix(m.Name, name) })
		return !given && journal.Exists(m, hs.storeID())
	})
}

// remains reports whether there are segments of a log in a directory.
func (hs *homes) remains(h *home) bool {
	names, _ := hs.fs.List(h.at(logName)) // absent is none
	return slices.ContainsFunc(names, func(name string) bool { return strings.HasSuffix(name, ".log") })
}

// twins reports whether a directory has, or is to have, both copies of the log.
func (hs *homes) twins(h *home) bool {
	if h.half != nil {
		return len(h.half.Logs) == 1
	}
	for _, name := range twins {
		if info, err := hs.fs.Stat(h.at(logName, name)); err == nil && info.Dir {
			return true
		}
	}
	return false
}

// takesChanges reports whether a directory that is there does.
func takesChanges(h *home) bool { return h.disk.Err() == nil }

// view returns the place of the view: where it was, else on the first directory
// of list, those of the log, that takes changes; "" if none does.
func (hs *homes) view(list []*home) string {
	for _, h := range list {
		if info, err := hs.fs.Stat(h.at(viewName)); err == nil && info.Dir && takesChanges(h) {
			return h.at(viewName)
		}
	}
	if i := slices.IndexFunc(list, takesChanges); i >= 0 {
		return list[i].at(viewName)
	}
	return ""
}

// close releases all directories.
func (hs *homes) close() (err error) {
	err = hs.unlockCreation(false)
	for _, h := range hs.all() {
		if h.present() {
			err = errors.Join(err, h.disk.Close())
		}
	}
	return err
}

// empty reports whether every directory is empty or absent.
func (hs *homes) empty() bool {
	return !slices.ContainsFunc(hs.list, func(h *home) bool { return !errors.Is(h.err, fs.ErrNotExist) })
}
