package mem_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/mem"
	"github.com/blockframe/blockframe/store/storetest"
)

func TestBackend(t *testing.T) {
	for name, opts := range map[string]mem.Options{"plain": {}, "eliding": {ElideZeros: true}} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t testing.TB) store.Backend {
				b := mem.New(opts)
				t.Cleanup(func() { require.Zero(t, b.Handles(), "readers and writers left open") })
				return b
			})
		})
	}
}

func put(t testing.TB, b *mem.Backend, n int, content []byte) {
	t.Helper()
	require.NoError(t, storetest.Put(t.Context(), b, storetest.Key(n), content))
}

func get(b *mem.Backend, n int) ([]byte, error) {
	return storetest.Get(context.Background(), b, storetest.Key(n), store.OpenOptions{})
}

// Every operation fails on request, before or after it happened.
func TestFaults(t *testing.T) {
	bad := errors.New("bad")
	for _, arm := range []mem.Arm{mem.Before, mem.After} {
		happened := arm == mem.After
		for _, kind := range []mem.Kind{mem.Create, mem.Write, mem.Commit, mem.Open, mem.Read, mem.List, mem.Remove, mem.Usage} {
			b := mem.New(mem.Options{})
			put(t, b, 1, storetest.Content(1, 5000))
			b.SetFault(func(op mem.Op) *mem.Fault {
				if op.Kind != kind {
					return nil
				}
				return &mem.Fault{Arm: arm, Err: bad}
			})
			putErr := storetest.Put(t.Context(), b, storetest.Key(2), storetest.Content(2, 100))
			_, getErr := get(b, 1)
			_, listErr := storetest.Keys(t.Context(), b, "", "")
			_, usageErr := b.Usage(t.Context())
			removeErr := b.Remove(t.Context(), storetest.Key(1))
			for of, err := range map[mem.Kind]error{mem.List: listErr, mem.Usage: usageErr, mem.Remove: removeErr} {
				require.Equal(t, of == kind, errors.Is(err, bad), "%s with a fault of %s", of, kind)
			}
			require.Equal(t, kind == mem.Create || kind == mem.Write || kind == mem.Commit, errors.Is(putErr, bad))
			require.Equal(t, kind == mem.Open || kind == mem.Read, errors.Is(getErr, bad))
			require.Equal(t, putErr == nil || kind == mem.Commit && happened, b.Bytes(storetest.Key(2)) != nil)
			require.Equal(t, removeErr == nil || happened, b.Bytes(storetest.Key(1)) == nil)
			require.Zero(t, b.Handles())
		}
	}
}

// A blob of which a write failed cannot be committed.
func TestNoCommitAfterAFailedWrite(t *testing.T) {
	b := mem.New(mem.Options{Capacity: 10_000})
	w, err := b.Create(t.Context(), storetest.Key(1))
	require.NoError(t, err)
	_, err = w.Write(frame.Aligned(8192))
	require.NoError(t, err)
	_, err = w.Write(frame.Aligned(4096))
	require.ErrorIs(t, err, store.ErrNoSpace)
	require.ErrorIs(t, w.Commit(), store.ErrNoSpace)
	require.Empty(t, b.Keys())
	put(t, b, 1, storetest.Content(1, 10_000)) // the room is back
	require.ErrorIs(t, storetest.Put(t.Context(), b, storetest.Key(2), frame.Aligned(1)), store.ErrNoSpace)
	require.NoError(t, b.Remove(t.Context(), storetest.Key(1)))
	put(t, b, 2, storetest.Content(1, 10_000))
	b.SetCapacity(20_000)
	put(t, b, 3, storetest.Content(1, 10_000))
}

func TestMisalignedWritesAreRefused(t *testing.T) {
	b := mem.New(mem.Options{})
	w, err := b.Create(t.Context(), storetest.Key(1))
	require.NoError(t, err)
	_, err = w.Write(frame.Aligned(2)[1:])
	require.ErrorIs(t, err, fs.ErrInvalid)
	_, err = w.Write(frame.Aligned(1))
	require.NoError(t, err)
	_, err = w.Write(frame.Aligned(1)) // the one before was not the last
	require.ErrorIs(t, err, fs.ErrInvalid)
	require.NoError(t, w.Abort())
}

func TestOffline(t *testing.T) {
	b := mem.New(mem.Options{})
	put(t, b, 1, storetest.Content(1, 100))
	r, err := b.Open(t.Context(), storetest.Key(1), store.OpenOptions{})
	require.NoError(t, err)
	b.SetOffline(true)
	_, err = get(b, 1)
	require.ErrorIs(t, err, store.ErrUnavailable)
	_, err = r.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.ErrorIs(t, storetest.Put(t.Context(), b, storetest.Key(2), nil), store.ErrUnavailable)
	b.SetOffline(false)
	_, err = get(b, 1)
	require.NoError(t, err)
	require.NoError(t, r.Close())
}

// A slow operation takes its time, and no longer than its context.
func TestLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mem.New(mem.Options{})
		put(t, b, 1, storetest.Content(1, 100))
		b.SetLatency(func(op mem.Op) time.Duration {
			if op.Kind == mem.Read {
				return time.Hour
			}
			return 0
		})
		start := time.Now()
		_, err := get(b, 1)
		require.NoError(t, err)
		require.Equal(t, time.Hour, time.Since(start))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r, err := b.Open(ctx, storetest.Key(1), store.OpenOptions{})
		require.NoError(t, err)
		_, err = r.ReadAt(make([]byte, 1), 0)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Hour+time.Second, time.Since(start))
		require.NoError(t, r.Close())
	})
}

// Damage shows at once, also to readers that are open.
func TestDamage(t *testing.T) {
	b := mem.New(mem.Options{})
	content := storetest.Content(1, 150_000)
	put(t, b, 1, content)
	put(t, b, 2, storetest.Content(2, 10))
	before := b.Clone()
	r, err := b.Open(t.Context(), storetest.Key(1), store.OpenOptions{})
	require.NoError(t, err)
	defer r.Close()

	b.Flip(storetest.Key(1), 70_000, 0x81)
	p := make([]byte, 1)
	_, err = r.ReadAt(p, 70_000)
	require.NoError(t, err)
	require.Equal(t, content[70_000]^0x81, p[0])
	b.Flip(storetest.Key(1), 70_000, 0x81)
	require.Equal(t, content, b.Bytes(storetest.Key(1)))

	b.Truncate(storetest.Key(1), 65_537)
	require.Equal(t, content[:65_537], b.Bytes(storetest.Key(1)))
	_, err = r.ReadAt(p, 70_000)
	require.Equal(t, io.EOF, err)
	b.Truncate(storetest.Key(1), 65_540)
	require.Equal(t, append(content[:65_537:65_537], 0, 0, 0), b.Bytes(storetest.Key(1)))

	b.Swap(storetest.Key(1), storetest.Key(2))
	require.Equal(t, storetest.Content(2, 10), b.Bytes(storetest.Key(1)))
	b.Delete(storetest.Key(1))
	b.Delete(storetest.Key(1))
	require.Nil(t, b.Bytes(storetest.Key(1)))
	require.EqualValues(t, -1, b.Size(storetest.Key(1)))
	b.SetBytes(storetest.Key(9), []byte("stray"))
	require.Equal(t, "stray", string(b.Bytes(storetest.Key(9))))

	require.Equal(t, content, before.Bytes(storetest.Key(1)), "a clone is on its own")
	u, err := before.Usage(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 150_010, u.Total-u.Free)
	u, err = b.Usage(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 65_540+5, u.Total-u.Free)
}

// 36 GB of zeros with a few bytes of something fit (R9). The normal run takes
// 2 GB of them, a short one a sixteenth.
func TestElision(t *testing.T) {
	size := 2 << 30
	if testing.Short() {
		size = 128 << 20
	}
	if os.Getenv("BLOCKFRAME_HEAVY") != "" {
		size = 36 << 30
	}
	b := mem.New(mem.Options{ElideZeros: true})
	w, err := b.Create(t.Context(), storetest.Key(1))
	require.NoError(t, err)
	zeros := frame.Aligned(1 << 20)
	before := heap()
	for range size / len(zeros) {
		_, err := w.Write(zeros)
		require.NoError(t, err)
	}
	_, err = w.Write(storetest.Content(1, 4096))
	require.NoError(t, err)
	require.NoError(t, w.Commit())
	if !testing.Short() { // the race detector has a heap of its own ideas
		require.Less(t, heap()-before, int64(size/1000))
	}
	got := make([]byte, 5000)
	r, err := b.Open(t.Context(), storetest.Key(1), store.OpenOptions{})
	require.NoError(t, err)
	require.EqualValues(t, size+4096, r.Size())
	n, err := r.ReadAt(got, r.Size()-5000)
	require.NoError(t, err)
	require.Equal(t, append(make([]byte, 904), storetest.Content(1, 4096)...), got[:n])
	require.NoError(t, r.Close())
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
