package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// The yardsticks. Each returns seconds.

// fdatasync returns the median time of one synced write of 4 KiB into a file that
// has its blocks already.
func (b *bench) fdatasync() (float64, error) {
	f, err := os.Create(filepath.Join(b.dir, "fdatasync"))
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	page := make([]byte, 4096)
	const pages, times = 256, 200
	for range pages {
		if _, err := f.Write(page); err != nil {
			return 0, err
		}
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	var samples []float64
	for i := range times {
		start := time.Now()
		if _, err := f.WriteAt(page, int64(i%pages)*int64(len(page))); err != nil {
			return 0, err
		}
		if err := fdatasync(f); err != nil {
			return 0, err
		}
		samples = append(samples, time.Since(start).Seconds())
	}
	slices.Sort(samples)
	return samples[times/2], nil
}

// plainWriter writes the source and 3/8 of it again into 11 files, as 8+3 would:
// in writes of 1 MiB by one goroutine, which is faster than many, and with all
// files synced at once at the end.
func (b *bench) plainWriter(src string) (float64, error) {
	dir, err := os.MkdirTemp(b.dir, "plain-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	in, err := os.Open(src)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	start := time.Now()
	files := make([]*os.File, code83.Shards())
	for i := range files {
		if files[i], err = os.Create(filepath.Join(dir, fmt.Sprint(i))); err != nil {
			return 0, err
		}
		defer files[i].Close()
	}
	if err := b.spread(in, files); err != nil {
		return 0, err
	}
	var work errgroup.Group
	for _, f := range files {
		work.Go(f.Sync)
	}
	err = work.Wait()
	return time.Since(start).Seconds(), err
}

// spread writes in by turns into k files, and the first m of each turn again into
// the others.
func (b *bench) spread(in io.Reader, files []*os.File) error {
	buf := make([]byte, 1<<20)
	for i := 0; ; i = (i + 1) % code83.K {
		n, err := io.ReadFull(in, buf)
		if n > 0 {
			if _, err := files[i].Write(buf[:n]); err != nil {
				return err
			}
		}
		if n > 0 && i < code83.M {
			if _, err := files[code83.K+i].Write(buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return b.ctx.Err()
		case err != nil:
			return err
		}
	}
}

// copied is cp --reflink=never, and fsync of the copy.
func (b *bench) copied(src string) (float64, error) {
	dst := filepath.Join(b.dir, "copy")
	defer os.Remove(dst)
	start := time.Now()
	if err := b.command("cp", "--reflink=never", src, dst); err != nil {
		return 0, err
	}
	f, err := os.OpenFile(dst, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	err = errors.Join(f.Sync(), f.Close())
	return time.Since(start).Seconds(), err
}

// catted is cat FILE | cat >/dev/null.
func (b *bench) catted(src string) (float64, error) {
	start := time.Now()
	err := b.command("sh", "-c", `cat "$0" | cat >/dev/null`, src)
	return time.Since(start).Seconds(), err
}

// command runs a program.
func (b *bench) command(name string, args ...string) error {
	out, err := exec.CommandContext(b.ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// directRead reads files past the page cache, as many at once as there are CPUs.
func (b *bench) directRead(files []string) (float64, error) {
	start := time.Now()
	var work errgroup.Group
	work.SetLimit(runtime.NumCPU())
	for _, name := range files {
		work.Go(func() error {
			f, err := openDirect(name)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, aligned(1<<20))
			return errors.Join(err, b.ctx.Err())
		})
	}
	err := work.Wait()
	return time.Since(start).Seconds(), err
}
