package main

import (
	"bytes"
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/store"
)

// shard is a shard file on one of the disks.
type shard struct {
	path string
	store.Inspection
}

// blobFile is a file as package store reads blobs.
type blobFile struct {
	*os.File
	size int64
}

func (b blobFile) Size() int64 { return b.size }

// findShards returns all shards on disks, and what they say of themselves, by extent
// and shard.
func findShards(disks []string) (list []shard, err error) {
	for _, disk := range disks {
		err := filepath.WalkDir(filepath.Join(disk, "data"), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			in, err := inspect(path)
			list = append(list, shard{path, in})
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	if len(list) == 0 {
		return nil, errors.New("there are no shards")
	}
	slices.SortFunc(list, func(a, b shard) int {
		return cmp.Or(bytes.Compare(a.Extent[:], b.Extent[:]), a.Shard-b.Shard)
	})
	return list, nil
}

func inspect(path string) (store.Inspection, error) {
	f, err := os.Open(path)
	if err != nil {
		return store.Inspection{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return store.Inspection{}, err
	}
	return store.Inspect(blobFile{f, info.Size()})
}

// headerSize is where the blocks of a shard begin: see store/format.go.
const headerSize = 4096

// rot flips bits of one block in every shard, each in another stripe as far as
// there are so many, and never more in a stripe than its parity can make up for.
// It returns the number of shards and of stripes that it damaged.
func rot(shards []shard) (damaged, stripes int, err error) {
	type stripe struct {
		extent store.ExtentID
		number int
	}
	bad := map[stripe]int{}
	for _, s := range shards {
		code, err := erasure.ParseCode(s.Code)
		if err != nil {
			return 0, 0, err
		}
		g := erasure.Geometry{Code: code, BlockSize: store.BlockSize, Length: s.Length}
		for i := range g.Stripes() {
			at := stripe{s.Extent, (s.Shard + i) % g.Stripes()}
			n := g.ShardBlockLen(s.Shard, at.number)
			if n == 0 || bad[at] > 0 && i < g.Stripes()-1 || bad[at] >= code.M {
				continue
			}
			if err := flip(s.path, headerSize+int64(at.number)*store.BlockSize+int64(n/2)); err != nil {
				return 0, 0, err
			}
			bad[at]++
			damaged++
			break
		}
	}
	return damaged, len(bad), nil
}

// flip turns all bits of a byte of a file.
func flip(path string, at int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	if err == nil {
		b[0] ^= 0xff
		_, err = f.WriteAt(b, at)
	}
	return errors.Join(err, f.Close())
}
