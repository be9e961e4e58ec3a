package blockframe_test

import (
	"context"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/internal/durable"
)

// audited returns the report of an audit whose records agree.
func audited(t testing.TB, st *blockframe.Store) blockframe.AuditReport {
	t.Helper()
	rep, err := st.Audit(context.Background())
	require.NoError(t, err)
	require.Empty(t, rep.Problems)
	return rep
}

// An audit counts blobs that no record names, and shards without their blob, and changes
// nothing. That it finds wrong counts: TestAuditFinds of the catalog.
func TestAudit(t *testing.T) {
	fsys := durable.Mem(vfs.NewCrashableMem())
	opts := spread(fsys, 3)
	acts(t, opts, func(ctx context.Context, st *blockframe.Store) {
		putTo(t, st, "a", content(1, 300_000))
		putTo(t, st, "b", content(2, 100))
		rep := audited(t, st)
		require.Equal(t, blockframe.AuditReport{Versions: 2, Contents: 2, Uploads: 1, Extents: 1, Blobs: 3}, rep)
		list, err := blobs(fsys, opts.Dirs)
		require.NoError(t, err)
		other := byte('0')
		if list[0][len(list[0])-1] == other {
			other = '1'
		}
		require.NoError(t, fsys.Rename(list[0], list[0][:len(list[0])-1]+string(other)))
		rep = audited(t, st)
		require.EqualValues(t, 1, rep.Gone)
		require.EqualValues(t, 1, rep.Orphans)
		again, err := blobs(fsys, opts.Dirs)
		require.NoError(t, err)
		require.Len(t, again, 3)
	})
}
