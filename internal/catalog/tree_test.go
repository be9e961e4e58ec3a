package catalog_test

import (
	"fmt"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/catalog"
	"github.com/blockframe/blockframe/store"
)

func (r *rig) listed(dir, after string) (out []string) {
	r.t.Helper()
	for _, o := range collect(r, r.cat.List(ctx, dir, after)) {
		out = append(out, o.Name)
	}
	return out
}

func (r *rig) walked(dir, after string) (out []string) {
	r.t.Helper()
	for _, o := range collect(r, r.cat.Walk(ctx, dir, after)) {
		out = append(out, o.Name)
	}
	return out
}

func (r *rig) versions(name string) (out []string) {
	r.t.Helper()
	for _, o := range collect(r, r.cat.Versions(ctx, name)) {
		out = append(out, fmt.Sprintf("i%d v%d del=%v", o.Inode, o.Version, o.Deleted))
	}
	return out
}

func TestListAndWalk(t *testing.T) {
	r := memRig(t)
	require.Empty(t, r.listed(".", ""))
	for i, name := range []string{"b/x", "a-b", "a/z", "a/b/c", "a.b", "c"} {
		r.ok(inline(name, name, i+1))
	}
	r.ok(catalog.Delete{Name: "c"})
	require.Equal(t, []string{"a", "a-b", "a.b", "b"}, r.listed(".", ""))
	require.Equal(t, []string{"a.b", "b"}, r.listed(".", "a-b"))
	require.Equal(t, []string{"a/b", "a/z"}, r.listed("a", ""))
	require.Equal(t, []string{"a/z"}, r.listed("a", "b"))
	whole := []string{"a", "a/b", "a/b/c", "a/z", "a-b", "a.b", "b", "b/x"}
	require.Equal(t, whole, r.walked(".", ""))
	for i, name := range whole {
		require.Equal(t, append([]string(nil), whole[i+1:]...), append([]string(nil), r.walked(".", name)...), "after %q", name)
	}
	require.Equal(t, []string{"a/b/c", "a/z"}, r.walked("a", "a/b"))
	require.Equal(t, []string{"a/z"}, r.walked("a", "a/bb"), "a name that is not there")
	for _, bad := range []string{"nope", "../x"} {
		for _, err := range r.cat.List(ctx, bad, "") {
			require.Error(t, err)
		}
	}
	for _, err := range r.cat.List(ctx, "a-b", "") {
		require.ErrorIs(t, err, fs.ErrInvalid)
	}
	var all []string
	for _, o := range collect(r, r.cat.ListAll(ctx, ".", "a.b")) {
		all = append(all, fmt.Sprint(o.Name, o.Deleted))
	}
	require.Equal(t, []string{"bfalse", "ctrue"}, all)
}

func TestRename(t *testing.T) {
	r := memRig(t)
	r.ok(inline("a/b/c", "1", 1))
	inode := r.object("a/b/c", 0).Inode
	r.ok(catalog.Rename{From: "a/b/c", To: "x/y"})
	r.absent("a/b/c")
	require.Equal(t, inode, r.object("x/y", 0).Inode, "the inode survives")
	r.ok(inline("x/y", "2", 2))
	require.Equal(t, uint64(2), r.object("x/y", 0).Version)
	require.False(t, r.ok(catalog.Rename{From: "x/y", To: "x/y"}).Changed)
	r.refused(fs.ErrExist, catalog.Rename{From: "x/y", To: "a/b"})
	r.refused(fs.ErrNotExist, catalog.Rename{From: "nope", To: "z"})
	r.refused(fs.ErrInvalid, catalog.Rename{From: "x", To: "x/in/itself"})
	r.refused(fs.ErrInvalid, catalog.Rename{From: "a", To: "x/y/z"})

	// A directory moves with all that is in it.
	r.ok(catalog.Rename{From: "x", To: "a/b/q"})
	require.Equal(t, idOf("2"), r.object("a/b/q/y", 0).ID)
	require.Equal(t, []string{fmt.Sprintf("i%d v2 del=false", inode), fmt.Sprintf("i%d v1 del=false", inode)}, r.versions("a/b/q/y"))
	o, err := r.cat.Inode(ctx, inode)
	require.NoError(t, err)
	require.Equal(t, "a/b/q/y", o.Name)
}

// TestParked keeps a deleted history where another name comes.
func TestParked(t *testing.T) {
	r := memRig(t)
	r.ok(inline("n", "old", 1))
	old := r.object("n", 0).Inode
	r.ok(catalog.Delete{Name: "n"})
	r.ok(inline("m", "new", 2))
	now := r.object("m", 0).Inode
	r.ok(catalog.Rename{From: "m", To: "n"})
	require.Equal(t, []string{fmt.Sprintf("i%d v1 del=false", now), fmt.Sprintf("i%d v2 del=true", old), fmt.Sprintf("i%d v1 del=false", old)}, r.versions("n"))
	require.Equal(t, idOf("new"), r.object("n", 1).ID)
	require.Equal(t, idOf("old"), must(r.cat.Content(ctx, idOf("old"))).ID)
	r.ok(catalog.Rename{From: "n", To: "elsewhere"})
	r.absent("n")
	require.Equal(t, old, r.object("n", 0).Inode, "the marker of the one put aside")
	res := r.ok(catalog.Purge{Name: "n", All: true})
	require.Zero(t, res.Number)
	_, err := r.cat.Content(ctx, idOf("old"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	r.object("elsewhere", 0)
}

func TestDirectories(t *testing.T) {
	r := memRig(t)
	attr := store.Attr{Mode: 0o700, UID: 5}
	o := r.ok(catalog.Mkdir{Name: "d", Attr: attr}).Object
	require.Equal(t, fs.ModeDir|0o700, o.Mode)
	require.Equal(t, o, r.object("d", 0))
	r.refused(fs.ErrExist, catalog.Mkdir{Name: "d"})
	require.False(t, r.ok(catalog.Mkdir{Name: "d", Parents: true}).Changed)
	r.refused(fs.ErrNotExist, catalog.Mkdir{Name: "x/y"})
	r.absent("x")
	r.ok(catalog.Mkdir{Name: "x/y", Parents: true})
	r.ok(inline("f", "1", 1))
	r.refused(fs.ErrInvalid, catalog.Mkdir{Name: "f/y", Parents: true})
	r.refused(fs.ErrExist, catalog.Mkdir{Name: "f", Parents: true})
	r.refused(fs.ErrInvalid, catalog.Mkdir{Name: "z", Attr: store.Attr{Mode: fs.ModeSymlink}})
	r.refused(fs.ErrInvalid, catalog.Rmdir{Name: "f"})
	r.refused(fs.ErrInvalid, catalog.Delete{Name: "d"})
	r.refused(catalog.ErrNotEmpty, catalog.Rmdir{Name: "x"})

	// A history does not keep a directory from going, and comes back with it.
	r.ok(inline("d/n", "2", 2))
	r.refused(catalog.ErrNotEmpty, catalog.Rmdir{Name: "d"})
	r.ok(catalog.Delete{Name: "d/n"})
	r.ok(catalog.Rmdir{Name: "d"})
	r.absent("d")
	require.Len(t, r.versions("d/n"), 2)
	require.Equal(t, idOf("2"), r.object("d/n", 1).ID)
	r.ok(inline("d", "a file now", 3))
	require.Len(t, r.versions("d/n"), 2, "below what was put aside")
	r.ok(catalog.Purge{Name: "d/n", All: true})
	r.ok(catalog.Purge{Name: "d", All: true})
	r.ok(catalog.Rmdir{Name: "x/y"})
	r.ok(catalog.Rmdir{Name: "x"})
	r.ok(catalog.Purge{Name: "f", All: true})
	require.Equal(t, catalog.Counts{}, r.cat.Counts(), "nothing is left behind")
	rows := 0
	require.NoError(t, r.cat.Settle())
	for row, err := range r.cat.View().Scan(nil, nil) {
		require.NoError(t, err)
		require.Contains(t, "mn", string(row.Key[:1]))
		rows++
	}
	require.Equal(t, 2, rows, "the meta row and the root")
}

func TestSymlinkAndSetAttr(t *testing.T) {
	r := memRig(t)
	link := store.Attr{Mode: 0o777, Target: "../elsewhere"}
	o := r.ok(catalog.Symlink{Name: "l", Attr: link}).Object
	require.Equal(t, fs.ModeSymlink|0o777, o.Mode)
	require.Equal(t, "../elsewhere", r.object("l", 0).Target)
	require.False(t, r.ok(catalog.Symlink{Name: "l", Attr: link}).Changed)
	link.Target = "other"
	r.refused(fs.ErrExist, catalog.Symlink{Name: "l", Attr: link})
	r.refused(fs.ErrInvalid, catalog.Symlink{Name: "k"})
	r.refused(fs.ErrInvalid, inline("l/below", "x", 9))
	r.ok(inline("l", "a file", 1)) // another version
	require.Equal(t, uint64(2), r.object("l", 0).Version)

	attr := store.Attr{Mode: fs.ModeSetuid | 0o700, UID: 1, GID: 2, ModTime: baseTime.UTC(), Xattrs: map[string][]byte{"user.a": {1}}}
	before := r.object("l", 0)
	o = r.ok(catalog.SetAttr{Name: "l", Mask: catalog.SetMode | catalog.SetXattrs, Attr: attr}).Object
	require.Equal(t, attr.Mode, o.Mode)
	require.Equal(t, before.UID, o.UID)
	require.Equal(t, attr.Xattrs, o.Xattrs)
	require.Equal(t, before.Version, o.Version, "in place")
	require.False(t, r.ok(catalog.SetAttr{Name: "l", Mask: catalog.SetMode, Attr: attr}).Changed)
	r.ok(catalog.Mkdir{Name: "d"})
	o = r.ok(catalog.SetAttr{Name: "d", Mask: 31, Attr: attr}).Object
	require.Equal(t, fs.ModeDir|attr.Mode, o.Mode)
	require.Equal(t, o, r.object("d", 0))
	r.refused(fs.ErrNotExist, catalog.SetAttr{Name: "nope"})
}

// TestPurgeLimit drops a long history in steps, the current version last.
func TestPurgeLimit(t *testing.T) {
	r := memRig(t)
	var rec store.Record
	for i := range catalog.PurgeLimit + 10 {
		p := inline("n", "same", i+1)
		p.Attr.UID = uint32(i)
		rec.Commands = append(rec.Commands, p)
		if len(rec.Commands) == 1000 || i == catalog.PurgeLimit+9 {
			_, err := r.cat.Commit(ctx, rec)
			require.NoError(t, err)
			rec.Commands = nil
		}
	}
	require.Equal(t, uint64(catalog.PurgeLimit+10), r.content("same").Refs)
	require.Equal(t, uint64(10), r.ok(catalog.Purge{Name: "n", All: true}).Number)
	require.Equal(t, uint64(catalog.PurgeLimit+10), r.object("n", 0).Version)
	require.Zero(t, r.ok(catalog.Purge{Name: "n", All: true}).Number)
	r.refused(fs.ErrNotExist, catalog.Purge{Name: "n", All: true})
	require.Zero(t, r.cat.Counts().Versions)
}

func TestSettings(t *testing.T) {
	r := memRig(t)
	gold := store.Policy{Name: "gold", Prefix: "g/", MaxSize: 5}
	r.ok(catalog.SetPolicy{Policy: gold})
	require.False(t, r.ok(catalog.SetPolicy{Policy: gold}).Changed)
	rest := store.Policy{Name: "rest", Prefix: "g/"}
	r.ok(catalog.SetPolicy{Policy: rest})
	r.ok(catalog.SetPolicy{Policy: store.Policy{Name: "all"}})
	require.Equal(t, []store.Policy{{Name: "all"}, rest, gold}, must(r.cat.Policies(ctx)))
	require.True(t, r.ok(catalog.UnsetPolicy{Prefix: "g/"}).Changed)
	require.False(t, r.ok(catalog.UnsetPolicy{Prefix: "g/"}).Changed)
	require.Len(t, must(r.cat.Policies(ctx)), 1)

	list := []catalog.Backend{{ID: bid(2), Path: "/b"}, {ID: bid(1), Path: "/a"}}
	r.ok(catalog.SetBackends{Backends: list})
	require.Equal(t, list, must(r.cat.Backends(ctx)))
	r.ok(catalog.SetBackends{Backends: list[:1]})
	require.Equal(t, list[:1], must(r.cat.Backends(ctx)))

	require.Nil(t, must(r.cat.State(ctx, "k")))
	require.True(t, r.ok(store.SetState{Key: "k", Value: []byte("v")}).Changed)
	require.False(t, r.ok(store.SetState{Key: "k", Value: []byte("v")}).Changed)
	require.Equal(t, "v", string(must(r.cat.State(ctx, "k"))))
	r.ok(store.SetState{Key: "k"})
	require.Nil(t, must(r.cat.State(ctx, "k")))
	r.refused(fs.ErrInvalid, store.SetState{})

	_, err := r.cat.LastScrub(ctx, true)
	require.ErrorIs(t, err, fs.ErrNotExist)
	pass := store.Scrubbed{Deep: true, Began: baseTime.UTC(), Extents: 3}
	r.ok(pass)
	require.Equal(t, pass, must(r.cat.LastScrub(ctx, true)))
}

// TestRepairQueue orders by what is left, then by age, and coalesces.
func TestRepairQueue(t *testing.T) {
	r := memRig(t)
	e := r.epoch()
	r.ok(located("a", "A", 1<<20, 1, e))
	r.ok(located("b", "B", 1<<20, 2, e))
	report := func(extent, shard, left int, stripes ...byte) store.Report {
		return store.Report{Damage: []store.Repair{{Extent: eid(extent), Shard: shard, Left: left, Stripes: stripes}}}
	}
	queue := func() (out []string) {
		for _, q := range collect(r, r.cat.Repairs(ctx)) {
			out = append(out, fmt.Sprintf("%d/%d left %d %x", q.Extent[15], q.Shard, q.Left, q.Stripes))
		}
		return out
	}
	require.True(t, r.ok(report(1, 0, 1, 1)).Changed)
	require.False(t, r.ok(report(1, 0, 1, 1)).Changed)
	require.True(t, r.ok(report(1, 0, 1, 4)).Changed)
	r.ok(report(2, 1, 0))
	r.ok(store.Report{Damage: []store.Repair{{Backend: bid(3), Left: -1}}})
	require.False(t, r.ok(report(9, 0, 0)).Changed, "an extent that is gone")
	require.False(t, r.ok(report(1, 1, 0, 0)).Changed, "nothing bad")
	r.refused(fs.ErrInvalid, report(1, 3, 0))
	r.refused(fs.ErrInvalid, report(1, 0, 0, 0, 1)) // 8 stripes
	require.Equal(t, []string{"0/0 left -1 ", "2/1 left 0 ", "1/0 left 1 05"}, queue())
	require.Len(t, must(r.cat.Queued(ctx, eid(1))), 1)
	require.Equal(t, []byte{5}, must(r.cat.Queued(ctx, eid(1)))[0].Stripes)
	require.Equal(t, 1, must(r.cat.Queued(ctx, eid(2)))[0].Shard)
	require.Empty(t, must(r.cat.Queued(ctx, eid(0))))
	r.ok(report(1, 0, -1)) // all of it now, and urgent; as old as before
	require.Equal(t, []string{"1/0 left -1 ", "0/0 left -1 ", "2/1 left 0 "}, queue())

	to := store.Shard{Backend: bid(9), Generation: 1}
	require.True(t, r.ok(store.Replace{Extent: eid(1), Shard: 0, To: to}).Changed)
	require.False(t, r.ok(store.Replace{Extent: eid(1), Shard: 0, To: to}).Changed, "a repetition")
	to.Backend = bid(8)
	r.refused(catalog.ErrConflict, store.Replace{Extent: eid(1), Shard: 0, To: to})
	to.Generation = 2
	r.refused(catalog.ErrConflict, store.Replace{Extent: eid(1), Shard: 0, To: to})
	r.ok(store.Replace{Extent: eid(1), Shard: 0, From: 1, To: to})
	require.Equal(t, to, must(r.cat.Extent(ctx, eid(1))).Shards[0])
	r.refused(catalog.ErrConflict, store.Intact{Extent: eid(2), Shard: 1, Generation: 1})
	require.True(t, r.ok(store.Intact{Extent: eid(2), Shard: 1}).Changed)
	require.True(t, r.ok(store.Intact{Backend: bid(3)}).Changed)
	require.False(t, r.ok(store.Intact{Backend: bid(3)}).Changed)
	require.Empty(t, queue())
	require.Zero(t, r.cat.Counts().Repairs)
}

// TestPackAndOwners moves tiny contents, and tells whose a byte of a pack is.
func TestPackAndOwners(t *testing.T) {
	r := memRig(t)
	r.epoch()
	r.ok(inline("a", "one", 1))
	r.ok(inline("b", "two", 2))
	r.ok(inline("c/d", "one", 3))
	r.ok(inline("gone", "three", 4))
	r.ok(catalog.Purge{Name: "gone", All: true})
	pack := store.Pack{Extent: packOf(5), Members: []store.Member{{ID: idOf("one"), Offset: 10, Size: 3}, {ID: idOf("two"), Offset: 13, Size: 3}, {ID: idOf("three"), Offset: 16, Size: 5}}}
	require.True(t, r.ok(pack).Changed)
	require.False(t, r.ok(pack).Changed, "a repetition")
	require.Empty(t, collect(r, r.cat.Inline(ctx)))
	c := r.content("one")
	require.Equal(t, uid(5), c.Upload)
	require.Equal(t, int64(10), c.Offset)
	require.Equal(t, uint64(2), r.upload(5).Refs, "contents")
	owners := func(lo, hi int64) (out []string) {
		for _, o := range collect(r, r.cat.Owners(ctx, uid(5), lo, hi)) {
			out = append(out, o.Object.Name)
		}
		return out
	}
	require.Equal(t, []string{"a", "c/d", "b"}, owners(0, 100))
	require.Equal(t, []string{"a", "c/d"}, owners(12, 13))
	require.Equal(t, []string{"b"}, owners(13, 14))
	require.Equal(t, []string{"b"}, owners(15, 16))
	require.Empty(t, owners(16, 100))
	require.Empty(t, owners(0, 10))
	require.Empty(t, owners(5, 5))

	// One that nobody wants any more is condemned at once.
	pack = store.Pack{Extent: packOf(6), Members: []store.Member{{ID: idOf("one"), Size: 3}}}
	require.False(t, r.ok(pack).Changed)
	require.True(t, r.ok(store.Kill{Upload: uid(6)}).Changed)
}
