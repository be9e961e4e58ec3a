package store

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/blockframe/blockframe/internal/frame"
)

// Target is a backend as placement sees it.
type Target struct {
	ID   BackendID
	Free int64 // bytes that may be written, after the reserve
}

// Place chooses the backends for the shards of an extent: at most per of them
// on one, each with room for need bytes a shard. It is weighted rendezvous
// hashing (Thaler and Ravishankar 1998; the logarithmic weights of Schindelhauer and
// Schomaker 2005): a target's score depends on the extent, the target and its free
// space alone, so that equal inputs give equal answers everywhere, and the share
// of shards that a target gets is proportional to its free space. Shard i of the
// result is on target[i]. Fewer than shards places make ErrNoSpace.
func Place(id ExtentID, shards, per int, need int64, targets []Target) ([]BackendID, error) {
	type scored struct {
		id    BackendID
		score float64
		room  int
	}
	var list []scored
	if len(targets)*per < shards {
		return nil, fmt.Errorf("%w: %d shards, at most %d on one of %d: %w", ErrTooFew, shards, per, len(targets), ErrNoSpace)
	}
	room := 0
	for _, t := range targets {
		fit := per
		if need > 0 {
			fit = int(min(int64(per), t.Free/need))
		}
		if fit > 0 {
			list = append(list, scored{t.ID, score(id, t), fit})
			room += fit
		}
	}
	if room < shards {
		return nil, fmt.Errorf("%w: %d shards of %s need a place, and there is room for %d%s", ErrNoSpace, shards, megabytes(need), room, short(per, need, targets))
	}
	slices.SortFunc(list, func(a, b scored) int {
		return cmp.Or(cmp.Compare(b.score, a.score), slices.Compare(a.id[:], b.id[:]))
	})
	places := make([]BackendID, 0, shards)
	for len(places) < shards { // one round over the targets for each shard a backend may take
		for i := range list {
			if list[i].room > 0 && len(places) < shards {
				list[i].room--
				places = append(places, list[i].id)
			}
		}
	}
	return places, nil
}

// MayMove reports whether shard i of the extent may move to a backend where others of it
// lie: as many as a policy with its code allows by name; or so that the extent survives
// the loss of as many backends as before; or when there is no other. Packs, whose code may
// be wider than there are backends, are spread as they are when they are put, as long as
// one backend may be lost. To one that has none of it, a shard always may. backends is
// how many there are that shards are placed on; where that is one, and several others are
// draining and not gone yet, it is not the last one: see [Receivers].
func (e *Extent) MayMove(i int, to BackendID, policies []Policy, backends int) bool {
	before, after := map[BackendID]int{}, map[BackendID]int{to: 1}
	for j, s := range e.Shards {
		before[s.Backend]++
		if j != i {
			after[s.Backend]++
		}
	}
	left := survived(e.Code.M, after)
	switch {
	case backends == 1 || after[to] <= e.most(policies) || left >= survived(e.Code.M, before):
		return true
	case e.Kind == KindPack && backends > 0:
		return left > 0 && after[to] <= (e.Code.Shards()+backends-1)/backends
	}
	return false
}

// Receivers returns for how many backends [Extent.MayMove] is asked: those that shards are
// placed on. One that is left beside a single one that drains takes all from it, as the
// only disk of a store may be replaced. Beside several it does not: all of a stripe would
// come together there, one drain after the other, while the others could be kept.
func Receivers(placeable, draining int) int {
	if placeable == 1 && draining > 1 {
		return 2
	}
	return placeable
}

// most returns how many shards of the extent a backend may take by name of a policy.
func (e *Extent) most(policies []Policy) int {
	most := 1
	for _, p := range policies {
		if p.Code == e.Code {
			most = max(most, p.PerBackend)
		}
	}
	return most
}

// PlaceOne chooses another backend for shard i of an extent, with room for need bytes. The
// other shards stay where they are. Of the targets that it may move to it takes one that
// has the fewest of them, of these by the score that Place goes by. ErrTooFew says that
// it may move to none, ErrNoSpace that those that it may move to are full.
func PlaceOne(e *Extent, i int, need int64, policies []Policy, backends int, targets []Target) (BackendID, error) {
	on := map[BackendID]int{}
	for j, s := range e.Shards {
		if j != i {
			on[s.Backend]++
		}
	}
	fit := slices.DeleteFunc(slices.Clone(targets), func(t Target) bool {
		return t.ID == e.Shards[i].Backend || on[t.ID] > 0 && !e.MayMove(i, t.ID, policies, backends)
	})
	if len(fit) == 0 {
		return BackendID{}, fmt.Errorf("%w: each of %d others has as many shards of the extent as it may", ErrTooFew, len(targets))
	}
	room := slices.DeleteFunc(slices.Clone(fit), func(t Target) bool { return t.Free < need })
	if len(room) == 0 {
		return BackendID{}, fmt.Errorf("%w: a shard of %s needs a place%s", ErrNoSpace, megabytes(need), short(1, need, fit))
	}
	best := slices.MinFunc(room, func(a, b Target) int {
		return cmp.Or(cmp.Compare(on[a.ID], on[b.ID]), cmp.Compare(score(e.ID, b), score(e.ID, a)), slices.Compare(a.ID[:], b.ID[:]))
	})
	return best.ID, nil
}

// short names the targets that have no room for per shards of need bytes.
func short(per int, need int64, targets []Target) (s string) {
	for _, t := range targets {
		if need > 0 && t.Free/need < int64(per) {
			s += fmt.Sprintf("; backend %v has %s left", t.ID, megabytes(max(0, t.Free)))
		}
	}
	return s
}

// megabytes returns a number of bytes for people.
func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// score returns -w/ln(u) for a u in (0, 1) that extent and target determine.
func score(id ExtentID, t Target) float64 {
	h := frame.Sum(append(id[:], t.ID[:]...))
	u := (float64(binary.BigEndian.Uint64(h[:])>>11) + 0.5) / (1 << 53)
	return -float64(max(t.Free, 1)) / math.Log(u)
}
