package catalog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/internal/kv"
)

// A snapshot is all rows of the view as of one record, contents that are inline included,
// in the order of their keys: the same bytes from every view of the same records.
// Big-endian:
//
//	0    8   magic "BFCATSNP"
//	8    4   version, 1
//	12   4   version of the rows
//	16   16  store id
//	32   8   index of the newest record that the rows are of
//	40   32  BLAKE3 of that record
//	72   32  BLAKE3 of the 72 bytes before it
//
// Then frames, each
//
//	0    4   length in bytes of its rows, L, at most 1 MiB; 0 in the last frame
//	4    4   number of its rows; 0 in the last frame
//	8    L   rows: length of the key in 4 bytes, key, length of the value in 4 bytes, value
//	8+L  32  BLAKE3 of the hash before it and the 8+L bytes before this
//
// The hashes are a chain from that of the head on, so that the last one is of all.
const (
	snapMagic   = "BFCATSNP"
	snapVersion = 1
	snapSum     = 72
	snapHead    = snapSum + 32
	snapFrame   = 1 << 20  // bytes of rows in a frame, at most
	snapRows    = 32 + 8   // where they begin, behind the hash before and the lengths
	snapMost    = 64 << 10 // bytes of a key, at most
)

// Snapshot is the rows of a catalog as of one record. It keeps Pebble from dropping what
// changes meanwhile: close it soon.
type Snapshot struct {
	Index uint64 // of the newest record
	state *state
	rows  kv.Reader
	meta  *meta
}

// Snapshot returns the rows as they are now. Records wait while those in memory are handed
// to Pebble, and no longer. fs.ErrNotExist means that there is no record yet.
func (c *Catalog) Snapshot(ctx context.Context) (*Snapshot, error) {
	if c.closed.Load() {
		return nil, fmt.Errorf("catalog: %w", fs.ErrClosed)
	}
	s, err := c.view.Load().capture(ctx)
	if err != nil {
		return nil, fmt.Errorf("catalog: snapshot: %w", err)
	}
	return s, nil
}

// capture takes the rows, those of contents that are inline in memory over the others.
func (v *view) capture(ctx context.Context) (*Snapshot, error) {
	v.merging.RLock()
	defer v.merging.RUnlock()
	waiting, _ := v.waiting() // first: what becomes a row meanwhile is in both, and the same
	st, err := v.state(ctx)
	if err != nil {
		return nil, err
	}
	o := kv.NewOverlay(st)
	for _, in := range waiting {
		err = errors.Join(err, o.Keep(string(idKey(tInline, in.id)), in.row, false), o.Keep(string(in.age()), nil, false))
	}
	r := rows{r: o}
	m := r.meta()
	if err = errors.Join(err, r.err); err == nil && m == nil {
		err = fmt.Errorf("%w: no record yet", fs.ErrNotExist)
	}
	if err != nil {
		st.close()
		return nil, err
	}
	m.inline = 0 // all are rows
	return &Snapshot{Index: m.applied, state: st, rows: o, meta: m}, nil
}

// Close ends it.
func (s *Snapshot) Close() { s.state.close() }

// WriteTo writes the snapshot. It holds a frame in memory.
func (s *Snapshot) WriteTo(w io.Writer) (int64, error) {
	out := &snapWriter{w: w}
	out.head(s.meta)
	for row, err := range s.rows.Scan(nil, nil) {
		if err != nil {
			return out.n, err
		}
		if bytes.Equal(row.Key, []byte{tMeta}) {
			row.Value = s.meta.encode()
		}
		out.row(row)
		if out.err != nil {
			return out.n, out.err
		}
	}
	out.flush()
	out.flush() // empty: the last
	return out.n, out.err
}

// snapWriter writes the frames.
type snapWriter struct {
	w    io.Writer
	buf  []byte // the hash before, and the frame under way: its lengths first
	rows uint32
	sum  frame.Hash
	n    int64
	err  error
}

func (s *snapWriter) write(b []byte) {
	if s.err == nil {
		var n int
		n, s.err = s.w.Write(b)
		s.n += int64(n)
	}
}

func (s *snapWriter) head(m *meta) {
	var e frame.Encoder
	e.Raw([]byte(snapMagic))
	e.U32(snapVersion)
	e.U32(viewVersion)
	e.Raw(m.storeID[:])
	e.U64(m.applied)
	e.Raw(m.hash[:])
	s.sum = frame.Sum(e.B)
	e.Raw(s.sum[:])
	s.write(e.B)
	s.buf = append(make([]byte, 0, snapRows+snapFrame+32), s.sum[:]...)[:snapRows]
}

func (s *snapWriter) row(row kv.KV) {
	size := 8 + len(row.Key) + len(row.Value)
	if size > snapFrame || len(row.Key) > snapMost {
		s.err = fmt.Errorf("%w: row %.40q of %d bytes", fs.ErrInvalid, row.Key, size)
		return
	}
	if len(s.buf)+size > snapRows+snapFrame {
		s.flush()
	}
	e := frame.Encoder{B: s.buf}
	e.Bytes(row.Key)
	e.Bytes(row.Value)
	s.buf = e.B
	s.rows++
}

// flush writes the frame under way, if it has rows or is the last.
func (s *snapWriter) flush() {
	binary.BigEndian.PutUint32(s.buf[32:], uint32(len(s.buf)-snapRows))
	binary.BigEndian.PutUint32(s.buf[36:], s.rows)
	s.sum = frame.Sum(s.buf)
	s.write(append(s.buf, s.sum[:]...)[32:])
	copy(s.buf, s.sum[:])
	s.buf, s.rows = s.buf[:snapRows], 0
}

// snapInfo is the head of a snapshot.
type snapInfo struct {
	storeID [16]byte
	index   uint64
	hash    frame.Hash
}

// snapReader reads a snapshot, frame by frame; each is checked before its rows are handed
// out.
type snapReader struct {
	r    io.Reader
	info snapInfo
	sum  frame.Hash
	buf  []byte
	last []byte // key
	done bool
}

func newSnapReader(r io.Reader) (*snapReader, error) {
	b := make([]byte, snapHead)
	if err := snapRead(r, b); err != nil {
		return nil, err
	}
	s := &snapReader{r: r, sum: frame.Sum(b[:snapSum])}
	d := frame.NewDecoder(b)
	if string(d.Raw(8)) != snapMagic || s.sum != frame.Hash(b[snapSum:]) {
		return nil, corrupt("it does not begin as a snapshot does")
	}
	if v := d.U32(); v != snapVersion {
		return nil, fmt.Errorf("%w: snapshot of version %d, this program reads %d", frame.ErrVersion, v, snapVersion)
	}
	if v := d.U32(); v != viewVersion {
		return nil, fmt.Errorf("%w: snapshot with rows of version %d, this program reads %d", frame.ErrVersion, v, viewVersion)
	}
	s.info = snapInfo{storeID: d.ID(), index: d.U64(), hash: d.Hash()}
	return s, nil
}

// snapRead fills b. The end of r is damage.
func snapRead(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return corrupt("the snapshot ends in the middle")
	}
	return err
}

// next returns the rows of the next frame, valid until the next call; none and io.EOF
// behind the last one, after which nothing may follow.
func (s *snapReader) next() ([]kv.KV, error) {
	var lens [8]byte
	if err := snapRead(s.r, lens[:]); err != nil {
		return nil, err
	}
	size, n := binary.BigEndian.Uint32(lens[:]), binary.BigEndian.Uint32(lens[4:])
	if size > snapFrame || n > size/8 || (size == 0) != (n == 0) {
		return nil, corrupt("frame of %d bytes with %d rows in a snapshot", size, n)
	}
	s.buf = append(append(s.buf[:0], s.sum[:]...), lens[:]...)
	s.buf = append(s.buf, make([]byte, size+32)...)
	if err := snapRead(s.r, s.buf[snapRows:]); err != nil {
		return nil, err
	}
	body, sum := s.buf[:snapRows+size], frame.Hash(s.buf[snapRows+size:])
	if s.sum = frame.Sum(body); s.sum != sum {
		return nil, corrupt("the hash of a frame of the snapshot is wrong")
	}
	if size == 0 {
		if _, err := io.ReadFull(s.r, lens[:1]); err != io.EOF {
			return nil, errors.Join(err, corrupt("something follows the snapshot"))
		}
		return nil, io.EOF
	}
	return s.rows(body[snapRows:], int(n))
}

// rows splits a frame.
func (s *snapReader) rows(b []byte, n int) ([]kv.KV, error) {
	d := frame.NewDecoder(b)
	list := make([]kv.KV, 0, n)
	for range n {
		row := kv.KV{Key: d.Bytes(snapMost), Value: d.Bytes(snapFrame)}
		if d.Err() == nil && bytes.Compare(row.Key, s.last) <= 0 {
			d.Fail("row %.40q comes after %.40q", row.Key, s.last)
		}
		s.last = append(s.last[:0], row.Key...)
		list = append(list, row)
	}
	return list, d.Done()
}
