package merkle_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/blake3"

	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/merkle"
)

// streamOf returns what a prover knows of data stored as one extent.
func streamOf(t testing.TB, data []byte, blockSize int) merkle.Stream {
	t.Helper()
	tab := tableOf(t, data, 0, blockSize, true)
	last := max(0, len(data)-1) / blockSize * blockSize
	return merkle.Stream{Size: int64(len(data)), BlockSize: blockSize, Last: data[last:], Node: tab.Node}
}

// prove returns the proof of r after a round trip through its encoding, and the
// bytes of the blocks it is for.
func prove(t testing.TB, data []byte, r merkle.Range) (*merkle.Proof, []byte) {
	t.Helper()
	made, err := merkle.Prove(streamOf(t, data, r.BlockSize), r)
	require.NoError(t, err)
	raw, err := made.MarshalBinary()
	require.NoError(t, err)
	require.LessOrEqual(t, int64(len(raw)), r.MaxProofLen())
	p := new(merkle.Proof)
	require.NoError(t, p.UnmarshalBinary(raw))
	require.Equal(t, made.Range, p.Range)
	off, n := r.Bytes(int64(len(data)))
	return p, data[off : off+n]
}

// Every range of every stream of up to 9 blocks and a bit, also ranges past the
// end and the empty one: the proof verifies, gives the size, and holds exactly
// the CVs that the dumb walk below finds.
func TestProveEveryRange(t *testing.T) {
	const B = 2048
	for _, n := range proofSizes(t, B) {
		data := noise(n, 40)
		id := blake3.Sum256(data)
		blocks := merkle.Blocks(int64(n), B)
		for lo := range blocks + 2 {
			for hi := lo; hi <= blocks+2; hi++ {
				r := merkle.Range{BlockSize: B, Lo: lo, Hi: hi}
				p, part := prove(t, data, r)
				size, err := merkle.Verify(id, r, p, part)
				require.NoError(t, err, "size %d range [%d, %d)", n, lo, hi)
				require.Equal(t, int64(n), size)
				want := walk(data, 0, n, B, p.Range)
				require.Equal(t, len(want), len(p.CVs), "size %d range [%d, %d)", n, lo, hi)
				for i := range want {
					require.Equal(t, want[i], p.CVs[i], "size %d range [%d, %d) CV %d", n, lo, hi, i)
				}
			}
		}
	}
}

func proofSizes(t *testing.T, B int) []int {
	s := []int{0, 1, 1023, 1024, 1025, B - 1, B}
	for n := 2 * B; n <= 9*B; n += B {
		s = append(s, n-B+1, n-1024, n-1023, n)
	}
	if testing.Short() {
		s = append(s[:8:8], s[len(s)-6:]...)
	}
	return s
}

// walk lists the CVs of a proof the dumb way: bytes instead of blocks, and a
// node is entered when it holds the last byte of the stream or is more than a
// block and holds a byte of the range.
func walk(data []byte, from, to, B int, r merkle.Range) []merkle.CV {
	lo, n := r.Bytes(int64(len(data)))
	holdsLast := to == len(data)
	holdsRange := n > 0 && from < int(lo+n) && int(lo) < to && to-from > B && from%B == 0
	switch {
	case holdsLast && to-from <= 1024:
		return nil
	case !holdsLast && !holdsRange:
		return []merkle.CV{refCV(data[from:to], uint64(from)/1024, 0)}
	}
	left := 1024
	for 2*left < to-from {
		left *= 2
	}
	return append(walk(data, from, from+left, B, r), walk(data, from+left, to, B, r)...)
}

// The same proof comes out of a stream kept as extents, whatever their number,
// each table is loaded once, and only tables that the range or the tail needs.
func TestProveFromExtents(t *testing.T) {
	const B, extent = 1024, 4 * 1024
	for _, n := range []int{extent + 1, 2 * extent, 5*extent + B + 1, 7*extent - B, 8 * extent} {
		data := noise(n, 41)
		id := blake3.Sum256(data)
		blocks := merkle.Blocks(int64(n), B)
		for lo := range blocks {
			for _, hi := range []int64{lo, lo + 1, lo + 5, blocks} {
				r := merkle.Range{BlockSize: B, Lo: lo, Hi: hi}
				want, part := prove(t, data, r)
				s := streamOf(t, data, B)
				loads := map[int]int{}
				s.Node = extentsOf(t, data, extent, B, loads)
				got, err := merkle.Prove(s, r)
				require.NoError(t, err)
				require.Equal(t, want, got)
				_, err = merkle.Verify(id, r, got, part)
				require.NoError(t, err)
				for i, count := range loads {
					require.Equal(t, 1, count, "loads of extent %d", i)
					touched := int64(i) >= lo*B/extent && int64(i) <= (hi*B-1)/extent || i == (n-1)/extent
					require.True(t, touched, "extent %d loaded for blocks [%d, %d)", i, lo, hi)
				}
			}
		}
	}
}

func extentsOf(t *testing.T, data []byte, extent, B int, loads map[int]int) func(lo, hi int64) (merkle.CV, error) {
	t.Helper()
	var list []merkle.Extent
	var tables []*merkle.Table
	for off := 0; off < len(data); off += extent {
		tab := tableOf(t, data[off:min(len(data), off+extent)], int64(off), B, false)
		tables = append(tables, tab)
		list = append(list, merkle.Extent{Offset: tab.Offset, Length: tab.Length, CV: tab.Hash()})
	}
	return merkle.Extents(list, B, func(i int) (*merkle.Table, error) {
		loads[i]++
		return tables[i], nil
	})
}

func TestProveErrors(t *testing.T) {
	const B = 1024
	data := noise(9*B+1, 42)
	boom := errors.New("disk gone")
	s := streamOf(t, data, B)
	fails := func(spoil func(*merkle.Stream), r merkle.Range) error {
		bad := s
		spoil(&bad)
		_, err := merkle.Prove(bad, r)
		require.Error(t, err)
		return err
	}
	ok := merkle.Range{BlockSize: B, Lo: 1, Hi: 2}
	fails(func(*merkle.Stream) {}, merkle.Range{BlockSize: 2 * B, Lo: 1, Hi: 2})
	fails(func(*merkle.Stream) {}, merkle.Range{BlockSize: B, Lo: 2, Hi: 1})
	fails(func(*merkle.Stream) {}, merkle.Range{BlockSize: B, Lo: -1, Hi: 1})
	fails(func(s *merkle.Stream) { s.Size = -1 }, ok)
	fails(func(s *merkle.Stream) { s.Last = data[:2] }, ok)
	fails(func(s *merkle.Stream) { s.Last = nil }, ok)
	err := fails(func(s *merkle.Stream) {
		s.Node = func(lo, hi int64) (merkle.CV, error) { return merkle.CV{}, boom }
	}, ok)
	require.ErrorIs(t, err, boom)

	tab := tableOf(t, data, 0, B, true)
	for _, r := range [][2]int64{{-1, 1}, {1, 1}, {9, 11}, {2, 1}} {
		_, err := tab.Node(r[0], r[1])
		require.Error(t, err, "%v", r)
	}
	_, err = tableOf(t, data[:B], 0, B, true).Node(0, 1)
	require.Error(t, err, "the entry of a stream of one block is not a CV")
	node := merkle.Extents([]merkle.Extent{{0, 4 * B, merkle.CV{}}, {4 * B, 4 * B, merkle.CV{}}}, B,
		func(int) (*merkle.Table, error) { return nil, boom })
	_, err = node(0, 3)
	require.ErrorIs(t, err, boom)
	for _, r := range [][2]int64{{-1, 1}, {1, 1}, {7, 9}, {8, 9}} {
		_, err := node(r[0], r[1])
		require.Error(t, err, "%v", r)
	}
}

// R17, T10: an encoded proof with any bit flipped, cut anywhere, or with two
// CVs swapped is refused; so is good data under a proof of something else.
func TestDamagedProofs(t *testing.T) {
	const B = 1024
	for _, n := range []int{0, 1, B, B + 1, 2 * B, 11*B + 5} {
		data := noise(n, 43)
		id := blake3.Sum256(data)
		for _, r := range []merkle.Range{{B, 0, 0}, {B, 0, 1}, {B, 1, 3}, {B, 9, 12}} {
			p, part := prove(t, data, r)
			raw, err := p.MarshalBinary()
			require.NoError(t, err)
			for bit := range 8 * len(raw) {
				bad := slices.Clone(raw)
				bad[bit/8] ^= 1 << (bit % 8)
				requireRefused(t, id, r, bad, part, "size %d %v bit %d", n, r, bit)
			}
			for cut := range raw {
				require.ErrorIs(t, new(merkle.Proof).UnmarshalBinary(raw[:cut]), frame.ErrCorrupt, "size %d %v cut to %d", n, r, cut)
			}
			require.ErrorIs(t, new(merkle.Proof).UnmarshalBinary(append(slices.Clone(raw), 0)), frame.ErrCorrupt, "size %d %v byte added", n, r)
			requireFormChecked(t, id, r, p)
			for i := 1; i < len(p.CVs); i++ {
				bad := *p
				bad.CVs = slices.Clone(p.CVs)
				bad.CVs[i-1], bad.CVs[i] = bad.CVs[i], bad.CVs[i-1]
				_, err := bad.Open(id, r)
				require.ErrorIs(t, err, frame.ErrCorrupt)
			}
		}
	}
}

// requireFormChecked opens proofs that no decoder would let through.
func requireFormChecked(t *testing.T, id merkle.CV, r merkle.Range, p *merkle.Proof) {
	t.Helper()
	more, chunk := *p, *p
	more.CVs = append(slices.Clone(p.CVs), merkle.CV{})
	chunk.Last = append(slices.Clone(p.Last), 0)
	bad := []merkle.Proof{more, chunk, {}}
	if len(p.CVs) > 0 {
		less := *p
		less.CVs = p.CVs[1:]
		bad = append(bad, less)
	}
	for i := range bad {
		_, err := bad[i].Open(id, r)
		require.ErrorIs(t, err, frame.ErrCorrupt)
		_, err = bad[i].MarshalBinary()
		require.ErrorIs(t, err, frame.ErrCorrupt)
	}
}

func requireRefused(t *testing.T, id merkle.CV, r merkle.Range, raw, part []byte, format string, args ...any) {
	t.Helper()
	p := new(merkle.Proof)
	err := p.UnmarshalBinary(raw)
	if err == nil {
		_, err = merkle.Verify(id, r, p, part)
	}
	if !errors.Is(err, frame.ErrCorrupt) && !errors.Is(err, frame.ErrVersion) {
		require.Failf(t, "accepted", "error %v: "+format, append([]any{err}, args...)...)
	}
}

func TestDamagedData(t *testing.T) {
	const B = 1024
	data := noise(7*B+9, 44)
	id := blake3.Sum256(data)
	r := merkle.Range{BlockSize: B, Lo: 5, Hi: 8}
	p, part := prove(t, data, r)
	for bit := 0; bit < 8*len(part); bit += 37 {
		bad := slices.Clone(part)
		bad[bit/8] ^= 1 << (bit % 8)
		_, err := merkle.Verify(id, r, p, bad)
		require.ErrorIs(t, err, frame.ErrCorrupt)
	}
	for _, bad := range [][]byte{nil, part[1:], part[:len(part)-1], append(slices.Clone(part), 0), data[:len(part)]} {
		_, err := merkle.Verify(id, r, p, bad)
		require.ErrorIs(t, err, frame.ErrCorrupt)
	}
	for _, asked := range []merkle.Range{{B, 4, 8}, {B, 5, 7}, {B, 6, 8}, {B, 0, 0}, {2 * B, 5, 8}} {
		_, err := p.Open(id, asked)
		require.ErrorIs(t, err, frame.ErrCorrupt, "proof of %v taken for %v", r, asked)
	}
	_, err := p.Open(blake3.Sum256(part), r)
	require.ErrorIs(t, err, frame.ErrCorrupt)
	_, err = p.Open(id, merkle.Range{BlockSize: B, Lo: 3, Hi: 2})
	require.Error(t, err)
}

// The final chunk requirement: a liar who has all of the content, and takes the
// CVs of its true nodes for what they are not, still cannot make a proof of
// another size.
func TestWrongSize(t *testing.T) {
	const B = 1024
	for _, n := range []int{0, 1, B, B + 1, 3*B + 7, 4 * B, 5 * B, 7*B + 1000} {
		data := noise(n, 45)
		id := blake3.Sum256(data)
		for _, r := range []merkle.Range{{B, 0, 0}, {B, 0, 1}, {B, 1, 2}, {B, 0, 99}} {
			honest, _ := prove(t, data, r)
			for _, size := range wrongSizes(n) {
				for _, lie := range lies(t, data, honest, size, r) {
					_, err := lie.Open(id, r)
					require.ErrorIs(t, err, frame.ErrCorrupt, "size %d taken for %d, %v", n, size, r)
				}
			}
		}
	}
}

// wrongSizes returns sizes about every boundary and about n, without n.
func wrongSizes(n int) (out []int64) {
	list := append(sizes(9<<10), n-1, n+1, n-64, n+64, n/2, 2*n)
	for i, size := range list {
		if size >= 0 && size != n && (i%3 == n%3 || !testing.Short()) {
			out = append(out, int64(size))
		}
	}
	return out
}

// lies returns proofs for size bytes, right in form, made of true parts.
func lies(t *testing.T, data []byte, honest *merkle.Proof, size int64, r merkle.Range) (out []*merkle.Proof) {
	t.Helper()
	const B = 1024
	// A stream of that size which agrees with the true one as far as both go.
	fake := make([]byte, size)
	copy(fake, data)
	p, err := merkle.Prove(streamOf(t, fake, B), r)
	require.NoError(t, err)
	out = append(out, p)
	// The same with the true CVs in the same places, and the true last chunk.
	q := *p
	q.CVs = slices.Clone(p.CVs)
	copy(q.CVs, honest.CVs)
	q.Last = slices.Clone(p.Last)
	copy(q.Last, honest.Last)
	out = append(out, &q)
	// From the far end too: the right edge is where the size lies.
	s := q
	s.CVs = slices.Clone(p.CVs)
	k := min(len(s.CVs), len(honest.CVs))
	copy(s.CVs[len(s.CVs)-k:], honest.CVs[len(honest.CVs)-k:])
	return append(out, &s)
}

// Ranges far out in a stream of nearly 2^63 bytes: sizes stay logarithmic and
// nothing overflows. What such a tree folds to nobody can say, so the proof is
// refused, but only at the very end.
func TestProveHuge(t *testing.T) {
	const size = 1<<63 - 1
	s := merkle.Stream{Size: size, BlockSize: 1024, Last: make([]byte, 1023)}
	s.Node = func(lo, hi int64) (merkle.CV, error) {
		if lo < 0 || hi <= lo || hi >= merkle.Blocks(size, 1024) {
			return merkle.CV{}, errors.New("not a node")
		}
		return merkle.CV{1}, nil
	}
	r := rand.New(rand.NewPCG(46, 46))
	for range 100 {
		lo := r.Int64N(1 << 53)
		asked := merkle.Range{BlockSize: 1024, Lo: lo, Hi: lo + 10}
		p, err := merkle.Prove(s, asked)
		require.NoError(t, err)
		raw, err := p.MarshalBinary()
		require.NoError(t, err)
		require.LessOrEqual(t, int64(len(raw)), asked.MaxProofLen())
		require.Less(t, asked.MaxProofLen(), int64(8<<10))
		q := new(merkle.Proof)
		require.NoError(t, q.UnmarshalBinary(raw))
		require.Equal(t, p, q)
		_, err = q.Open(merkle.CV{}, asked)
		require.ErrorContains(t, err, "folds to")
	}
	all := merkle.Range{BlockSize: 1024, Hi: 1<<63 - 1}
	require.Positive(t, all.MaxProofLen())
}

func TestRangeOf(t *testing.T) {
	const B = 1024
	for _, c := range []struct {
		off, n, lo, hi int64
	}{
		{0, 0, 0, 0}, {5000, 0, 0, 0}, {0, 1, 0, 1}, {0, B, 0, 1}, {0, B + 1, 0, 2}, {B - 1, 1, 0, 1}, {B - 1, 2, 0, 2},
		{B, B, 1, 2}, {B, 2*B + 1, 1, 4}, {1<<63 - 1, 1, 1<<53 - 1, 1 << 53}, {B, 1<<63 - 1, 1, 1 << 53},
	} {
		r := merkle.RangeOf(c.off, c.n, B)
		require.Equal(t, merkle.Range{BlockSize: B, Lo: c.lo, Hi: c.hi}, r, "%+v", c)
		require.NoError(t, r.Validate())
	}
	require.Error(t, merkle.RangeOf(-5, 10, B).Validate())
	require.Error(t, merkle.RangeOf(5, -10, B).Validate())
}

func TestSliceCheckAllocs(t *testing.T) {
	data := noise(5*block+1, 47)
	r := merkle.Range{BlockSize: block, Lo: 2, Hi: 9}
	p, part := prove(t, data, r)
	s, err := p.Open(blake3.Sum256(data), r)
	require.NoError(t, err)
	for b := int64(-1); b < 8; b++ {
		require.Equal(t, b == 2, s.Check(b, part[:block]), "block 2 taken for %d", b)
	}
	require.True(t, s.Check(5, part[len(part)-1:]))
	require.False(t, s.Check(2, nil))
	require.False(t, s.Check(2, make([]byte, merkle.MaxBlockSize+1)))
	if testing.Short() {
		t.Skip("-short runs with -race, which allocates on its own")
	}
	require.Zero(t, testing.AllocsPerRun(20, func() { s.Check(2, part[:block]) }))
	require.LessOrEqual(t, testing.AllocsPerRun(20, func() { p.Open(blake3.Sum256(data), r) }), 3.0)
}

// A proof of 1 MiB in an object of 1 GiB, made from its tables and verified.
func BenchmarkProve(b *testing.B) {
	s := merkle.Stream{Size: 1 << 30, BlockSize: block, Last: make([]byte, block)}
	tab := &merkle.Table{Length: 1 << 30, BlockSize: block, Whole: true, CVs: make([]merkle.CV, 1<<14)}
	s.Node = tab.Node
	b.ReportAllocs()
	for b.Loop() {
		_, err := merkle.Prove(s, merkle.Range{BlockSize: block, Lo: 5000, Hi: 5016})
		require.NoError(b, err)
	}
}

func BenchmarkVerify(b *testing.B) {
	data := noise(64*block, 48)
	id := blake3.Sum256(data)
	r := merkle.Range{BlockSize: block, Lo: 17, Hi: 33}
	p, part := prove(b, data, r)
	b.SetBytes(int64(len(part)))
	b.ReportAllocs()
	for b.Loop() {
		_, err := merkle.Verify(id, r, p, part)
		require.NoError(b, err)
	}
}
