package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/frame"
)

// The mark of a trim is a file beside the segments of a member:
//
//	0   8   magic "BFLOGCUT"
//	8   4   version, 1
//	12  16  store id
//	28  8   number of the oldest segment that is not given up
//	36  32  BLAKE3 of the 36 bytes before it
//
// It may be missing, or older than that of another member: the highest number counts with
// which what would be left begins where a snapshot ends.
const (
	cutName    = "trimmed"
	cutMagic   = "BFLOGCUT"
	cutVersion = 1
	cutSize    = 68
)

// Trim gives up the oldest segments, as far as the log goes on behind them and all of their
// records are up to covered, and returns how many. What is given up must be covered by a
// snapshot whose name is in the header of a segment that stays: others stay too. Files
// that an earlier trim did not get to, or that a member brought back which was away, are
// removed as well. While the log is read-only nothing is.
//
// The mark is written on every member first: that on the first one is the commit point.
// After it the log begins where it says. A crash before it changes nothing, and one after
// it leaves files that the next Open does not look at and the next Trim removes. Segments
// are removed from the oldest on, so that no member ever has a gap.
//
// Records that are being read out of the segments meanwhile end with fs.ErrNotExist.
func (j *Journal) Trim(covered uint64) (int, error) {
	j.healMu.Lock() // no repair brings back what is being removed
	defer j.healMu.Unlock()
	keep, n, members, err := j.plan(covered)
	if err != nil {
		return 0, err
	}
	if n > 0 {
		for _, m := range members {
			if err := m.writeCut(j.opts.StoreID, keep); err != nil {
				return 0, fmt.Errorf("trim log member %s: %w", m.Name, err)
			}
		}
		j.mu.Lock()
		j.segs = j.segs[n:] // only this function does, and who appends has j.mu
		j.mu.Unlock()
	}
	for _, m := range members {
		if err := m.sweep(keep); err != nil {
			return n, fmt.Errorf("trim log member %s: %w", m.Name, err)
		}
	}
	return n, nil
}

// plan returns the number of the oldest segment that stays, how many go, and from whom.
func (j *Journal) plan(covered uint64) (keep uint64, n int, members []*member, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.writable(); err != nil {
		return 0, 0, nil, err
	}
	n = trimmable(j.segs, covered)
	return j.segs[n].number, n, j.members, nil
}

// trimmable returns how many of the oldest segments may go. Pure.
func trimmable(segs []*header, covered uint64) (n int) {
	for n+1 < len(segs) && segs[n+1].first-1 <= covered && beginning(segs[n+1:]) == nil {
		n++
	}
	return n
}

// given reports whether a segment that was in the log has been given up.
func (j *Journal) given(h *header) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return h.number < j.segs[0].number
}

// cutOff forgets the segments that the mark of a member says were given up, before they
// are compared: a member that was away may have old ones, with a gap to what the others
// have.
func cutOff(o *Options, states []*copyState) {
	var marks []uint64
	for _, c := range states {
		n, err := c.readCut(o.StoreID)
		if err == nil {
			marks = append(marks, n)
		} else if !errors.Is(err, fs.ErrNotExist) {
			o.Logger.Warn("mark of a trim of the log ignored", "member", c.Name, "err", err)
		}
	}
	slices.SortFunc(marks, func(a, b uint64) int { return cmp.Compare(b, a) })
	i := slices.IndexFunc(marks, func(keep uint64) bool { return beginsAt(states, keep) })
	if i < 0 {
		return
	}
	for _, c := range states {
		maps.DeleteFunc(c.segs, func(n uint64, _ *segmentState) bool { return n < marks[i] })
	}
}

// beginsAt reports whether the segments from number on can be all of the log: they begin
// where a snapshot ends that one of their headers names. Pure.
func beginsAt(states []*copyState, number uint64) bool {
	var segs []*header
	for _, n := range numbers(states) {
		if n < number {
			continue
		}
		h, err := uniteOne(states, n)
		if err == nil {
			segs = append(segs, h)
		} else if len(segs) == 0 {
			return false
		}
	}
	return len(segs) > 0 && segs[0].number == number && beginning(segs) == nil
}

// encodeCut returns the bytes of a mark.
func encodeCut(store [16]byte, number uint64) []byte {
	var e frame.Encoder
	e.Raw([]byte(cutMagic))
	e.U32(cutVersion)
	e.Raw(store[:])
	e.U64(number)
	sum := frame.Sum(e.B)
	e.Raw(sum[:])
	return e.B
}

// decodeCut reads a mark.
func decodeCut(store [16]byte, b []byte) (number uint64, err error) {
	if len(b) != cutSize || frame.Sum(b[:cutSize-32]) != frame.Hash(b[cutSize-32:]) || string(b[:8]) != cutMagic {
		return 0, fmt.Errorf("%w: no mark of a trim", frame.ErrCorrupt)
	}
	d := frame.NewDecoder(b[8:])
	if v := d.U32(); v != cutVersion {
		return 0, fmt.Errorf("%w: mark of a trim has version %d, this program reads %d", frame.ErrVersion, v, cutVersion)
	}
	if id := d.ID(); id != store {
		return 0, fmt.Errorf("%w: mark of a trim of store %x", frame.ErrCorrupt, id)
	}
	return d.U64(), nil
}

func (m *member) readCut(store [16]byte) (uint64, error) {
	b, err := durable.ReadFile(m.FS, m.path(cutName), cutSize)
	if err != nil {
		return 0, err
	}
	return decodeCut(store, b)
}

// writeCut writes the mark, unless it is there.
func (m *member) writeCut(store [16]byte, number uint64) error {
	if old, err := m.readCut(store); err == nil && old >= number {
		return nil
	}
	return durable.WriteFile(m.FS, path.Join(m.Dir, cutName), encodeCut(store, number))
}

// setCut makes the mark of a new member say where the log begins, whatever it said.
func (m *member) setCut(store [16]byte, number uint64) error {
	if old, err := m.readCut(store); err == nil && old == number || number == 1 && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if number > 1 {
		return durable.WriteFile(m.FS, m.path(cutName), encodeCut(store, number))
	}
	if err := m.remove(cutName); err != nil {
		return err
	}
	return m.FS.SyncDir(m.Dir)
}

// sweep removes the segments below keep, from the oldest on.
func (m *member) sweep(keep uint64) error {
	numbers, err := m.segments()
	if err != nil {
		return err
	}
	removed := false
	for _, n := range numbers {
		if n >= keep {
			break
		}
		if err := m.remove(segmentName(n)); err != nil {
			return err
		}
		removed = true
	}
	if !removed {
		return nil
	}
	return m.FS.SyncDir(m.Dir)
}

// segments returns the numbers of the segments that are there, in order.
func (m *member) segments() (numbers []uint64, err error) {
	names, err := m.FS.List(m.Dir)
	for _, name := range names {
		if n, ok := parseSegmentName(name); ok {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, err
}
