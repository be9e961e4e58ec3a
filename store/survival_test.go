package store_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/store"
)

// survival returns what an object can lose.
func (r *rig) survival(o store.Object) store.Survival {
	r.t.Helper()
	of, err := r.Survives(r.t.Context(), r.cat.contents[o.ID])
	require.NoError(r.t, err)
	return of
}

// What an object survives is the least of its stripes: blocks that are bad in different
// stripes do not add up, disks with several shards count as they are, and what is lost is
// lost. // R15
func TestSurvival(t *testing.T) {
	r := newRig(t, 5, uncached(3, 2, miB))
	o := r.put("x", content(1, 2*miB+70_000))
	require.Equal(t, store.Survival{Shards: 2, Disks: 2}, r.survival(o))
	e := r.extents(o)[1]
	report := func(shard int, stripes ...byte) {
		t.Helper()
		res, err := r.cat.Commit(t.Context(), store.Record{Commands: []store.Command{store.Report{Damage: []store.Repair{{Extent: e.ID, Shard: shard, Stripes: stripes}}}}})
		require.NoError(t, err)
		require.NoError(t, res[0].Err)
	}
	report(0, 1<<2)
	require.Equal(t, store.Survival{Shards: 1, Disks: 1}, r.survival(o))
	report(1, 1<<3)
	require.Equal(t, store.Survival{Shards: 1, Disks: 1}, r.survival(o), "another stripe")
	report(2, 1<<3)
	require.Equal(t, store.Survival{Shards: 0, Disks: 0}, r.survival(o))
	report(3)
	require.Equal(t, store.Survival{Shards: -1, Disks: -1}, r.survival(o))
	clear(r.cat.repairs)

	// The last extent has two blocks in its only stripe: one of the data shards has none.
	e = r.extents(o)[2]
	require.EqualValues(t, 70_000, e.Length)
	report(2)
	require.Equal(t, store.Survival{Shards: 2, Disks: 2}, r.survival(o), "there is no such block")
	report(1)
	require.Equal(t, store.Survival{Shards: 1, Disks: 1}, r.survival(o))
	clear(r.cat.repairs)

	require.Zero(t, r.survival(r.put("tiny", []byte("tiny"))))
	require.Zero(t, r.survival(r.put("empty", nil)))
}

// A member of a pack counts the stripes it lies in, and no others.
func TestSurvivalInAPack(t *testing.T) {
	r := newRig(t, 4, coded(2, 2, miB))
	b := r.NewBatch(t.Context())
	for i, n := range []int{100_000, 100_000, 100_000} {
		require.NoError(t, b.Put(string(rune('a'+i)), bytes.NewReader(content(uint64(i), n)), store.PutOptions{Expect: store.AnyVersion}))
	}
	_, err := b.Commit()
	require.NoError(t, err)
	e := r.extents(r.cat.names["a"])[0]
	require.Equal(t, erasure.Code{K: 2, M: 2}, e.Code)
	_, err = r.cat.Commit(t.Context(), store.Record{Commands: []store.Command{store.Report{Damage: []store.Repair{{Extent: e.ID, Shard: 3, Stripes: []byte{1 << 0}}}}}})
	require.NoError(t, err)
	require.Equal(t, 1, r.survival(r.cat.names["a"]).Shards)
	require.Equal(t, 1, r.survival(r.cat.names["b"]).Shards, "it begins in the first stripe")
	require.Equal(t, 2, r.survival(r.cat.names["c"]).Shards)
}

// Where a disk has several shards, its loss is that of all of them.
func TestSurvivalOfFewDisks(t *testing.T) {
	for _, c := range []struct{ disks, k, m, want int }{{1, 8, 3, 0}, {2, 2, 2, 1}, {3, 4, 2, 1}, {3, 1, 2, 2}, {4, 4, 4, 2}} {
		t.Run(fmt.Sprintf("%d+%d on %d", c.k, c.m, c.disks), func(t *testing.T) {
			r := newRig(t, c.disks, func(o *store.Options) {
				code := erasure.Code{K: c.k, M: c.m}
				o.Policies = func() []store.Policy {
					return []store.Policy{{Code: code, PerBackend: (code.Shards() + c.disks - 1) / c.disks, Fragile: true}}
				}
			})
			of := r.survival(r.put("x", content(1, 700_000)))
			require.Equal(t, store.Survival{Shards: c.m, Disks: c.want}, of)
		})
	}
}
