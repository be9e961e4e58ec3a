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
