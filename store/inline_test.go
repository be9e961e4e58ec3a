package store_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/store"
)

// Names with long attributes are more than one pack can say of its members.
func TestPackInlineLongLines(t *testing.T) {
	r := newRig(t, 3, coded(2, 1, miB))
	attr := store.Attr{Xattrs: map[string][]byte{"user.long": []byte(strings.Repeat("x", 60_000))}}
	var objs []store.Object
	const n = 900
	for i := range n {
		o, err := r.Put(t.Context(), fmt.Sprint(i), bytes.NewReader(content(uint64(i), 100)), store.PutOptions{Attr: attr, Expect: store.AnyVersion})
		require.NoError(t, err)
		objs = append(objs, o)
	}
	require.NoError(t, r.PackInline(t.Context()))
	for _, i := range []int{0, 1, n / 2, n - 1} {
		r.reads(objs[i], content(uint64(i), 100))
		require.Less(t, r.extents(objs[i])[0].Length, int64(6*miB))
	}
	for in, err := range r.cat.Inline(t.Context()) {
		require.NoError(t, err)
		t.Fatalf("content %v is left", in.Content.ID)
	}
}
