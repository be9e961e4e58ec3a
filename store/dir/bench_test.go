package dir_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/dir"
	"github.com/blockframe/blockframe/store/storetest"
)

// BenchmarkWrite writes 11 blobs of 32 MiB at once, as the shards of an extent
// are, past the page cache and through it.
func BenchmarkWrite(b *testing.B) {
	const shards, size, piece = 11, 32 << 20, 128 << 10
	for name, opts := range map[string]dir.Options{"direct": {}, "buffered": {Buffered: true}} {
		b.Run(name, func(b *testing.B) {
			be := open(b, durable.OS(), b.TempDir()+"/d", opts)
			buf := frame.Aligned(piece)
			copy(buf, storetest.Content(1, piece))
			b.SetBytes(shards * size)
			for b.Loop() {
				writeShards(b, be, shards, size/piece, buf)
			}
		})
	}
}

func writeShards(b *testing.B, be *dir.Backend, shards, pieces int, buf []byte) {
	var wg sync.WaitGroup
	keys := make([]store.BackendKey, shards)
	for i := range shards {
		keys[i] = store.Key(store.ExtentID{1}, i, 0, 0, store.UploadID{})
		wg.Go(func() {
			w, err := be.Create(b.Context(), keys[i])
			for range pieces {
				if err == nil {
					_, err = w.Write(buf)
				}
			}
			if err == nil {
				err = w.Commit()
			}
			if err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	for _, k := range keys {
		require.NoError(b, be.Remove(b.Context(), k))
	}
	b.StartTimer()
}

// BenchmarkSmall writes 11 blobs of 64 KiB at once and waits for all: the shards
// of one extent, which share a folder, or of 11 extents. It does so alone, and
// beside seven others that do the same. ns/op is of 11 blobs.
func BenchmarkSmall(b *testing.B) {
	for _, puts := range []int{1, 8} {
		for _, spread := range []bool{false, true} {
			b.Run(fmt.Sprintf("puts=%d/spread=%t", puts, spread), func(b *testing.B) {
				be := open(b, durable.OS(), b.TempDir()+"/d", dir.Options{})
				content := storetest.Content(1, 64<<10)
				var next atomic.Int64
				var wg sync.WaitGroup
				b.ResetTimer()
				for range puts {
					wg.Go(func() {
						for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
							putEleven(b, be, int(n), spread, content)
						}
					})
				}
				wg.Wait()
			})
		}
	}
}

func putEleven(b *testing.B, be *dir.Backend, n int, spread bool, content []byte) {
	var wg sync.WaitGroup
	for i := range 11 {
		extent := store.ExtentID{byte(n), byte(n >> 8)}
		if spread {
			extent[2] = byte(i)
		}
		wg.Go(func() {
			key := store.Key(extent, i, uint32(n), 0, store.UploadID{})
			if err := storetest.Put(b.Context(), be, key, content); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
}

// BenchmarkList lists 2,000 blobs: for the first time since Open, which syncs the
// folders, and again.
func BenchmarkList(b *testing.B) {
	root := b.TempDir() + "/d"
	be := open(b, durable.OS(), root, dir.Options{Buffered: true})
	for i := range 2000 {
		require.NoError(b, storetest.Put(b.Context(), be, storetest.Key(i), nil))
	}
	require.NoError(b, be.Close())
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			be := reopen(b, durable.OS(), root, dir.Options{})
			keys(b, be)
			require.NoError(b, be.Close())
		}
	})
	b.Run("later", func(b *testing.B) {
		be := reopen(b, durable.OS(), root, dir.Options{})
		for b.Loop() {
			keys(b, be)
		}
	})
}
