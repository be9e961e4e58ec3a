package store

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/blockframe/blockframe/erasure"
)

// Survival is what a content can lose, and every byte of it can still be read: the least
// of all its stripes. Damage counts as far as it is known, that is on the repair queue.
type Survival struct {
	Shards int // any of them; -1 when some stripe has lost too many already
	Disks  int // any of them, at once: fewer than Shards where one has several; -1 as above
}

// and returns what both survive.
func (a Survival) and(b Survival) Survival {
	return Survival{min(a.Shards, b.Shards), min(a.Disks, b.Disks)}
}

// Survives returns what a content can lose, by what the catalog knows: no backend is
// asked. It is the zero Survival for one that is in no extent.
func (s *Store) Survives(ctx context.Context, c Content) (Survival, error) {
	if c.Upload.IsZero() || c.Size == 0 {
		return Survival{}, nil
	}
	u, err := s.cat.Upload(ctx, c.Upload)
	if err != nil {
		return Survival{}, err
	}
	least := Survival{erasure.MaxShards, erasure.MaxShards} // more than anything survives
	for e, err := range s.extentsOf(ctx, c.Upload, u.Extents) {
		if err != nil {
			return Survival{}, err
		}
		lo, hi := max(c.Offset-e.Offset, 0), min(c.Offset+c.Size-e.Offset, e.Length)
		if lo >= hi {
			continue
		}
		of, err := s.extentSurvives(ctx, &e, lo, hi)
		if err != nil {
			return Survival{}, err
		}
		least = least.and(of)
	}
	return least, nil
}

// extentSurvives returns what the bytes [lo, hi) of an extent can lose.
func (s *Store) extentSurvives(ctx context.Context, e *Extent, lo, hi int64) (Survival, error) {
	rows, err := s.cat.Queued(ctx, e.ID)
	if err != nil {
		return Survival{}, err
	}
	bad := make([]*finding, len(e.Shards)) // of each shard, nil if nothing is known of it
	for i := range rows {
		if n := rows[i].Shard; n < len(bad) {
			bad[n] = &finding{Repair: rows[i]}
		}
	}
	for i, sh := range e.Shards {
		if sh.Missing || s.here()[sh.Backend] == nil {
			bad[i] = &finding{}
		}
	}
	single := slices.ContainsFunc(bad, func(f *finding) bool { return f != nil && len(f.Stripes) > 0 })
	g := e.Geometry()
	least := Survival{erasure.MaxShards, erasure.MaxShards} // more than anything survives
	first, last := g.Stripe(g.Block(lo)), g.Stripe(g.Block(hi-1))
	for stripe := first; stripe <= last; stripe++ {
		if stripe > first && !single { // then all stripes but the last are alike
			stripe = last
		}
		of := stripeSurvives(e, g, stripe, bad)
		least = least.and(of)
	}
	return least, nil
}

// stripeSurvives returns what a stripe can lose.
func stripeSurvives(e *Extent, g erasure.Geometry, stripe int, bad []*finding) Survival {
	left := e.Code.M
	good := map[BackendID]int{} // blocks on each backend
	for i, sh := range e.Shards {
		switch {
		case g.ShardBlockLen(i, stripe) == 0: // there is no such block
		case covers(bad[i], stripe):
			left--
		default:
			good[sh.Backend]++
		}
	}
	if left < 0 {
		return Survival{-1, -1}
	}
	return Survival{Shards: left, Disks: survived(left, good)}
}

// survived returns how many backends, any of them, can be lost when left shards of a
// stripe can be, and so many lie on each.
func survived(left int, on map[BackendID]int) (disks int) {
	for _, n := range slices.SortedFunc(maps.Values(on), func(a, b int) int { return cmp.Compare(b, a) }) {
		if left -= n; left < 0 {
			break
		}
		disks++
	}
	return disks
}
