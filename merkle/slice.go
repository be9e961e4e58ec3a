package merkle

// Slice holds the proven CVs of a range of blocks: what its blocks are checked
// against, in any order and by several goroutines. Its fields are not to be
// changed.
type Slice struct {
	Size  int64 // of the whole stream in bytes, proven
	Range       // the blocks of the asked range that the stream has
	CVs   []CV  // of these blocks: CVs[i] is of block Lo+i
}

// Open checks the proof against the content id of a stream and returns the
// proven CVs of the blocks that were asked for. It fails with an error that
// matches [frame.ErrCorrupt] when the proof is of another stream, of other
// blocks than those of asked that exist, or damaged anywhere; ask again, or
// someone else. Open costs one compression per CV of the proof.
//
// Since the caller names id and range, and the size is bound by the last chunk,
// there is exactly one proof that passes; see [Proof].
func (p *Proof) Open(id CV, asked Range) (*Slice, error) {
	if err := asked.Validate(); err != nil {
		return nil, err
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	if got := asked.Clip(p.Size); got != p.Range {
		return nil, corrupt("of blocks %v, want %v", p.Range, got)
	}
	root, cvs := p.root()
	if root != id {
		return nil, corrupt("folds to %x, want %x", root, id)
	}
	return &Slice{Size: p.Size, Range: p.Range, CVs: cvs}, nil
}

// Verify checks that data is what the stream with the content id holds in the
// blocks of asked, and returns the size of the stream. Blocks of asked past the
// end of the stream are not in data. It fails as [Proof.Open] does.
func Verify(id CV, asked Range, p *Proof, data []byte) (size int64, err error) {
	s, err := p.Open(id, asked)
	if err != nil {
		return 0, err
	}
	if _, want := s.Bytes(s.Size); int64(len(data)) != want {
		return 0, corrupt("is for %d bytes, have %d", want, len(data))
	}
	for b := s.Lo; b < s.Hi; b++ {
		n := s.BlockLen(b)
		if !s.Check(b, data[:n]) {
			return 0, corrupt("does not match block %d", b)
		}
		data = data[n:]
	}
	return s.Size, nil
}

// BlockLen returns the length in bytes of block b of the stream, Lo <= b < Hi.
func (s *Slice) BlockLen(b int64) int {
	return int(min(int64(s.BlockSize), s.Size-b*int64(s.BlockSize)))
}

// Check reports whether block is block b of the stream, bit for bit and in
// length. A b outside [Lo, Hi) is false. Check allocates nothing and may be
// called concurrently.
func (s *Slice) Check(b int64, block []byte) bool {
	if b < s.Lo || b >= s.Hi || len(block) == 0 || len(block) != s.BlockLen(b) {
		return false
	}
	if s.Size <= int64(s.BlockSize) { // the only block carries ROOT
		return BlockRoot(block) == s.CVs[0]
	}
	return BlockCV(block, b*int64(s.BlockSize)) == s.CVs[b-s.Lo]
}
