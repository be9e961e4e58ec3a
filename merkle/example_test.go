package merkle_test

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/blockframe/blockframe/merkle"
)

// Hash a stream block by block, on two goroutines and in any order, then check
// single blocks.
func Example() {
	const blockSize = 64 << 10
	content := bytes.Repeat([]byte("blockframe"), 20_000) // 200,000 bytes: 4 blocks

	b := merkle.NewBuilder(0, blockSize)
	var wg sync.WaitGroup
	for _, blocks := range [][]int{{3, 1}, {0, 2}} {
		wg.Go(func() {
			for _, i := range blocks {
				b.Add(i, content[i*blockSize:min(len(content), (i+1)*blockSize)])
			}
		})
	}
	wg.Wait()
	table, err := b.Finish(int64(len(content)), true)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("b3:%x\n", table.Hash()) // what b3sum prints

	third := bytes.Clone(content[2*blockSize : 3*blockSize])
	fmt.Println(table.Check(2, third))
	third[12345] ^= 1
	fmt.Println(table.Check(2, third))
	// Output:
	// b3:8430225ac555d02d935c474eb1a83833eb3c1174071db3925ebdd54095ba2809
	// true
	// false
}

// A server proves a slice to a client that knows nothing but the content id.
func ExampleProve() {
	const blockSize = 64 << 10
	content := bytes.Repeat([]byte("blockframe"), 20_000)
	b := merkle.NewBuilder(0, blockSize)
	for i := 0; i*blockSize < len(content); i++ {
		b.Add(i, content[i*blockSize:min(len(content), (i+1)*blockSize)])
	}
	table, _ := b.Finish(int64(len(content)), true)
	id := table.Hash()

	// The client wants 1000 bytes at 100,000.
	asked := merkle.RangeOf(100_000, 1000, blockSize)

	// The server: the table and the last block are all it needs beside the
	// blocks that it sends.
	proof, err := merkle.Prove(merkle.Stream{
		Size:      table.Length,
		BlockSize: blockSize,
		Last:      content[3*blockSize:],
		Node:      table.Node,
	}, asked)
	if err != nil {
		fmt.Println(err)
		return
	}
	off, n := asked.Bytes(proof.Size)
	sent := content[off : off+n]
	wire, _ := proof.MarshalBinary()

	// The client.
	received := new(merkle.Proof)
	if err := received.UnmarshalBinary(wire); err != nil {
		fmt.Println(err)
		return
	}
	size, err := merkle.Verify(id, asked, received, sent)
	fmt.Println(len(wire), "bytes prove", len(sent), "of", size, err)
	// Output:
	// 511 bytes prove 65536 of 200000 <nil>
}

// Extents of one stream fold to its content id.
func ExampleFoldRoot() {
	const blockSize, extent = 64 << 10, 2 * 64 << 10
	content := bytes.Repeat([]byte("blockframe"), 20_000)

	var hashes []merkle.CV
	for off := 0; off < len(content); off += extent {
		part := content[off:min(len(content), off+extent)]
		b := merkle.NewBuilder(int64(off), blockSize)
		for i := 0; i*blockSize < len(part); i++ {
			b.Add(i, part[i*blockSize:min(len(part), (i+1)*blockSize)])
		}
		table, err := b.Finish(int64(len(part)), false)
		if err != nil {
			fmt.Println(err)
			return
		}
		hashes = append(hashes, table.Hash())
	}
	fmt.Println(merkle.FoldRoot(hashes) == merkle.BlockRoot(content))
	// Output: true
}
