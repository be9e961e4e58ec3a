package catalog_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/store"
)

// sound fails unless an audit finds nothing.
func (r *rig) sound(after string) {
	r.t.Helper()
	var rep store.AuditReport
	require.NoError(r.t, r.cat.Audit(ctx, &rep))
	require.Empty(r.t, rep.Problems, "after %s", after)
}

// An audit notices each row that is gone, and each number in one that is another: there is
// nothing it does not hold against something else. Random histories find nothing: see
// TestModel.
func TestAuditFinds(t *testing.T) {
	r := memRig(t)
	g := &gen{Rand: rand.New(rand.NewPCG(1, 7)), m: newModel()}
	for range 400 {
		rec := g.record()
		_, err := r.cat.Commit(ctx, rec)
		require.NoError(t, err)
		g.m.now, g.m.clock = r.cat.LogTime(), r.cat.LogTime()
		_, g.m = g.m.apply(rec)
	}
	r.sound("400 records")
	list, err := r.cat.Rows(ctx)
	require.NoError(t, err)
	tables := map[byte]int{}
	for _, row := range list {
		tables[row.Key[0]]++
		if row.Key[0] == 'n' && row.Key[8] == 1 && row.Key[7] == 0 {
			continue // the root: without it nothing has a name
		}
		if row.Key[0] == 'h' && binary.BigEndian.Uint64(row.Value[1:]) == 0 {
			continue // a state alone
		}
		rep, err := r.cat.AuditAs(ctx, row.Key, nil)
		if err == nil {
			require.NotEmpty(t, rep.Problems, "row %q is gone", row.Key)
		}
	}
	require.Len(t, tables, 13, "%v", tables)

	// A reference too many, of a content and of an upload, or a shard of a backend.
	for _, row := range list {
		if at := map[byte]int{'c': 15, 'u': 9, 'h': 8}[row.Key[0]]; at > 0 {
			row.Value[at]++
			rep, err := r.cat.AuditAs(ctx, row.Key, row.Value)
			require.NoError(t, err)
			require.NotEmpty(t, rep.Problems, "a wrong count in %q", row.Key)
		}
	}
}

// A view that agrees with itself, and not with the log, is found out, and made anew.
func TestCompare(t *testing.T) {
	r := memRig(t)
	g := &gen{Rand: rand.New(rand.NewPCG(3, 4)), m: newModel()}
	for range 60 {
		rec := g.record()
		_, err := r.cat.Commit(ctx, rec)
		require.NoError(t, err)
		g.m.now, g.m.clock = r.cat.LogTime(), r.cat.LogTime()
		_, g.m = g.m.apply(rec)
	}
	differ := func(want int64, dir string) {
		t.Helper()
		n, err := r.cat.Compare(ctx, r.fs, dir)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	differ(0, "other/a")
	require.NoError(t, r.cat.Settle())
	b, err := r.cat.View().NewBatch()
	require.NoError(t, err)
	require.NoError(t, b.Set([]byte("sforged"), []byte("x")))
	require.NoError(t, b.Commit())
	differ(1, "other/b")
	require.NoError(t, r.cat.Renew())
	differ(0, "other/c")
}
