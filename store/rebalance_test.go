package store_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/mem"
)

// The plan is arithmetic: levels come together whatever the sizes, nothing goes over a
// reserve, and no shards of a stripe come together. // T15
func TestRebalancePlan(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const shard = 1 << 20
	need := store.ShardNeed(&store.Extent{Length: 2 * shard, BlockSize: blk, Code: erasure.Code{K: 2, M: 1}}, 0)
	for round := range 40 {
		var list []store.Level
		for i := range 4 + rng.IntN(6) {
			total := int64(1+rng.IntN(4)) << 32
			list = append(list, store.Level{ID: store.BackendID{byte(i + 1)}, Total: total, Free: total})
		}
		var extents []store.Extent
		for i := range 6000 { // all on the first ones, up to three quarters full
			perm := rng.Perm(len(list) / 2 * 2)[:3]
			e := store.Extent{ID: store.ExtentID{byte(i), byte(i >> 8)}, Length: 2 * shard, BlockSize: blk, Code: erasure.Code{K: 2, M: 1}}
			for _, n := range perm {
				if n > len(list)/2 && rng.IntN(4) > 0 {
					n = rng.IntN(3)
				}
				e.Shards = append(e.Shards, store.Shard{Backend: list[n].ID})
				list[n].Free -= need
			}
			extents = append(extents, e)
		}
		before, after := spread(list), 0.0
		plan := store.PlanMoves(list, 0.1, extents)
		for _, m := range plan {
			e := &extents[m.Extent]
			require.True(t, e.MayMove(m.Shard, m.To, nil, len(list)))
			for i := range list {
				switch list[i].ID {
				case e.Shards[m.Shard].Backend:
					list[i].Free += need
				case m.To:
					list[i].Free -= need
					require.Greater(t, float64(list[i].Free), 0.1*float64(list[i].Total)-1)
				}
			}
			e.Shards[m.Shard].Backend = m.To
		}
		after = spread(list)
		require.LessOrEqual(t, after, before, "round %d", round)
		if before > 0.1 {
			require.Less(t, after, before/2, "round %d", round)
		}
	}
}

// Shards that lie together part first, however full the disks are, and do not come together
// again for the sake of levels.
func TestRebalanceParts(t *testing.T) {
	for _, full := range []int64{0, 1 << 29, 1 << 31} { // all alike; the one they lie on the emptiest; beyond the reserve
		list := []store.Level{{ID: store.BackendID{1}, Total: 1 << 32, Free: 1 << 31}}
		for i := range 3 {
			list = append(list, store.Level{ID: store.BackendID{byte(i + 2)}, Total: 1 << 32, Free: 1<<31 - full})
		}
		var extents []store.Extent
		for i := range 50 {
			e := store.Extent{ID: store.ExtentID{byte(i)}, Length: 1 << 20, BlockSize: blk, Code: erasure.Code{K: 2, M: 1}, Shards: make([]store.Shard, 3)}
			for i := range e.Shards {
				e.Shards[i].Backend = store.BackendID{1}
			}
			extents = append(extents, e)
		}
		for _, m := range store.PlanMoves(list, 0.1, extents) {
			extents[m.Extent].Shards[m.Shard].Backend = m.To
		}
		for _, e := range extents {
			on := map[store.BackendID]bool{}
			for _, s := range e.Shards {
				on[s.Backend] = true
			}
			if full < 1<<31 {
				require.Len(t, on, 3)
			} else {
				require.Len(t, on, 1, "the others have no room")
			}
		}
	}
}

// spread returns the difference between the fullest and the emptiest.
func spread(list []store.Level) float64 {
	least, most := math.Inf(1), math.Inf(-1)
	for _, l := range list {
		fill := 1 - float64(l.Free)/float64(l.Total)
		least, most = min(least, fill), max(most, fill)
	}
	return most - least
}

// sized makes the backends so large.
func (r *rig) sized(n int64) {
	for _, m := range r.mems {
		m.SetCapacity(n)
	}
}

// Backends that came empty fill up to the level of the others, and no further; a dry run
// moves nothing.
func TestRebalance(t *testing.T) {
	r := newRig(t, 3, func(o *store.Options) { uncached(2, 1, miB)(o); o.Reserve = 0.1 })
	k := &stored{r: r}
	for i := range 20 {
		k.add(fmt.Sprint(i), content(uint64(i), 2*miB))
	}
	r.attach()
	r.attach()
	r.sized(64 * miB)
	rebalance := func(opts store.MoveOptions) store.MoveReport {
		rep, err := r.Rebalance(t.Context(), opts)
		require.NoError(t, err)
		require.NoError(t, rep.Err())
		return rep
	}
	blobs := r.blobs()
	dry := rebalance(store.MoveOptions{DryRun: true})
	require.Positive(t, dry.Shards)
	require.Empty(t, r.mems[3].Keys())
	rep := rebalance(store.MoveOptions{})
	require.InDelta(t, dry.Shards, rep.Shards, 5)
	require.Less(t, rep.Shards, int64(2*blobs/5+3), "no more than has to")
	for _, m := range r.mems {
		require.InDelta(t, float64(blobs)/5, len(m.Keys()), 4)
	}
	require.Equal(t, blobs, r.blobs())
	require.Zero(t, rebalance(store.MoveOptions{}).Shards, "there is no more to gain")
	r.apart()
	k.whole()
}

// A backend that fills up in the middle: what it had no room for stays where it was, and
// is named; the rest moved, and nothing is lost.
func TestRebalanceDiskFillsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, uncached(2, 1, miB))
		k := &stored{r: r}
		for i := range 16 {
			k.add(fmt.Sprint(i), content(uint64(i), 2*miB))
		}
		fresh := r.attach()
		r.sized(64 * miB)
		var n atomic.Int64
		fresh.SetFault(func(op mem.Op) *mem.Fault {
			if op.Kind == mem.Write {
				if n.Add(1) > 40 {
					return &mem.Fault{Arm: mem.Before, Err: store.ErrNoSpace}
				}
			}
			return nil
		})
		rep, err := r.Rebalance(t.Context(), store.MoveOptions{})
		require.NoError(t, err)
		require.Positive(t, rep.Shards)
		require.Positive(t, rep.Left)
		require.ErrorIs(t, rep.Err(), store.ErrNoSpace)
		require.Equal(t, int(rep.Shards), len(fresh.Keys()), "nothing half written is left")
		r.apart()
		k.whole()
		fresh.SetFault(nil)
		time.Sleep(time.Minute)
		rep, err = r.Rebalance(t.Context(), store.MoveOptions{})
		require.NoError(t, err)
		require.NoError(t, rep.Err())
		require.Positive(t, rep.Shards)
		k.whole()
	})
}
