package store

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	scrubSave   = 30 * time.Second // between records of how far a pass is
	scrubShow   = time.Second      // between looks at it for ScrubStatus
	scrubRetry  = 10 * time.Minute // after a pass that failed
	scrubRecord = 24 * time.Hour   // between records of quick passes that found nothing
	scrubLeave  = 2 * time.Second  // for a last record when the store closes
)

// scrubber runs the passes of scrub that nobody asked for, one after the other: a quick one
// that is due comes between two extents of a deep one. How far a deep one is, and when the
// last ones ended, is in the catalog, in a record now and then: a store at rest writes a
// record a day.
type scrubber struct {
	s    *Store
	pace *pacer

	mu    sync.Mutex // held while what follows is used, and while it is recorded
	kinds [2]scrubKind
	known bool // kinds have what the catalog has
}

// scrubKind are the passes of one kind.
type scrubKind struct {
	deep  bool
	every time.Duration // negative: none

	// Of the goroutine that runs the passes.
	due   time.Time
	shown time.Time // when now was made of the pass
	noted time.Time // when it was to be recorded last

	last  *ScrubPass // that ended
	now   *ScrubPass // under way here, or in an earlier process
	after ExtentID   // where now goes on
	saved time.Time  // when this was last recorded
	dirty bool       // it changed since
}

func newScrubber(s *Store, pace *pacer) *scrubber {
	k := &scrubber{s: s, pace: pace}
	k.kinds[0] = scrubKind{every: s.opts.Upkeep.Quick}
	k.kinds[1] = scrubKind{every: s.opts.Upkeep.Deep, deep: true}
	return k
}

func (k *scrubber) kind(deep bool) *scrubKind {
	if deep {
		return &k.kinds[1]
	}
	return &k.kinds[0]
}

// ScrubStatus returns the last passes that ended, and those under way.
func (s *Store) ScrubStatus(ctx context.Context) (st ScrubStatus, err error) {
	k := s.scrubs
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.load(ctx); err != nil {
		return st, fmt.Errorf("scrub status: %w", err)
	}
	return ScrubStatus{k.kinds[0].last, k.kinds[0].now, k.kinds[1].last, k.kinds[1].now}, nil
}

// load reads what the catalog has, once. k.mu is held.
func (k *scrubber) load(ctx context.Context) error {
	if k.known {
		return nil
	}
	for i := range k.kinds {
		kind := &k.kinds[i]
		st, err := k.s.readState(ctx, kind.deep)
		if err != nil {
			return err
		}
		if st.Last != nil {
			kind.last = st.Last.pass(kind.deep, k.s.set.Load().paths)
			kind.saved = kind.last.Ended
		}
		if st.Now != nil {
			kind.now, kind.after = st.Now.pass(kind.deep, k.s.set.Load().paths), ExtentID(st.Now.After)
		}
	}
	k.known = true
	return nil
}

// run runs passes until the store closes.
func (k *scrubber) run() {
	defer k.leave()
	ctx := k.s.ctx
	if pause(ctx, k.s.opts.Upkeep.After) != nil {
		return
	}
	for {
		if err := k.plan(ctx); err == nil {
			break
		} else if pause(ctx, scrubRetry) != nil {
			return
		}
	}
	for {
		kind := k.next()
		if kind == nil || pause(ctx, time.Until(kind.due)) != nil {
			return
		}
		k.pass(ctx, kind)
	}
}

// plan says when the first passes are due: now, if one was not ended, or if the last one
// is longer ago than it should be, or will have been only by a clock that was set back.
func (k *scrubber) plan(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.load(ctx)
	if err != nil {
		k.s.log.Warn("what is recorded of earlier scrubs cannot be read", "err", err)
		return err
	}
	now := time.Now()
	for i := range k.kinds {
		kind := &k.kinds[i]
		kind.due = now
		if kind.now == nil && kind.last != nil && !kind.last.Began.After(now) {
			kind.due = kind.last.Began.Add(jitter(kind.every))
		}
	}
	return nil
}

// next returns the kind that is due first, nil if there is none at all.
func (k *scrubber) next() (first *scrubKind) {
	for i := range k.kinds {
		if kind := &k.kinds[i]; kind.every >= 0 && (first == nil || kind.due.Before(first.due)) {
			first = kind
		}
	}
	return first
}

// pass runs one pass, or goes on with one.
func (k *scrubber) pass(ctx context.Context, kind *scrubKind) {
	if k.asked(kind) {
		return
	}
	c := k.begin(kind)
	if f := k.s.opts.Events.ScrubBegan; f != nil {
		f(*c.progress())
	}
	c.tick = func() error { return k.tick(ctx, kind, c) }
	err := c.all(ctx)
	if err == nil {
		err = k.ended(ctx, c, false)
	}
	now := time.Now()
	// One that takes longer than the time between two leaves as much to the other kind.
	if kind.due = c.began.Add(jitter(kind.every)); kind.due.Before(now.Add(now.Sub(c.since))) {
		kind.due = now.Add(now.Sub(c.since))
	}
	if err != nil {
		kind.due = now.Add(scrubRetry)
		if ctx.Err() == nil {
			k.s.log.Warn("a scrub was cut short, and goes on later", "deep", kind.deep, "again", scrubRetry, "err", err)
		}
		k.show(kind, c)
		return
	}
	k.s.stats.scrubs.Add(1)
	if f := k.s.opts.Events.ScrubEnded; f != nil {
		p := c.progress()
		p.Ended, p.Done = now, 1
		f(*p)
	}
}

// asked reports whether somebody asked for a pass since this one was planned: then it is due
// later.
func (k *scrubber) asked(kind *scrubKind) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if kind.now != nil || kind.last == nil {
		return false
	}
	if since := time.Since(kind.last.Began); since < 0 || since >= kind.every*9/10 {
		return false
	}
	kind.due = kind.last.Began.Add(jitter(kind.every))
	return true
}

// begin returns the pass that was not ended, or a new one.
func (k *scrubber) begin(kind *scrubKind) *scrub {
	c := newScrub(k.s, ScrubOptions{Deep: kind.deep}, k.pace.like())
	k.mu.Lock()
	defer k.mu.Unlock()
	if p := kind.now; p != nil {
		c.rep, c.began, c.spent, c.after = p.ScrubReport, p.Began, p.Worked, kind.after
		c.rep.Disks = slices.Clone(p.Disks) // who asks for the status has the others
		c.settle()
		c.tolerances.resume(p.Degraded, p.DegradedMore)
	}
	kind.now, kind.shown, kind.noted = c.progress(), c.since, c.since
	return c
}

// tick is called after each extent of a pass.
func (k *scrubber) tick(ctx context.Context, kind *scrubKind, c *scrub) error {
	now := time.Now()
	if now.Sub(kind.shown) >= scrubShow {
		k.show(kind, c)
	}
	if kind.deep && now.Sub(kind.noted) >= scrubSave {
		k.show(kind, c)
		k.save(ctx, kind)
	}
	if quick := k.kind(false); kind.deep && quick.every >= 0 && !now.Before(quick.due) {
		k.pass(ctx, quick)
	}
	return ctx.Err()
}

// show makes known how far a pass is.
func (k *scrubber) show(kind *scrubKind, c *scrub) {
	p := c.progress()
	k.mu.Lock()
	defer k.mu.Unlock()
	kind.now, kind.after, kind.dirty = p, c.after, true
	kind.shown = time.Now()
}

// ended makes known that a pass has ended, be it one that was asked for, and records it,
// but for a quick one in the background that found nothing, of which one a day is. What
// cannot be recorded has been found all the same.
func (k *scrubber) ended(ctx context.Context, c *scrub, asked bool) error {
	p := c.progress()
	p.Ended, p.Done = time.Now(), 1
	c.s.damage.flush(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.load(ctx); err != nil {
		return err
	}
	kind := k.kind(c.opts.Deep)
	kind.last, kind.dirty = p, true
	if !asked {
		kind.now, kind.after = nil, ExtentID{}
	}
	if !asked && !kind.deep && p.Clean() && p.Ended.Sub(kind.saved) < scrubRecord {
		return nil
	}
	done := Scrubbed{Deep: c.rep.Deep, Began: c.began, Extents: uint64(c.rep.Extents), Bytes: uint64(c.rep.Bytes),
		Damaged: uint64(c.rep.Damaged), Repaired: uint64(c.rep.Repaired), Lost: uint64(len(c.rep.Lost)) + uint64(c.rep.LostMore)}
	news, saved := k.s.troubleNews()
	err := k.record(ctx, kind, append([]Command{done}, news...)...)
	if err != nil && ctx.Err() == nil {
		k.s.log.Warn("that a scrub has ended could not be recorded", "deep", kind.deep, "err", err)
		return nil
	}
	if err == nil && !kind.dirty {
		saved()
	}
	return err
}

// save records how far a pass is. A crash before it costs what was looked at since the last
// time: it is looked at again.
func (k *scrubber) save(ctx context.Context, kind *scrubKind) {
	k.mu.Lock()
	defer k.mu.Unlock()
	kind.noted = time.Now()
	if err := k.record(ctx, kind); err != nil && ctx.Err() == nil {
		k.s.log.Warn("how far a scrub is could not be recorded", "deep", kind.deep, "err", err)
	}
}

// record records the passes of a kind, together with other commands. k.mu is held.
func (k *scrubber) record(ctx context.Context, kind *scrubKind, also ...Command) error {
	if !kind.dirty || k.s.refuses() != nil {
		return nil
	}
	st := scrubState{}
	if kind.last != nil {
		st.Last = save(kind.last, ExtentID{})
	}
	if kind.now != nil {
		st.Now = save(kind.now, kind.after)
	}
	c, err := st.command(kind.deep)
	if err != nil {
		return err
	}
	res, err := k.s.cat.Commit(ctx, Record{Commands: append(also, c)})
	if err == nil {
		err = res[0].Err
	}
	if err == nil {
		kind.dirty = false
		kind.saved = time.Now()
	}
	return err
}

// leave records how far the passes are when the store closes.
func (k *scrubber) leave() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(k.s.ctx), scrubLeave)
	defer cancel()
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range k.kinds {
		if err := k.record(ctx, &k.kinds[i]); err != nil {
			k.s.log.Warn("how far a scrub is could not be recorded", "deep", k.kinds[i].deep, "err", err)
		}
	}
}
