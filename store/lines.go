package store

import (
	"bytes"
	"fmt"
	"io/fs"
	"iter"

	"github.com/blockframe/blockframe/internal/frame"
	"github.com/zeebo/blake3"
)

// linePiece is how much of a manifests part is in memory at once: a multiple of the
// grid.
const linePiece = 256 << 10

// maxExtentLine is as many bytes as an extent takes in the line that proves an object.
const maxExtentLine = len(`{"extent":"","hash":"","offset":,"length":},`) + 2*16 + 2*32 + len("9223372036854775807") + len("268435456")

// lines is a manifests part: its length and hash, and a way to go through it, piece by
// piece, as often as one likes. That of an object of many extents is long.
type lines struct {
	len  int64
	hash frame.Hash
	at   int64 // packs: where they begin in the stream
	each func(add func(piece []byte) error) error
}

// linesOf returns lines that are in memory.
func linesOf(b []byte) lines {
	return lines{len: int64(len(b)), hash: frame.Sum(b), each: func(add func([]byte) error) error { return add(b) }}
}

// measured returns lines of which only each is known.
func measured(each func(add func([]byte) error) error) (lines, error) {
	c := lineCutter{}
	if err := each(c.add); err != nil {
		return lines{}, err
	}
	n, hash, err := c.end()
	return lines{len: n, hash: hash, each: each}, err
}

// lineCutter cuts a manifests part into pieces of linePiece bytes, the last one filled
// up with zeros to the grid, and hands each to emit, in aligned memory that it does not
// use again. It counts and hashes what goes through.
type lineCutter struct {
	emit func(piece []byte) error // nil: nobody
	buf  []byte                   // not handed on yet
	n    int64
	sum  *blake3.Hasher // of what was handed on, nil if nothing was
}

func (c *lineCutter) add(b []byte) error {
	if c.n += int64(len(b)); c.n > maxManifests {
		return fmt.Errorf("%w: more than %d bytes of manifests", fs.ErrInvalid, maxManifests)
	}
	for len(b) > 0 {
		n := min(len(b), linePiece-len(c.buf))
		c.buf = append(c.buf, b[:n]...)
		b = b[n:]
		if len(c.buf) < linePiece {
			return nil
		}
		if c.sum == nil {
			c.sum = blake3.New()
		}
		c.sum.Write(c.buf)
		if err := c.hand(); err != nil {
			return err
		}
	}
	return nil
}

func (c *lineCutter) hand() error {
	b := c.buf
	c.buf = c.buf[:0]
	if c.emit == nil || len(b) == 0 {
		return nil
	}
	return c.emit(padded(b))
}

// end hands on the rest and returns length and hash of it all.
func (c *lineCutter) end() (n int64, hash frame.Hash, err error) {
	if c.sum == nil {
		hash = frame.Sum(c.buf)
	} else {
		c.sum.Write(c.buf)
		c.sum.Sum(hash[:0])
	}
	return c.n, hash, c.hand()
}

// padded returns b in aligned memory, filled up with zeros to the grid.
func padded(b []byte) []byte {
	out := frame.Aligned(int(frame.Align(int64(len(b)))))
	copy(out, b)
	return out
}

// objectLine returns the line that every shard of an extent of an object carries.
func objectLine(ref stream, e *Extent) []byte {
	m := newManifest("object", ref.upload, ref.name, ref.attr, ref.policy.Name)
	m.Ordinal, m.Offset = &e.Ordinal, &e.Offset
	return appendLine(nil, m)
}

// completeLine hands the line that proves an object to add, extent by extent.
func completeLine(upload UploadID, id ID, size int64, extents iter.Seq2[Extent, error], add func([]byte) error) error {
	const tail = "]}\n"
	b := appendLine(nil, complete{Type: "complete", V: 1, Put: hexID(upload), ID: id, Size: size, Extents: extentLines{}})
	b = bytes.TrimSuffix(b, []byte(tail))
	for e, err := range extents {
		if err != nil {
			return err
		}
		b = appendLine(b, extentLine{hexID(e.ID), hexHash(e.Hash), e.Offset, e.Length})
		if err := add(b[:len(b)-1]); err != nil { // it is not the end of the line
			return err
		}
		b = append(b[:0], ',')
	}
	return add([]byte(tail))
}
