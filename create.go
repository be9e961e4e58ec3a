package blockframe

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/dir"
)

// A store is created in steps, each of which can be repeated:
//
//  1. the plan is written to log/creating of each directory that will have the
//     log: the identities of store and disks to be
//  2. every directory is made a disk, with the identity that the plan gives it
//  3. the log is made, and its first record is committed: backends and policies.
//     This is the commit point: from here on there is a store
//  4. the plans are removed
//
// Open returns after the last. So while every log directory has a plan, nobody was
// given the store, there is nothing in it to lose, and the next Open goes on with
// the plan. A plan beside a directory of the log that has none is a leftover of
// step 4.

const (
	planName   = "creating" // in log/: a store is being created
	createLock = "LOCK"     // in log/ of each directory, while it is
)

// maxPlan is the size of a plan at most, in bytes.
const maxPlan = 1 << 20

// plan says what a new store will be. Of each disk it holds the identity and the
// directory; the identity of a directory stays with it when creation goes on.
type plan struct {
	Store string   `json:"store"` // 32 hexadecimal digits, as all identities here
	Disks []string `json:"disks"` // of the directories, in the order of Paths
	Paths []string `json:"paths"`
	Logs  []string `json:"logs"` // those of Disks that have the log

	// Rebuild says that the disks are those of a store whose log was lost: see Rebuild.
	Rebuild bool `json:"rebuild,omitempty"`
}

// newPlan gives identities to all directories and chooses those of the log.
func newPlan(hs *homes, copies int) *plan {
	p := &plan{Store: randomHex()}
	for _, h := range hs.list {
		id := randomHex()
		p.Disks, p.Paths = append(p.Disks, id), append(p.Paths, h.path)
		if h.logs || !hs.pin && len(p.Logs) < copies {
			p.Logs = append(p.Logs, id)
		}
	}
	return p
}

func randomHex() string {
	var b [16]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// parse16 reads an identity of a plan, which check found sound.
func parse16(s string) (id [16]byte) {
	hex.Decode(id[:], []byte(s))
	return id
}

// readPlan returns nil without an error where there is no plan.
func readPlan(fsys durable.FS, name string) (*plan, error) {
	b, err := durable.ReadFile(fsys, name, maxPlan)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	p := &plan{}
	if err == nil {
		err = json.Unmarshal(b, p)
	}
	if err == nil {
		err = p.check()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s, left by a creation that was not finished: %v", store.ErrCorrupt, name, err)
	}
	return p, nil
}

// check returns what is wrong with a plan that was read.
func (p *plan) check() error {
	if len(p.Disks) == 0 || len(p.Disks) != len(p.Paths) || len(p.Logs) == 0 {
		return fmt.Errorf("%d disks, %d paths, %d logs", len(p.Disks), len(p.Paths), len(p.Logs))
	}
	for _, s := range slices.Concat([]string{p.Store}, p.Disks, p.Logs) {
		if b, err := hex.DecodeString(s); err != nil || len(b) != 16 {
			return fmt.Errorf("%q is no identity", s)
		}
	}
	for _, s := range p.Logs {
		if !slices.Contains(p.Disks, s) {
			return fmt.Errorf("log on %s, which is none of the disks", s)
		}
	}
	return nil
}

// halfMade returns the plan of a creation that was not finished, or nil.
func (hs *homes) halfMade() *plan {
	var found *plan
	for _, h := range hs.list {
		if h.found && h.half == nil {
			return nil
		}
		if h.half != nil {
			found = h.half
		}
	}
	return found
}

// free returns why a directory cannot become part of a new store, or nil: it holds
// things that are not ours.
func (hs *homes) free(h *home) error {
	names, err := hs.fs.List(h.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		if !slices.Contains([]string{"FORMAT.txt", "FORMAT.txt.tmp", "LOCK", "id.tmp", "tmp", "data", logName, viewName, "lost+found"}, name) {
			return &fs.PathError{Op: "create store", Path: h.at(name), Err: fmt.Errorf("%w: the directory must be empty", fs.ErrExist)}
		}
	}
	// A view without identity and log is what is left of a store.
	if rest, err := hs.fs.List(h.at(viewName)); err == nil && len(rest) > 0 {
		return &fs.PathError{Op: "create store", Path: h.at(viewName), Err: fmt.Errorf("%w: there was a store, whose identity and log are gone", fs.ErrExist)}
	}
	return nil
}

// create carries out a plan up to the log: steps 1 and 2.
func (hs *homes) create(p *plan) error {
	if err := hs.assign(p); err != nil {
		return err
	}
	if err := hs.lockCreation(p); err != nil {
		return err
	}
	if err := hs.writePlan(p); err != nil {
		return err
	}
	for i, h := range hs.list {
		if err := hs.makeDisk(h, p, store.BackendID(parse16(p.Disks[i]))); err != nil {
			return err
		}
	}
	return nil
}

// lockCreation keeps other processes from creating a store in any of the same
// directories until this one is created, whichever of them they choose for the log.
func (hs *homes) lockCreation(p *plan) error {
	for i, h := range hs.list {
		h.logs = slices.Contains(p.Logs, p.Disks[i])
	}
	sorted := slices.SortedFunc(slices.Values(hs.list), func(a, b *home) int { return strings.Compare(a.path, b.path) })
	for _, h := range sorted {
		if err := hs.fs.MkdirAll(h.at(logName)); err != nil {
			return fmt.Errorf("create store: %w", err)
		}
		lock, err := hs.fs.Lock(h.at(logName, createLock))
		if err != nil {
			return fmt.Errorf("create store: %w", err)
		}
		hs.creating = append(hs.creating, lock)
	}
	for _, h := range hs.list {
		if _, err := dir.ReadIdentity(hs.fs, h.path); err == nil && !h.present() {
			return fmt.Errorf("create store: %s: %w: it was just created", h.path, store.ErrLocked)
		}
	}
	return nil
}

// unlockCreation ends that. Where there is no log, its folder was there for the lock.
// Another process that comes now, or a lock that is left, finds an identity.
func (hs *homes) unlockCreation(created bool) (err error) {
	for _, lock := range hs.creating {
		err = errors.Join(err, lock.Close())
	}
	for _, h := range hs.list {
		if created && len(hs.creating) > 0 && !h.logs {
			_ = hs.fs.Remove(h.at(logName, createLock))
			_ = hs.fs.Remove(h.at(logName)) // empty, or not ours
		}
	}
	hs.creating = nil
	return err
}

// writePlan carries out step 1.
func (hs *homes) writePlan(p *plan) error {
	b, err := json.MarshalIndent(p, "", "\t")
	if err != nil {
		return err
	}
	for _, h := range hs.list {
		if !h.logs {
			continue
		}
		h.half = p
		if err := hs.fs.MkdirAll(h.at(logName)); err != nil {
			return fmt.Errorf("create store: %w", err)
		}
		// A crash before the first of these leaves directories that count as
		// empty; after it, a plan to go on with.
		if err := durable.WriteFile(hs.fs, h.at(logName, planName), append(b, '\n')); err != nil {
			return fmt.Errorf("create store: %w", err)
		}
	}
	return nil
}

// makeDisk gives a directory its identity and opens it.
func (hs *homes) makeDisk(h *home, p *plan, id store.BackendID) error {
	if h.present() {
		return nil // made by an earlier try
	}
	err := dir.Init(hs.fs, h.path, dir.InitOptions{Store: parse16(p.Store), ID: id})
	if err != nil {
		return fmt.Errorf("create store: %w", err)
	}
	h.disk, h.err = dir.Open(hs.fs, h.path, dir.Options{Logger: hs.log})
	return h.err
}

// assign orders the disks of the plan like the directories: those that have an
// identity keep it, and the others take what is left, by path where that fits.
func (hs *homes) assign(p *plan) error {
	if len(p.Disks) != len(hs.list) {
		return fmt.Errorf("%w: the creation of a store on %d directories was interrupted: open it with these, or empty them: %s",
			fs.ErrInvalid, len(p.Disks), strings.Join(p.Paths, ", "))
	}
	left := map[string]string{} // identity -> path
	for i, id := range p.Disks {
		left[id] = p.Paths[i]
	}
	ids := make([]string, len(hs.list))
	for i, h := range hs.list {
		if !h.present() {
			continue
		}
		ids[i] = h.disk.ID().String()
		if _, ok := left[ids[i]]; !ok || h.disk.Identity().Store != parse16(p.Store) {
			return &fs.PathError{Op: "create store", Path: h.path, Err: fmt.Errorf("%w: the directory belongs to another store", fs.ErrExist)}
		}
		delete(left, ids[i])
	}
	for pass := range 2 {
		for i, h := range hs.list {
			for _, id := range p.Disks {
				at, ok := left[id]
				if ids[i] == "" && ok && (at == h.path || pass == 1) {
					ids[i] = id
					delete(left, id)
				}
			}
		}
	}
	p.Disks, p.Paths = ids, nil
	for _, h := range hs.list {
		p.Paths = append(p.Paths, h.path)
	}
	return nil
}

// finish removes the plans, step 4, also those that a crash left of it: a directory
// that takes no changes keeps such a one.
func (hs *homes) finish(created bool) error {
	if err := hs.removePlans(); err != nil {
		if created {
			return fmt.Errorf("create store: %w", err)
		}
		hs.log.Warn("what the creation of the store left behind is not removed", "err", err)
	}
	return hs.unlockCreation(created)
}

// removePlans carries out step 4.
func (hs *homes) removePlans() error {
	for _, h := range hs.list {
		if h.half == nil {
			continue
		}
		if err := hs.fs.Remove(h.at(logName, planName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// A crash here leaves a plan on other directories: it means nothing as
		// long as one has none.
		if err := hs.fs.SyncDir(path.Dir(h.at(logName, planName))); err != nil {
			return err
		}
		h.half = nil
	}
	return nil
}
