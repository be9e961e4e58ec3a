package erasure

import "github.com/klauspost/reedsolomon"

// NewCoder makes a coder that computes with the given options and is not kept.
var NewCoder = newCoder

// CheckGolden runs the golden vectors with the given options.
func CheckGolden(opts ...reedsolomon.Option) error {
	for _, v := range golden {
		if err := v.check(opts...); err != nil {
			return err
		}
	}
	return nil
}

// CheckWrong runs a golden vector whose known parity has one digit changed, and
// one that is of another code.
func CheckWrong() (digit, code error) {
	a, b := golden[1], golden[1]
	a.parity = "f" + a.parity[1:]
	b.code.M++
	return a.check(), b.check()
}

// GoldenStripes returns the data of each golden vector, and the SHA-256 of its
// parity.
func GoldenStripes() (codes []Code, blocks [][][]byte, parity []string) {
	for _, v := range golden {
		codes, blocks, parity = append(codes, v.code), append(blocks, v.blocks()), append(parity, v.parity)
	}
	return codes, blocks, parity
}

// Patterns returns how many inverted matrices the coder's engine may hold, and the
// bytes that it counts for each.
func (co *Coder) Patterns() (n, each int) {
	e := co.rs
	e.mu.RLock()
	defer e.mu.RUnlock()
	return len(e.seen), e.patternBytes()
}

// InversionBytes is the bound on what an engine remembers.
const InversionBytes = inversionBytes
