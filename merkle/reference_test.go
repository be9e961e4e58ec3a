package merkle_test

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/bits"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/blake3"

	"github.com/blockframe/blockframe/merkle"
)

// What follows is BLAKE3 written down from sections 2.1 to 2.6 of its paper,
// with recursion, loops and no care for speed: the dumb version that the fast
// one is compared with, positions in the stream included.

const (
	chunkStart, chunkEnd, parentFlag, rootFlag = 1, 2, 4, 8
)

var (
	refIV = [8]uint32{0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19}
	perm  = [16]int{2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8}
)

// refCompress is the compression function (section 2.2), first half of output.
func refCompress(h [8]uint32, m [16]uint32, counter uint64, length, flags int) [8]uint32 {
	var v [16]uint32
	copy(v[:8], h[:])
	copy(v[8:12], refIV[:4])
	v[12], v[13], v[14], v[15] = uint32(counter), uint32(counter>>32), uint32(length), uint32(flags)
	g := func(a, b, c, d int, x, y uint32) {
		v[a] += v[b] + x
		v[d] = bits.RotateLeft32(v[d]^v[a], -16)
		v[c] += v[d]
		v[b] = bits.RotateLeft32(v[b]^v[c], -12)
		v[a] += v[b] + y
		v[d] = bits.RotateLeft32(v[d]^v[a], -8)
		v[c] += v[d]
		v[b] = bits.RotateLeft32(v[b]^v[c], -7)
	}
	for range 7 {
		for i := range 4 {
			g(i, 4+i, 8+i, 12+i, m[2*i], m[2*i+1])
		}
		for i := range 4 {
			g(i, 4+(i+1)%4, 8+(i+2)%4, 12+(i+3)%4, m[8+2*i], m[8+2*i+1])
		}
		var p [16]uint32
		for i := range p {
			p[i] = m[perm[i]]
		}
		m = p
	}
	for i := range h {
		h[i] = v[i] ^ v[i+8]
	}
	return h
}

func refWords(b []byte) (m [16]uint32) {
	var full [64]byte
	copy(full[:], b)
	for i := range m {
		m[i] = binary.LittleEndian.Uint32(full[4*i:])
	}
	return m
}

// refCV returns the CV of data, whose first byte is chunk number chunk of its
// stream; flags is rootFlag or 0.
func refCV(data []byte, chunk uint64, flags int) (cv merkle.CV) {
	h := refIV
	if len(data) <= 1024 {
		f := chunkStart
		for len(data) > 64 {
			h = refCompress(h, refWords(data[:64]), chunk, 64, f)
			data, f = data[64:], 0
		}
		h = refCompress(h, refWords(data), chunk, len(data), f|chunkEnd|flags)
	} else {
		left := 1024
		for 2*left < len(data) {
			left *= 2
		}
		l, r := refCV(data[:left], chunk, 0), refCV(data[left:], chunk+uint64(left/1024), 0)
		h = refCompress(refIV, refWords(append(l[:], r[:]...)), 0, 64, parentFlag|flags)
	}
	for i, w := range h {
		binary.LittleEndian.PutUint32(cv[4*i:], w)
	}
	return cv
}

func TestReferenceEqualsZeebo(t *testing.T) {
	for _, n := range []int{0, 1, 64, 65, 1024, 1025, 2048, 2049, 3072, 5 << 10, 31744, 31745} {
		data := noise(n, 20)
		require.Equal(t, blake3.Sum256(data), refCV(data, 0, rootFlag), "size %d", n)
	}
}

// Every length of a block up to the size of the groups that guts hashes side by
// side, then around boundaries, at positions whose chunk counters carry into
// the second word (4 TiB) and within one group across that carry.
func TestBlockCVEqualsReference(t *testing.T) {
	data := noise(130<<10, 21)
	lengths := append(sizes(17<<10), 40<<10+1, 64<<10-1, 64<<10, 64<<10+1, 80<<10, 128<<10+1)
	offsets := []int64{0, 1024, 64 << 10, 1<<42 - 1024, 1<<42 - 8<<10, 1 << 42, 1<<62 + 64<<10}
	if testing.Short() {
		offsets = offsets[3:5]
	}
	for _, off := range offsets {
		for _, n := range lengths[1:] {
			require.Equal(t, refCV(data[:n], uint64(off)/1024, 0), merkle.BlockCV(data[:n], off), "%d bytes at %d", n, off)
		}
	}
}

func TestFoldEqualsReference(t *testing.T) {
	const B = 1024
	data := noise(100*B, 22)
	var cvs []merkle.CV
	for n := B; n <= len(data); n += B {
		cvs = append(cvs, merkle.BlockCV(data[n-B:n], int64(n-B)))
		require.Equal(t, refCV(data[:n], 0, 0), merkle.Fold(cvs), "%d CVs", len(cvs))
		if len(cvs) > 1 {
			require.Equal(t, refCV(data[:n], 0, rootFlag), merkle.FoldRoot(cvs), "%d CVs", len(cvs))
		}
	}
}

// testdata/blake3_test_vectors.json is test_vectors/test_vectors.json of
// github.com/BLAKE3-team/BLAKE3 (public domain, CC0); the first 32 bytes of
// "hash" are the default output.
func TestOfficialVectors(t *testing.T) {
	raw, err := os.ReadFile("testdata/blake3_test_vectors.json")
	require.NoError(t, err)
	var v struct {
		Cases []struct {
			InputLen int `json:"input_len"`
			Hash     string
		}
	}
	require.NoError(t, json.Unmarshal(raw, &v))
	require.NotEmpty(t, v.Cases)
	for _, c := range v.Cases {
		data := make([]byte, c.InputLen)
		for i := range data {
			data[i] = byte(i % 251)
		}
		for _, B := range []int{merkle.MinBlockSize, 4096, block, merkle.MaxBlockSize} {
			h := tableOf(t, data, 0, B, true).Hash()
			require.Equal(t, c.Hash[:64], hex.EncodeToString(h[:]), fmt.Sprintf("%d bytes in blocks of %d", c.InputLen, B))
		}
	}
}
