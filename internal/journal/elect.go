package journal

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/blockframe/blockframe/internal/frame"
)

// The set of members changes only from one segment to the next: the header of a segment
// names the set that holds it, and the epoch counts the changes. Nothing is acknowledged
// in a segment before every member of its set has the header, durably, and all before it.
// A change adds one member or takes one away. It follows:
//
//   - who sees every member of the newest set it can see, or two of three of them, sees
//     the newest set there is: one that came after it has a member among these;
//   - a segment whose set has a member without it was never used. One that only some got
//     before a crash is such, and then one of another set that began in its place may be,
//     too: any of these can be gone on from, if no member of its set went another way.
//
// This is what elect and mayWrite rest on, and what TestEveryOrder walks through.

// tip returns the header of the newest segment of a copy that has a good one, or nil.
func (c *copyState) tip() (tip *header) {
	for _, s := range c.segs {
		if h := s.head(); h != nil && (tip == nil || h.number > tip.number) {
			tip = h
		}
	}
	return tip
}

// head returns a good header of a segment, or nil.
func (s *segmentState) head() *header {
	if s == nil {
		return nil
	}
	if s.heads[0] != nil {
		return s.heads[0]
	}
	return s.heads[1]
}

// elect decides which set of members the log has now, and returns their copies, those
// that are not there included, and the others, which were left behind or went another way
// that nobody needs. The error matches ErrDiverged when two ways may have been used.
//
// begun says that one of the set has no header of the newest segment: then it was never
// used, and the set before it may have gone on in another place.
func elect(states []*copyState) (members, others []*copyState, begun bool, err error) {
	states, strangers := apart(states)
	var tips []*copyState // one for each newest segment that nobody went on from
	for _, c := range states {
		if c.tip() != nil && !slices.ContainsFunc(states, func(x *copyState) bool { return overtakes(x, c) }) &&
			!slices.ContainsFunc(tips, func(x *copyState) bool { return x.tip().hash == c.tip().hash }) {
			tips = append(tips, c)
		}
	}
	if len(tips) == 0 && len(strangers) > 0 {
		return nil, nil, false, fmt.Errorf("log: %w: member %s holds a copy, and it is not in the log set of that", fs.ErrNotExist, strangers[0].Name)
	}
	if len(tips) == 0 {
		return states, nil, false, nil
	}
	way, begun := choose(tips, states)
	if way == nil {
		return nil, nil, false, fmt.Errorf("%w: %s", ErrDiverged, ways(tips))
	}
	set := way.tip().members
	others = strangers
	for _, c := range states {
		if slices.Contains(set, c.Name) {
			members = append(members, c)
		} else {
			others = append(others, c)
		}
	}
	return members, others, begun, nil
}

// apart separates the copies that do not name themselves: they were not made as such.
func apart(states []*copyState) (own, strangers []*copyState) {
	for _, c := range states {
		if t := c.tip(); t != nil && !slices.Contains(t.members, c.Name) {
			strangers = append(strangers, c)
		} else {
			own = append(own, c)
		}
	}
	return own, strangers
}

// overtakes reports whether the copy x goes on where the copy c ends.
func overtakes(x, c *copyState) bool {
	return x.tip() != nil && x.tip().number > c.tip().number && continues(x, c)
}

// choose returns the one of tips that may have been used, or any if it is certain that
// none was, which is reported; nil if two may have been.
func choose(tips, states []*copyState) (way *copyState, unused bool) {
	var used, begun []*copyState
	for _, c := range tips {
		switch lacks, strays := companions(c, states); {
		case !lacks:
			used = append(used, c)
		case !strays:
			begun = append(begun, c)
		}
	}
	switch {
	case len(used) == 1:
		return used[0], false
	case len(used) == 0 && len(begun) > 0:
		return begun[0], true
	}
	return nil, false
}

// companions looks at those of the set of a copy's newest segment which are there: lacks says
// that one has no such segment, strays that one went another way.
func companions(c *copyState, states []*copyState) (lacks, strays bool) {
	t := c.tip()
	for _, y := range states {
		if y.tip() == nil || y.tip().hash == t.hash || !slices.Contains(t.members, y.Name) {
			continue
		}
		s := y.segs[t.number]
		lacks = lacks || s == nil && y.tip().number < t.number || s.head() != nil && s.head().hash != t.hash
		strays = strays || !continues(c, y)
	}
	return lacks || strays, strays
}

// continues reports whether all that the copy c holds is in x, as far as can be seen from
// the two of them: damage, and segments that were trimmed, are no contradiction.
func continues(x, c *copyState) bool {
	n := c.tip().number
	if x.tip().number < n {
		return false
	}
	for number, s := range c.segs {
		h, mine := s.head(), x.segs[number].head()
		if h != nil && mine != nil && h.hash != mine.hash {
			return false
		}
	}
	next := x.segs[n+1].head()
	return next == nil || !goesBeyond(c, next.prev)
}

// goesBeyond reports whether the newest segment of a copy has a frame behind the one that
// the segment after it says was the last.
func goesBeyond(c *copyState, last frame.Hash) bool {
	h := c.tip()
	sc := c.scan(h)
	if last == h.hash {
		return len(sc.marks) > 0
	}
	for i, m := range sc.marks {
		if m.hash == last {
			return i+1 < len(sc.marks)
		}
	}
	return false // it ends before
}

// scan reads a segment of the copy from end to end.
func (c *copyState) scan(h *header) scan {
	w, _ := c.open(h.number, h.size, false) // its reads tell why not
	defer w.close()
	sc := scanSegment(w, h, newSealer(h.key), h.size)
	sc.member = c.Name
	return sc
}

// ways describes sets that each may have gone on alone.
func ways(tips []*copyState) string {
	var list []string
	for _, c := range tips {
		h := c.tip()
		list = append(list, fmt.Sprintf("member %s has segment %s of the set %s, epoch %d", c.Name, segmentName(h.number), strings.Join(h.members, ", "), h.epoch))
	}
	return strings.Join(list, "; ")
}

// mayWrite reports whether the members of the newest set that was seen suffice to take
// records: absent are those of them that cannot take frames, and lost, which are others,
// those which an operator gave up.
func mayWrite(set, absent, lost []string) bool {
	return len(absent) == 0 || len(absent) == 1 && len(set) == 3 && len(lost) == 0
}
