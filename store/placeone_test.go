package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/store"
)

// lying is an extent whose shards lie on these backends.
func lying(on ...byte) *store.Extent {
	e := &store.Extent{ID: store.ExtentID{9}, Code: erasure.Code{K: 1, M: len(on) - 1}}
	for _, n := range on {
		e.Shards = append(e.Shards, store.Shard{Backend: store.BackendID{n}})
	}
	return e
}

// T15: what is there is respected, free space preferred, and never two shards of a stripe
// come together that were apart.
func TestPlaceOne(t *testing.T) {
	free := func(n byte, free int64) store.Target { return store.Target{ID: store.BackendID{n}, Free: free} }
	for _, c := range []struct {
		name    string
		e       *store.Extent
		allowed int // by a policy, on one backend
		targets []store.Target
		want    byte
		err     error
	}{
		{"the only one that has none", lying(1, 2, 3), 1, []store.Target{free(1, 9), free(2, 9), free(3, 9), free(4, 9)}, 4, nil},
		{"never where it is", lying(1, 2, 3), 1, []store.Target{free(1, 9)}, 0, store.ErrTooFew},
		{"all others have one", lying(1, 2, 3), 1, []store.Target{free(2, 9), free(3, 9)}, 0, store.ErrTooFew},
		{"no other at all", lying(1, 2, 3), 1, nil, 0, store.ErrTooFew},
		{"the other is full", lying(1, 2, 3), 1, []store.Target{free(2, 9), free(4, 4)}, 0, store.ErrNoSpace},
		{"exactly room enough", lying(1, 2, 3), 1, []store.Target{free(4, 5)}, 4, nil},
		{"the one with room", lying(1, 2, 3), 1, []store.Target{free(4, 4), free(5, 5)}, 5, nil},
		{"over its reserve", lying(1, 2, 3), 1, []store.Target{free(4, -1)}, 0, store.ErrNoSpace},
		{"fewest of the extent before free space", lying(1, 1, 2, 2), 2, []store.Target{free(2, 1<<40), free(3, 5)}, 3, nil},
		{"two on one where a policy says so", lying(1, 2, 3), 2, []store.Target{free(2, 9)}, 2, nil},
		{"no worse than it was", lying(1, 1, 2), 0, []store.Target{free(2, 9)}, 2, nil},
	} {
		got, err := store.PlaceOne(c.e, 0, 5, []store.Policy{{Code: c.e.Code, PerBackend: c.allowed}}, 5, c.targets)
		require.ErrorIs(t, err, c.err, c.name)
		require.Equal(t, store.BackendID{c.want}, got, c.name)
	}
}

// Of equals the choice goes by free space: twice the room, twice the shards.
func TestPlaceOneIsProportional(t *testing.T) {
	n := map[store.BackendID]int{}
	for i := range 3000 {
		e := lying(1, 2, 3)
		e.ID = store.ExtentID{byte(i), byte(i >> 8)}
		to, err := store.PlaceOne(e, 1, 1, nil, 5, []store.Target{{ID: store.BackendID{4}, Free: 1 << 40}, {ID: store.BackendID{5}, Free: 2 << 40}})
		require.NoError(t, err)
		n[to]++
	}
	require.InDelta(t, 2000, n[store.BackendID{5}], 150)
}

// A shard joins others where a policy of the code allows it, or where no fewer backends
// can be lost than before.
func TestMayMove(t *testing.T) {
	on := func(m int, on ...byte) *store.Extent {
		e := lying(on...)
		e.Code = erasure.Code{K: len(on) - m, M: m}
		return e
	}
	for _, c := range []struct {
		e    *store.Extent
		to   byte
		want bool
	}{
		{on(1, 1, 2, 3), 4, true},
		{on(1, 1, 2, 3), 2, false},
		{on(2, 1, 2, 3, 4), 2, false},
		{on(2, 1, 1, 2, 2), 2, false}, // either may be lost now, and not then
		{on(2, 1, 1, 2, 2), 3, true},
		{on(2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1), 2, true}, // of one disk
		{on(2, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2), 2, true},
		{on(1, 1, 2, 2), 2, true},     // none may be lost, before and after
		{on(3, 1, 1, 2, 3), 2, true},  // 1+3: two may be lost, before and after
		{on(3, 1, 2, 2, 3), 2, false}, // 1+3: then one
		{on(1, 1, 2, 3, 4, 5), 5, false},
	} {
		require.Equal(t, c.want, c.e.MayMove(0, store.BackendID{c.to}, nil, 5), "%v on %v to %d", c.e.Code, c.e.Shards, c.to)
		other := store.Policy{Code: erasure.Code{K: 9, M: 9}, PerBackend: 9}
		require.Equal(t, c.want, c.e.MayMove(0, store.BackendID{c.to}, []store.Policy{other}, 5))
		require.True(t, c.e.MayMove(0, store.BackendID{c.to}, []store.Policy{{Code: c.e.Code, PerBackend: len(c.e.Shards)}}, 5))
		require.True(t, c.e.MayMove(0, store.BackendID{c.to}, nil, 1), "there is no other")
	}
}
