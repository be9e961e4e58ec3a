package main

import (
	"errors"
	"fmt"
	"sync"

	"github.com/blockframe/blockframe"
)

// tally counts what became of the entries of a tree. Its methods may be called
// concurrently.
type tally struct {
	mu      sync.Mutex
	files   int
	bytes   int64
	refused int
	existed int  // of those, files that are there
	lost    bool // one of them could not be read: a range of it is lost
}

// count notes that an entry was restored, or why not.
func (r *restore) count(obj blockframe.Object, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.note(err)
		return
	}
	if kindOf(obj) == "file" {
		r.files++
		r.bytes += obj.Size
	}
	if r.json {
		writeJSON(r.out, rowOf(obj)) // flushed, and its error seen, at the end
	}
}

// refuse notes what could not be restored.
func (r *restore) refuse(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note(err)
}

// mostExisting is the number of files that are there already which a person is told of
// by name.
const mostExisting = 10

// existsError says that a file is there and is not replaced unasked.
type existsError struct{ path string }

func (e *existsError) Error() string {
	return e.path + " exists, and was left as it is: --force replaces it"
}

func (r *restore) note(err error) {
	r.refused++
	var exists *existsError
	if errors.As(err, &exists) {
		if r.existed++; r.existed > mostExisting && !r.json {
			return
		}
	}
	var ce *blockframe.CorruptError
	r.lost = r.lost || errors.As(err, &ce) || code(err) == exitLost
	r.fail(err)
}

// summary says how it went.
func (r *restore) summary() error {
	if !r.json && !r.quiet {
		fmt.Fprintf(r.out, "restored %s, %s\n", plural(r.files, "file", "files"), human(r.bytes))
	}
	if r.existed > 1 {
		r.remark("%d files exist and were left as they were (--force replaces them)", r.existed)
	}
	switch {
	case r.lost:
		return status(exitLost)
	case r.refused > 0:
		return status(exitError)
	}
	return nil
}
