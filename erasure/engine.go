package erasure

import (
	"bytes"
	"sync"

	"github.com/klauspost/reedsolomon"
)

// inversionBytes bounds the inverted matrices that the library keeps for one
// code. It never drops any, and there are as many as patterns of missing blocks:
// 793 of 64 bytes for 8+4, but nine billion of 62,500 for 250+5.
const inversionBytes = 8 << 20

// pattern is a set of shard numbers: bit i of word i div 64.
type pattern [4]uint64

// engine is the library's encoder for one code with K > 1, and a bound on its
// memory: once the patterns that it was asked to repair may fill the bound, it
// is replaced by a new one.
type engine struct {
	code Code
	opts []reedsolomon.Option

	mu   sync.RWMutex
	enc  reedsolomon.Encoder
	seen map[pattern]struct{} // patterns whose inverted matrices enc may hold
}

// newEngine makes an engine. The library's default matrix is part of our format,
// so options may choose instructions and nothing else.
func newEngine(c Code, opts ...reedsolomon.Option) (*engine, error) {
	opts = append([]reedsolomon.Option{
		reedsolomon.WithMaxGoroutines(1), // callers work on several stripes at a time
		reedsolomon.WithInversionCache(true),
	}, opts...)
	enc, err := reedsolomon.New(c.K, c.M, opts...)
	if err != nil {
		return nil, err
	}
	return &engine{code: c, opts: opts, enc: enc, seen: make(map[pattern]struct{})}, nil
}

func (e *engine) encode(blocks [][]byte) error {
	e.mu.RLock()
	enc := e.enc
	e.mu.RUnlock()
	return enc.Encode(blocks)
}

func (e *engine) reconstruct(blocks [][]byte, want []int) error {
	enc, err := e.forPattern(missing(blocks))
	if err != nil {
		return err
	}
	required := make([]bool, len(blocks))
	for _, i := range want {
		required[i] = true
	}
	return enc.ReconstructSome(blocks, required)
}

// forPattern returns an encoder that may invert the matrix of p and keep it.
func (e *engine) forPattern(p pattern) (reedsolomon.Encoder, error) {
	e.mu.RLock()
	enc, _, known := e.lookup(p)
	e.mu.RUnlock()
	if known {
		return enc, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	enc, full, known := e.lookup(p)
	if known {
		return enc, nil
	}
	if full {
		fresh, err := reedsolomon.New(e.code.K, e.code.M, e.opts...)
		if err != nil {
			return nil, err
		}
		enc, e.enc = fresh, fresh
		clear(e.seen)
	}
	e.seen[p] = struct{}{}
	return enc, nil
}

// lookup says whether p was seen and whether no other would fit. The caller
// holds mu.
func (e *engine) lookup(p pattern) (enc reedsolomon.Encoder, full, known bool) {
	_, known = e.seen[p]
	return e.enc, (len(e.seen)+1)*e.patternBytes() > inversionBytes, known
}

// patternBytes returns what one pattern may take: a matrix of K² bytes under K
// slice headers, and for each of at most M missing blocks a node with at most
// K+M child pointers.
func (e *engine) patternBytes() int {
	k, m := e.code.K, e.code.M
	return k*(k+24) + m*(k+m+8)*8
}

// missing returns the set of blocks that are empty.
func missing(blocks [][]byte) (p pattern) {
	for i, b := range blocks {
		if len(b) == 0 {
			p[i/64] |= 1 << (i % 64)
		}
	}
	return p
}

// verifyPiece is how many bytes of each block Verify encodes at a time: small
// enough that what was computed is still in the cache when it is compared.
const verifyPiece = 16 << 10

// scratch is where Verify computes parity anew: the library's own Verify
// allocates all of it on every call.
type scratch struct {
	piece [][]byte // K pieces of the data blocks under test, then M of own
	own   [][]byte // M slices of verifyPiece bytes
}

func newScratch(c Code) *scratch {
	s := &scratch{piece: make([][]byte, c.Shards()), own: make([][]byte, c.M)}
	mem := make([]byte, c.M*verifyPiece)
	for i := range s.own {
		s.own[i] = mem[i*verifyPiece:][:verifyPiece:verifyPiece]
	}
	return s
}

// verify compares the bytes [lo, hi) of the parity blocks with what e computes
// from those of the data blocks.
func (s *scratch) verify(e *engine, blocks [][]byte, lo, hi int) (bool, error) {
	k := e.code.K
	for i := range k {
		s.piece[i] = blocks[i][lo:hi]
	}
	for i, own := range s.own {
		s.piece[k+i] = own[:hi-lo]
	}
	if err := e.encode(s.piece); err != nil {
		return false, err
	}
	for i := range s.own {
		if !bytes.Equal(s.piece[k+i], blocks[k+i][lo:hi]) {
			return false, nil
		}
	}
	return true, nil
}

// forget drops the caller's blocks, so that the pool does not keep them alive.
func (s *scratch) forget() { clear(s.piece) }
