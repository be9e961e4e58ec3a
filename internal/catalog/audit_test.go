package catalog_test

import (
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
	g := &gen{Rand: rand.New(rand.NewPCG(1, 2)), m: newModel()}
	for range 150 {
		rec := g.record()
		_, err := r.cat.Commit(ctx, rec)
		require.NoError(t, err)
		g.m.now, g.m.clock = r.cat.LogTime(), r.cat.LogTime()
		_, g.m = g.m.apply(rec)
	}
	r.sound("150 records")
	list, err := r.cat.Rows(ctx)
	require.NoError(t, err)
	tables := map[byte]int{}
	for _, row := range list {
		tables[row.Key[0]]++
		if row.Key[0] == 'n' && row.Key[8] == 1 && row.Key[7] == 0 {
			continue // the root: without it nothing has a name
		}
		rep, err := r.cat.AuditAs(ctx, row.Key, nil)
		if err == nil {
			require.NotEmpty(t, rep.Problems, "row %q is gone", row.Key)
		}
	}
	require.Len(t, tables, 12, "%v", tables)

	// A reference too many, of a content and of an upload.
	for _, row := range list {
		if at := map[byte]int{'c': 15, 'u': 9}[row.Key[0]]; at > 0 {
			row.Value[at]++
			rep, err := r.cat.AuditAs(ctx, row.Key, row.Value)
			require.NoError(t, err)
			require.NotEmpty(t, rep.Problems, "a wrong count in %q", row.Key)
		}
	}
}
