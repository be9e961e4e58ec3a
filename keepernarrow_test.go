package blockframe_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/store"
)

// What is kept of the log while disks are away is kept anew once they are there, and then
// no more: a lost view comes back also without as many disks as everything else may lose.
func TestKeptAnewInWiderCode(t *testing.T) {
	for _, every := range []int{2, 1 << 20} {
		r := newKeepRig(t, 6)
		r.close()
		r.opts = blockframe.WithSnapshots(r.opts, every)
		r.opts.Upkeep = blockframe.Upkeep{Off: true} // reshaping grows the log
		all := r.opts.Dirs
		away := save(t, r.fs, all[3:]...)
		for _, d := range all[3:] {
			require.NoError(t, r.fs.RemoveAll(d))
		}
		r.open()
		r.work(120)
		_, segs := r.kept()
		require.Positive(t, segs)
		r.close()
		away.back(t, r.fs, all[3:]...)
		r.open()
		for range 4 + segs/4 {
			require.NoError(t, r.st.KeepPass(t.Context()))
		}
		snaps, _ := r.kept()
		require.Equal(t, every == 2, snaps == 3)
		for record, names := range r.keptBlobs(store.KindSnapshot) {
			require.Len(t, names, 6, "snapshot of record %d", record)
		}
		kept := r.keptBlobs(store.KindSegment)
		for record, names := range kept {
			require.Len(t, names, 3, "segment up to record %d", record)
		}
		require.Equal(t, every != 2, len(kept) >= segs)
		before, err := r.st.Kept(t.Context())
		require.NoError(t, err)
		for range 3 {
			require.NoError(t, r.st.KeepPass(t.Context()))
		}
		after, err := r.st.Kept(t.Context())
		require.NoError(t, err)
		require.Equal(t, before, after, "what is wide is kept anew")
		r.check()
		if every > 2 {
			continue
		}
		r.close()
		r.dropViews()
		for _, d := range all[4:] {
			require.NoError(t, r.fs.RemoveAll(d))
		}
		r.open()
		r.check()
	}
}
