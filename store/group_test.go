package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/mem"
)

// together puts n contents at the same time: the first two make a group each, which
// are held back until all the others wait for theirs.
func together(t *testing.T, r *rig, n int, put func(i int) error) {
	t.Helper()
	var mu sync.Mutex
	uploads := map[string]bool{} // that began to write
	begun := func() int { mu.Lock(); defer mu.Unlock(); return len(uploads) }
	open := make(chan struct{})
	gate := func(op mem.Op) *mem.Fault {
		if op.Kind == mem.Create {
			mu.Lock()
			uploads[string(op.Key[len(op.Key)-32:])] = true
			mu.Unlock()
			<-open
		}
		return nil
	}
	for _, m := range r.mems {
		m.SetFault(gate)
	}
	errs := make(chan error, n)
	for i := range n {
		go func() { errs <- put(i) }()
		if i < 2 {
			eventually(t, func() bool { return begun() == i+1 }, "group %d does not begin", i)
		}
	}
	eventually(t, func() bool { return r.Waiting() == n-2 }, "%d puts are to wait for a group", n-2)
	close(open)
	for range n {
		require.NoError(t, <-errs)
	}
	for _, m := range r.mems {
		m.SetFault(nil)
	}
}

// Small puts that come together share packs, and each of them reads back.
func TestSmallPutsShareAPack(t *testing.T) {
	const n = 64
	r := newRig(t, 3, coded(2, 1, miB))
	objs := make([]store.Object, n)
	together(t, r, n, func(i int) (err error) {
		objs[i], err = r.Put(t.Context(), fmt.Sprint(i), bytes.NewReader(content(uint64(i), blk)), store.PutOptions{Attr: attr, Expect: store.AnyVersion})
		return err
	})
	require.LessOrEqual(t, r.blobs(), 2*3, "blobs of %d puts, two copies each", n)
	for i, o := range objs {
		r.reads(o, content(uint64(i), blk))
		require.Equal(t, "1+1", r.extents(o)[0].Code.String())
	}
	r.cleanScrub()
	e := r.extents(objs[n-1])[0]
	m, key := r.shard(&e, 1)
	in, err := store.Inspect(blobOf(m.Bytes(key)))
	require.NoError(t, err)
	lines, err := store.RecodeManifests(in.Manifests)
	require.NoError(t, err)
	require.Equal(t, in.Manifests, lines)
}

// Who puts one content after the other shares packs with the others who do: they come
// back at the same time, and half of them make a group.
func TestGroupsOfThoseWhoComeBack(t *testing.T) {
	const clients, each = 64, 10
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, coded(2, 1, miB))
		slow := func(op mem.Op) *mem.Fault {
			if op.Kind == mem.Commit {
				time.Sleep(4 * time.Millisecond)
			}
			return nil
		}
		for _, m := range r.mems {
			m.SetFault(slow)
		}
		var work sync.WaitGroup
		for c := range clients {
			work.Go(func() {
				for i := range each {
					time.Sleep(time.Duration(c) * time.Microsecond) // it makes its content
					r.put(fmt.Sprint(c, "/", i), content(uint64(c*each+i), 5000))
				}
			})
		}
		work.Wait()
		require.Less(t, r.blobs()/2, 3*each+3, "packs for %d rounds of %d puts; four a round where nobody waits", each, clients)

		time.Sleep(time.Second)
		for i := range 30 { // until it has noticed that they are gone
			r.put(fmt.Sprint("one/", i), content(uint64(i), 6000))
		}
		for _, m := range r.mems {
			m.SetFault(nil)
		}
		before := time.Now()
		r.put("alone", content(0, 7000))
		require.Zero(t, time.Since(before), "it waits for nobody")
		for c := range clients {
			r.reads(r.cat.names[fmt.Sprint(c, "/", 0)], content(uint64(c*each), 5000))
		}
	})
}

// The same content many times in one group is one content with many names.
func TestSameContentInOneGroup(t *testing.T) {
	const n = 20
	r := newRig(t, 3, coded(2, 1, miB))
	data := content(1, 30_000)
	together(t, r, n, func(i int) error {
		_, err := r.Put(t.Context(), fmt.Sprint(i%10), bytes.NewReader(data), store.PutOptions{Expect: store.AnyVersion})
		return err
	})
	require.Len(t, r.cat.names, 10)
	require.Len(t, r.cat.contents, 1)
	for _, o := range r.cat.names {
		r.reads(o, data)
	}
	r.cleanScrub()
}

// One put that is refused does not take its group with it, and attributes of many
// puts do not make a record too long.
func TestGroupsStandEachOther(t *testing.T) {
	const n = 40
	r := newRig(t, 3, coded(2, 1, miB))
	big := store.Attr{Xattrs: map[string][]byte{"user.big": make([]byte, store.MaxXattrBytes-8)}}
	together(t, r, n, func(i int) error {
		opts := store.PutOptions{Attr: big, Expect: store.AnyVersion}
		if i%5 == 4 {
			opts.Expect = 99
		}
		_, err := r.Put(t.Context(), fmt.Sprint(i), bytes.NewReader(content(uint64(i), 5000)), opts)
		if opts.Expect == 99 && errors.Is(err, errConflict) {
			return nil
		}
		return err
	})
	require.Len(t, r.cat.names, n*4/5)
	for _, rec := range r.cat.records {
		meta := 0
		for _, c := range rec.Commands {
			if p, ok := c.(store.Put); ok {
				meta += len(p.Attr.Xattrs["user.big"])
			}
		}
		require.Less(t, meta, 900*kiB)
	}
	r.cleanScrub()
}

// A batch takes effect as a whole: small contents share packs of the policy's code,
// long ones are streams.
func TestBatch(t *testing.T) {
	r := newRig(t, 3, coded(2, 1, miB))
	b := r.NewBatch(t.Context())
	sizes := []int{0, 1, 5000, blk + 3, store.MaxSmall, store.MaxSmall + 1, 3*miB + 9, 5000}
	for i, n := range sizes {
		require.NoError(t, b.Put(fmt.Sprint("d/", i), bytes.NewReader(content(uint64(n), n)), store.PutOptions{Expect: store.AnyVersion}))
		require.Empty(t, r.cat.names, "not yet")
	}
	b.Add(store.SetState{Key: "k", Value: []byte("v")})
	require.Equal(t, len(sizes)+1, b.Len())
	res, err := b.Commit()
	require.NoError(t, err)
	require.Len(t, res, len(sizes)+1)
	for i, n := range sizes {
		require.Equal(t, fmt.Sprint("d/", i), res[i].Object.Name)
		r.reads(res[i].Object, content(uint64(n), n))
	}
	require.Equal(t, "2+1", r.extents(res[2].Object)[0].Code.String())
	_, err = b.Commit()
	require.Error(t, err)
	b.Abort()
	require.Error(t, b.Put("late", strings.NewReader("x"), store.PutOptions{}))
	r.cleanScrub()

	b = r.NewBatch(t.Context()) // of nothing but commands
	b.Add(store.SetState{Key: "k"})
	_, err = b.Commit()
	require.NoError(t, err)
}

// A batch that is aborted, breaks, is refused or cannot be committed shows nothing.
func TestBatchOrNothing(t *testing.T) {
	fill := func(r *rig, last store.PutOptions) *store.Batch {
		b := r.NewBatch(t.Context())
		for i, n := range []int{10, 70_000, 700_000} {
			require.NoError(t, b.Put(fmt.Sprint(i), bytes.NewReader(content(uint64(i), n)), store.PutOptions{Expect: store.AnyVersion}))
		}
		require.NoError(t, b.Put("last", strings.NewReader("last"), last))
		return b
	}
	any := store.PutOptions{Expect: store.AnyVersion}
	for name, end := range map[string]func(r *rig) error{
		"abort": func(r *rig) error { fill(r, any).Abort(); return errBroken },
		"source": func(r *rig) error {
			b := fill(r, any)
			require.ErrorIs(r.t, b.Put("x", broken([]byte("abc"), errBroken), any), errBroken)
			require.ErrorIs(r.t, b.Put("y", strings.NewReader("y"), any), errBroken, "the error stays")
			_, err := b.Commit()
			return err
		},
		"log": func(r *rig) error {
			b := fill(r, any)
			r.cat.commit = func(store.Record) (bool, error) { return false, errBroken }
			_, err := b.Commit()
			r.cat.commit = nil
			return err
		},
		"conflict": func(r *rig) error {
			_, err := fill(r, store.PutOptions{Expect: 5}).Commit()
			require.ErrorIs(r.t, err, errConflict)
			_, err = r.Collect(t.Context(), store.CollectOptions{Unclaimed: true})
			require.NoError(r.t, err)
			return errBroken
		},
		"name": func(r *rig) error {
			b := fill(r, any)
			require.ErrorIs(r.t, b.Put("/x", strings.NewReader("y"), any), fs.ErrInvalid)
			_, err := b.Commit()
			require.ErrorIs(r.t, err, fs.ErrInvalid)
			return errBroken
		},
		"backends": func(r *rig) error {
			b := r.NewBatch(t.Context())
			for _, m := range r.mems {
				f, _ := nth(mem.Write, 1, mem.Before, errBroken, true)
				m.SetFault(f)
			}
			b.Put("x", bytes.NewReader(content(1, 100_000)), any)
			_, err := b.Commit()
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 3, coded(2, 1, miB))
			require.ErrorIs(t, end(r), errBroken)
			r.nothingLeft()
		})
	}
}

// Inline contents are moved into a pack once they are worth one, or are asked to be;
// readers that are open go on reading.
func TestPackInline(t *testing.T) {
	r := newRig(t, 3, coded(2, 1, miB))
	var objs []store.Object
	for i := range 30 {
		objs = append(objs, r.put(fmt.Sprint(i), content(uint64(i), 1+i*100)))
	}
	r.put("again", content(29, 2901))
	require.Zero(t, r.blobs())
	rd := r.open(objs[29])
	p := make([]byte, 100)
	_, err := rd.ReadAt(p, 1000)
	require.NoError(t, err)
	require.NoError(t, r.PackInline(t.Context()))
	require.Equal(t, 2, r.blobs(), "one pack of two copies")
	_, err = rd.ReadAt(p, 2000)
	require.NoError(t, err)
	require.Equal(t, content(29, 2901)[2000:2100], p)
	for i, o := range objs {
		r.reads(o, content(uint64(i), 1+i*100))
	}
	require.NoError(t, r.PackInline(t.Context()), "nothing to do")
	require.Equal(t, 2, r.blobs())
	r.cleanScrub()

	for i := range 70 { // 256 KiB wake the packer
		r.put(fmt.Sprint("more", i), content(uint64(i+100), 4096))
	}
	eventually(t, func() bool { return r.blobs() > 2 }, "no pack was made")
}
