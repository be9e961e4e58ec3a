package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/blockframe/blockframe/internal/frame"
)

// ScrubOptions says how thoroughly to look.
type ScrubOptions struct {
	// Deep reads every block and recomputes parity; otherwise presence, size,
	// header, table, manifests and trailer of every blob are looked at.
	Deep bool

	// Repair makes whole what is found damaged, in the same pass.
	Repair bool

	// Rate bounds the bytes read in a second, 0 does not.
	Rate int64

	// Progress is called now and then, from one goroutine.
	Progress func(ScrubReport)
}

// ScrubReport is what a pass found.
type ScrubReport struct {
	Deep     bool
	Extents  int64 // looked at
	Blobs    int64
	Bytes    int64 // read
	Contents int64 // kept in the catalog itself, looked at
	Damaged  int64 // shards in which anything was wrong
	Blocks   int64 // of them, blocks that were bad
	Repaired int64 // shards made whole
	Left     int64 // shards still damaged, of which nothing is lost
	Absent   int64 // shards on backends that could not be asked
	Lost     []*CorruptError
	LostMore int64 // ranges that are lost beyond those listed
	Errs     []error
	Log      LogReport // filled in by who keeps the commit log

	Disks []ScrubDisk // those that blobs are on, in order of their ids

	// Degraded are the versions that can lose fewer shards than their code
	// provides for, as things are after the repairs of the pass.
	Degraded     []Degraded
	DegradedMore int64 // beyond those listed
}

// LogReport is what a deep pass found in the copies of the commit log, and what was
// repaired of them since the last report, which a quick pass tells too.
type LogReport struct {
	Bytes    int64   // read, over all copies
	Repaired int64   // places made whole from another copy since the last report
	Left     int64   // segments left bad because the log is read-only
	Lost     []error // places of which no copy is good
}

// maxLost bounds the ranges that a report lists, and the versions.
const maxLost = 10_000

// Clean reports whether nothing was found, and nothing is lost.
func (r *ScrubReport) Clean() bool {
	return r.Damaged == 0 && r.Absent == 0 && len(r.Lost) == 0 && len(r.Errs) == 0 &&
		r.Log.Repaired == 0 && r.Log.Left == 0 && len(r.Log.Lost) == 0
}

// Scrub looks at everything the store keeps, as the media have it, and reports
// what it found. It needs no keys. The error is for the pass itself: damage is in
// the report. A finished pass is recorded in the catalog.
func (s *Store) Scrub(ctx context.Context, opts ScrubOptions) (ScrubReport, error) {
	c := newScrub(s, opts, newPacer(s, opts.Rate, false))
	if opts.Progress != nil {
		c.tick = func() error { opts.Progress(c.rep); return nil }
	}
	clear := s.watchTrouble()
	err := c.all(ctx)
	if err == nil && opts.Deep {
		clear()
	}
	if err == nil {
		err = s.scrubs.ended(ctx, c, true)
	}
	if err != nil {
		return c.rep, fmt.Errorf("scrub: %w", err)
	}
	return c.rep, nil
}

// scrub is a pass under way.
type scrub struct {
	s     *Store
	opts  ScrubOptions
	rep   ScrubReport
	pace  *pacer
	tick  func() error // called after each extent; nil
	began time.Time
	spent time.Duration // by earlier processes
	since time.Time     // the rest of it
	after ExtentID      // the last one that was looked at
	sure  ScrubReport   // as it was then: an extent that was cut short is looked at anew

	tolerances tolerances
}

func newScrub(s *Store, opts ScrubOptions, pace *pacer) *scrub {
	now := time.Now()
	return &scrub{s: s, opts: opts, rep: ScrubReport{Deep: opts.Deep}, sure: ScrubReport{Deep: opts.Deep}, pace: pace, began: now, since: now}
}

// all goes from the cursor to the end, and looks at the commit log too.
func (c *scrub) all(ctx context.Context) error {
	err := c.run(ctx)
	if err == nil && c.opts.Deep && c.s.opts.ScrubLog != nil {
		c.rep.Log, err = c.s.opts.ScrubLog(ctx)
		c.settle()
	}
	return err
}

// run goes from the cursor to the end.
func (c *scrub) run(ctx context.Context) error {
	err := c.extents(ctx)
	if err == nil {
		err = c.contents(ctx)
	}
	if err == nil {
		err = c.s.over(ctx)
	}
	c.rep.Degraded, c.rep.DegradedMore = c.tolerances.list, c.tolerances.more
	if err == nil {
		c.settle()
	}
	return err
}

// settle takes what was found so far for sure.
func (c *scrub) settle() {
	disks := append(c.sure.Disks[:0], c.rep.Disks...)
	c.sure = c.rep
	c.sure.Disks = disks
}

// extentsAtOnce is how many extents are asked for in one go: a pass may take weeks, and
// what a catalog keeps for an iterator that long is not little.
const extentsAtOnce = 256

// extents looks at all extents behind the cursor, in order of their ids.
func (c *scrub) extents(ctx context.Context) error {
	for {
		page, err := c.s.extentsAfter(ctx, c.after)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, id := range page {
			if err := c.extent(ctx, id); err != nil {
				return err
			}
			c.after = id
			c.settle()
			if c.tick != nil {
				if err := c.tick(); err != nil {
					return err
				}
			}
		}
	}
}

// extentsAfter returns the next extents in order of their ids.
func (s *Store) extentsAfter(ctx context.Context, id ExtentID) (page []ExtentID, err error) {
	for e, err := range s.cat.Extents(ctx, id) {
		if err != nil {
			return nil, err
		}
		if page = append(page, e.ID); len(page) == extentsAtOnce {
			break
		}
	}
	return page, nil
}

// extent looks at one extent and, if asked to, repairs it. What a repair or a
// collection changed under its eyes is no damage: then it looks again.
func (c *scrub) extent(ctx context.Context, id ExtentID) error {
	for {
		if err := c.s.over(ctx); err != nil {
			return err
		}
		e, err := c.s.current(ctx, id)
		if err != nil {
			return passAbsent(err)
		}
		again, err := c.once(ctx, e)
		if err != nil || !again {
			return err
		}
	}
}

// passAbsent makes it no error that something was collected meanwhile.
func passAbsent(err error) error {
	if isAbsent(err) {
		return nil
	}
	return err
}

// once looks at an extent and judges it, unless its record changed meanwhile: then
// it reports that it has to be done again.
func (c *scrub) once(ctx context.Context, e Extent) (again bool, err error) {
	var states []shardState
	var lost []int
	x, bad := c.s.open.get(ctx, e)
	if bad == nil {
		defer c.s.open.put(x)
		x.retry()
		if states, lost, err = c.look(ctx, x); err != nil {
			return false, err
		}
	}
	if err := c.s.over(ctx); err != nil { // what came of it says nothing then
		return false, err
	}
	if bad != nil || anyBad(states) {
		now, err := c.s.current(ctx, e.ID)
		if err != nil {
			return false, passAbsent(err)
		}
		if !sameBlobs(&now, &e) {
			return true, nil
		}
	}
	c.rep.Extents++
	if bad != nil {
		return false, c.lostExtent(ctx, &e, bad)
	}
	return false, c.judge(ctx, x, states, lost)
}

// look returns the state of every shard, and the stripes that cannot be decoded.
func (c *scrub) look(ctx context.Context, x *handle) ([]shardState, []int, error) {
	states := make([]shardState, len(x.e.Shards))
	blobs := make([]*look, len(states))
	defer func() {
		for _, l := range blobs {
			l.close()
		}
	}()
	began := time.Now()
	c.s.eachShard(len(states), func(i int) {
		l, err := c.s.lookAt(ctx, &x.e, i)
		if err != nil {
			states[i].note(err)
			states[i].gone = true
			return
		}
		blobs[i] = l
		c.s.lookAtParts(ctx, l, x, i, &states[i])
		states[i].gone = l.left
	})
	parts := int64(0)
	for i := range states {
		parts += states[i].read
		c.count(x, i, states[i].read)
		c.disk(x.e.Shards[i].Backend).Blobs++
		if isFailure(states[i].parts) {
			c.disk(x.e.Shards[i].Backend).Errors++
		}
	}
	c.rep.Blobs += int64(len(states))
	if err := c.hold(ctx, parts, time.Since(began)); err != nil {
		return nil, nil, err
	}
	var lost []int
	if c.opts.Deep || anyBad(states) {
		var err error
		if lost, err = c.lookDeep(ctx, x, blobs, states); err != nil {
			return nil, nil, err
		}
	}
	return states, lost, c.s.over(ctx)
}

// count adds bytes that were read of shard i.
func (c *scrub) count(x *handle, i int, n int64) {
	c.rep.Bytes += n
	c.s.stats.scrubBytes.Add(n)
	c.disk(x.e.Shards[i].Backend).Bytes += n
}

func anyBad(states []shardState) bool {
	for i := range states {
		if !states[i].ok() {
			return true
		}
	}
	return false
}

// piece of a deep look: some stripes of all columns, in a slab.
type deepPiece struct {
	slab     *slab
	first, n int
	good     [][]bool // by column; nil: the blob cannot be read
	errs     []error  // by column, why it cannot be from here on
	failed   []int64  // by column, reads that failed
}

// lookDeep reads every block of an extent and returns the stripes that have fewer
// good blocks than it takes to decode them. While one piece is being verified the
// next one is read.
func (c *scrub) lookDeep(ctx context.Context, x *handle, blobs []*look, states []shardState) (lost []int, err error) {
	pieces := make(chan *deepPiece, 1)
	var readErr error
	go func() {
		defer close(pieces)
		for at := 0; at < x.g.Stripes() && readErr == nil; {
			began := time.Now()
			var p *deepPiece
			if p, readErr = c.read(ctx, x, blobs, at); readErr == nil {
				n, took := int64(p.n)*int64(len(blobs))*BlockSize, time.Since(began)
				at += p.n
				pieces <- p
				readErr = c.hold(ctx, n, took)
			}
		}
	}()
	for p := range pieces {
		for i, err := range p.errs {
			states[i].note(err)
			states[i].gone = states[i].gone || err != nil
			c.disk(x.e.Shards[i].Backend).Errors += p.failed[i]
			if p.good[i] != nil {
				c.count(x, i, int64(p.n)*BlockSize)
			}
		}
		for j := range p.n {
			if !c.stripe(x, p, j, states) {
				lost = append(lost, p.first+j)
			}
		}
		p.slab.release()
	}
	return lost, readErr
}

// hold waits as the pacer says, after so many bytes. The slab that they are in is somebody
// else's by then: puts wait for those.
func (c *scrub) hold(ctx context.Context, n int64, took time.Duration) error {
	if err := c.pace.take(ctx, n); err != nil {
		return err
	}
	return c.pace.rest(ctx, took)
}

// read reads and verifies some stripes of all columns.
func (c *scrub) read(ctx context.Context, x *handle, blobs []*look, at int) (*deepPiece, error) {
	sl, err := c.s.slabs.get(ctx, x.e.Code, x.g.Stripes()-at)
	if err != nil {
		return nil, err
	}
	n := len(blobs)
	p := &deepPiece{slab: sl, first: at, n: min(sl.stripes, x.g.Stripes()-at), good: make([][]bool, n), errs: make([]error, n), failed: make([]int64, n)}
	c.s.eachShard(n, func(i int) {
		if blobs[i] != nil && !blobs[i].left {
			p.good[i], p.failed[i], p.errs[i] = readDeep(ctx, blobs[i], x, i, p)
		}
	})
	if err := c.s.over(ctx); err != nil {
		sl.release()
		return nil, err
	}
	return p, nil
}

// readDeep reads and verifies column i of a piece. A read that is left behind keeps the
// slab. failed are the reads that failed.
func readDeep(ctx context.Context, l *look, x *handle, i int, p *deepPiece) (good []bool, failed int64, err error) {
	var got []bool
	var reads readErrors
	p.slab.refs.Add(1)
	left, err := l.do(ctx, func(r BackendReader) error {
		reads.BackendReader = r
		got = readColumn(&reads, x, i, p.first, p.n, p.slab.column(i))
		return nil
	}, p.slab.release)
	if left {
		p.slab.writeOff()
		return nil, 1, err
	}
	p.slab.release()
	return got, reads.n.Load(), err
}

// stripe takes note of the bad blocks of a stripe and reports whether it can be
// decoded. Parity that matches its hash but not the data was wrong when it was put.
func (c *scrub) stripe(x *handle, p *deepPiece, j int, states []shardState) bool {
	have, size := 0, x.g.StripeLen(p.first+j)
	blocks := make([][]byte, len(states))
	for i := range states {
		blocks[i] = p.slab.block(i, j)[:size]
		switch {
		case i < x.e.Code.K && x.g.ShardBlockLen(i, p.first+j) == 0:
			have++ // zeros, which nobody stores
			blocks[i] = zeroBlock[:size]
		case p.good[i] != nil && p.good[i][j]:
			have++
		case p.good[i] != nil:
			states[i].bad = setBit(states[i].bad, p.first+j)
			states[i].blocks++
		}
	}
	if have == len(states) {
		if ok, err := x.coder.Verify(blocks); err != nil || !ok {
			c.fault(fmt.Errorf("%w: extent %v stripe %d: parity does not belong to the data, although every block matches its hash", ErrCorrupt, x.e.ID, p.first+j))
		}
	}
	return have >= x.e.Code.K
}

// fault keeps what is wrong and has no other place in the report.
func (c *scrub) fault(err error) {
	if len(c.rep.Errs) < 100 {
		c.rep.Errs = append(c.rep.Errs, err)
	}
}

// judge counts what was found, reports it to the repair queue, and repairs.
func (c *scrub) judge(ctx context.Context, x *handle, states []shardState, lost []int) error {
	known := int64(len(c.rep.Lost)) + c.rep.LostMore
	for _, stripe := range lost {
		if err := c.lostStripe(ctx, x, stripe); err != nil {
			return err
		}
	}
	named := int64(len(c.rep.Lost))+c.rep.LostMore > known
	for i := range states {
		if err := c.judgeShard(ctx, x, i, &states[i], named); err != nil {
			return err
		}
	}
	return c.degraded(ctx, x, states)
}

// judgeShard does so for one shard. named says that the report names objects that
// lost bytes in this extent: then a shard that cannot be repaired is told by them.
func (c *scrub) judgeShard(ctx context.Context, x *handle, i int, st *shardState, named bool) error {
	if st.ok() {
		return nil
	}
	disk := c.disk(x.e.Shards[i].Backend)
	if st.absent != nil {
		c.rep.Absent++
		disk.Absent++
		c.s.blame(ctx, x, i, wholeShard, st.absent)
		return nil
	}
	c.rep.Damaged++
	disk.Damaged++
	c.rep.Blocks += int64(st.blocks)
	c.s.blameState(ctx, x, i, st)
	if !c.opts.Repair {
		c.rep.Left++
		return nil
	}
	_, err := c.s.healShard(ctx, x.e.ID, i)
	switch {
	case err == nil:
		c.rep.Repaired++
		*st = shardState{}
	case c.s.over(ctx) != nil:
		return c.s.over(ctx)
	case c.s.collected(ctx, x.e.ID):
		c.rep.Damaged--
		disk.Damaged--
		c.rep.Blocks -= int64(st.blocks)
		*st = shardState{}
	case !errors.Is(err, ErrUnrecoverable):
		c.rep.Left++
		c.fault(err)
	case !named:
		c.rep.Left++ // what is lost in it belongs to no object any more
	}
	return nil
}

// lostStripe names the objects that have bytes in a stripe that cannot be decoded:
// those in its bad blocks.
func (c *scrub) lostStripe(ctx context.Context, x *handle, stripe int) error {
	k := x.e.Code.K
	for col := range k {
		b := stripe*k + col
		if x.g.ShardBlockLen(col, stripe) == 0 {
			continue
		}
		p, err := c.s.readBlock(ctx, x, b)
		if err == nil {
			p.free()
			continue
		}
		if err := c.s.over(ctx); err != nil {
			return err
		}
		if errors.Is(err, ErrUnavailable) {
			continue // not lost, and counted as absent
		}
		lo := x.e.Offset + int64(b)*BlockSize
		if err := c.lostRange(ctx, &x.e, stripe, lo, lo+int64(x.g.BlockLen(b)), err); err != nil {
			return err
		}
	}
	return nil
}

// lostExtent names the objects of an extent that cannot be opened at all.
func (c *scrub) lostExtent(ctx context.Context, e *Extent, cause error) error {
	c.rep.Blobs += int64(len(e.Shards))
	away := errors.Is(cause, ErrUnavailable)
	for i := range e.Shards {
		d := c.disk(e.Shards[i].Backend)
		d.Blobs++
		if away {
			d.Absent++
		} else {
			d.Damaged++
		}
	}
	if away {
		c.rep.Absent += int64(len(e.Shards))
		return nil
	}
	c.rep.Damaged += int64(len(e.Shards))
	if err := c.eachOwner(ctx, e, func(o Owner, _, _ int64) { c.tolerances.note(&o.Object, -1) }); err != nil {
		return err
	}
	return c.lostRange(ctx, e, wholeShard, e.Offset, e.Offset+e.Length, cause)
}

// lostRange adds a lost range of a stored stream to the report, once for every
// version that has bytes in it.
func (c *scrub) lostRange(ctx context.Context, e *Extent, stripe int, lo, hi int64, cause error) error {
	var ce *CorruptError
	want, got := e.Code.K, 0
	if errors.As(cause, &ce) {
		want, got = ce.Want, ce.Got
	}
	return c.s.eachLost(ctx, CorruptError{Extent: e.ID, Stripe: stripe, Want: want, Got: got, Offset: lo, Length: hi - lo}, e.Upload, func(n *CorruptError) {
		if len(c.rep.Lost) < maxLost {
			c.rep.Lost = append(c.rep.Lost, n)
		} else {
			c.rep.LostMore++
		}
	})
}

// eachLost calls f, if it is not nil, for every version that has bytes in a range of a
// stored stream which is lost, and tells whoever listens.
func (s *Store) eachLost(ctx context.Context, ce CorruptError, upload UploadID, f func(*CorruptError)) error {
	lo, hi := ce.Offset, ce.Offset+ce.Length
	for o, err := range s.cat.Owners(ctx, upload, lo, hi) {
		if err != nil {
			return err
		}
		n := ce
		n.Name, n.Offset = o.Object.Name, max(lo-o.Offset, 0)
		n.Length = min(hi-o.Offset, o.Object.Size) - n.Offset
		if f != nil {
			f(&n)
		}
		s.tellLost(&n, o.Object.Version)
	}
	return nil
}

// contents looks at the contents that are kept in the catalog itself.
func (c *scrub) contents(ctx context.Context) error {
	for in, err := range c.s.cat.Inline(ctx) {
		if err != nil {
			return err
		}
		c.rep.Contents++
		if id := in.Content.ID; ID(frame.Sum(in.Content.Inline)) != id {
			c.fault(fmt.Errorf("%w: content %v in the catalog does not match its address", ErrCorrupt, id))
		}
	}
	return nil
}
