package store

import (
	"math"

	"github.com/maypok86/otter/v2"
)

// blockKey names a data block of an extent.
type blockKey struct {
	extent ExtentID
	block  int
}

// blockCache keeps verified blocks, at most so many bytes of them, by W-TinyLFU
// (Einziger, Friedman and Manes 2017): a scan of cold blocks does not drive out
// those that are read often. Blocks are immutable, so nothing is ever invalidated.
type blockCache struct {
	c *otter.Cache[blockKey, []byte]
}

// newBlockCache returns a cache of at most limit bytes; a negative limit is none.
func newBlockCache(limit int64) *blockCache {
	if limit <= 0 {
		return &blockCache{}
	}
	return &blockCache{otter.Must(&otter.Options[blockKey, []byte]{
		MaximumWeight: uint64(limit),
		Weigher: func(_ blockKey, b []byte) uint32 {
			return uint32(min(len(b)+128, math.MaxUint32)) // the entry weighs too
		},
	})}
}

// get returns a block, which the caller must not change.
func (c *blockCache) get(k blockKey) ([]byte, bool) {
	if c.c == nil {
		return nil, false
	}
	return c.c.GetIfPresent(k)
}

// put keeps a copy of a verified block.
func (c *blockCache) put(k blockKey, b []byte) {
	if c.c != nil {
		c.c.Set(k, append(make([]byte, 0, len(b)), b...))
	}
}

// close stops the cache and drops what it holds.
func (c *blockCache) close() {
	if c.c != nil {
		c.c.InvalidateAll()
		c.c.StopAllGoroutines()
	}
}
