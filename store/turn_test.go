package store_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/mem"
)

// Who waits for another repair, collection or packing to end does not wait longer than
// the context says, nor does who comes after it has ended. The one that is under way is
// not disturbed.
func TestContextEndsTheWaitForATurn(t *testing.T) {
	works := map[string]struct {
		kind mem.Kind // operation that the first one hangs in
		run  func(r *rig, ctx context.Context) error
	}{
		"repair":  {mem.Write, func(r *rig, ctx context.Context) error { _, err := r.Repair(ctx); return err }},
		"collect": {mem.Usage, func(r *rig, ctx context.Context) error { _, err := r.Collect(ctx, store.CollectOptions{}); return err }},
		"pack":    {mem.Write, func(r *rig, ctx context.Context) error { return r.PackInline(ctx) }},
	}
	for name, work := range works {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 3, coded(2, 1, miB))
				o := r.put("x", content(1, 700_000))
				r.put("tiny", []byte("tiny"))
				r.damageFirstBlob(o)
				for _, m := range r.mems {
					m.SetLatency(func(op mem.Op) time.Duration {
						if op.Kind == work.kind {
							return 10 * time.Second
						}
						return 0
					})
				}
				first := make(chan error)
				go func() { first <- work.run(r, t.Context()) }()
				synctest.Wait()

				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				require.ErrorIs(t, work.run(r, ctx), context.DeadlineExceeded)
				require.Equal(t, time.Second, time.Since(began))
				require.ErrorIs(t, work.run(r, ctx), context.DeadlineExceeded, "a context that has ended")
				require.Equal(t, time.Second, time.Since(began))
				require.NoError(t, <-first)
				require.NoError(t, work.run(r, t.Context()), "the turn is free again")
			})
		})
	}
}

// A collection that comes to an extent under repair does not wait longer than its
// context says.
func TestContextEndsTheWaitForARepair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, coded(2, 1, miB))
		r.damageFirstBlob(r.put("x", content(1, 700_000)))
		r.mems[0].SetLatency(func(op mem.Op) time.Duration {
			if op.Kind == mem.Write {
				return 10 * time.Second
			}
			return 0
		})
		first := make(chan error)
		go func() { _, err := r.Repair(t.Context()); first <- err }()
		synctest.Wait()
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := r.Collect(ctx, store.CollectOptions{})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(began))
		require.NoError(t, <-first)
		_, err = r.Collect(t.Context(), store.CollectOptions{})
		require.NoError(t, err)
		r.cleanScrub()
	})
}

// damageFirstBlob spoils a block of an object on the first backend and puts that on the
// repair queue.
func (r *rig) damageFirstBlob(o store.Object) {
	r.t.Helper()
	e := r.extents(o)[0]
	for i, sh := range e.Shards {
		if sh.Backend == r.mems[0].ID() {
			m, key := r.shard(&e, i)
			m.Flip(key, page+5, 1)
		}
	}
	rep, err := r.Scrub(r.t.Context(), store.ScrubOptions{Deep: true})
	require.NoError(r.t, err)
	require.EqualValues(r.t, 1, rep.Damaged)
}
