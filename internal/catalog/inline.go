package catalog

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/store"
)

// inlined is a content that travelled in a record and is not packed yet.
type inlined struct {
	id     store.ID
	record uint64
	number uint32 // of the command in the record
	row    []byte // as commands write it, never changed
}

// bytes is the content.
func (in *inlined) bytes() []byte { return in.row[inlineHead:] }

// cost is about what the content takes in memory.
func (in *inlined) cost() int { return len(in.row) + inlineCost }

const (
	inlineHead = 12       // bytes of a row before those of the content
	inlineCost = 160      // bytes of memory for a content beside its row
	inlineGone = 64 << 10 // bytes of memory that contents which are gone may take in any case
)

// inlineRow is the row of a content, and of the command that brought it.
func inlineRow(record uint64, number uint32, bytes []byte) []byte {
	e := frame.Encoder{B: make([]byte, 0, inlineHead+len(bytes))}
	e.U64(record)
	e.U32(number)
	e.Raw(bytes)
	return e.B
}

func parseInline(id store.ID, row []byte) *inlined {
	if len(row) < inlineHead {
		return nil
	}
	return &inlined{id: id, record: binary.BigEndian.Uint64(row), number: binary.BigEndian.Uint32(row[8:]), row: row}
}

func (in *inlined) age() []byte { return key(tInlineAge, in.record, in.number, in.id) }

// parseAge is the other way round.
func parseAge(key []byte) inlined {
	return inlined{id: store.ID(key[13:]), record: be64(key[1:9]), number: binary.BigEndian.Uint32(key[9:])}
}

func byAge(a, b *inlined) int {
	return cmp.Or(cmp.Compare(a.record, b.record), cmp.Compare(a.number, b.number))
}

// inlines are the contents that wait to be packed and are in memory. They are in the
// log, and most of them are packed within seconds: as rows of Pebble they would be
// written several times more on the way. The meta row says where in the log the
// oldest of them is, and who opens the view reads them from there. Those for which there
// is no memory become rows, and so do those that stay for long, lest much of the log is
// to be read: always the oldest, so that all rows are older than what is in memory.
type inlines struct {
	byID  map[store.ID]*inlined
	queue []*inlined // oldest first, but for the last fresh ones; some are gone from byID
	fresh int
	bytes int // of memory, about, of those in byID
	gone  int // the same of those that are in the queue alone
	limit int // of bytes: those beyond become rows, the oldest first

	rows   int     // how many are rows
	newest inlined // of those that are, or were
	old    uint64  // those of records up to it are to become rows
	seen   uint64  // the newest record when the view was flushed last
}

// take reports whether a change is about a content here, and makes it. A row is left to
// the front. When a content goes, so do its bytes and its age.
func (q *inlines) take(key string, c change, front *sheet) bool {
	switch key[0] {
	case tInlineAge:
		in := parseAge([]byte(key))
		if q.rows == 0 || byAge(&in, &q.newest) > 0 {
			return true // a row that was never written
		}
		q.rows--
		front.put(string(idKey(tInline, in.id)), change{})
		return false
	case tInline:
		id := store.ID([]byte(key[1:]))
		if old := q.byID[id]; old != nil {
			q.drop(old)
		}
		if in := parseInline(id, c.value); in != nil {
			q.add(in)
		}
		return true
	}
	return false
}

func (q *inlines) add(in *inlined) {
	q.byID[in.id] = in
	q.bytes += in.cost()
	q.queue = append(q.queue, in)
	q.fresh++
}

func (q *inlines) drop(in *inlined) {
	delete(q.byID, in.id)
	q.bytes -= in.cost()
	q.gone += in.cost()
}

// sort puts the contents that came since the last call in order, and forgets those
// that are gone when they take more memory than the others.
func (q *inlines) sort() {
	slices.SortFunc(q.queue[len(q.queue)-q.fresh:], byAge)
	q.fresh = 0
	if q.gone > q.bytes+inlineGone {
		q.queue = slices.DeleteFunc(q.queue, func(in *inlined) bool { return q.byID[in.id] != in })
		q.gone = 0
	}
}

// list returns the contents, oldest first.
func (q *inlines) list() []*inlined {
	out := make([]*inlined, 0, len(q.byID))
	for _, in := range q.queue {
		if q.byID[in.id] == in {
			out = append(out, in)
		}
	}
	return out
}

// oldest returns the record of the oldest content, 0 if there is none.
func (q *inlines) oldest() uint64 {
	for i, in := range q.queue {
		if q.byID[in.id] == in {
			clear(q.queue[:i]) // the array behind it stays for a while
			q.queue = q.queue[i:]
			return in.record
		}
		q.gone -= in.cost()
	}
	q.queue = nil
	return 0
}

// grow notes that the view is about to be flushed, with the records up to applied. The
// contents that were here at the flush before have grown old.
func (q *inlines) grow(applied uint64) { q.old, q.seen = q.seen, applied }

// spill moves the oldest contents into rows: the old ones, and others until the rest has
// room. It reports whether there were any.
func (q *inlines) spill(to *sheet) (moved bool) {
	for {
		record := q.oldest()
		if record == 0 || record > q.old && q.bytes <= q.limit {
			return moved
		}
		in := q.queue[0]
		to.put(string(idKey(tInline, in.id)), change{in.row, true})
		to.put(string(in.age()), change{nil, true})
		q.drop(in)
		q.rows++
		q.newest = inlined{record: in.record, number: in.number}
		moved = true
	}
}

// inlineRow returns the row of a content that is inline. Without one r has failed.
func (r *rows) inlineRow(id store.ID) []byte {
	row, ok := r.get(idKey(tInline, id))
	if (!ok || len(row) < inlineHead) && r.err == nil {
		r.fail(corrupt("content %v has no bytes", id))
	}
	return row
}

// inlineBytes returns a content that is inline.
func (r *rows) inlineBytes(id store.ID) []byte {
	in := parseInline(id, r.inlineRow(id))
	if in == nil {
		return nil
	}
	return in.bytes()
}
