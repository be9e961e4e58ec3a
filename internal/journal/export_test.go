package journal

import (
	"bytes"
	"encoding/binary"

	"github.com/blockframe/blockframe/internal/durable"
)

// SetRandom makes the keys of segments what random writes.
func (o *Options) SetRandom(random func([]byte)) { o.random = random }

// ReencodeHeader decodes a segment header and encodes what it found.
func ReencodeHeader(b []byte) ([]byte, error) {
	h, err := decodeHeader(b)
	if err != nil {
		return nil, err
	}
	return h.encode(), nil
}

// ReencodeFrame decodes the frame that stands at offset in a segment of limit
// bytes with that key, and encodes what it found. It returns the records, too.
func ReencodeFrame(b []byte, key [32]byte, epoch uint64, offset, limit int64) (again []byte, recs [][]byte, err error) {
	s := newSealer(key)
	m, body, err := decodeHead(b, s, epoch, offset, limit)
	if err != nil {
		return nil, nil, err
	}
	if err := decodeFrame(b[:m.size], s, &m, body); err != nil {
		return nil, nil, err
	}
	records(b, m, func(_ uint64, data []byte) bool { recs = append(recs, data); return true })
	return encodeFrame(nil, s, epoch, &mark{offset: offset, first: m.first, prev: m.prev}, recs), recs, nil
}

// ForgeFrame encodes a frame as one who knows the key would.
func ForgeFrame(key [32]byte, epoch uint64, offset int64, first uint64, prev [32]byte, recs [][]byte) []byte {
	return encodeFrame(nil, newSealer(key), epoch, &mark{offset: offset, first: first, prev: prev}, recs)
}

// SealFrame fills in the hashes of a frame in place, as far as its length lets.
func SealFrame(key [32]byte, b []byte) {
	s := newSealer(key)
	sum := s.sum(b[:headSum])
	copy(b[headSum:], sum[:])
	if end := headSize + int64(binary.BigEndian.Uint32(b[40:])); end+32 <= int64(len(b)) {
		sum = s.sum(b[:end])
		copy(b[end:], sum[:])
	}
}

// Seal fills in the hash at the end of a header.
func Seal(b []byte) []byte { return sealHeader(b[:headerSum]) }

// Sight is a segment that Look found.
type Sight struct {
	Number  uint64
	Key     string // stands for its header
	Set     []string
	Records [][]byte
}

// Look reads what a directory holds of a log, good or not.
func Look(fsys durable.FS, dir string) (out []Sight) {
	c := &copyState{member: &member{Member: Member{FS: fsys, Dir: dir, Name: dir}}, segs: map[uint64]*segmentState{}}
	numbers, err := c.list()
	if err != nil {
		return nil
	}
	for _, n := range numbers {
		w, _ := c.open(n, headArea, false)
		heads, _ := readHeads(w, n)
		w.close()
		s := Sight{Number: n}
		if h := (&segmentState{heads: heads}).head(); h != nil {
			s.Key, s.Set = string(h.hash[:]), h.members
			sc := c.scan(h)
			w, _ := c.open(n, h.size, false)
			for _, m := range sc.marks {
				if b, err := w.at(m.offset, int(m.size)); err == nil {
					records(b, m, func(_ uint64, data []byte) bool { s.Records = append(s.Records, bytes.Clone(data)); return true })
				}
			}
			w.close()
		}
		out = append(out, s)
	}
	return out
}

// EncodeCut returns the mark of a trim.
func EncodeCut(store [16]byte, number uint64) []byte { return encodeCut(store, number) }
