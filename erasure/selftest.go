package erasure

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"

	"github.com/klauspost/reedsolomon"
)

// vector is one known stripe: the parity that every version of this package has
// computed, and must.
type vector struct {
	code   Code
	length int    // of each block, chosen so that vector instructions leave a tail
	parity string // SHA-256 of the parity blocks one after another
}

// golden is checked before the first Coder of a process is made: several
// releases of the library were retracted because some processors computed
// something else (its go.mod names them). The codes reach its different inner
// loops: few blocks, more than ten inputs, more than ten outputs, both.
var golden = []vector{
	{Code{2, 1}, 1091, "7f4ff7f3a9cd7e069056da2eecc9af05f33abaf5b924b35fa982b8c55c0df3b5"},
	{Code{8, 3}, 4096, "09ade10b4e9d94676c6227b59784c2237e7118bd24437b4381619e0373c772e5"},
	{Code{30, 3}, 547, "0c940d637ecb1b28da690d095cd1e89fb24f905f7a12c8bf2f11db0b35af1b64"},
	{Code{5, 12}, 547, "bb474d0c8c09df972eda84c4a4504fd8a3e01ab723f7ae8b429b7eacfcf1861d"},
	{Code{17, 12}, 331, "7a613796702fe5988acbd12bb065ff0acf86207e34eb84f085e3ab78feaaa2b3"},
}

// selfTest runs the golden vectors once, and returns what it found ever after.
var selfTest = sync.OnceValue(func() error {
	for _, v := range golden {
		if err := v.check(); err != nil {
			return err
		}
	}
	return nil
})

// check encodes the vector, compares its parity, and repairs it with its first M
// blocks missing: with data blocks, and where M > K parity blocks too. Options may
// choose the instructions that compute it.
func (v vector) check(opts ...reedsolomon.Option) error {
	co, err := newCoder(v.code, opts...)
	if err != nil {
		return err
	}
	blocks := v.blocks()
	if err := co.Encode(blocks); err != nil {
		return err
	}
	if got := digest(blocks[v.code.K:]); got != v.parity {
		return fmt.Errorf("erasure: self-test: parity of code %v has SHA-256 %s, want %s; nothing is encoded with this build on this machine", v.code, got, v.parity)
	}
	damaged, lost := v.damage(blocks)
	if err := co.Reconstruct(damaged, lost...); err != nil {
		return err
	}
	for i := range blocks {
		if !bytes.Equal(damaged[i], blocks[i]) {
			return fmt.Errorf("erasure: self-test: code %v repairs block %d wrongly; nothing is encoded with this build on this machine", v.code, i)
		}
	}
	return nil
}

// blocks returns the K data blocks, filled with the upper bytes of the linear
// congruential generator x := 1664525·x + 1013904223 mod 2^32 from x = K (Knuth,
// The Art of Computer Programming, volume 2, 3.3.4), and M blocks of zeros.
func (v vector) blocks() [][]byte {
	blocks := make([][]byte, v.code.Shards())
	x := uint32(v.code.K)
	for i := range blocks {
		blocks[i] = make([]byte, v.length)
		for j := range blocks[i] {
			if i < v.code.K {
				x = 1664525*x + 1013904223
				blocks[i][j] = byte(x >> 24)
			}
		}
	}
	return blocks
}

// damage returns blocks without the first M of them, and their numbers.
func (v vector) damage(blocks [][]byte) (damaged [][]byte, lost []int) {
	damaged = append(damaged, blocks...)
	for i := range v.code.M {
		damaged[i] = nil
		lost = append(lost, i)
	}
	return damaged, lost
}

// digest returns the SHA-256 of all blocks one after another.
func digest(blocks [][]byte) string {
	h := sha256.New()
	for _, b := range blocks {
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil))
}
