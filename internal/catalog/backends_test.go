package catalog_test

import (
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/internal/catalog"
	"github.com/blockframe/blockframe/store"
)

// A backend comes, is drained and goes, and its id stays known.
func TestBackendStates(t *testing.T) {
	r := memRig(t)
	r.ok(store.OpenEpoch{})
	r.ok(catalog.SetBackends{Backends: []catalog.Backend{{ID: bid(1)}, {ID: bid(2)}, {ID: bid(3)}}})
	r.ok(store.AddExtent{Extent: extent(1, 1, 0, 0, 1000, 1)})
	require.Equal(t, catalog.Held{Shards: 1, Bytes: 1000}, must(r.cat.Held(ctx, bid(1))))

	require.True(t, r.ok(catalog.AddBackend{Backend: catalog.Backend{ID: bid(4), Path: "/4"}}).Changed)
	require.False(t, r.ok(catalog.AddBackend{Backend: catalog.Backend{ID: bid(4), Path: "/4"}}).Changed)
	require.True(t, r.ok(catalog.AddBackend{Backend: catalog.Backend{ID: bid(4), Path: "/four"}}).Changed)
	r.refused(fs.ErrNotExist, catalog.DrainBackend{ID: bid(9), On: true})
	require.True(t, r.ok(catalog.DrainBackend{ID: bid(1), On: true}).Changed)
	require.False(t, r.ok(catalog.DrainBackend{ID: bid(1), On: true}).Changed)
	r.refused(catalog.ErrConflict, catalog.DropBackend{ID: bid(1)})

	// T15: two shards of a stripe never come together.
	r.refused(fs.ErrInvalid, store.Replace{Extent: eid(1), To: store.Shard{Backend: bid(2), Generation: 1}})
	r.ok(store.Replace{Extent: eid(1), To: store.Shard{Backend: bid(4), Generation: 1}})
	require.Equal(t, catalog.Held{State: catalog.BackendDraining}, must(r.cat.Held(ctx, bid(1))))
	r.ok(catalog.DropBackend{ID: bid(1)})
	require.False(t, r.ok(catalog.DropBackend{ID: bid(1)}).Changed)
	r.refused(catalog.ErrConflict, catalog.AddBackend{Backend: catalog.Backend{ID: bid(1)}})
	r.refused(fs.ErrNotExist, catalog.DrainBackend{ID: bid(1)})
	r.refused(catalog.ErrConflict, store.Replace{Extent: eid(1), From: 1, To: store.Shard{Backend: bid(1), Generation: 2}})
	r.refused(catalog.ErrConflict, store.AddExtent{Extent: extent(2, 2, 0, 0, 1000, 1)}) // on it
	r.ok(store.Report{Damage: []store.Repair{{Backend: bid(1)}}})
	require.Empty(t, collect(r, r.cat.Repairs(ctx)), "it is not waited for")

	// A lost one is on the queue while something lay on it.
	r.ok(catalog.DropBackend{ID: bid(2), Lost: true})
	require.Len(t, collect(r, r.cat.Repairs(ctx)), 1)
	require.Equal(t, catalog.Held{State: catalog.BackendLost, Shards: 1, Bytes: must(r.cat.Held(ctx, bid(2))).Bytes}, must(r.cat.Held(ctx, bid(2))))

	// The list of what is registered leaves those alone that are gone.
	r.ok(catalog.SetBackends{Backends: []catalog.Backend{{ID: bid(3)}}})
	require.Equal(t, []catalog.Backend{{ID: bid(3)}, {ID: bid(1), State: catalog.BackendRemoved}, {ID: bid(2), State: catalog.BackendLost}}, must(r.cat.Backends(ctx)))
	r.refused(fs.ErrInvalid, catalog.DropBackend{ID: bid(3), Lost: true})

	r.reopen()
	require.Equal(t, catalog.BackendLost, must(r.cat.Held(ctx, bid(2))).State)
}

// There is always a backend that takes shards.
func TestBackendsLastActive(t *testing.T) {
	r := memRig(t)
	r.ok(store.OpenEpoch{})
	r.ok(catalog.SetBackends{Backends: []catalog.Backend{{ID: bid(1)}, {ID: bid(2)}, {ID: bid(3)}}})
	r.ok(catalog.DrainBackend{ID: bid(1), On: true})
	r.ok(catalog.DrainBackend{ID: bid(2), On: true})
	r.refused(store.ErrTooFew, catalog.DrainBackend{ID: bid(3), On: true})
	r.refused(store.ErrTooFew, catalog.DropBackend{ID: bid(3)})
	r.refused(store.ErrTooFew, catalog.DropBackend{ID: bid(3), Lost: true})
	r.ok(catalog.DropBackend{ID: bid(1)})
	r.ok(catalog.DrainBackend{ID: bid(2)})
	r.ok(catalog.DropBackend{ID: bid(3)})
	r.refused(store.ErrTooFew, catalog.DrainBackend{ID: bid(2), On: true})
}

// A policy may allow more on one backend, and an extent that survives no loss cannot lose that.
func TestMoveSpread(t *testing.T) {
	r := memRig(t)
	r.ok(store.OpenEpoch{})
	r.ok(store.AddExtent{Extent: extent(1, 1, 0, 0, 1000, 1)}) // 2+1 on 1, 2, 3
	r.ok(catalog.SetBackends{Backends: []catalog.Backend{{ID: bid(1)}, {ID: bid(2)}, {ID: bid(3)}, {ID: bid(4)}}})
	to := store.Replace{Extent: eid(1), To: store.Shard{Backend: bid(2), Generation: 1}}
	r.refused(fs.ErrInvalid, to)
	r.ok(catalog.SetPolicy{Policy: store.Policy{Name: "other", Code: erasure.Code{K: 3, M: 1}, PerBackend: 2}})
	r.refused(fs.ErrInvalid, to)
	r.ok(catalog.SetPolicy{Policy: store.Policy{Name: "wide", Prefix: "w", Code: erasure.Code{K: 2, M: 1}, PerBackend: 2}})
	r.ok(to)
	r.ok(catalog.UnsetPolicy{Prefix: "w"})
	r.ok(store.Replace{Extent: eid(1), Shard: 2, To: store.Shard{Backend: bid(2), Generation: 1}}) // survived no loss before either
}
