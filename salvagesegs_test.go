package blockframe_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
)

// All copies of a log are lost before there was a snapshot: it comes back from the segments
// that are kept, from the first record on, and so it is when that happens again. Where the
// first of them is gone, all else is below lost+found. R5
func TestRebuildFromSegments(t *testing.T) {
	r := newKeepRig(t, 4)
	r.close()
	r.opts = blockframe.WithSnapshots(r.opts, 1<<20)
	r.open()
	opts := blockframe.WithFS(r.opts, r.fs)
	var list []moment
	for range 3 {
		list = append(list, r.history(60)...)
		require.NoError(t, r.st.KeepPass(t.Context()))
		snaps, segs := r.kept()
		require.Zero(t, snaps)
		require.Greater(t, segs, 2)
		last := list[len(list)-1].last
		r.close()
		loseLogs(t, r.fs, r.opts.Dirs)
		dry, _ := rebuilt(t, opts, blockframe.RebuildOptions{DryRun: true})
		rep, _ := rebuilt(t, opts, blockframe.RebuildOptions{})
		require.True(t, rep.LogLost)
		require.Equal(t, dry.Records, rep.Records)
		require.Greater(t, rep.Records, last/2)
		again, _ := rebuilt(t, opts, blockframe.RebuildOptions{Accept: true})
		require.False(t, again.LogLost || again.Adoptable(), "%+v", again)
		r.open()
		require.EqualValues(t, 1, r.st.Log()[0].First)
		r.checkAt(list, rep.Records)
		for len(list) > 0 && list[len(list)-1].last > rep.Records {
			list = list[:len(list)-1] // no history any more
		}
		r.want = r.names()
	}
	all, err := r.st.Kept(t.Context())
	require.NoError(t, err)
	r.close()
	for _, k := range all {
		if k.First != 1 {
			continue
		}
		names, err := blobs(r.fs, r.opts.Dirs)
		require.NoError(t, err)
		for _, name := range names {
			if strings.HasSuffix(name, "-"+k.Upload.String()) {
				require.NoError(t, r.fs.Remove(name))
			}
		}
	}
	loseLogs(t, r.fs, r.opts.Dirs)
	rep, _ := rebuilt(t, opts, blockframe.RebuildOptions{})
	require.Zero(t, rep.Records)
	require.Positive(t, rep.Named)
	rebuilt(t, opts, blockframe.RebuildOptions{Accept: true})
	r.open()
}
