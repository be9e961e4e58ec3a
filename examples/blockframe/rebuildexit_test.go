package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What a rebuild found decides its exit code: what is lost for good comes first.
func TestRebuildExit(t *testing.T) {
	for _, c := range []struct {
		row  rebuildRow
		exit int
	}{
		{rebuildRow{Accepted: true}, exitOK},
		{rebuildRow{LogLost: true}, exitRepaired},
		{rebuildRow{LogLost: true, Absent: 1}, exitDamaged},
		{rebuildRow{LogLost: true, Incomplete: 1, Missing: 1}, exitLost},
		{rebuildRow{Incomplete: 1, Accepted: true}, exitOK},
		{rebuildRow{Incomplete: 1, Lost: 1, Accepted: true}, exitLost},
	} {
		require.Equal(t, c.exit, c.row.exit(), "%+v", c.row)
	}
}
