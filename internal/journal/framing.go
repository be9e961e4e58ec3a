package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/zeebo/blake3"

	"github.com/blockframe/blockframe/internal/frame"
)

const (
	frameMagic = "BFLOGFRM"

	headSum  = 80            // where the hash of a frame's head stands
	headSize = headSum + 32  // where its records start
	overhead = headSize + 32 // head and final hash
	perEntry = 4             // the length before each record
)

// MaxRecord is the largest record, in bytes.
const MaxRecord = 1 << 20

// MaxFrame is the largest frame, in bytes: the sum over the records of one
// Append of 4 + their length is at most [MaxBatch].
const MaxFrame = 8 << 20

// MaxBatch is what the records of one Append may add up to, each counted with 4
// bytes more than its length.
const MaxBatch = MaxFrame - overhead

// mark is a valid frame at its place in a segment. The next frame, if there is
// one, is at offset + size and starts with record first + count.
type mark struct {
	offset int64
	size   int64 // bytes with padding, a multiple of the grid
	first  uint64
	count  uint32
	prev   frame.Hash
	hash   frame.Hash
}

// sealer computes the keyed hashes of one segment. It is not safe for
// concurrent use.
type sealer struct{ h *blake3.Hasher }

func newSealer(key [32]byte) sealer {
	h, err := blake3.NewKeyed(key[:])
	if err != nil {
		panic("journal: newSealer: " + err.Error()) // the key has 32 bytes
	}
	return sealer{h}
}

// sum returns the keyed BLAKE3 of b.
func (s sealer) sum(b []byte) (h frame.Hash) {
	s.h.Reset()
	s.h.Write(b)
	s.h.Sum(h[:0])
	return h
}

// bodySize returns the length in bytes of the records in a frame.
func bodySize(records [][]byte) int {
	n := 0
	for _, r := range records {
		n += perEntry + len(r)
	}
	return n
}

// frameSize returns the size in a segment of a frame with so many bytes of
// records.
func frameSize(body int) int64 { return frame.Align(int64(overhead + body)) }

// encodeFrame puts the frame that m describes (offset, first, prev) into buf,
// which it grows if need be, and returns it with m's other fields filled in.
// The records are not retained.
func encodeFrame(buf []byte, s sealer, epoch uint64, m *mark, records [][]byte) []byte {
	body := bodySize(records)
	m.count, m.size = uint32(len(records)), frameSize(body)
	if int64(cap(buf)) < m.size {
		buf = frame.Aligned(int(m.size))
	}
	e := frame.Encoder{B: buf[:0]}
	e.Raw([]byte(frameMagic))
	e.U32(0)
	e.U32(m.count)
	e.U64(epoch)
	e.U64(m.first)
	e.I64(m.offset)
	e.U32(uint32(body))
	e.U32(0)
	e.Raw(m.prev[:])
	head := s.sum(e.B)
	e.Raw(head[:])
	for _, r := range records {
		e.Bytes(r)
	}
	m.hash = s.sum(e.B)
	e.Raw(m.hash[:])
	n := len(e.B)
	e.B = e.B[:m.size]
	clear(e.B[n:])
	return e.B
}

// decodeHead reads a frame's head, at least headSize bytes, which was found at
// offset in a segment with limit bytes. Of the result, hash is not set yet.
func decodeHead(b []byte, s sealer, epoch uint64, offset, limit int64) (m mark, body int, err error) {
	if !bytes.HasPrefix(b, []byte(frameMagic)) {
		return m, 0, fmt.Errorf("%w: no frame", frame.ErrCorrupt)
	}
	if s.sum(b[:headSum]) != frame.Hash(b[headSum:headSize]) {
		return m, 0, fmt.Errorf("%w: the hash of the frame's head is wrong", frame.ErrCorrupt)
	}
	d := frame.NewDecoder(b[8:headSum])
	kind, count, ep, first := d.U32(), d.U32(), d.U64(), d.U64()
	at, length, zero := d.I64(), d.U32(), d.U32()
	m = mark{offset: offset, first: first, count: count, prev: d.Hash(), size: frameSize(int(length))}
	switch {
	case kind != 0 || zero != 0 || ep != epoch:
		d.Fail("frame of kind %d, epoch %d", kind, ep)
	case at != offset:
		d.Fail("frame belongs at offset %d", at)
	case length > MaxBatch || offset+m.size > limit:
		d.Fail("frame with %d bytes of records", length)
	case first == 0 || first+uint64(count) < first || int64(count)*perEntry > int64(length):
		d.Fail("%d records from %d on", count, first)
	}
	return m, int(length), d.Done()
}

// decodeFrame reads a whole frame: b starts like what decodeHead returned m and
// body for, and has m.size bytes. It sets m.hash.
func decodeFrame(b []byte, s sealer, m *mark, body int) error {
	end := headSize + body
	m.hash = s.sum(b[:end])
	if m.hash != frame.Hash(b[end:end+32]) {
		return fmt.Errorf("%w: the hash of the frame is wrong", frame.ErrCorrupt)
	}
	if !frame.Zero(b[end+32 : m.size]) {
		return fmt.Errorf("%w: the padding of the frame is not zero", frame.ErrCorrupt)
	}
	rest := b[headSize:end]
	for range m.count {
		n := int64(perEntry)
		if len(rest) >= perEntry {
			n += int64(binary.BigEndian.Uint32(rest))
		}
		if n > int64(len(rest)) || n > perEntry+MaxRecord {
			return fmt.Errorf("%w: the records of the frame do not fit it", frame.ErrCorrupt)
		}
		rest = rest[n:]
	}
	if len(rest) != 0 {
		return fmt.Errorf("%w: %d bytes follow the records of the frame", frame.ErrCorrupt, len(rest))
	}
	return nil
}

// records calls yield with each record of a frame that decodeFrame accepted,
// until it returns false. The slices alias b.
func records(b []byte, m mark, yield func(index uint64, data []byte) bool) bool {
	rest := b[headSize:]
	for i := range uint64(m.count) {
		n := int(binary.BigEndian.Uint32(rest)) + perEntry
		if !yield(m.first+i, rest[perEntry:n:n]) {
			return false
		}
		rest = rest[n:]
	}
	return true
}
