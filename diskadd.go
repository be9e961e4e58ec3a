package blockframe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/blockframe/blockframe/internal/catalog"
	"github.com/blockframe/blockframe/store/dir"
)

// AddDisk makes an empty or absent directory a disk of the store, and returns it. Puts
// use it from then on; [Store.Rebalance] moves there what is stored already. Dirs of the
// next Open must name it too.
//
// A directory that holds anything else is fs.ErrExist, and so is an empty one where a disk
// of the store is absent: it is that disk's mount point, and [Store.ReplaceDisk] is for
// another disk there. One that has the identity of a disk of this store is taken back if
// that is absent, and is ErrFormerDisk if that was removed or lost: nothing is changed in
// it. A disk that is there already is success.
//
// The directory gets its identity; it is recorded, the commit point; it is used. A crash
// before the record leaves a directory that the next AddDisk goes on with.
func (s *Store) AddDisk(ctx context.Context, name string) (Disk, error) {
	d, err := s.addDisk(ctx, name, BackendID{})
	if err != nil {
		return Disk{}, fmt.Errorf("add disk %s: %w", name, err)
	}
	return s.describe(ctx, d), nil
}

// addDisk adds a directory. replaced is the disk whose directory it may have been.
func (s *Store) addDisk(ctx context.Context, name string, replaced BackendID) (disk, error) {
	release, err := s.begin()
	if err != nil {
		return disk{}, err
	}
	defer release()
	if len(s.homes.all()) == 0 || !s.dirs {
		return disk{}, fmt.Errorf("%w: the store was opened with Backends, not with Dirs", fs.ErrInvalid)
	}
	abs, err := filepath.Abs(name)
	if err != nil {
		return disk{}, err
	}
	s.disks.adding.Lock()
	defer s.disks.adding.Unlock()
	h := &home{path: filepath.ToSlash(abs), holds: true}
	for _, o := range s.homes.all() {
		if !o.present() || o.path != h.path {
			continue
		}
		if _, known := s.disks.find(o.disk.ID()); known || !o.holds {
			return s.known(o)
		}
		return s.adopt(ctx, o) // see notAdded
	}
	if err := s.ReadOnly(); err != nil { // before anything is written
		return disk{}, err
	}
	if err := s.makeHome(h, replaced); err != nil {
		return disk{}, err
	}
	d, err := s.adopt(ctx, h)
	if err != nil {
		return disk{}, errors.Join(err, h.disk.Close())
	}
	return d, nil
}

// known returns the disk of a directory that is open.
func (s *Store) known(h *home) (disk, error) {
	d, _ := s.disks.find(h.disk.ID())
	switch {
	case !h.holds:
		return disk{}, fmt.Errorf("%w: it is a place of the commit log alone", fs.ErrInvalid)
	case d.state.Gone():
		return disk{}, recognised(d.state)
	}
	return d, nil
}

// makeHome opens a directory, and gives it an identity first if it has none.
func (s *Store) makeHome(h *home, replaced BackendID) (err error) {
	h.disk, err = dir.Open(s.homes.fs, h.path, dir.Options{Logger: s.log})
	if errors.Is(err, fs.ErrNotExist) {
		if err = s.mayInit(h, replaced); err == nil {
			err = dir.Init(s.homes.fs, h.path, dir.InitOptions{Store: s.homes.storeID()})
		}
		if err == nil {
			h.disk, err = dir.Open(s.homes.fs, h.path, dir.Options{Logger: s.log})
		}
	}
	if err != nil {
		h.disk = nil
		return err
	}
	if id := h.disk.Identity().Store; id != s.homes.storeID() {
		err = fmt.Errorf("%w: it belongs to store %x, this is store %x", fs.ErrExist, id, s.homes.storeID())
	} else {
		err = h.disk.Err() // it takes no changes
	}
	if err != nil {
		return errors.Join(err, h.disk.Close())
	}
	return nil
}

// mayInit returns why a directory without an identity is not to get one.
func (s *Store) mayInit(h *home, replaced BackendID) error {
	for _, d := range s.disks.registered() {
		if d.path == h.path && d.backend == nil && d.id != replaced {
			return fmt.Errorf("%w: disk %v of the store was there, and is absent: attach it, or replace it by another one", fs.ErrExist, d.id)
		}
	}
	return s.homes.free(h)
}

// adopt records a directory that has an identity, and uses it.
func (s *Store) adopt(ctx context.Context, h *home) (disk, error) {
	d := disk{id: h.disk.ID(), path: h.path, backend: h.disk}
	old, known := s.disks.find(d.id)
	switch {
	case known && old.state.Gone():
		return disk{}, recognised(old.state)
	case known && old.backend != nil:
		return disk{}, fmt.Errorf("%w: it is a copy of %s, or that of it", fs.ErrInvalid, old.path)
	case known:
		d.state = old.state
	default:
		if err := unused(ctx, []Backend{h.disk}); err != nil {
			return disk{}, err // of another time of this store, which the records do not know
		}
	}
	if err := s.homes.findLog(h); err != nil {
		return disk{}, err
	}
	_, err := s.change(ctx, "record", "disk", catalog.AddBackend{Backend: catalog.Backend{ID: d.id, Path: d.path}})
	if err != nil {
		return disk{}, err // if that is uncertain, adding it again finds it known, or not
	}
	if s.homes.byID(d.id) == nil {
		s.homes.join(h)
	}
	s.disks.set(d)
	s.eng.Attach(h.disk, d.path)
	s.log.Info("disk added", "disk", d.id, "path", d.path)
	s.tendNow() // it may take a copy of the log
	return d, nil
}
