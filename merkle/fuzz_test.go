package merkle_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/blake3"

	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/merkle"
)

var update = flag.Bool("update", false, "write testdata/proof_v1.bin anew")

// pattern returns n bytes as the official vectors have them.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

// testdata/proof_v1.bin is the proof of blocks [2, 4) of 2048 bytes in a stream
// of 12,345 bytes: what version 1 looks like for ever.
func TestGoldenProof(t *testing.T) {
	data := pattern(12345)
	r := merkle.Range{BlockSize: 2048, Lo: 2, Hi: 4}
	made, part := prove(t, data, r)
	raw, err := made.MarshalBinary()
	require.NoError(t, err)
	if *update {
		require.NoError(t, os.WriteFile("testdata/proof_v1.bin", raw, 0o666))
	}
	golden, err := os.ReadFile("testdata/proof_v1.bin")
	require.NoError(t, err)
	require.Equal(t, golden, raw)

	p := new(merkle.Proof)
	require.NoError(t, p.UnmarshalBinary(golden))
	size, err := merkle.Verify(blake3.Sum256(data), r, p, part)
	require.NoError(t, err)
	require.Equal(t, int64(len(data)), size)
}

func TestProofFromTheFuture(t *testing.T) {
	golden, err := os.ReadFile("testdata/proof_v1.bin")
	require.NoError(t, err)
	golden[5]++
	err = new(merkle.Proof).UnmarshalBinary(golden)
	require.ErrorIs(t, err, frame.ErrVersion)
	require.ErrorContains(t, err, "version 2, want 1")
	require.NotErrorIs(t, err, frame.ErrCorrupt)
}

// R14: a header that promises more than the input holds is refused before
// anything is allocated for it, and a failed read leaves the proof as it was.
func TestHostileProof(t *testing.T) {
	golden, err := os.ReadFile("testdata/proof_v1.bin")
	require.NoError(t, err)
	before := new(merkle.Proof)
	require.NoError(t, before.UnmarshalBinary(golden))
	for name, fields := range map[string][4]uint64{ // log2 of block size, size, lo, hi
		"huge range":          {10, 1<<63 - 1, 0, 1 << 53},
		"negative size":       {16, 1 << 63, 0, 0},
		"negative lo":         {16, 1 << 20, 1 << 63, 1},
		"hi past the end":     {16, 1 << 20, 0, 17},
		"lo above hi":         {16, 1 << 20, 2, 1},
		"empty, not at 0":     {16, 1 << 20, 1, 1},
		"block size 2^255":    {255, 1 << 20, 0, 1},
		"block size 1":        {0, 1 << 20, 0, 1},
		"block size 2 MiB":    {21, 1 << 22, 0, 1},
		"size with no chunk":  {16, 1, 0, 0},
		"range of an empty":   {16, 0, 0, 1},
		"all of a long one":   {16, 1 << 40, 0, 1 << 24},
		"proof of size 2^62":  {16, 1 << 62, 0, 0},
		"last block of 2^62 ": {16, 1 << 62, 1<<46 - 1, 1 << 46},
	} {
		raw := append([]byte("bfpf\x00\x01"), byte(fields[0]))
		for _, v := range fields[1:] {
			raw = binary.BigEndian.AppendUint64(raw, v)
		}
		p := *before
		var err error
		allocs := testing.AllocsPerRun(1, func() { err = p.UnmarshalBinary(raw) })
		require.ErrorIs(t, err, frame.ErrCorrupt, name)
		require.Equal(t, *before, p, name)
		if !testing.Short() { // -race allocates on its own
			require.Less(t, allocs, 20.0, name)
		}
	}
	require.Error(t, func() error { _, err := new(merkle.Proof).MarshalBinary(); return err }())
}

// FuzzProof: whatever the bytes, the decoder returns a typed error or a proof
// that encodes to the same bytes, and no proof but the true one opens.
func FuzzProof(f *testing.F) {
	type source struct {
		id merkle.CV
		r  merkle.Range
		b  []byte
	}
	var known []source
	for _, n := range []int{0, 1, 1024, 1025, 5000, 12345} {
		data := pattern(n)
		for _, r := range []merkle.Range{{2048, 0, 0}, {2048, 1, 3}, {1024, 2, 9}} {
			p, _ := prove(f, data, r)
			b, err := p.MarshalBinary()
			require.NoError(f, err)
			known = append(known, source{blake3.Sum256(data), r, b})
			f.Add(b)
		}
	}
	f.Add([]byte{})
	f.Add([]byte("bfpf\x00\x02"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p := new(merkle.Proof)
		if err := p.UnmarshalBinary(b); err != nil {
			if !errors.Is(err, frame.ErrCorrupt) && !errors.Is(err, frame.ErrVersion) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		again, err := p.MarshalBinary()
		require.NoError(t, err)
		require.Equal(t, b, again)
		for _, k := range known {
			if _, err := p.Open(k.id, k.r); err == nil && !bytes.Equal(b, k.b) {
				t.Fatalf("a second proof opens for %v", k.r)
			}
		}
	})
}
