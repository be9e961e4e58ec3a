package erasure

import (
	"bytes"
	"fmt"
	"io/fs"
	"sync"

	"github.com/klauspost/reedsolomon"
)

// Coder computes the parity of stripes and the missing blocks of damaged ones,
// for one code. It is made by [For], holds no buffers of the caller's, and may be
// used by any number of goroutines; each call runs on the calling one alone.
type Coder struct {
	code Code
	rs   *engine   // nil when code.K is 1: copies need no arithmetic
	pool sync.Pool // *scratch, for Verify
}

// coders holds the one Coder of each code in use. Making one inverts a K×K
// matrix.
var coders sync.Map // Code -> *Coder

// For returns the coder of c; the same one for the same code. The first call in
// the process first encodes and repairs a few stripes whose parity is known
// (about 1 ms), and if they come out otherwise then every call fails: such a
// build or machine must not write. An invalid code gives fs.ErrInvalid.
func For(c Code) (*Coder, error) {
	if v, ok := coders.Load(c); ok {
		return v.(*Coder), nil
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if err := selfTest(); err != nil {
		return nil, err
	}
	co, err := newCoder(c)
	if err != nil {
		return nil, err
	}
	v, _ := coders.LoadOrStore(c, co)
	return v.(*Coder), nil
}

func newCoder(c Code, opts ...reedsolomon.Option) (*Coder, error) {
	if c.K == 1 {
		return &Coder{code: c}, nil
	}
	rs, err := newEngine(c, opts...)
	if err != nil {
		return nil, fmt.Errorf("erasure: code %v: %w", c, err)
	}
	co := &Coder{code: c, rs: rs}
	co.pool.New = func() any { return newScratch(c) }
	return co, nil
}

// Code returns the code that the coder was made for.
func (co *Coder) Code() Code { return co.code }

// Encode computes the parity of one stripe. blocks has K+M slices of one length,
// at least 1: data blocks, shorter ones extended with zeros by the caller, then
// the parity blocks, which are overwritten. Slices of other number or length give
// fs.ErrInvalid, and nothing is written. No memory is allocated but a coding table
// of about 1 KiB in the library.
func (co *Coder) Encode(blocks [][]byte) error {
	if _, err := co.check(blocks, false); err != nil {
		return err
	}
	if co.rs == nil {
		for _, b := range blocks[1:] {
			copy(b, blocks[0])
		}
		return nil
	}
	return co.rs.encode(blocks)
}

// Verify reports whether the parity blocks of a stripe are those of its data
// blocks: whether Encode would leave blocks as they are. It does not say which
// block is wrong; the hashes do. The shape of blocks is that of Encode. Nothing is
// written. The parity to compare with is computed piece by piece in pooled memory,
// M·16 KiB for each concurrent call.
func (co *Coder) Verify(blocks [][]byte) (bool, error) {
	n, err := co.check(blocks, false)
	if err != nil {
		return false, err
	}
	if co.rs == nil {
		for _, b := range blocks[1:] {
			if !bytes.Equal(b, blocks[0]) {
				return false, nil
			}
		}
		return true, nil
	}
	s := co.pool.Get().(*scratch)
	defer co.pool.Put(s)
	defer s.forget()
	for lo := 0; lo < n; lo += verifyPiece {
		same, err := s.verify(co.rs, blocks, lo, min(lo+verifyPiece, n))
		if !same || err != nil {
			return false, err
		}
	}
	return true, nil
}

// Reconstruct computes the wanted blocks of a stripe, data or parity. blocks has
// K+M slices; those that are missing have length 0, all others one length. A
// wanted slice whose capacity suffices is filled in place, else it is replaced by
// a new one; a wanted block that is present is left alone, as is every block that
// is missing and not wanted. All blocks have the length of the stripe: the caller
// extends short data blocks with zeros before, and cuts the results after.
//
// With fewer than K blocks present it returns [ErrUnrecoverable], unless nothing
// wanted is missing. Slices of other number or lengths, and wanted numbers outside
// [0, K+M), give fs.ErrInvalid. After any error blocks is as it was.
//
// A result is right only if the blocks it came from were: check its hash before
// it is used or written.
func (co *Coder) Reconstruct(blocks [][]byte, want ...int) error {
	n, err := co.check(blocks, true)
	if err != nil {
		return err
	}
	present, missing, err := co.take(blocks, want)
	switch {
	case err != nil:
		return err
	case missing == 0:
		return nil
	case present < co.code.K:
		return fmt.Errorf("%w: code %v, %d of %d blocks left", ErrUnrecoverable, co.code, present, co.code.Shards())
	case co.rs == nil:
		replicate(blocks, want, n)
		return nil
	}
	return co.rs.reconstruct(blocks, want)
}

// check returns the one length of all blocks, and with gaps that of all that are
// present: 0 if none is.
func (co *Coder) check(blocks [][]byte, gaps bool) (n int, err error) {
	if len(blocks) != co.code.Shards() {
		return 0, fmt.Errorf("%w: %d blocks for code %v", fs.ErrInvalid, len(blocks), co.code)
	}
	first := 0
	for i, b := range blocks {
		switch {
		case len(b) == 0 && gaps:
		case len(b) == 0:
			return 0, fmt.Errorf("%w: block %d of a stripe is empty", fs.ErrInvalid, i)
		case n == 0:
			first, n = i, len(b)
		case len(b) != n:
			return 0, fmt.Errorf("%w: block %d of a stripe has %d bytes and block %d has %d", fs.ErrInvalid, i, len(b), first, n)
		}
	}
	return n, nil
}

// take counts the blocks that are present, and the wanted that are not.
func (co *Coder) take(blocks [][]byte, want []int) (present, missing int, err error) {
	for _, i := range want {
		if i < 0 || i >= len(blocks) {
			return 0, 0, fmt.Errorf("%w: block %d is wanted of a stripe with %d", fs.ErrInvalid, i, len(blocks))
		}
		if len(blocks[i]) == 0 {
			missing++
		}
	}
	for _, b := range blocks {
		if len(b) > 0 {
			present++
		}
	}
	return present, missing, nil
}

// replicate fills the wanted blocks with any that is present: K is 1.
func replicate(blocks [][]byte, want []int, n int) {
	var from []byte
	for _, b := range blocks {
		if len(b) > 0 {
			from = b
			break
		}
	}
	for _, i := range want {
		if len(blocks[i]) == 0 {
			blocks[i] = append(blocks[i][:0], from[:n]...)
		}
	}
}
