package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/blockframe/blockframe"
)

// treeFiles is the number of files in the tree, of treeFile bytes each.
const (
	treeFiles = 5000
	treeFile  = 4 << 10
)

func (b *bench) treeRow() (benchResult, error)      { return b.treeBeside(peers["restic"], 2) }
func (b *bench) treeKopiaRow() (benchResult, error) { return b.treeBeside(peers["kopia"], 1) }

// treeBeside compares put -r into a new store, open to close, with what a peer
// does to keep the tree in a new repository.
func (b *bench) treeBeside(p peer, least float64) (benchResult, error) {
	if missing := p.missing(); missing != "" {
		return benchResult{Skipped: missing}, nil
	}
	dir := filepath.Join(b.dir, "tree")
	if err := makeTree(dir); err != nil {
		return benchResult{}, err
	}
	m, err := b.contest(func() (float64, error) { return b.putTree(dir) }, func() (float64, error) { return b.kept(p, dir) })
	if err != nil {
		return benchResult{}, err
	}
	r := b.speed(m, least, 0)
	r.Rate = fmt.Sprintf("%.0f files/s", treeFiles/r.Ours)
	return r, nil
}

// makeTree writes the files, 100 in a directory.
func makeTree(dir string) error {
	rnd, buf := rand.NewChaCha8([32]byte{2}), make([]byte, treeFile)
	for i := range treeFiles {
		sub := filepath.Join(dir, fmt.Sprint(i/100))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return err
		}
		rnd.Read(buf)
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprint(i)), buf, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// putTree puts the tree as the command does.
func (b *bench) putTree(tree string) (float64, error) {
	dir, err := os.MkdirTemp(b.dir, "tree-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	st, err := b.newStore(dir, blockframe.Options{})
	if err != nil {
		return 0, err
	}
	if err := st.Close(); err != nil {
		return 0, err
	}
	start := time.Now()
	if st, err = b.newStore(dir, blockframe.Options{}); err != nil {
		return 0, err
	}
	info, err := os.Stat(tree)
	if err == nil {
		var said bytes.Buffer
		quiet := &app{stdout: io.Discard, out: bufio.NewWriter(io.Discard), stderr: &said, quiet: true}
		if err = quiet.put(b.ctx, st, []source{{path: tree, name: "tree", info: info}}); err != nil {
			err = fmt.Errorf("%w: %s", err, said.String())
		}
	}
	err = errors.Join(err, st.Close())
	return time.Since(start).Seconds(), err
}

func (b *bench) put4kRow() (benchResult, error)  { return b.smallRow(4<<10, 64, 8) }
func (b *bench) put64kRow() (benchResult, error) { return b.smallRow(64<<10, 16, 2) }

// clients is the number of concurrent puts.
const clients = 64

// smallRow measures concurrent small puts beside F: each client puts so many
// objects one after the other.
func (b *bench) smallRow(size, each int, least float64) (benchResult, error) {
	dir, err := os.MkdirTemp(b.dir, "small-")
	if err != nil {
		return benchResult{}, err
	}
	defer os.RemoveAll(dir)
	st, err := b.newStore(dir, blockframe.Options{})
	if err != nil {
		return benchResult{}, err
	}
	defer st.Close()
	round := 0
	puts := func() (float64, error) {
		round++
		took, err := b.concurrent(st, round, size, each)
		return took / float64(clients*each), err
	}
	m, err := b.contest(puts, b.fdatasync)
	if err != nil {
		return benchResult{}, err
	}
	r := benchResult{Ours: 1 / m[0], Theirs: 1 / m[1], Unit: "/s", Rounds: b.flags.rounds, Ratio: m[1] / m[0]}
	r.Rate = human(int64(float64(size)/m[0])) + "/s"
	r.Reach, r.Reached = fmt.Sprintf(">= %g/F", least), r.Ratio >= least
	return r, nil
}

// concurrent puts clients*each objects of random bytes and returns the seconds.
func (b *bench) concurrent(st *blockframe.Store, round, size, each int) (float64, error) {
	content := make([]byte, clients*each*size)
	rand.NewChaCha8([32]byte{3, byte(round), byte(size >> 12)}).Read(content)
	var next atomic.Int64
	start := time.Now()
	work, ctx := errgroup.WithContext(b.ctx)
	for range clients {
		work.Go(func() error {
			for range each {
				i := next.Add(1) - 1
				r := bytes.NewReader(content[i*int64(size) : (i+1)*int64(size)])
				if _, err := st.Put(ctx, fmt.Sprintf("%d/%d", round, i), r, blockframe.PutOptions{}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := work.Wait()
	return time.Since(start).Seconds(), err
}

// memoryLimit is what a put or get may take over the idle store.
const memoryLimit = 50 << 20

// memoryRow puts and gets an object that nobody holds in memory.
func (b *bench) memoryRow() (benchResult, error) {
	if err := resetPeak(); err != nil {
		return benchResult{Skipped: "the peak of memory cannot be measured here: " + err.Error()}, nil
	}
	dir := filepath.Join(b.dir, "memory")
	defer os.RemoveAll(dir)
	st, err := b.newStore(dir, blockframe.Options{})
	if err != nil {
		return benchResult{}, err
	}
	defer st.Close()
	put, err := peakOf(func() error {
		r := io.LimitReader(rand.NewChaCha8([32]byte{4}), b.size)
		_, err := st.Put(b.ctx, "object", r, blockframe.PutOptions{})
		return err
	})
	if err != nil {
		return benchResult{}, err
	}
	get, err := peakOf(func() error {
		rd, err := st.Open(b.ctx, "object")
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, rd)
		return errors.Join(err, rd.Close())
	})
	if err != nil {
		return benchResult{}, err
	}
	const miB = 1 << 20
	r := benchResult{Ours: float64(max(put, get)) / miB, Theirs: memoryLimit / miB, Unit: "MiB", Rounds: 1}
	r.Ratio, r.Reach, r.Reached = r.Ours, "<= 50 MiB", r.Ours <= r.Theirs
	r.Rate = fmt.Sprintf("put %d, get %d", put>>20, get>>20)
	return r, nil
}

// peakOf returns by how many bytes f raised the memory of the process at its peak.
func peakOf(f func() error) (int64, error) {
	debug.FreeOSMemory()
	if err := resetPeak(); err != nil {
		return 0, err
	}
	idle, _, err := memory()
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	_, peak, err := memory()
	return peak - idle, err
}
