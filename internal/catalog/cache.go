package catalog

import (
	"iter"
	"slices"

	"github.com/blockframe/blockframe/internal/kv"
)

// cacheBytes bounds what a cache holds, about.
const cacheBytes = 2 << 20

// cache remembers rows that were read or written lately, absent ones too: a put
// looks at the same directories as the one before. It lies over the batch of the
// group being applied, and outlives it: nobody else writes to the view. When a
// batch is dropped, it is forgotten.
type cache struct {
	batch *kv.Batch
	rows  map[string]cached
	size  int
}

type cached struct {
	value []byte
	ok    bool
}

func (c *cache) forget() {
	clear(c.rows)
	c.size = 0
}

func (c *cache) keep(key, value []byte, ok bool) {
	if c.size > cacheBytes || c.rows == nil {
		c.rows, c.size = map[string]cached{}, 0
	}
	c.rows[string(key)] = cached{value, ok}
	c.size += len(key) + len(value) + 64
}

// Get returns a copy of the value under key, and whether there is one.
func (c *cache) Get(key []byte) ([]byte, bool, error) {
	if row, ok := c.rows[string(key)]; ok {
		return slices.Clone(row.value), row.ok, nil
	}
	value, ok, err := c.batch.Get(key)
	if err == nil {
		c.keep(key, value, ok)
		value = slices.Clone(value)
	}
	return value, ok, err
}

// Scan yields the rows whose keys lie in [lo, hi), in order.
func (c *cache) Scan(lo, hi []byte) iter.Seq2[kv.KV, error] { return c.batch.Scan(lo, hi) }

// Set gives key the value.
func (c *cache) Set(key, value []byte) error {
	c.keep(key, slices.Clone(value), true)
	return c.batch.Set(key, value)
}

// Delete removes key.
func (c *cache) Delete(key []byte) error {
	c.keep(key, nil, false)
	return c.batch.Delete(key)
}
