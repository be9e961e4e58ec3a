package store_test

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/store"
)

// The limit in bytes holds at every moment, whatever is put by however many at
// once. // T8
func TestCacheLimit(t *testing.T) {
	const limit = 4 * miB
	c := store.NewCache(limit)
	var wg sync.WaitGroup
	most := make([]int64, 8)
	for g := range most {
		wg.Go(func() {
			block := make([]byte, blk)
			for i := range 1000 {
				c.Put(store.ExtentID{byte(g)}, i%700, block[:1+(i*7919)%blk])
				c.Get(store.ExtentID{byte(g)}, i%97)
				if i%20 == 0 {
					bytes, weight := c.Weight()
					most[g] = max(most[g], weight)
					if bytes > weight {
						most[g] = 1 << 60
					}
				}
			}
		})
	}
	wg.Wait()
	for _, n := range most {
		require.LessOrEqual(t, n, int64(limit))
	}
	bytes, _ := c.Weight()
	require.Greater(t, bytes, int64(limit*9/10), "and it is made use of")
	_, ghosts := c.Names()
	require.LessOrEqual(t, ghosts, limit/blk)

	tiny := store.NewCache(1000)
	tiny.Put(store.ExtentID{}, 0, make([]byte, blk))
	kept, _ := tiny.Names()
	require.Zero(t, kept, "a block larger than the cache is not kept")
	for i := range 10_000 {
		tiny.Put(store.ExtentID{}, i, []byte("a few bytes"))
	}
	kept, ghosts = tiny.Names()
	require.LessOrEqual(t, kept, 3)
	require.Zero(t, ghosts)
}

// Blocks that are read often survive a scan of many more cold ones than there is
// room for, although the scan reads each block piece by piece. // T8
func TestCacheSurvivesAScan(t *testing.T) {
	const hot, room = 16, 64
	c := store.NewCache(room * (blk + 300))
	block := bytes.Repeat([]byte{7}, blk)
	read := func(extent byte, i int) bool {
		_, ok := c.Get(store.ExtentID{extent}, i)
		if !ok {
			c.Put(store.ExtentID{extent}, i, block)
		}
		return ok
	}
	touch := func() (n int) {
		for i := range hot {
			if read(1, i) {
				n++
			}
		}
		return n
	}
	for range 3 {
		touch()
	}
	for i := range 40 * room {
		read(2, i)
	}
	require.Equal(t, hot, touch(), "hot blocks after a scan in whole blocks")
	for i := range 40 * room {
		for range 16 {
			read(3, i)
		}
		if i%(2*room) == 0 {
			require.Equal(t, hot, touch(), "hot blocks in the course of a scan in sixteenths")
		}
	}
}

// Reads that are skewed hit far more often than the share that is kept.
func TestCacheHitRate(t *testing.T) {
	const room = 100
	c := store.NewCache(room * (100 + 256))
	r := rand.New(rand.NewPCG(1, 2))
	z := rand.NewZipf(r, 1.1, 1, 9999)
	hits := 0
	for range 50_000 {
		i := int(z.Uint64())
		if _, ok := c.Get(store.ExtentID{}, i); ok {
			hits++
		} else {
			c.Put(store.ExtentID{}, i, make([]byte, 100))
		}
	}
	require.Greater(t, hits, 50_000/2, "a hundredth of the blocks is kept")
}

// What is put is copied, and a cache of nothing keeps nothing.
func TestCacheCopies(t *testing.T) {
	c := store.NewCache(miB)
	b := []byte("block")
	c.Put(store.ExtentID{}, 1, b)
	b[0] = 'X'
	got, ok := c.Get(store.ExtentID{}, 1)
	require.True(t, ok)
	require.Equal(t, "block", string(got))
	_, ok = c.Get(store.ExtentID{}, 2)
	require.False(t, ok)

	none := store.NewCache(-1)
	none.Put(store.ExtentID{}, 1, b)
	_, ok = none.Get(store.ExtentID{}, 1)
	require.False(t, ok)
}

// A read of a block that was read before touches no backend; what the cache holds is
// never returned to be changed.
func TestReadsFromTheCache(t *testing.T) {
	r := newRig(t, 3, coded(2, 1, miB))
	data := content(1, 400_000)
	rd := r.open(r.put("x", data))
	p := make([]byte, 10_000)
	for range 3 {
		n, err := rd.ReadAt(p, 70_000)
		require.NoError(t, err)
		require.True(t, bytes.Equal(data[70_000:70_000+n], p))
		clear(p)
	}
	for _, m := range r.mems {
		m.SetOffline(true)
	}
	_, err := rd.ReadAt(p, 70_000)
	require.NoError(t, err)
	require.EqualValues(t, 3, r.Stats().CacheHits)
	_, err = rd.ReadAt(p, 140_000)
	require.ErrorIs(t, err, store.ErrUnavailable)
}
