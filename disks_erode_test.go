package blockframe_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
)

// A disk that is drained while another one is does not bring the shards of a stripe
// together on the last: they stay, the error says so, and what survives the loss of a disk
// does so still.
func TestDrainTwoKeepsTolerance(t *testing.T) {
	ctx := context.Background()
	st := fresh(t, 3)
	data := content(1, 300_000)
	put(t, st, "x", data)
	for i := range 2 {
		_, err := st.DrainDisk(ctx, st.Disks(ctx)[i].ID, blockframe.MoveOptions{})
		require.ErrorIs(t, err, blockframe.ErrTooFew)
		tol, err := st.Tolerance(ctx)
		require.NoError(t, err)
		require.Equal(t, 1, tol.Disks, "drain %d", i)
	}
	require.Equal(t, data, get(t, st, "x", 0))
}
