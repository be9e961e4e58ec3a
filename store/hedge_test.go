package store_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
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

// slow makes every operation of a backend take d from now on, and counts those that
// are under way.
func slow(m *mem.Backend, d time.Duration) {
	m.SetLatency(func(mem.Op) time.Duration { return d })
}

// randomReads reads 4 KiB at n random places and returns how long each read took,
// in order of length.
func randomReads(t *testing.T, rd *store.Reader, data []byte, n int) (took []time.Duration) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 1))
	p := make([]byte, 4096)
	for range n {
		off := r.Int64N(int64(len(data) - len(p)))
		began := time.Now()
		_, err := rd.ReadAt(p, off)
		took = append(took, time.Since(began))
		require.NoError(t, err)
		require.True(t, bytes.Equal(p, data[off:off+4096]))
	}
	slices.Sort(took)
	return took
}

// One backend takes a second for whatever it is asked. Of 200 random reads 99 in
// 100 take a tenth of that at most, whether it was slow from the beginning or became
// so.
func TestHedgedReads(t *testing.T) {
	for name, before := range map[string]int{"from the beginning": 0, "later": 100} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 6, uncached(4, 2, miB)) // ten extents: each backend has data of one
				data := content(1, 9*miB+5)
				o := r.put("x", data)
				rd := r.open(o)
				randomReads(t, rd, data, before)
				slow(r.mems[0], time.Second)
				took := randomReads(t, rd, data, 200)
				require.LessOrEqual(t, took[197], 100*time.Millisecond, "p99")
				randomReads(t, rd, data, 1000) // until it is known to be slow
				took = randomReads(t, rd, data, 200)
				require.LessOrEqual(t, took[197], 100*time.Millisecond, "p99")
				require.Less(t, took[199], 500*time.Millisecond, "the longest")
				require.Positive(t, r.Stats().Hedged)
				require.Zero(t, r.Stats().Damaged, "slow is not damaged")
			})
		})
	}
}

// Who reads an object from beginning to end is not held up by one slow backend, nor
// by one that never answers.
func TestHedgedSequentialReads(t *testing.T) {
	for name, d := range map[string]time.Duration{"slow": time.Second, "hung": 1000 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 6, uncached(4, 2, 4*miB))
				data := content(1, 33*miB)
				o := r.put("x", data)
				slow(r.mems[2], d)
				rd := r.open(o)
				for _, copy := range []func(*bytes.Buffer) error{
					func(w *bytes.Buffer) error { _, err := rd.WriteTo(w); return err },
					func(w *bytes.Buffer) error { _, err := w.ReadFrom(struct{ io.Reader }{rd}); return err },
				} {
					_, err := rd.Seek(0, io.SeekStart)
					require.NoError(t, err)
					var w bytes.Buffer
					began := time.Now()
					require.NoError(t, copy(&w))
					require.True(t, bytes.Equal(data, w.Bytes()))
					require.Less(t, time.Since(began), 10*time.Second)
				}
			})
		})
	}
}

// A backend that never answers does not gather more and more reads that nobody
// waits for any more.
func TestHungBackendGathersFewReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, uncached(2, 1, miB))
		data := content(1, 2*miB)
		rd := r.open(r.put("x", data))
		randomReads(t, rd, data, 10)
		var under, most atomic.Int64
		r.mems[0].SetLatency(func(mem.Op) time.Duration {
			most.Store(max(most.Load(), under.Add(1)))
			return 1000 * time.Hour
		})
		took := randomReads(t, rd, data, 300)
		require.LessOrEqual(t, took[296], 100*time.Millisecond)
		for range 10 {
			_, err := rd.Seek(0, io.SeekStart)
			require.NoError(t, err)
			_, err = rd.WriteTo(io.Discard)
			require.NoError(t, err)
		}
		require.LessOrEqual(t, most.Load(), int64(40), "reads of a backend that does not answer")
	})
}

// A read that nobody waits for has a hold of its own on the extent, and lets go of it in
// the end: the extent stays open for its reader, and no longer.
func TestLateReadsHoldTheirExtent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, uncached(2, 1, miB))
		data := content(1, 500_000)
		o := r.put("x", data)
		rd, err := r.Open(t.Context(), o)
		require.NoError(t, err)
		randomReads(t, rd, data, 10)
		m, _ := r.shard(&r.extents(o)[0], 0)
		release, struck := hang(m, mem.Read)
		defer release()
		randomReads(t, rd, data, 10)
		<-struck
		release()
		synctest.Wait()
		open, idle := r.Handles()
		require.Equal(t, []int{1, 0}, []int{open, idle}, "open and idle, with a reader")
		require.NoError(t, rd.Close())
		open, idle = r.Handles()
		require.Equal(t, []int{1, 1}, []int{open, idle}, "and without")
	})
}

// When all shards are on one backend, which has reads under way that nobody waits for,
// a block is still one read of it: to ask for k others would only make it slower.
func TestSlowOnlyBackendIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, uncached(8, 2, 2*miB))
		data := content(1, 2*miB)
		o := r.put("x", data)
		rd := r.open(o)
		randomReads(t, rd, data, 50)
		release, _ := hang(r.mems[0], mem.Read)
		defer release()
		for range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			gone, err := r.Open(ctx, o)
			require.NoError(t, err)
			_, err = gone.ReadAt(make([]byte, 10), 5)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.NoError(t, gone.Close())
			cancel()
		}
		var reads atomic.Int64
		r.mems[0].SetFault(func(op mem.Op) *mem.Fault {
			if op.Kind == mem.Read {
				reads.Add(1)
			}
			return nil
		})
		hedged := r.Stats().Hedged
		for i := range 20 {
			off := int64(i * 90_000)
			p := make([]byte, 100)
			_, err := rd.ReadAt(p, off)
			require.NoError(t, err)
			require.True(t, bytes.Equal(p, data[off:off+100]))
		}
		require.EqualValues(t, 20, reads.Load())
		require.Equal(t, hedged, r.Stats().Hedged)
	})
}

// Many read at once from backends that are sometimes slow, and some give up: whoever gets
// bytes gets the right ones.
func TestReadsOfMoodyBackends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 4, uncached(2, 2, 2*miB))
		data := content(1, 5*miB+77)
		o := r.put("x", data)
		for _, m := range r.mems {
			m.SetLatency(func(op mem.Op) time.Duration {
				if rand.IntN(4) > 0 {
					return 0
				}
				return []time.Duration{time.Millisecond, 19 * time.Millisecond, 21 * time.Millisecond, time.Second}[rand.IntN(4)]
			})
		}
		var work sync.WaitGroup
		for range 24 {
			work.Go(func() {
				for range 40 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(100))*time.Millisecond)
					rd, err := r.Open(ctx, o)
					p := make([]byte, 5000)
					for err == nil {
						off := rand.Int64N(int64(len(data)))
						var n int
						n, err = rd.ReadAt(p, off)
						if !bytes.Equal(p[:n], data[off:off+int64(n)]) {
							t.Errorf("ReadAt(%d) = other bytes", off)
						}
						if err == io.EOF {
							err = nil
						}
						time.Sleep(time.Millisecond)
					}
					if !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("ReadAt = %v", err)
					}
					cancel()
					if rd != nil {
						rd.Close()
					}
				}
			})
		}
		work.Wait()
		require.Zero(t, r.Stats().Damaged)
		for _, m := range r.mems {
			m.SetLatency(nil)
		}
		r.reads(o, data)
	})
}

// The end of its context ends a read in time, whatever the backends do, and is its
// error.
func TestContextEndsReads(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, rd *store.Reader){
		"unopened":  func(*testing.T, *store.Reader) {},
		"random":    func(t *testing.T, rd *store.Reader) { rd.ReadAt(make([]byte, 10), 5) },
		"streaming": func(t *testing.T, rd *store.Reader) { io.CopyN(io.Discard, struct{ io.Reader }{rd}, 200_000) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 3, uncached(2, 1, miB))
				o := r.put("x", content(1, 5*miB))
				ctx, cancel := context.WithCancel(t.Context())
				rd, err := r.Open(ctx, o)
				require.NoError(t, err)
				defer rd.Close()
				prepare(t, rd)
				for _, m := range r.mems {
					slow(m, 1000*time.Hour)
				}
				time.AfterFunc(time.Second, cancel)
				began := time.Now()
				for _, read := range []func() error{
					func() error { _, err := rd.ReadAt(make([]byte, 10), 3*miB); return err },
					func() error { _, err := io.Copy(io.Discard, struct{ io.Reader }{rd}); return err },
					func() error { _, err := rd.WriteTo(io.Discard); return err },
				} {
					err := read()
					require.ErrorIs(t, err, context.Canceled)
					require.NotErrorIs(t, err, store.ErrCorrupt)
				}
				require.Equal(t, time.Second, time.Since(began))
				require.Zero(t, r.Stats().Damaged)
			})
		})
	}
}
