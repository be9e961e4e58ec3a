package blockframe_test

import (
	"bytes"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/internal/durable/durabletest"
	"github.com/blockframe/blockframe/store"
)

// grounded checks that a snapshot is recorded which the log goes on from.
func (r *keepRig) grounded() bool {
	r.t.Helper()
	list, err := r.st.Kept(r.t.Context())
	require.NoError(r.t, err)
	for _, k := range list {
		if k.Kind == store.KindSnapshot && k.Last >= r.st.Log()[0].First-1 {
			return true
		}
	}
	return false
}

// The snapshot that a rebuild began with is named by no record that is left. Collection
// after it, and then the loss of the view, leave a store that opens. R5
func TestRebuiltThenCollectedThenViewLost(t *testing.T) {
	for _, full := range []bool{false, true} {
		r := newKeepRig(t, 4)
		list := r.history(120)
		r.trimmed()
		r.close()
		loseLogs(t, r.fs, r.opts.Dirs)
		faulty := durabletest.New(r.fs, durabletest.Options{})
		if full { // there is no room for another snapshot
			faulty.SetFault(durabletest.All(durabletest.Write, "/tmp/", durabletest.Before, syscall.ENOSPC))
		}
		opts := blockframe.WithFS(r.opts, faulty)
		first, _ := rebuilt(t, opts, blockframe.RebuildOptions{})
		require.Positive(t, first.Records)
		rep, _ := rebuilt(t, opts, blockframe.RebuildOptions{Accept: true})
		require.True(t, rep.Accepted)
		for range 3 {
			r.open()
			require.Equal(t, !full, r.grounded())
			_, err := r.st.Collect(t.Context(), blockframe.CollectOptions{})
			require.NoError(t, err)
			r.close()
			r.dropViews() // as with the one disk that has the index
		}
		r.open()
		r.checkAt(list, first.Records)
		require.NoError(t, r.st.KeepPass(t.Context()))
		require.True(t, r.grounded())
		_, err := r.st.Collect(t.Context(), blockframe.CollectOptions{})
		require.NoError(t, err)
		col, err := r.st.Collect(t.Context(), blockframe.CollectOptions{})
		require.NoError(t, err)
		require.Zero(t, col.Orphans)
		r.close()
		r.dropViews()
		r.open()
		r.checkAt(list, first.Records)
		r.close()
	}
}

// Until a rebuild is accepted, nothing that is kept is dropped, and the log is not trimmed.
func TestNothingDroppedBeforeAccepted(t *testing.T) {
	r := newKeepRig(t, 4)
	r.history(120)
	r.trimmed()
	r.close()
	loseLogs(t, r.fs, r.opts.Dirs)
	opts := blockframe.WithFS(r.opts, r.fs)
	rebuilt(t, opts, blockframe.RebuildOptions{})
	r.want = map[string][]byte{}
	r.open()
	first := r.st.Log()[0].First
	before, err := r.st.Kept(t.Context())
	require.NoError(t, err)
	more := func() {
		for i := range 150 {
			_, err := r.st.Put(t.Context(), "more", bytes.NewReader(content(byte(i), 3000)), blockframe.PutOptions{})
			require.NoError(t, err)
			if i%10 == 9 {
				require.NoError(t, r.st.KeepPass(t.Context()))
			}
		}
	}
	more()
	require.Equal(t, first, r.st.Log()[0].First)
	after, err := r.st.Kept(t.Context())
	require.NoError(t, err)
	require.Subset(t, after, before)
	r.close()
	rebuilt(t, opts, blockframe.RebuildOptions{Accept: true})
	r.open()
	more()
	require.Greater(t, r.st.Log()[0].First, first)
	snaps, _ := r.kept()
	require.Equal(t, 3, snaps)
}
