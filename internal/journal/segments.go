package journal

import (
	"fmt"
)

// SetSnapshot names the newest snapshot of the view. Headers of segments made
// from now on carry it.
func (j *Journal) SetSnapshot(s Snapshot) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.snap = s
}

// Snapshot returns what SetSnapshot was given, or what the newest segment names.
func (j *Journal) Snapshot() Snapshot {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.snap
}

// Segment describes one segment. Records are [First, Last]; there are none if
// Last is First-1.
type Segment struct {
	Number      uint64
	Name        string // file name on every member
	First, Last uint64
	Size        int64 // bytes on each member
	Sealed      bool  // no record will be added
	Snapshot    Snapshot
}

// Segments returns the segments that the log holds, from the oldest.
func (j *Journal) Segments() []Segment {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := make([]Segment, len(j.segs))
	for i, h := range j.segs {
		out[i] = Segment{Number: h.number, Name: segmentName(h.number), First: h.first, Last: j.next - 1, Size: h.size, Snapshot: h.snapshot}
		if i > 0 {
			out[i-1].Last, out[i-1].Sealed = h.first-1, true
		}
	}
	return out
}

// Size returns the bytes that the segments take on each member.
func (j *Journal) Size() (n int64) {
	for _, s := range j.Segments() {
		n += s.Size
	}
	return n
}

// rotate makes the next segment durable on all members and goes on there. If a
// disk is full it can be called again: what is done on the other members
// remains, because the header is the same at each try.
func (j *Journal) rotate() error {
	if j.pending == nil {
		j.pending = j.nextHeader()
	}
	j.spares.Wait()
	err := j.each(j.installPending)
	// A crash here leaves the new segment on some members: Open makes it on the
	// others, for it is empty.
	switch {
	case err == nil:
		j.enter()
		return nil
	case isFull(err):
		return fmt.Errorf("log segment %s: %w", segmentName(j.pending.number), err)
	}
	lost, full, ok := j.lost()
	if !ok || full {
		return j.fail(err)
	}
	j.drop(lost)
	j.enter() // the others have it; the set in it has the lost one yet
	return j.goOnWithout(lost.Name, err)
}

// installPending makes the next segment on a member, unless that was done.
func (j *Journal) installPending(m *member) (err error) {
	if m.next == nil {
		m.next, err = m.install(j.pending, nil)
	}
	return err
}

// enter goes on in the next segment, which all members have.
func (j *Journal) enter() {
	for _, m := range j.members {
		if m.f != nil {
			if err := m.f.Close(); err != nil {
				j.log.Warn("log segment not closed", "member", m.Name, "err", err) // it was synced
			}
		}
		m.f, m.next = m.next, nil
	}
	j.adopt(j.pending)
}

// nextHeader returns the header of the segment after the newest.
func (j *Journal) nextHeader() *header {
	h := *j.newest()
	h.compat = 0
	h.number, h.first, h.size, h.prev, h.snapshot = h.number+1, j.next, j.opts.SegmentSize, j.prev, j.snap
	j.opts.random(h.key[:])
	return h.sealed()
}

// adopt makes h, which is durable on all members and empty, the newest segment.
// Its header names the frame before it, and so proves it.
func (j *Journal) adopt(h *header) {
	j.segs = append(j.segs, h)
	j.end, j.prev, j.sealer = headArea, h.hash, newSealer(h.key)
	j.proven, j.pending, j.tried = true, nil, false
}

func (j *Journal) newest() *header { return j.segs[len(j.segs)-1] }

// makeSpares has the file for the next segment made beforehand, once this one
// is half full: then a rotation is quick, and a disk that fills up is noticed
// while there is room for the records that make space.
func (j *Journal) makeSpares() {
	if j.tried || j.end < j.newest().size/2 {
		return
	}
	j.tried = true
	size := j.opts.SegmentSize
	make := func() {
		for _, m := range j.members {
			if err := m.prepare(size); err != nil {
				j.log.Warn("no spare log segment yet", "member", m.Name, "err", err)
			}
		}
	}
	if j.opts.Sequential {
		make()
		return
	}
	j.spares.Go(make) // Close and rotate wait for it
}
