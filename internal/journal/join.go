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
	if err := m.FS.MkdirAll(m.Dir); err != nil {
		return fmt.Errorf("log member %s: %w", m.Name, err)
	}
	v, err := j.sealNewest()
	if err != nil {
		return err
	}
	if err := j.setAside(c, v); err != nil {
		return fmt.Errorf("log member %s: %w", m.Name, err)
	}
	sealed := len(v.segs) - 1
	for i := range sealed {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("log member %s: %w", m.Name, err)
		}
		if err := j.bringSegment(c, v, i); err != nil {
			return fmt.Errorf("log member %s: %w", m.Name, err)
		}
	}
	return j.admit(c, v.segs[sealed].number)
}

// mayJoin looks at what is there of a member to be.
func (j *Journal) mayJoin(c *copyState) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.writable(); err != nil {
		return err
	}
	set := j.newest().members
	if slices.Contains(set, c.Name) {
		return fmt.Errorf("%w: it is in the log set", fs.ErrExist)
	}
	if err := checkNames(append(slices.Clone(set), c.Name)); err != nil {
		return fmt.Errorf("%w: %w", fs.ErrInvalid, err)
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
	tip := c.tip()
	moved := false
	for _, n := range numbers {
		strange, err := j.strange(c, v, n, tip != nil && tip.number >= v.segs[0].number)
		if err != nil {
			return err
		}
		if !strange {
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
	// in the place of any other.
	if first := v.segs[0].number; first > 1 {
		if err := c.writeCut(j.opts.StoreID, first); err != nil {
			return fmt.Errorf("log member %s: %w", c.Name, err)
		}
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
	// It is begun on the new member: one that has no room, or fails, is none of the set
	// then. A crash leaves the header there, and all before it: that is the new set, or,
	// when the others went on without, a segment that was never used.
	if m.next, err = m.install(h.sealed(), nil); err != nil {
		return fmt.Errorf("log member %s: %w", m.Name, err)
	}
	j.spares.Wait()
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
