package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// Open opens the log, or makes it (Options.Create). When it returns, the last
// frame of every member that takes frames is the same, and durable.
//
// Errors: frame.ErrCorrupt (a *Damage) if every copy is damaged at one place of
// the newest segment, or in the headers of another, or, with the error of the
// reads, if what can be read does not say where the newest segment ends, or if
// the oldest segments are missing (Options.ReadOnly opens the others);
// ErrDiverged; frame.ErrVersion; fs.ErrNotExist if there is no log and Create is
// not set; fs.ErrInvalid for Options that make no sense. In all of these nothing
// was changed.
//
// A member of the newest set that is missing, empty or stale, or that fails while it
// is brought up to date, is left behind if it is one of three, or given up by
// Options.AssumeLost: then the set goes on without it. Otherwise the log opens
// read-only, and nothing is changed: see ReadOnly.
func Open(opts Options) (*Journal, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	states, err := surveyMembers(&opts)
	if err != nil {
		return nil, err
	}
	for _, n := range dropStrays(states) {
		opts.Logger.Warn("file with the name of a log segment ignored: it has no header of one", "segment", segmentName(n))
	}
	states, others := giveUp(&opts, states)
	states, left, begun, err := elect(states)
	if err != nil {
		return nil, err
	}
	cutOff(&opts, states)
	segs, err := unite(states)
	if err != nil {
		return nil, err
	}
	if len(segs) == 0 {
		if segs, err = create(&opts, states); err != nil {
			return nil, err
		}
	}
	if d := beginning(segs); d != nil && !opts.ReadOnly {
		return nil, d
	}
	j := &Journal{opts: opts, log: opts.Logger, segs: segs, snap: segs[len(segs)-1].snapshot, others: others, left: left}
	if begun && len(segs) > 1 {
		j.before = segs[len(segs)-2]
	}
	for _, c := range left {
		j.others = append(j.others, c.asOther(errors.New("it is not in the log set")))
	}
	if err := j.settle(states); err != nil {
		return nil, errors.Join(err, j.closeFiles())
	}
	j.settleOlder(states)
	return j, nil
}

// giveUp takes out the copies that an operator gave up.
func giveUp(o *Options, states []*copyState) (kept []*copyState, others []Other) {
	for _, c := range states {
		if o.givenUp(c.Name) {
			others = append(others, c.asOther(errors.New("it was given up")))
			continue
		}
		kept = append(kept, c)
	}
	return kept, others
}

func (c *copyState) asOther(reason error) Other {
	if c.gone != nil {
		reason = c.gone
	}
	return Other{Name: c.Name, Reason: reason.Error()}
}

// create makes the first segment on the first member; settle makes it on the
// others. It keeps its hands off directories that hold anything of a log.
func create(o *Options, states []*copyState) ([]*header, error) {
	var gone error
	for _, c := range states {
		if c.gone != nil {
			gone = errors.Join(gone, fmt.Errorf("log member %s: %w", c.Name, c.gone))
		}
	}
	if !o.Create || o.ReadOnly || gone != nil || len(states) == 0 {
		return nil, errors.Join(fmt.Errorf("log: %w: no member holds a segment of it", fs.ErrNotExist), gone)
	}
	h := &header{store: o.StoreID, number: max(1, o.Number), epoch: 1, first: max(1, o.First), snapshot: o.Snapshot, size: o.SegmentSize, members: o.names()}
	o.random(h.key[:])
	h.sealed()
	c := states[0]
	err := c.FS.MkdirAll(c.Dir)
	if err == nil {
		c.f, err = c.install(h, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("log member %s: %w", c.Name, err)
	}
	// A crash here leaves a log without a record on one member: Create goes on.
	c.segs[h.number] = &segmentState{heads: [2]*header{h, h}, size: h.size}
	return []*header{h}, nil
}

// settle finds the chain of the newest segment, decides which members take
// frames, and brings them to that chain, synced. If too many are missing it writes
// nothing: without the copies that are not there, damage cannot be told from a torn
// tail, nor, once that was zeroed, a damaged copy from a stale one.
func (j *Journal) settle(states []*copyState) error {
	h := j.newest()
	j.sealer = newSealer(h.key)
	windows, scans := j.scanCopies(states, h)
	defer closeAll(windows)
	frames, err := chain(h, present(scans), nil)
	if err != nil {
		return err
	}
	if err := j.checkStale(states); err != nil {
		return err
	}
	classify(&j.opts, states, h, scans, frames, len(j.segs) > 1)
	j.end, j.prev, j.next = headArea, endHash(h, frames), endIndex(h, frames)
	j.proven = true
	if n := len(frames); n > 0 {
		j.end, j.proven = frames[n-1].offset+frames[n-1].size, frames[n-1].count == 0
	}
	j.last.Store(j.next - 1)

	if j.suffice(h, states) && !j.opts.ReadOnly {
		fix := repair{j: j, h: h, sealer: j.sealer, chain: frames, windows: windows, scans: scans, tail: true}
		for i, c := range states {
			if c.gone == nil {
				c.gone = fix.bring(c, i)
			}
		}
	}
	reason := missingMembers(h, states)
	// A crash up to here, at any point, leaves copies of which at least one has
	// the whole chain: the next Open finds the same.
	for _, c := range states {
		if c.present() || c.gone == nil {
			j.readers = append(j.readers, c.member)
		}
		if c.gone != nil {
			c.close() // what it was to be synced for, its failure answers
			continue
		}
		j.members = append(j.members, c.member)
	}
	if len(j.members) == 0 {
		return fmt.Errorf("log: no member can be used: %w", reason)
	}
	j.errs = make([]error, len(j.members))
	switch {
	case j.opts.ReadOnly:
		j.reason = fmt.Errorf("%w: %w", ErrReadOnly, errors.Join(errors.New("opened for reading"), reason))
	case reason != nil && !j.suffice(h, states):
		j.fail(reason)
	case reason != nil:
		j.goOn(states, reason)
	}
	return nil
}

// suffice reports whether the members of the set h that take frames are enough.
func (j *Journal) suffice(h *header, states []*copyState) bool {
	if j.before != nil && !j.before.enough(&j.opts, slices.Concat(states, j.left)) {
		return false
	}
	return h.enough(&j.opts, states)
}

// enough reports whether enough of the set of a segment are there, and well.
func (h *header) enough(o *Options, states []*copyState) bool {
	var absent, lost []string
	for _, n := range h.members {
		i := slices.IndexFunc(states, func(c *copyState) bool { return c.Name == n })
		switch {
		case o.givenUp(n):
			lost = append(lost, n)
		case i < 0 || states[i].gone != nil:
			absent = append(absent, n)
		}
	}
	return mayWrite(h.members, absent, lost)
}

// goOn begins a set of those members that are well, which are enough.
func (j *Journal) goOn(states []*copyState, reason error) {
	j.log.Warn("log goes on without a member", "err", reason)
	for _, c := range states {
		if c.gone != nil {
			j.others = append(j.others, c.asOther(nil))
			j.readers = slices.DeleteFunc(j.readers, func(m *member) bool { return m == c.member })
		}
	}
	_ = j.reset() // or it is read-only, and says why
}

// checkStale looks at members without the newest segment. One that went its own way at the
// end of what it has is ErrDiverged; what is before is named by a header that all agree on.
// One that lacks frames at its end is stale: the next segment was begun only when all had
// the one before whole.
func (j *Journal) checkStale(states []*copyState) error {
	for k, c := range states {
		for i, h := range j.segs[:len(j.segs)-1] {
			if h.number != c.newest() {
				continue
			}
			windows, scans := j.scanCopies(states, h)
			frames, err := chain(h, present(scans), &j.segs[i+1].prev)
			closeAll(windows)
			if errors.Is(err, ErrDiverged) {
				return err // damage shows when it is read
			}
			lacks, trailing := scans[k].missing(frames)
			if err == nil && trailing > 0 && c.gone == nil && !scans[k].hasJunk(lacks[len(lacks)-trailing].offset, h.size) {
				c.gone = fmt.Errorf("it is stale: it ends before record %d", lacks[len(lacks)-trailing].first)
			}
		}
	}
	return nil
}

// bring makes the newest segment of a member equal to the chain, durably, and
// leaves it open for writing. states[i] is c.
func (r *repair) bring(c *copyState, i int) (err error) {
	if r.scans[i].absent && c.f == nil {
		if err := c.FS.MkdirAll(c.Dir); err != nil {
			return err
		}
		c.f, err = r.rebuild(c.member)
	} else {
		if c.f == nil {
			if c.f, err = c.FS.OpenWrite(c.path(segmentName(r.h.number))); err != nil {
				return err
			}
		}
		err = r.mend(c.member, c.f, i)
	}
	if err != nil {
		return err
	}
	// A killed process leaves frames, and the entry of the segment, that the
	// disk may not have yet.
	return errors.Join(c.f.Sync(), c.FS.SyncDir(c.Dir))
}

// scanCopies scans the segment h of every member: scans[i] is of states[i].
func (j *Journal) scanCopies(states []*copyState, h *header) ([]*window, []scan) {
	windows, scans := make([]*window, len(states)), make([]scan, len(states))
	sealer := newSealer(h.key)
	for i, c := range states {
		s := c.segs[h.number]
		if s == nil {
			windows[i], scans[i] = &window{err: fs.ErrNotExist}, scan{member: c.Name, absent: true}
			continue
		}
		windows[i], _ = c.open(h.number, h.size, false) // its reads tell why not
		scans[i] = scanSegment(windows[i], h, sealer, h.size)
		scans[i].member = c.Name
		scans[i].heads = [2]bool{s.heads[0] != nil, s.heads[1] != nil}
	}
	return windows, scans
}

// present returns the scans of the copies that exist.
func present(scans []scan) (out []scan) {
	for _, sc := range scans {
		if !sc.absent {
			out = append(out, sc)
		}
	}
	return out
}

// settleOlder repairs older segments that are visibly not whole: the rest of
// their damage shows when they are read.
func (j *Journal) settleOlder(states []*copyState) {
	v, err := j.view()
	if err != nil || j.reason != nil {
		return
	}
	for i, h := range j.segs[:len(j.segs)-1] {
		for _, c := range states {
			if c.segs[h.number].whole(h) {
				continue
			}
			if _, _, err := j.heal(v, i, false); err != nil {
				j.log.Error("log segment not repaired", "segment", segmentName(h.number), "err", err)
			}
			break
		}
	}
}

func closeAll(windows []*window) {
	for _, w := range windows {
		w.close()
	}
}

func (j *Journal) closeFiles() (err error) {
	for _, m := range j.members {
		err = errors.Join(err, m.close())
	}
	return err
}
