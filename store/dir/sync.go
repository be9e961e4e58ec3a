package dir

import (
	"maps"
	"slices"
	"sync"

	"github.com/blockframe/blockframe/internal/durable"
)

// dirSyncer syncs folders for many callers at a time. While one round of syncs
// is under way, those who come wait for it to end and share the next one: each
// folder is synced once for all that wait for it, and the folders of a round at
// the same time, so that the filesystem can write their changes in one
// transaction.
type dirSyncer struct {
	fs  durable.FS
	run chan struct{} // holds one token during a round

	mu   sync.Mutex
	next *round // not begun; nil if nobody waits
}

// round is a set of folders to be synced.
type round struct {
	errs map[string]error // by folder; results once done
	done bool             // read and written with the token of dirSyncer.run
}

func newDirSyncer(fsys durable.FS) *dirSyncer {
	return &dirSyncer{fs: fsys, run: make(chan struct{}, 1)}
}

// sync returns when all of the folders were synced by a round that began after
// the call, with their errors in the same order.
func (s *dirSyncer) sync(folders ...string) []error {
	s.mu.Lock()
	if s.next == nil {
		s.next = &round{errs: map[string]error{}}
	}
	r := s.next
	for _, folder := range folders {
		r.errs[folder] = nil
	}
	s.mu.Unlock()

	s.run <- struct{}{}
	defer func() { <-s.run }()
	if !r.done {
		// Nobody began r, so it is still the next one.
		s.mu.Lock()
		s.next = nil
		s.mu.Unlock()
		s.carryOut(r)
	}
	errs := make([]error, len(folders))
	for i, folder := range folders {
		errs[i] = r.errs[folder]
	}
	return errs
}

func (s *dirSyncer) carryOut(r *round) {
	defer func() { r.done = true }()
	if len(r.errs) == 1 {
		for folder := range r.errs {
			r.errs[folder] = s.fs.SyncDir(folder)
		}
		return
	}
	var wg sync.WaitGroup
	var mu sync.Mutex // guards r.errs
	for _, folder := range slices.Collect(maps.Keys(r.errs)) {
		wg.Go(func() {
			err := s.fs.SyncDir(folder)
			mu.Lock()
			defer mu.Unlock()
			r.errs[folder] = err
		})
	}
	wg.Wait()
}
