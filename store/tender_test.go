package store_test

import (
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/mem"
)

// An open store compacts by itself: when enough small packs were written, when enough was
// purged, and once a day; not while there is nothing to gain.
func TestCompactsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quiet := store.Upkeep{Quick: -1, Deep: -1, Rate: 4 * miB}
		r := newRig(t, 4, kept(quiet, coded(2, 2, miB)))
		time.Sleep(9*time.Minute + 30*time.Second)
		require.Zero(t, r.Stats().Compactions)
		time.Sleep(time.Minute)
		require.EqualValues(t, 1, r.Stats().Compactions, "one some time after it was opened")
		var objs []store.Object
		for i := range 40 {
			objs = append(objs, r.put(fmt.Sprint(i), content(uint64(i), 250_000)))
		}
		time.Sleep(3 * time.Hour)
		require.EqualValues(t, 1, r.Stats().Compactions, "it is too little")
		for i := range 40 {
			objs = append(objs, r.put(fmt.Sprint(40+i), content(uint64(40+i), 250_000)))
		}
		began := time.Now()
		for r.Stats().Compactions == 1 {
			require.Less(t, time.Since(began), time.Hour)
			time.Sleep(time.Second)
		}
		require.Greater(t, time.Since(began), 4*time.Second, "it keeps to the rate")
		st := r.Stats()
		require.EqualValues(t, 80, st.Compacted)
		require.Equal(t, "2+2", r.code(objs[7]))
		require.Greater(t, st.SpaceStored, 3*st.SpaceLive, "each pack was three copies")
		require.EqualValues(t, 80*250_000, st.SpaceLive)

		r.drop(objs[20:]...)
		time.Sleep(5 * time.Hour)
		require.EqualValues(t, 2, r.Stats().Compactions)
		r.Purged(300)
		time.Sleep(time.Hour)
		st = r.Stats()
		require.EqualValues(t, 3, st.Compactions)
		require.EqualValues(t, 100, st.Compacted)
		time.Sleep(24 * time.Hour)
		require.EqualValues(t, 4, r.Stats().Compactions, "one a day")
		require.EqualValues(t, 100, r.Stats().Compacted)
		for i, o := range objs[:20] {
			r.reads(o, content(uint64(i), 250_000))
		}
		rep, err := r.Compact(t.Context(), store.CompactOptions{DryRun: true})
		require.NoError(t, err)
		require.EqualValues(t, 20*250_000, rep.Live)
	})
}

// What a compaction says that everything takes is what it takes, but for manifests.
func TestSpaceIsWhatItTakes(t *testing.T) {
	for _, n := range []int{5000, blk, blk + 1, 300_000, miB, 3*miB + 70_000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			r := newRig(t, 4, coded(2, 2, miB))
			if r.put("x", content(1, n)); n == 5000 {
				r.put("y", content(2, 9000))
			}
			rep, err := r.Compact(t.Context(), store.CompactOptions{DryRun: true})
			require.NoError(t, err)
			have := 0
			for _, m := range r.mems {
				for _, key := range m.Keys() {
					have += len(m.Bytes(key))
				}
			}
			require.InDelta(t, have, rep.Stored, 0.002*float64(have)+8192)
		})
	}
}

// A backend that fills up while a compaction writes ends it with an error that says so:
// nothing is lost, nothing stays behind, and it works again when there is room.
func TestCompactOntoAFullBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 4, kept(store.Upkeep{Quick: -1, Deep: -1, Rate: -1}, coded(2, 2, miB)))
		var objs []store.Object
		for i := range 80 {
			objs = append(objs, r.put(fmt.Sprint(i), content(uint64(i), 250_000)))
		}
		blobs := r.blobs()
		var room atomic.Int64
		for _, m := range r.mems {
			m.SetFault(func(op mem.Op) *mem.Fault {
				if op.Kind == mem.Write && room.Add(1) > 60 {
					return &mem.Fault{Arm: mem.Before, Err: fmt.Errorf("write: %w", store.ErrNoSpace)}
				}
				return nil
			})
		}
		_, err := r.Compact(t.Context(), store.CompactOptions{})
		require.ErrorIs(t, err, store.ErrNoSpace)
		require.Equal(t, blobs, r.blobs())
		time.Sleep(3 * time.Hour) // by itself it fares no better
		require.Zero(t, r.Stats().Compacted)
		require.Equal(t, blobs, r.blobs())
		for i, o := range objs {
			r.reads(o, content(uint64(i), 250_000))
		}
		for _, m := range r.mems {
			m.SetFault(nil)
		}
		time.Sleep(2 * time.Hour)
		require.EqualValues(t, 80, r.Stats().Compacted)
		for i, o := range objs {
			r.reads(o, content(uint64(i), 250_000))
		}
		r.cleanScrub()
	})
}

// trickle yields its bytes with an hour between one MiB and the next.
type trickle struct {
	data []byte
}

// Read is called in a synctest bubble.
func (r *trickle) Read(p []byte) (int, error) {
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	if len(r.data)%miB == 0 {
		time.Sleep(time.Hour)

	}
	n := copy(p, r.data[:1+(len(r.data)-1)%miB])
	r.data = r.data[n:]
	return n, nil
}

// A put that takes a day is left alone by collections, scrubs, compactions and reshapings.
func TestPutOfADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 4, kept(store.Upkeep{Deep: 3 * time.Hour}, coded(2, 2, miB)))
		data := content(1, 24*miB)
		type result struct {
			o   store.Object
			err error
		}
		done := make(chan result)
		go func() {
			o, err := r.Put(t.Context(), "x", &trickle{data: data}, store.PutOptions{Expect: store.AnyVersion})
			done <- result{o, err}
		}()
		for {
			select {
			case got := <-done:
				require.NoError(t, got.err)
				require.Len(t, r.extents(got.o), 24)
				r.reads(got.o, data)
				r.cleanScrub()
				return
			case <-time.After(20 * time.Minute):
				rep, err := r.Collect(t.Context(), store.CollectOptions{})
				require.NoError(t, err)
				require.Zero(t, rep.Blobs+rep.Killed+rep.Unclaimed)
				_, err = r.Compact(t.Context(), store.CompactOptions{})
				require.NoError(t, err)
				_, err = r.Reshape(t.Context(), store.ReshapeOptions{All: true})
				require.NoError(t, err)
			}
		}
	})
}
