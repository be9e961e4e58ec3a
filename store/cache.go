package store

import (
	"container/list"
	"sync"
)

// blockKey names a data block of an extent.
type blockKey struct {
	extent ExtentID
	block  int
}

// entryBytes is what an entry of the cache weighs besides its block.
const entryBytes = 256

// blockCache keeps verified blocks, never more than limit bytes of them. Blocks are
// immutable, so nothing is ever invalidated.
//
// It is S3-FIFO (Yang, Zhang, Qiu, Yue and Vinayak: FIFO queues are all you need for
// cache eviction, SOSP 2023): what comes goes through a small queue, a tenth of the
// cache, and only what was asked for again meanwhile, or comes back soon after, gets
// into the main one, where it stays as long as it is asked for. So a scan of cold
// blocks passes through and leaves the hot ones alone, also one in small pieces: gets
// of a block that follow each other closely count as one. Room is made before a block
// is kept, under one lock, which costs little beside hashing a block.
type blockCache struct {
	limit int64

	mu    sync.Mutex
	items map[blockKey]*cached
	small fifo
	main  fifo
	ghost ghosts
	last  blockKey // that was asked for or came
	clock uint64   // counts changes of last
}

// apart is how far apart by the clock two gets of a block are, at least, that count
// as two.
const apart = 16

// cached is a block that is kept.
type cached struct {
	key  blockKey
	data []byte
	uses uint8  // gets since it came, or was looked at last, at most 3
	seen uint64 // clock when it came, or a get of it was counted
}

func (c *cached) weight() int64 { return int64(len(c.data)) + entryBytes }

// fifo is a queue of blocks, the oldest in front.
type fifo struct {
	list.List
	bytes int64
}

func (q *fifo) push(c *cached) {
	q.PushBack(c)
	q.bytes += c.weight()
}

func (q *fifo) pop() *cached {
	c := q.Remove(q.Front()).(*cached)
	q.bytes -= c.weight()
	return c
}

// newBlockCache returns a cache of at most limit bytes; a negative limit is none.
func newBlockCache(limit int64) *blockCache {
	return &blockCache{limit: limit, items: map[blockKey]*cached{}, ghost: ghosts{room: int(limit / BlockSize), keys: map[blockKey]bool{}}}
}

// get returns a block, which the caller must not change.
func (c *blockCache) get(k blockKey) ([]byte, bool) {
	if c.limit <= 0 {
		return nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	it := c.items[k]
	if it == nil {
		return nil, false
	}
	if c.tick(k); c.clock-it.seen >= apart {
		it.uses, it.seen = min(it.uses+1, 3), c.clock
	}
	return it.data, true
}

// tick moves the clock on unless k was the last one too.
func (c *blockCache) tick(k blockKey) {
	if k != c.last {
		c.last, c.clock = k, c.clock+1
	}
}

// put keeps a copy of a verified block.
func (c *blockCache) put(k blockKey, b []byte) {
	if int64(len(b))+entryBytes > c.limit {
		return
	}
	it := &cached{key: k, data: append(make([]byte, 0, len(b)), b...)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.items[k] != nil {
		return
	}
	for c.small.bytes+c.main.bytes+it.weight() > c.limit {
		c.evict()
	}
	c.tick(k)
	it.seen = c.clock
	c.items[k] = it
	if c.ghost.take(k) {
		c.main.push(it)
	} else {
		c.small.push(it)
	}
}

// evict looks at the oldest block of one queue, and drops it or moves it on. There
// is one.
func (c *blockCache) evict() {
	if c.small.Len() > 0 && (c.small.bytes > c.limit/10 || c.main.Len() == 0) {
		it := c.small.pop()
		if it.uses > 0 {
			it.uses = 0
			c.main.push(it)
			return
		}
		delete(c.items, it.key)
		c.ghost.add(it.key)
		return
	}
	it := c.main.pop()
	if it.uses > 0 {
		it.uses--
		c.main.push(it)
		return
	}
	delete(c.items, it.key)
}

// drop forgets everything.
func (c *blockCache) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.items)
	c.small, c.main = fifo{}, fifo{}
}

// ghosts are the names of the blocks that left the small queue last, at most room of
// them.
type ghosts struct {
	room int
	keys map[blockKey]bool
	ring []blockKey
	next int // in ring, the oldest once it is full
}

func (g *ghosts) add(k blockKey) {
	if g.keys[k] || g.room <= 0 {
		return
	}
	g.keys[k] = true
	if len(g.ring) < g.room {
		g.ring = append(g.ring, k)
		return
	}
	delete(g.keys, g.ring[g.next])
	g.ring[g.next] = k
	g.next = (g.next + 1) % len(g.ring)
}

// take forgets a name and reports whether it was known. Its place in the ring is
// left, and freed in its turn.
func (g *ghosts) take(k blockKey) bool {
	known := g.keys[k]
	delete(g.keys, k)
	return known
}
