package oracle_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/reedsolomon"
	"github.com/stretchr/testify/require"
	"github.com/zeebo/blake3"
	"lukechampine.com/blake3/guts"
)

// What follows writes blobs as the text in store/format.go says, without a look
// at the code that follows the text: a second reading of it, slow and plain.

const (
	blockSize = 1 << 16
	grid      = 4096
)

// extent is one extent to be written: shard i goes to disks[i].
type extent struct {
	kind       byte // 1 object, 2 pack
	id, put    [16]byte
	generation uint32
	epoch      uint64
	k, m       int
	ordinal    uint32
	offset     uint64
	data       []byte
	whole      bool
	manifests  string
	packsAt    uint64

	blocks, stripes int
	columns         [][]byte
	table           []byte
	hash            []byte
	parityRoot      []byte
}

func (e *extent) block(b int) []byte {
	lo, hi := min(b*blockSize, len(e.data)), min((b+1)*blockSize, len(e.data))
	return e.data[lo:hi]
}

// prepare codes and hashes the extent.
func (e *extent) prepare(t testing.TB) {
	if e.columns != nil {
		return
	}
	e.blocks = (len(e.data) + blockSize - 1) / blockSize
	e.stripes = (e.blocks + e.k - 1) / e.k
	e.columns = make([][]byte, e.k+e.m)
	var cvs [][8]uint32
	var table, parity []byte
	for b := range e.blocks {
		cvs = append(cvs, cv(e.block(b), e.offset/1024+uint64(b)*blockSize/1024))
	}
	code, err := reedsolomon.New(e.k, e.m)
	require.NoError(t, err)
	for s := range e.stripes {
		stripe := make([][]byte, e.k+e.m)
		size := len(e.block(s * e.k))
		for i := range stripe {
			stripe[i] = make([]byte, size)
			if i < e.k {
				data := e.block(s*e.k + i)
				copy(stripe[i], data)
				e.columns[i] = append(e.columns[i], data...)
			}
		}
		require.NoError(t, code.Encode(stripe))
		for i := e.k; i < e.k+e.m; i++ {
			e.columns[i] = append(e.columns[i], stripe[i]...)
			if e.k > 1 {
				h := blake3.Sum256(stripe[i])
				parity = append(parity, h[:]...)
			}
		}
	}
	switch {
	case e.whole:
		h := blake3.Sum256(e.data)
		e.hash = h[:]
	default:
		e.hash = words(fold(cvs, 0))
	}
	if e.whole && e.blocks == 1 {
		table = e.hash
	} else {
		for _, cv := range cvs {
			table = append(table, words(cv)...)
		}
	}
	e.table = append(bytes.Clone(table), parity...)
	root := blake3.Sum256(parity)
	e.parityRoot = root[:]
}

// head returns the first 104 bytes of header and trailer.
func (e *extent) head(shard int) []byte {
	b := []byte{0x89, 0x42, 0x46, 0x53, 0x0D, 0x0A, 0x1A, 0x0A, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	b = append(b, "a store of tests"...)
	b = append(append(b, e.id[:]...), e.put[:]...)
	b = binary.BigEndian.AppendUint32(b, e.generation)
	b = binary.BigEndian.AppendUint64(b, e.epoch)
	b = append(b, e.kind, byte(shard), byte(e.k), byte(e.m), 16, 1, 0, 1, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, e.ordinal)
	return binary.BigEndian.AppendUint64(b, e.offset)
}

func (e *extent) descriptor() []byte {
	b := append(bytes.Clone(e.id[:]), byte(e.k), byte(e.m), 0, 1, 0, 0, 1, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(len(e.data)))
	return append(append(b, e.hash...), e.parityRoot...)
}

// blob returns the whole blob of a shard.
func (e *extent) blob(shard int) []byte {
	manifests := e.manifests
	if e.kind == 2 && shard > 0 && shard < e.k {
		manifests = ""
	}
	out := page(e.head(shard), 4064)
	tail := binary.BigEndian.AppendUint64(e.head(shard), uint64(len(e.data)))
	tail = append(tail, map[bool]byte{true: 1}[e.whole], 0, 0, 0, 0, 0, 0, 0)
	parts := [][]byte{e.columns[shard], e.table, []byte(manifests), nil}
	for _, part := range parts {
		tail = binary.BigEndian.AppendUint64(tail, uint64(len(out)))
		tail = binary.BigEndian.AppendUint64(tail, uint64(len(part)))
		out = append(out, part...)
		out = append(out, make([]byte, -len(out)&(grid-1))...)
	}
	tail = binary.BigEndian.AppendUint64(tail, uint64(len(out)+grid))
	tail = append(append(tail, e.hash...), e.parityRoot...)
	for _, hashed := range [][]byte{e.descriptor(), parts[1], parts[2], parts[3]} {
		h := blake3.Sum256(hashed)
		tail = append(tail, h[:]...)
	}
	tail = page(binary.BigEndian.AppendUint64(tail, e.packsAt), 4056)
	copy(tail[4088:], []byte{0x42, 0x46, 0x53, 0x45, 0x4E, 0x44, 0x0D, 0x0A})
	return append(out, tail...)
}

// write writes the given shards, all when there are none given.
func (e *extent) write(t testing.TB, disks []string, shards ...int) {
	t.Helper()
	e.prepare(t)
	if shards == nil {
		for i := range e.k + e.m {
			shards = append(shards, i)
		}
	}
	for _, i := range shards {
		path := filepath.Join(disks[i], "data", e.key(i))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, e.blob(i), 0o644))
	}
}

func (e *extent) key(shard int) string {
	h := blake3.Sum256(e.id[:])
	return fmt.Sprintf("%02x/%x-%02x-%08x-%016x-%x", h[0], e.id, shard, e.generation, e.epoch, e.put)
}

// page returns the first bytes of a page filled up with zeros to hashed, their
// hash, and zeros.
func page(first []byte, hashed int) []byte {
	p := make([]byte, grid)
	copy(p, first)
	h := blake3.Sum256(p[:hashed])
	copy(p[hashed:], h[:])
	return p
}

// cv hashes data that begins at a chunk of its stream: the textbook recursion.
func cv(data []byte, chunk uint64) [8]uint32 {
	if len(data) <= guts.ChunkSize {
		return guts.ChainingValue(guts.CompressChunk(data, &guts.IV, chunk, 0))
	}
	left := guts.ChunkSize
	for 2*left < len(data) {
		left *= 2
	}
	return parent(cv(data[:left], chunk), cv(data[left:], chunk+uint64(left/guts.ChunkSize)), 0)
}

// fold folds CVs, the last compression with the given flags.
func fold(cvs [][8]uint32, flags uint32) [8]uint32 {
	if len(cvs) == 1 {
		return cvs[0]
	}
	left := 1
	for 2*left < len(cvs) {
		left *= 2
	}
	return parent(fold(cvs[:left], 0), fold(cvs[left:], 0), flags)
}

func parent(l, r [8]uint32, flags uint32) [8]uint32 {
	return guts.ChainingValue(guts.ParentNode(l, r, &guts.IV, flags))
}

func words(cv [8]uint32) (b []byte) {
	for _, w := range cv {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b
}

// put is one object or member of a pack.
type put struct {
	name  string
	data  []byte
	epoch uint64
}

// putObject writes an object of extents of the given size, and returns them.
func putObject(t testing.TB, disks []string, p put, k, m, size int) []*extent {
	t.Helper()
	var out []*extent
	var list []map[string]any
	id := sum16(p.name, p.data, p.epoch)
	for at := 0; at < len(p.data); at += size {
		e := &extent{kind: 1, put: id, id: sum16("extent", id[:], uint64(at)), epoch: p.epoch, k: k, m: m,
			ordinal: uint32(len(out)), offset: uint64(at), data: p.data[at:min(at+size, len(p.data))], whole: len(p.data) <= size}
		e.prepare(t)
		list = append(list, map[string]any{"extent": hex.EncodeToString(e.id[:]), "hash": hex.EncodeToString(e.hash), "offset": at, "length": len(e.data)})
		line := manifest("object", id, p)
		line["ordinal"], line["offset"] = e.ordinal, at
		e.manifests = jsonLine(t, line)
		out = append(out, e)
	}
	last := out[len(out)-1]
	last.manifests += jsonLine(t, map[string]any{"type": "complete", "v": 1, "put": hex.EncodeToString(id[:]),
		"id": address(p.data), "size": len(p.data), "extents": list})
	for _, e := range out {
		e.write(t, disks)
	}
	return out
}

// putPack writes members as one pack.
func putPack(t testing.TB, disks []string, k, m int, members ...put) *extent {
	t.Helper()
	var lines string
	id := sum16("pack", []byte(members[0].name), uint64(k))
	e := &extent{kind: 2, put: id, id: sum16("pack extent", id[:], 0), k: k, m: m, whole: true, epoch: 1}
	for _, p := range members {
		line := manifest("member", sum16(p.name, p.data, p.epoch), p)
		line["id"], line["size"], line["at"] = address(p.data), len(p.data), len(e.data)
		lines += jsonLine(t, line)
		e.data = append(e.data, p.data...)
	}
	e.packsAt, e.manifests = uint64(len(e.data)), lines
	e.data = append(e.data, lines...)
	e.write(t, disks)
	return e
}

func manifest(kind string, id [16]byte, p put) map[string]any {
	return map[string]any{"type": kind, "v": 1, "put": hex.EncodeToString(id[:]), "name": p.name, "mode": 0o644, "uid": 1000, "gid": 1000,
		"mtime": "2024-02-29T12:00:00.123456789Z", "xattrs": map[string]string{"user.note": "aGVsbG8="}, "policy": "", "later": []int{1}}
}

func jsonLine(t testing.TB, v any) string {
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b) + "\n"
}

func address(data []byte) string { h := blake3.Sum256(data); return "b3:" + hex.EncodeToString(h[:]) }

func sum16(name string, data []byte, n uint64) (id [16]byte) {
	h := blake3.Sum256(fmt.Appendf(data[:len(data):len(data)], "%s %d", name, n))
	return [16]byte(h[:16])
}
