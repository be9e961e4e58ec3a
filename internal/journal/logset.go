package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// Set returns the members that every record goes to, and the epoch: how often the set
// has changed, counted from 1.
func (j *Journal) Set() (epoch uint64, names []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	h := j.coming()
	return h.epoch, slices.Clone(h.members)
}

// coming returns the header of the newest segment, or of the one that was begun after it.
func (j *Journal) coming() *header {
	if j.pending != nil {
		return j.pending
	}
	return j.newest()
}

// SetLeast changes Options.Least.
func (j *Journal) SetLeast(n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.opts.Least = n
}

// Other is a copy of the log that was found and is not of the set: it was left behind, or
// went another way.
type Other struct {
	Name   string
	Reason string
}

// Others returns the copies that Open found and did not use. Join takes one in.
func (j *Journal) Others() []Other {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.others)
}

// Leave takes a member out of the set, of which another one must remain. When it returns
// nil no record goes to it any more, and it is not needed to open the log. Its files stay
// as they are. durable.ErrNoSpace means that nothing was changed.
func (j *Journal) Leave(name string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.writable(); err != nil {
		return err
	}
	i := slices.IndexFunc(j.members, func(m *member) bool { return m.Name == name })
	if i < 0 {
		return fmt.Errorf("log member %s: %w: it is not in the log set", name, fs.ErrNotExist)
	}
	if !j.canSpare() {
		return fmt.Errorf("log member %s: %w: the log set would have %d members, and needs %d", name, fs.ErrInvalid, len(j.members)-1, j.least())
	}
	if err := j.makeReady(j.members[i]); err != nil {
		return fmt.Errorf("log member %s stays: %w", name, err)
	}
	j.drop(j.members[i])
	j.log.Info("log member leaves", "member", name)
	return j.shrink(name, errors.New("it was taken out"), nil)
}

// makeReady makes sure that all members but one have room for what a change of the set
// takes, before anything is changed.
func (j *Journal) makeReady(but *member) error {
	j.spares.Wait()
	return j.each(func(m *member) error {
		if m == but {
			return nil
		}
		if j.pending != nil {
			if err := j.installPending(m); err != nil {
				return err
			}
		}
		return m.prepare(j.opts.SegmentSize)
	})
}

// least returns how many members the set has at least.
func (j *Journal) least() int { return max(1, j.opts.Least) }

// canSpare reports whether the set can do with a member less. One at a time: see elect.
func (j *Journal) canSpare() bool { return len(j.members) > j.least() }

// lost returns the only member that failed, if the others can go on without it. full says
// that another one had no room.
func (j *Journal) lost() (m *member, full, ok bool) {
	n := 0
	for i, err := range j.errs {
		switch {
		case err == nil:
		case isFull(err):
			full = true
		default:
			m = j.members[i]
			n++
		}
	}
	return m, full, n == 1 && j.canSpare()
}

// drop closes a member: nothing is written to it, or read from it, from here on.
func (j *Journal) drop(m *member) {
	j.spares.Wait() // it walks over the members
	is := func(x *member) bool { return x == m }
	j.members = slices.DeleteFunc(slices.Clone(j.members), is)
	j.readers = slices.DeleteFunc(slices.Clone(j.readers), is)
	j.errs = make([]error, len(j.members))
	if err := m.close(); err != nil {
		j.log.Debug("log member not closed", "member", m.Name, "err", err)
	}
}

// shrink makes the set what the members are now, without one that failed or left. Until
// every one of them has the header of the next segment, which says so, nothing is
// acknowledged: a crash before leaves the old set, with that member, and the header on some
// of the others; whichever of them are seen, what all of them have is what was promised.
func (j *Journal) shrink(name string, cause error, left func(string)) error {
	if err := j.reset(); err != nil {
		return err
	}
	j.others = append(j.others, Other{Name: name, Reason: cause.Error()})
	if left != nil {
		left(name)
	}
	return nil
}

// reset begins a segment whose set is what the members are now. If that fails the log is
// read-only: the header may be on some of them.
func (j *Journal) reset() error {
	j.spares.Wait()
	// A segment that was begun before is on some of them, and says what is to be found in
	// its place: it is finished first.
	if j.pending != nil {
		if err := j.each(j.installPending); err != nil {
			return j.fail(fmt.Errorf("to change the log set: %w", err))
		}
		j.enter()
	}
	h := j.nextHeader()
	h.epoch++
	h.members = nil
	for _, m := range j.members {
		h.members = append(h.members, m.Name)
	}
	if err := checkNames(h.members); err != nil {
		return j.fail(fmt.Errorf("to change the log set: %w", err))
	}
	j.pending = h.sealed()
	if err := j.each(j.installPending); err != nil {
		return j.fail(fmt.Errorf("to change the log set: %w", err))
	}
	j.enter()
	return nil
}

// goOnWithout begins a set without a member that failed, and was dropped.
func (j *Journal) goOnWithout(name string, cause error) error {
	j.log.Warn("log goes on without a member", "member", name, "err", cause)
	return j.shrink(name, cause, j.opts.Left)
}
