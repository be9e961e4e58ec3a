package merkle_test

import (
	"hash"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/blake3"

	"github.com/blockframe/blockframe/merkle"
)

// Sizes of DESIGN section 2 with the extent scaled down, then some at random,
// in blocks of 64 KiB: every table, every fold, against zeebo.
func TestExtents(t *testing.T) {
	const extent = 16 * block
	list := []int{1, block - 1, block, block + 1, extent - 1, extent, extent + 1, extent + 1024, extent + block, 3*extent + 1}
	r := rand.New(rand.NewPCG(30, 30))
	rounds := 20
	if testing.Short() {
		rounds = 2
	}
	for range rounds {
		list = append(list, 1+r.IntN(5*extent))
	}
	data := noise(slices.Max(list), 31)
	for _, n := range list {
		require.Equal(t, blake3.Sum256(data[:n]), foldExtents(t, data[:n], extent), "size %d", n)
	}
}

// foldExtents returns the content id of data by way of its extents' tables.
func foldExtents(t *testing.T, data []byte, extent int) merkle.CV {
	t.Helper()
	if len(data) <= extent {
		return tableOf(t, data, 0, block, true).Hash()
	}
	var hashes []merkle.CV
	for off := 0; off < len(data); off += extent {
		tab := tableOf(t, data[off:min(len(data), off+extent)], int64(off), block, false)
		require.NoError(t, tab.Validate())
		hashes = append(hashes, tab.Hash())
	}
	return merkle.FoldRoot(hashes)
}

// The same at full size: extents of 256 MiB, content made as it goes.
func TestExtentsHeavy(t *testing.T) {
	if os.Getenv("BLOCKFRAME_HEAVY") == "" {
		t.Skip("hashes 1.75 GiB: set BLOCKFRAME_HEAVY=1")
	}
	const extent = 256 << 20
	for _, n := range []int64{extent - 1, extent, extent + 1, extent + 1024, 3*extent + 1} {
		oracle := blake3.New()
		var hashes []merkle.CV
		for off := int64(0); off < n; off += extent {
			hashes = append(hashes, generatedExtent(t, oracle, off, min(extent, n-off), n <= extent))
		}
		got := hashes[0]
		if len(hashes) > 1 {
			got = merkle.FoldRoot(hashes)
		}
		require.Equal(t, oracle.Sum(nil), got[:], "size %d", n)
	}
}

func generatedExtent(t *testing.T, oracle hash.Hash, off, length int64, whole bool) merkle.CV {
	t.Helper()
	b := merkle.NewBuilder(off, block)
	for i := 0; int64(i)*block < length; i++ {
		data := noise(int(min(block, length-int64(i)*block)), uint64(off)+uint64(i))
		oracle.Write(data)
		b.Add(i, data)
	}
	tab, err := b.Finish(length, whole)
	require.NoError(t, err)
	return tab.Hash()
}

// Check takes the very block and nothing else: not another block, not one that
// is a byte short or long, not one flipped bit, not the same bytes elsewhere.
func TestCheck(t *testing.T) {
	const B = 1024
	for _, n := range []int{1, B - 1, B, B + 1, 5*B - 7} {
		for _, off := range []int64{0, 8 * B} {
			data := noise(n, uint64(n))
			tab := tableOf(t, data, off, B, off == 0)
			require.Equal(t, merkle.Blocks(int64(n), B), int64(len(tab.CVs)))
			for i := range tab.CVs {
				blk := slices.Clone(data[i*B : min(n, (i+1)*B)])
				require.True(t, tab.Check(i, blk), "size %d block %d", n, i)
				for j := -1; j <= len(tab.CVs); j++ {
					require.Equal(t, i == j, tab.Check(j, blk), "size %d: block %d taken for %d", n, i, j)
				}
				require.False(t, tab.Check(i, blk[:len(blk)-1]))
				require.False(t, tab.Check(i, append(blk[:len(blk):len(blk)], 0)))
				bit := (i*131 + n) % (8 * len(blk))
				blk[bit/8] ^= 1 << (bit % 8)
				require.False(t, tab.Check(i, blk), "size %d block %d bit %d", n, i, bit)
			}
			require.False(t, tab.Check(0, nil))
			require.False(t, tab.Check(0, make([]byte, merkle.MaxBlockSize+1)))
		}
	}
	zeros := make([]byte, 2*B)
	tab := tableOf(t, zeros, 0, B, true)
	require.NotEqual(t, tab.CVs[0], tab.CVs[1], "equal blocks at two positions")
}

func TestEmptyStream(t *testing.T) {
	tab := tableOf(t, nil, 0, block, true)
	require.Empty(t, tab.CVs)
	require.Equal(t, blake3.Sum256(nil), tab.Hash())
	require.False(t, tab.Check(0, nil))
	require.False(t, tab.Check(0, []byte{0}))
}

// T10, R14: a table from outside that cannot be true is refused with a reason.
func TestTableValidate(t *testing.T) {
	const B = 1024
	good := merkle.Table{Offset: 4 * B, Length: 3*B + 1, BlockSize: B, CVs: make([]merkle.CV, 4)}
	require.NoError(t, good.Validate())
	bad := map[string]func(*merkle.Table){
		"no block size":      func(t *merkle.Table) { t.BlockSize = 0 },
		"negative size":      func(t *merkle.Table) { t.BlockSize = -B },
		"odd block size":     func(t *merkle.Table) { t.BlockSize = B + 1 },
		"small blocks":       func(t *merkle.Table) { t.BlockSize = B / 2 },
		"large blocks":       func(t *merkle.Table) { t.BlockSize = 2 << 20 },
		"negative length":    func(t *merkle.Table) { t.Length = -1 },
		"empty part":         func(t *merkle.Table) { t.Length, t.CVs = 0, nil },
		"negative offset":    func(t *merkle.Table) { t.Offset = -4 * B },
		"overflow":           func(t *merkle.Table) { t.Offset = 1<<63 - B },
		"whole at an offset": func(t *merkle.Table) { t.Whole = true },
		"entry missing":      func(t *merkle.Table) { t.CVs = t.CVs[1:] },
		"entry too many":     func(t *merkle.Table) { t.Length = 3 * B },
		"hostile length":     func(t *merkle.Table) { t.Offset, t.Length = 0, 1<<63-1 },
		"off the grid":       func(t *merkle.Table) { t.Offset++ },
		"no subtree":         func(t *merkle.Table) { t.Offset = 2 * B },
	}
	for name, spoil := range bad {
		tab := good
		spoil(&tab)
		require.Error(t, tab.Validate(), name)
	}
}

// Mistakes of a caller end in an error from Finish, never in a wrong table.
func TestBuilderMisuse(t *testing.T) {
	const B = 1024
	full, short := noise(B, 1), noise(B-1, 2)
	type adds map[int][]byte
	cases := []struct {
		name      string
		offset    int64
		blockSize int
		add       adds
		length    int64
		whole     bool
	}{
		{"block size", 0, 1000, adds{0: full}, B, true},
		{"zero block size", 0, 0, adds{0: full}, B, true},
		{"negative offset", -B, B, adds{0: full}, B, false},
		{"offset off the grid", 512, B, adds{0: full}, B, false},
		{"offset off the tree", B, B, adds{0: full, 1: full}, 2 * B, false},
		{"whole at an offset", B, B, adds{0: full}, B, true},
		{"missing", 0, B, adds{0: full, 2: full}, 3 * B, true},
		{"nothing", 0, B, nil, B, true},
		{"empty part", 0, B, nil, 0, false},
		{"negative length", 0, B, nil, -1, true},
		{"left over", 0, B, adds{0: full, 1: full}, B, true},
		{"shorter than said", 0, B, adds{0: full, 1: short}, 2 * B, true},
		{"longer than said", 0, B, adds{0: full, 1: full}, 2*B - 1, true},
		{"short in the middle", 0, B, adds{0: short, 1: full}, 2 * B, true},
		{"two short", 0, B, adds{0: short, 1: short}, 2*B - 1, true},
		{"empty block", 0, B, adds{0: nil}, 0, true},
		{"overlong block", 0, B, adds{0: noise(B+1, 3)}, B + 1, true},
		{"negative block", 0, B, adds{-1: full, 0: full}, B, true},
		{"far past the end", 0, B, adds{0: full, math.MaxInt: full}, B, true},
		{"past the limit", 0, B, adds{0: full, merkle.MaxBlocks: full}, B, true},
		{"at the end of all", 1<<63 - B, B, adds{0: full}, B, false},
	}
	for _, c := range cases {
		b := merkle.NewBuilder(c.offset, c.blockSize)
		for i, data := range c.add {
			b.Add(i, data)
		}
		_, err := b.Finish(c.length, c.whole)
		require.ErrorContains(t, err, "merkle: ", c.name)
	}
}

func TestBuilderSameBlockTwice(t *testing.T) {
	const B = 1024
	data := noise(B+5, 6)
	b := merkle.NewBuilder(0, B)
	for _, i := range []int{1, 0, 1, 0} {
		b.Add(i, data[i*B:min(len(data), (i+1)*B)])
	}
	tab, err := b.Finish(int64(len(data)), true)
	require.NoError(t, err)
	require.Equal(t, blake3.Sum256(data), tab.Hash())

	b = merkle.NewBuilder(0, B)
	b.Add(0, data[:B])
	b.Add(0, data[5:])
	_, err = b.Finish(B, true)
	require.ErrorContains(t, err, "block 0 added twice")
}

func TestPanics(t *testing.T) {
	require.Panics(t, func() { merkle.BlockCV(nil, 0) })
	require.Panics(t, func() { merkle.BlockCV([]byte{1}, 1) })
	require.Panics(t, func() { merkle.BlockCV([]byte{1}, -1024) })
	require.Panics(t, func() { merkle.BlockCV(make([]byte, merkle.MaxBlockSize+1), 0) })
	require.Panics(t, func() { merkle.BlockRoot(make([]byte, merkle.MaxBlockSize+1)) })
	require.Panics(t, func() { merkle.Fold(nil) })
	require.Panics(t, func() { merkle.FoldRoot(make([]merkle.CV, 1)) })
}

func TestAllocs(t *testing.T) {
	if testing.Short() {
		t.Skip("-short runs with -race, which allocates on its own")
	}
	for _, n := range []int{1, 1024, 1025, 4096, 16 << 10, 40<<10 + 1, block} {
		data := noise(n, 7)
		part, whole := tableOf(t, data, block, block, false), tableOf(t, data, 0, block, true)
		cvs := make([]merkle.CV, 1000)
		require.Zero(t, testing.AllocsPerRun(20, func() {
			merkle.BlockCV(data, block)
			merkle.BlockRoot(data)
			part.Check(0, data)
			whole.Check(0, data)
			merkle.Fold(cvs)
			merkle.FoldRoot(cvs)
		}), "block of %d bytes", n)
	}
}

func BenchmarkCheck(b *testing.B) {
	data := noise(2*block, 8)
	tab := tableOf(b, data, 0, block, true)
	b.SetBytes(block)
	b.ReportAllocs()
	for b.Loop() {
		if !tab.Check(1, data[block:]) {
			b.Fatal("block does not match")
		}
	}
}

// An extent of 256 MiB over all cores, the table included.
func BenchmarkBuilder(b *testing.B) {
	const blocks = 4096
	data := noise(block, 9)
	workers := runtime.GOMAXPROCS(0)
	b.SetBytes(blocks * block)
	b.ReportAllocs()
	for b.Loop() {
		x := merkle.NewBuilder(0, block)
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				for i := w; i < blocks; i += workers {
					x.Add(i, data)
				}
			})
		}
		wg.Wait()
		tab, err := x.Finish(blocks*block, true)
		require.NoError(b, err)
		tab.Hash()
	}
}

func BenchmarkFold(b *testing.B) {
	cvs := make([]merkle.CV, 4096)
	b.ReportAllocs()
	for b.Loop() {
		merkle.Fold(cvs)
	}
}
