package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strings"
	"sync"

	"github.com/blockframe/blockframe/store"
)

// List yields keys folder by folder; it holds the names of one folder in memory
// at a time. A folder that cannot be read is yielded as an error that names it,
// and the list goes on behind it if the caller does. What is listed is durable:
// a blob that a killed process made visible, but did not see synced, is synced
// before it is first listed.
func (b *Backend) List(ctx context.Context, prefix, after store.BackendKey) iter.Seq2[store.BackendKey, error] {
	return func(yield func(store.BackendKey, error) bool) {
		for i := range folders {
			if !mayHold(folderName(i)+"/", string(prefix), string(after)) {
				continue
			}
			if err := ctx.Err(); err != nil {
				yield("", err)
				return
			}
			b.syncFrom(i, len(prefix) >= 2)
			keys, err := b.listFolder(i)
			if err != nil && !yield("", err) {
				return
			}
			for _, k := range keys {
				if k > after && strings.HasPrefix(string(k), string(prefix)) && !yield(k, nil) {
					return
				}
			}
		}
	}
}

// syncAhead is how many folders are synced at a time before they are first listed.
const syncAhead = 64

// mayHold reports whether a folder, "HH/", can have keys that start with prefix
// and sort after after.
func mayHold(folder, prefix, after string) bool {
	n := min(len(folder), len(prefix))
	return folder[:n] == prefix[:n] && folder >= after[:min(len(folder), len(after))]
}

// listFolder returns the keys in a folder, in order, and counts what is none.
func (b *Backend) listFolder(i int) ([]store.BackendKey, error) {
	if b.hasClosed() {
		return nil, b.isClosed()
	}
	folder := b.at(dataName, folderName(i))
	names, err := b.fs.List(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, b.gone(nil)
	}
	if err != nil {
		return nil, fmt.Errorf("folder of blobs: %w", err)
	}
	keys := make([]store.BackendKey, 0, len(names))
	for _, name := range names {
		if k := store.BackendKey(folderName(i) + "/" + name); k.Validate() == nil {
			keys = append(keys, k)
		}
	}
	b.stray.set(i, len(names)-len(keys))
	return keys, nil
}

// syncFrom syncs a folder that was never listed, and, unless it is wanted alone,
// such ones behind it: many at a time cost little more than one. If that fails,
// the backend takes no more changes; the folder is listed all the same.
func (b *Backend) syncFrom(first int, alone bool) {
	if b.stray.synced(first) {
		return
	}
	last := min(folders, first+syncAhead)
	if alone {
		last = first + 1
	}
	_ = b.change(func() error { // a backend that is read-only has nothing to sync
		var wg sync.WaitGroup
		for i := first; i < last; i++ {
			if b.stray.synced(i) {
				continue
			}
			wg.Go(func() {
				if b.syncFolder(b.at(dataName, folderName(i))) == nil {
					b.stray.setSynced(i)
				}
			})
		}
		wg.Wait()
		return nil
	})
}

// countTop counts what lies at the top of the directory and in data/ that is
// not ours. It is not fatal if that cannot be listed.
func (b *Backend) countTop() {
	n := 0
	top, err := b.fs.List(b.path)
	for _, name := range top {
		if !isOurs(name) {
			n++
		}
	}
	data, derr := b.fs.List(b.at(dataName))
	for _, name := range data {
		if len(name) != 2 || strings.Trim(name, "0123456789abcdef") != "" {
			n++
		}
	}
	if err := errors.Join(err, derr); err != nil {
		b.log.Warn("cannot look for stray files", "dir", b.path, "err", err)
	}
	b.stray.top = n
	if n > 0 {
		b.log.Warn("files that are not ours", "dir", b.path, "count", n)
	}
}

// strays counts files that are not ours, and knows which folders were synced.
type strays struct {
	top int // written before the backend is shared

	mu    sync.Mutex
	in    [folders]int
	clean [folders]bool // synced since Open
}

func (s *strays) set(folder, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.in[folder] = n
}

func (s *strays) synced(folder int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clean[folder]
}

func (s *strays) setSynced(folder int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clean[folder] = true
}

func (s *strays) count() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.top
	for _, in := range s.in {
		n += in
	}
	return int64(n)
}
