package store_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/mem"
)

// without opens the store of a rig anew with some backends absent.
func (r *rig) without(change func(*store.Options), away ...int) *rig {
	r.t.Helper()
	s := r.again(func(o *store.Options) {
		change(o)
		o.Backends = nil
		for i, m := range r.mems {
			if slices.Contains(away, i) {
				o.Absent = append(o.Absent, m.ID())
			} else {
				o.Backends = append(o.Backends, m)
			}
		}
	})
	return s
}

func off(change func(*store.Options)) func(*store.Options) {
	return kept(store.Upkeep{Off: true}, change)
}

func (r *rig) reshape(opts store.ReshapeOptions) store.ReshapeReport {
	r.t.Helper()
	rep, err := r.Reshape(r.t.Context(), opts)
	require.NoError(r.t, err)
	return rep
}

func (r *rig) code(o store.Object) string {
	r.t.Helper()
	return r.extents(o)[0].Code.String()
}

// marks returns how many uploads are marked as narrow.
func (r *rig) marks() int {
	r.cat.mu.Lock()
	defer r.cat.mu.Unlock()
	return len(r.cat.narrow)
}

// What is put while backends are missing is in a narrower code, and marked so; once they
// are back it gets that of its policy: streams of one and of many extents, small contents of
// a group, a batch and the log. Who has it open reads on, and another pass finds nothing.
func TestReshapeNarrow(t *testing.T) {
	r := newRig(t, 5, coded(3, 2, miB))
	r = r.without(off(coded(3, 2, miB)), 1, 4)
	datas := map[string][]byte{"one": content(1, 700_000), "many": content(2, 3*miB+5), "small": content(3, 50_000), "tiny": content(4, 900)}
	objs := map[string]store.Object{}
	for name, data := range datas {
		objs[name] = r.put(name, data)
	}
	for i, o := range r.packed("b", sizes(4, 90_000)...) {
		objs[o.Name], datas[o.Name] = o, content(uint64(i*256)+'b', 90_000)
	}
	require.NoError(t, r.PackInline(t.Context()))
	require.Equal(t, "2+1", r.code(objs["many"]))
	require.Equal(t, "1+1", r.code(objs["small"]))
	require.Equal(t, 5, r.marks())
	rep := r.reshape(store.ReshapeOptions{})
	require.EqualValues(t, 5, rep.Waiting)
	require.Zero(t, rep.Moved)

	r = r.without(off(coded(3, 2, miB)))
	rd := r.open(objs["many"])
	old := r.extents(objs["many"])
	dry := r.reshape(store.ReshapeOptions{DryRun: true})
	require.EqualValues(t, 5, dry.Moved)
	require.Equal(t, "2+1", r.code(objs["many"]))
	rep = r.reshape(store.ReshapeOptions{})
	require.EqualValues(t, 5, rep.Moved)
	require.Equal(t, dry.Bytes, rep.Bytes)
	require.Zero(t, rep.Waiting+rep.Failed)
	for name, o := range objs {
		want := "3+2"
		if name == "small" || name == "tiny" {
			want = "1+2" // they do not fill a stripe
		}
		require.Equal(t, want, r.code(o), name)
		r.reads(o, datas[name])
	}
	require.Len(t, r.extents(objs["many"]), 4)
	got, err := io.ReadAll(rd)
	require.NoError(t, err)
	require.True(t, bytes.Equal(datas["many"], got), "who has it open reads on")

	again := r.reshape(store.ReshapeOptions{})
	require.Zero(t, again.Moved)
	for _, e := range old {
		r.cat.dead[e.Upload] = true
	}
	require.NoError(t, rd.Close())
	_, err = r.Collect(t.Context(), store.CollectOptions{})
	require.NoError(t, err)
	for name, o := range objs {
		r.reads(o, datas[name])
	}
	r.cleanScrub()
}

// On demand, what was put under an older policy gets the code of the one in force: under
// a prefix, or all. Parity is taken away only if all names agree, and none of small contents.
func TestReshapePolicy(t *testing.T) {
	policies := []store.Policy{{Code: erasure.Code{K: 2, M: 2}, Extent: miB}}
	var mu sync.Mutex
	change := func(o *store.Options) {
		o.Policies = func() []store.Policy { mu.Lock(); defer mu.Unlock(); return policies }
	}
	r := newRig(t, 5, change)
	a, b := r.put("a/x", content(1, 2*miB)), r.put("b/x", content(2, 700_000))
	shared := r.put("a/shared", content(3, 700_000))
	r.put("b/shared", content(3, 700_000))
	small := r.packed("a", sizes(8, 90_000)...)
	mu.Lock()
	policies = []store.Policy{{Code: erasure.Code{K: 2, M: 2}, Extent: miB}, {Prefix: "a", Code: erasure.Code{K: 3, M: 1}, Extent: miB}}
	mu.Unlock()
	require.Zero(t, r.reshape(store.ReshapeOptions{}).Moved, "nobody asked")
	require.EqualValues(t, 1, r.reshape(store.ReshapeOptions{Prefix: "a/"}).Moved)
	require.Equal(t, "3+1", r.code(a))
	require.Equal(t, "2+2", r.code(shared), "another name wants more")
	require.Equal(t, "2+2", r.code(small[0]))
	mu.Lock()
	policies = []store.Policy{{Code: erasure.Code{K: 1, M: 4}, Extent: miB}}
	mu.Unlock()
	require.EqualValues(t, 4, r.reshape(store.ReshapeOptions{All: true}).Moved)
	for i, o := range []store.Object{a, b, shared} {
		require.Equal(t, "1+4", r.code(o))
		r.reads(o, content(uint64(i+1), int(o.Size)))
	}
	require.Equal(t, "1+4", r.code(small[0]))
	require.Zero(t, r.reshape(store.ReshapeOptions{All: true}).Moved)
	r.cleanScrub()
}

// A version that comes while a content is being written anew keeps it from losing parity
// that this version was promised; and what goes or moves meanwhile is left alone.
func TestReshapeRaces(t *testing.T) {
	policies := []store.Policy{{Code: erasure.Code{K: 2, M: 2}, Extent: miB}}
	r := newRig(t, 5, func(o *store.Options) { o.Policies = func() []store.Policy { return policies } })
	o := r.put("x", content(1, 2*miB))
	policies = []store.Policy{{Code: erasure.Code{K: 3, M: 1}, Extent: miB}}
	for name, meanwhile := range map[string]func(k *store.Content){
		"another version": func(k *store.Content) { k.Refs++ },
		"deleted":         func(k *store.Content) { k.Refs = 0 },
		"moved":           func(k *store.Content) { k.Upload = store.UploadID{9} },
	} {
		before := r.cat.contents[o.ID]
		r.cat.commit = func(rec store.Record) (bool, error) {
			if _, ok := rec.Commands[0].(store.Reshape); ok {
				k := r.cat.contents[o.ID]
				meanwhile(&k)
				r.cat.contents[o.ID] = k
			}
			return false, nil
		}
		require.Zero(t, r.reshape(store.ReshapeOptions{All: true}).Moved, name)
		r.cat.commit = nil
		require.Equal(t, before.Code, r.cat.contents[o.ID].Code, name)
		r.cat.contents[o.ID] = before
		_, err := r.Collect(t.Context(), store.CollectOptions{})
		require.NoError(t, err)
		require.Equal(t, 8, r.blobs(), name)
	}
	require.EqualValues(t, 1, r.reshape(store.ReshapeOptions{All: true}).Moved)
	r.reads(o, content(1, 2*miB))
}

// A backend that does not take its shard, a full one, a catalog that refuses, and a content
// that is lost leave everything as it was.
func TestReshapeFails(t *testing.T) {
	policies := []store.Policy{{Code: erasure.Code{K: 2, M: 1}, Extent: miB}}
	r := newRig(t, 5, func(o *store.Options) { o.Policies = func() []store.Policy { return policies }; o.CacheBytes = -1 })
	a, b := r.put("a", content(1, 2*miB)), r.put("b", content(2, 700_000))
	policies = []store.Policy{{Code: erasure.Code{K: 3, M: 2}, Extent: miB}}
	blobs := r.blobs()
	same := func(name string) {
		t.Helper()
		require.Equal(t, "2+1", r.code(a), name)
		_, err := r.Collect(t.Context(), store.CollectOptions{})
		require.NoError(t, err)
		require.Equal(t, blobs, r.blobs(), name)
		r.reads(a, content(1, 2*miB))
		r.reads(b, content(2, 700_000))
	}
	fail := func(err error) func(mem.Op) *mem.Fault {
		return func(op mem.Op) *mem.Fault {
			if op.Kind == mem.Commit {
				return &mem.Fault{Arm: mem.Before, Err: err}
			}
			return nil
		}
	}
	r.cat.commit = func(rec store.Record) (bool, error) {
		if _, ok := rec.Commands[0].(store.Reshape); ok {
			return false, errBroken
		}
		return false, nil
	}
	_, err := r.Reshape(t.Context(), store.ReshapeOptions{All: true})
	require.ErrorIs(t, err, errBroken)
	r.cat.commit = nil
	same("a catalog that takes no records")
	r.mems[3].SetFault(fail(errBroken))
	rep := r.reshape(store.ReshapeOptions{Prefix: "b"})
	require.EqualValues(t, 1, rep.Waiting)
	require.Zero(t, rep.Moved)
	r.mems[3].SetFault(nil)
	same("a backend without its shard")
	for _, m := range r.mems[2:] {
		m.SetFault(fail(store.ErrNoSpace))
	}
	rep = r.reshape(store.ReshapeOptions{All: true})
	require.Positive(t, rep.Waiting)
	require.Zero(t, rep.Moved)
	for _, m := range r.mems {
		m.SetFault(nil)
	}
	same("a full backend")

	e := r.extents(b)[0]
	for i := range 2 {
		m, key := r.shard(&e, i)
		m.Flip(key, page+9, 1)
	}
	rep = r.reshape(store.ReshapeOptions{All: true})
	require.EqualValues(t, 1, rep.Failed)
	require.EqualValues(t, 1, rep.Moved, "the other one")
	require.Equal(t, "2+1", r.code(b))
	require.Zero(t, r.reshape(store.ReshapeOptions{All: true}).Failed, "it is not tried again and again")
	r.reads(a, content(1, 2*miB))
}

// An open store reshapes by itself once backends are back; it does not while they are away,
// nor in its first minute. A store that closes meanwhile goes on when it is opened.
func TestReshapesByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quiet := store.Upkeep{Quick: -1, Deep: -1, Rate: 2 * miB}
		r := newRig(t, 5, coded(3, 2, miB))
		r = r.without(kept(quiet, coded(3, 2, miB)), 0)
		var objs []store.Object
		for i := range 20 {
			objs = append(objs, r.put(fmt.Sprint(i), content(uint64(i), 2*miB)))
		}
		time.Sleep(3 * time.Hour)
		require.Equal(t, 20, r.marks())
		require.Zero(t, r.Stats().Reshaped)

		r = r.without(kept(quiet, coded(3, 2, miB)))
		time.Sleep(59 * time.Second)
		synctest.Wait()
		require.Zero(t, r.Stats().Reshaped)
		time.Sleep(10 * time.Second)
		require.NoError(t, r.Close())
		n := r.Stats().Reshaped
		require.Positive(t, n)
		require.Less(t, n, int64(15))
		r = r.without(kept(quiet, coded(3, 2, miB)))
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		require.Equal(t, 20-n, r.Stats().Reshaped, "what is done needs nothing")
		for i, o := range objs {
			require.Equal(t, "3+2", r.code(o))
			r.reads(o, content(uint64(i), 2*miB))
		}
		r.cleanScrub()
	})
}

// Beside reads, puts, repairs, compaction, scrub and collection every byte stays right.
func TestReshapeBesideEverything(t *testing.T) {
	policies := []store.Policy{{Code: erasure.Code{K: 2, M: 2}, Extent: miB}}
	var mu sync.Mutex
	r := newRig(t, 5, func(o *store.Options) {
		o.Policies = func() []store.Policy { mu.Lock(); defer mu.Unlock(); return policies }
		o.CacheBytes = -1
	})
	var objs []store.Object
	for i := range 12 {
		objs = append(objs, r.put(fmt.Sprint(i), content(uint64(i), 600_000+i*100_000)))
	}
	small := r.packed("s", sizes(6, 90_000)...)
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	always := func(f func(i int) error) {
		work.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if err := f(i); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	always(func(i int) error {
		o := objs[i%len(objs)]
		rd, err := r.Open(ctx, o)
		if err != nil {
			return err
		}
		defer rd.Close()
		got, err := io.ReadAll(rd)
		if err == nil && !bytes.Equal(got, content(uint64(i%len(objs)), int(o.Size))) {
			err = fmt.Errorf("%s reads as something else", o.Name)
		}
		return err
	})
	always(func(i int) error { _, err := r.Collect(ctx, store.CollectOptions{}); return err })
	always(func(i int) error { _, err := r.Scrub(ctx, store.ScrubOptions{Deep: true, Repair: true}); return err })
	always(func(i int) error { _, err := r.Compact(ctx, store.CompactOptions{}); return err })
	codes := []erasure.Code{{K: 3, M: 2}, {K: 1, M: 2}, {K: 2, M: 3}, {K: 2, M: 2}, {K: 3, M: 2}}
	for _, c := range codes {
		mu.Lock()
		policies = []store.Policy{{Code: c, Extent: miB}}
		mu.Unlock()
		rep := r.reshape(store.ReshapeOptions{All: true})
		require.GreaterOrEqual(t, rep.Moved, int64(len(objs)))
	}
	cancel()
	work.Wait()
	for i, o := range objs {
		require.Equal(t, "3+2", r.code(o))
		r.reads(o, content(uint64(i), int(o.Size)))
	}
	for i, o := range small {
		r.reads(o, content(uint64(i*256)+'s', 90_000))
	}
	r.cleanScrub()
}

// What a reshaping that was cut off leaves is collected without being asked twice: it is
// complete, and no record names it, but its name has the content elsewhere.
func TestReshapeCutOff(t *testing.T) { // R6
	policies := []store.Policy{{Code: erasure.Code{K: 2, M: 1}, Extent: miB}}
	change := off(func(o *store.Options) { o.Policies = func() []store.Policy { return policies } })
	r := newRig(t, 5, change)
	a, b := r.put("a", content(1, 2*miB+9)), r.put("b", content(2, 700_000))
	blobs := r.blobs()
	policies = []store.Policy{{Code: erasure.Code{K: 3, M: 2}, Extent: miB}}
	for range 2 {
		r.cat.commit = func(rec store.Record) (bool, error) {
			if _, ok := rec.Commands[0].(store.Reshape); ok {
				return false, store.ErrUncertain
			}
			return false, nil
		}
		_, err := r.Reshape(t.Context(), store.ReshapeOptions{All: true})
		require.ErrorIs(t, err, store.ErrUncertain)
		r.cat.commit = nil
		require.Greater(t, r.blobs(), blobs)
		r = r.again(change)
	}
	rep, err := r.Collect(t.Context(), store.CollectOptions{})
	require.NoError(t, err)
	require.Zero(t, rep.Unclaimed)
	require.Equal(t, blobs, r.blobs())
	r.reads(a, content(1, 2*miB+9))
	r.reads(b, content(2, 700_000))
}

// A batch of many streams that are narrow is marked in full, in records of bounded size.
func TestReshapeBatchOfMany(t *testing.T) {
	r := newRig(t, 4, coded(2, 2, miB))
	r = r.without(off(coded(2, 2, miB)), 2)
	b := r.NewBatch(t.Context())
	for i := range 270 {
		require.NoError(t, b.Put(fmt.Sprint(i), bytes.NewReader(content(uint64(i), store.MaxSmall+1)), store.PutOptions{Expect: store.AnyVersion}))
	}
	res, err := b.Commit()
	require.NoError(t, err)
	require.Len(t, res, 270)
	require.Equal(t, 270, r.marks())
}
