package merkle

import (
	"bytes"
	"fmt"

	"github.com/blockframe/blockframe/internal/frame"
	"lukechampine.com/blake3/guts"
)

// Proof shows, to someone who knows only the content id of a stream, how long
// the stream is and what the CVs of the blocks of a range are. It holds
// O(log Size) CVs beside those of the range, and nothing of the content but its
// last chunk.
//
// That chunk is there because without it the size would be a mere claim: the
// hash path of a block in the middle is the same for many sizes. The last chunk
// carries its own counter and length into the compression, and it must sit at
// the end of the tree's right edge, so whoever folds it to the content id knows
// the size. (Bao calls this the final chunk requirement: Bao spec, "Decoder".)
//
// The CVs stand in the order in which a walk from the root, parent before
// children and left before right, comes to the ends of the known tree:
//
//   - the top of every subtree without a block of the range and without the
//     last block of the stream: its CV;
//   - a block of the range, but for the last block of the stream: its CV;
//   - the last block of the stream: of the path down to its last chunk, the CV
//     of each left child, from the top.
//
// Their number follows from Size and Range alone. Fields are not to be changed;
// nothing in them is to be believed before Open.
type Proof struct {
	Size  int64  // of the stream, in bytes
	Range        // as the stream has it: Range.Clip(Size) = Range
	CVs   []CV   // in the order above
	Last  []byte // the last chunk of the stream: 1..1024 bytes, none when Size is 0
}

// Stream is what a prover knows of a stream: the CVs of its tree down to the
// blocks, and its last block. The content as a whole is not needed.
type Stream struct {
	Size      int64
	BlockSize int
	Last      []byte // the last block, verified; empty when Size is 0

	// Node returns the non-root CV of blocks [lo, hi), a node of the tree that
	// is not its root. Prove calls it in stream order.
	Node func(lo, hi int64) (CV, error)
}

// Prove returns the proof for the blocks of r that s has. A range without any,
// such as one past the end, yields the proof of the size alone. Prove calls
// s.Node once for every CV of the proof; errors of s.Node are returned as they
// are. What Node and Last say is not checked: a wrong CV makes a proof that
// fails to verify.
func Prove(s Stream, r Range) (*Proof, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	if s.Size < 0 || r.BlockSize != s.BlockSize {
		return nil, fmt.Errorf("merkle: proof in blocks of %d bytes, stream of %d bytes in blocks of %d", r.BlockSize, s.Size, s.BlockSize)
	}
	p := &Proof{Size: s.Size, Range: r.Clip(s.Size)}
	if want := p.lastBlockLen(); len(s.Last) != want {
		return nil, fmt.Errorf("merkle: last block of %d bytes, want %d", len(s.Last), want)
	}
	p.CVs = make([]CV, 0, p.wantCVs())
	if n := p.blocks(); n > 0 {
		if err := p.prove(s, 0, n); err != nil {
			return nil, err
		}
	}
	p.Last = bytes.Clone(s.Last[len(s.Last)-p.lastChunkLen():])
	return p, nil
}

// prove appends the CVs of the subtree over blocks [a, b).
func (p *Proof) prove(s Stream, a, b int64) error {
	switch p.kind(a, b) {
	case known:
		cv, err := s.Node(a, b)
		p.CVs = append(p.CVs, cv)
		return err
	case tail:
		p.proveTail(s.Last, a*int64(p.BlockSize))
		return nil
	}
	mid := a + leftLen(b-a)
	if err := p.prove(s, a, mid); err != nil {
		return err
	}
	return p.prove(s, mid, b)
}

// proveTail appends the left children on the way to the last chunk of block,
// which begins at off.
func (p *Proof) proveTail(block []byte, off int64) {
	for chunks := Blocks(int64(len(block)), chunkSize); chunks > 1; {
		left := leftLen(chunks) * chunkSize
		p.CVs = append(p.CVs, BlockCV(block[:left], off))
		block, off, chunks = block[left:], off+left, chunks-left/chunkSize
	}
}

// The subtrees over blocks [a, b) that a walk meets.
const (
	known = iota // its CV is in the proof
	tail         // the last block of the stream
	split        // neither: its children are met
)

func (p *Proof) kind(a, b int64) int {
	switch {
	case b == p.blocks() && b-a == 1:
		return tail
	case b < p.blocks() && (b-a == 1 || p.outside(a, b)):
		return known
	}
	return split
}

// outside reports whether no block of [a, b) is in the range. An empty range is
// [0, 0), so everything is.
func (p *Proof) outside(a, b int64) bool { return b <= p.Lo || p.Hi <= a }

// inside reports whether all blocks of [a, b) are in the range.
func (p *Proof) inside(a, b int64) bool { return p.Lo <= a && b <= p.Hi }

func (p *Proof) blocks() int64 { return Blocks(p.Size, p.BlockSize) }

func (p *Proof) lastBlockLen() int {
	if p.Size == 0 {
		return 0
	}
	return int((p.Size-1)%int64(p.BlockSize)) + 1
}

func (p *Proof) lastChunkLen() int {
	if p.Size == 0 {
		return 0
	}
	return int((p.Size-1)%chunkSize) + 1
}

// wantCVs returns how many CVs the proof has, from Size and Range alone, in
// O(log Size): it is asked before anything is allocated for them.
func (p *Proof) wantCVs() int64 {
	if p.Size == 0 {
		return 0
	}
	return p.countCVs(0, p.blocks())
}

func (p *Proof) countCVs(a, b int64) (n int64) {
	switch {
	case p.kind(a, b) == known:
		return 1
	case b < p.blocks() && p.inside(a, b):
		return b - a
	case p.kind(a, b) == split:
		mid := a + leftLen(b-a)
		return p.countCVs(a, mid) + p.countCVs(mid, b)
	}
	for chunks := Blocks(int64(p.lastBlockLen()), chunkSize); chunks > 1; n++ {
		chunks -= leftLen(chunks)
	}
	return n
}

// Validate returns an error, matching [frame.ErrCorrupt], unless the parts of
// the proof fit together. It says nothing about what the proof proves.
func (p *Proof) Validate() error {
	if err := p.validHeader(); err != nil {
		return err
	}
	if int64(len(p.CVs)) != p.wantCVs() || len(p.Last) != p.lastChunkLen() {
		return corrupt("%d CVs and a last chunk of %d bytes, want %d and %d", len(p.CVs), len(p.Last), p.wantCVs(), p.lastChunkLen())
	}
	return nil
}

// validHeader checks the fields of fixed length.
func (p *Proof) validHeader() error {
	if err := p.Range.Validate(); err != nil || p.Size < 0 || p.Clip(p.Size) != p.Range {
		return corrupt("blocks [%d, %d) of %d bytes in a stream of %d", p.Lo, p.Hi, p.BlockSize, p.Size)
	}
	return nil
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: merkle proof: %s", frame.ErrCorrupt, fmt.Sprintf(format, args...))
}

// root returns the hash that the proof folds to, and the CVs of the blocks of
// its range. The proof is valid in form.
func (p *Proof) root() (CV, []CV) {
	w := &walk{p: p, rest: p.CVs, slice: make([]CV, 0, p.Hi-p.Lo)}
	n := p.blocks()
	if n <= 1 {
		top := w.tail(p.lastBlockLen())
		root := nodeRoot(&top)
		return root, append(w.slice, root)[:p.Hi-p.Lo]
	}
	top := w.parent(0, n)
	return nodeRoot(&top), w.slice
}

// walk folds a proof in the order of its CVs.
type walk struct {
	p     *Proof
	rest  []CV // CVs not met yet
	slice []CV // CVs of the blocks of the range, as far as met
}

func (w *walk) next() CV {
	cv := w.rest[0]
	w.rest = w.rest[1:]
	return cv
}

// cv returns the non-root CV of blocks [a, b).
func (w *walk) cv(a, b int64) [8]uint32 {
	var cv CV
	switch w.p.kind(a, b) {
	case split:
		return guts.ChainingValue(w.parent(a, b))
	case known:
		cv = w.next()
	case tail:
		n := w.tail(w.p.lastBlockLen())
		cv = nodeCV(&n)
	}
	if b-a == 1 && w.p.inside(a, b) {
		w.slice = append(w.slice, cv)
	}
	return cvWords(&cv)
}

// parent returns the node over blocks [a, b), two at least.
func (w *walk) parent(a, b int64) guts.Node {
	mid := a + leftLen(b-a)
	left := w.cv(a, mid)
	return guts.ParentNode(left, w.cv(mid, b), &guts.IV, 0)
}

// tail returns the node over the last size bytes of the stream: the chunk
// itself, or the parents above it.
func (w *walk) tail(size int) guts.Node {
	if size <= chunkSize {
		return guts.CompressChunk(w.p.Last, &guts.IV, uint64(max(w.p.Size-1, 0))/chunkSize, 0)
	}
	left := w.next()
	right := w.tail(size - int(leftLen(Blocks(int64(size), chunkSize)))*chunkSize)
	return guts.ParentNode(cvWords(&left), guts.ChainingValue(right), &guts.IV, 0)
}
