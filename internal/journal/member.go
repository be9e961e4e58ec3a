package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/frame"
)

const (
	spareName = "spare"
	spareTemp = "spare.tmp"

	zeroChunk = 1 << 20
)

// Member is one copy of the log: a directory of its own, on a disk of its own
// where there are several.
type Member struct {
	FS   durable.FS
	Dir  string // slash-separated; made by Options.Create if absent
	Name string // its name in the log set, for good; 1 to 128 bytes
}

// member is a Member at work. Its methods are called by one goroutine at a time.
type member struct {
	Member
	f     durable.File // the newest segment, open for writing
	next  durable.File // the segment to come, when it is complete on this member
	spare int64        // size of the zeroed file in wait, 0 if there is none
}

func (m *member) path(name string) string { return path.Join(m.Dir, name) }

// list returns the numbers of the member's segments, in order, and notes a spare.
func (m *member) list() ([]uint64, error) {
	names, err := m.FS.List(m.Dir)
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, n := range names {
		if number, ok := parseSegmentName(n); ok {
			numbers = append(numbers, number)
		} else if n == spareName {
			if info, err := m.FS.Stat(m.path(n)); err == nil {
				m.spare = info.Size
			}
		}
	}
	return numbers, nil
}

// prepare makes the spare, unless there is one.
func (m *member) prepare(size int64) error {
	if m.spare == size {
		return nil
	}
	m.spare = 0
	if err := m.blank(size); err != nil {
		return err
	}
	// A crash up to here leaves a temporary file, which the next blank removes.
	if err := m.FS.Rename(m.path(spareTemp), m.path(spareName)); err != nil {
		return err
	}
	m.spare = size
	return nil
}

// blank makes the temporary file: size zeros, written and not only allocated, so
// that a later sync of a frame has no metadata to write. It is written past the
// page cache, where it would be in the way of frames.
func (m *member) blank(size int64) error {
	create := func() (durable.File, error) {
		return m.FS.Create(m.path(spareTemp), durable.CreateOptions{Direct: true, Size: size})
	}
	f, err := create()
	if errors.Is(err, fs.ErrExist) { // left by a crash
		if err := m.remove(spareTemp); err != nil {
			return err
		}
		f, err = create()
	}
	if err != nil {
		return err
	}
	if err := errors.Join(writeZeros(f, size), f.Close()); err != nil {
		// What space it took is wanted for others; if it cannot be removed the
		// next blank tries again.
		return errors.Join(err, m.remove(spareTemp))
	}
	return nil
}

// writeZeros fills f with size zeros and syncs it.
func writeZeros(f durable.File, size int64) error {
	zeros := frame.Aligned(int(min(size, zeroChunk)))
	for off := int64(0); off < size; off += int64(len(zeros)) {
		if _, err := f.Write(zeros[:min(size-off, int64(len(zeros)))]); err != nil {
			return err
		}
	}
	return f.Sync()
}

// install turns the spare into the segment h, and replaces a segment of that
// name. The segment is durable and complete when it returns, and open for writing.
// If fill is not nil it writes more than the header, and that not into the spare:
// only headers are overwritten in a spare that a crash leaves.
func (m *member) install(h *header, fill func(durable.File) error) (durable.File, error) {
	from, prepare := spareName, m.prepare
	if fill != nil {
		from, prepare = spareTemp, m.blank
	}
	if err := prepare(h.size); err != nil {
		return nil, err
	}
	f, err := m.FS.OpenWrite(m.path(from))
	if err != nil {
		return nil, err
	}
	if fill == nil {
		m.spare = 0 // from here on it is not only zeros
	}
	err = writeHeads(f, h, [2]bool{})
	if err == nil && fill != nil {
		err = fill(f)
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, errors.Join(err, m.remove(from))
	}
	// A crash here leaves a spare that begins with a header, which the next
	// install overwrites, or a temporary file, which the next blank removes.
	name := m.path(segmentName(h.number))
	if err := m.FS.Rename(m.path(from), name); err != nil {
		return nil, errors.Join(err, m.remove(from))
	}
	// A crash here leaves the complete segment under either name.
	if err := m.FS.SyncDir(m.Dir); err != nil {
		return nil, err
	}
	return m.FS.OpenWrite(name)
}

// writeHeads writes the two copies of the header, but for those that are good.
func writeHeads(f durable.File, h *header, good [2]bool) error {
	b := frame.Aligned(headerSize)
	copy(b, h.encode())
	for i, ok := range good {
		if ok {
			continue
		}
		if _, err := f.WriteAt(b, int64(i)*headerSize); err != nil {
			return err
		}
	}
	return nil
}

// write puts b at offset off of the newest segment, and syncs it.
func (m *member) write(b []byte, off int64) error {
	if _, err := m.f.WriteAt(b, off); err != nil {
		return err
	}
	return m.f.Sync()
}

// remove removes one of the member's files; absent is success.
func (m *member) remove(name string) error {
	if err := m.FS.Remove(m.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// open opens a segment, of which size bytes will be read, for reading. If it
// cannot be opened, all reads of the window fail with the error.
func (m *member) open(number uint64, size int64, uncached bool) (*window, error) {
	f, err := m.FS.Open(m.path(segmentName(number)), durable.OpenOptions{Uncached: uncached})
	if err != nil {
		return &window{err: err}, err
	}
	return &window{f: f, ahead: int(min(size, windowSize))}, nil
}

// readHeads returns the good copies of a segment's header, nil where a copy is
// bad or belongs to another segment, and frame.ErrVersion if both are from the
// future.
func readHeads(w *window, number uint64) (heads [2]*header, err error) {
	for i := range heads {
		b, rerr := w.at(int64(i)*headerSize, headerSize)
		if rerr != nil {
			continue
		}
		h, herr := decodeHeader(b)
		if errors.Is(herr, frame.ErrVersion) {
			err = fmt.Errorf("segment %s: %w", segmentName(number), herr)
		}
		if herr == nil && h.number == number {
			heads[i] = h
		}
	}
	return heads, err
}

// close closes what is open for writing.
func (m *member) close() (err error) {
	for _, f := range []durable.File{m.f, m.next} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	m.f, m.next = nil, nil
	return err
}
