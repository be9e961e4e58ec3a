package blockframe_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/internal/durable"
)

// A repair of the log by Open is told by the next scrub of any kind, once: by the same
// process, or by one that comes after others that did not ask.
func TestLogRepairsAreReported(t *testing.T) {
	s := shoot(t)
	ctx := context.Background()
	for _, deep := range []bool{false, true} {
		for others := range 3 {
			fsys := durable.Mem(killed(s.fs))
			all := frames(t, fsys, "/d0/log/b")
			f := all[len(all)-3]
			require.NoError(t, flip(fsys, "/d0/log/b/"+f.segment, f.off+115, 1))
			for range others {
				require.NoError(t, open(t, blockframe.WithFS(s.opts, fsys)).Close())
			}
			st := open(t, blockframe.WithFS(s.opts, fsys))
			for i := range 2 {
				rep, err := st.Scrub(ctx, blockframe.ScrubOptions{Deep: deep})
				require.NoError(t, err)
				require.EqualValues(t, 1-i, rep.Log.Repaired, "deep %v, after %d others, scrub %d", deep, others, i)
				require.Equal(t, i == 1, rep.Clean())
			}
			require.NoError(t, st.Close())
			st = open(t, blockframe.WithFS(s.opts, fsys))
			rep, err := st.Scrub(ctx, blockframe.ScrubOptions{Deep: deep})
			require.NoError(t, err)
			require.True(t, rep.Clean(), "%+v", rep)
			require.NoError(t, st.Close())
		}
	}
}
