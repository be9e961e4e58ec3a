package blockframe_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/blake3"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/store/mem"
)

// flood yields n bytes, no two blocks alike, for next to nothing.
type flood struct {
	n, at int64
	seed  uint64
	noise []byte
}

func newFlood(seed uint64, n int64) *flood { return &flood{n: n, seed: seed, noise: floodNoise()} }

// floodNoise is what all floods are made of.
var floodNoise = sync.OnceValue(func() []byte { return content(0, 1<<20) })

func (f *flood) Read(p []byte) (n int, err error) {
	for n < len(p) && f.at < f.n {
		in := f.at % (1 << 20)
		m := int(min(int64(len(p)-n), f.n-f.at, 4096-in%4096))
		copy(p[n:n+m], f.noise[in:])
		if in%4096 == 0 && m >= 16 {
			binary.BigEndian.PutUint64(p[n:], f.seed)
			binary.BigEndian.PutUint64(p[n+8:], uint64(f.at))
		}
		n, f.at = n+m, f.at+int64(m)
	}
	if n == 0 && f.at == f.n {
		return 0, io.EOF
	}
	return n, nil
}

// counter counts and hashes what is written to it.
type counter struct {
	n int64
	h *blake3.Hasher
}

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return c.h.Write(p)
}

// resident returns the bytes of memory of the process: what the runtime holds, or
// more, what the system counts.
func resident() int64 {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	held := int64(s[0].Value.Uint64() - s[1].Value.Uint64())
	if b, err := os.ReadFile("/proc/self/statm"); err == nil {
		if f := strings.Fields(string(b)); len(f) > 1 {
			pages, _ := strconv.ParseInt(f[1], 10, 64)
			return max(held, pages*int64(os.Getpagesize()))
		}
	}
	return held
}

// peak runs f and returns by how much memory grew meanwhile, at most.
func peak(f func()) int64 {
	runtime.GC()
	debug.FreeOSMemory()
	idle := resident()
	stop, done := make(chan struct{}), make(chan int64)
	go func() {
		most := int64(0)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			most = max(most, resident()-idle)
			select {
			case <-tick.C:
			case <-stop:
				done <- most
				return
			}
		}
	}()
	f()
	close(stop)
	return <-done
}

// R12: memory does not depend on the length of an object: put and get of 1 GiB take
// at most 50 MiB more than the idle open store; with BLOCKFRAME_HEAVY=1 10 GiB, and
// 16 streams at once, for which the bound is 50 MiB and 6 for each stream: buffers of
// its shards, and a stripe with the reader whether the budget has it or not.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector and -short change how much memory is used")
	}
	size, streams := int64(1<<30), 1
	t.Run("1 GiB", func(t *testing.T) { requireFlat(t, size, streams) })
	if os.Getenv("BLOCKFRAME_HEAVY") == "" {
		return
	}
	t.Run("10 GiB", func(t *testing.T) { requireFlat(t, 10<<30, 1) })
	t.Run("16 streams", func(t *testing.T) { requireFlat(t, 1<<29, 16) })
}

func requireFlat(t *testing.T, size int64, streams int) {
	ctx := context.Background()
	st := fresh(t, 1)
	put(t, st, "warm", content(1, 8<<20)) // tables of the code, pools, goroutines
	get(t, st, "warm", 0)
	each := func(f func(i int) error) {
		var work sync.WaitGroup
		for i := range streams {
			work.Go(func() {
				if err := f(i); err != nil {
					t.Error(err)
				}
			})
		}
		work.Wait()
	}
	ids := make([]blockframe.ID, streams)
	began := time.Now()
	up := peak(func() {
		each(func(i int) error {
			obj, err := st.Put(ctx, fmt.Sprint("big", i), newFlood(uint64(i), size), blockframe.PutOptions{Size: size})
			ids[i] = obj.ID
			return err
		})
	})
	put := time.Since(began)
	began = time.Now()
	down := peak(func() {
		each(func(i int) error {
			rd, err := st.Open(ctx, fmt.Sprint("big", i))
			if err != nil {
				return err
			}
			defer rd.Close()
			c := &counter{h: blake3.New()}
			if _, err = io.Copy(c, rd); err != nil {
				return err
			}
			if c.n != size || blockframe.ID(c.h.Sum(nil)) != ids[i] {
				return fmt.Errorf("stream %d: other bytes came back", i)
			}
			return nil
		})
	})
	t.Logf("%d streams of %d MiB: put %v and %.1f MiB, get %v and %.1f MiB over the idle store", streams, size>>20,
		put.Round(time.Millisecond), float64(up)/(1<<20), time.Since(began).Round(time.Millisecond), float64(down)/(1<<20))
	limit := int64(50 << 20)
	if streams > 1 {
		limit += int64(streams) * (6 << 20)
	}
	require.Less(t, up, limit, "put")
	require.Less(t, down, limit, "get")
}

// R9: objects of awkward lengths, of decimal tiers and of many extents; over 35 GB
// on a backend that keeps no zeros.
func TestAwkwardSizes(t *testing.T) {
	sizes := []int64{0, 1, 63, 64, 65, 25_000_000 - 1, 25_000_000, 25_000_000 + 1}
	if testing.Short() {
		sizes = sizes[:6]
	}
	if os.Getenv("BLOCKFRAME_HEAVY") != "" {
		sizes = append(sizes, 1_000_000_000-1, 1_000_000_000, 1_000_000_000+1, 30*32<<20+1)
	}
	st := open(t, blockframe.Options{Dirs: dirs(t, 1), Policies: blockframe.TiersArchive("", 34)})
	for _, size := range sizes {
		roundTrip(t, st, size)
	}
}

// roundTrip puts a flood, reads it back, and reads around its end.
func roundTrip(t *testing.T, st *blockframe.Store, size int64) {
	t.Helper()
	ctx := context.Background()
	name := fmt.Sprint("size/", size)
	want := &counter{h: blake3.New()}
	obj, err := st.Put(ctx, name, io.TeeReader(newFlood(uint64(size), size), want), blockframe.PutOptions{Size: size})
	require.NoError(t, err)
	require.Equal(t, size, obj.Size)
	require.Equal(t, blockframe.ID(want.h.Sum(nil)), obj.ID, "size %d", size)
	rd, err := st.Open(ctx, name)
	require.NoError(t, err)
	defer rd.Close()
	got := &counter{h: blake3.New()}
	_, err = io.Copy(got, rd)
	require.NoError(t, err)
	require.Equal(t, size, got.n)
	require.Equal(t, obj.ID, blockframe.ID(got.h.Sum(nil)), "size %d", size)
	p := make([]byte, 1000)
	n, err := rd.ReadAt(p, max(0, size-10))
	require.Equal(t, io.EOF, err)
	require.EqualValues(t, min(10, size), n)
	_, err = rd.ReadAt(p, size)
	require.Equal(t, io.EOF, err)
}

// R9: more than 35 GB, on backends in memory that keep nothing of blocks of zeros.
func TestBeyond35GB(t *testing.T) {
	if os.Getenv("BLOCKFRAME_HEAVY") == "" {
		t.Skip("takes minutes; set BLOCKFRAME_HEAVY=1")
	}
	ctx := context.Background()
	opts := blockframe.Options{LogDirs: dirs(t, 1)}
	for range 5 {
		opts.Backends = append(opts.Backends, mem.New(mem.Options{ElideZeros: true}))
	}
	st := open(t, opts)
	const size = 35_000_000_000 + 12_345
	want := &counter{h: blake3.New()}
	obj, err := st.Put(ctx, "huge", io.TeeReader(io.LimitReader(zeros{}, size), want), blockframe.PutOptions{Size: size})
	require.NoError(t, err)
	require.Equal(t, blockframe.ID(want.h.Sum(nil)), obj.ID)
	rd, err := st.Open(ctx, "huge")
	require.NoError(t, err)
	defer rd.Close()
	got := &counter{h: blake3.New()}
	_, err = io.Copy(got, rd)
	require.NoError(t, err)
	require.EqualValues(t, size, got.n)
	require.Equal(t, obj.ID, blockframe.ID(got.h.Sum(nil)))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
