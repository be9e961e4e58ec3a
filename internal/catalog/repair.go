package catalog

import (
	"bytes"
	"encoding/binary"

	"github.com/blockframe/blockframe/store"
)

// queued is a row of the repair queue and its place in the order.
type queued struct {
	extent  store.ExtentID
	shard   uint8
	backend store.BackendID
	left    uint8 // shards left to lose, plus 1
	since   uint64
	stripes []byte // empty: all
}

func (q *queued) find() []byte { return key(tQueued, q.extent, q.shard, q.backend) }

func (q *queued) key() []byte {
	return key(tQueue, q.left, q.since, q.extent, q.shard, q.backend)
}

// queue returns the row for a shard or backend, and whether it is queued.
func (r *rows) queue(extent store.ExtentID, shard uint8, backend store.BackendID) (*queued, bool) {
	q := &queued{extent: extent, shard: shard, backend: backend}
	v, ok := r.get(q.find())
	if !ok || len(v) != 9 {
		return q, false
	}
	q.left, q.since = v[0], be64(v[1:])
	q.stripes, ok = r.get(q.key())
	if !ok && r.err == nil {
		r.fail(corrupt("a row of the repair queue is not in its place"))
	}
	return q, ok
}

func parseQueued(k, v []byte) *queued {
	const length = 1 + 1 + 8 + 16 + 1 + 16
	if len(k) != length {
		return nil
	}
	return &queued{left: k[1], since: be64(k[2:10]), extent: store.ExtentID(k[10:26]), shard: k[26],
		backend: store.BackendID(k[27:]), stripes: bytes.Clone(v)}
}

func (q *queued) public() store.Repair {
	return store.Repair{Extent: q.extent, Shard: int(q.shard), Backend: q.backend, Stripes: q.stripes,
		Left: int(q.left) - 1, Since: nanoTime(int64(q.since))}
}

// enqueue adds damage to the queue, or to the row that is there: it keeps its
// age and takes the newest count of what is left.
func (t *tx) enqueue(extent store.ExtentID, shard uint8, backend store.BackendID, left int, stripes []byte) bool {
	q, known := t.queue(extent, shard, backend)
	was := *q
	if known {
		t.del(q.key())
		stripes = merge(q.stripes, stripes)
	} else {
		q.since = uint64(t.now)
		t.meta.counts.Repairs++
	}
	q.left, q.stripes = uint8(left+1), stripes
	t.set(q.find(), binary.BigEndian.AppendUint64([]byte{q.left}, q.since))
	t.set(q.key(), q.stripes)
	return !known || was.left != q.left || !bytes.Equal(was.stripes, q.stripes)
}

// merge returns the union of two bitmaps; an empty one is everything.
func merge(a, b []byte) []byte {
	if len(a) == 0 || len(b) == 0 {
		return nil
	}
	if len(a) < len(b) {
		a, b = b, a
	}
	a = bytes.Clone(a)
	for i, bits := range b {
		a[i] |= bits
	}
	return a
}

// dequeue takes a row off the queue, if it is there.
func (t *tx) dequeue(extent store.ExtentID, shard uint8, backend store.BackendID) bool {
	q, ok := t.queue(extent, shard, backend)
	if ok {
		t.del(q.find())
		t.del(q.key())
		t.meta.counts.Repairs--
	}
	return ok
}

// queueMissing queues the shards of a new extent that were not written.
func (t *tx) queueMissing(u *upload, x *store.Extent) {
	missing := 0
	for _, s := range x.Shards {
		if s.Missing {
			missing++
		}
	}
	u.missing += uint32(missing)
	for i, s := range x.Shards {
		if s.Missing {
			t.enqueue(x.ID, uint8(i), store.BackendID{}, x.Code.M-missing, nil)
		}
	}
}

// unqueueAll takes all shards of an extent off the queue.
func (t *tx) unqueueAll(x *store.Extent) {
	for i := range x.Shards {
		t.dequeue(x.ID, uint8(i), store.BackendID{})
	}
}

// report adds damage to the queue. Damage of extents that are gone is skipped.
func (t *tx) report(c *store.Report) (res store.Result) {
	for i := range c.Damage {
		d := &c.Damage[i]
		if !d.Backend.IsZero() {
			if t.absent(d.Backend) {
				res.Changed = t.enqueue(store.ExtentID{}, 0, d.Backend, d.Left, nil) || res.Changed
			}
			continue
		}
		x, _ := t.repairable(d.Extent)
		if x == nil {
			continue
		}
		stripes := bytes.TrimRight(d.Stripes, "\x00")
		if d.Shard >= len(x.Shards) || !within(stripes, x.Geometry().Stripes()) {
			return store.Result{Err: invalid("damage of extent %v: shard %d or its bitmap is out of range", x.ID, d.Shard)}
		}
		if len(stripes) == 0 && len(d.Stripes) > 0 {
			continue // nothing bad
		}
		res.Changed = t.enqueue(x.ID, uint8(d.Shard), store.BackendID{}, d.Left, stripes) || res.Changed
	}
	return res
}

// within reports whether a bitmap without zero bytes at its end has no bit for n
// or above.
func within(bitmap []byte, n int) bool {
	if len(bitmap) == 0 {
		return true
	}
	top := 8*len(bitmap) - 1
	for bitmap[top/8]&(1<<(top%8)) == 0 {
		top--
	}
	return top < n
}

// repairable returns an extent and its upload, unless it is gone or dead.
func (t *tx) repairable(id store.ExtentID) (*store.Extent, *upload) {
	x := t.extent(id)
	if x == nil {
		return nil, nil
	}
	u := t.upload(x.Upload)
	if u == nil || u.state == store.UploadDead {
		return nil, nil
	}
	return x, u
}

// replace gives a shard its next generation, on the same backend or another.
func (t *tx) replace(c *store.Replace) store.Result {
	x, u := t.repairable(c.Extent)
	if x == nil {
		return store.Result{Err: notExist("extent %v", c.Extent)}
	}
	if c.Shard >= len(x.Shards) || c.To.Missing || c.To.Backend.IsZero() || c.To.Generation <= c.From {
		return store.Result{Err: invalid("extent %v: shard %d, from generation %d to %+v", x.ID, c.Shard, c.From, c.To)}
	}
	s := &x.Shards[c.Shard]
	if *s == c.To {
		return store.Result{} // a repetition: the blob is the shard
	}
	if s.Generation != c.From {
		return store.Result{Err: refuse(ErrConflict, "extent %v shard %d has generation %d, want %d", x.ID, c.Shard, s.Generation, c.From)}
	}
	if s.Backend != c.To.Backend {
		if err := t.mayMove(x, c.Shard, c.To.Backend); err != nil {
			return store.Result{Err: err}
		}
	}
	t.count(x, c.Shard, -1)
	t.found(u, s)
	*s = c.To
	t.count(x, c.Shard, 1)
	t.set(key(tExtent, x.ID), encodedExtent(x))
	t.dequeue(x.ID, uint8(c.Shard), store.BackendID{})
	return store.Result{Changed: true}
}

// found notes that a shard is there.
func (t *tx) found(u *upload, s *store.Shard) {
	if s.Missing {
		s.Missing = false
		u.missing--
		t.saveUpload(u)
	}
}

// intact takes a row off the queue.
func (t *tx) intact(c *store.Intact) store.Result {
	if !c.Backend.IsZero() {
		if h := t.held(c.Backend); h.State == BackendLost && h.Shards > 0 {
			return store.Result{Err: refuse(ErrConflict, "backend %v was lost with %d shards", c.Backend, h.Shards)}
		}
		return store.Result{Changed: t.dequeue(store.ExtentID{}, 0, c.Backend)}
	}
	x, u := t.repairable(c.Extent)
	if x == nil || c.Shard >= len(x.Shards) {
		return store.Result{Err: notExist("extent %v shard %d", c.Extent, c.Shard)}
	}
	s := &x.Shards[c.Shard]
	if s.Generation != c.Generation {
		return store.Result{Err: refuse(ErrConflict, "extent %v shard %d has generation %d, want %d", x.ID, c.Shard, s.Generation, c.Generation)}
	}
	changed := t.dequeue(x.ID, uint8(c.Shard), store.BackendID{})
	if s.Missing {
		if s.Backend.IsZero() {
			return store.Result{Err: invalid("extent %v shard %d is nowhere", x.ID, c.Shard)}
		}
		t.count(x, c.Shard, -1)
		t.found(u, s)
		t.count(x, c.Shard, 1)
		t.set(key(tExtent, x.ID), encodedExtent(x))
		changed = true
	}
	return store.Result{Changed: changed}
}
