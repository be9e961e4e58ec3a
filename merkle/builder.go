package merkle

import (
	"fmt"
	"math"
	"slices"
	"sync"

	"lukechampine.com/blake3/guts"
)

// Builder makes the [Table] of one extent from its blocks, which come in any
// order and from any number of goroutines. Hashing happens in the goroutine
// that calls Add, outside the lock: the lock is held for some 20 ns per block,
// the hash of a 64 KiB block takes some 13 µs.
//
// A Builder keeps 33 bytes per block, of at most [MaxBlocks]. It is used for one
// extent, which begins below 2^63-2^44.
type Builder struct {
	offset    int64
	blockSize int

	mu    sync.Mutex
	cvs   []CV
	have  []bool    // have[i]: block i was added
	count int       // blocks added, duplicates once
	short int       // position of the one block shorter than blockSize, or -1
	size  int       // its length
	first guts.Node // top node of block 0, for a stream of one block
	err   error     // the first misuse, reported by Finish
}

// NewBuilder returns a Builder for an extent whose first byte is at offset of
// its stream, in bytes. A bad block size or offset is reported by Finish.
func NewBuilder(offset int64, blockSize int) *Builder {
	b := &Builder{offset: offset, blockSize: blockSize, short: -1}
	if !ValidBlockSize(blockSize) || offset < 0 || offset%int64(blockSize) != 0 {
		b.err = fmt.Errorf("merkle: extent at offset %d in blocks of %d bytes", offset, blockSize)
	}
	return b
}

// Add hashes block i of the extent, 0 <= i < MaxBlocks. Every block but the last is
// blockSize bytes long. The block is not retained. Adding the same block again
// changes nothing; adding another one in its place, an empty or an overlong one
// makes Finish fail. Add may be called concurrently.
func (b *Builder) Add(i int, block []byte) {
	if i < 0 || len(block) == 0 || len(block) > b.blockSize || !ValidBlockSize(b.blockSize) {
		b.fail(fmt.Errorf("merkle: block %d of %d bytes, block size %d", i, len(block), b.blockSize))
		return
	}
	if i >= MaxBlocks || b.offset < 0 || b.offset > math.MaxInt64-MaxBlocks*MaxBlockSize {
		b.fail(fmt.Errorf("merkle: block %d of an extent at offset %d is past its limits", i, b.offset))
		return
	}
	at := b.offset + int64(i)*int64(b.blockSize)
	n := blockNode(block, uint64(at)/chunkSize)
	cv := nodeCV(&n)

	b.mu.Lock()
	defer b.mu.Unlock()
	b.put(i, len(block), cv)
	if i == 0 {
		b.first = n
	}
}

// put records block i of size bytes. The lock is held.
func (b *Builder) put(i, size int, cv CV) {
	if i >= len(b.cvs) {
		b.cvs = append(b.cvs, make([]CV, i+1-len(b.cvs))...)
		b.have = append(b.have, make([]bool, i+1-len(b.have))...)
	}
	switch {
	case b.have[i] && b.cvs[i] != cv:
		b.setErr(fmt.Errorf("merkle: block %d added twice with different content", i))
	case size < b.blockSize && b.short >= 0 && b.short != i:
		b.setErr(fmt.Errorf("merkle: blocks %d and %d are both short", b.short, i))
	case !b.have[i]:
		b.count++
	}
	if size < b.blockSize {
		b.short, b.size = i, size
	}
	b.cvs[i], b.have[i] = cv, true
}

// Finish returns the table of an extent of length bytes, once every Add has
// returned. whole says that the extent is its whole stream. It fails when
// blocks are missing or left over, when their lengths do not add up to length,
// or when the extent is not a subtree of its stream; any of these is a mistake
// of the caller, and the table would have been wrong. The Builder is done.
func (b *Builder) Finish(length int64, whole bool) (*Table, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return nil, b.err
	}
	t := &Table{Offset: b.offset, Length: length, BlockSize: b.blockSize, Whole: whole, CVs: b.cvs}
	if err := t.Validate(); err != nil {
		return nil, err
	}
	if b.count != len(b.cvs) {
		return nil, fmt.Errorf("merkle: block %d of %d is missing", slices.Index(b.have, false), len(b.cvs))
	}
	if err := b.checkLast(t); err != nil {
		return nil, err
	}
	if whole && len(t.CVs) == 1 {
		t.CVs[0] = nodeRoot(&b.first)
	}
	return t, nil
}

// checkLast compares the length of the last block with what t says, and
// refuses a short block anywhere else.
func (b *Builder) checkLast(t *Table) error {
	last := len(t.CVs) - 1
	if last < 0 {
		return nil
	}
	got := b.blockSize
	if b.short == last {
		got = b.size
	}
	if want := t.BlockLen(last); got != want || b.short >= 0 && b.short != last {
		return fmt.Errorf("merkle: last block %d has %d bytes, want %d; short block at %d", last, got, want, b.short)
	}
	return nil
}

func (b *Builder) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.setErr(err)
}

// setErr keeps the first error. The lock is held.
func (b *Builder) setErr(err error) {
	if b.err == nil {
		b.err = err
	}
}
