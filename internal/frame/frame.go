// Package frame holds what every format of blockframe shares: big-endian
// fields, BLAKE3 sums, the 4 KiB grid, and the two errors that a reader of
// bytes can come to.
//
// An [Encoder] appends fields to a slice. A [Decoder] reads them back and
// never panics or allocates more than its input holds: the first read past the
// end, or past a named limit, sticks, every later read returns zero, and
// [Decoder.Done] reports it. Encoding what was decoded yields the same bytes.
package frame

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"github.com/zeebo/blake3"
)

// Two errors, two cures: bytes that were damaged can be repaired from
// redundancy; bytes from a newer blockframe need a newer blockframe.
var (
	ErrCorrupt = errors.New("blockframe: corrupt data")
	ErrVersion = errors.New("blockframe: unsupported format version")
)

// Grid is the alignment, in bytes, of every part of every file: what O_DIRECT
// asks for on all filesystems in use.
const Grid = 4096

// Hash is a BLAKE3-256 sum.
type Hash = [32]byte

// Sum returns the BLAKE3-256 of b.
func Sum(b []byte) Hash { return blake3.Sum256(b) }

// Align returns n rounded up to the grid.
func Align(n int64) int64 { return (n + Grid - 1) &^ (Grid - 1) }

// Aligned returns a zeroed slice of n bytes whose first byte lies on the grid
// in memory, as O_DIRECT requires.
func Aligned(n int) []byte {
	b := make([]byte, n+Grid)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (Grid - 1))
	return b[skip : skip+n : skip+n]
}

// IsAligned reports whether b starts on the grid in memory.
func IsAligned(b []byte) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))&(Grid-1) == 0
}

// Zero reports whether b holds only zero bytes, as padding must: the first is zero,
// and each of the others equals the one before it, which bytes.Equal finds out many
// at a time.
func Zero(b []byte) bool {
	return len(b) == 0 || b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1])
}

// Encoder appends big-endian fields to B. The zero value is ready to use.
type Encoder struct{ B []byte }

func (e *Encoder) U8(v uint8)   { e.B = append(e.B, v) }
func (e *Encoder) U16(v uint16) { e.B = binary.BigEndian.AppendUint16(e.B, v) }
func (e *Encoder) U32(v uint32) { e.B = binary.BigEndian.AppendUint32(e.B, v) }
func (e *Encoder) U64(v uint64) { e.B = binary.BigEndian.AppendUint64(e.B, v) }
func (e *Encoder) I64(v int64)  { e.U64(uint64(v)) }

// Bool appends 1 or 0; any other byte is refused by [Decoder.Bool].
func (e *Encoder) Bool(v bool) {
	if v {
		e.U8(1)
	} else {
		e.U8(0)
	}
}

// Raw appends b as it stands: the reader must know its length.
func (e *Encoder) Raw(b []byte) { e.B = append(e.B, b...) }

// Bytes appends the length of b as 32 bits, then b.
func (e *Encoder) Bytes(b []byte) { e.U32(uint32(len(b))); e.B = append(e.B, b...) }

// String appends s as [Encoder.Bytes] does.
func (e *Encoder) String(s string) { e.U32(uint32(len(s))); e.B = append(e.B, s...) }

// Decoder reads what an [Encoder] wrote. Slices it returns alias its input.
type Decoder struct {
	b   []byte
	off int
	err error
}

// NewDecoder returns a Decoder at the start of b.
func NewDecoder(b []byte) *Decoder { return &Decoder{b: b} }

// Fail makes the decoder fail with ErrCorrupt and the reason, unless it failed
// before.
func (d *Decoder) Fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s at byte %d", ErrCorrupt, fmt.Sprintf(format, args...), d.off)
	}
}

// Refuse makes the decoder fail with ErrVersion and the reason, unless it
// failed before: the bytes are sound, but not for this program.
func (d *Decoder) Refuse(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrVersion, fmt.Sprintf(format, args...))
	}
}

// Raw returns the next n bytes, or zeros of that length once the decoder has
// failed (never more than 64, so that a hostile n allocates nothing).
func (d *Decoder) Raw(n int) []byte {
	if d.err == nil && (n < 0 || n > len(d.b)-d.off) {
		d.Fail("want %d bytes, have %d", n, len(d.b)-d.off)
	}
	if d.err != nil {
		return make([]byte, max(0, min(n, 64)))
	}
	d.off += n
	return d.b[d.off-n : d.off : d.off]
}

func (d *Decoder) U8() uint8   { return d.Raw(1)[0] }
func (d *Decoder) U16() uint16 { return binary.BigEndian.Uint16(d.Raw(2)) }
func (d *Decoder) U32() uint32 { return binary.BigEndian.Uint32(d.Raw(4)) }
func (d *Decoder) U64() uint64 { return binary.BigEndian.Uint64(d.Raw(8)) }
func (d *Decoder) I64() int64  { return int64(d.U64()) }

// Bool reads a byte that must be 0 or 1, so that one value has one encoding.
func (d *Decoder) Bool() bool {
	v := d.U8()
	if v > 1 {
		d.Fail("flag is %d, want 0 or 1", v)
	}
	return v == 1
}

// Hash reads 32 bytes.
func (d *Decoder) Hash() (h Hash) { copy(h[:], d.Raw(32)); return h }

// ID reads 16 bytes.
func (d *Decoder) ID() (id [16]byte) { copy(id[:], d.Raw(16)); return id }

// Bytes reads a 32-bit length of at most limit, then that many bytes. The
// result is nil when the length is 0.
func (d *Decoder) Bytes(limit int) []byte {
	n := d.U32()
	if int64(n) > int64(limit) {
		d.Fail("length %d is over the limit %d", n, limit)
	}
	if d.err != nil || n == 0 {
		return nil
	}
	return d.Raw(int(n))
}

// String reads what [Encoder.String] wrote, of at most limit bytes.
func (d *Decoder) String(limit int) string { return string(d.Bytes(limit)) }

// Count reads a 32-bit count of items that take at least each bytes apiece, and
// fails when the rest of the input cannot hold them: the caller may allocate
// for what it returns.
func (d *Decoder) Count(each int) int {
	n := d.U32()
	if d.err == nil && int64(n)*int64(max(each, 1)) > int64(len(d.b)-d.off) {
		d.Fail("count %d is more than the input holds", n)
	}
	if d.err != nil {
		return 0
	}
	return int(n)
}

// Rest returns the bytes not read yet.
func (d *Decoder) Rest() []byte { return d.b[d.off:] }

// Err returns the first failure.
func (d *Decoder) Err() error { return d.err }

// Done returns the first failure, or one that says that bytes are left over.
func (d *Decoder) Done() error {
	if d.err == nil && d.off != len(d.b) {
		d.Fail("%d bytes left over", len(d.b)-d.off)
	}
	return d.err
}
