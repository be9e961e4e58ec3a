package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
)

// Ranges of one object that touch are one, and an object has one line.
func TestLostText(t *testing.T) {
	lost := func(name string, offset, length int64) *blockframe.CorruptError {
		return &blockframe.CorruptError{Name: name, Offset: offset, Length: length}
	}
	require.Empty(t, lostText(mergeLost(nil)))
	require.Equal(t, []string{
		"LOST a: bytes [5, 6), 1 in all",
		"LOST dir/b: bytes [0, 30), [40, 50), [60, 70) and 6 bytes more in 2 ranges, 56 in all",
	}, lostText(mergeLost([]*blockframe.CorruptError{
		lost("dir/b", 40, 10), lost("dir/b", 10, 20), lost("a", 5, 1), lost("dir/b", 0, 10), lost("dir/b", 60, 10),
		lost("dir/b", 80, 5), lost("dir/b", 90, 1), lost("dir/b", 80, 5),
	})))
}
