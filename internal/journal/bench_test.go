package journal_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/internal/journal"
)

// BenchmarkSync is the yardstick: one fdatasync after an overwrite of 4 KiB.
func BenchmarkSync(b *testing.B) {
	f, err := durable.OS().Create(filepath.Join(b.TempDir(), "f"), durable.CreateOptions{})
	require.NoError(b, err)
	defer f.Close()
	page := frame.Aligned(frame.Grid)
	for i := range int64(1024) {
		_, err := f.WriteAt(page, i*frame.Grid)
		require.NoError(b, err)
	}
	require.NoError(b, f.Sync())
	b.ResetTimer()
	for i := range b.N {
		_, err := f.WriteAt(page, int64(i%1024)*frame.Grid)
		require.NoError(b, err)
		require.NoError(b, f.Sync())
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
