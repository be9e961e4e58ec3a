package catalog_test

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/internal/catalog"
	"github.com/blockframe/blockframe/store"
)

func TestPutInline(t *testing.T) {
	r := memRig(t)
	res := r.ok(inline("a/b/c", "hello", 1))
	require.True(t, res.Changed)
	o := r.object("a/b/c", 0)
	require.Equal(t, res.Object, o)
	require.Equal(t, uint64(1), o.Version)
	require.Equal(t, idOf("hello"), o.ID)
	require.Equal(t, "hello", string(r.content("hello").Inline))
	require.Equal(t, fs.ModeDir|0o755, r.object("a/b", 0).Mode, "directories above are made")
	r.reopen()
	require.Equal(t, o, r.object("a/b/c", 0))
	require.Equal(t, "hello", string(r.content("hello").Inline))

	// The empty object has no bytes to keep.
	r.ok(inline("empty", "", 2))
	require.Nil(t, r.content("").Inline)
	require.Equal(t, uint64(1), r.content("").Refs)
	for c, err := range r.cat.Inline(ctx) {
		require.NoError(t, err)
		require.Equal(t, idOf("hello"), c.Content.ID)
	}
}

func TestPutLocated(t *testing.T) {
	r := memRig(t)
	e := r.epoch()
	p := located("big", "B", 1<<20, 1, e)
	res := r.ok(p)
	require.True(t, res.Changed)
	c := r.content("B")
	require.Equal(t, store.Content{ID: idOf("B"), Size: 1 << 20, Refs: 1, Code: p.Code, Upload: uid(1)}, c)
	u := r.upload(1)
	require.Equal(t, store.Upload{ID: uid(1), State: store.UploadLive, Refs: 1, Epoch: e, Extents: 1, Length: 1 << 20}, u)
	x, err := r.cat.ExtentAt(ctx, uid(1), 0)
	require.NoError(t, err)
	require.Equal(t, p.Extents[0], x)
	x, err = r.cat.Extent(ctx, eid(1))
	require.NoError(t, err)
	require.Equal(t, p.Extents[0], x)
	_, err = r.cat.ExtentAt(ctx, uid(1), 1)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// TestPutAgain is R8: the same object again is success, and nothing more.
func TestPutAgain(t *testing.T) {
	r := memRig(t)
	e := r.epoch()
	first := r.ok(located("x", "X", 500, 1, e)).Object
	before := r.cat.Counts()

	// The same upload: a retry.
	res := r.ok(located("x", "X", 500, 1, e))
	require.False(t, res.Changed)
	require.Equal(t, first, res.Object)

	// Another upload of the same: a duplicate, which may go at once.
	res = r.ok(located("x", "X", 500, 2, e))
	require.False(t, res.Changed)
	require.Equal(t, first, res.Object)
	require.Equal(t, uid(1), r.content("X").Upload)
	u := r.upload(2)
	require.Equal(t, store.UploadCondemned, u.State)
	require.False(t, u.Until.After(r.cat.LogTime()))
	require.True(t, r.ok(store.Kill{Upload: uid(2)}).Changed)
	require.True(t, r.ok(store.Forget{Upload: uid(2)}).Changed)
	require.Equal(t, before, r.cat.Counts())

	// Other metadata is another version of the same content.
	p := located("x", "X", 500, 3, e)
	p.Attr.Mode = 0o600
	res = r.ok(p)
	require.True(t, res.Changed)
	require.Equal(t, uint64(2), res.Object.Version)
	require.Equal(t, uint64(2), r.content("X").Refs)
	require.Equal(t, uint64(1), r.upload(1).Refs, "one content")
	require.Equal(t, uint64(0), r.upload(3).Refs)

	// T2: under another name it is stored once.
	r.ok(located("y", "X", 500, 4, e))
	require.Equal(t, uint64(3), r.content("X").Refs)
}

// TestABA ends at A, in whatever way the three puts came.
func TestABA(t *testing.T) {
	for _, each := range []bool{false, true} {
		r := memRig(t)
		for i, c := range []string{"A", "B", "A"} {
			require.Equal(t, uint64(i+1), r.ok(inline("n", c, i+1)).Object.Version)
		}
		require.Equal(t, idOf("A"), r.object("n", 0).ID)
		require.Equal(t, idOf("B"), r.object("n", 2).ID)

		// In one record, and in one pack.
		rec := store.Record{Each: each, Commands: []store.Command{inline("m", "A", 9), inline("m", "B", 9), inline("m", "A", 9)}}
		for range 2 {
			_, err := r.cat.Commit(ctx, rec)
			require.NoError(t, err)
			require.Equal(t, idOf("A"), r.object("m", 0).ID)
		}
	}
}

func TestPutWeakerOrDistrusted(t *testing.T) {
	r := memRig(t)
	e := r.epoch()
	r.ok(located("x", "X", 500, 1, e))
	r.ok(located("y", "X", 500, 2, e))

	// Found damaged by the putter: the content moves, for both names, and no
	// version is added.
	p := located("x", "X", 500, 3, e)
	p.Distrust = uid(1)
	res := r.ok(p)
	require.True(t, res.Changed)
	require.Equal(t, uint64(1), res.Object.Version)
	require.Equal(t, uid(3), r.content("X").Upload)
	require.Equal(t, store.UploadLive, r.upload(3).State)
	u := r.upload(1)
	require.Equal(t, store.UploadCondemned, u.State, "the last evidence is kept for the grace")
	require.Equal(t, r.cat.Grace(), u.Until.Sub(r.cat.LogTime()))
	require.False(t, r.ok(store.Kill{Upload: uid(1)}).Changed)

	// The retry finds it done.
	require.False(t, r.ok(p).Changed)

	// A stronger code moves it again, under a new name.
	p = located("z", "X", 500, 4, e)
	p.Code = erasure.Code{K: 2, M: 2}
	p.Extents[0].Code = p.Code
	p.Extents[0].Shards = append(p.Extents[0].Shards, store.Shard{Backend: bid(4)})
	require.True(t, r.ok(p).Changed)
	require.Equal(t, p.Code, r.content("X").Code)
	require.Equal(t, uid(4), r.content("X").Upload)

	// A weaker one does not move it back.
	r.ok(located("zz", "X", 500, 5, e))
	require.Equal(t, uid(4), r.content("X").Upload)
	require.Equal(t, uint64(4), r.content("X").Refs)

	// Nor does one that lacks a shard, but one that lacks none moves what does.
	strong := func(upload int, missing int) store.Put {
		p := located("q", "Q", 500, upload, e)
		p.Extents[0].Code = erasure.Code{K: 2, M: 2}
		p.Extents[0].Shards = append(p.Extents[0].Shards, store.Shard{Backend: bid(4)})
		if missing >= 0 {
			p.Extents[0].Shards[missing].Missing = true
		}
		return p
	}
	r.ok(strong(6, 1))
	require.Equal(t, uint64(1), r.cat.Counts().Repairs)
	require.False(t, r.ok(strong(7, 2)).Changed)
	require.True(t, r.ok(strong(8, -1)).Changed)
	require.Equal(t, uid(8), r.content("Q").Upload)
}

func TestExpect(t *testing.T) {
	r := memRig(t)
	with := func(expect int64, upload int) store.Put {
		p := inline("n", fmt.Sprint(upload), upload)
		p.Expect = expect
		return p
	}
	r.refused(catalog.ErrConflict, with(1, 1))
	r.ok(with(0, 2))
	r.refused(catalog.ErrConflict, with(0, 3))
	r.refused(catalog.ErrConflict, with(2, 4))
	r.ok(with(1, 5))
	r.ok(with(1, 5)) // a retry
	r.ok(catalog.Delete{Name: "n"})
	r.ok(with(0, 6))
	r.refused(catalog.ErrConflict, catalog.Delete{Name: "n", Expect: 3})
	r.ok(catalog.Delete{Name: "n", Expect: 4})
	r.ok(with(5, 7))
}

// TestHostileNames is R14: every one is refused, with the reason.
func TestHostileNames(t *testing.T) {
	long := strings.Repeat("c", store.MaxComponent+1)
	bad := map[string]string{
		"": "empty", ".": "root", "..": "dot", "../x": "dot", "../../x": "dot", "/etc/x": "slash", "a/": "slash", "a//b": "empty component",
		"a/./b": "dot", "a/../b": "dot", "a\x00b": "NUL", "a\xffb": "UTF-8", "\xc0\xaf": "UTF-8", long: "256 bytes", "a/" + long + "/b": "256 bytes",
		"lost+found": "reserved", "lost+found/a": "reserved", ".versions": "reserved", ".versions/x": "reserved",
	}
	r := memRig(t)
	for name, reason := range bad {
		for _, c := range []store.Command{inline(name, "x", 1), catalog.Delete{Name: name}, catalog.Purge{Name: name, All: true},
			catalog.Mkdir{Name: name}, catalog.Rmdir{Name: name}, catalog.Symlink{Name: name, Attr: store.Attr{Target: "t"}},
			catalog.SetAttr{Name: name}, catalog.Hold{Name: name}, catalog.Retain{Name: name, Until: r.now},
			catalog.Rename{From: name, To: "x"}} {
			err := r.do(c).Err
			if strings.HasPrefix(name, "lost+found") && errors.Is(err, fs.ErrNotExist) {
				continue // what a rebuild put there may be looked at, changed and removed
			}
			require.ErrorIs(t, err, fs.ErrInvalid, "%T %q", c, name)
			require.ErrorContains(t, err, reason, "%T %q", c, name)
		}
		_, err := r.cat.Object(ctx, name, 0)
		if name != "." && !strings.HasPrefix(name, "lost+found") {
			require.ErrorIs(t, err, fs.ErrInvalid)
		}
	}
	r.ok(inline("ok", "x", 1))
	for name := range bad {
		r.refused(fs.ErrInvalid, catalog.Rename{From: "ok", To: name})
	}
	_, err := r.cat.Commit(ctx, store.Record{Commands: []store.Command{inline(strings.Repeat("a/", store.MaxName/2)+"a", "x", 1)}})
	require.ErrorIs(t, err, fs.ErrInvalid)

	// And these are fine.
	for i, name := range []string{"a b", "#?%", "ünïcödé", "x/lost+found", "x/.versions", ".hidden", "...", `back\slash`, "new\nline",
		strings.Repeat("c", store.MaxComponent), strings.Repeat("d/", store.MaxName/2-1) + "dd"} {
		r.ok(inline(name, "x", 10+i))
		require.Equal(t, name, r.object(name, 0).Name)
	}

	// A name below an object is refused, naming the object.
	err = r.do(inline("a b/c/d", "x", 99)).Err
	require.ErrorIs(t, err, fs.ErrInvalid)
	require.ErrorContains(t, err, `"a b" is an object`)
	r.refused(fs.ErrExist, inline("x", "x", 100)) // a directory
}

// TestRefusedRecord takes nothing from a record of which one command is refused,
// unless each is for itself.
func TestRefusedRecord(t *testing.T) {
	r := memRig(t)
	rec := store.Record{Commands: []store.Command{inline("a", "1", 1), inline("../b", "2", 2), inline("c", "3", 3)}}
	res, err := r.cat.Commit(ctx, rec)
	require.NoError(t, err)
	for _, res := range res {
		require.ErrorIs(t, res.Err, fs.ErrInvalid)
	}
	r.absent("a")
	r.absent("c")
	require.Equal(t, catalog.Counts{}, r.cat.Counts())

	rec.Each = true
	res, err = r.cat.Commit(ctx, rec)
	require.NoError(t, err)
	require.NoError(t, res[0].Err)
	require.ErrorIs(t, res[1].Err, fs.ErrInvalid)
	require.NoError(t, res[2].Err)
	r.object("a", 0)
	r.object("c", 0)
}

// TestMultiExtent records extents first, then puts.
func TestMultiExtent(t *testing.T) {
	r := memRig(t)
	e := r.epoch()
	r.ok(store.AddExtent{Extent: extent(1, 1, 0, 0, store.MaxExtent, e)})
	require.Equal(t, store.UploadOpen, r.upload(1).State)
	require.False(t, r.ok(store.AddExtent{Extent: extent(1, 1, 0, 0, store.MaxExtent, e)}).Changed, "a retry")
	r.refused(catalog.ErrConflict, store.AddExtent{Extent: extent(1, 1, 0, 0, 5, e)})
	r.refused(fs.ErrInvalid, store.AddExtent{Extent: extent(2, 1, 2, store.MaxExtent, 10, e)})
	r.refused(fs.ErrInvalid, store.AddExtent{Extent: extent(2, 1, 1, store.MaxExtent+1, 10, e)})
	r.refused(catalog.ErrExpired, store.AddExtent{Extent: extent(2, 2, 1, store.MaxExtent, 10, e)})
	r.refused(fs.ErrInvalid, store.AddExtent{Extent: extent(3, 3, 0, 0, 10, e+1)})
	p := store.Put{Name: "huge", ID: idOf("H"), Size: store.MaxExtent + 10, Upload: uid(1), Code: erasure.Code{K: 2, M: 1}, Expect: store.AnyVersion}
	r.refused(fs.ErrInvalid, p) // an extent is not there yet
	p.Extents = []store.Extent{extent(2, 1, 1, store.MaxExtent, 10, e)}
	r.ok(p)
	require.Equal(t, 2, r.upload(1).Extents)
	r.refused(catalog.ErrConflict, store.AddExtent{Extent: extent(9, 1, 2, store.MaxExtent+10, 10, e)})
}
