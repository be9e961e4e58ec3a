package blockframe_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
)

// Many small objects: what it takes to open the store, to look at one and to list a page
// does not depend on how many there are, nor does memory; the index and the space they
// take are bounded. A million of them with BLOCKFRAME_HEAVY=1. // R11
func TestManyObjects(t *testing.T) {
	n := 5_000
	switch {
	case heavy:
		n = 1_000_000
	case testing.Short():
		n = 1_000
	}
	ctx := context.Background()
	opts := blockframe.Options{Dirs: dirs(t, 1), Grace: -1, Upkeep: blockframe.Upkeep{Off: true}}
	st := open(t, opts)
	began, bytes := time.Now(), putMany(t, st, n)
	took := time.Since(began)
	_, err := st.Compact(ctx, blockframe.CompactOptions{})
	require.NoError(t, err)
	_, err = st.Collect(ctx, blockframe.CollectOptions{})
	require.NoError(t, err)
	rep, err := st.Compact(ctx, blockframe.CompactOptions{DryRun: true})
	require.NoError(t, err)
	require.NoError(t, st.Close())
	index := size(t, filepath.Join(opts.Dirs[0], "view"))
	began = time.Now()
	st = open(t, opts)
	opened := time.Since(began)
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	t.Logf("%d objects, %d bytes: put %.0f/s; open %v; index %d bytes an object; stored %.3f of %.3f; %d MiB from the system", n, bytes,
		float64(n)/took.Seconds(), opened.Round(time.Millisecond), index/int64(n), float64(rep.Stored)/float64(rep.Live), 1.25*1.25, mem.Sys>>20)
	require.LessOrEqual(t, float64(rep.Stored), 1.25*float64(rep.Live)*10/8, "8+2")
	if n >= 5_000 { // below that it is the files that count, not the rows
		require.LessOrEqual(t, index, int64(400*n))
	}

	reads := func(f func()) int64 {
		before := st.RowsRead()
		f()
		return st.RowsRead() - before
	}
	name := manyName(n / 2)
	require.LessOrEqual(t, reads(func() {
		_, err := st.Stat(ctx, name)
		require.NoError(t, err)
	}), int64(8), "Stat")
	require.LessOrEqual(t, reads(func() { require.Len(t, get(t, st, name, 0), manySize(n/2)) }), int64(24), "Open and read")
	const page = 100
	require.LessOrEqual(t, reads(func() {
		seen := 0
		for _, err := range st.List(ctx, filepath.Dir(name), blockframe.ListOptions{After: name}) {
			require.NoError(t, err)
			if seen++; seen == page {
				break
			}
		}
		require.Equal(t, page, seen)
	}), int64(8*page), "a page of a list")
}

// manyName spreads objects over directories of a thousand.
func manyName(i int) string { return fmt.Sprintf("many/%04d/%03d", i/1000, i%1000) }

// manySize is 1 to 16 KiB.
func manySize(i int) int { return 1024 + int(rand.New(rand.NewPCG(uint64(i), 9)).Uint32()%(15<<10)) }

// putMany puts objects in batches of about a thousand, and returns how many bytes they have.
func putMany(t *testing.T, st *blockframe.Store, n int) (total int64) {
	t.Helper()
	source := rand.New(rand.NewPCG(1, 1))
	noise := make([]byte, 1<<20)
	for i := range noise {
		noise[i] = byte(source.Uint32())
	}
	attr := &blockframe.Attr{Mode: 0o644, ModTime: time.Unix(1_700_000_000, 0)}
	for i := 0; i < n; {
		b := st.Batch(context.Background())
		for range min(1000, n-i) {
			data := noise[(i*4099)%(len(noise)-17<<10):][:manySize(i)]
			data = append([]byte(fmt.Sprintf("%08d", i)), data[8:]...) // no two are the same
			require.NoError(t, b.Put(manyName(i), bytes.NewReader(data), blockframe.PutOptions{Attr: attr}))
			total += int64(len(data))
			i++
		}
		_, err := b.Commit()
		require.NoError(t, err)
	}
	return total
}

// size returns the bytes of the files in a directory.
func size(t testing.TB, dir string) (total int64) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	}))
	return total
}
