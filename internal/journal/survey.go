package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/blockframe/blockframe/internal/frame"
)

// copyState is what Open found of one member, before it changed anything.
type copyState struct {
	*member
	gone error // why it cannot take frames, or nil
	segs map[uint64]*segmentState
}

// segmentState is one segment of one member.
type segmentState struct {
	heads [2]*header
	size  int64
	err   error // why something of its headers could not be read, or nil
}

// whole reports whether nothing is visibly wrong with the copy of segment h.
func (s *segmentState) whole(h *header) bool {
	return s != nil && s.heads[0] != nil && s.heads[1] != nil && s.size >= h.size
}

// present reports whether anything can be read from the member.
func (c *copyState) present() bool { return len(c.segs) > 0 }

// newest returns the highest segment number, 0 if there is none.
func (c *copyState) newest() (n uint64) {
	for number := range c.segs {
		n = max(n, number)
	}
	return n
}

// surveyMembers reads the headers of all segments of all members. It fails only
// on a log of the future.
func surveyMembers(o *Options) ([]*copyState, error) {
	var states []*copyState
	for _, mb := range o.Members {
		c := &copyState{member: &member{Member: mb}, segs: map[uint64]*segmentState{}}
		if err := c.survey(o.StoreID); err != nil {
			return nil, fmt.Errorf("log member %s, %w", mb.Name, err)
		}
		states = append(states, c)
	}
	return states, nil
}

func (c *copyState) survey(store [16]byte) error {
	numbers, err := c.list()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the same as an empty directory
	}
	if err != nil {
		c.gone = err
		return nil
	}
	for _, n := range numbers {
		s := &segmentState{}
		w, err := c.open(n, headArea, false)
		if err == nil {
			s.size, _ = w.f.Size() // 0 makes it look damaged, as it is
			s.heads, err = readHeads(w, n)
			w.close()
			if err != nil {
				return err
			}
		}
		s.err = w.err
		c.segs[n] = s
		for _, h := range s.heads {
			if h != nil && h.store != store {
				c.gone, c.segs = fmt.Errorf("it belongs to store %x", h.store), map[uint64]*segmentState{}
				return nil
			}
		}
	}
	return nil
}

// Exists reports whether a member to be holds a copy of the log of a store: a segment with
// a good header that names it. What a join left that did not come to its end is none.
func Exists(m Member, store [16]byte) bool {
	c := &copyState{member: &member{Member: m}, segs: map[uint64]*segmentState{}}
	if err := c.survey(store); err != nil {
		return true // of the future
	}
	t := c.tip()
	return t != nil && slices.Contains(t.members, m.Name)
}

// dropStrays forgets files that are no segments for all their names: readable,
// without a good header, and numbered more than one above all that have one. No
// crash makes such a gap. It returns their numbers.
func dropStrays(states []*copyState) (strays []uint64) {
	top := uint64(0)
	doubt := map[uint64]bool{} // what could not be read may be anything
	for _, c := range states {
		for n, s := range c.segs {
			if s.heads != [2]*header{} {
				top = max(top, n)
			}
			if s.err != nil && s.err != io.ErrUnexpectedEOF {
				doubt[n] = true
			}
		}
	}
	for _, n := range numbers(states) {
		if top == 0 || n <= top+1 || doubt[n] {
			continue
		}
		strays = append(strays, n)
		for _, c := range states {
			delete(c.segs, n)
		}
	}
	return strays
}

// unite returns the headers of the segments that any member holds, from the
// oldest, without a gap. The error matches ErrDiverged if two members disagree,
// and frame.ErrCorrupt if no copy of a header is good. Pure.
func unite(states []*copyState) ([]*header, error) {
	var out []*header
	for _, n := range numbers(states) {
		h, err := uniteOne(states, n)
		if err != nil {
			return nil, err
		}
		if len(out) > 0 && out[len(out)-1].number+1 != n {
			return nil, &Damage{Member: "all", Segment: segmentName(n - 1), Reason: "the segment is missing in every copy, and segment " + segmentName(n) + " follows"}
		}
		if len(out) > 0 && h.first < out[len(out)-1].first {
			return nil, &Damage{Member: "all", Segment: segmentName(n), Reason: fmt.Sprintf("it starts with record %d, before the segment before it", h.first)}
		}
		out = append(out, h)
	}
	return out, nil
}

// beginning returns the damage if the oldest segments are missing in all copies:
// the records before the oldest are in none, and no snapshot covers them. Pure.
func beginning(segs []*header) *Damage {
	covered := uint64(0)
	for _, h := range segs {
		covered = max(covered, h.snapshot.Index)
	}
	h := segs[0]
	if h.first-1 <= covered {
		return nil
	}
	return &Damage{Member: "all", Segment: segmentName(max(h.number, 2) - 1),
		Reason: fmt.Sprintf("segment %s is the oldest, and starts with record %d: those before are in no segment, and in no snapshot", segmentName(h.number), h.first)}
}

// numbers returns the numbers of the segments that any member holds, in order.
func numbers(states []*copyState) (out []uint64) {
	for _, c := range states {
		for n := range c.segs {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func uniteOne(states []*copyState, n uint64) (*header, error) {
	var found *header
	var unread error
	from := ""
	for _, c := range states {
		s := c.segs[n]
		if s == nil {
			continue
		}
		unread = errors.Join(unread, named(c.Name, s.err))
		for _, h := range s.heads {
			switch {
			case h == nil:
			case found == nil:
				found, from = h, c.Name
			case h.hash != found.hash:
				return nil, fmt.Errorf("%w: the header of segment %s of log member %s is not that of log member %s", ErrDiverged, segmentName(n), c.Name, from)
			}
		}
	}
	if found == nil {
		return nil, &Damage{Member: "all", Segment: segmentName(n), Reason: "no copy of the segment's header is good", Err: unread}
	}
	return found, nil
}

// classify sets gone for each member that must not take frames: newest is the
// header of the newest segment and chain its frames, scans[i] what states[i]
// holds of it, and before says whether a segment comes before. Pure.
func classify(o *Options, states []*copyState, newest *header, scans []scan, chain []mark, before bool) {
	for i, c := range states {
		if c.gone == nil {
			c.gone = missing(o, c, newest, scans[i], chain, before)
		}
	}
}

// missing returns why a member cannot take frames, or nil. One frame behind, or
// without a newest segment that is empty, is what a crash leaves.
func missing(o *Options, c *copyState, newest *header, sc scan, chain []mark, before bool) error {
	lacks, trailing := sc.missing(chain)
	switch {
	case !slices.Contains(newest.members, c.Name):
		return errors.New("it is not in the log set")
	case !c.present() && o.Create && !before && len(chain) == 0:
		return nil // a crash while the log was made
	case !c.present():
		return fmt.Errorf("%s is missing or empty", c.Dir)
	case sc.absent && (len(chain) > 0 || c.newest()+1 != newest.number):
		return fmt.Errorf("it is stale: it ends with segment %s, the log with %s", segmentName(c.newest()), segmentName(newest.number))
	case !sc.absent && trailing > 1 && !sc.hasJunk(lacks[len(lacks)-trailing].offset, newest.size):
		return fmt.Errorf("it is stale: it ends before record %d, the log with %d", lacks[len(lacks)-trailing].first, endIndex(newest, chain)-1)
	}
	return nil
}

// endOffset returns the offset behind the last frame of chain.
func endOffset(chain []mark) int64 {
	if len(chain) == 0 {
		return headArea
	}
	last := chain[len(chain)-1]
	return last.offset + last.size
}

// endIndex returns the index of the record after the last of chain.
func endIndex(h *header, chain []mark) uint64 {
	if len(chain) == 0 {
		return h.first
	}
	last := chain[len(chain)-1]
	return last.first + uint64(last.count)
}

// missingMembers says which members of the set cannot take frames, and why.
func missingMembers(h *header, states []*copyState) (err error) {
	for _, n := range h.members {
		if !slices.ContainsFunc(states, func(c *copyState) bool { return c.Name == n }) {
			err = errors.Join(err, fmt.Errorf("log member %s is missing: no directory was given for it", n))
		}
	}
	for _, c := range states {
		if c.gone != nil {
			err = errors.Join(err, fmt.Errorf("log member %s is missing or failed: %w", c.Name, c.gone))
		}
	}
	return err
}

// endHash returns the hash that the frame after chain refers to.
func endHash(h *header, chain []mark) frame.Hash {
	if len(chain) == 0 {
		return h.hash
	}
	return chain[len(chain)-1].hash
}
