package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/frame"
)

// repair brings copies of one segment to the chain that was found over all of
// them. It writes only where a copy is bad, so a crash on the way harms nothing
// that is good, and the next repair finds the same chain.
type repair struct {
	j       *Journal
	h       *header
	sealer  sealer
	chain   []mark
	windows []*window // of each copy
	scans   []scan
	tail    bool // the segment may end in a torn frame, which is no damage
	quiet   bool // the copy is of one who joins: what it lacks is no damage
}

// needed reports whether copy i differs from the chain.
func (r *repair) needed(i int) bool {
	sc := r.scans[i]
	lacks, _ := sc.missing(r.chain)
	return sc.absent || sc.heads != [2]bool{true, true} || len(lacks) > 0 || sc.hasJunk(r.end(), r.h.size)
}

// end returns the offset behind the last frame.
func (r *repair) end() int64 { return endOffset(r.chain) }

// mend writes into f, which is copy i of the segment, what it lacks, and zeros
// over what is behind the last frame, and syncs it.
func (r *repair) mend(m *member, f durable.File, i int) error {
	sc, end := &r.scans[i], r.end()
	if err := writeHeads(f, r.h, sc.heads); err != nil {
		return err
	}
	lacks, _ := sc.missing(r.chain)
	for _, x := range lacks {
		if err := r.copyFrame(f, x); err != nil {
			return err
		}
	}
	for _, s := range sc.junk {
		if err := zeroSpan(f, max(s.lo, end), s.hi); err != nil {
			return err
		}
	}
	if r.needed(i) {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	r.report(m.Name, sc, lacks)
	return nil
}

// rebuild makes the segment anew on a member that has no such file.
func (r *repair) rebuild(m *member) (durable.File, error) {
	var fill func(durable.File) error
	if len(r.chain) > 0 {
		fill = func(f durable.File) error {
			for _, x := range r.chain {
				if err := r.copyFrame(f, x); err != nil {
					return err
				}
			}
			return nil
		}
	}
	f, err := m.install(r.h, fill)
	if err == nil && !r.tail && !r.quiet {
		r.j.repaired(Damage{Member: m.Name, Segment: segmentName(r.h.number), Reason: "the file was missing"})
	}
	return f, err
}

// copyFrame writes a frame of the chain into f, from a copy that has it. The
// frame is verified once more on the way.
func (r *repair) copyFrame(f durable.File, x mark) error {
	for i, sc := range r.scans {
		if !sc.has(x) {
			continue
		}
		m, ok, _ := readMark(r.windows[i], r.h, r.sealer, x.offset, r.h.size)
		if !ok || m.hash != x.hash {
			continue
		}
		b, err := r.windows[i].at(x.offset, int(x.size))
		if err != nil {
			continue
		}
		_, err = f.WriteAt(b, x.offset)
		return err
	}
	return &Damage{Member: "all", Segment: segmentName(r.h.number), Offset: x.offset, Reason: "the frame could be read before, and cannot any more"}
}

// zeroSpan writes zeros over [lo, hi).
func zeroSpan(f durable.File, lo, hi int64) error {
	if lo >= hi {
		return nil
	}
	zeros := frame.Aligned(int(min(hi-lo, zeroChunk)))
	for lo < hi {
		n := min(hi-lo, int64(len(zeros)))
		if _, err := f.WriteAt(zeros[:n], lo); err != nil {
			return err
		}
		lo += n
	}
	return nil
}

// report says what was wrong with a copy that mend has repaired.
func (r *repair) report(member string, sc *scan, lacks []mark) {
	if r.quiet {
		return
	}
	name := segmentName(r.h.number)
	for i, ok := range sc.heads {
		if !ok {
			r.j.repaired(Damage{Member: member, Segment: name, Offset: int64(i) * headerSize, Reason: "the header was bad"})
		}
	}
	for _, x := range lacks {
		if r.tail && x == r.chain[len(r.chain)-1] {
			r.j.log.Warn("last log frame copied to a member that lacked it", "member", member, "segment", name, "offset", x.offset)
			continue
		}
		r.j.repaired(Damage{Member: member, Segment: name, Offset: x.offset, Reason: fmt.Sprintf("the frame of %d records from %d on was bad", x.count, x.first)})
	}
	for _, s := range sc.junk {
		lo := max(s.lo, r.end())
		if lo >= s.hi {
			continue
		}
		if r.tail {
			r.j.log.Warn("torn tail of the log zeroed", "member", member, "segment", name, "offset", lo, "bytes", s.hi-lo)
			continue
		}
		r.j.repaired(Damage{Member: member, Segment: name, Offset: lo, Reason: fmt.Sprintf("%d bytes behind the last frame were not zero", s.hi-lo)})
	}
}

// view is the log at one moment: what was durable then stays as it is.
type view struct {
	segs    []*header
	readers []*member
	end     int64      // of the newest segment's frames
	prev    frame.Hash // of the last frame
	last    uint64
}

func (j *Journal) view() (view, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return view{}, j.writable()
	}
	return j.now(), nil
}

// now is the view of who holds mu.
func (j *Journal) now() view {
	return view{segs: j.segs[:len(j.segs):len(j.segs)], readers: j.readers, end: j.end, prev: j.prev, last: j.next - 1}
}

// seal returns the hash that the frames of segment i end with, and how far they
// reach at most.
func (v *view) seal(i int) (hash frame.Hash, limit int64) {
	if i+1 < len(v.segs) {
		return v.segs[i+1].prev, v.segs[i].size
	}
	return v.prev, v.end
}

// heal verifies segment i of all members from end to end and repairs what is
// bad, unless the log is read-only. It returns the frames, and how many copies it
// left bad. It may run beside Append: it looks only at what is durable, and that
// does not change. Once the log is closed it does nothing.
func (j *Journal) heal(v view, i int, uncached bool) (frames []mark, bad int, err error) {
	j.healMu.Lock()
	defer j.healMu.Unlock()
	now, err := j.view()
	if err != nil {
		return nil, 0, err
	}
	if j.given(v.segs[i]) {
		return nil, 0, nil // a trim came between
	}
	v.readers = now.readers // the set may have changed
	r := j.examine(&v, i, uncached)
	defer func() { closeAll(r.windows) }()
	seal, _ := v.seal(i)
	if r.chain, err = chain(r.h, r.scans, &seal); err != nil {
		return nil, 0, err
	}
	// If nothing stands in the way, all readers are members.
	readOnly := j.ReadOnly() != nil
	for k, m := range v.readers {
		if !r.needed(k) {
			continue
		}
		if bad++; readOnly {
			continue
		}
		if err := r.heal(m, k); err != nil {
			if err = j.healFailed(m, err); err != nil {
				return r.chain, bad, err
			}
		}
		bad--
	}
	return r.chain, bad, nil
}

// examine scans segment i of all readers. The caller closes the windows.
func (j *Journal) examine(v *view, i int, uncached bool) *repair {
	h := v.segs[i]
	r := &repair{j: j, h: h, sealer: newSealer(h.key)}
	_, limit := v.seal(i)
	for _, m := range v.readers {
		r.look(m, limit, uncached)
	}
	return r
}

// look adds the copy of a member to those that are compared.
func (r *repair) look(m *member, limit int64, uncached bool) {
	w, err := m.open(r.h.number, r.h.size, uncached)
	sc := scanSegment(w, r.h, r.sealer, limit)
	sc.member, sc.absent = m.Name, errors.Is(err, fs.ErrNotExist)
	heads, _ := readHeads(w, r.h.number) // the version was right when it was opened
	for k := range heads {
		sc.heads[k] = heads[k] != nil && heads[k].hash == r.h.hash
	}
	r.windows, r.scans = append(r.windows, w), append(r.scans, sc)
}

func (r *repair) heal(m *member, k int) (err error) {
	var f durable.File
	if r.scans[k].absent {
		// The temporary file that becomes this segment is that of spares, too.
		r.j.mu.Lock()
		defer r.j.mu.Unlock()
		if r.h == r.j.newest() {
			// Append writes to the file that was removed: one made anew would
			// lack all that comes.
			return fmt.Errorf("its newest segment %s was removed while it was open", segmentName(r.h.number))
		}
		r.j.spares.Wait()
		if f, err = r.rebuild(m); err != nil {
			return err
		}
		return f.Close()
	}
	if f, err = m.FS.OpenWrite(m.path(segmentName(r.h.number))); err != nil {
		return err
	}
	return errors.Join(r.mend(m, f, k), f.Close())
}

// healFailed: a member that cannot be repaired for want of space works on, any
// other has failed: without it the log goes on, or does not. It returns why the
// repair is over.
func (j *Journal) healFailed(m *member, err error) error {
	err = fmt.Errorf("log member %s: %w", m.Name, err)
	if isFull(err) {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.writable() != nil:
		return err
	case !slices.Contains(j.members, m):
		return nil // it has left meanwhile
	case !j.canSpare():
		return j.fail(err)
	}
	j.drop(m)
	return j.goOnWithout(m.Name, err)
}
