// Package store keeps immutable, content-addressed objects, erasure-coded over
// backends, verified on every read and healed block by block.
//
// Most programs use it through the root package blockframe. Those who bring
// their own disks, buckets or machines implement [Backend] and check it with
// the suite in store/storetest.
//
// # The shard blob
//
// This is the specification of format version 1, meant to be enough to write a
// reader in another language. Integers are big-endian and unsigned, sizes are
// bytes, ranges are half-open. Hashes are BLAKE3-256 unless said otherwise.
//
// An object is stored as a stream, in extents of up to 256 MiB; every extent
// but the last of a stream has the same length, a power of two of at least
// 1 MiB. An extent is cut into blocks of B = 65,536 bytes, the last may be
// shorter. With a code of k data and m parity shards, block b is column b mod k
// of stripe b div k. A stripe is k data blocks and m parity blocks, each as long
// as the longest data block of that stripe, which is its first one; shorter and
// absent data blocks count as filled up with zeros. Shard i is one column: the
// data blocks of column i for i < k, parity block i-k of every stripe for
// k <= i < k+m. In a column, the block of stripe s begins at s*B.
//
// One shard is one blob:
//
//	offset   size   part
//	0        4096   header
//	4096     ...    blocks: the column
//	...      ...    table: hashes of all blocks of the extent
//	...      ...    manifests: JSON lines
//	...      ...    extra: empty in this version
//	...      4096   trailer
//
// Every part begins at a multiple of 4096; the gap before it is zero. An empty
// part takes no space. The header holds, from its first byte:
//
//	offset size field
//	0      8    magic 89 42 46 53 0D 0A 1A 0A
//	8      2    version, 1: compared before anything else is looked at
//	10     2    zero
//	12     4    incompatible feature bits, 0: a reader refuses bits it does not know
//	16     4    compatible feature bits, 0: a reader ignores bits it does not know
//	20     16   store id
//	36     16   extent id
//	52     16   put id: the act of putting that wrote the extent
//	68     4    generation of the blob: a repair writes the next one
//	72     8    open epoch of the store
//	80     1    kind: 1 object, 2 pack, 3 log segment, 4 snapshot
//	81     1    shard index i
//	82     1    k
//	83     1    m
//	84     1    log2 of the block size, 16
//	85     1    code, 1 (below)
//	86     1    transform of the content into the stored stream, 0: none
//	87     1    hash, 1: BLAKE3
//	88     4    key epoch, 0: none
//	92     4    ordinal of the extent in its stream, from 0
//	96     8    offset of the extent in its stream
//	104    3960 zero
//	4064   32   hash of the 4064 bytes before
//
// The trailer is the last 4096 bytes of the blob:
//
//	offset size field
//	0      104  the first 104 bytes of the header
//	104    8    length of the extent
//	112    1    1 if the extent is its whole stream, else 0
//	113    7    zero
//	120    16   offset and length of the blocks
//	136    16   offset and length of the table
//	152    16   offset and length of the manifests
//	168    16   offset and length of the extra part
//	184    8    length of the blob
//	192    32   extent hash
//	224    32   parity root
//	256    32   descriptor
//	288    32   hash of the table
//	320    32   hash of the manifests
//	352    32   hash of the extra part
//	384    8    packs: offset of the manifests in the stored stream, else 0
//	392    3664 zero
//	4056   32   hash of the 4056 bytes before
//	4088   8    magic 42 46 53 45 4E 44 0D 0A
//
// Lengths are without padding; an empty part has the offset at which it would
// begin, and the hash of no bytes. A blob whose header is lost is read by its
// trailer; one whose trailer is lost, by the trailer of any other shard of its
// extent: they differ in shard index, generation, the length of the blocks, the
// manifests of packs, and what follows from these, where parts lie and how long the
// blob is. A repair writes a whole new blob with the next generation and copies all
// else, epoch, put id and manifests included; of several generations the highest that
// is sound counts, block by block.
//
// Bounds: extents have 1 to 268,435,456 bytes, k and m are at least 1 and k+m at most
// 255, and an extent's offset is a multiple of 1 MiB. Reserved bytes that are not zero
// under a hash that matches make a blob damaged. A version other than 1 makes a blob
// unreadable unless the hash of its page matches with 1 in its place: then it was the
// version that was damaged.
//
// # The hashes
//
// The address of an object is the BLAKE3 of its bytes. BLAKE3 is a binary tree
// over chunks of 1024 bytes (BLAKE3 paper, section 2.1), and the chaining value
// (CV) of an aligned range of a power-of-two number of chunks is a node of it.
// The table holds first, for every data block in the order of the stream, its CV:
// non-root, with chunk counters counted from the start of the stored stream, so
// that the first chunk of an extent at offset o has counter o/1024. Then, for
// every stripe and in it for every parity block, the plain hash of that block.
// With k = 1 all shards are copies of the stream, and there are no parity hashes: the
// parity root is the hash of no bytes.
//
// One CV folds to itself, and n > 1 fold into one by the rule of the BLAKE3 tree: left
// is the largest power of two below n, each half folds, and the parent of both is compressed. The
// extent hash is the fold of its block CVs; in an extent that is its whole stream
// the last compression carries the ROOT flag, so that the extent hash is the hash
// of the stream, and a stream of a single block has its plain hash as its one
// table entry. The extent hashes of a stream of several extents fold to its hash in
// the same way, with ROOT on the last compression. Parity root is the hash of all
// parity hashes one behind the other. Descriptor is the hash of
//
//	extent id (16) k (1) m (1) block size (4) code (1) transform (1)
//	length of the extent (8) extent hash (32) parity root (32)
//
// A block that is read is hashed and compared with its table entry before a byte
// of it is used; so is a block that was computed.
//
// # The code
//
// Code 1 is Reed-Solomon over GF(2^8) with polynomial 0x11D. Let V be the matrix
// of k+m rows and k columns with V[r][c] = r to the power c in that field (0 to
// the power 0 is 1), and T its first k rows. The coding matrix is V times the
// inverse of T: its first k rows are the identity, and row k+p gives parity block p
// as a combination of the data blocks, byte by byte. Any k blocks of a stripe give
// the others by inverting their rows. k = 1 means copies.
//
// # The manifests
//
// JSON objects, each on a line, in UTF-8. In a shard of an object (kind 1):
//
//	{"type":"object","v":1,"put":HEX,"name":S,"mode":N,"uid":N,"gid":N,
//	 "mtime":RFC3339,"xattrs":{S:BASE64},"policy":S,"ordinal":N,"offset":N}
//
// and in all shards of its last extent one more line, which proves the object:
// ordinals without a gap whose extents fold to the id are all of it.
//
//	{"type":"complete","v":1,"put":HEX,"id":"b3:HEX","size":N,
//	 "extents":[{"extent":HEX,"hash":HEX,"offset":N,"length":N}]}
//
// Every line ends with a newline; extents come in the order of their ordinals, and
// offsets are in the stored stream.
//
// xattrs and policy are left out when they are empty, and a time outside the years 0 to
// 9999 is written as the nearest one inside. Blobs with more than 64 MiB of lines are
// damaged.
//
// mode holds Unix permission bits and, above them, setuid 04000, setgid 02000 and
// sticky 01000. A pack (kind 2) is a single extent, the whole of its stream. The
// stream is the content of its members one behind the other and then, from the offset that the trailer names to the end of
// the extent, one line for each of them:
//
//	{"type":"member","v":1,"put":HEX,"name":S,"mode":N,"uid":N,"gid":N,
//	 "mtime":RFC3339,"xattrs":{S:BASE64},"policy":S,"id":"b3:HEX","size":N,"at":N}
//
// where put is that of the pack and at the offset in the stored stream; a member is
// checked by hashing it whole. A content may have several lines, for several names,
// and be in several packs. The same lines are the manifests part of shard 0 and of every parity
// shard; in the other shards of a pack that part is empty. Unknown members of an
// object and lines of unknown type are to be ignored. Empty objects and, until they
// are packed, contents of up to 4096 bytes have no shards: they are in the commit
// log alone. Which of several objects of one name is the current one is told by the
// log as well; without it, a higher open epoch is later.
//
// A sealed segment of the commit log (kind 3) and a snapshot of the catalog (kind 4) are
// streams without a name, in one or more extents as objects are. Their put ids begin with
// the bytes 62 66 6B and the kind, so that they can be told by their keys; only the header
// says for certain. All shards of an extent carry the line
//
//	{"type":"segment","v":1,"put":HEX,"number":N,"first":N,"last":N,
//	 "ordinal":N,"offset":N}
//
// and those of the last extent the line of type "complete" behind it. A segment holds the
// records first to last of the log, in the bytes of the file that has that number, up to
// its last frame (see package internal/journal). In a snapshot the type is "snapshot", number
// is 0, first is 1, and last is the record as of which it has all rows of the catalog (see
// package internal/catalog). The newest complete snapshot and the records behind it are the
// state of the store; what of them was dropped since, or never recorded, is right all the same.
//
// A disk keeps its blobs under data/, at the path that [BackendKey] describes: the
// folder is the first of the 32 bytes of the BLAKE3 of the 16 bytes of the extent id,
// the fields of the name are extent id, shard index, generation, open epoch and put
// id, all in lower-case hexadecimal digits.
package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/internal/frame"
)

const (
	formatVersion = 1
	headerSize    = frame.Grid
	trailerSize   = frame.Grid
	commonSize    = 104
	headerHashAt  = headerSize - 32
	trailerHashAt = trailerSize - 40

	codeReedSolomon = 1
	hashBLAKE3      = 1

	// maxManifests is what a blob may claim before anything is allocated for it. The
	// length of its table is bounded by that of its extent.
	maxManifests = 64 << 20
)

var (
	magicHead = [8]byte{0x89, 'B', 'F', 'S', '\r', '\n', 0x1a, '\n'}
	magicTail = [8]byte{'B', 'F', 'S', 'E', 'N', 'D', '\r', '\n'}
)

// header is what header and trailer of a blob have in common: all that is known
// before the first byte of the extent.
type header struct {
	compat     uint32
	storeID    [16]byte
	extent     ExtentID
	upload     UploadID
	generation uint32
	epoch      uint64
	kind       Kind
	shard      int
	code       erasure.Code
	blockSize  int
	codeID     uint8
	transform  uint8
	keyEpoch   uint32
	ordinal    int
	offset     int64
}

// span is a part of a blob.
type span struct{ off, len int64 }

func (s span) end() int64 { return frame.Align(s.off + s.len) }

// trailer is everything that a blob says of itself.
type trailer struct {
	header
	length     int64
	whole      bool
	blocks     span
	table      span
	manifests  span
	extra      span
	size       int64
	hash       frame.Hash
	parityRoot frame.Hash
	descriptor frame.Hash
	tableHash  frame.Hash
	maniHash   frame.Hash
	extraHash  frame.Hash
	packMani   int64
}

// layout fills in where the parts of the blob begin and how long it is.
func (t *trailer) layout(table, manifests int64) {
	g := erasure.Geometry{Code: t.code, BlockSize: t.blockSize, Length: t.length}
	t.blocks = span{headerSize, g.ColumnLen(t.shard)}
	t.table = span{t.blocks.end(), table}
	t.manifests = span{t.table.end(), manifests}
	t.extra = span{t.manifests.end(), 0}
	t.size = t.extra.end() + trailerSize
}

// geometry returns the arithmetic of the extent's blocks.
func (t *trailer) geometry() erasure.Geometry {
	return erasure.Geometry{Code: t.code, BlockSize: t.blockSize, Length: t.length}
}

// describe returns the descriptor hash of an extent.
func describe(id ExtentID, g erasure.Geometry, codeID, transform uint8, hash, parityRoot frame.Hash) frame.Hash {
	var e frame.Encoder
	e.Raw(id[:])
	e.U8(uint8(g.Code.K))
	e.U8(uint8(g.Code.M))
	e.U32(uint32(g.BlockSize))
	e.U8(codeID)
	e.U8(transform)
	e.I64(g.Length)
	e.Raw(hash[:])
	e.Raw(parityRoot[:])
	return frame.Sum(e.B)
}

// tableLen returns the bytes of the table of an extent.
func tableLen(g erasure.Geometry) int64 {
	n := int64(g.Blocks())
	if g.Code.K > 1 {
		n += int64(g.Stripes()) * int64(g.Code.M)
	}
	return 32 * n
}

func (h *header) encode(e *frame.Encoder) {
	e.Raw(magicHead[:])
	e.U16(formatVersion)
	e.U16(0)
	e.U32(0)
	e.U32(h.compat)
	e.Raw(h.storeID[:])
	e.Raw(h.extent[:])
	e.Raw(h.upload[:])
	e.U32(h.generation)
	e.U64(h.epoch)
	e.U8(uint8(h.kind))
	e.U8(uint8(h.shard))
	e.U8(uint8(h.code.K))
	e.U8(uint8(h.code.M))
	e.U8(uint8(bits.TrailingZeros(uint(h.blockSize))))
	e.U8(h.codeID)
	e.U8(h.transform)
	e.U8(hashBLAKE3)
	e.U32(h.keyEpoch)
	e.U32(uint32(h.ordinal))
	e.I64(h.offset)
}

// appendHeader appends the 4096 bytes of h to dst.
func appendHeader(dst []byte, h *header) []byte {
	e := frame.Encoder{B: dst}
	h.encode(&e)
	e.B = append(e.B, make([]byte, headerHashAt-commonSize)...)
	sum := frame.Sum(e.B[len(dst):])
	return append(e.B, sum[:]...)
}

// appendTrailer appends the 4096 bytes of t to dst.
func appendTrailer(dst []byte, t *trailer) []byte {
	e := frame.Encoder{B: dst}
	t.header.encode(&e)
	e.I64(t.length)
	e.Bool(t.whole)
	e.Raw(make([]byte, 7))
	for _, s := range []span{t.blocks, t.table, t.manifests, t.extra} {
		e.I64(s.off)
		e.I64(s.len)
	}
	e.I64(t.size)
	for _, h := range []frame.Hash{t.hash, t.parityRoot, t.descriptor, t.tableHash, t.maniHash, t.extraHash} {
		e.Raw(h[:])
	}
	e.I64(t.packMani)
	e.B = append(e.B, make([]byte, trailerHashAt-(len(e.B)-len(dst)))...)
	sum := frame.Sum(e.B[len(dst):])
	e.Raw(sum[:])
	e.Raw(magicTail[:])
	return e.B
}

// judge tells the two errors apart before any field is trusted; sum returns the
// hash of b up to where it is kept and whether it is the one kept there. The
// version is looked at alone, so that a blob from the future is told from a
// damaged one even when all else has changed: only if the bytes would be sound
// with version 1 in its place is it the version that was damaged.
func judge(b []byte, what string, sound func(b []byte) bool) error {
	if [8]byte(b[:8]) != magicHead {
		return fmt.Errorf("%w: %s without magic", frame.ErrCorrupt, what)
	}
	v := binary.BigEndian.Uint16(b[8:])
	if v == formatVersion && sound(b) {
		return nil
	}
	if v != formatVersion {
		old := bytes.Clone(b)
		binary.BigEndian.PutUint16(old[8:], formatVersion)
		if !sound(old) {
			return fmt.Errorf("%w: shard format %d, this program reads %d", frame.ErrVersion, v, formatVersion)
		}
	}
	return fmt.Errorf("%w: %s hash does not match", frame.ErrCorrupt, what)
}

func soundHeader(b []byte) bool {
	return frame.Sum(b[:headerHashAt]) == frame.Hash(b[headerHashAt:])
}

func soundTrailer(b []byte) bool {
	return frame.Sum(b[:trailerHashAt]) == frame.Hash(b[trailerHashAt:trailerHashAt+32]) &&
		[8]byte(b[trailerSize-8:]) == magicTail
}

// decodeHeader reads a header: ErrCorrupt for damage, ErrVersion for one that
// this program is too old for.
func decodeHeader(b []byte) (h header, err error) {
	if len(b) != headerSize {
		return h, fmt.Errorf("%w: header has %d bytes, want %d", frame.ErrCorrupt, len(b), headerSize)
	}
	if err := judge(b, "header", soundHeader); err != nil {
		return h, err
	}
	d := frame.NewDecoder(b[:headerHashAt])
	h.decode(d)
	if !frame.Zero(d.Rest()) {
		d.Fail("padding of the header is not zero")
	}
	return h, d.Err()
}

func (h *header) decode(d *frame.Decoder) {
	d.Raw(10) // magic and version, checked before
	if d.U16() != 0 {
		d.Fail("reserved field is not zero")
	}
	if f := d.U32(); f != 0 {
		d.Refuse("feature bits %#x", f)
	}
	h.compat = d.U32()
	h.storeID = d.ID()
	h.extent = d.ID()
	h.upload = d.ID()
	h.generation = d.U32()
	h.epoch = d.U64()
	h.kind = Kind(d.U8())
	h.shard = int(d.U8())
	h.code = erasure.Code{K: int(d.U8()), M: int(d.U8())}
	log := d.U8()
	h.codeID = d.U8()
	h.transform = d.U8()
	if id := d.U8(); id != hashBLAKE3 {
		d.Refuse("hash %d", id)
	}
	h.keyEpoch = d.U32()
	h.ordinal = int(d.U32())
	h.offset = d.I64()
	if d.Err() != nil {
		return
	}
	if log != 16 {
		d.Refuse("block size 2^%d", log)
		return
	}
	h.blockSize = 1 << log
	if h.codeID != codeReedSolomon {
		d.Refuse("code %d", h.codeID)
	}
	if h.kind < KindObject || h.kind > KindSnapshot {
		d.Refuse("kind %d", h.kind)
	}
	if err := h.code.Validate(); err != nil {
		d.Fail("%v", err)
	} else if h.shard >= h.code.Shards() {
		d.Fail("shard %d of a %v code", h.shard, h.code)
	}
	if h.offset < 0 || h.offset%(1<<20) != 0 || h.offset > math.MaxInt64-MaxExtent {
		d.Fail("extent begins at %d", h.offset)
	}
}

// decodeTrailer reads a trailer and checks that what it says hangs together:
// the lengths follow from the geometry, and the parts do not overlap.
func decodeTrailer(b []byte) (t trailer, err error) {
	if len(b) != trailerSize {
		return t, fmt.Errorf("%w: trailer has %d bytes, want %d", frame.ErrCorrupt, len(b), trailerSize)
	}
	if err := judge(b, "trailer", soundTrailer); err != nil {
		return t, err
	}
	d := frame.NewDecoder(b[:trailerHashAt])
	t.header.decode(d)
	t.length = d.I64()
	t.whole = d.Bool()
	if !frame.Zero(d.Raw(7)) {
		d.Fail("reserved field is not zero")
	}
	for _, s := range []*span{&t.blocks, &t.table, &t.manifests, &t.extra} {
		s.off, s.len = d.I64(), d.I64()
	}
	t.size = d.I64()
	for _, h := range []*frame.Hash{&t.hash, &t.parityRoot, &t.descriptor, &t.tableHash, &t.maniHash, &t.extraHash} {
		*h = d.Hash()
	}
	t.packMani = d.I64()
	if !frame.Zero(d.Rest()) {
		d.Fail("padding of the trailer is not zero")
	}
	t.check(d)
	return t, d.Err()
}

// check fails d unless the lengths of t are within the limits and agree with its
// geometry. Nothing is allocated by what an unchecked trailer says.
func (t *trailer) check(d *frame.Decoder) {
	if d.Err() != nil {
		return
	}
	if t.length < 1 || t.length > MaxExtent {
		d.Fail("extent of %d bytes", t.length)
		return
	}
	if t.whole && (t.offset != 0 || t.ordinal != 0) || t.kind == KindPack && !t.whole {
		d.Fail("extent %d at %d of a %d stream is said to be whole, or of a pack not to be", t.ordinal, t.offset, t.kind)
		return
	}
	if t.manifests.len < 0 || t.manifests.len > maxManifests {
		d.Fail("manifests of %d bytes", t.manifests.len)
		return
	}
	want := trailer{header: t.header, length: t.length}
	want.layout(tableLen(t.geometry()), t.manifests.len)
	if t.blocks != want.blocks || t.table != want.table || t.manifests != want.manifests || t.extra != want.extra || t.size != want.size {
		d.Fail("parts lie where a %v extent of %d bytes has none", t.code, t.length)
	}
	if t.packMani < 0 || t.packMani > t.length || t.kind != KindPack && t.packMani != 0 {
		d.Fail("manifests of the pack at %d", t.packMani)
	}
	if t.descriptor != describe(t.extent, t.geometry(), t.codeID, t.transform, t.hash, t.parityRoot) {
		d.Fail("descriptor does not match the geometry")
	}
}
