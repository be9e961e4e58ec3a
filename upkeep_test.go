package blockframe_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
)

// An open store scrubs by itself, the copies of the commit log too, and says so.
func TestStoreScrubsByItself(t *testing.T) {
	ended := make(chan blockframe.ScrubPass, 10)
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	opts := blockframe.Options{Dirs: dirs, Upkeep: blockframe.Upkeep{After: time.Millisecond},
		Events: blockframe.Events{ScrubEnded: func(p blockframe.ScrubPass) { ended <- p }}}
	st, err := blockframe.Open(t.Context(), blockframe.Options{Dirs: dirs, Upkeep: blockframe.Upkeep{Off: true}})
	require.NoError(t, err)
	_, err = st.Put(t.Context(), "x", bytes.NewReader(content(1, 700_000)), blockframe.PutOptions{})
	require.NoError(t, err)
	require.NoError(t, st.Close())
	st, err = blockframe.Open(t.Context(), opts)
	require.NoError(t, err)
	for p := range ended {
		require.True(t, p.Clean())
		if p.Deep {
			require.Positive(t, p.Log.Bytes)
			break
		}
	}
	require.EqualValues(t, 2, st.Stats().Scrubs)
	require.NoError(t, st.Close())

	st, err = blockframe.Open(t.Context(), blockframe.Options{Dirs: dirs, Upkeep: blockframe.Upkeep{Off: true}})
	require.NoError(t, err)
	defer st.Close()
	s, err := st.ScrubStatus(t.Context())
	require.NoError(t, err)
	require.NotNil(t, s.QuickLast)
	require.Positive(t, s.DeepLast.Log.Bytes)
	require.Len(t, s.DeepLast.Disks, 3)
	require.Contains(t, dirs, s.DeepLast.Disks[0].Path)
}
