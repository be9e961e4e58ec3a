package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"time"
)

// lateAfter is how long one read may take before it counts as late.
const lateAfter = 500 * time.Millisecond

// How many of each make a backend suspect. An error of a medium is one too many.
const (
	manyErrors = 1
	manyRotten = 16
	manyLate   = 3
)

// Trouble counts what a backend gave readers besides good blocks, since a deep scrub found
// nothing of the kind. It is kept in the catalog when the store is closed, and after each
// scrub.
type Trouble struct {
	Errors int64 // reads and writes that failed, other than for want of room or of the whole backend
	Rotten int64 // blocks, and other parts, that were not what was written
	Late   int64 // reads that took longer than half a second
}

// Suspect returns why the backend is not to be trusted, "" if it is.
func (t Trouble) Suspect() string {
	var why []string
	for _, c := range []struct {
		n, many int64
		what    string
	}{{t.Errors, manyErrors, "reads or writes failed"}, {t.Rotten, manyRotten, "blocks were not what was written"}, {t.Late, manyLate, "reads took longer than half a second"}} {
		if c.n >= c.many {
			why = append(why, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	return strings.Join(why, ", ")
}

// troubles counts for one backend.
type troubles struct {
	errors, rotten, late atomic.Int64
	saved                atomic.Pointer[Trouble] // as the catalog has it, nil: it has none
}

func (c *troubles) now() Trouble { return Trouble{c.errors.Load(), c.rotten.Load(), c.late.Load()} }

func (c *troubles) set(t Trouble) {
	c.errors.Store(t.Errors)
	c.rotten.Store(t.Rotten)
	c.late.Store(t.Late)
}

// failed counts an error of the backend.
func (c *troubles) failed(err error) {
	switch {
	case err == nil, isAbsent(err), unreachable(err), errors.Is(err, ErrNoSpace), errors.Is(err, fs.ErrExist), errors.Is(err, ErrVersion):
	case errors.Is(err, ErrCorrupt):
		c.rotten.Add(1)
	default:
		c.errors.Add(1)
	}
}

// took counts a read that began then and ended now.
func (c *troubles) took(began time.Time) {
	if time.Since(began) >= lateAfter {
		c.late.Add(1)
	}
}

// Trouble returns what is counted of a backend.
func (s *Store) Trouble(id BackendID) Trouble { return s.disk(id).trouble.now() }

func troubleKey(id BackendID) string { return "disk/" + id.String() }

// loadTrouble takes over what was counted before.
func (s *Store) loadTrouble(ctx context.Context, d *disk) {
	b, err := s.cat.State(ctx, troubleKey(d.id))
	var t Trouble
	if err == nil && b != nil && json.Unmarshal(b, &t) == nil {
		d.trouble.saved.Store(&t)
		d.trouble.set(t)
	}
}

// troubleNews returns what puts the counts that changed into the catalog, and what takes
// note of it.
func (s *Store) troubleNews() (commands []Command, saved func()) {
	news := map[*disk]Trouble{}
	for id, d := range s.here() {
		t, old := d.trouble.now(), Trouble{}
		if p := d.trouble.saved.Load(); p != nil {
			old = *p
		}
		if t == old {
			continue
		}
		var b []byte // none removes it
		if t != (Trouble{}) {
			b, _ = json.Marshal(t)
		}
		commands, news[d] = append(commands, SetState{Key: troubleKey(id), Value: b}), t
	}
	return commands, func() {
		for d, t := range news {
			d.trouble.saved.Store(&t)
		}
	}
}

// saveTrouble keeps the counts of all backends. A crash before it loses some, no more.
func (s *Store) saveTrouble(ctx context.Context) {
	commands, saved := s.troubleNews()
	if len(commands) == 0 || s.over(ctx) != nil || s.writable() != nil {
		return
	}
	if _, err := s.cat.Commit(ctx, Record{Each: true, Commands: commands}); err != nil {
		s.log.Warn("what is wrong with backends is not recorded", "err", err)
		return
	}
	saved()
}

// watchTrouble returns what clears the counts of backends of which nothing was counted
// meanwhile.
func (s *Store) watchTrouble() (clear func()) {
	before := map[BackendID]Trouble{}
	for id, d := range s.here() {
		before[id] = d.trouble.now()
	}
	return func() {
		for id, d := range s.here() {
			if was, ok := before[id]; ok && was == d.trouble.now() {
				d.trouble.set(Trouble{})
			}
		}
	}
}
