package merkle

import (
	"fmt"
	"math/bits"

	"github.com/blockframe/blockframe/internal/frame"
)

// An encoded proof, big-endian:
//
//	magic       4   "bfpf"
//	version     2   1
//	block size  1   its base-2 logarithm, 10..20
//	size        8   of the stream, in bytes
//	lo, hi      8+8 the blocks [lo, hi)
//	CVs        32 each
//	last chunk  1..1024 bytes, none when size is 0
//
// The number of CVs and the length of the chunk follow from the fields before
// them (see [Proof]), so a proof has one encoding and every length is checked
// against the input before anything is allocated.
const (
	proofMagic   = 0x62667066
	proofVersion = 1
	proofHeader  = 4 + 2 + 1 + 3*8
)

// MarshalBinary returns the encoding of the proof, at most
// Range.MaxProofLen bytes. It fails only on a proof that is not valid.
func (p *Proof) MarshalBinary() ([]byte, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	e := frame.Encoder{B: make([]byte, 0, proofHeader+len(p.CVs)*len(CV{})+len(p.Last))}
	e.U32(proofMagic)
	e.U16(proofVersion)
	e.U8(uint8(bits.TrailingZeros(uint(p.BlockSize))))
	e.I64(p.Size)
	e.I64(p.Lo)
	e.I64(p.Hi)
	for i := range p.CVs {
		e.Raw(p.CVs[i][:])
	}
	e.Raw(p.Last)
	return e.B, nil
}

// UnmarshalBinary reads what MarshalBinary wrote and nothing else. It fails
// with an error that matches [frame.ErrCorrupt], or [frame.ErrVersion] for a
// proof of a later version. It allocates no more than b is long, and keeps
// nothing of b. The proof is valid in form then; [Proof.Open] says whether it is
// true.
func (p *Proof) UnmarshalBinary(b []byte) error {
	d := frame.NewDecoder(b)
	if m := d.U32(); m != proofMagic {
		d.Fail("magic is %08x, want %08x", m, proofMagic)
	}
	if v := d.U16(); d.Err() == nil && v != proofVersion {
		return fmt.Errorf("%w: merkle proof: version %d, want %d", frame.ErrVersion, v, proofVersion)
	}
	q := Proof{}
	q.BlockSize = 1 << min(d.U8(), 31)
	q.Size, q.Lo, q.Hi = d.I64(), d.I64(), d.I64()
	if err := d.Err(); err != nil {
		return err
	}
	if err := q.validHeader(); err != nil {
		return err
	}
	if err := q.readBody(d.Rest()); err != nil {
		return err
	}
	*p = q
	return nil
}

// readBody reads CVs and last chunk from b, of which they are all.
func (p *Proof) readBody(b []byte) error {
	// At most 2^53 blocks and three paths: this cannot overflow.
	n, last := p.wantCVs(), p.lastChunkLen()
	if want := n*int64(len(CV{})) + int64(last); int64(len(b)) != want {
		return corrupt("%d bytes after the header, want %d", len(b), want)
	}
	p.CVs = make([]CV, n)
	for i := range p.CVs {
		b = b[copy(p.CVs[i][:], b):]
	}
	p.Last = append(p.Last, b...)
	return nil
}
