package journal_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/internal/journal"
)

// BenchmarkSync is the yardstick: one fdatasync after an overwrite of 4 KiB, of
// so many files at once.
func BenchmarkSync(b *testing.B) {
	for _, members := range []int{1, 2, 3} {
		b.Run(fmt.Sprint(members), func(b *testing.B) { benchmarkSync(b, members) })
	}
}

func benchmarkSync(b *testing.B, members int) {
	page, files := frame.Aligned(frame.Grid), make([]durable.File, members)
	for i := range files {
		f, err := durable.OS().Create(filepath.Join(b.TempDir(), "f"), durable.CreateOptions{})
		require.NoError(b, err)
		defer f.Close()
		for k := range int64(1024) {
			_, err := f.WriteAt(page, k*frame.Grid)
			require.NoError(b, err)
		}
		require.NoError(b, f.Sync())
		files[i] = f
	}
	b.ResetTimer()
	for n := range b.N {
		var wg sync.WaitGroup
		for _, f := range files {
			wg.Go(func() {
				if _, err := f.WriteAt(page, int64(n%1024)*frame.Grid); err != nil || f.Sync() != nil {
					b.Error("write and sync", err)
				}
			})
		}
		wg.Wait()
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, members := range []int{1, 2, 3} {
		for _, size := range []int{3 << 10, 64 << 10, 512 << 10} {
			b.Run(fmt.Sprintf("%dx%dKiB", members, size>>10), func(b *testing.B) { benchmarkAppend(b, members, size) })
		}
	}
}

func benchmarkAppend(b *testing.B, members, size int) {
	opts := journal.Options{Create: true, StoreID: storeID}
	for i := range members {
		opts.Members = append(opts.Members, journal.Member{FS: durable.OS(), Dir: filepath.Join(b.TempDir(), "log"), Name: fmt.Sprint(i)})
	}
	j := open(b, opts)
	batch := [][]byte{record(1, size)}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if _, err := j.Append(batch); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	require.NoError(b, j.Close())
}
