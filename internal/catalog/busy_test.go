package catalog_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/store"
)

// TestReadWhileRecordsCome reads a content whose bytes are in memory alone while a
// record is applied in the middle of each try, until none can be.
func TestReadWhileRecordsCome(t *testing.T) {
	r := memRig(t)
	r.ok(inline("a", "content", 1))
	view, n := r.cat.View(), 0
	c, err := r.cat.ContentWhile(ctx, idOf("content"), func() {
		if n++; n <= 3 { // the next would wait for this read
			r.ok(inline(fmt.Sprint(n), fmt.Sprint(n), n+1))
		}
	})
	require.NoError(t, err)
	require.Equal(t, store.Content{ID: idOf("content"), Size: 7, Refs: 1, Inline: []byte("content")}, c)
	require.True(t, view == r.cat.View(), "nothing is wrong with the view")
	r.ok(inline("b", "next", 9)) // goes on
}
