package store_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/mem"
)

// Verifying a block allocates nothing, of data or of parity; reading and verifying a
// column costs its answer and the call, however many blocks it has.
func TestVerifyingAllocatesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector allocates as well")
	}
	for _, code := range []erasure.Code{{K: 1, M: 2}, {K: 3, M: 2}} {
		p := plan{e: store.Extent{Code: code, Whole: true, Shards: make([]store.Shard, code.Shards())}, data: content(1, code.K*16*blk-9)}
		p.build(t)
		v, err := store.NewVerifier(p.e, p.table)
		require.NoError(t, err)
		buf := make([]byte, 16*blk)
		for i := range code.Shards() {
			blob := memBlob(p.blob(i))
			block := p.columns[i][blk : 2*blk]
			require.True(t, v.Check(i, 1, block))
			require.Zero(t, testing.AllocsPerRun(20, func() { v.Check(i, 1, block) }), "shard %d of %v", i, code)
			good := v.ReadColumn(blob, i, 0, 16, buf)
			require.NotContains(t, good, false)
			require.LessOrEqual(t, testing.AllocsPerRun(20, func() { v.ReadColumn(blob, i, 0, 16, buf) }), 2.0, "16 blocks")
		}
	}
}

// flat is a backend whose readers allocate nothing.
type flat struct{ *mem.Backend }

func (f flat) Open(_ context.Context, key store.BackendKey, _ store.OpenOptions) (store.BackendReader, error) {
	return memBlob(f.Bytes(key)), nil
}

// A read of a few KiB somewhere in an object allocates nothing in the end, whether the
// backend has it or the cache.
func TestRandomReadsAllocateNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector allocates as well")
	}
	for name, change := range map[string]func(*store.Options){"uncached": uncached(3, 2, 0), "cached": coded(3, 2, 0), "extents": uncached(3, 2, miB)} {
		t.Run(name, func(t *testing.T) {
			const n = 4 * miB
			r := newRig(t, 5, func(o *store.Options) {
				change(o)
				for i, b := range o.Backends {
					o.Backends[i] = flat{b.(*mem.Backend)}
				}
			})
			data := content(1, n)
			rd := r.open(r.put("x", data))
			p := make([]byte, 4096)
			at := int64(0)
			read := func() {
				at = (at + 7*blk + 4096) % (n - 4096)
				if _, err := rd.ReadAt(p, at); err != nil || !bytes.Equal(p, data[at:at+4096]) {
					t.Errorf("ReadAt(%d) = %v, or other bytes", at, err)
				}
			}
			for range 200 { // blobs are opened, the cache is filled
				read()
			}
			require.Zero(t, testing.AllocsPerRun(300, read))
		})
	}
}

// memBlob is a BackendReader that allocates nothing.
type memBlob []byte

func (b memBlob) ReadAt(p []byte, off int64) (int, error) {
	n := copy(p, b[min(off, int64(len(b))):])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
func (b memBlob) Size() int64  { return int64(len(b)) }
func (b memBlob) Close() error { return nil }

// A stream that is read, or put, allocates a few small things for each block of it,
// none of them a block.
func TestStreamsAllocateLittle(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector allocates as well")
	}
	const n = 32 * miB
	r := newRig(t, 6, uncached(4, 2, 0))
	data := content(1, n)
	o := r.put("x", data)
	rd := r.open(o)
	read := testing.AllocsPerRun(3, func() {
		rd.Seek(0, io.SeekStart)
		if m, err := rd.WriteTo(io.Discard); m != n || err != nil {
			t.Errorf("WriteTo = %d, %v", m, err)
		}
	})
	require.Less(t, read, 6*float64(n/blk), "allocations of a read of %d blocks", n/blk)
	put := testing.AllocsPerRun(1, func() {
		b := r.NewBatch(t.Context())
		if err := b.Put("y", bytes.NewReader(data), store.PutOptions{Expect: store.AnyVersion}); err != nil {
			t.Errorf("Put: %v", err)
		}
		b.Abort()
	})
	least := uint64(1 << 62)
	for range 5 { // a collection in the middle, or memory lent in another size, is none of its doing
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		rd.Seek(0, io.SeekStart)
		_, err := rd.WriteTo(io.Discard)
		require.NoError(t, err)
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	require.Less(t, least, uint64(n/8), "bytes allocated by a read")
	require.Less(t, put, 12*float64(n/blk), "allocations of a put of %d blocks, most of them the backends' own", n/blk)
}

func BenchmarkPut(b *testing.B) {
	const n = 64 * miB
	r := newRig(b, 11, coded(8, 3, 0))
	data := content(1, n)
	b.SetBytes(n)
	b.ReportAllocs()
	for b.Loop() {
		batch := r.NewBatch(b.Context())
		require.NoError(b, batch.Put("x", bytes.NewReader(data), store.PutOptions{Size: n, Expect: store.AnyVersion}))
		batch.Abort() // which removes the blobs again
	}
}

func BenchmarkRead(b *testing.B) {
	for _, lost := range []int{0, 1, 3} {
		b.Run(fmt.Sprintf("lost=%d", lost), func(b *testing.B) {
			const n = 64 * miB
			r := newRig(b, 11, uncached(8, 3, 0))
			o := r.put("x", content(1, n))
			e := r.extents(o)[0]
			for i := range lost {
				m, key := r.shard(&e, i)
				m.Delete(key)
			}
			rd := r.open(o)
			b.SetBytes(n)
			b.ReportAllocs()
			for b.Loop() {
				rd.Seek(0, io.SeekStart)
				_, err := rd.WriteTo(io.Discard)
				require.NoError(b, err)
			}
		})
	}
}

func BenchmarkReadAt4K(b *testing.B) {
	for name, change := range map[string]func(*store.Options){"uncached": uncached(8, 3, 0), "cached": coded(8, 3, 0)} {
		b.Run(name, func(b *testing.B) {
			const n = 8 * miB
			r := newRig(b, 11, change)
			rd := r.open(r.put("x", content(1, n)))
			p := make([]byte, 4096)
			b.SetBytes(4096)
			b.ReportAllocs()
			for b.Loop() {
				_, err := rd.ReadAt(p, rand.Int64N(n-4096))
				require.NoError(b, err)
			}
		})
	}
}

// BenchmarkPutSmall puts 64 KiB from 64 goroutines.
func BenchmarkPutSmall(b *testing.B) {
	r := newRig(b, 3, coded(2, 1, 0))
	b.SetBytes(blk)
	b.SetParallelism(32)
	var n atomic.Uint64
	b.RunParallel(func(pb *testing.PB) {
		data := content(1, blk)
		for pb.Next() {
			i := n.Add(1)
			data[0], data[1], data[2] = byte(i), byte(i>>8), byte(i>>16)
			if _, err := r.Put(b.Context(), fmt.Sprint(i%100), bytes.NewReader(data), store.PutOptions{Size: blk, Expect: store.AnyVersion}); err != nil {
				b.Error(err)
			}
		}
	})
}
