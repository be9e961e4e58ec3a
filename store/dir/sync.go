package dir

import (
	"sync"

	"github.com/blockframe/blockframe/internal/durable"
)

// dirSyncer syncs folders for many callers at a time. Callers that come while a
// folder is being synced wait for that to end and share the next sync: the
// shards of an extent, which lie in one folder, cost two at most. Different
// folders are synced at the same time, so that the filesystem can write their
// changes in one transaction; one behind the other they took about twice as
// long.
type dirSyncer struct {
	fs durable.FS

	mu      sync.Mutex
	folders map[string]*folderSync // by path, of which there are 256
}

// folderSync is the state of one folder.
type folderSync struct {
	run  chan struct{} // holds a token during a sync
	next *round        // not begun, nil if nobody waits; guarded by dirSyncer.mu
}

// round is one sync of a folder. It is read and written by who has the token.
type round struct {
	done bool
	err  error
}

func newDirSyncer(fsys durable.FS) *dirSyncer {
	return &dirSyncer{fs: fsys, folders: map[string]*folderSync{}}
}

// sync returns when folder was synced, by a sync that began after the call.
func (s *dirSyncer) sync(folder string) error {
	f, r := s.join(folder)
	f.run <- struct{}{}
	defer func() { <-f.run }()
	if !r.done {
		s.begin(f)
		r.err = s.fs.SyncDir(folder)
		r.done = true
	}
	return r.err
}

// join returns the round of a folder that has not begun.
func (s *dirSyncer) join(folder string) (*folderSync, *round) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.folders[folder]
	if f == nil {
		f = &folderSync{run: make(chan struct{}, 1)}
		s.folders[folder] = f
	}
	if f.next == nil {
		f.next = &round{}
	}
	return f, f.next
}

// begin makes whoever comes from now on wait for another round.
func (s *dirSyncer) begin(f *folderSync) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.next = nil
}
