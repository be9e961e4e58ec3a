package store

import "sync/atomic"

// churn counts what may be worth a compaction since there was one: small packs that were
// written, and versions that were purged. It is in memory alone: a first pass some time
// after a store was opened, and one each day, find the rest.
type churn struct {
	bytes atomic.Int64 // in small packs
	puts  atomic.Int64 // contents in them
	gone  atomic.Int64 // versions
}

const churnGone = 256 // purged versions that are worth a look

// packed counts packs that hold so many contents together.
func (c *churn) packed(packs []Extent, puts int) {
	for i := range packs {
		if packs[i].Length < compactSmall {
			c.bytes.Add(packs[i].Length)
			c.puts.Add(int64(puts / len(packs)))
		}
	}
}

// enough reports whether a compaction may find something to do.
func (c *churn) enough() bool {
	return c.bytes.Load() >= compactSmall || c.puts.Load() >= packMembers/2 || c.gone.Load() >= churnGone
}

// forget begins to count anew.
func (c *churn) forget() {
	c.bytes.Store(0)
	c.puts.Store(0)
	c.gone.Store(0)
}

// Purged tells the store that so many versions were purged: what they referred to in packs
// may be worth a compaction soon.
func (s *Store) Purged(versions int) { s.churn.gone.Add(int64(versions)) }
