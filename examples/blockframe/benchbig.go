package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/merkle"
	"github.com/blockframe/blockframe/store"
)

// benchRows are the rows, in the order of measuring: memory first, while the
// process has had no use for any.
var benchRows = []benchRow{
	{"memory", "peak memory over the idle open store, put and get of %s", "limit", (*bench).memoryRow},
	{"put", "put %s, 8+3, one disk, fsynced", "plain writer of as much into 11 files, fsynced", (*bench).putRow},
	{"cp", "put %s, 8+3, one disk, fsynced", "cp --reflink=never and fsync", (*bench).copyRow},
	{"restic", "put %s, 8+3, one disk, fsynced", "restic backup, no redundancy", (*bench).resticRow},
	{"kopia", "put %s, 8+3, one disk, fsynced", "kopia snapshot create, 37 % ECC", (*bench).kopiaRow},
	{"par2", "put %s, 8+3, one disk, fsynced", "par2 create, 37 % redundancy", (*bench).par2Row},
	{"get", "get %s from page cache, verified", "cat F | cat >/dev/null", (*bench).getRow},
	{"minio", "get %s from page cache, verified", "mc cat from a MinIO server, 8+3", (*bench).minioRow},
	{"degraded", "get %s with m shards gone", "healthy get", (*bench).degradedRow},
	{"scrub", "scrub --deep of %s, uncached", "direct read of the shard files", (*bench).scrubRow},
	{"random", "4 KiB random verified reads, block cache off, page cache warm", "pread of 64 KiB and BLAKE3 of it", (*bench).randomRow},
	{"tree", "5,000 files of 4 KiB, put -r, fsynced", "restic backup", (*bench).treeRow},
	{"treekopia", "5,000 files of 4 KiB, put -r, fsynced", "kopia snapshot create, 37 % ECC", (*bench).treeKopiaRow},
	{"put4k", "64 concurrent 4 KiB puts, each acked durable", "1/F", (*bench).put4kRow},
	{"put64k", "64 concurrent 64 KiB puts, each acked durable", "1/F", (*bench).put64kRow},
}

// rowKeys are the keys of benchRows, apart from them because the command's help
// names them.
var rowKeys = []string{
	"memory", "put", "cp", "restic", "kopia", "par2", "get", "minio", "degraded", "scrub", "random", "tree", "treekopia", "put4k", "put64k",
}

// code83 is the code of the large object.
var code83 = blockframe.Code{K: 8, M: 3}

// newStore makes a store with code 8+3 on one directory, or opens it again.
func (b *bench) newStore(dir string, opts blockframe.Options) (*blockframe.Store, error) {
	opts.Dirs, opts.Code, opts.Upkeep.Off = []string{dir}, code83, true
	return blockframe.Open(b.ctx, opts)
}

// putOnce puts the source into a new store and returns the seconds that the put
// took.
func (b *bench) putOnce(src string) (float64, error) {
	dir, err := os.MkdirTemp(b.dir, "put-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	st, err := b.newStore(dir, blockframe.Options{})
	if err != nil {
		return 0, err
	}
	start := time.Now()
	_, err = st.PutFile(b.ctx, "object", src, blockframe.PutOptions{})
	took := time.Since(start).Seconds()
	return took, errors.Join(err, st.Close())
}

// times returns a result about seconds: ours may take most times theirs.
func (b *bench) times(medians []float64, most float64, bytes int64) benchResult {
	r := benchResult{Ours: medians[0], Theirs: medians[1], Unit: "s", Rounds: b.flags.rounds, Ratio: medians[0] / medians[1]}
	r.Reach, r.Reached = fmt.Sprintf("<= %gx its time", most), r.Ratio <= most
	if bytes > 0 {
		r.Rate = human(int64(float64(bytes)/r.Ours)) + "/s"
	}
	return r
}

// speed returns a result about seconds too: ours is to have least of its speed.
func (b *bench) speed(medians []float64, least float64, bytes int64) benchResult {
	r := b.times(medians, 1, bytes)
	r.Ratio = medians[1] / medians[0]
	r.Reach, r.Reached = fmt.Sprintf(">= %gx its speed", least), r.Ratio >= least
	return r
}

func (b *bench) putRow() (benchResult, error) {
	src, err := b.source()
	if err != nil {
		return benchResult{}, err
	}
	m, err := b.contest(func() (float64, error) { return b.putOnce(src) }, func() (float64, error) { return b.plainWriter(src) })
	if err != nil {
		return benchResult{}, err
	}
	return b.times(m, 1.2, b.size), nil
}

func (b *bench) copyRow() (benchResult, error) {
	src, err := b.source()
	if err != nil {
		return benchResult{}, err
	}
	m, err := b.contest(func() (float64, error) { return b.putOnce(src) }, func() (float64, error) { return b.copied(src) })
	if err != nil {
		return benchResult{}, err
	}
	return b.times(m, 1.8, b.size), nil
}

// bigStore is a store that holds the source as an object.
type bigStore struct {
	dir string
	st  *blockframe.Store
}

func (s *bigStore) close() error {
	if s == nil || s.st == nil {
		return nil
	}
	err := s.st.Close()
	s.st = nil
	return err
}

// filled returns the store with the large object, closed.
func (b *bench) filled() (*bigStore, error) {
	if b.big != nil {
		return b.big, nil
	}
	src, err := b.source()
	if err != nil {
		return nil, err
	}
	big := &bigStore{dir: filepath.Join(b.dir, "big")}
	st, err := b.newStore(big.dir, blockframe.Options{})
	if err != nil {
		return nil, err
	}
	_, err = st.PutFile(b.ctx, "object", src, blockframe.PutOptions{})
	if err := errors.Join(err, st.Close()); err != nil {
		return nil, err
	}
	b.big = big
	return big, nil
}

// open opens the large store in place of one that is open.
func (s *bigStore) open(b *bench, opts blockframe.Options) error {
	if err := s.close(); err != nil {
		return err
	}
	opts.NoRepair = true
	st, err := b.newStore(s.dir, opts)
	s.st = st
	return err
}

// read reads the object once.
func (s *bigStore) read(ctx context.Context) (float64, error) {
	start := time.Now()
	rd, err := s.st.Open(ctx, "object")
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, rd)
	return time.Since(start).Seconds(), errors.Join(err, rd.Close())
}

func (b *bench) getRow() (benchResult, error) {
	big, err := b.filled()
	if err == nil {
		err = big.open(b, blockframe.Options{})
	}
	if err != nil {
		return benchResult{}, err
	}
	if _, err := big.read(b.ctx); err != nil { // into the page cache
		return benchResult{}, err
	}
	m, err := b.contest(func() (float64, error) { return big.read(b.ctx) }, func() (float64, error) { return b.catted(b.src) })
	if err != nil {
		return benchResult{}, err
	}
	return b.times(m, 1.5, b.size), nil
}

// degradedRow moves the first m shards of each extent, which hold data, aside and
// back.
func (b *bench) degradedRow() (benchResult, error) {
	big, err := b.filled()
	if err != nil {
		return benchResult{}, err
	}
	healthy := func() (float64, error) {
		if err := big.open(b, blockframe.Options{}); err != nil {
			return 0, err
		}
		return big.read(b.ctx)
	}
	if _, err := healthy(); err != nil { // into the page cache
		return benchResult{}, err
	}
	degraded := func() (float64, error) {
		if err := big.close(); err != nil {
			return 0, err
		}
		back, err := big.moveAside(code83.M)
		if err != nil {
			return 0, errors.Join(err, back())
		}
		if err := big.open(b, blockframe.Options{}); err != nil {
			return 0, errors.Join(err, back())
		}
		took, err := big.read(b.ctx)
		return took, errors.Join(err, big.close(), back())
	}
	if _, err := degraded(); err != nil { // parity too
		return benchResult{}, err
	}
	m, err := b.contest(degraded, healthy)
	if err != nil {
		return benchResult{}, err
	}
	return b.speed(m, 0.7, b.size), nil
}

// shards returns all shard files.
func (s *bigStore) shards() (files []string, err error) {
	err = filepath.WalkDir(filepath.Join(s.dir, "data"), func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, name)
		}
		return err
	})
	return files, err
}

// moveAside moves the shards with indices below m out of the store. back, which is
// never nil, moves them back.
func (s *bigStore) moveAside(m int) (back func() error, err error) {
	moved := map[string]string{}
	back = func() (err error) {
		for to, from := range moved {
			err = errors.Join(err, os.Rename(from, to))
		}
		return err
	}
	files, err := s.shards()
	if err != nil {
		return back, err
	}
	for i, name := range files {
		var index int
		parts := strings.Split(filepath.Base(name), "-") // extent, shard, ...: see store.BackendKey
		if _, err := fmt.Sscanf(parts[1], "%x", &index); err != nil || index >= m {
			continue
		}
		aside := filepath.Join(filepath.Dir(s.dir), fmt.Sprint("aside-", i))
		if err := os.Rename(name, aside); err != nil {
			return back, err
		}
		moved[name] = aside
	}
	return back, nil
}

func (b *bench) scrubRow() (benchResult, error) {
	big, err := b.filled()
	if err == nil {
		err = big.open(b, blockframe.Options{})
	}
	if err != nil {
		return benchResult{}, err
	}
	files, err := big.shards()
	if err != nil {
		return benchResult{}, err
	}
	scrub := func() (float64, error) {
		start := time.Now()
		rep, err := big.st.Scrub(b.ctx, blockframe.ScrubOptions{Deep: true})
		if err == nil && !rep.Clean() {
			err = fmt.Errorf("damage: %+v", rep)
		}
		return time.Since(start).Seconds(), err
	}
	m, err := b.contest(scrub, func() (float64, error) { return b.directRead(files) })
	if err != nil {
		return benchResult{}, err
	}
	return b.speed(m, 0.8, b.size/8*11), nil
}

// randomReads is the number of reads in a round.
const randomReads = 20_000

func (b *bench) randomRow() (benchResult, error) {
	big, err := b.filled()
	if err == nil {
		err = big.open(b, blockframe.Options{CacheBytes: -1})
	}
	if err != nil {
		return benchResult{}, err
	}
	if _, err := big.read(b.ctx); err != nil { // into the page cache
		return benchResult{}, err
	}
	rd, err := big.st.Open(b.ctx, "object")
	if err != nil {
		return benchResult{}, err
	}
	defer rd.Close()
	src, err := os.Open(b.src)
	if err != nil {
		return benchResult{}, err
	}
	defer src.Close()
	blocks := b.size / store.BlockSize
	small, block := make([]byte, 4096), make([]byte, store.BlockSize)
	seed := uint64(0)
	ours := func() (float64, error) {
		seed++
		rnd, start := rand.New(rand.NewPCG(seed, 1)), time.Now()
		for range randomReads {
			if _, err := rd.ReadAt(small, rnd.Int64N(blocks)*store.BlockSize+rnd.Int64N(store.BlockSize/4096)*4096); err != nil {
				return 0, err
			}
		}
		return time.Since(start).Seconds(), b.ctx.Err()
	}
	theirs := func() (float64, error) {
		rnd, start := rand.New(rand.NewPCG(seed, 2)), time.Now()
		for range randomReads {
			at := rnd.Int64N(blocks) * store.BlockSize
			if _, err := src.ReadAt(block, at); err != nil {
				return 0, err
			}
			merkle.BlockCV(block, at)
		}
		return time.Since(start).Seconds(), b.ctx.Err()
	}
	m, err := b.contest(ours, theirs)
	if err != nil {
		return benchResult{}, err
	}
	r := b.times(m, 1.5, 0)
	r.Rate = fmt.Sprintf("%.1f µs a read", r.Ours/randomReads*1e6)
	return r, nil
}
