package store_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/blake3"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/merkle"
	"github.com/blockframe/blockframe/store"
)

const page = 4096

// field is a row of the tables in the package comment.
type field struct{ off, size int }

// Where the fields of header and trailer are. TestLayoutIsAsDocumented compares
// these with the package comment.
var (
	fMagic, fVersion, fReserved, fIncompat, fCompat = field{0, 8}, field{8, 2}, field{10, 2}, field{12, 4}, field{16, 4}
	fStore, fExtent, fPut, fGeneration, fEpoch      = field{20, 16}, field{36, 16}, field{52, 16}, field{68, 4}, field{72, 8}
	fKind, fShard, fK, fM, fBlockSize               = field{80, 1}, field{81, 1}, field{82, 1}, field{83, 1}, field{84, 1}
	fCode, fTransform, fHash, fKeyEpoch             = field{85, 1}, field{86, 1}, field{87, 1}, field{88, 4}
	fOrdinal, fOffset, fHeadPad, fHeadHash          = field{92, 4}, field{96, 8}, field{104, 3960}, field{4064, 32}
	fLength, fWhole, fTailReserved                  = field{104, 8}, field{112, 1}, field{113, 7}
	fBlocks, fTable, fManifests, fExtra, fSize      = field{120, 16}, field{136, 16}, field{152, 16}, field{168, 16}, field{184, 8}
	fExtentHash, fParityRoot, fDescriptor           = field{192, 32}, field{224, 32}, field{256, 32}
	fTableHash, fManiHash, fExtraHash, fPackMani    = field{288, 32}, field{320, 32}, field{352, 32}, field{384, 8}
	fTailPad, fTailHash, fTailMagic                 = field{392, 3664}, field{4056, 32}, field{4088, 8}
	headerFields                                    = append(commonFields[:len(commonFields):len(commonFields)], fHeadPad, fHeadHash)
	trailerFields                                   = []field{{0, 104}, fLength, fWhole, fTailReserved, fBlocks, fTable, fManifests, fExtra, fSize, fExtentHash, fParityRoot, fDescriptor, fTableHash, fManiHash, fExtraHash, fPackMani, fTailPad, fTailHash, fTailMagic}
	commonFields                                    = []field{fMagic, fVersion, fReserved, fIncompat, fCompat, fStore, fExtent, fPut, fGeneration, fEpoch, fKind, fShard, fK, fM, fBlockSize, fCode, fTransform, fHash, fKeyEpoch, fOrdinal, fOffset}
)

// set writes an integer, or bytes, into a field of a page.
func (f field) set(p []byte, v any) {
	b := p[f.off : f.off+f.size]
	switch v := v.(type) {
	case int:
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(v))
		b = b[max(0, len(b)-8):] // of a long field the end: of offset and length the length
		copy(b, n[8-len(b):])
	case []byte:
		copy(b, v)
	}
}

func (f field) span(p []byte, off, length int) {
	binary.BigEndian.PutUint64(p[f.off:], uint64(off))
	binary.BigEndian.PutUint64(p[f.off+8:], uint64(length))
}

// sealHeader and sealTrailer make the hash of a page right again after a change.
func sealHeader(p []byte) []byte {
	sum := blake3.Sum256(p[:fHeadHash.off])
	fHeadHash.set(p, sum[:])
	return p
}

func sealTrailer(p []byte) []byte {
	sum := blake3.Sum256(p[:fTailHash.off])
	fTailHash.set(p, sum[:])
	fTailMagic.set(p, []byte("BFSEND\r\n"))
	return p
}

// plan is an extent whose blobs are to be built by hand, from the package comment.
type plan struct {
	store      [16]byte
	e          store.Extent // geometry, ids, places; hashes are filled in by build
	data       []byte       // the stored stream of the extent
	manifests  []byte
	packMani   int
	table      []byte
	columns    [][]byte
	generation uint32
}

// build codes and hashes the extent.
func (p *plan) build(t testing.TB) {
	t.Helper()
	e := &p.e
	e.Length, e.BlockSize, e.CodeID = int64(len(p.data)), blk, 1
	coder, err := erasure.For(e.Code)
	require.NoError(t, err)
	k, m := e.Code.K, e.Code.M
	p.columns = make([][]byte, k+m)
	var cvs []merkle.CV
	var parity []byte
	for at := 0; at < len(p.data); at += k * blk {
		stripe := p.data[at:min(len(p.data), at+k*blk)]
		blocks := make([][]byte, k+m)
		for c := range blocks {
			blocks[c] = make([]byte, min(blk, len(stripe)))
			if c < k && c*blk < len(stripe) {
				b := stripe[c*blk : min(len(stripe), (c+1)*blk)]
				copy(blocks[c], b)
				p.columns[c] = append(p.columns[c], b...)
				if e.Whole && len(p.data) <= blk {
					cvs = append(cvs, merkle.BlockRoot(b))
				} else {
					cvs = append(cvs, merkle.BlockCV(b, e.Offset+int64(at+c*blk)))
				}
			}
		}
		require.NoError(t, coder.Encode(blocks))
		for c := k; c < k+m; c++ {
			p.columns[c] = append(p.columns[c], blocks[c]...)
			if k > 1 {
				sum := blake3.Sum256(blocks[c])
				parity = append(parity, sum[:]...)
			}
		}
	}
	e.Hash = merkle.Fold(cvs)
	if e.Whole && len(cvs) > 1 {
		e.Hash = merkle.FoldRoot(cvs)
	}
	e.ParityRoot = blake3.Sum256(parity)
	for _, cv := range cvs {
		p.table = append(p.table, cv[:]...)
	}
	p.table = append(p.table, parity...)
	e.Descriptor = p.descriptor()
}

func (p *plan) descriptor() [32]byte {
	e := &p.e
	d := append(e.ID[:], byte(e.Code.K), byte(e.Code.M), 0, 1, 0, 0, e.CodeID, e.Transform)
	d = binary.BigEndian.AppendUint64(d, uint64(e.Length))
	d = append(append(d, e.Hash[:]...), e.ParityRoot[:]...)
	return blake3.Sum256(d)
}

// common writes the first 104 bytes of header and trailer of shard i.
func (p *plan) common(b []byte, i int) {
	e := &p.e
	fMagic.set(b, []byte("\x89BFS\r\n\x1a\n"))
	for f, v := range map[field]any{fVersion: 1, fStore: p.store[:], fExtent: e.ID[:], fPut: e.Upload[:],
		fGeneration: int(e.Shards[i].Generation), fEpoch: int(e.Epoch), fKind: int(e.Kind), fShard: i, fK: e.Code.K, fM: e.Code.M,
		fBlockSize: 16, fCode: 1, fTransform: 0, fHash: 1, fKeyEpoch: 0, fOrdinal: e.Ordinal, fOffset: int(e.Offset)} {
		f.set(b, v)
	}
}

// blob returns the blob of shard i.
func (p *plan) blob(i int) []byte {
	head, tail := make([]byte, page), make([]byte, page)
	p.common(head, i)
	p.common(tail, i)
	lines, packMani := p.manifests, p.packMani
	if p.e.Kind == store.KindPack && i > 0 && i < p.e.Code.K {
		lines = nil
	}
	out := bytes.NewBuffer(sealHeader(head))
	for _, part := range []struct {
		f    field
		data []byte
	}{{fBlocks, p.columns[i]}, {fTable, p.table}, {fManifests, lines}, {fExtra, nil}} {
		part.f.span(tail, out.Len(), len(part.data))
		out.Write(part.data)
		out.Write(make([]byte, -out.Len()&(page-1)))
	}
	whole := 0
	if p.e.Whole {
		whole = 1
	}
	tableHash, maniHash, extraHash := blake3.Sum256(p.table), blake3.Sum256(lines), blake3.Sum256(nil)
	for f, v := range map[field]any{fLength: int(p.e.Length), fWhole: whole, fSize: out.Len() + page, fExtentHash: p.e.Hash[:],
		fParityRoot: p.e.ParityRoot[:], fDescriptor: p.e.Descriptor[:], fTableHash: tableHash[:], fManiHash: maniHash[:],
		fExtraHash: extraHash[:], fPackMani: packMani} {
		f.set(tail, v)
	}
	out.Write(sealTrailer(tail))
	return out.Bytes()
}

// line returns v as a line of JSON.
func line(format string, args ...any) []byte {
	for i, a := range args {
		switch a.(type) {
		case string, time.Time:
			b, err := json.Marshal(a)
			if err != nil {
				panic(err)
			}
			args[i] = b
		}
	}
	return fmt.Appendf(nil, format+"\n", args...)
}

// objectLines returns the manifests of an object's extent; all is nil but for the
// last one.
func objectLines(o *store.Object, e *store.Extent, all []store.Extent) []byte {
	out := line(`{"type":"object","v":1,"put":"%x","name":%s,"mode":%d,"uid":%d,"gid":%d,"mtime":%s%s,"ordinal":%d,"offset":%d}`,
		e.Upload[:], o.Name, o.Mode.Perm(), o.UID, o.GID, o.ModTime.UTC(), optional(o), e.Ordinal, e.Offset)
	if all == nil {
		return out
	}
	var list []byte
	for i, x := range all {
		if i > 0 {
			list = append(list, ',')
		}
		list = fmt.Appendf(list, `{"extent":"%x","hash":"%x","offset":%d,"length":%d}`, x.ID[:], x.Hash[:], x.Offset, x.Length)
	}
	return append(out, line(`{"type":"complete","v":1,"put":"%x","id":%s,"size":%d,"extents":[%s]}`, e.Upload[:], o.ID.String(), o.Size, list)...)
}

// memberLine returns the line of a member of a pack.
func memberLine(pack store.UploadID, o *store.Object, at int) []byte {
	return line(`{"type":"member","v":1,"put":"%x","name":%s,"mode":%d,"uid":%d,"gid":%d,"mtime":%s%s,"id":%s,"size":%d,"at":%d}`,
		pack[:], o.Name, o.Mode.Perm(), o.UID, o.GID, o.ModTime.UTC(), optional(o), o.ID.String(), o.Size, at)
}

// optional returns the members of a line that are left out when empty.
func optional(o *store.Object) (out []byte) {
	if len(o.Xattrs) > 0 {
		x := map[string][]byte{}
		for k, v := range o.Xattrs {
			x[k] = append([]byte{}, v...)
		}
		b, err := json.Marshal(x)
		if err != nil {
			panic(err)
		}
		out = append(append(out, `,"xattrs":`...), b...)
	}
	if o.Policy != "" {
		out = fmt.Appendf(out, `,"policy":%q`, o.Policy)
	}
	return out
}
