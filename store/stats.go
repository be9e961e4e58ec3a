package store

import (
	"sync/atomic"
	"time"
)

// Damage is something that is not as it was written.
type Damage struct {
	Name    string // of a version that has bytes there, one of perhaps many; "" if none has, or all of Backend is meant
	Extent  ExtentID
	Shard   int
	Stripe  int // -1: the whole blob, or its header, table, manifests or trailer
	Backend BackendID
	Path    string // of the backend, as Options.Paths has it; ""
	Err     error  // matches ErrUnavailable when the backend cannot be asked: then its absence is meant
}

// Repaired is a shard that was made whole.
type Repaired struct {
	Extent     ExtentID
	Shard      int
	Generation uint32 // of the new blob
	Backend    BackendID
	Blocks     int // that were computed
}

// Events are called as things happen, each if it is set. They are called from the
// goroutine that does the work, possibly several at once: they should return soon
// and must not call the store.
type Events struct {
	Damaged  func(Damage)
	Repaired func(Repaired)

	// Lost names version and range. It is called once for each range that is found
	// lost, and again only after the extent was repaired, or after thousands of others.
	Lost func(*CorruptError)

	// ScrubBegan and ScrubEnded tell of the passes that the store runs by itself; one that
	// goes on where an earlier process left it begins anew.
	ScrubBegan func(ScrubPass)
	ScrubEnded func(ScrubPass)
}

// Stats are totals since the store was opened.
type Stats struct {
	Puts          int64 // acknowledged
	PutBytes      int64 // of content, in packs and streams
	ReadBytes     int64 // returned by Read and WriteTo
	CacheHits     int64 // blocks served from the cache
	Reconstructed int64 // blocks computed from others
	Hedged        int64 // reads that did not wait for a slow backend
	Damaged       int64 // findings of damage
	Repaired      int64 // shards made whole

	Reshaped int64 // contents that were written anew in another code

	Compactions int64 // that the store ran by itself, to their end
	Compacted   int64 // contents that these and others moved
	SpaceStored int64 // bytes on the backends and
	SpaceLive   int64 // bytes of content, as the last compaction has them; 0: there was none

	Scrubs     int64         // passes that the store ran by itself, to their end
	ScrubBytes int64         // read by these and others
	ScrubDone  float64       // how far the deep pass is that is under way, 0 to 1
	ScrubLeft  time.Duration // that it will take about, 0 if there is none
}

type counters struct {
	puts, putBytes, readBytes, cacheHits, reconstructed, hedged, damaged, repaired atomic.Int64
	reshaped, scrubs, scrubBytes, compactions, compacted, stored, live             atomic.Int64
}

// Stats returns the totals since the store was opened.
func (s *Store) Stats() Stats {
	c := &s.stats
	st := Stats{Puts: c.puts.Load(), PutBytes: c.putBytes.Load(), ReadBytes: c.readBytes.Load(), CacheHits: c.cacheHits.Load(),
		Reconstructed: c.reconstructed.Load(), Hedged: c.hedged.Load(), Damaged: c.damaged.Load(), Repaired: c.repaired.Load(),
		Compactions: c.compactions.Load(), Compacted: c.compacted.Load(), SpaceStored: c.stored.Load(), SpaceLive: c.live.Load(),
		Reshaped: c.reshaped.Load(), Scrubs: c.scrubs.Load(), ScrubBytes: c.scrubBytes.Load()}
	s.scrubs.mu.Lock()
	defer s.scrubs.mu.Unlock()
	if p := s.scrubs.kinds[1].now; p != nil {
		st.ScrubDone, st.ScrubLeft = p.Done, p.TimeLeft()
	}
	return st
}
