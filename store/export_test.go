package store

import (
	"context"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/internal/frame"
)

// The one hole through which the tests look at what is not exported.

// SlabsLent returns the bytes of the slab budget that are in use.
func (s *Store) SlabsLent() int64 { return s.slabs.inUse() }

// HeadsBack reports whether no memory for contents that are read whole is in use.
func (s *Store) HeadsBack() bool {
	ok := s.heads.TryAcquire(headBytes)
	if ok {
		s.heads.Release(headBytes)
	}
	return ok
}

// RecodeHeader decodes a header and encodes it again.
func RecodeHeader(b []byte) ([]byte, error) {
	h, err := decodeHeader(b)
	if err != nil {
		return nil, err
	}
	return appendHeader(nil, &h), nil
}

// RecodeTrailer decodes a trailer and encodes it again.
func RecodeTrailer(b []byte) ([]byte, error) {
	t, err := decodeTrailer(b)
	if err != nil {
		return nil, err
	}
	return appendTrailer(nil, &t), nil
}

// RecodeManifests decodes manifests and encodes them again.
func RecodeManifests(b []byte) (out []byte, err error) {
	list, done, err := decodeManifests(b)
	if err != nil {
		return nil, err
	}
	for _, m := range list {
		out = appendLine(out, m)
	}
	if done != nil {
		out = appendLine(out, done)
	}
	return out, nil
}

// RecodeKey parses a key and makes it again.
func RecodeKey(key BackendKey) (BackendKey, bool) {
	k, ok := parseKey(key)
	return Key(k.extent, k.shard, k.generation, k.epoch, k.upload), ok
}

// Slabs is the memory budget by itself.
type Slabs struct{ p *slabs }

// Slab is memory from it.
type Slab struct{ *slab }

func NewSlabs(budget int64) Slabs { return Slabs{newSlabs(budget)} }

func (s Slabs) Get(ctx context.Context, c erasure.Code, want int) (Slab, error) {
	sl, err := s.p.get(ctx, c, want)
	return Slab{sl}, err
}

func (s Slabs) Try(c erasure.Code, want int) (Slab, bool) {
	sl := s.p.try(c, want)
	return Slab{sl}, sl != nil
}

func (s Slabs) TryRead(c erasure.Code, want int) (Slab, bool) {
	sl := s.p.tryRead(c, want)
	return Slab{sl}, sl != nil
}

// Use returns the bytes that are lent out and those that are kept for later.
func (s Slabs) Use() (lent, idle int64) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	return s.p.lent, s.p.bytes
}

func (s Slab) Bytes() []byte { return s.buf }
func (s Slab) Stripes() int  { return s.stripes }
func (s Slab) Release()      { s.release() }

// SlabsUse returns what Slabs.Use does of a store.
func (s *Store) SlabsUse() (lent, idle int64) { return Slabs{s.slabs}.Use() }

// Cache is the block cache by itself.
type Cache struct{ c *blockCache }

func NewCache(limit int64) Cache { return Cache{newBlockCache(limit)} }

func (c Cache) Put(extent ExtentID, block int, b []byte) { c.c.put(blockKey{extent, block}, b) }

func (c Cache) Get(extent ExtentID, block int) ([]byte, bool) {
	return c.c.get(blockKey{extent, block})
}

// Weight returns the bytes that are kept, and what they count for.
func (c Cache) Weight() (bytes, weight int64) {
	c.c.mu.Lock()
	defer c.c.mu.Unlock()
	for _, it := range c.c.items {
		bytes += int64(len(it.data))
	}
	return bytes, c.c.small.bytes + c.c.main.bytes
}

// Names returns the number of blocks that are kept, and of those remembered.
func (c Cache) Names() (kept, ghosts int) {
	c.c.mu.Lock()
	defer c.c.mu.Unlock()
	return len(c.c.items), len(c.c.ghost.keys)
}

// Waiting returns the number of small puts that wait for a group.
func (s *Store) Waiting() int { return len(s.group.in) }

// Verifier checks blocks of an extent as readers do.
type Verifier struct{ x *handle }

func NewVerifier(e Extent, table []byte) (Verifier, error) {
	x := newHandle(e)
	if err := x.checkTable(table); err != nil {
		return Verifier{}, err
	}
	x.setTable(table)
	return Verifier{x}, nil
}

func (v Verifier) Check(column, stripe int, block []byte) bool {
	return v.x.check(column, stripe, block)
}

func (v Verifier) ReadColumn(r BackendReader, i, lo, n int, buf []byte) []bool {
	return readColumn(r, v.x, i, lo, n, buf)
}

// Handles returns how many extents are open, and how many of them idle.
func (s *Store) Handles() (open, idle int) {
	s.open.mu.Lock()
	defer s.open.mu.Unlock()
	return len(s.open.open), s.open.idle
}

// SetMostExtents changes how many extents an object may have.
func (s *Store) SetMostExtents(n int) { s.mostExtents = n }

// FoldExtents returns the id of a stream whose extents have these hashes, of which it
// gets to know one after the other.
func FoldExtents(hashes []frame.Hash) ID {
	var t treeTop
	for _, h := range hashes {
		t.add(h)
	}
	return t.id()
}

// LinePiece is how much of a manifests part is in memory at once.
const LinePiece = linePiece

// CutLines cuts a manifests part, added in pieces of n bytes, into those that are
// written, and returns these with the hash of all.
func CutLines(b []byte, n int) (pieces [][]byte, hash frame.Hash, err error) {
	c := lineCutter{emit: func(p []byte) error { pieces = append(pieces, p); return nil }}
	for ; len(b) > 0 && err == nil; b = b[min(n, len(b)):] {
		err = c.add(b[:min(n, len(b))])
	}
	if err == nil {
		_, hash, err = c.end()
	}
	return pieces, hash, err
}

// MaxExtents is how many extents an object may have.
const MaxExtents = maxExtents

// SlabsOff returns the bytes of slabs that backends have which do not answer.
func (s *Store) SlabsOff() int64 {
	s.slabs.mu.Lock()
	defer s.slabs.mu.Unlock()
	return s.slabs.off
}

// RecodeKept decodes the manifests of what is kept and encodes them again. They must be of
// an extent of that ordinal and offset.
func RecodeKept(kind Kind, b []byte, ordinal int, offset int64) (out []byte, err error) {
	k, done, err := decodeKept(kind, b)
	if err != nil {
		return nil, err
	}
	out = k.line(&Extent{Upload: k.Upload, Ordinal: ordinal, Offset: offset})
	if done != nil {
		out = appendLine(out, done)
	}
	return out, nil
}

// PlannedMove is a shard of one of some extents, and where it is to go.
type PlannedMove struct {
	Extent, Shard int
	To            BackendID
}

// PlanMoves plans as a rebalance does that looks at the extents again and again.
func PlanMoves(list []Level, reserve float64, extents []Extent) (plan []PlannedMove) {
	l := newLevels(list, reserve)
	at := make([]Extent, len(extents))
	for i, e := range extents {
		at[i] = e
		at[i].Shards = append([]Shard(nil), e.Shards...)
	}
	for again := true; again; {
		again = false
		for i := range at {
			if shard, to, ok := l.pick(&at[i], nil); ok {
				plan = append(plan, PlannedMove{i, shard, to})
				at[i].Shards[shard].Backend = to
				again = true
			}
		}
	}
	return plan
}

// ShardNeed is how much room a shard takes.
func ShardNeed(e *Extent, i int) int64 { return shardNeed(e, i) }

// InOrder returns in which order a rebuild moves shards one by one.
var InOrder = inOrder

// FindPlaces gives the missing shards of an extent places as a rebuild does.
func (s *Store) FindPlaces(e *Extent) {
	on := map[BackendID]int{}
	for _, sh := range e.Shards {
		if !sh.Missing {
			on[sh.Backend]++
		}
	}
	(&rebuild{s: s}).findPlaces(e, on)
}
