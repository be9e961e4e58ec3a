package store_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/store"
)

// leastBudget is what a store makes of SlabBytes: 1, a stripe of the widest code.
const leastBudget = 255 * blk

// What is lent and what is kept never exceed the budget together, and everything
// comes back.
func TestSlabsStayInBudget(t *testing.T) {
	for _, budget := range []int64{leastBudget, 24 * miB} {
		s, ctx := store.NewSlabs(budget), soon(t)
		codes := []erasure.Code{{K: 1, M: 1}, {K: 8, M: 3}, {K: 30, M: 3}, {K: 250, M: 5}}
		var wg sync.WaitGroup
		var over atomic.Int64
		check := func() {
			if lent, idle := s.Use(); lent+idle > budget || lent < 0 || idle < 0 {
				over.Store(lent + idle)
			}
		}
		for g := range 12 {
			wg.Go(func() { // a reader, who holds what it got until it is over
				var held []store.Slab
				for range 20 {
					if sl, ok := s.TryRead(codes[g%len(codes)], 1+g); ok {
						held = append(held, sl)
					}
					check()
				}
				sl, err := s.Get(ctx, codes[3], 1)
				if err == nil { // the widest code is never kept waiting by readers
					sl.Release()
				}
				for _, sl := range held {
					sl.Release()
				}
			})
			wg.Go(func() {
				r := rand.New(rand.NewPCG(uint64(g), 1))
				for range 20 {
					c, want := codes[r.IntN(len(codes))], 1+r.IntN(20)
					sl, err := s.Get(ctx, c, want)
					check()
					if err != nil || sl.Stripes() < 1 || sl.Stripes() > want || len(sl.Bytes()) != c.Shards()*sl.Stripes()*blk {
						t.Errorf("Get(%v, %d) = %d stripes of %d bytes, %v", c, want, sl.Stripes(), len(sl.Bytes()), err)
						return
					}
					sl.Bytes()[0]++
					sl.Release()
					check()
				}
			})
		}
		wg.Wait()
		require.Zero(t, over.Load(), "bytes, the budget is %d", budget)
		lent, _ := s.Use()
		require.Zero(t, lent)
		_, err := s.Get(t.Context(), erasure.Code{K: 250, M: 5}, 1)
		require.NoError(t, err, "all of the budget is there again")
	}
}

// Who waits for memory may give up, and then takes none.
func TestSlabsWaitEnds(t *testing.T) {
	s := store.NewSlabs(leastBudget)
	wide := erasure.Code{K: 250, M: 5}
	sl, err := s.Get(t.Context(), wide, 1)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { _, err := s.Get(ctx, wide, 1); done <- err }()
	_, ok := s.Try(erasure.Code{K: 1, M: 1}, 1)
	require.False(t, ok, "nothing is left")
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	sl.Release()
	sl, err = s.Get(t.Context(), wide, 1)
	require.NoError(t, err)
	sl.Release()
}

// soon returns a context that ends a test which hangs.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// 64 streams get through the smallest budget, of a narrow and of the widest code.
func TestManyStreamsOnTheLeastBudget(t *testing.T) {
	for _, c := range []struct{ k, m, size int }{{8, 2, 1100 * kiB}, {30, 4, 300 * kiB}} {
		t.Run(fmt.Sprintf("%d+%d", c.k, c.m), func(t *testing.T) {
			r := newRig(t, 1, func(o *store.Options) { coded(c.k, c.m, miB)(o); o.SlabBytes = 1 })
			ctx, data := soon(t), content(1, c.size)
			var wg sync.WaitGroup
			var failed atomic.Value
			for i := range 64 {
				wg.Go(func() {
					_, err := r.Put(ctx, fmt.Sprint("s", i), bytes.NewReader(data), store.PutOptions{Expect: store.AnyVersion})
					lent, idle := r.SlabsUse()
					if err != nil || lent+idle > leastBudget {
						failed.Store(fmt.Sprintf("%v, %d bytes lent, %d kept", err, lent, idle))
					}
				})
			}
			wg.Wait()
			require.Nil(t, failed.Load())
		})
	}
}

// A reader never waits for the budget: objects copied within a store, sixteen at
// once, by a pipe from WriteTo into Put, take none from each other.
func TestCopyWithinAStore(t *testing.T) {
	r := newRig(t, 1, func(o *store.Options) { coded(40, 4, miB)(o); o.SlabBytes = 1; o.CacheBytes = -1 })
	const n = 2*miB + 5
	data := content(2, n)
	o := r.put("from", data)
	ctx := soon(t)
	var wg sync.WaitGroup
	errs := make(chan error, 32)
	for i := range 16 {
		pr, pw := io.Pipe()
		wg.Go(func() {
			rd, err := r.Open(ctx, o)
			if err == nil {
				_, err = rd.WriteTo(pw)
				rd.Close()
			}
			pw.CloseWithError(err)
			errs <- err
		})
		wg.Go(func() {
			got, err := r.Put(ctx, fmt.Sprint("to", i), pr, store.PutOptions{Expect: store.AnyVersion})
			if err == nil && got.ID != o.ID {
				err = fmt.Errorf("copy %d is %v, want %v", i, got.ID, o.ID)
			}
			pr.CloseWithError(err)
			errs <- err
		})
	}
	wg.Wait()
	for range 32 {
		require.NoError(t, <-errs)
	}
}
