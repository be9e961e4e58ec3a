package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"

	"github.com/blockframe/blockframe/internal/frame"
)

// Export writes a sealed segment to w: the header twice, as it stands in the file, and
// the frames up to the last one; the zeros behind it are left out. Every frame is
// verified, and taken from whichever member has it good. Errors are those of Records, and
// fs.ErrNotExist for a segment that is not there or not sealed. One frame and 256 KiB for
// each member are in memory.
func (j *Journal) Export(number uint64, w io.Writer) error {
	v, err := j.view()
	if err != nil {
		return err
	}
	for i, h := range v.segs[:len(v.segs)-1] {
		if h.number == number {
			return j.export(v, i, w)
		}
	}
	return fmt.Errorf("log segment %s: %w", segmentName(number), fs.ErrNotExist)
}

func (j *Journal) export(v view, i int, w io.Writer) error {
	head := v.segs[i].encode()
	for range 2 {
		if _, err := w.Write(head); err != nil {
			return err
		}
	}
	r := newReader(j, v, i)
	defer r.close()
	for {
		b, _, err := r.next()
		if err != nil || b == nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
}

// Import yields the records of a segment that Export wrote. The header and every frame are
// verified, and that each follows the one before; where the segment ends nothing tells but
// the end of r. The error, after which nothing follows, matches frame.ErrCorrupt or
// frame.ErrVersion, or is that of r.
func Import(storeID [16]byte, r io.Reader) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := importAll(storeID, r, func(rec Record) bool { return yield(rec, nil) }); err != nil {
			yield(Record{}, fmt.Errorf("copy of a log segment: %w", err))
		}
	}
}

func importAll(storeID [16]byte, r io.Reader, yield func(Record) bool) error {
	heads := make([]byte, headArea)
	if err := readAll(r, heads); err != nil {
		return err
	}
	h, err := decodeHeader(heads[:headerSize])
	if err != nil {
		return err
	}
	if !bytes.Equal(heads[:headerSize], heads[headerSize:]) || h.store != storeID {
		return fmt.Errorf("%w: the header is that of store %x, or not there twice", frame.ErrCorrupt, h.store)
	}
	s, end := newSealer(h.key), mark{first: h.first, hash: h.hash, offset: headArea}
	for {
		b, m, err := importFrame(r, h, s, end.offset+end.size)
		if err == io.EOF {
			return nil
		}
		if err == nil && (m.prev != end.hash || m.first != end.first+uint64(end.count)) {
			err = fmt.Errorf("%w: the frame at offset %d does not continue the chain", frame.ErrCorrupt, m.offset)
		}
		if err != nil {
			return err
		}
		if !records(b, m, func(index uint64, data []byte) bool { return yield(Record{index, data}) }) {
			return nil
		}
		end = m
	}
}

// importFrame reads the frame at off; io.EOF where there is none.
func importFrame(r io.Reader, h *header, s sealer, off int64) ([]byte, mark, error) {
	b := make([]byte, frame.Grid)
	n, err := io.ReadFull(r, b)
	if err == io.EOF && n == 0 {
		return nil, mark{}, io.EOF
	}
	if err != nil {
		return nil, mark{}, cutShort(err)
	}
	m, body, err := decodeHead(b, s, h.epoch, off, h.size)
	if err != nil {
		return nil, m, err
	}
	b = append(b, make([]byte, m.size-frame.Grid)...)
	if err := readAll(r, b[frame.Grid:]); err != nil {
		return nil, m, err
	}
	return b, m, decodeFrame(b, s, &m, body)
}

func readAll(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	return cutShort(err)
}

// cutShort makes the end of a reader where more should be damage.
func cutShort(err error) error {
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends in the middle", frame.ErrCorrupt)
	}
	return err
}
