package store_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/blake3"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/mem"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The rows of both tables in the package comment are those the tests build blobs
// by, without a gap.
func TestLayoutIsAsDocumented(t *testing.T) {
	src, err := os.ReadFile("format.go")
	require.NoError(t, err)
	var rows [][]field
	for _, m := range regexp.MustCompile(`(?m)^//\t(?:(offset size field)|(\d+) +(\d+) +\S)`).FindAllStringSubmatch(string(src), -1) {
		if m[1] != "" {
			rows = append(rows, nil)
			continue
		}
		off, _ := strconv.Atoi(m[2])
		size, _ := strconv.Atoi(m[3])
		if len(rows) > 0 {
			rows[len(rows)-1] = append(rows[len(rows)-1], field{off, size})
		}
	}
	require.Len(t, rows, 2, "a table of the header and one of the trailer")
	require.Equal(t, headerFields, rows[0])
	require.Equal(t, trailerFields, rows[1])
	for _, table := range rows {
		at := 0
		for _, f := range table {
			require.Equal(t, at, f.off)
			at += f.size
		}
		require.Equal(t, page, at)
	}
}

var attr = store.Attr{Mode: 0o640, UID: 7, GID: 8, ModTime: time.Unix(1e9, 123456789), Xattrs: map[string][]byte{"user.a": {0, 1, 0xff}, "user.b": nil}}

// Every blob that a put writes is, byte for byte, the one that is built by hand.
func TestBlobsAreAsDocumented(t *testing.T) {
	for _, code := range []erasure.Code{{K: 1, M: 1}, {K: 2, M: 1}, {K: 3, M: 2}} {
		stripe := code.K * blk
		for _, n := range []int{store.MaxSmall + 1, store.MaxSmall + stripe, 6*stripe - 1, 6 * stripe, 6*stripe + 1, 6*stripe + blk + 1, miB, miB + 1, 2*miB + 77} {
			t.Run(fmt.Sprintf("%v of %d", code, n), func(t *testing.T) { asDocumented(t, code, n) })
		}
	}
}

func asDocumented(t *testing.T, code erasure.Code, n int) {
	r := newRig(t, 5, coded(code.K, code.M, miB))
	data := content(uint64(n), n)
	o, err := r.Put(t.Context(), "dir/ü \u2028<&>", bytes.NewReader(data), store.PutOptions{Attr: attr, Expect: store.AnyVersion})
	require.NoError(t, err)
	all := r.extents(o)
	require.Len(t, all, (n+miB-1)/miB)
	for i, e := range all {
		p := plan{store: [16]byte{'r', 'i', 'g'}, e: e, data: data[e.Offset : e.Offset+e.Length], manifests: objectLines(&o, &e, nil)}
		if i == len(all)-1 {
			p.manifests = objectLines(&o, &e, all)
		}
		r.sameBlobs(&p, e)
	}
}

// sameBlobs fails unless the blobs of an extent are those of a plan, and its record
// has the hashes that the plan comes to.
func (r *rig) sameBlobs(p *plan, e store.Extent) {
	r.t.Helper()
	p.build(r.t)
	require.Equal(r.t, p.e, e)
	for i := range e.Shards {
		m, key := r.shard(&e, i)
		require.True(r.t, bytes.Equal(p.blob(i), m.Bytes(key)), "shard %d of %v", i, e.Code)
	}
}

func TestPacksAreAsDocumented(t *testing.T) {
	r := newRig(t, 5, coded(3, 2, miB))
	b := r.NewBatch(t.Context())
	var stream []byte
	sizes := []int{1, 4096, blk, 100_000}
	for i, n := range sizes {
		d := content(uint64(i), n)
		stream = append(stream, d...)
		require.NoError(t, b.Put(fmt.Sprint(i), bytes.NewReader(d), store.PutOptions{Attr: attr, Expect: store.AnyVersion}))
	}
	res, err := b.Commit()
	require.NoError(t, err)
	e := r.cat.allExtents()[0]
	var lines []byte
	at := 0
	for i, n := range sizes {
		lines = append(lines, memberLine(e.Upload, &res[i].Object, at)...)
		at += n
	}
	p := plan{store: [16]byte{'r', 'i', 'g'}, e: e, data: append(stream, lines...), manifests: lines, packMani: at}
	r.sameBlobs(&p, e)
}

// golden names an extent whose blobs are kept in testdata/format.
type golden struct {
	name string
	code erasure.Code
	data []byte
	pack bool
}

// The content is text, so that version control can compress it. // T11
var goldens = []golden{
	{"smallest", erasure.Code{K: 1, M: 1}, []byte("x"), false},
	{"typical", erasure.Code{K: 2, M: 1}, prose(2*blk + 100), false},
	{"emptycolumn", erasure.Code{K: 3, M: 2}, prose(100), false},
	{"pack", erasure.Code{K: 1, M: 2}, prose(5000), true},
}

func prose(n int) []byte {
	var b []byte
	for i := 0; len(b) < n; i++ {
		b = fmt.Appendf(b, "line %d of a golden file\n", i)
	}
	return b[:n]
}

// plan returns the extent of a golden, with the object that it holds.
func (g golden) plan(t testing.TB) (*plan, store.Object) {
	e := store.Extent{ID: store.ExtentID{'e', byte(len(g.name))}, Upload: store.UploadID{'p', 'u', 't'}, Kind: store.KindObject, Whole: true,
		Code: g.code, Epoch: 3, Shards: make([]store.Shard, g.code.Shards())}
	for i := range e.Shards {
		e.Shards[i] = store.Shard{Backend: store.BackendID{byte(i + 1)}, Generation: uint32(i)}
	}
	o := store.Object{Name: "golden/" + g.name, Attr: attr, ID: blake3.Sum256(g.data), Size: int64(len(g.data)), Upload: e.Upload, Version: 1}
	p := &plan{store: [16]byte{'g', 'o', 'l', 'd', 'e', 'n'}, e: e, data: g.data}
	if g.pack {
		p.e.Kind = store.KindPack
		p.manifests, p.packMani = memberLine(e.Upload, &o, 0), len(g.data)
		p.data = append(slices.Clone(g.data), p.manifests...)
		p.build(t)
		return p, o
	}
	p.build(t)
	p.manifests = objectLines(&o, &p.e, []store.Extent{p.e})
	return p, o
}

// file returns the blob of shard i as it is kept.
func (g golden) file(t testing.TB, i int) []byte {
	t.Helper()
	b, err := os.ReadFile(g.path(i))
	require.NoError(t, err)
	return b
}

func (g golden) path(i int) string {
	return filepath.Join("testdata", "format", fmt.Sprintf("%s-%d.blob", g.name, i))
}

// The golden blobs are what the text says, decode, encode to the same bytes, and
// give back their object.
func TestGolden(t *testing.T) {
	for _, g := range goldens {
		t.Run(g.name, func(t *testing.T) {
			p, o := g.plan(t)
			r := newRig(t, g.code.Shards(), func(opts *store.Options) { opts.StoreID = p.store })
			for i := range p.e.Shards {
				if *update {
					require.NoError(t, os.MkdirAll(filepath.Dir(g.path(i)), 0o777))
					require.NoError(t, os.WriteFile(g.path(i), p.blob(i), 0o666))
				}
				b := g.file(t, i)
				require.True(t, bytes.Equal(p.blob(i), b), "%s differs from what is built by hand", g.path(i))
				recodes(t, b)
				r.mems[i].SetBytes(p.e.Key(i), b)
				inspects(t, r.mems[i], p, i)
			}
			r.cat.extents[p.e.ID] = p.e
			r.cat.contents[o.ID] = store.Content{ID: o.ID, Size: o.Size, Refs: 1, Code: g.code, Upload: p.e.Upload}
			r.reads(o, g.data)
			r.cleanScrub()
		})
	}
}

// recodes fails unless header, trailer and manifests of a blob decode and encode to
// the same bytes.
func recodes(t testing.TB, b []byte) {
	t.Helper()
	head, err := store.RecodeHeader(b[:page])
	require.NoError(t, err)
	require.True(t, bytes.Equal(b[:page], head))
	tail, err := store.RecodeTrailer(b[len(b)-page:])
	require.NoError(t, err)
	require.True(t, bytes.Equal(b[len(b)-page:], tail))
}

func inspects(t testing.TB, m *mem.Backend, p *plan, i int) {
	t.Helper()
	rd, err := m.Open(t.Context(), p.e.Key(i), store.OpenOptions{})
	require.NoError(t, err)
	defer rd.Close()
	in, err := store.Inspect(rd)
	require.NoError(t, err)
	require.Equal(t, []string{"ok", "ok", "ok"}, []string{in.Header, in.Trailer, in.Table})
	require.Empty(t, in.BadBlocks)
	require.Equal(t, p.e.ID, in.Extent)
	require.Equal(t, i, in.Shard)
	if p.e.Kind != store.KindPack || i == 0 || i >= p.e.Code.K {
		require.Equal(t, p.manifests, in.Manifests)
		lines, err := store.RecodeManifests(in.Manifests)
		require.NoError(t, err)
		require.Equal(t, string(in.Manifests), string(lines))
	}
}

// One flipped bit, wherever it is, is damage: never a version, never accepted.
func TestEveryFlippedBitIsDamage(t *testing.T) { // T11
	b := goldens[0].file(t, 0)
	for recode, p := range map[*func([]byte) ([]byte, error)][]byte{&recodeHeader: b[:page], &recodeTrailer: b[len(b)-page:]} {
		for bit := range 8 * page {
			p[bit/8] ^= 1 << (bit % 8)
			_, err := (*recode)(p)
			if !errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrVersion) {
				t.Fatalf("with bit %d flipped: %v, want ErrCorrupt", bit, err)
			}
			p[bit/8] ^= 1 << (bit % 8)
		}
	}
}

var recodeHeader, recodeTrailer = store.RecodeHeader, store.RecodeTrailer

// Cut at the boundary of any field, a page is damaged, and so is a blob.
func TestTruncated(t *testing.T) { // T11
	b := goldens[0].file(t, 0)
	for _, f := range slices.Concat(headerFields, commonFields, trailerFields) {
		for _, n := range []int{f.off, f.off + f.size - 1, f.off + f.size} {
			if n == page {
				continue
			}
			_, err := store.RecodeHeader(b[:n])
			require.ErrorIs(t, err, store.ErrCorrupt)
			_, err = store.RecodeTrailer(b[len(b)-page:][:n])
			require.ErrorIs(t, err, store.ErrCorrupt)
			for _, whole := range []int{0, page, len(b) - page} {
				in, err := store.Inspect(blobOf(b[:whole+n]))
				if whole == 0 {
					require.ErrorIs(t, err, store.ErrCorrupt)
					continue
				}
				require.NoError(t, err, "the header is whole")
				require.NotEqual(t, "ok", in.Trailer)
			}
		}
	}
}

// blobOf is a BackendReader of bytes.
type blobOf []byte

func (b blobOf) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(b).ReadAt(p, off) }
func (b blobOf) Size() int64                             { return int64(len(b)) }
func (b blobOf) Close() error                            { return nil }

var _ io.ReaderAt = blobOf{}

// What a newer program wrote is told from damage, and so is a newer program's
// version of a field; features that may be ignored are.
func TestFromTheFuture(t *testing.T) {
	b := goldens[0].file(t, 0)
	for _, c := range []struct {
		f    field
		v    int
		want error
	}{
		{fVersion, 2, store.ErrVersion}, {fVersion, math.MaxUint16, store.ErrVersion}, {fVersion, 0, store.ErrVersion},
		{fIncompat, 1, store.ErrVersion}, {fIncompat, 1 << 31, store.ErrVersion}, {fCompat, 1 << 31, nil},
		{fHash, 2, store.ErrVersion}, {fBlockSize, 17, store.ErrVersion}, {fBlockSize, 255, store.ErrVersion}, {fCode, 2, store.ErrVersion},
		{fKind, 9, store.ErrVersion}, {fKind, 5, store.ErrVersion}, {fKind, 0, store.ErrVersion}, {fTransform, 1, nil}, {fKeyEpoch, 1, nil},
	} {
		head, tail := bytes.Clone(b[:page]), bytes.Clone(b[len(b)-page:])
		c.f.set(head, c.v)
		c.f.set(tail, c.v)
		if c.f == fTransform {
			p, _ := goldens[0].plan(t)
			p.e.Transform = 1
			d := p.descriptor()
			fDescriptor.set(tail, d[:])
		}
		h, herr := store.RecodeHeader(sealHeader(head))
		tr, terr := store.RecodeTrailer(sealTrailer(tail))
		require.ErrorIs(t, herr, c.want, "%v = %d", c.f, c.v)
		require.ErrorIs(t, terr, c.want, "%v = %d", c.f, c.v)
		if c.want == nil {
			require.Equal(t, head, h)
			require.Equal(t, tail, tr)
		}
	}
	future := filepath.Join("testdata", "format", "future.header")
	if *update {
		head := bytes.Clone(b[:page])
		fVersion.set(head, 2)
		copy(head[104:], "a field that version 1 does not have")
		require.NoError(t, os.WriteFile(future, sealHeader(head), 0o666))
	}
	head, err := os.ReadFile(future)
	require.NoError(t, err)
	_, err = store.RecodeHeader(head)
	require.ErrorIs(t, err, store.ErrVersion)
}

// Pages whose hash is right but whose fields cannot be are refused, and cost next
// to no memory, whatever they claim.
func TestHostilePages(t *testing.T) { // R14
	b := goldens[1].file(t, 0)
	common := []struct {
		f field
		v int
	}{{fReserved, 1}, {fK, 0}, {fM, 0}, {fK, 255}, {fM, 254}, {fM, 255}, {fShard, 3}, {fShard, 255}, {fOffset, -1 << 63}, {fOffset, -1 << 20},
		{fOffset, 1}, {fOffset, 1<<20 - 1}, {fOffset, 1<<63 - 1<<20}, {fHeadPad, 1}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, c := range common {
		head, tail := bytes.Clone(b[:page]), bytes.Clone(b[len(b)-page:])
		c.f.set(head, c.v)
		_, err := store.RecodeHeader(sealHeader(head))
		require.ErrorIs(t, err, store.ErrCorrupt, "%v = %d", c.f, c.v)
		if c.f != fHeadPad {
			c.f.set(tail, c.v)
			_, err = store.RecodeTrailer(sealTrailer(tail))
			require.ErrorIs(t, err, store.ErrCorrupt, "%v = %d", c.f, c.v)
		}
	}
	huge := []int{-1 << 63, -1, 0, 1, 1 << 31, 1 << 40, 1<<63 - 1}
	for _, f := range []field{fLength, fWhole, fTailReserved, fBlocks, fTable, fManifests, fExtra, fSize, fExtentHash, fParityRoot, fDescriptor, fPackMani, fTailPad} {
		for _, v := range huge {
			tail := bytes.Clone(b[len(b)-page:])
			f.set(tail, v)
			if bytes.Equal(tail, b[len(b)-page:]) || f == fWhole && v&0xff == 0 || f == fManifests && v == 1 {
				continue // the same, or possible: a smaller part in as many pages
			}
			_, err := store.RecodeTrailer(sealTrailer(tail))
			require.ErrorIs(t, err, store.ErrCorrupt, "%v = %d", f, v)
			_, err = store.Inspect(blobOf(slices.Concat(b[:len(b)-page], tail)))
			require.NoError(t, err, "the header is sound")
		}
	}
	runtime.ReadMemStats(&after)
	if !testing.Short() { // the race detector allocates as well
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(16*miB), "most of it by the test itself")
	}
}
