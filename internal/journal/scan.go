package journal

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/blockframe/blockframe/internal/frame"
)

// span is a range [lo, hi) of offsets in a segment.
type span struct{ lo, hi int64 }

// gap is a range of offsets that could not be read. A crash makes none, so it
// may hide anything.
type gap struct {
	span
	err error // io.ErrUnexpectedEOF where the file is too short
}

// scan is what one copy of a segment holds.
type scan struct {
	member string
	marks  []mark  // valid frames, by offset
	junk   []span  // what is neither a valid frame nor zero; the gaps, too
	gaps   []gap   // what could not be read
	torn   []int64 // where a frame has a good head, and the rest is bad
	heads  [2]bool // which copies of the header are good
	absent bool    // there is no such file
}

// scanSegment looks at every multiple of the grid in [headArea, limit) that no
// valid frame covers: a bad frame must not hide a good one behind it. It
// allocates in proportion to the number of frames.
func scanSegment(w *window, h *header, s sealer, limit int64) (sc scan) {
	for off := int64(headArea); off < limit; {
		m, ok, err := readMark(w, h, s, off, limit)
		if err != nil {
			sc.addGap(off, err)
		}
		switch {
		case ok && m.size > 0:
			sc.marks = append(sc.marks, m)
			off += m.size
			continue
		case m.size > 0:
			sc.torn = append(sc.torn, off)
			fallthrough
		case !ok:
			sc.addJunk(off)
		}
		off += frame.Grid
	}
	return sc
}

// readMark returns the valid frame at off; a mark of size 0 and true for a grid
// block of zeros; and false for all else, with a size above 0 if the head of the
// frame is good, and with an error if what should be there could not be read.
func readMark(w *window, h *header, s sealer, off, limit int64) (mark, bool, error) {
	b, err := w.at(off, frame.Grid)
	if err != nil {
		return mark{}, false, err
	}
	if frame.Zero(b) {
		return mark{}, true, nil
	}
	m, body, err := decodeHead(b, s, h.epoch, off, limit)
	if err != nil {
		return mark{}, false, nil
	}
	if b, err = w.at(off, int(m.size)); err != nil {
		return m, false, err
	}
	ok := decodeFrame(b, s, &m, body) == nil
	return m, ok, nil
}

func (sc *scan) addJunk(off int64) {
	if n := len(sc.junk); n > 0 && sc.junk[n-1].hi == off {
		sc.junk[n-1].hi += frame.Grid
		return
	}
	sc.junk = append(sc.junk, span{off, off + frame.Grid})
}

func (sc *scan) addGap(off int64, err error) {
	short := err == io.ErrUnexpectedEOF
	if n := len(sc.gaps); n > 0 && sc.gaps[n-1].hi == off && (sc.gaps[n-1].err == io.ErrUnexpectedEOF) == short {
		sc.gaps[n-1].hi += frame.Grid
		return
	}
	sc.gaps = append(sc.gaps, gap{span{off, off + frame.Grid}, err})
}

// unread returns the error that reading in [lo, hi) failed with, or nil.
func (sc *scan) unread(lo, hi int64) error {
	for _, g := range sc.gaps {
		if g.lo < hi && lo < g.hi {
			return g.err
		}
	}
	return nil
}

// hasJunk reports whether any byte of [lo, hi) is junk.
func (sc *scan) hasJunk(lo, hi int64) bool {
	for _, j := range sc.junk {
		if j.lo < hi && lo < j.hi {
			return true
		}
	}
	return false
}

// has reports whether the copy holds the frame m.
func (sc *scan) has(m mark) bool {
	for _, x := range sc.marks {
		if x.offset == m.offset {
			return x.hash == m.hash
		}
	}
	return false
}

// missing returns the frames of chain that the copy lacks, and how many of them
// are the last ones of chain.
func (sc *scan) missing(chain []mark) (lacks []mark, trailing int) {
	next := 0
	for _, m := range chain {
		for next < len(sc.marks) && sc.marks[next].offset < m.offset {
			next++
		}
		if next < len(sc.marks) && sc.marks[next].offset == m.offset {
			trailing = 0
			continue
		}
		lacks = append(lacks, m)
		trailing++
	}
	return lacks, trailing
}

// chain returns the longest chain of valid frames over all copies of a segment:
//
//	chain[0].prev is the header's hash, chain[i].prev is chain[i-1].hash,
//	chain[i].offset+size is chain[i+1].offset.
//
// If seal is not nil the segment is known to end with that hash. The error
// matches ErrDiverged if copies hold valid frames that contradict each other,
// and frame.ErrCorrupt if every copy is damaged at a place that something
// follows, or that what could not be read may follow or belong to. Pure.
func chain(h *header, scans []scan, seal *frame.Hash) ([]mark, error) {
	var out []mark
	prev, first, off := h.hash, h.first, int64(headArea)
	next := make([]int, len(scans)) // per copy, the first mark not looked at
	for seal == nil || prev != *seal {
		m, err := agree(h, scans, next, off, first, prev)
		if err != nil {
			return nil, err
		}
		if m.size == 0 {
			break
		}
		out = append(out, m)
		prev, first, off = m.hash, m.first+uint64(m.count), off+m.size
	}
	for i, sc := range scans {
		if next[i] < len(sc.marks) {
			return nil, stray(h, scans, sc.member, sc.marks[next[i]], off, seal != nil && prev == *seal)
		}
		if n := len(sc.torn); seal == nil && n > 0 && sc.torn[n-1] > off {
			return nil, damaged(h, scans, off, fmt.Sprintf("the head of a frame follows at offset %d", sc.torn[n-1]))
		}
	}
	if seal != nil && prev != *seal {
		return nil, damaged(h, scans, off, "the next segment follows it")
	}
	if seal == nil {
		if err := blind(h, scans, off); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// blind returns why the chain cannot be said to end at off: nowhere are zeros
// there, and some copy could not be read there, or none could at a place behind.
// A torn frame can be told from a lost one only by what was read.
func blind(h *header, scans []scan, off int64) error {
	if off >= h.size {
		return nil
	}
	var at error
	for _, sc := range scans {
		if !sc.hasJunk(off, off+frame.Grid) {
			return nil
		}
		at = errors.Join(at, named(sc.member, sc.unread(off, off+frame.Grid)))
	}
	if at != nil {
		return &Damage{Member: memberNames(scans), Segment: segmentName(h.number), Offset: off,
			Reason: "no copy of what is there is good, and it could not be read", Err: at}
	}
	return blindBehind(h, scans, off)
}

// blindBehind looks for a place behind off that no copy could be read at.
func blindBehind(h *header, scans []scan, off int64) error {
	for _, g := range scans[0].gaps {
		for lo := max(g.lo, off); lo < g.hi; lo += frame.Grid {
			err := named(scans[0].member, g.err)
			for _, sc := range scans[1:] {
				other := sc.unread(lo, lo+frame.Grid)
				if other == nil {
					err = nil
					break
				}
				err = errors.Join(err, named(sc.member, other))
			}
			if err != nil {
				return &Damage{Member: memberNames(scans), Segment: segmentName(h.number), Offset: off,
					Reason: fmt.Sprintf("no copy of the frame is good, and no copy can be read at offset %d", lo), Err: err}
			}
		}
	}
	return nil
}

// named says whose error it is.
func named(member string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("log member %s: %w", member, err)
}

// agree returns the frame at off that continues the chain, of size 0 if no copy
// has it.
func agree(h *header, scans []scan, next []int, off int64, first uint64, prev frame.Hash) (found mark, err error) {
	from := ""
	for i, sc := range scans {
		if next[i] == len(sc.marks) || sc.marks[next[i]].offset > off {
			continue
		}
		m := sc.marks[next[i]]
		switch {
		case m.offset < off || m.prev != prev || m.first != first:
			return found, diverged(h, sc.member, m.offset, "does not continue the chain of the others")
		case from != "" && m.hash != found.hash:
			return found, diverged(h, sc.member, m.offset, "is not the one of log member "+from)
		}
		found, from = m, sc.member
		next[i]++
	}
	return found, nil
}

// stray names the reason why a valid frame lies behind the end of the chain.
func stray(h *header, scans []scan, member string, m mark, end int64, sealed bool) error {
	if sealed || m.offset <= end {
		return diverged(h, member, m.offset, "lies behind the end of the segment")
	}
	return damaged(h, scans, end, fmt.Sprintf("a valid frame follows at offset %d", m.offset))
}

func diverged(h *header, member string, off int64, why string) error {
	return fmt.Errorf("%w: log member %s, segment %s: the frame at offset %d %s", ErrDiverged, member, segmentName(h.number), off, why)
}

func damaged(h *header, scans []scan, off int64, why string) error {
	var cause error
	for _, sc := range scans {
		cause = errors.Join(cause, named(sc.member, sc.unread(off, off+frame.Grid)))
	}
	return &Damage{Member: memberNames(scans), Segment: segmentName(h.number), Offset: off,
		Reason: "no copy of the frame is good, and " + why, Err: cause}
}

func memberNames(scans []scan) string {
	var names []string
	for _, sc := range scans {
		names = append(names, sc.member)
	}
	return strings.Join(names, ", ")
}
