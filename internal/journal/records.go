package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"sort"
	"strings"

	"github.com/blockframe/blockframe/internal/frame"
)

// Record is what one element of an Append became.
type Record struct {
	Index uint64 // counts from 1
	Data  []byte // the caller's to keep
}

// Records yields the records from index from on (0 means 1), in order, up to the
// newest at the time of the call. It starts with the segment that holds from,
// verifies every frame and its place in the chain, and takes each from whichever
// member has it good; a copy found bad on the way is repaired. It holds at most
// one frame and 256 KiB for each member in memory. Append may go on meanwhile.
//
// The error, after which nothing follows, is fs.ErrNotExist if the log does not
// reach back to from, and a *Damage (frame.ErrCorrupt) if no member has a good
// copy: records are never left out.
func (j *Journal) Records(from uint64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		v, err := j.view()
		from = max(from, 1)
		if err == nil && from < v.segs[0].first {
			err = fmt.Errorf("log record %d: %w: the oldest is %d", from, fs.ErrNotExist, v.segs[0].first)
		}
		if err != nil {
			yield(Record{}, err)
			return
		}
		// The last segment that starts at or before from.
		i := sort.Search(len(v.segs), func(i int) bool { return v.segs[i].first > from }) - 1
		for ; i < len(v.segs) && from <= v.last; i++ {
			if !j.walk(v, i, from, yield) {
				return
			}
		}
	}
}

// walk yields the records of segment i from index from on. It returns false
// when the caller has had enough, or an error.
func (j *Journal) walk(v view, i int, from uint64, yield func(Record, error) bool) bool {
	r := newReader(j, v, i)
	defer r.close()
	for {
		b, m, err := r.next()
		if err != nil {
			return yield(Record{}, err) && false
		}
		if b == nil {
			return true
		}
		if m.first+uint64(m.count) <= from {
			continue
		}
		whole := bytes.Clone(b) // the window is used again
		if !records(whole, m, func(index uint64, data []byte) bool {
			return index < from || yield(Record{index, data}, nil)
		}) {
			return false
		}
	}
}

// reader walks the chain of one segment, over all copies.
type reader struct {
	j       *Journal
	v       view
	i       int // v.segs[i] is read
	h       *header
	sealer  sealer
	seal    frame.Hash
	limit   int64
	windows []*window // of each reader of the journal, nil until it is needed
	good    int       // the copy that served last
	healed  bool

	off   int64 // of the frame to come
	first uint64
	prev  frame.Hash
}

func newReader(j *Journal, v view, i int) *reader {
	h := v.segs[i]
	r := &reader{j: j, v: v, i: i, h: h, sealer: newSealer(h.key), windows: make([]*window, len(v.readers)),
		off: headArea, first: h.first, prev: h.hash}
	r.seal, r.limit = v.seal(i)
	return r
}

// next returns the next frame, valid until the next call, or nil at the end.
func (r *reader) next() ([]byte, mark, error) {
	if r.prev == r.seal {
		return nil, mark{}, nil
	}
	for n := range r.windows {
		k := (r.good + n) % len(r.windows)
		b, m, ok := r.try(k)
		if !ok {
			continue
		}
		if n > 0 {
			r.good = k
			r.heal()
		}
		r.off, r.first, r.prev = m.offset+m.size, m.first+uint64(m.count), m.hash
		return b, m, nil
	}
	if r.j.given(r.h) {
		return nil, mark{}, fmt.Errorf("log segment %s: %w: it was trimmed meanwhile", segmentName(r.h.number), fs.ErrNotExist)
	}
	return nil, mark{}, r.lost()
}

// try reads the next frame of the chain from copy k.
func (r *reader) try(k int) ([]byte, mark, bool) {
	if r.windows[k] == nil {
		r.windows[k], _ = r.v.readers[k].open(r.h.number, r.h.size, false) // unreadable is bad
	}
	m, ok, _ := readMark(r.windows[k], r.h, r.sealer, r.off, r.limit)
	if !ok || m.size == 0 || m.prev != r.prev || m.first != r.first {
		return nil, m, false
	}
	b, err := r.windows[k].at(m.offset, int(m.size))
	return b, m, err == nil
}

// heal repairs the segment, once: a copy of it was found bad.
func (r *reader) heal() {
	if r.healed {
		return
	}
	r.healed = true
	// What cannot be repaired was logged, or makes the log read-only; the
	// records are good either way, and this is about them.
	if _, _, err := r.j.heal(r.v, r.i, false); err != nil && !errors.Is(err, fs.ErrClosed) {
		r.j.log.Error("log segment not repaired", "segment", segmentName(r.h.number), "err", err)
	}
}

func (r *reader) lost() error {
	var names []string
	var cause error
	for k, m := range r.v.readers {
		names = append(names, m.Name)
		_, _, err := readMark(r.windows[k], r.h, r.sealer, r.off, r.limit)
		cause = errors.Join(cause, named(m.Name, err))
	}
	return &Damage{Member: strings.Join(names, ", "), Segment: segmentName(r.h.number), Offset: r.off,
		Reason: fmt.Sprintf("no copy of the frame that starts with record %d is good", r.first), Err: cause}
}

func (r *reader) close() {
	closeAll(slices.DeleteFunc(r.windows, func(w *window) bool { return w == nil }))
}
