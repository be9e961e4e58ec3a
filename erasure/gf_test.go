package erasure_test

// The dumb reference: the field by long multiplication, the matrix by Gauss and
// Jordan, the blocks byte by byte. It shares no table and no idea with the library
// and follows the package comment alone.

// mul multiplies in GF(2^8) modulo 0x11D, bit by bit.
func mul(a, b byte) byte {
	product := 0
	for bit := range 8 {
		if b>>bit&1 == 1 {
			product ^= int(a) << bit
		}
	}
	for bit := 15; bit >= 8; bit-- {
		if product>>bit&1 == 1 {
			product ^= 0x11D << (bit - 8)
		}
	}
	return byte(product)
}

// products holds mul(a, b) for all a and b, to keep the tests quick.
var products = func() (t [256][256]byte) {
	for a := range 256 {
		for b := range 256 {
			t[a][b] = mul(byte(a), byte(b))
		}
	}
	return t
}()

// inverses holds for each element but 0 the one that it makes 1 with.
var inverses = func() (t [256]byte) {
	for a := range 256 {
		for b := range 256 {
			if products[a][b] == 1 {
				t[a] = byte(b)
			}
		}
	}
	return t
}()

// power returns a^n, and 0^0 = 1.
func power(a byte, n int) byte {
	p := byte(1)
	for range n {
		p = products[p][a]
	}
	return p
}

// vandermonde returns the matrix V[r][c] = r^c of n rows and k columns.
func vandermonde(n, k int) [][]byte {
	v := make([][]byte, n)
	for r := range v {
		v[r] = make([]byte, k)
		for c := range v[r] {
			v[r][c] = power(byte(r), c)
		}
	}
	return v
}

// invert returns the inverse of a square matrix, or nil if it has none.
func invert(m [][]byte) [][]byte {
	n := len(m)
	work := make([][]byte, n) // m and the identity beside it
	for r := range work {
		work[r] = append(append([]byte(nil), m[r]...), make([]byte, n)...)
		work[r][n+r] = 1
	}
	for c := range n {
		pivot := c
		for pivot < n && work[pivot][c] == 0 {
			pivot++
		}
		if pivot == n {
			return nil
		}
		work[c], work[pivot] = work[pivot], work[c]
		scale(work[c], inverses[work[c][c]])
		for r := range n {
			if r != c {
				addScaled(work[r], work[c], work[r][c])
			}
		}
	}
	for r := range work {
		work[r] = work[r][n:]
	}
	return work
}

func scale(row []byte, f byte) {
	for i := range row {
		row[i] = products[f][row[i]]
	}
}

func addScaled(dst, src []byte, f byte) {
	for i := range dst {
		dst[i] ^= products[f][src[i]]
	}
}

// multiply returns a·b.
func multiply(a, b [][]byte) [][]byte {
	out := make([][]byte, len(a))
	for r := range a {
		out[r] = make([]byte, len(b[0]))
		for i, f := range a[r] {
			addScaled(out[r], b[i], f)
		}
	}
	return out
}

// codingMatrix returns G = V·T⁻¹ of the package comment.
func codingMatrix(k, m int) [][]byte {
	v := vandermonde(k+m, k)
	return multiply(v, invert(v[:k]))
}

// interpolate returns block w from the present blocks by the one formula of the
// package comment: present[i] is block points[i].
func interpolate(points []int, present [][]byte, w int) []byte {
	out := make([]byte, len(present[0]))
	for i, x := range points {
		f := byte(1)
		for j, y := range points {
			if i != j {
				f = products[f][products[byte(w^y)][inverses[byte(x^y)]]]
			}
		}
		addScaled(out, present[i], f)
	}
	return out
}
