package store

import (
	"context"
	"errors"
	"sync"
	"time"
)

// wholeShard as a stripe means all of the blob, or a part of it that is no block.
const wholeShard = -1

// damageLog gathers what reads find damaged and puts it on the repair queue of the
// catalog, one row for each extent and shard. Who reads never waits for it.
type damageLog struct {
	s    *Store
	wake chan struct{}
	mu   sync.Mutex
	rows map[damageKey]*Repair // not committed yet
	seen map[damageKey]*Repair // committed, and not repaired since: no news
	busy sync.Mutex            // held while rows are committed, so that flush means flushed
}

type damageKey struct {
	extent  ExtentID
	shard   int
	backend BackendID
}

// maxDamage bounds the rows that wait for the catalog; more are found again by the
// next read or scrub.
const maxDamage = 4096

func newDamageLog(s *Store) *damageLog {
	return &damageLog{s: s, wake: make(chan struct{}, 1), rows: map[damageKey]*Repair{}, seen: map[damageKey]*Repair{}}
}

// blame puts damage of a shard, in one stripe or as a whole, on its way to the
// repair queue. It is not damage when the reader gave up, when the blob was
// replaced meanwhile, or when the record says already that the shard is missing.
func (s *Store) blame(ctx context.Context, x *handle, shard, stripe int, err error) {
	if ctx.Err() != nil || s.ctx.Err() != nil || x.e.Shards[shard].Missing {
		return
	}
	backend := x.e.Shards[shard].Backend
	row := Repair{Extent: x.e.ID, Shard: shard, Left: x.e.Code.M - 1, Since: time.Now()}
	key := damageKey{extent: x.e.ID, shard: shard}
	if errors.Is(err, ErrUnavailable) {
		row = Repair{Backend: backend, Left: x.e.Code.M - 1, Since: time.Now()}
		key = damageKey{backend: backend}
		stripe = wholeShard
	}
	if s.damage.known(key, stripe) {
		return
	}
	if now, cerr := s.cat.Extent(ctx, x.e.ID); cerr != nil || !sameBlobs(&now, &x.e) {
		x.stale.Store(true) // a repair came between
		s.open.drop(x.e.ID)
		return
	}
	if s.damage.add(key, row, stripe) {
		s.log.Warn("damage found", "extent", x.e.ID, "shard", shard, "stripe", stripe, "backend", backend, "err", err)
		s.stats.damaged.Add(1)
		if s.opts.Events.Damaged != nil {
			s.opts.Events.Damaged(Damage{Extent: x.e.ID, Shard: shard, Stripe: stripe, Backend: backend, Err: err})
		}
	}
}

// known reports whether damage was reported already.
func (l *damageLog) known(key damageKey, stripe int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return covers(l.seen[key], stripe) || covers(l.rows[key], stripe)
}

// add merges damage into the row of its shard, and reports whether it is news.
func (l *damageLog) add(key damageKey, row Repair, stripe int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if covers(l.seen[key], stripe) || covers(l.rows[key], stripe) {
		return false
	}
	if have := l.rows[key]; have != nil {
		have.add(stripe)
	} else if len(l.rows) < maxDamage {
		if stripe >= 0 {
			row.Stripes = setBit(nil, stripe)
		}
		l.rows[key] = &row
	} else {
		return false
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return true
}

// covers reports whether a row says already that a stripe is bad.
func covers(r *Repair, stripe int) bool {
	return r != nil && (len(r.Stripes) == 0 || stripe >= 0 && hasBit(r.Stripes, stripe))
}

// add adds a stripe, or the whole shard, to the row.
func (r *Repair) add(stripe int) {
	switch {
	case stripe < 0:
		r.Stripes = nil
	case len(r.Stripes) > 0:
		r.Stripes = setBit(r.Stripes, stripe)
	}
}

// forget makes damage of a shard news again: it was repaired, or found in order.
func (l *damageLog) forget(extent ExtentID, shard int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.seen, damageKey{extent: extent, shard: shard})
	delete(l.rows, damageKey{extent: extent, shard: shard})
}

// forgetBackend makes the absence of a backend news again.
func (l *damageLog) forgetBackend(id BackendID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.seen, damageKey{backend: id})
	delete(l.rows, damageKey{backend: id})
}

// remember keeps what was committed, so that it is not reported again with every
// read.
func (l *damageLog) remember(rows map[damageKey]*Repair) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.seen)+len(rows) > 4*maxDamage {
		clear(l.seen) // some reports are repeated, nothing else
	}
	for k, r := range rows {
		if old := l.seen[k]; old != nil && len(old.Stripes) > 0 && len(r.Stripes) > 0 {
			for i, b := range old.Stripes {
				for len(r.Stripes) <= i {
					r.Stripes = append(r.Stripes, 0)
				}
				r.Stripes[i] |= b
			}
		}
		l.seen[k] = r
	}
}

// run commits what has gathered whenever there is something.
func (l *damageLog) run() {
	for {
		select {
		case <-l.wake:
			l.flush(l.s.ctx)
		case <-l.s.ctx.Done():
			return
		}
	}
}

// flush commits the rows that have gathered. Rows that cannot be committed are
// dropped: the next read or scrub finds the damage again.
func (l *damageLog) flush(ctx context.Context) {
	l.busy.Lock()
	defer l.busy.Unlock()
	l.mu.Lock()
	rows := l.rows
	l.rows = map[damageKey]*Repair{}
	l.mu.Unlock()
	if len(rows) == 0 {
		return
	}
	perExtent := map[ExtentID]int{}
	for k := range rows {
		perExtent[k.extent]++
	}
	var list []Repair
	for k, r := range rows {
		r.Left -= perExtent[k.extent] - 1
		list = append(list, *r)
	}
	if err := l.s.commitOne(ctx, Report{Damage: list}); err != nil {
		l.s.log.Warn("damage could not be put on the repair queue; the next read or scrub finds it again", "rows", len(list), "err", err)
		return
	}
	l.remember(rows)
	l.s.wakeRepairer()
}

func setBit(b []byte, i int) []byte {
	if n := i/8 + 1; len(b) < n {
		b = append(b, make([]byte, n-len(b))...)
	}
	b[i/8] |= 1 << (i % 8)
	return b
}

func hasBit(b []byte, i int) bool { return i/8 < len(b) && b[i/8]&(1<<(i%8)) != 0 }
