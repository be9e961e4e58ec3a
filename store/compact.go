package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/blockframe/blockframe/erasure"
)

const (
	compactSmall = 16 * miB // a pack below that is worth putting together with others
	compactLines = 8 * miB  // bytes of its lines, about: they are in memory

	mostCandidates = 1 << 16 // that a pass looks at, some 4 MB; the next pass has the others
	mostStuck      = 1 << 12 // packs with contents that could not be read which are remembered
)

// CompactOptions says how to compact.
type CompactOptions struct {
	DryRun bool  // only report
	Rate   int64 // bounds the bytes read in a second, 0 does not
}

// CompactReport says what a compaction did, or would do.
type CompactReport struct {
	Packs    int64 // all that were looked at
	Bytes    int64 // in them, before coding
	Waste    int64 // of these, bytes that no version refers to
	Emptied  int64 // packs whose contents moved: they go with the collection, after the grace
	Written  int64 // packs they moved into
	Contents int64 // that moved
	Moved    int64 // bytes of them
	Failed   int64 // contents that could not be read, and stay where they are

	// Stored are the bytes that everything takes on the backends, about: parity, tables,
	// waste, and what waits for the end of its grace. Live are those that versions refer
	// to, each content counted once. Both are as of the beginning.
	Stored int64
	Live   int64
}

// Compact puts the contents of small packs, and of those of which half is referred to no
// more, together in packs of up to 64 MiB, in the code of their policy. Nothing moves
// unless much is gained: 16 MiB in one pack, or as many bytes freed as are written.
//
// It is safe beside everything else. Contents are read verified, and each moves only if it
// is then where it was: the record of a pack is the one commit point. A crash before it
// leaves a pack that nothing names. The old packs are condemned by the record, and stay for
// readers and for their grace.
func (s *Store) Compact(ctx context.Context, opts CompactOptions) (CompactReport, error) {
	return s.compact(ctx, opts, newPacer(s, opts.Rate, false))
}

func (s *Store) compact(ctx context.Context, opts CompactOptions, pace *pacer) (CompactReport, error) {
	c := &compaction{s: s, ctx: ctx, pace: pace}
	if err := s.writable(); err != nil {
		return c.rep, err
	}
	if err := s.compacting.take(ctx); err != nil {
		return c.rep, fmt.Errorf("compact: wait for another one to end: %w", err)
	}
	defer s.compacting.give()
	plans, err := c.plan()
	if err != nil {
		return c.rep, fmt.Errorf("compact: %w", err)
	}
	s.stats.stored.Store(c.rep.Stored)
	s.stats.live.Store(c.rep.Live)
	for _, code := range slices.SortedFunc(maps.Keys(plans), func(a, b erasure.Code) int { return a.K*256 + a.M - b.K*256 - b.M }) {
		packs := worth(plans[code])
		if opts.DryRun {
			c.rep.Emptied += int64(len(packs))
		} else if len(packs) > 0 {
			if err := c.move(code, packs); err != nil {
				return c.rep, fmt.Errorf("compact: %w", err)
			}
		}
	}
	return c.rep, nil
}

// compaction is one pass.
type compaction struct {
	s    *Store
	ctx  context.Context
	rep  CompactReport
	pace *pacer
	n    int // candidates
}

// candidate is a pack that might be emptied.
type candidate struct {
	upload UploadID
	need   int64  // bytes that its contents and their lines will take
	frees  int64  // bytes that nothing refers to
	puts   int    // contents
	name   string // of one
	lines  int64  // bytes of their lines
}

// large reports whether a pack of that is as large as packs are made, or near it.
func (p *candidate) large() bool {
	return p.need >= compactSmall || p.puts >= packMembers/2 || p.lines >= compactLines/2
}

// worth returns the packs of one code whose emptying gains much: all, if together they
// make a large one, else those that are mostly waste. What is written is not found worth
// it again: it is large, or it has no waste and too little company.
func worth(packs []candidate) []candidate {
	if all := total(packs); len(packs) > 1 && all.large() {
		return packs
	}
	return slices.DeleteFunc(packs, func(p candidate) bool { return p.frees < p.need })
}

// total adds packs up.
func total(packs []candidate) (all candidate) {
	for i := range packs {
		all.need += packs[i].need
		all.puts += packs[i].puts
		all.lines += packs[i].lines
	}
	return all
}

// plan looks at all packs, and returns those that might be emptied, by the code that their
// contents are to have.
func (c *compaction) plan() (map[erasure.Code][]candidate, error) {
	plans := map[erasure.Code][]candidate{}
	for u, err := range c.s.cat.Uploads(c.ctx, UploadID{}) {
		if err == nil {
			err = c.s.over(c.ctx)
		}
		if err != nil {
			return nil, err
		}
		if err := c.space(&u); err != nil {
			return nil, err
		}
		if u.State != UploadLive || u.Extents != 1 || c.s.stuck(u.ID) {
			continue
		}
		if err := c.consider(u, plans); err != nil {
			return nil, err
		}
	}
	return plans, nil
}

// consider adds a pack to those that might be emptied.
func (c *compaction) consider(u Upload, plans map[erasure.Code][]candidate) error {
	e, err := c.s.cat.ExtentAt(c.ctx, u.ID, 0)
	if isAbsent(err) || err == nil && e.Kind != KindPack {
		return nil
	}
	if err != nil {
		return err
	}
	policy, p, err := c.measure(&e)
	if err != nil {
		return err
	}
	c.rep.Packs++
	c.rep.Bytes += e.Length
	c.rep.Waste += p.frees
	c.rep.Live += p.need - p.lines
	code := policy.code(c.s.registered())
	if p.puts == 0 || c.n == mostCandidates || code.M < e.Code.M || p.large() && p.frees < e.Length/2 {
		return nil
	}
	if c.s.code(c.ctx, policy) != code {
		return nil // backends are missing: what is written now would have to be written again
	}
	plans[code] = append(plans[code], p)
	c.n++
	return nil
}

// measure looks at what is in a pack, and returns the policy of the first content.
func (c *compaction) measure(e *Extent) (policy Policy, p candidate, err error) {
	will := packIndex{}
	p.upload = e.Upload
	for m, err := range c.members(e) {
		if err != nil {
			return policy, p, err
		}
		if p.puts == 0 {
			p.name = m.names[0].Name
			policy = Choose(c.s.opts.Policies(), p.name, m.Size)
		}
		will.at += m.Size
		will.name(e.Upload, m.Member, m.names)
		p.puts++
		p.lines += int64(len(will.lines))
		will.lines = will.lines[:0]
	}
	p.need = will.at + p.lines
	p.frees = max(0, e.Length-p.need)
	return policy, p, nil
}

// packMember is a content in a pack, with versions that refer to it.
type packMember struct {
	Member
	names []Object // one at least, at most MaxInlineNames
}

// members yields the contents of a pack that versions refer to.
func (c *compaction) members(e *Extent) iter.Seq2[packMember, error] {
	return func(yield func(packMember, error) bool) {
		var m packMember
		for o, err := range c.s.cat.Owners(c.ctx, e.Upload, 0, e.Length) {
			if err != nil {
				yield(packMember{}, err)
				return
			}
			if len(m.names) > 0 && (m.ID != o.Object.ID || m.Offset != o.Offset) {
				if !yield(m, nil) {
					return
				}
				m = packMember{}
			}
			m.Member = Member{ID: o.Object.ID, Offset: o.Offset, Size: o.Object.Size}
			if len(m.names) < MaxInlineNames {
				m.names = append(m.names, o.Object)
			}
		}
		if len(m.names) > 0 {
			yield(m, nil)
		}
	}
}

// move writes the contents of packs into new ones.
func (c *compaction) move(code erasure.Code, packs []candidate) error {
	if total(packs).need < int64(code.K)*BlockSize { // they do not fill a stripe
		code = erasure.Code{K: 1, M: code.M}
	}
	w := &repacker{c: c, code: code, batch: c.s.NewBatch(c.ctx)}
	w.batch.upkeep = true
	defer w.batch.Abort()
	for i := range packs {
		e, err := c.s.cat.ExtentAt(c.ctx, packs[i].upload, 0)
		if isAbsent(err) {
			continue
		}
		if err != nil {
			return err
		}
		failed := c.rep.Failed
		for m, err := range c.members(&e) {
			if err == nil {
				err = w.add(e.Upload, m)
			}
			if err != nil {
				return err
			}
		}
		if c.rep.Failed > failed {
			c.s.stick(e.Upload)
		} else {
			c.rep.Emptied++
		}
	}
	return w.end()
}

// stuck reports whether some content of a pack could not be read: to move the others again
// and again would gain nothing.
func (s *Store) stuck(id UploadID) bool {
	s.stuckMu.Lock()
	defer s.stuckMu.Unlock()
	return s.stuckPacks[id]
}

// stick remembers such a pack until the store is opened anew.
func (s *Store) stick(id UploadID) {
	s.stuckMu.Lock()
	defer s.stuckMu.Unlock()
	if len(s.stuckPacks) == mostStuck {
		clear(s.stuckPacks)
	}
	s.stuckPacks[id] = true
}

// repacker writes packs, and commits each when it is full.
type repacker struct {
	c     *compaction
	code  erasure.Code
	batch *Batch
	moved []Moved // into the pack that is being written
}

// add moves one content.
func (w *repacker) add(from UploadID, m packMember) error {
	data, err := w.c.read(&m)
	if err != nil || data == nil {
		return err
	}
	if k := w.batch.packing; k != nil && (k.index.at+m.Size+int64(len(k.index.lines)) > MaxPack || len(w.moved) >= packMembers || len(k.index.lines) >= compactLines) {
		if err := w.end(); err != nil {
			return err
		}
	}
	o := &m.names[0]
	p := Put{Name: o.Name, Attr: o.Attr, Policy: o.Policy, ID: m.ID, Size: m.Size, Code: w.code}
	if err := w.batch.pack(&p, data); err != nil {
		return err
	}
	to := Member{ID: m.ID, Offset: p.Offset, Size: m.Size}
	w.batch.packing.index.name(p.Upload, to, m.names[1:])
	w.moved = append(w.moved, Moved{to, from})
	return nil
}

// read returns the bytes of a content, nil if it is gone or cannot be read: then it stays
// where it is.
func (c *compaction) read(m *packMember) ([]byte, error) {
	b, err := c.readAll(m)
	if err == nil || isAbsent(err) {
		return b, nil
	}
	if over := c.s.over(c.ctx); over != nil {
		return nil, over
	}
	c.rep.Failed++
	c.s.log.Warn("a content cannot be read, and stays in its pack", "id", m.ID, "err", err)
	return nil, nil
}

func (c *compaction) readAll(m *packMember) ([]byte, error) {
	rd, err := c.s.Open(c.ctx, m.names[0])
	if err != nil {
		return nil, err
	}
	defer rd.Close()
	rd.upkeep = true
	began := time.Now()
	var b bytes.Buffer
	b.Grow(int(m.Size))
	if _, err := io.Copy(&b, rd); err != nil {
		return nil, err
	}
	took := time.Since(began)
	if err := c.pace.take(c.ctx, m.Size); err != nil {
		return nil, err
	}
	if err := c.pace.rest(c.ctx, took); err != nil {
		return nil, err
	}
	if sum(b.Bytes()) != m.ID { // what is written will be the only copy
		return nil, fmt.Errorf("%w: %d bytes were read that are not those of %v", ErrCorrupt, b.Len(), m.ID)
	}
	return b.Bytes(), nil
}

// end finishes the pack that is being written, and commits the moves into it.
func (w *repacker) end() error {
	b, s := w.batch, w.c.s
	if err := b.endPack(); err != nil || len(b.packs) == 0 {
		return err
	}
	if err := whole(b.packs); err != nil {
		return err
	}
	moved := w.moved
	w.moved = nil
	res, err := s.cat.Commit(w.c.ctx, Record{Commands: []Command{Repack{Extent: b.packs[0], Members: moved}}})
	if err == nil {
		err = res[0].Err
	}
	// A crash here leaves a pack that is named by the moved, or by nothing.
	if err == nil || errors.Is(err, ErrUncertain) {
		s.repairSoon(b.packs)
		b.packs = nil
	}
	b.unpin(err)
	if err != nil {
		return err
	}
	w.c.rep.Written++
	w.c.rep.Contents += int64(res[0].Number)
	s.stats.compacted.Add(int64(res[0].Number))
	for _, m := range moved {
		w.c.rep.Moved += m.Size
	}
	return nil
}
