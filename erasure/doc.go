// Package erasure computes the parity of stripes, repairs stripes with missing
// blocks, and knows where each byte of an extent lies among them.
//
// A stripe of a [Code] K+M is K data blocks and M parity blocks of one length,
// such that any K of the K+M give back all others. [Geometry] cuts an extent into
// stripes and blocks; a [Coder], from [For], does the rest:
//
//	co, err := erasure.For(erasure.Code{K: 8, M: 3})
//	err = co.Encode(blocks)              // fills blocks[8:11] from blocks[0:8]
//	err = co.Reconstruct(blocks, 2, 9)   // fills blocks[2] and blocks[9], which were missing
//
// The code finds nothing: it does not know a rotten block from a good one. Who
// uses it hashes blocks, treats those with a wrong hash as missing, and checks
// the hash of what comes out.
//
// # The code
//
// Position i of a stripe is coded by itself: byte i of all blocks, whatever their
// length, and blocks shorter than the stripe count as followed by zeros. Bytes are
// elements of the field GF(2^8) with the polynomial x^8+x^4+x^3+x^2+1 (0x11D):
// bit 3 of a byte is the coefficient of x^3. Addition and subtraction are XOR;
// the product of two bytes is their carry-less product modulo 0x11D; 2 generates
// the 255 elements other than 0.
//
// The coding matrix is a Vandermonde matrix made systematic. Let n = K+M, and V
// the n×K matrix with V[r][c] = r^c, where the row number r is taken as an element
// of the field and 0^0 = 1. Let T be the K×K matrix of its first K rows. Then
//
//	G = V · T⁻¹                     n×K; its first K rows are the identity
//	block[r] = Σ G[r][c]·data[c]    c in [0, K), for every r in [0, n)
//
// so that the first K blocks are the data blocks themselves. Any K rows of V are
// a Vandermonde matrix over distinct elements, hence invertible, and so are any K
// rows of G. To decode, take the K rows of G of blocks that are present, invert,
// multiply, and encode again what was parity.
//
// The same in one formula, without matrices: at each position, the bytes of the n
// blocks are the values at the points 0, 1, … n-1 of the one polynomial of degree
// below K through the data. So with K present blocks numbered x in P, by Lagrange's
// interpolation, every block w, parity to be encoded and blocks to be repaired
// alike, is
//
//	block[w] = Σ block[x] · Π (w⊕y)/(x⊕y)    sum over x in P, product over y in P without x
//
// For example 2+1: block[2] = block[0]·(2⊕1)/(0⊕1) + block[1]·(2⊕0)/(1⊕0)
// = 3·block[0] + 2·block[1]. With K = 1 all blocks are equal: copies.
//
// This is the default code of github.com/klauspost/reedsolomon, which computes it
// here; it follows Backblaze's JavaReedSolomon, and that J. S. Plank, "A Tutorial
// on Reed-Solomon Coding for Fault-Tolerance in RAID-like Systems", 1997, with the
// correction of Plank and Ding, 2003. The tests hold it to an independent, slow
// implementation of each formula above. It is part of the store's format and does
// not change: [For] refuses to work where known stripes are encoded otherwise.
package erasure
