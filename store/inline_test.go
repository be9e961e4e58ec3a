package store_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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

// isInline reports whether a content waits in the catalog.
func (r *rig) isInline(o store.Object) bool {
	r.t.Helper()
	c, err := r.cat.Content(r.t.Context(), o.ID)
	require.NoError(r.t, err)
	return c.Upload.IsZero()
}

// Contents do not wait for company longer than PackAfter, although there never is a
// pause and the others are short.
func TestPackInlineWithoutPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, func(o *store.Options) { coded(2, 1, miB)(o); o.PackAfter = 10 * time.Second })
		first := r.put("first", content(0, 4096))
		for i := range 64 {
			r.put(fmt.Sprint("long", i), content(uint64(i+1), 4096))
		}
		for i := 0; r.isInline(first); i++ {
			require.Less(t, i, 10_100/20, "it waits for ever")
			time.Sleep(20 * time.Millisecond)
			r.put(fmt.Sprint("short", i), content(uint64(i+100), 10))
		}
	})
}

// What comes after a pack waits for company of its own.
func TestPackInlineAfterPack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, coded(2, 1, miB))
		var first store.Object
		for i := range 100 {
			first = r.put(fmt.Sprint("long", i), content(uint64(i), 4096))
		}
		for r.isInline(first) {
			time.Sleep(time.Millisecond)
		}
		next := r.put("next", content(1000, 10))
		time.Sleep(30 * time.Second)
		require.True(t, r.isInline(next), "it is alone")
		time.Sleep(31 * time.Second)
		require.False(t, r.isInline(next))
	})
}
