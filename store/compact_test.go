package store_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/mem"
)

// packed puts contents of some sizes as one pack.
func (r *rig) packed(name string, sizes ...int) (objs []store.Object) {
	r.t.Helper()
	b := r.NewBatch(r.t.Context())
	for i, n := range sizes {
		require.NoError(r.t, b.Put(fmt.Sprint(name, i), bytes.NewReader(content(uint64(i*256)+uint64(name[0]), n)), store.PutOptions{Attr: attr, Expect: store.AnyVersion}))
	}
	res, err := b.Commit()
	require.NoError(r.t, err)
	for _, x := range res {
		objs = append(objs, x.Object)
	}
	return objs
}

// drop takes the one reference to a content away.
func (r *rig) drop(objs ...store.Object) {
	r.t.Helper()
	r.cat.mu.Lock()
	defer r.cat.mu.Unlock()
	for _, o := range objs {
		k := r.cat.contents[o.ID]
		k.Refs--
		r.cat.contents[o.ID] = k
		delete(r.cat.names, o.Name)
	}
}

func (r *rig) compact() store.CompactReport {
	r.t.Helper()
	rep, err := r.Compact(r.t.Context(), store.CompactOptions{})
	require.NoError(r.t, err)
	return rep
}

func sizes(n, each int) []int { return slices.Repeat([]int{each}, n) }

// A pack of which half is referred to no more is written anew without that, while readers
// have it open; another pass finds nothing to do, and a collection the old pack.
func TestCompactWaste(t *testing.T) {
	r := newRig(t, 4, uncached(2, 2, miB))
	objs := r.packed("a", sizes(20, 50_000)...)
	kept := r.packed("k", sizes(20, 50_000)...)
	gone, stay := objs[:13], objs[13:]
	require.Zero(t, r.compact().Emptied)
	rd := r.open(stay[0])
	old := r.extents(stay[0])[0]
	r.drop(gone...)

	dry, err := r.Compact(t.Context(), store.CompactOptions{DryRun: true})
	require.NoError(t, err)
	require.EqualValues(t, 1, dry.Emptied)
	require.Zero(t, dry.Written)
	rep := r.compact()
	require.Equal(t, dry.Waste, rep.Waste)
	require.Greater(t, rep.Waste, int64(13*50_000))
	require.EqualValues(t, 27*50_000, rep.Live)
	rep.Waste, rep.Bytes, rep.Live, rep.Stored = 0, 0, 0, 0
	require.Equal(t, store.CompactReport{Packs: 2, Emptied: 1, Written: 1, Contents: 7, Moved: 7 * 50_000}, rep)
	for i, o := range stay {
		require.NotEqual(t, old.ID, r.extents(o)[0].ID)
		require.Equal(t, erasure.Code{K: 2, M: 2}, r.extents(o)[0].Code)
		r.reads(o, content(uint64(i+13)*256+'a', 50_000))
	}
	got := make([]byte, 50_000)
	_, err = rd.ReadAt(got, 0)
	require.NoError(t, err, "who has it open reads on")
	require.True(t, bytes.Equal(content(13*256+'a', 50_000), got))

	require.Zero(t, r.compact().Emptied, "there is no more to gain")
	r.cat.dead[old.Upload] = true
	_, err = r.Collect(t.Context(), store.CollectOptions{})
	require.NoError(t, err)
	_, err = rd.ReadAt(got, 0)
	require.NoError(t, err)
	require.NoError(t, rd.Close())
	for i, o := range kept {
		r.reads(o, content(uint64(i)*256+'k', 50_000))
	}
	r.cleanScrub()
	e := r.extents(stay[0])[0]
	m, key := r.shard(&e, 3)
	in, err := store.Inspect(blobOf(m.Bytes(key)))
	require.NoError(t, err)
	for _, o := range stay {
		require.Contains(t, string(in.Manifests), fmt.Sprintf("%q", o.Name), "the pack names what is in it")
	}
}

// Small packs go together once they make a large one, in the code of their policy; less is
// left as it is.
func TestCompactSmall(t *testing.T) {
	r := newRig(t, 4, coded(2, 2, miB))
	var objs []store.Object
	fill := func(n int) {
		for range n {
			i := len(objs)
			objs = append(objs, r.put(fmt.Sprint(i), content(uint64(i), 250_000)))
		}
	}
	fill(60)
	require.Zero(t, r.compact().Emptied)
	fill(10)
	require.Equal(t, erasure.Code{K: 1, M: 2}, r.extents(objs[0])[0].Code)
	rep := r.compact()
	require.EqualValues(t, 70, rep.Contents)
	require.EqualValues(t, 1, rep.Written)
	for i, o := range objs {
		e := r.extents(o)[0]
		require.Equal(t, erasure.Code{K: 2, M: 2}, e.Code)
		require.LessOrEqual(t, e.Length, int64(store.MaxPack))
		if i%7 == 0 {
			r.reads(o, content(uint64(i), 250_000))
		}
	}
	fill(5)
	require.Zero(t, r.compact().Emptied, "the large one is left alone")
	r.cleanScrub()
}

// What was lost stays where it is, and keeps nothing else from being moved; so does what
// was put elsewhere meanwhile.
func TestCompactDamaged(t *testing.T) {
	r := newRig(t, 4, uncached(2, 2, miB))
	objs := r.packed("a", sizes(10, 100_000)...)
	r.drop(slices.Concat(objs[:1], objs[2:5], objs[6:8], objs[9:])...)
	lost := objs[5]
	e := r.extents(lost)[0]
	at := r.cat.contents[lost.ID].Offset
	stripe := int(at / (2 * blk))
	for i := range 3 {
		m, key := r.shard(&e, i)
		m.Flip(key, int64(page+stripe*blk+9), 1)
	}
	rep := r.compact()
	require.EqualValues(t, 1, rep.Failed)
	require.EqualValues(t, 2, rep.Contents)
	require.Zero(t, rep.Emptied)
	require.Zero(t, r.compact().Contents, "it is not tried again and again")
	require.Equal(t, e.ID, r.extents(lost)[0].ID)
	for _, i := range []int{1, 8} {
		require.NotEqual(t, e.ID, r.extents(objs[i])[0].ID)
		r.reads(objs[i], content(uint64(i)*256+'a', 100_000))
	}
}

// A backend that fails, or a catalog that refuses, leaves everything as it was.
func TestCompactFails(t *testing.T) {
	r := newRig(t, 4, uncached(2, 2, miB))
	objs := r.packed("a", sizes(10, 100_000)...)
	r.drop(objs[:7]...)
	blobs := r.blobs()
	for _, m := range r.mems[1:] {
		m.SetFault(func(op mem.Op) *mem.Fault {
			if op.Kind == mem.Commit {
				return &mem.Fault{Arm: mem.Before, Err: errBroken}
			}
			return nil
		})
	}
	_, err := r.Compact(t.Context(), store.CompactOptions{})
	require.ErrorIs(t, err, errBroken)
	for _, m := range r.mems {
		m.SetFault(nil)
	}
	require.Equal(t, blobs, r.blobs())
	for i, o := range objs[7:] {
		r.reads(o, content(uint64(i+7)*256+'a', 100_000))
	}
	require.EqualValues(t, 3, r.compact().Contents)
	r.cleanScrub()
}

// Packs of tiny contents are as large as a record lets them be long before they have
// 16 MiB: the next pass leaves them alone.
func TestCompactTiny(t *testing.T) {
	r := newRig(t, 4, coded(2, 2, miB))
	var objs []store.Object
	for i := range 4 {
		b := r.NewBatch(t.Context())
		for j := range 3000 {
			require.NoError(t, b.Put(fmt.Sprint(i, "/", j), bytes.NewReader(fmt.Appendf(nil, "%d %d %300d", i, j, 0)), store.PutOptions{Expect: store.AnyVersion}))
		}
		res, err := b.Commit()
		require.NoError(t, err)
		for _, x := range res {
			objs = append(objs, x.Object)
		}
	}
	rep := r.compact()
	require.EqualValues(t, 4, rep.Emptied)
	require.EqualValues(t, 2, rep.Written)
	require.EqualValues(t, 12_000, rep.Contents)
	require.Zero(t, r.compact().Emptied)
	for i := 0; i < len(objs); i += 999 {
		r.reads(objs[i], fmt.Appendf(nil, "%d %d %300d", i/3000, i%3000, 0))
	}
}

// What is whole is not given up for a pack that lacks a shard.
func TestCompactOntoFewer(t *testing.T) {
	r := newRig(t, 4, uncached(2, 2, miB))
	objs := r.packed("a", sizes(10, 100_000)...)
	r.drop(objs[:7]...)
	old, blobs := r.extents(objs[7])[0].ID, r.blobs()
	r.mems[1].SetFault(func(op mem.Op) *mem.Fault {
		if op.Kind == mem.Commit {
			return &mem.Fault{Arm: mem.Before, Err: errBroken}
		}
		return nil
	})
	_, err := r.Compact(t.Context(), store.CompactOptions{})
	require.ErrorIs(t, err, store.ErrUnavailable)
	r.mems[1].SetFault(nil)
	require.Equal(t, old, r.extents(objs[7])[0].ID)
	require.Equal(t, blobs, r.blobs())
	r.cleanScrub()
}
