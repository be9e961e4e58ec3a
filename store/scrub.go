package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/blockframe/blockframe/internal/frame"
	"golang.org/x/time/rate"
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
	c := &scrub{s: s, opts: opts, rep: ScrubReport{Deep: opts.Deep}, began: time.Now()}
	if opts.Rate > 0 {
		c.limit = rate.NewLimiter(rate.Limit(opts.Rate), int(max(opts.Rate, 255*maxStripes*BlockSize)))
	}
	clear := s.watchTrouble()
	for e, err := range s.cat.Extents(ctx, ExtentID{}) {
		if err == nil {
			err = c.extent(ctx, e.ID)
		}
		if err != nil {
			return c.rep, fmt.Errorf("scrub: %w", err)
		}
		if opts.Progress != nil {
			opts.Progress(c.rep)
		}
	}
	err := c.contents(ctx)
	if err == nil {
		err = c.s.over(ctx)
	}
	if err != nil {
		return c.rep, fmt.Errorf("scrub: %w", err)
	}
	if opts.Deep {
		clear()
	}
	c.rep.Degraded, c.rep.DegradedMore = c.tolerances.list, c.tolerances.more
	return c.rep, c.record(ctx)
}

// scrub is a pass under way.
type scrub struct {
	s     *Store
	opts  ScrubOptions
	rep   ScrubReport
	limit *rate.Limiter
	began time.Time

	tolerances tolerances
}

// record puts the finished pass into the catalog.
func (c *scrub) record(ctx context.Context) error {
	c.s.damage.flush(ctx)
	if c.s.writable() != nil {
		return nil
	}
	done := Scrubbed{Deep: c.rep.Deep, Began: c.began, Extents: uint64(c.rep.Extents), Bytes: uint64(c.rep.Bytes),
		Damaged: uint64(c.rep.Damaged), Repaired: uint64(c.rep.Repaired), Lost: uint64(len(c.rep.Lost)) + uint64(c.rep.LostMore)}
	commands, saved := c.s.troubleNews()
	res, err := c.s.cat.Commit(ctx, Record{Each: true, Commands: append([]Command{done}, commands...)})
	if err == nil {
		err = res[0].Err
	}
	if err == nil {
		saved()
	}
	return err
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
	var lost []int
	if c.opts.Deep || anyBad(states) {
		var err error
		if lost, err = c.lookDeep(ctx, x, blobs, states); err != nil {
			return nil, nil, err
		}
	}
	for i := range states {
		c.rep.Bytes += states[i].read
	}
	c.rep.Blobs += int64(len(states))
	return states, lost, c.s.over(ctx)
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
	read     int64
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
			var p *deepPiece
			if p, readErr = c.read(ctx, x, blobs, at); readErr == nil {
				at += p.n
				pieces <- p
			}
		}
	}()
	for p := range pieces {
		for i, err := range p.errs {
			states[i].note(err)
			states[i].gone = states[i].gone || err != nil
		}
		for j := range p.n {
			if !c.stripe(x, p, j, states) {
				lost = append(lost, p.first+j)
			}
		}
		c.rep.Bytes += p.read
		p.slab.release()
	}
	return lost, readErr
}

// read reads and verifies some stripes of all columns.
func (c *scrub) read(ctx context.Context, x *handle, blobs []*look, at int) (*deepPiece, error) {
	sl, err := c.s.slabs.get(ctx, x.e.Code, x.g.Stripes()-at)
	if err != nil {
		return nil, err
	}
	p := &deepPiece{slab: sl, first: at, n: min(sl.stripes, x.g.Stripes()-at), good: make([][]bool, len(blobs)), errs: make([]error, len(blobs))}
	p.read = int64(p.n) * int64(len(blobs)) * BlockSize
	if c.limit != nil {
		if err := c.limit.WaitN(ctx, int(p.read)); err != nil {
			sl.release()
			return nil, err
		}
	}
	c.s.eachShard(len(blobs), func(i int) {
		if blobs[i] != nil && !blobs[i].left {
			p.good[i], p.errs[i] = readDeep(ctx, blobs[i], x, i, p)
		}
	})
	if err := c.s.over(ctx); err != nil {
		sl.release()
		return nil, err
	}
	return p, nil
}

// readDeep reads and verifies column i of a piece. A read that is left behind keeps the
// slab.
func readDeep(ctx context.Context, l *look, x *handle, i int, p *deepPiece) ([]bool, error) {
	var good []bool
	p.slab.refs.Add(1)
	left, err := l.do(ctx, func(r BackendReader) error {
		good = readColumn(r, x, i, p.first, p.n, p.slab.column(i))
		return nil
	}, p.slab.release)
	if left {
		p.slab.writeOff()
		return nil, err
	}
	p.slab.release()
	return good, err
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
	if st.absent != nil {
		c.rep.Absent++
		c.s.blame(ctx, x, i, wholeShard, st.absent)
		return nil
	}
	c.rep.Damaged++
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
	if errors.Is(cause, ErrUnavailable) {
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
