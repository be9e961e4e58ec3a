package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/mem"
)

// hang makes operations of some kinds wait until release, whatever their context says,
// and then happen. struck is closed by the first.
func hang(m *mem.Backend, kinds ...mem.Kind) (release func(), struck <-chan struct{}) {
	wait, first := make(chan struct{}), make(chan struct{})
	var once sync.Once
	m.SetFault(func(op mem.Op) *mem.Fault {
		if slices.Contains(kinds, op.Kind) {
			once.Do(func() { close(first) })
			<-wait
		}
		return nil
	})
	return sync.OnceFunc(func() { m.SetFault(nil); close(wait) }), first
}

// commitLate makes commits wait until release, and then come true, with nothing that could
// undo them.
func commitLate(m *mem.Backend) (release func()) {
	wait := make(chan struct{})
	m.SetFault(func(op mem.Op) *mem.Fault {
		switch op.Kind {
		case mem.Commit:
			<-wait
		case mem.Remove:
			return &mem.Fault{Arm: mem.Before, Err: errBroken}
		}
		return nil
	})
	return func() { close(wait) }
}

// puts are the ways to put, by name. Each puts one object and returns its content.
var puts = map[string]func(r *rig, ctx context.Context, name string) ([]byte, error){
	"stream":  putOf(700_000),
	"extents": putOf(3*miB + 5),
	"small":   putOf(100_000),
	"batch": func(r *rig, ctx context.Context, name string) ([]byte, error) {
		small, long := content(5, 90_000), content(6, 900_000)
		b := r.NewBatch(ctx)
		defer b.Abort()
		b.Put(name, bytes.NewReader(small), store.PutOptions{Expect: store.AnyVersion})
		b.Put(name+"-2", bytes.NewReader(long), store.PutOptions{Expect: store.AnyVersion})
		_, err := b.Commit()
		return small, err
	},
}

func putOf(n int) func(r *rig, ctx context.Context, name string) ([]byte, error) {
	return func(r *rig, ctx context.Context, name string) ([]byte, error) {
		data := content(uint64(n), n)
		_, err := r.Put(ctx, name, bytes.NewReader(data), store.PutOptions{Expect: store.AnyVersion})
		return data, err
	}
}

// A put ends soon after its context does, with the error of that, whatever a backend
// hangs in. What it leaves behind ends when the backend does, and leaves nothing.
func TestContextEndsPutsOfHungBackends(t *testing.T) {
	for name, put := range puts {
		for _, kind := range []mem.Kind{mem.Usage, mem.Create, mem.Write, mem.Commit} {
			t.Run(fmt.Sprint(name, " ", kind), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, 3, uncached(1, 2, miB))
					release, struck := hang(r.mems[0], kind, mem.Abort, mem.Remove)
					defer release()
					ctx, cancel := context.WithCancel(t.Context())
					go func() { <-struck; time.Sleep(time.Second); cancel() }()
					began := time.Now()
					_, err := put(r, ctx, "x")
					require.ErrorIs(t, err, context.Canceled)
					require.LessOrEqual(t, time.Since(began), 6*time.Second)
					if kind != mem.Usage {
						require.Equal(t, name == "small", errors.Is(err, store.ErrUncertain), "the group may still succeed: %v", err)
					}
					if name != "small" {
						r.releasesAll()
						require.Empty(t, r.cat.names)
					}
					release()
					time.Sleep(time.Minute)
					synctest.Wait()
					r.calm()
					require.Zero(t, r.SlabsOff())
					if name == "small" && len(r.cat.names) > 0 {
						r.reads(r.cat.names["x"], content(100_000, 100_000))
						return
					}
					if len(r.cat.extents) == 0 {
						r.nothingLeft()
					}
				})
			})
		}
	}
}

func errorIs(err, target error) bool {
	return bytes.Contains([]byte(err.Error()), []byte(target.Error()))
}

// releasesAll fails unless no slab is on loan although a backend has some.
func (r *rig) releasesAll() {
	r.t.Helper()
	synctest.Wait()
	require.Zero(r.t, r.SlabsLent(), "what a backend has is written off")
}

// A backend that does not come back from an operation counts as failed after some time:
// the put is acknowledged with the shards of the others, or fails if these are too few or
// all are asked for. From then on the backend is left alone until it answers; the missing
// shards are repaired then. I1, I7
func TestHungBackendCountsAsFailed(t *testing.T) {
	for name, put := range puts {
		for _, kind := range []mem.Kind{mem.Usage, mem.Create, mem.Write, mem.Commit} {
			t.Run(fmt.Sprint(name, " ", kind), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, 3, uncached(1, 2, miB))
					release, _ := hang(r.mems[0], kind)
					defer release()
					began := time.Now()
					data, err := put(r, t.Context(), "x")
					require.NoError(t, err)
					require.LessOrEqual(t, time.Since(began), time.Minute)
					r.reads(r.cat.names["x"], data)
					r.releasesAll()
					missing := r.missing()
					require.Equal(t, kind != mem.Usage, missing > 0, "%d shards missing", missing)
					require.Len(t, r.cat.repairs, missing)

					began = time.Now()
					next := content(7, 800_000)
					o, err := r.Put(t.Context(), "next", bytes.NewReader(next), store.PutOptions{Expect: store.AnyVersion})
					require.NoError(t, err)
					require.Less(t, time.Since(began), time.Second, "it is not asked again")
					require.Equal(t, "1+1", r.extents(o)[0].Code.String(), "the default code of two")
					require.Equal(t, missing, r.missing())

					release()
					synctest.Wait()
					require.Zero(t, r.SlabsOff())
					rep, err := r.Repair(t.Context())
					require.NoError(t, err)
					require.Zero(t, rep.Left, "%v", rep.Errs)
					require.Zero(t, r.missing())
					r.cleanScrub()
					col, err := r.Collect(t.Context(), store.CollectOptions{})
					require.NoError(t, err)
					require.Zero(t, col.Orphans, "what came too late was removed")
					r.reads(r.cat.names["x"], data)
					r.reads(o, next)
				})
			})
		}
	}
}

// When too few backends are left, or all are asked for, the put fails after some time and
// leaves nothing.
func TestHungBackendFailsPut(t *testing.T) {
	for name, change := range map[string]func(*store.Options){
		"2+1":      coded(2, 1, miB),
		"WriteAll": func(o *store.Options) { coded(1, 2, miB)(o); o.WriteAll = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 3, change)
				release, _ := hang(r.mems[0], mem.Commit)
				defer release()
				began := time.Now()
				_, err := r.Put(t.Context(), "x", bytes.NewReader(content(1, 700_000)), store.PutOptions{Expect: store.AnyVersion})
				require.ErrorIs(t, err, store.ErrUnavailable)
				require.LessOrEqual(t, time.Since(began), time.Minute)
				release()
				synctest.Wait()
				r.nothingLeft()
			})
		})
	}
}

// A commit that came true after nobody waited for it any more, and that could not be
// undone, leaves an orphan: no reader sees it, and a collection takes it.
func TestLateCommitIsCollected(t *testing.T) {
	for name, acked := range map[string]bool{"acknowledged without it": true, "failed": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 4, uncached(2, 2, miB))
				commits := commitLate(r.mems[0])
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if !acked {
					time.AfterFunc(time.Second, cancel)
				}
				data := content(1, 700_000)
				o, err := r.Put(ctx, "x", bytes.NewReader(data), store.PutOptions{Expect: store.AnyVersion})
				require.Equal(t, acked, err == nil, "%v", err)
				commits()
				synctest.Wait()
				r.mems[0].SetFault(nil)
				require.Len(t, r.mems[0].Keys(), 1, "it became visible, and stays")
				if acked {
					r.reads(o, data)
					require.Equal(t, 1, r.missing())
				}
				rep, err := r.Collect(t.Context(), store.CollectOptions{})
				require.NoError(t, err)
				require.EqualValues(t, 1, rep.Orphans)
				require.Empty(t, r.mems[0].Keys())
				if !acked {
					r.nothingLeft()
					return
				}
				fixed, err := r.Repair(t.Context())
				require.NoError(t, err)
				require.EqualValues(t, 1, fixed.Repaired)
				r.cleanScrub()
				r.reads(o, data)
			})
		})
	}
}

// keeper is a backend whose writers do not return from Write until they are let go, and
// then report whether what they were given has changed meanwhile.
type keeper struct {
	store.Backend
	wait    chan struct{}
	held    atomic.Int64 // bytes
	changed atomic.Bool
}

func (k *keeper) Create(ctx context.Context, key store.BackendKey) (store.BackendWriter, error) {
	w, err := k.Backend.Create(ctx, key)
	return &keeperWriter{w, k}, err
}

type keeperWriter struct {
	store.BackendWriter
	k *keeper
}

func (w *keeperWriter) Write(p []byte) (int, error) {
	if len(p) > page {
		w.k.held.Add(int64(len(p)))
		before := bytes.Clone(p)
		<-w.k.wait
		if !bytes.Equal(before, p) {
			w.k.changed.Store(true)
		}
	}
	return w.BackendWriter.Write(p)
}

// What a backend that hangs was given stays as it is until it comes back, though other
// puts go on, in memory that is bounded.
func TestHungWritersKeepTheirMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{wait: make(chan struct{})}
		letGo := sync.OnceFunc(func() { close(k.wait) })
		const budget = 16 * miB
		r := newRig(t, 4, func(o *store.Options) {
			uncached(2, 2, 0)(o)
			o.SlabBytes = budget
			k.Backend = o.Backends[0]
			o.Backends[0] = k
		})
		defer letGo()
		put := func(i, n int) {
			data := content(uint64(i), n)
			o, err := r.Put(t.Context(), fmt.Sprint(i), bytes.NewReader(data), store.PutOptions{Size: int64(n), Expect: store.AnyVersion})
			require.NoError(t, err)
			r.reads(o, data)
		}
		var work sync.WaitGroup
		for i := range 8 {
			work.Go(func() { put(i, 3*miB) })
		}
		work.Wait()
		r.releasesAll()
		require.Positive(t, k.held.Load())
		require.Positive(t, r.SlabsOff())
		require.LessOrEqual(t, r.SlabsOff(), int64(budget))
		held := k.held.Load()
		for i := range 20 {
			put(100+i, 5*miB)
		}
		require.Equal(t, held, k.held.Load(), "a backend that hangs is given nothing more")
		letGo()
		synctest.Wait()
		require.False(t, k.changed.Load(), "memory was used again while the backend had it")
		require.Zero(t, r.SlabsOff())
		_, err := r.Repair(t.Context())
		require.NoError(t, err)
		r.cleanScrub()
	})
}

// A stream goes on when a backend hangs in the middle of it: the shards of later extents
// that find no other place are missing.
func TestBackendHangsInTheMiddleOfAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 4, uncached(2, 2, miB))
		var release func()
		data := content(1, 4*miB)
		src := io.MultiReader(bytes.NewReader(data[:miB+100]), readerFunc(func([]byte) (int, error) {
			if release == nil {
				release, _ = hang(r.mems[0], mem.Write)
			}
			return 0, io.EOF
		}), bytes.NewReader(data[miB+100:]))
		o, err := r.Put(t.Context(), "x", src, store.PutOptions{Expect: store.AnyVersion})
		defer release()
		require.NoError(t, err)
		require.Equal(t, 3, r.missing())
		r.reads(o, data)
		release()
		synctest.Wait()
		_, err = r.Repair(t.Context())
		require.NoError(t, err)
		require.Zero(t, r.missing())
		r.cleanScrub()
		r.reads(o, data)
	})
}

// A put of what is stored already reads that back, and does not wait for a backend that
// hangs in that either.
func TestHungBackendIsNotTrusted(t *testing.T) {
	for _, kind := range []mem.Kind{mem.Open, mem.Read} {
		for _, cancelled := range []bool{false, true} {
			t.Run(fmt.Sprint(kind, cancelled), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, 4, uncached(2, 2, miB))
					data := content(1, 700_000)
					r.put("x", data)
					release, struck := hang(r.mems[0], kind)
					defer release()
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					began := time.Now()
					if cancelled {
						go func() { <-struck; time.Sleep(time.Second); cancel() }()
					}
					_, err := r.Put(ctx, "y", bytes.NewReader(data), store.PutOptions{Expect: store.AnyVersion})
					if cancelled {
						require.ErrorIs(t, err, context.Canceled)
						require.LessOrEqual(t, time.Since(began), 5*time.Second)
						return
					}
					require.NoError(t, err)
					require.LessOrEqual(t, time.Since(began), time.Minute)
					r.reads(r.cat.names["y"], data)
				})
			})
		}
	}
}

// Scrub and repair do not wait for a backend that hangs: to them its shards are absent,
// and everything else is looked at, and healed.
func TestHungBackendIsAbsentToScrub(t *testing.T) {
	for _, kind := range []mem.Kind{mem.Open, mem.Read} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 4, uncached(2, 2, miB))
				data := content(1, 3*miB)
				o := r.put("x", data)
				e := r.extents(o)[1]
				i := slices.IndexFunc(e.Shards, func(s store.Shard) bool { return s.Backend == r.mems[1].ID() })
				r.mems[1].Flip(e.Key(i), page+5, 1)
				release, _ := hang(r.mems[0], kind)
				defer release()
				began := time.Now()
				rep, err := r.Scrub(t.Context(), store.ScrubOptions{Deep: true, Repair: true})
				require.NoError(t, err)
				require.LessOrEqual(t, time.Since(began), 3*time.Minute)
				require.EqualValues(t, 3, rep.Absent, "%+v", rep)
				require.EqualValues(t, 1, rep.Damaged)
				require.EqualValues(t, 1, rep.Repaired)
				release()
				synctest.Wait()
				require.Zero(t, r.SlabsOff())
				_, err = r.Repair(t.Context())
				require.NoError(t, err)
				r.cleanScrub()
				r.reads(o, data)
			})
		})
	}
}

// The store closes although a backend hangs: in a put that was left behind, in a repair
// that is under way, or in a read.
func TestHungBackendDoesNotHoldUpClose(t *testing.T) {
	cases := map[string]struct {
		kinds []mem.Kind
		begin func(r *rig, o store.Object)
	}{
		"put": {[]mem.Kind{mem.Write}, func(r *rig, o store.Object) {
			ctx, cancel := context.WithTimeout(r.t.Context(), time.Second)
			defer cancel()
			_, err := r.Put(ctx, "y", bytes.NewReader(content(2, 700_000)), store.PutOptions{Expect: store.AnyVersion})
			require.ErrorIs(r.t, err, context.DeadlineExceeded)
		}},
		"group": {[]mem.Kind{mem.Commit}, func(r *rig, o store.Object) {
			go r.Put(context.Background(), "y", bytes.NewReader(content(2, 70_000)), store.PutOptions{Expect: store.AnyVersion})
		}},
		"repair": {[]mem.Kind{mem.Write, mem.Commit}, func(r *rig, o store.Object) {
			e := r.extents(o)[0]
			i := slices.IndexFunc(e.Shards, func(s store.Shard) bool { return s.Backend == r.mems[0].ID() })
			r.mems[0].Flip(e.Key(i), page+5, 1)
			_, err := r.Scrub(r.t.Context(), store.ScrubOptions{Deep: true})
			require.NoError(r.t, err)
		}},
		"read": {[]mem.Kind{mem.Open, mem.Read}, func(r *rig, o store.Object) {
			rd := r.open(o)
			for _, m := range r.mems[1:] {
				m.SetLatency(func(mem.Op) time.Duration { return 1000 * time.Hour })
			}
			go rd.ReadAt(make([]byte, 10), 5)
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 3, func(o *store.Options) { uncached(1, 2, miB)(o); o.NoRepair = false })
				o := r.put("x", content(1, 700_000))
				release, struck := hang(r.mems[0], c.kinds...)
				defer release()
				c.begin(r, o)
				<-struck
				began := time.Now()
				require.NoError(t, r.Close())
				require.LessOrEqual(t, time.Since(began), 5*time.Second)
				for _, m := range r.mems {
					m.SetLatency(nil)
				}
				release()
				synctest.Wait()
				r.calm()
			})
		})
	}
}

// A collection ends soon after its context does, and gives up on a backend that hangs;
// the next one does the rest.
func TestHungBackendDoesNotHoldUpCollect(t *testing.T) {
	for _, kind := range []mem.Kind{mem.List, mem.Remove} {
		for _, canceled := range []bool{false, true} {
			t.Run(fmt.Sprint(kind, " ", canceled), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, 3, uncached(1, 2, miB))
					o := r.put("x", content(1, 700_000))
					r.cat.dead[r.extents(o)[0].Upload] = true
					clear(r.cat.names)
					clear(r.cat.contents)
					release, struck := hang(r.mems[0], kind)
					defer release()
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					if canceled {
						go func() { <-struck; time.Sleep(time.Second); cancel() }()
					}
					began := time.Now()
					_, err := r.Collect(ctx, store.CollectOptions{})
					if canceled {
						require.ErrorIs(t, err, context.Canceled)
						require.LessOrEqual(t, time.Since(began), 3*time.Second)
					} else {
						require.ErrorIs(t, err, store.ErrUnavailable)
						require.LessOrEqual(t, time.Since(began), time.Minute)
					}
					release()
					synctest.Wait()
					_, err = r.Collect(t.Context(), store.CollectOptions{})
					require.NoError(t, err)
					r.nothingLeft()
				})
			})
		}
	}
}

// While the removal of an orphan is left behind, no repair writes a blob that it could
// yet take.
func TestLateRemoveTakesNoRepair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 4, uncached(2, 2, miB))
		commits := commitLate(r.mems[0])
		data := content(1, 700_000)
		o := r.put("x", data)
		commits()
		synctest.Wait()
		require.Len(t, r.mems[0].Keys(), 1, "it became visible, and no record names it")
		release, _ := hang(r.mems[0], mem.Remove)
		defer release()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := r.Collect(ctx, store.CollectOptions{})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		began := time.Now()
		time.AfterFunc(5*time.Second, release)
		fixed, err := r.Repair(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 1, fixed.Repaired)
		require.GreaterOrEqual(t, time.Since(began), 5*time.Second, "it waits for the removal")
		r.cleanScrub()
		r.reads(o, data)
	})
}
