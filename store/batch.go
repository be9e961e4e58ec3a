package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/blockframe/blockframe/erasure"
)

// Batch gathers puts and other commands that take effect together or not at all.
// Small contents are written straight into a pack, longer ones as streams of their
// own, while the batch is being filled. A Batch is used by one goroutine, and ended
// by Commit or Abort.
type Batch struct {
	s       *Store
	ctx     context.Context
	cmds    []Command
	packs   []Extent // of packs that are finished
	packing *packStream
	slabs   *slabs // memory of packs under way: they wait for the caller, who may wait for the store's
	known   proofs
	pinned  []UploadID
	upkeep  bool // the store writes it by itself
	err     error
	ended   bool
}

// NewBatch returns an empty batch. ctx bounds all of it.
func (s *Store) NewBatch(ctx context.Context) *Batch { return &Batch{s: s, ctx: ctx, known: proofs{}} }

// packStream is a pack being written: members go into the pipe, and their lines
// follow at the end.
type packStream struct {
	upload UploadID
	code   erasure.Code
	index  packIndex
	pw     *io.PipeWriter
	done   chan struct{}
	w      written // valid with err once done is closed
	err    error
}

// Put adds an object to the batch and reads all of r. It is neither durable nor
// visible before Commit.
func (b *Batch) Put(name string, r io.Reader, opts PutOptions) error {
	if b.err == nil {
		b.err = b.put(name, r, opts)
		if b.err != nil {
			b.err = fmt.Errorf("put %s: %w", name, b.err)
		}
	}
	return b.err
}

func (b *Batch) put(name string, r io.Reader, opts PutOptions) error {
	if b.ended {
		return errEnded
	}
	if err := b.s.admit(name, opts); err != nil {
		return err
	}
	head, err := b.s.readHead(b.ctx, r, opts.Size)
	if err != nil {
		return err
	}
	defer head.release()
	if !head.whole {
		p, err := b.s.stageStream(b.ctx, name, head.reader(r), opts)
		if err != nil {
			return err
		}
		b.pinned = append(b.pinned, p.Upload)
		b.add(p)
		return nil
	}
	p, err := b.s.smallPut(b.ctx, name, head.data, opts)
	if err != nil {
		return err
	}
	if p.Size > 0 {
		p.Code = b.s.code(b.ctx, Choose(b.s.opts.Policies(), name, p.Size))
		if err := b.pack(&p, head.data); err != nil {
			return err
		}
	}
	b.add(p)
	return nil
}

func (b *Batch) add(p Put) {
	b.s.suspect(b.ctx, &p, b.known)
	b.cmds = append(b.cmds, p)
}

var errEnded = errors.New("store: batch was committed or aborted")

// Add adds any other command.
func (b *Batch) Add(c Command) { b.cmds = append(b.cmds, c) }

// Len returns the number of commands added.
func (b *Batch) Len() int { return len(b.cmds) }

// pack writes a small content into the open pack, and begins a new one when the
// code differs or the pack is full.
func (b *Batch) pack(p *Put, data []byte) error {
	if k := b.packing; k != nil && (k.code != p.Code || k.index.at+p.Size+int64(len(k.index.lines)) > MaxPack) {
		if err := b.endPack(); err != nil {
			return err
		}
	}
	if b.packing == nil {
		b.beginPack(p.Code)
	}
	k := b.packing
	p.Upload, p.Offset = k.upload, k.index.at
	if _, err := k.pw.Write(data); err != nil {
		return cmp.Or(b.ctx.Err(), err) // its end closes the pipe, which says no more than that
	}
	k.index.at += p.Size
	k.index.add(k.upload, p)
	return nil
}

// packStripes is how many stripes of a pack are under way: one being filled, one
// computed, one written.
const packStripes = 3

// beginPack starts the goroutine that writes a pack.
func (b *Batch) beginPack(c erasure.Code) {
	pr, pw := io.Pipe()
	k := &packStream{upload: newUploadID(), code: c, pw: pw, done: make(chan struct{})}
	b.packing = k
	b.s.pins.add(k.upload)
	b.pinned = append(b.pinned, k.upload)
	if n := packStripes * stripeBytes(c); b.slabs == nil || b.slabs.budget < n {
		b.slabs = newBudget(n)
	}
	ref := stream{upload: k.upload, kind: KindPack, code: c, size: -1, pack: &k.index, policy: Policy{PerBackend: b.s.perBackend(c)}, slabs: b.slabs, upkeep: b.upkeep}
	stop := context.AfterFunc(b.ctx, func() { pw.CloseWithError(b.ctx.Err()) })
	go func() {
		defer close(k.done)
		defer stop()
		k.w, k.err = b.s.writeStream(b.ctx, ref, pr)
		pr.CloseWithError(k.err) // who still writes gets the reason
	}()
}

// endPack writes the lines behind the members and waits until the pack is durable.
func (b *Batch) endPack() error {
	k := b.packing
	if k == nil {
		return nil
	}
	b.packing = nil
	_, err := k.pw.Write(k.index.lines)
	k.pw.CloseWithError(err)
	<-k.done
	if err := errors.Join(k.err, err); err != nil {
		return err
	}
	b.packs = append(b.packs, k.w.extents...)
	return nil
}

// Commit makes everything in the batch take effect, durably, or nothing. The
// results are in the order of Put and Add. The one commit point is its record.
func (b *Batch) Commit() (res []Result, err error) {
	if b.ended {
		return nil, errEnded
	}
	if b.err == nil {
		b.err = b.endPack()
	}
	if b.err != nil {
		b.Abort()
		return nil, b.err
	}
	b.ended = true
	defer func() { b.unpin(err) }()
	var rec Record
	for _, e := range b.packs {
		rec.Commands = append(rec.Commands, AddExtent{e})
	}
	first := len(rec.Commands)
	rec.Commands = append(rec.Commands, b.cmds...)
	last := len(rec.Commands)
	marks := b.marks()
	few := min(len(marks), mostMarks) // the record holds what the batch does, and little more
	rec.Commands = append(rec.Commands, marks[:few]...)
	res, err = b.s.cat.Commit(b.ctx, rec)
	if err != nil {
		if !errors.Is(err, ErrUncertain) {
			b.discard()
		}
		return nil, err
	}
	for i := range res {
		if res[i].Err != nil {
			return res[first:last], res[i].Err
		}
	}
	b.count()
	for marks = marks[few:]; len(marks) > 0; marks = marks[few:] {
		few = min(len(marks), reportBytes/32)
		if _, err := b.s.cat.Commit(b.ctx, Record{Each: true, Commands: marks[:few]}); err != nil {
			b.s.log.Warn("contents that are in a narrower code than they should stay so until all are reshaped", "uploads", len(marks), "err", err)
			break
		}
	}
	return res[first:last], nil
}

// mostMarks is how many uploads a batch marks in its own record.
const mostMarks = 256

// marks returns commands that mark the uploads which are in a narrower code than they should.
func (b *Batch) marks() (commands []Command) {
	marked := map[UploadID]bool{}
	for _, c := range b.cmds {
		if p, ok := c.(Put); ok && !marked[p.Upload] {
			n := len(commands)
			commands = b.s.mark(commands, &p, p.Code)
			marked[p.Upload] = len(commands) > n
		}
	}
	return commands
}

// count adds the batch to the statistics.
func (b *Batch) count() {
	for _, c := range b.cmds {
		if p, ok := c.(Put); ok {
			b.s.stats.puts.Add(1)
			b.s.repairSoon(p.Extents)
		}
	}
	b.s.churn.packed(b.packs, len(b.cmds))
	b.s.repairSoon(b.packs)
}

// Abort drops the batch. It does nothing after Commit.
func (b *Batch) Abort() {
	if b.ended {
		return
	}
	b.ended = true
	if k := b.packing; k != nil {
		k.pw.CloseWithError(errEnded)
		<-k.done
		b.packing = nil
	}
	b.discard()
	b.unpin(nil)
}

// discard removes what the batch wrote, or leaves it to the collection; no put names it.
func (b *Batch) discard() {
	b.s.discard(b.packs)
	for _, c := range b.cmds {
		if p, ok := c.(Put); ok {
			b.s.giveUp(p.Upload, p.Extents)
		}
	}
}

func (b *Batch) unpin(err error) {
	for _, id := range b.pinned {
		b.s.pins.settle(id, err)
	}
	b.pinned = nil
}
