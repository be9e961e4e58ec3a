// Package oracle holds what shows that the format of blockframe is what its
// specification says, and not what our code happens to write.
//
// read.py restores the objects of a store from its shard blobs, with standard
// Python 3.9 and nothing of ours: its own BLAKE3, its own Reed-Solomon decoder.
// It was written from the package comment of store/format.go alone. Whoever
// finds a disk and has no Go toolchain runs
//
//	python3 read.py DISK... -o OUT
//
// The tests of this package hold a writer that is just as independent, a plain
// transcription of the same text, so that text, reader and writer were made to
// agree before the store existed; then the stores that the store itself wrote
// are read by the same reader. A change of format that forgets the text fails
// here.
//
// The package has no code to import.
package oracle
