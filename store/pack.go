package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/blockframe/blockframe/erasure"
)

const (
	groupBytes   = 4 * miB   // content of one group of small puts
	groupPuts    = 256       // their number
	groupMeta    = 512 << 10 // and their names and attributes: a record has at most 1 MiB
	groupsAtOnce = 2         // groups being written: while one waits for the disks, another is computed
	groupPause   = time.Millisecond

	packMembers = 8192 // that a record moves into one pack: it has at most 1 MiB
)

// packIndex is what a pack says of its members, made while it is written.
type packIndex struct {
	lines []byte
	at    int64 // where the lines begin in the stream
}

// add appends the line of one member.
func (x *packIndex) add(upload UploadID, p *Put) {
	m := newManifest("member", upload, p.Name, p.Attr, p.Policy)
	m.ID, m.Size, m.At = &p.ID, &p.Size, &p.Offset
	x.lines = appendLine(x.lines, m)
}

// small is a put whose content is in memory and waits for its group.
type small struct {
	ctx  context.Context
	put  Put
	data []byte
	done chan outcome
}

// meta returns about how many bytes of a record the put takes.
func (it *small) meta() int {
	n := 256 + len(it.put.Name)
	for k, v := range it.put.Attr.Xattrs {
		n += 8 + len(k) + len(v)
	}
	return n
}

// group is small puts that are written together.
type group struct {
	items []*small
	bytes int // content
	meta  int // of the record
}

func (b *group) add(it *small) {
	b.items = append(b.items, it)
	b.bytes, b.meta = b.bytes+len(it.data), b.meta+it.meta()
}

func (b *group) full() bool {
	return b.bytes >= groupBytes || b.meta >= groupMeta || len(b.items) >= groupPuts
}

type outcome struct {
	obj Object
	err error
}

// grouper gathers small puts that come at the same time into one pack and one
// record each, so that they share the wait for the disks. While a group is being
// written the next one gathers.
type grouper struct {
	s     *Store
	in    chan *small
	busy  chan struct{} // a place for each group being written
	now   atomic.Int64  // puts in groups being written
	most  int           // puts that lately were here at once; used by gather alone
	ended chan struct{} // closed when no group will be written any more
}

func newGrouper(s *Store) *grouper {
	return &grouper{s: s, in: make(chan *small, groupPuts), busy: make(chan struct{}, groupsAtOnce), ended: make(chan struct{})}
}

// put hands a small put to the next group and waits for its outcome.
func (g *grouper) put(ctx context.Context, p Put, data []byte) (Object, error) {
	it := &small{ctx: ctx, put: p, data: data, done: make(chan outcome, 1)}
	select {
	case g.in <- it:
	case <-ctx.Done():
		return Object{}, ctx.Err()
	case <-g.s.ctx.Done():
		return Object{}, g.s.writable()
	}
	// From here on the group owns data: wait for it even when ctx ends, so that the
	// caller does not reuse what is being written. A group takes bounded time.
	select {
	case out := <-it.done:
		return out.obj, out.err
	case <-g.ended:
	}
	select {
	case out := <-it.done:
		return out.obj, out.err
	default: // it came too late for the last group
		return Object{}, g.s.writable()
	}
}

// run gathers groups until the store closes. What waits then is failed by those who
// wait.
func (g *grouper) run() {
	var groups sync.WaitGroup
	defer close(g.ended)
	defer groups.Wait()
	for {
		select {
		case g.busy <- struct{}{}:
		case <-g.s.ctx.Done():
			return
		}
		items := g.gather()
		if items == nil {
			return
		}
		g.now.Add(int64(len(items)))
		groups.Go(func() {
			defer func() { <-g.busy }()
			defer g.now.Add(-int64(len(items)))
			g.s.putGroup(items)
		})
	}
}

// gather waits for a small put, and takes with it all that wait. A group costs about as
// much whether it has one member or thirty, and who put lately puts again as soon as he
// is answered: so gather waits a moment for half of those who lately were here at once.
// The other half may be in the group that is being written.
func (g *grouper) gather() []*small {
	b := &group{}
	select {
	case it := <-g.in:
		b.add(it)
	case <-g.s.ctx.Done():
		return nil
	}
	g.drain(b)
	if !b.full() && 2*len(b.items) < g.most {
		g.linger(b)
	}
	g.most = max(len(b.items)+int(g.now.Load()), g.most*7/8)
	return b.items
}

// linger waits until half of those who lately were here have come, or for groupPause.
func (g *grouper) linger(b *group) {
	over := time.NewTimer(groupPause)
	defer over.Stop()
	for !b.full() && 2*len(b.items) < g.most {
		select {
		case it := <-g.in:
			b.add(it)
		case <-over.C:
			g.most = 0 // they are gone
			return
		}
	}
	g.drain(b)
}

// drain takes all that wait now.
func (g *grouper) drain(b *group) {
	for !b.full() {
		select {
		case it := <-g.in:
			b.add(it)
		default:
			return
		}
	}
}

// putGroup writes small puts as packs, one for each code, and tells each its
// outcome.
func (s *Store) putGroup(items []*small) {
	byCode := map[erasure.Code][]*small{}
	var codes []erasure.Code
	for _, it := range items {
		if it.ctx.Err() != nil {
			it.done <- outcome{err: it.ctx.Err()}
			continue
		}
		if byCode[it.put.Code] == nil {
			codes = append(codes, it.put.Code)
		}
		byCode[it.put.Code] = append(byCode[it.put.Code], it)
	}
	for _, c := range codes {
		outs, err := s.putPack(s.ctx, c, byCode[c])
		for i, it := range byCode[c] {
			if err != nil {
				it.done <- outcome{err: err}
			} else {
				it.done <- outs[i]
			}
		}
	}
}

// putPack writes one pack and commits its members, each accepted or refused by
// itself.
func (s *Store) putPack(ctx context.Context, c erasure.Code, items []*small) (outs []outcome, err error) {
	upload := newUploadID()
	s.pins.add(upload)
	defer func() { s.pins.settle(upload, err) }()
	index := &packIndex{}
	var content []io.Reader
	for _, it := range items {
		it.put.Upload, it.put.Offset = upload, index.at
		index.at += it.put.Size
		index.add(upload, &it.put)
		content = append(content, bytes.NewReader(it.data))
	}
	w, err := s.writePack(ctx, upload, c, index, io.MultiReader(content...))
	if err != nil {
		return nil, err
	}
	rec := Record{Each: true, Commands: []Command{AddExtent{w.extents[0]}}}
	known := proofs{}
	for _, it := range items {
		s.suspect(ctx, &it.put, known)
		rec.Commands = append(rec.Commands, it.put)
	}
	for n, i := len(rec.Commands), 0; len(rec.Commands) == n && i < len(items); i++ {
		rec.Commands = s.mark(rec.Commands, &items[i].put, c)
	}
	res, err := s.cat.Commit(ctx, rec)
	if err != nil {
		if !errors.Is(err, ErrUncertain) {
			s.discard(w.extents)
		}
		return nil, err
	}
	outs = make([]outcome, len(items))
	for i := range items {
		outs[i] = outcome{res[i+1].Object, res[i+1].Err}
		s.stats.putBytes.Add(items[i].put.Size)
	}
	s.stats.puts.Add(int64(len(items)))
	s.churn.packed(w.extents, len(items))
	s.repairSoon(w.extents)
	return outs, nil
}

// writePack writes a pack whose members and index are in memory.
func (s *Store) writePack(ctx context.Context, upload UploadID, c erasure.Code, index *packIndex, content io.Reader) (written, error) {
	ref := stream{upload: upload, kind: KindPack, code: c, size: index.at + int64(len(index.lines)), pack: index,
		policy: Policy{PerBackend: s.perBackend(c)}}
	return s.writeStream(ctx, ref, io.MultiReader(content, bytes.NewReader(index.lines)))
}

// perBackend returns how many shards of a pack a backend must be allowed to take:
// one, unless a policy made the code wider than there are backends.
func (s *Store) perBackend(c erasure.Code) int {
	n := max(1, s.registered())
	return (c.Shards() + n - 1) / n
}
