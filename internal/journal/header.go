package journal

import (
	"fmt"

	"github.com/blockframe/blockframe/internal/frame"
)

const (
	segmentMagic   = "BFLOGSEG"
	segmentVersion = 1

	headerSize = frame.Grid
	headArea   = 2 * headerSize // the header stands twice; frames follow
	headerSum  = headerSize - 32

	maxMembers    = 8
	maxMemberName = 128

	minSegment = headArea + 2*frame.Grid
	maxSegment = 1 << 30
)

// Snapshot names a snapshot of the view: an object whose content covers every
// record up to Index. The zero value is none.
type Snapshot struct {
	ID    [32]byte // content id
	Index uint64
}

// header is what a segment says of itself.
type header struct {
	compat   uint32
	store    [16]byte
	number   uint64 // from 1
	epoch    uint64
	first    uint64 // index of the first record
	size     int64  // bytes, a multiple of the grid
	prev     frame.Hash
	key      [32]byte
	snapshot Snapshot
	members  []string

	hash frame.Hash // at the end of the encoded header
}

// encode returns the header's 4096 bytes.
func (h *header) encode() []byte {
	e := frame.Encoder{B: make([]byte, 0, headerSize)}
	e.Raw([]byte(segmentMagic))
	e.U32(segmentVersion)
	e.U32(0)
	e.U32(h.compat)
	e.Raw(h.store[:])
	e.U64(h.number)
	e.U64(h.epoch)
	e.U64(h.first)
	e.I64(h.size)
	e.Raw(h.prev[:])
	e.Raw(h.key[:])
	e.Raw(h.snapshot.ID[:])
	e.U64(h.snapshot.Index)
	e.U32(uint32(len(h.members)))
	for _, m := range h.members {
		e.String(m)
	}
	return sealHeader(append(e.B, make([]byte, headerSum-len(e.B))...))
}

// sealHeader appends the hash of b.
func sealHeader(b []byte) []byte {
	sum := frame.Sum(b)
	return append(b, sum[:]...)
}

// sealed sets hash, when all else is set, and returns h.
func (h *header) sealed() *header {
	h.hash = frame.Hash(h.encode()[headerSum:])
	return h
}

// decodeHeader reads one copy of a header. Its hash is checked before its
// version: frame.ErrVersion therefore means the future, and frame.ErrCorrupt
// damage.
func decodeHeader(b []byte) (*header, error) {
	if len(b) != headerSize || string(b[:8]) != segmentMagic {
		return nil, fmt.Errorf("%w: no segment header", frame.ErrCorrupt)
	}
	if frame.Sum(b[:headerSum]) != frame.Hash(b[headerSum:]) {
		return nil, fmt.Errorf("%w: the hash of the segment header is wrong", frame.ErrCorrupt)
	}
	d := frame.NewDecoder(b[8:headerSum])
	if v := d.U32(); v != segmentVersion {
		return nil, fmt.Errorf("%w: log segment has version %d, this program reads %d", frame.ErrVersion, v, segmentVersion)
	}
	if bits := d.U32(); bits != 0 {
		return nil, fmt.Errorf("%w: log segment needs features %#x", frame.ErrVersion, bits)
	}
	h := &header{compat: d.U32(), store: d.ID(), number: d.U64(), epoch: d.U64(), first: d.U64(), size: d.I64(), prev: d.Hash(), key: d.Hash()}
	h.hash = frame.Hash(b[headerSum:])
	h.snapshot = Snapshot{ID: d.Hash(), Index: d.U64()}
	for range d.Count(5) {
		h.members = append(h.members, d.String(maxMemberName))
	}
	if d.Err() == nil && !frame.Zero(d.Rest()) {
		d.Fail("padding is not zero")
	}
	if d.Err() == nil {
		h.check(d)
	}
	return h, d.Err()
}

// check refuses values that no writer makes.
func (h *header) check(d *frame.Decoder) {
	switch {
	case h.number == 0 || h.first == 0:
		d.Fail("segment %d starts with record %d, want both from 1", h.number, h.first)
	case h.size < minSegment || h.size > maxSegment || h.size%frame.Grid != 0:
		d.Fail("segment size %d", h.size)
	}
	if err := checkNames(h.members); err != nil {
		d.Fail("%v", err)
	}
}

// checkNames holds the rules for the member names of a log set.
func checkNames(names []string) error {
	if len(names) == 0 || len(names) > maxMembers {
		return fmt.Errorf("%d members, want 1 to %d", len(names), maxMembers)
	}
	seen := map[string]bool{}
	for _, n := range names {
		if n == "" || len(n) > maxMemberName || seen[n] {
			return fmt.Errorf("member name %q is empty, too long or there twice", n)
		}
		seen[n] = true
	}
	return nil
}

// segmentName returns the file name of a segment.
func segmentName(number uint64) string { return fmt.Sprintf("%016x.log", number) }

// parseSegmentName is the inverse of segmentName.
func parseSegmentName(name string) (number uint64, ok bool) {
	if len(name) != len("0000000000000000.log") {
		return 0, false
	}
	if _, err := fmt.Sscanf(name, "%016x.log", &number); err != nil {
		return 0, false
	}
	return number, number > 0 && segmentName(number) == name
}
