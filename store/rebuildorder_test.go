package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/store"
)

// Shards that a rebuild finds elsewhere move one by one, and do not come together
// on the way where that can be helped.
func TestRebuildOrder(t *testing.T) {
	on := func(ids ...byte) (list []store.Shard) {
		for _, id := range ids {
			list = append(list, store.Shard{Backend: store.BackendID{id}})
		}
		return list
	}
	require.Equal(t, []int{0, 1, 2}, store.InOrder(on(1, 2, 3), on(1, 2, 3)))
	require.Equal(t, []int{2, 1, 0}, store.InOrder(on(1, 2, 3), on(2, 3, 4)))
	require.Equal(t, []int{2, 0, 1}, store.InOrder(on(1, 2, 3), on(2, 1, 3)), "in a circle")
}

// A rebuild gives missing shards no places on disks that are draining.
func TestRebuildPlacesDraining(t *testing.T) {
	r := newRig(t, 5, nil)
	r.SetDraining(r.mems[2].ID(), true)
	e := &store.Extent{Shards: []store.Shard{{Backend: r.mems[0].ID()}, {Backend: r.mems[1].ID()}, {Missing: true}, {Missing: true}, {Missing: true}}}
	r.FindPlaces(e)
	require.Equal(t, []store.BackendID{r.mems[3].ID(), r.mems[4].ID(), {}}, []store.BackendID{e.Shards[2].Backend, e.Shards[3].Backend, e.Shards[4].Backend})
}
