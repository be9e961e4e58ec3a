package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// Join makes m a member of the set: a directory that is empty or absent, or a copy that
// was left behind. All that the log holds is copied to it, beside Append, and then the set
// is logged with it: when Join returns nil every record from then on goes to it, too, and
// it is needed to open the log. A crash before leaves what was copied, and the old set.
//
// What m holds of another way than the log's is set aside, under names that end with
// ".aside": nothing is lost that somebody might need.
//
// Errors: fs.ErrExist if it is a member; fs.ErrInvalid if it is of another store, or the
// set is full; those of Append; that of ctx, which is looked at between segments. If m
// fails at the end it is left out again, as any member.
func (j *Journal) Join(ctx context.Context, m Member) error {
	j.joinMu.Lock()
	defer j.joinMu.Unlock()
	c := &copyState{member: &member{Member: m}, segs: map[uint64]*segmentState{}}
	if err := j.mayJoin(c); err != nil {
		return fmt.Errorf("log member %s: %w", m.Name, err)
	}
	if j.begunWith(m.Name) { // an earlier try, which a full disk held up
		_, err := j.sealNewest()
		return err
	}
	if err := m.FS.MkdirAll(m.Dir); err != nil {
		return fmt.Errorf("log member %s: %w", m.Name, err)
	}
	v, err := j.view()
	if err == nil {
		err = j.setAside(c, v)
	}
	if err == nil {
		err = c.prepare(j.opts.SegmentSize) // where there is no room, nothing is begun
	}
	if err == nil {
		err = j.bringSealed(ctx, c, v, 0)
	}
	if err != nil {
		return fmt.Errorf("log member %s: %w", m.Name, err)
	}
	// What is sealed was copied. Now the rest is, up to what comes meanwhile.
	done := v.segs[len(v.segs)-1].number
	if v, err = j.sealNewest(); err != nil {
		return err
	}
	if err := j.bringSealed(ctx, c, v, done); err != nil {
		return fmt.Errorf("log member %s: %w", m.Name, err)
	}
	return j.admit(c, v.segs[len(v.segs)-1].number)
}

// begunWith reports whether a segment was begun whose set has a member that the newest
// one's has not.
func (j *Journal) begunWith(name string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.pending != nil && slices.Contains(j.pending.members, name)
}

// bringSealed copies the sealed segments from a number on.
func (j *Journal) bringSealed(ctx context.Context, c *copyState, v view, from uint64) error {
	for i, h := range v.segs[:len(v.segs)-1] {
		if h.number < from {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := j.bringSegment(c, v, i); err != nil {
			return err
		}
	}
	return nil
}

// mayJoin looks at what is there of a member to be.
func (j *Journal) mayJoin(c *copyState) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.writable(); err != nil {
		return err
	}
	set := j.coming().members
	if slices.Contains(set, c.Name) && j.pending == nil {
		return fmt.Errorf("%w: it is in the log set", fs.ErrExist)
	}
	if len(set) == maxMembers || checkNames([]string{c.Name}) != nil {
		return fmt.Errorf("%w: %d members already, or no name", fs.ErrInvalid, len(set))
	}
	if err := c.survey(j.newest().store); err != nil {
		return err
	}
	if c.gone != nil {
		return fmt.Errorf("%w: %w", fs.ErrInvalid, c.gone)
	}
	return nil
}

// sealNewest begins a new segment unless the newest is empty, so that all before it can
// be copied beside Append, and returns the log as it is then.
func (j *Journal) sealNewest() (view, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	err := j.writable()
	if err == nil && (j.end > headArea || j.pending != nil) {
		err = j.rotate()
	}
	if err != nil {
		return view{}, err
	}
	return j.now(), nil
}

// setAside renames the segments of a copy that are none of the log, newest first: a crash
// on the way leaves fewer of them.
func (j *Journal) setAside(c *copyState, v view) error {
	numbers := numbers([]*copyState{c})
	slices.Reverse(numbers)
	moved, known := false, false // known to be of the log's way
	for _, n := range numbers {
		strange, err := j.strange(c, v, n, known)
		if err != nil {
			return err
		}
		if !strange {
			known = known || n >= v.segs[0].number && c.segs[n].head() != nil
			continue
		}
		if err := c.aside(n); err != nil {
			return err
		}
		j.log.Warn("segment of another way of the log set aside", "member", c.Name, "segment", segmentName(n))
		delete(c.segs, n)
		moved = true
	}
	if !moved {
		return nil
	}
	return c.FS.SyncDir(c.Dir)
}

// strange reports whether segment n of a copy is none of the log's, or holds a frame that
// the log does not. One older than the log's oldest is removed if the copy is known to be
// of the log's way, which then was trimmed.
func (j *Journal) strange(c *copyState, v view, n uint64, known bool) (bool, error) {
	first := v.segs[0].number
	switch {
	case n < first && known:
		return false, c.remove(segmentName(n))
	case n < first || n >= first+uint64(len(v.segs)):
		return true, nil
	}
	i := int(n - first)
	h := c.segs[n].head()
	if h == nil {
		return false, nil // its frames tell, if there are any: they need the key of the segment
	}
	if h.hash != v.segs[i].hash {
		return true, nil
	}
	j.healMu.Lock()
	defer j.healMu.Unlock()
	if j.given(v.segs[i]) {
		return false, nil // a trim came between
	}
	r := j.examine(&v, i, false)
	defer func() { closeAll(r.windows) }()
	seal, _ := v.seal(i)
	frames, err := chain(r.h, r.scans, &seal)
	if err != nil {
		return false, err
	}
	for _, m := range c.scan(h).marks {
		if !slices.Contains(frames, m) {
			return true, nil
		}
	}
	return false, nil
}

// aside gives a segment a name that is none of the log.
func (m *member) aside(n uint64) error {
	from := m.path(segmentName(n))
	for i := 1; ; i++ {
		err := m.FS.RenameNew(from, fmt.Sprintf("%s.%d.aside", from, i))
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
}

// bringSegment makes a copy of segment i of the log whole that is to become a member's.
func (j *Journal) bringSegment(c *copyState, v view, i int) error {
	j.healMu.Lock()
	defer j.healMu.Unlock()
	if _, err := j.view(); err != nil {
		return err
	}
	if j.given(v.segs[i]) {
		return nil // a trim came between
	}
	return j.bringLocked(c, v, i)
}

func (j *Journal) bringLocked(c *copyState, v view, i int) (err error) {
	r := j.examine(&v, i, false)
	defer func() { closeAll(r.windows) }()
	seal, _ := v.seal(i)
	if r.chain, err = chain(r.h, r.scans, &seal); err != nil {
		return err
	}
	r.quiet = true
	k := len(r.scans)
	// Past the page cache: after a failed sync that may show what the disk never got.
	r.look(c.member, r.h.size, true)
	f := c.f
	if r.scans[k].absent {
		if f, err = r.rebuild(c.member); err != nil {
			return err
		}
		return f.Close()
	}
	if f, err = c.FS.OpenWrite(c.path(segmentName(r.h.number))); err != nil {
		return err
	}
	// What looks whole may not be on the disk yet.
	return errors.Join(r.mend(c.member, f, k), f.Sync(), f.Close(), c.FS.SyncDir(c.Dir))
}

// admit copies what came meanwhile, from segment number on, and logs the set with the new
// member. Nobody appends meanwhile.
func (j *Journal) admit(c *copyState, number uint64) error {
	j.healMu.Lock()
	defer j.healMu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.writable(); err != nil {
		return err
	}
	v := j.now()
	for i, h := range v.segs {
		if h.number < number {
			continue
		}
		if err := j.bringLocked(c, v, i); err != nil {
			return fmt.Errorf("log member %s: %w", c.Name, err)
		}
	}
	// Where the log begins every member must know: a copy from before a trim may come back
	// in the place of any other. What was said there before may be of another way.
	if err := c.setCut(j.opts.StoreID, v.segs[0].number); err != nil {
		return fmt.Errorf("log member %s: %w", c.Name, err)
	}
	return j.grow(c.member)
}

// grow begins a segment whose set has one member more, which holds all that was logged.
func (j *Journal) grow(m *member) (err error) {
	if j.pending != nil {
		if err := j.rotate(); err != nil {
			return err
		}
	}
	h := j.nextHeader()
	h.epoch++
	h.members = append(slices.Clone(h.members), m.Name)
	if err := checkNames(h.members); err != nil {
		return fmt.Errorf("log member %s: %w: %w", m.Name, fs.ErrInvalid, err)
	}
	// A disk without room is found out before anything is begun.
	j.spares.Wait()
	if err := j.each(func(m *member) error { return m.prepare(h.size) }); err != nil {
		return fmt.Errorf("spare log segment: %w", err)
	}
	// It is begun on the new member: one that has no room, or fails, is none of the set
	// then. A crash leaves the header there, and all before it: that is the new set, or,
	// when the others went on without, a segment that was never used.
	if m.next, err = m.install(h.sealed(), nil); err != nil {
		if e := m.remove(segmentName(h.number)); e == nil { // it would be one that was begun and not used
			_ = m.FS.SyncDir(m.Dir)
		}
		return fmt.Errorf("log member %s: %w", m.Name, err)
	}
	j.members, j.readers = append(slices.Clone(j.members), m), append(slices.Clone(j.readers), m)
	j.errs = make([]error, len(j.members))
	j.others = slices.DeleteFunc(slices.Clone(j.others), func(o Other) bool { return o.Name == m.Name })
	j.pending = h
	if err := j.rotate(); err != nil {
		return err
	}
	if !slices.Contains(j.newest().members, m.Name) {
		return fmt.Errorf("log member %s failed as it joined: %w", m.Name, ErrUncertain)
	}
	return nil
}
