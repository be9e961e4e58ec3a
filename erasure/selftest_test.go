package erasure_test

import (
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/reedsolomon"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/erasure"
)

// The golden vectors are what the dumb reference computes, not only what the
// library did when they were recorded.
func TestGoldenVectorsAreTheReference(t *testing.T) {
	codes, stripes, parity := erasure.GoldenStripes()
	for i, c := range codes {
		h := sha256.New()
		for _, row := range multiply(codingMatrix(c.K, c.M)[c.K:], stripes[i][:c.K]) {
			h.Write(row)
		}
		require.Equal(t, hex.EncodeToString(h.Sum(nil)), parity[i], "%v", c)
	}
}

// A coder that computes something else, or for another code, is refused by name.
func TestSelfTestFindsWrongParity(t *testing.T) {
	require.NoError(t, erasure.CheckGolden())
	digit, code := erasure.CheckWrong()
	require.ErrorContains(t, digit, "self-test: parity of code 8+3")
	require.ErrorContains(t, code, "self-test: parity of code 8+4")
}

// instructions turns off one instruction set after another, down to plain Go.
var instructions = []struct {
	name string
	off  []reedsolomon.Option
}{
	{"all that there are", nil},
	{"without AVX512+GFNI", []reedsolomon.Option{reedsolomon.WithGFNI(false)}},
	{"without AVX512", []reedsolomon.Option{reedsolomon.WithAVX512(false)}},
	{"without GFNI", []reedsolomon.Option{reedsolomon.WithAVX512(false), reedsolomon.WithAVXGFNI(false)}},
	{"without AVX", []reedsolomon.Option{reedsolomon.WithAVX512(false), reedsolomon.WithAVX2(false)}},
	{"SVE off", []reedsolomon.Option{reedsolomon.WithSVE(false)}},
	{"plain Go", []reedsolomon.Option{reedsolomon.WithAVX512(false), reedsolomon.WithAVX2(false),
		reedsolomon.WithSSSE3(false), reedsolomon.WithSSE2(false), reedsolomon.WithNEON(false)}},
}

// Whatever instructions a processor has, the bytes are the same: golden vectors,
// and parity and repair of every size around their widths.
func TestInstructionSetsAgree(t *testing.T) {
	for _, in := range instructions {
		t.Run(in.name, func(t *testing.T) {
			require.NoError(t, erasure.CheckGolden(in.off...))
			for _, c := range []erasure.Code{{2, 1}, {8, 3}, {12, 11}, {30, 3}} {
				co, err := erasure.NewCoder(c, in.off...)
				require.NoError(t, err)
				for _, n := range sizes() {
					whole := encoded(t, c, n, uint64(n))
					got := randomData(c, n, uint64(n))
					require.NoError(t, co.Encode(got))
					require.Equal(t, whole, got, "%v of %d bytes", c, n)
					damaged := lose(whole, []int{0, c.K}[:min(2, c.M)])
					require.NoError(t, co.Reconstruct(damaged, all(c)...))
					require.Equal(t, whole, damaged, "%v of %d bytes", c, n)
				}
			}
		})
	}
}

// However many patterns of damage a coder repairs, it remembers a bounded number,
// and still repairs the next.
func TestInvertedMatricesAreBounded(t *testing.T) {
	c := erasure.Code{K: 64, M: 64} // 75 kB for each
	co, err := erasure.NewCoder(c)
	require.NoError(t, err)
	whole := encoded(t, c, 1, 9)
	rnd := rand.New(rand.NewPCG(10, 10))
	most := 0
	for range 150 {
		lost := rnd.Perm(c.Shards())[:c.M]
		damaged := lose(whole, lost)
		require.NoError(t, co.Reconstruct(damaged, lost...))
		require.Equal(t, whole, damaged)
		n, each := co.Patterns()
		require.LessOrEqual(t, n*each, erasure.InversionBytes)
		most = max(most, n)
	}
	n, _ := co.Patterns()
	require.Less(t, n, most, "never forgot any")
}
