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
