package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/blockframe/blockframe"
)

// What is wrong with a store as a whole is told once for each command, by the paths of
// its directories: which are missing, and what keeps it from taking changes.

// openLog keeps what a store logs while it opens. Several of its parts say then that
// there are no changes, each in its way; what ill says takes their place.
type openLog struct {
	a    *app
	mu   sync.Mutex
	done bool
	kept [][2]string // message, and all of the line
}

// keep keeps a line and returns true while the store opens.
func (l *openLog) keep(message, line string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.done {
		l.kept = append(l.kept, [2]string{message, line})
	}
	return !l.done
}

// standing begin the lines of the log that ill and missing say better.
var standing = []string{"log is read-only", "store is read-only", "the store takes no changes", "a disk of the store is missing"}

// end tells what was kept, of a store and its disks; st is nil if it could not be opened.
func (l *openLog) end(st *blockframe.Store, disks []blockframe.Disk) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done = true
	told := ""
	if st != nil {
		told = ill(st)
		for _, s := range append(missing(disks, told), told) {
			if s != "" {
				l.a.remark("%s", s)
			}
		}
		l.a.illTold = told != "" && !l.a.quiet
	}
	for _, line := range l.kept {
		is := func(s string) bool { return strings.HasPrefix(line[0], s) }
		full := st != nil && told == "" && is("store is read-only") // for want of room, which may come
		if full || !slices.ContainsFunc(standing, is) {
			l.a.remark("%s", line[1])
		}
	}
}

// ill says why a store takes no changes, or "".
func ill(st *blockframe.Store) string {
	reason := st.ReadOnly()
	if reason == nil {
		return ""
	}
	var what []string
	until, gone := "it is back", ""
	for _, d := range st.Disks(context.Background()) {
		for line := range strings.Lines(reason.Error()) {
			if _, why, found := strings.Cut(strings.TrimSpace(line), "log member "+d.ID.String()+" "); found {
				what = append(what, illDisk(d, why))
				gone += " --assume-lost " + d.ID.String()[:12]
				if !isAbsent(d) && !strings.Contains(why, "no directory was given") || len(what) > 1 {
					until = "that is mended"
				}
			}
		}
	}
	if len(what) == 0 { // one directory has all copies
		_, why, _ := strings.Cut(reason.Error(), "log is read-only: ")
		what, until = append(what, strings.ReplaceAll(why, "\n", "; ")), "that is mended"
	}
	if gone != "" {
		gone = "; if that will never be, the options" + gone + " open the store without, and what only such a disk had of the newest changes is lost"
	}
	return strings.Join(what, "; ") + ". Everything can be read; nothing can be changed until " + until + gone + "."
}

// illDisk says what the log misses of a disk; why is what the log says.
func illDisk(d blockframe.Disk, why string) string {
	switch {
	case isAbsent(d):
		return fmt.Sprintf("%s, with its copy of the commit log", absence(d.Path))
	case strings.Contains(why, "it is stale"):
		return fmt.Sprintf("%s has an old copy of the commit log in its folder log/, without the newest changes; that of another disk can take its place", d.Path)
	case strings.Contains(why, "no directory was given"), strings.Contains(why, "is missing or empty"):
		return fmt.Sprintf("%s has lost its copy of the commit log (its folder log/ is %s)", d.Path, state(filepath.Join(d.Path, "log")))
	case d.Err != nil:
		return fmt.Sprintf("%s takes no changes, and has a copy of the commit log: %v", d.Path, d.Err)
	}
	return fmt.Sprintf("%s has a copy of the commit log that %s", d.Path, why)
}

// isAbsent reports whether a disk is not there. One that is and takes no changes has
// a size.
func isAbsent(d blockframe.Disk) bool {
	return errors.Is(d.Err, blockframe.ErrUnavailable) && d.Total == 0
}

// trouble says what is wrong with a disk.
func trouble(d blockframe.Disk) string {
	if isAbsent(d) {
		return absence(d.Path)
	}
	return d.Err.Error()
}

// about puts a reason behind what it is about, unless it begins with the name itself.
func about(what, name, why string) string {
	if name != "" && strings.HasPrefix(why, name+" ") {
		return why
	}
	return what + ": " + why
}

// absence says in what way a disk is not there.
func absence(dir string) string {
	switch is := state(dir); {
	case dir == "":
		return "a disk of the store is missing"
	case isDisk(dir):
		return fmt.Sprintf("the disk of the store that was in %s is missing", dir) // another took its place
	case is == "there":
		return fmt.Sprintf("%s has no file id, and the disk that was there is missing", dir)
	default:
		return fmt.Sprintf("%s is %s", dir, is)
	}
}

// state says how a directory looks.
func state(dir string) string {
	list, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "missing"
	case err != nil:
		return "not to be read"
	case len(list) == 0:
		return "empty"
	}
	return "there"
}

// missing says what is wrong with disks, but for those that told names.
func missing(disks []blockframe.Disk, told string) (list []string) {
	for _, d := range disks {
		switch {
		case d.Err == nil, d.Path != "" && strings.Contains(told, d.Path+" "):
		case isAbsent(d):
			list = append(list, absence(d.Path)+"; what it holds is computed from the other disks")
		default:
			list = append(list, fmt.Sprintf("%s takes no changes: %v", cmp.Or(d.Path, d.ID.String()), d.Err))
		}
	}
	return list
}

// nextStep says what to do about damage that a scrub has left, or nothing where nothing
// is known to help.
func nextStep(ctx context.Context, st *blockframe.Store, repaired bool) string {
	switch {
	case slices.ContainsFunc(st.Disks(ctx), isAbsent):
		return "; attach all disks and run scrub --deep --repair"
	case st.ReadOnly() == nil && !repaired:
		return "; scrub --deep --repair makes whole what can be made whole"
	}
	return ""
}

// isIll reports whether an error is that of a store that takes no changes. It matches
// fs.ErrPermission, though it is not the user who lacks one.
func isIll(err error) bool {
	return errors.Is(err, fs.ErrPermission) && strings.Contains(err.Error(), "log is read-only")
}

// refused makes such an error one that says so; why is told once.
func (a *app) refused(err error) error {
	if a.ill == nil || !isIll(err) {
		return err
	}
	what, _, _ := strings.Cut(err.Error(), ": "+fs.ErrPermission.Error())
	h := &hinted{error: fmt.Errorf("%s: the store takes no changes", what)}
	if a.json || !a.illTold {
		h.hint, a.illTold = a.ill(), true
	}
	return h
}
