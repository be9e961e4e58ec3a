package store_test

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/store"
)

const (
	put0     = `"put":"00000000000000000000000000000001"`
	object0  = `{"type":"object","v":1,` + put0 + `,"name":"a/b","mode":420,"uid":0,"gid":0,"mtime":"2001-09-09T01:46:40Z","ordinal":0,"offset":0}` + "\n"
	id0      = `"b3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"`
	member0  = `{"type":"member","v":1,` + put0 + `,"name":"a","mode":0,"uid":0,"gid":0,"mtime":"2001-09-09T01:46:40Z","id":` + id0 + `,"size":3,"at":0}` + "\n"
	extent0  = `{"extent":"00000000000000000000000000000002","hash":"af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262","offset":0,"length":9}`
	extent9  = `{"extent":"00000000000000000000000000000003","hash":"af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262","offset":9,"length":1}`
	done0    = `{"type":"complete","v":1,` + put0 + `,"id":` + id0 + `,"size":10,"extents":[` + extent0 + `,` + extent9 + `]}` + "\n"
	foreign0 = `{"type":"x-note","v":7,"text":"ünknown"}` + "\n"
)

func TestManifests(t *testing.T) {
	for _, good := range []string{"", object0, object0 + done0, foreign0 + object0 + foreign0 + done0, member0, member0 + member0,
		strings.Replace(object0, `"uid"`, `"future":{"a":[1,{"b":2}]},"uid"`, 1)} {
		_, err := store.RecodeManifests([]byte(good))
		require.NoError(t, err, good)
	}
}

// badManifests are damaged, each in one way.
var badManifests = []string{
	"\n", "{}", "x\n", "[]\n", "null\n", `"object"` + "\n", "{\n", object0[:len(object0)-1], object0[:40], object0 + "garbage\n", "\xff" + object0,
	object0 + object0, member0 + object0, object0 + member0, done0, done0 + object0, object0 + done0 + done0, member0 + done0,
	strings.Replace(object0, `"v":1`, `"v":1,"v":1`, 1), strings.Replace(object0, `"mode":420`, `"mode":420,"Mode":421`, 1),
	strings.Replace(object0, `"a/b"`, `"../b"`, 1), strings.Replace(object0, `"a/b"`, `"/etc/passwd"`, 1), strings.Replace(object0, `"a/b"`, `""`, 1),
	strings.Replace(object0, `"a/b"`, `"."`, 1), strings.Replace(object0, `"a/b"`, `"`+strings.Repeat("a", store.MaxName+1)+`"`, 1),
	strings.Replace(object0, `"ordinal":0`, `"ordinal":-1`, 1), strings.Replace(object0, `,"ordinal":0`, ``, 1), strings.Replace(object0, `"offset":0`, `"offset":-1`, 1),
	strings.Replace(object0, put0, `"put":"01"`, 1), strings.Replace(object0, put0+",", ``, 1), strings.Replace(object0, `"mode":420`, `"mode":-1`, 1),
	strings.Replace(object0, `"uid":0`, `"uid":4294967296`, 1), strings.Replace(object0, `2001`, `20010`, 1),
	strings.Replace(object0, `"uid"`, `"xattrs":{"a":"`+strings.Repeat("AAAA", store.MaxXattrBytes/3+1)+`"},"uid"`, 1),
	strings.Replace(member0, `"size":3`, `"size":-3`, 1), strings.Replace(member0, `"size":3`, `"size":9223372036854775807`, 1),
	strings.Replace(member0, `"at":0`, `"at":-1`, 1), strings.Replace(member0, `,"at":0`, ``, 1), strings.Replace(member0, `"at":0`, `"at":268435454`, 1),
	strings.Replace(member0, id0, `"b3:00"`, 1), member0 + strings.Replace(member0, put0, `"put":"00000000000000000000000000000009"`, 1),
	object0 + strings.Replace(done0, put0, `"put":"00000000000000000000000000000009"`, 1), object0 + strings.Replace(done0, `"size":10`, `"size":11`, 1),
	object0 + strings.Replace(done0, extent0+",", ``, 1), object0 + strings.Replace(done0, `"offset":9`, `"offset":8`, 1), object0 + strings.Replace(done0, extent9, extent0, 1),
	object0 + strings.Replace(done0, `"length":1`, `"length":-1`, 1), object0 + strings.Replace(done0, `"length":1`, `"length":268435457`, 1),
	object0 + strings.Replace(done0, "["+extent0+","+extent9+"]", "[]", 1), object0 + strings.Replace(done0, "["+extent0+","+extent9+"]", "{}", 1),
}

func TestBadManifests(t *testing.T) { // R14
	for _, bad := range badManifests {
		_, err := store.RecodeManifests([]byte(bad))
		require.ErrorIs(t, err, store.ErrCorrupt, "%.300s", bad)
	}
	for _, future := range []string{strings.Replace(object0, `"v":1`, `"v":2`, 1), strings.Replace(member0, `"v":1`, `"v":0`, 1), object0 + strings.Replace(done0, `"v":1`, `"v":2`, 1)} {
		_, err := store.RecodeManifests([]byte(future))
		require.ErrorIs(t, err, store.ErrVersion, future)
	}
	for n := range len(object0 + done0) { // one cut off anywhere is damaged, unless a line ends there
		cut := (object0 + done0)[:n]
		_, err := store.RecodeManifests([]byte(cut))
		require.Equal(t, n == 0 || n == len(object0), err == nil, cut)
	}
}

// Lines that promise much and hold little do not make the reader allocate much
// more than there is.
func TestManifestsInBoundedMemory(t *testing.T) { // R14
	if testing.Short() {
		t.Skip("the race detector allocates as well")
	}
	const n = 4 << 20
	fill := func(s string) string { return strings.Repeat(s, n/len(s)) }
	for name, b := range map[string]string{
		"extents of nothing": object0 + strings.Replace(done0, extent0, fill("{},")+extent0, 1),
		"extents of null":    object0 + strings.Replace(done0, extent0, fill("null,")+extent0, 1),
		"members of nothing": fill(`{"type":"member","v":1}` + "\n"),
		"xattrs":             strings.Replace(object0, `"uid"`, `"xattrs":{`+fill(`"a":"",`)+`"b":""},"uid"`, 1),
		"deep":               strings.Replace(object0, `"uid"`, `"z":`+strings.Repeat("[", n)+strings.Repeat("]", n)+`,"uid"`, 1),
		"names":              strings.Replace(object0, `"uid"`, fill(`"a":1,`)+`"uid"`, 1),
		"one long string":    strings.Replace(object0, `a/b`, fill("a"), 1),
		"no end":             fill("a"),
	} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		_, err := store.RecodeManifests([]byte(b))
		runtime.ReadMemStats(&after)
		require.ErrorIs(t, err, store.ErrCorrupt, name)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(10*n), name)
	}
	_, err := store.RecodeManifests(bytes.Repeat([]byte("\n"), 64<<20+1))
	require.ErrorIs(t, err, store.ErrCorrupt, "over the limit")
}

// Times that no calendar of JSON knows, and attributes without a value, are stored,
// and the manifests are whole.
func TestOddAttributes(t *testing.T) {
	r := newRig(t, 3, coded(2, 1, miB))
	for i, when := range []time.Time{{}, time.Unix(1<<55, 0), time.Unix(-1<<55, 0), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 0, 0, 0, time.FixedZone("", -7200))} {
		data := content(uint64(i), 300_000)
		a := store.Attr{ModTime: when, Xattrs: map[string][]byte{"user.nil": nil, "user.<\"\u2028": {0, 255}}}
		o, err := r.Put(t.Context(), fmt.Sprint(i), bytes.NewReader(data), store.PutOptions{Attr: a, Expect: store.AnyVersion})
		require.NoError(t, err)
		r.reads(o, data)
		e := r.extents(o)[0]
		m, key := r.shard(&e, 0)
		in, err := store.Inspect(blobOf(m.Bytes(key)))
		require.NoError(t, err)
		_, err = store.RecodeManifests(in.Manifests)
		require.NoError(t, err)
		require.NotContains(t, string(in.Manifests), "null")
	}
}
