package store

import (
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// wholeShard as a stripe means all of the blob, or a part of it that is no block.
const wholeShard = -1

// damageLog gathers what reads find damaged and puts it on the repair queue of the
// catalog, one row for each extent and shard. Who reads never waits for it.
type damageLog struct {
	s       *Store
	wake    chan struct{}
	mu      sync.Mutex
	rows    map[damageKey]*finding // not committed yet
	seen    map[damageKey]*finding // committed, and not repaired since: no news
	told    map[damageKey]bool     // logged, and not repaired since
	lost    map[lostKey]bool       // told of, and not repaired since
	busy    turn                   // held while rows are committed, so that flush means flushed
	refused atomic.Bool            // by the catalog, told once until it takes some
}

// finding is a row on its way to the queue, of an extent that may lose m shards.
type finding struct {
	Repair
	m int
}

type damageKey struct {
	extent     ExtentID
	shard      int
	generation uint32
	backend    BackendID
}

// lostKey is a range of a version, by where it begins.
type lostKey struct {
	extent  ExtentID
	name    string
	version uint64
	offset  int64
}

// maxDamage bounds the rows that wait for the catalog; more are found again by the
// next read or scrub.
const maxDamage = 4096

func newDamageLog(s *Store) *damageLog {
	return &damageLog{s: s, wake: make(chan struct{}, 1), busy: newTurn(), rows: map[damageKey]*finding{}, seen: map[damageKey]*finding{},
		told: map[damageKey]bool{}, lost: map[lostKey]bool{}}
}

// blame puts damage of a shard, in one stripe or as a whole, on its way to the
// repair queue. It is not damage when the reader gave up, when the blob was
// replaced meanwhile, or when the record says already that the shard is missing.
func (s *Store) blame(ctx context.Context, x *handle, shard, stripe int, err error) {
	if ctx.Err() != nil || s.ctx.Err() != nil || x.e.Shards[shard].Missing || exhausted(err) {
		return
	}
	backend := x.e.Shards[shard].Backend
	s.disk(backend).trouble.failed(err)
	row := finding{Repair{Extent: x.e.ID, Shard: shard, Left: x.e.Code.M - 1, Since: time.Now()}, x.e.Code.M}
	key := damageKey{extent: x.e.ID, shard: shard, generation: x.e.Shards[shard].Generation}
	if errors.Is(err, ErrUnavailable) {
		row.Repair = Repair{Backend: backend, Left: x.e.Code.M - 1, Since: time.Now()}
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
		d := Damage{Extent: x.e.ID, Shard: shard, Stripe: stripe, Backend: backend, Path: s.path(backend), Err: err}
		if key.backend == (BackendID{}) {
			d.Name = s.nameAt(ctx, &x.e, stripe)
		}
		s.tell(key, &d)
	}
}

// tell says what is damaged to the log, once for each shard, and to whoever listens.
func (s *Store) tell(key damageKey, d *Damage) {
	s.stats.damaged.Add(1)
	if s.damage.tell(key) {
		attrs := []any{"path", d.Path}
		if d.Path == "" {
			attrs = []any{"backend", d.Backend}
		}
		if d.Name != "" {
			attrs = append(attrs, "name", d.Name)
		}
		switch {
		case key.backend != (BackendID{}):
		case d.Stripe < 0:
			attrs = append(attrs, "shard", d.Shard, "part", "the whole shard", "extent", d.Extent)
		default:
			attrs = append(attrs, "shard", d.Shard, "block", d.Stripe, "extent", d.Extent)
		}
		s.log.Warn("damage found", append(attrs, "err", d.Err)...)
	}
	if s.opts.Events.Damaged != nil {
		s.opts.Events.Damaged(*d)
	}
}

// tell reports whether damage of a shard was not logged yet, and takes it for logged.
func (l *damageLog) tell(key damageKey) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.told[key] {
		return false
	}
	if len(l.told) >= 4*maxDamage {
		clear(l.told) // some is logged again, nothing else
	}
	l.told[key] = true
	return true
}

// nameAt returns the name of a version that has bytes in a stripe of an extent, or in
// any of them; "" if there is none.
func (s *Store) nameAt(ctx context.Context, e *Extent, stripe int) string {
	lo, hi := e.Offset, e.Offset+e.Length
	if stripe >= 0 {
		lo += int64(stripe) * int64(e.Code.K) * BlockSize
		hi = min(hi, lo+int64(e.Code.K)*BlockSize)
	}
	for o, err := range s.cat.Owners(ctx, e.Upload, lo, hi) {
		if err != nil {
			break
		}
		return o.Object.Name
	}
	return ""
}

// tellLost tells whoever listens that a range is lost, unless it was told.
func (s *Store) tellLost(ce *CorruptError, version uint64) {
	if s.opts.Events.Lost == nil {
		return
	}
	l, key := s.damage, lostKey{ce.Extent, ce.Name, version, ce.Offset}
	l.mu.Lock()
	told := l.lost[key]
	if len(l.lost) >= 4*maxDamage {
		clear(l.lost) // some is told again, nothing else
	}
	l.lost[key] = true
	l.mu.Unlock()
	if !told {
		s.opts.Events.Lost(ce)
	}
}

// known reports whether damage was reported already.
func (l *damageLog) known(key damageKey, stripe int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return covers(l.seen[key], stripe) || covers(l.rows[key], stripe)
}

// add merges damage into the row of its shard, and reports whether it is news.
func (l *damageLog) add(key damageKey, row finding, stripe int) bool {
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
func covers(r *finding, stripe int) bool {
	return r != nil && (len(r.Stripes) == 0 || stripe >= 0 && hasBit(r.Stripes, stripe))
}

// add adds a stripe, or the whole shard, to the row.
func (r *finding) add(stripe int) {
	switch {
	case stripe < 0:
		r.Stripes = nil
	case len(r.Stripes) > 0:
		r.Stripes = setBit(r.Stripes, stripe)
	}
}

// merge adds what another row of the shard says.
func (r *finding) merge(old *finding) {
	if len(r.Stripes) == 0 || len(old.Stripes) == 0 {
		r.Stripes = nil // the whole shard
		return
	}
	for i := range 8 * len(old.Stripes) {
		if hasBit(old.Stripes, i) {
			r.Stripes = setBit(r.Stripes, i)
		}
	}
}

// settle commits that a shard of this generation was repaired or found in order, and
// makes damage of it news again. No report of it is under way meanwhile that would
// put it back on the queue.
func (l *damageLog) settle(ctx context.Context, extent ExtentID, shard int, generation uint32, c Command) error {
	if err := l.busy.take(ctx); err != nil {
		return err
	}
	defer l.busy.give()
	if err := l.s.commitOne(ctx, c); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	key := damageKey{extent: extent, shard: shard, generation: generation}
	delete(l.seen, key)
	delete(l.rows, key)
	delete(l.told, key)
	maps.DeleteFunc(l.lost, func(k lostKey, _ bool) bool { return k.extent == extent })
	return nil
}

// forgetBackend makes the absence of a backend news again.
func (l *damageLog) forgetBackend(id BackendID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.seen, damageKey{backend: id})
	delete(l.rows, damageKey{backend: id})
	delete(l.told, damageKey{backend: id})
}

// remember keeps what was committed, so that it is not reported again with every
// read.
func (l *damageLog) remember(rows map[damageKey]*finding) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.seen)+len(rows) > 4*maxDamage {
		clear(l.seen) // some reports are repeated, nothing else
	}
	for k, r := range rows {
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

// reportBytes bounds the rows of one record, of at most 1 MiB.
const reportBytes = 256 << 10

// flush commits the rows that have gathered. Rows that cannot be committed are
// dropped: the next read or scrub finds the damage again.
func (l *damageLog) flush(ctx context.Context) {
	if l.busy.take(ctx) != nil {
		return // they stay for the next one
	}
	defer l.busy.give()
	l.mu.Lock()
	rows := l.rows
	l.rows = map[damageKey]*finding{}
	l.mu.Unlock()
	for k := range rows {
		if !l.current(ctx, k) {
			delete(rows, k)
		}
	}
	l.withSeen(rows)
	var list []Repair
	for size, left := 0, len(rows); left > 0; {
		for _, r := range rows {
			list = append(list, r.Repair)
			size, left = size+64+len(r.Stripes), left-1
			if size < reportBytes && left > 0 {
				continue
			}
			if err := l.s.commitOne(ctx, Report{Damage: list}); err != nil {
				if !l.refused.Swap(true) { // a store that takes no changes refuses all
					l.s.log.Warn("damage could not be put on the repair queue; the next read or scrub finds it again", "rows", left+len(list), "err", err)
				}
				return
			}
			l.refused.Store(false)
			list, size = nil, 0
		}
	}
	if len(rows) > 0 {
		l.remember(rows)
		l.s.wakeRepairer()
	}
}

// withSeen merges what was committed of the same shards before into rows, adds the rows
// committed of other shards of their extents that can lose less now, and sets Left of
// all.
func (l *damageLog) withSeen(rows map[damageKey]*finding) {
	l.mu.Lock()
	defer l.mu.Unlock()
	extents := map[ExtentID]bool{}
	all := map[damageKey]*finding{}
	for k, r := range rows {
		extents[k.extent] = k.extent != (ExtentID{})
		all[k] = r
	}
	for k, old := range l.seen {
		if r := rows[k]; r != nil {
			r.merge(old)
		} else if extents[k.extent] {
			again := *old
			all[k] = &again
		}
	}
	countLeft(all)
	for k, r := range all {
		if rows[k] == nil && r.Left < l.seen[k].Left {
			rows[k] = r
		}
	}
}

// current reports whether the shard of a row was not replaced since.
func (l *damageLog) current(ctx context.Context, k damageKey) bool {
	if k.extent == (ExtentID{}) {
		return true
	}
	e, err := l.s.cat.Extent(ctx, k.extent)
	return err != nil && !isAbsent(err) || err == nil && k.shard < len(e.Shards) && e.Shards[k.shard].Generation == k.generation
}

// countLeft sets Left of the rows of each extent: what its worst stripe can still
// lose, as far as these rows know; -1 when that stripe is lost.
func countLeft(rows map[damageKey]*finding) {
	type worst struct {
		whole   int
		stripes map[int]int
	}
	extents := map[ExtentID]*worst{}
	for k, r := range rows {
		w := extents[k.extent]
		if w == nil {
			w = &worst{stripes: map[int]int{}}
			extents[k.extent] = w
		}
		if len(r.Stripes) == 0 {
			w.whole++
		}
		for i := range 8 * len(r.Stripes) {
			if hasBit(r.Stripes, i) {
				w.stripes[i]++
			}
		}
	}
	for k, r := range rows {
		if k.extent == (ExtentID{}) {
			continue
		}
		w, most := extents[k.extent], 0
		for _, n := range w.stripes {
			most = max(most, n)
		}
		r.Left = max(-1, r.m-w.whole-most)
	}
}

func setBit(b []byte, i int) []byte {
	if n := i/8 + 1; len(b) < n {
		b = append(b, make([]byte, n-len(b))...)
	}
	b[i/8] |= 1 << (i % 8)
	return b
}

func hasBit(b []byte, i int) bool { return i/8 < len(b) && b[i/8]&(1<<(i%8)) != 0 }
