package frame_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/frame"
)

// Zero sees every byte, in slices of every length and at every address.
func TestZero(t *testing.T) {
	b := make([]byte, 200)
	for lo := range 9 {
		for n := range 130 {
			p := b[lo : lo+n]
			b[lo+n] = 1 // behind it
			require.True(t, frame.Zero(p), "%d zeros", n)
			b[lo+n] = 0
			for i := range p {
				for _, v := range []byte{1, 0x80, 0xff} {
					p[i] = v
					require.False(t, frame.Zero(p), "%d bytes, byte %d is %#x", n, i, v)
				}
				p[i] = 0
			}
		}
	}
}

func BenchmarkZero(b *testing.B) {
	p := make([]byte, frame.Grid)
	b.SetBytes(frame.Grid)
	for b.Loop() {
		if !frame.Zero(p) {
			b.Fatal("not zero")
		}
	}
}
