package blockframe

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"time"

	"github.com/blockframe/blockframe/internal/catalog"
	"github.com/blockframe/blockframe/internal/journal"
	"github.com/blockframe/blockframe/store"
)

// A directory that could not take a copy of the log is tried anew after joinAgain, and
// after twice as long each time, up to joinRarely.
const (
	joinAgain  = time.Minute
	joinRarely = time.Hour
)

// givenUp returns the copies of the log that an operator gave up, by their names in it.
func (hs *homes) givenUp(list []string) (names []string) {
	for _, name := range list {
		names = append(names, name)
		abs, err := filepath.Abs(name)
		for _, h := range hs.list {
			if err == nil && h.present() && h.path == filepath.ToSlash(abs) {
				names = append(names, h.disk.ID().String())
			}
		}
	}
	return names
}

// leastLogs returns how many copies of the log there are at least: two in the only
// directory, where a failure is hardly that of one of them.
func (hs *homes) leastLogs() int {
	if list := hs.logHomes(); len(list) == 1 && hs.twins(list[0]) {
		return len(twins)
	}
	return 1
}

// copies returns how many directories the log should be in: all of LogDirs, or as many
// as the code of most objects may lose, and one more.
func (s *Store) copies() int {
	if s.homes.pin {
		return len(slices.DeleteFunc(slices.Clone(s.homes.all()), func(h *home) bool { return !h.logs }))
	}
	code := store.Choose(s.policies(), "", math.MaxInt64).Code
	if code == (Code{}) {
		code = DefaultCode(s.disks.placeable())
	}
	return min(code.M+1, 3)
}

// logLeft hears that the log went on without one of its copies, which failed. That is not
// taken back until the store is opened again: a disk that fails now and then would only
// go back and forth.
func (s *Store) logLeft(name string) {
	s.logsLost.Store(name, true)
	s.tendNow()
}

// tendNow has the copies of the log looked at.
func (s *Store) tendNow() {
	select {
	case s.logsNow <- struct{}{}:
	default:
	}
}

// tendLogs has the log kept in as many directories as it should be, in the background.
func (s *Store) tendLogs() error {
	if s.journal.ReadOnly() != nil {
		return nil
	}
	done, err := s.begin()
	if err != nil {
		return err
	}
	go func() {
		defer done()
		wait := joinAgain
		for s.ctx.Err() == nil {
			again := make(<-chan time.Time)
			if err := s.fillLogs(); err != nil {
				s.log.Warn("the commit log has fewer copies than it should have", "err", err)
				again = time.After(wait)
				wait = min(2*wait, joinRarely)
			} else {
				wait = joinAgain
			}
			select {
			case <-s.ctx.Done():
			case <-again:
			case <-s.logsNow:
			}
		}
	}()
	return nil
}

// fillLogs lets directories take copies of the log until there are enough, those first
// that have an old one.
func (s *Store) fillLogs() error {
	s.logsMu.Lock()
	defer s.logsMu.Unlock()
	return s.fillFor(s.copies(), nil)
}

// fillFor does so until there are so many. except is a directory that takes none, or nil.
// logsMu is held.
func (s *Store) fillFor(copies int, except *home) error {
	var errs []error
	for _, m := range s.wanted(except) {
		if s.ctx.Err() != nil {
			return nil
		}
		if _, lost := s.logsLost.Load(m.Name); lost {
			continue
		}
		if len(s.logHomes()) >= copies && !slices.Contains(twins, m.Name) {
			break
		}
		if err := s.clearView(m); err != nil {
			errs = append(errs, err)
			continue
		}
		if err := s.journal.Join(s.ctx, m); err != nil {
			errs = append(errs, err)
			continue
		}
		s.log.Info("a directory has a copy of the commit log now", "dir", m.Dir)
	}
	if len(s.logHomes()) >= copies {
		return s.untwin()
	}
	return errors.Join(errs...)
}

// logLeaves makes the commit log do without a disk that is to be removed: another one takes
// the copy, if one can. The last one is ErrHoldsLog. logsMu is held, until the disk is gone.
func (s *Store) logLeaves(id BackendID) error {
	h := s.homes.byID(id)
	_, set := s.journal.Set()
	if h == nil || !s.hasLog(h, set) {
		return nil
	}
	if err := s.fillFor(s.copies()+1, h); err != nil {
		s.log.Warn("no other directory took the copy of the commit log", "dir", h.path, "err", err)
	}
	if len(s.logHomes()) == 1 {
		return ErrHoldsLog
	}
	s.journal.SetLeast(1) // several directories have it
	for _, name := range append([]string{id.String()}, twins...) {
		_, set := s.journal.Set()
		if !slices.Contains(set, name) {
			continue
		}
		if err := s.journal.Leave(name); err != nil {
			return err
		}
	}
	return nil
}

// wanted returns the copies of the log that may be made, in the order of preference, but
// for those in a directory.
func (s *Store) wanted(except *home) (list []journal.Member) {
	_, set := s.journal.Set()
	var fresh []journal.Member
	for _, h := range s.homes.all() {
		switch {
		case h == except || !h.present() || h.disk.Err() != nil || s.homes.pin && !h.logs || h.holds && !s.active(h.disk.ID()):
		case s.homes.twins(h):
			if len(s.logHomes()) > 1 {
				continue
			}
			for _, name := range twins {
				if !slices.Contains(set, name) {
					list = append(list, s.homes.twin(h, name))
				}
			}
		case slices.Contains(set, h.disk.ID().String()):
		case h.found:
			list = append(list, s.homes.member(h))
		default:
			fresh = append(fresh, s.homes.member(h))
		}
	}
	return append(list, fresh...)
}

// clearView removes the index beside a copy of the log that is to be brought up to date: it
// was made from what that was before.
func (s *Store) clearView(m journal.Member) error {
	for _, h := range s.homes.all() {
		if m.Dir != h.at(logName) || h.at(viewName) == s.viewAt {
			continue
		}
		if err := s.homes.fs.RemoveAll(h.at(viewName)); err != nil {
			return err
		}
		return s.homes.fs.SyncDir(h.path)
	}
	return nil
}

// active reports whether a disk is one of the store's, and stays so.
func (s *Store) active(id BackendID) bool {
	d, ok := s.disks.find(id)
	return ok && d.state == catalog.BackendActive
}

// logHomes returns the directories that have a copy of the log which is in use.
func (s *Store) logHomes() (list []*home) {
	_, set := s.journal.Set()
	for _, h := range s.homes.all() {
		if h.present() && s.hasLog(h, set) {
			list = append(list, h)
		}
	}
	return list
}

// hasLog reports whether a directory has a copy of the log that is of the set.
func (s *Store) hasLog(h *home, set []string) bool {
	if slices.Contains(set, h.disk.ID().String()) {
		return true
	}
	return s.homes.twins(h) && slices.ContainsFunc(twins, func(name string) bool { return slices.Contains(set, name) })
}

// untwin takes the second copy out of a directory when another one has the log, too.
func (s *Store) untwin() error {
	_, set := s.journal.Set()
	if len(s.logHomes()) < 2 || !slices.Contains(set, twins[0]) || !slices.Contains(set, twins[1]) {
		return nil
	}
	if err := s.journal.Leave(twins[1]); err != nil {
		return fmt.Errorf("second copy of the log in one directory: %w", err)
	}
	s.journal.SetLeast(1)
	return nil
}

// logOn reports whether the directory with an identity has a copy of the log that is of the
// set.
func (s *Store) logOn(id BackendID) bool {
	_, set := s.journal.Set()
	h := s.homes.byID(id)
	return slices.Contains(set, id.String()) || h != nil && s.hasLog(h, set)
}
