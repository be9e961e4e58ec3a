package store_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/blake3"

	"github.com/blockframe/blockframe/erasure"
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

// packedAs returns the code of the one extent that holds an object.
func (r *rig) packedAs(o store.Object) erasure.Code {
	r.t.Helper()
	x := r.extents(o)
	require.Len(r.t, x, 1)
	return x[0].Code
}

// A pack takes the code of the policy where it fills a stripe and is as safe as was
// promised; else it is copies, as many as that takes, or as there are backends for.
func TestPackInlineCode(t *testing.T) {
	code := erasure.Code{K: 2, M: 2}
	r := newRig(t, 4, func(o *store.Options) {
		o.Policies = func() []store.Policy { return []store.Policy{{Code: code}} }
		o.PackAfter = time.Hour
	})
	n := 0
	put := func(contents int) (o store.Object) {
		for range contents {
			n++
			o = r.put(fmt.Sprint(n), content(uint64(n), 4096))
		}
		return o
	}
	pack := func() { require.NoError(t, r.PackInline(t.Context())) }
	short := put(31)
	pack()
	require.Equal(t, erasure.Code{K: 1, M: 2}, r.packedAs(short))
	full := put(32)
	pack()
	require.Equal(t, code, r.packedAs(full))
	before := put(32)
	code = erasure.Code{K: 3, M: 1}
	pack()
	require.Equal(t, erasure.Code{K: 1, M: 2}, r.packedAs(before), "two were promised")
	after := put(48)
	pack()
	require.Equal(t, code, r.packedAs(after))
	r.cleanScrub()
}

// A content that was promised more copies than there are backends now gets fewer, rather
// than staying in the log.
func TestPackInlineFewerCopies(t *testing.T) {
	r := newRig(t, 3, func(o *store.Options) { o.Absent = []store.BackendID{{9}}; o.PackAfter = time.Hour })
	o := r.put("a", content(0, 100))
	c := r.cat.contents[o.ID]
	c.Code = erasure.Code{K: 1, M: 3} // of when the other was there
	r.cat.contents[o.ID] = c
	require.NoError(t, r.PackInline(t.Context()))
	require.Equal(t, erasure.Code{K: 1, M: 2}, r.packedAs(o))
}

// What is packed at once is bounded: in bytes, and in number, as a record is.
func TestPackInlineLimits(t *testing.T) {
	r := newRig(t, 3, func(o *store.Options) { coded(2, 1, miB)(o); o.PackAfter = time.Hour })
	const long, short = 1100, 8300
	have := func(name string, data []byte) { // as if it had been put, which takes long for so many
		id := store.ID(blake3.Sum256(data))
		r.cat.names[name] = store.Object{Name: name, ID: id, Size: int64(len(data)), Version: 1}
		r.cat.contents[id] = store.Content{ID: id, Inline: data, Size: int64(len(data)), Code: erasure.Code{K: 1, M: 1}, Refs: 1}
	}
	for i := range long {
		have(fmt.Sprint("l", i), content(uint64(i), 4096))
	}
	for i := range short {
		have(fmt.Sprint("s", i), []byte(fmt.Sprint(i)))
	}
	require.NoError(t, r.PackInline(t.Context()))
	members := map[store.UploadID]int{}
	bytes := map[store.UploadID]int64{}
	for _, c := range r.cat.contents {
		require.False(t, c.Upload.IsZero())
		members[c.Upload]++
		bytes[c.Upload] += c.Size
	}
	for u := range members {
		require.LessOrEqual(t, members[u], 8192)
		require.Less(t, bytes[u], int64(4*miB+4*kiB), "one more content than fill it")
	}
}

// While puts go on without a pause, contents are packed when 8 MiB have gathered.
func TestPackInlineBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, func(o *store.Options) { coded(2, 1, miB)(o); o.PackAfter = time.Hour })
		first := r.put("first", content(0, 4096))
		n := 1
		for ; r.isInline(first); n++ {
			require.Less(t, n, 2500, "it waits for ever")
			time.Sleep(20 * time.Millisecond)
			r.put(fmt.Sprint(n), content(uint64(n), 4096))
		}
		require.Greater(t, n, 2000, "not for each 256 KiB")
	})
}
