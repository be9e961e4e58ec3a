package blockframe_test

import (
	"bytes"
	"fmt"
	"maps"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
)

// Disks are replaced after the newest snapshot, then the log is lost. The shards are all
// there, and their records say that they are on disks that are gone.
func TestRebuildReplacedDisks(t *testing.T) {
	r := newKeepRig(t, 4)
	r.history(120)
	r.trimmed()
	r.close()
	r.opts = blockframe.WithSegment(r.opts, 16<<20) // what follows stays in the tail of the log
	r.open()
	want := maps.Clone(r.want)
	dirs := []string{"/d0"}
	for i, d := range r.st.Disks(t.Context())[1:] {
		name := fmt.Sprintf("/e%d", i+1)
		_, err := r.st.ReplaceDisk(t.Context(), d.ID, name, blockframe.MoveOptions{})
		require.NoError(t, err)
		dirs = append(dirs, name)
	}
	read := func() (bad int) {
		for name, data := range want {
			got, err := readAll(t.Context(), r.st, name, 0)
			if err != nil || !bytes.Equal(got, data) {
				bad++
			}
		}
		return bad
	}
	require.Zero(t, read())
	r.close()
	r.opts.Dirs = dirs
	loseLogs(t, r.fs, dirs)
	opts := blockframe.WithFS(r.opts, r.fs)
	rep, _ := rebuilt(t, opts, blockframe.RebuildOptions{})
	require.Positive(t, rep.Joined)
	r.open()
	require.Zero(t, read())
	for _, d := range r.st.Disks(t.Context()) {
		if d.State == blockframe.DiskAbsent {
			// The error is of parts of the log that were collected since the snapshot.
			_, _ = r.st.RemoveDisk(t.Context(), d.ID, blockframe.RemoveOptions{Lost: true})
		}
	}
	r.close()
	_, _ = rebuilt(t, opts, blockframe.RebuildOptions{Accept: true})
	r.open()
	_, err := r.st.Collect(t.Context(), blockframe.CollectOptions{})
	require.NoError(t, err)
	require.Zero(t, read())
}
