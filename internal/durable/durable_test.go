package durable_test

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/frame"
)

// each runs a test on both implementations, in an empty directory, and on a
// filesystem in memory where there is one.
func each(t *testing.T, run func(t *testing.T, fsys durable.FS, dir string)) {
	t.Run("os", func(t *testing.T) { run(t, durable.OS(), t.TempDir()) })
	if dir, err := os.MkdirTemp("/dev/shm", "blockframe"); err == nil {
		t.Run("shm", func(t *testing.T) {
			defer os.RemoveAll(dir)
			run(t, durable.OS(), dir)
		})
	}
	t.Run("mem", func(t *testing.T) { run(t, durable.Mem(vfs.NewCrashableMem()), "/") })
}

func put(t testing.TB, fsys durable.FS, name, content string) {
	t.Helper()
	require.NoError(t, durable.WriteFile(fsys, name, []byte(content)))
}

func get(t testing.TB, fsys durable.FS, name string) string {
	t.Helper()
	b, err := durable.ReadFile(fsys, name, 1<<20)
	require.NoError(t, err)
	return string(b)
}

func TestFilesBehaveTheSame(t *testing.T) {
	each(t, func(t *testing.T, fsys durable.FS, dir string) {
		f, err := fsys.Create(path.Join(dir, "f"), durable.CreateOptions{Size: 10})
		require.NoError(t, err)
		_, err = fsys.Create(path.Join(dir, "f"), durable.CreateOptions{})
		require.ErrorIs(t, err, fs.ErrExist)

		for _, s := range []string{"hello ", "world"} {
			n, err := f.Write([]byte(s))
			require.NoError(t, err)
			require.Equal(t, len(s), n)
		}
		_, err = f.WriteAt([]byte("J"), 0)
		require.NoError(t, err)
		_, err = f.Write([]byte("!")) // WriteAt did not move the place
		require.NoError(t, err)
		require.NoError(t, f.Sync())
		size, err := f.Size()
		require.NoError(t, err)
		require.EqualValues(t, 12, size)
		b := make([]byte, 20)
		n, err := f.ReadAt(b, 6)
		require.Equal(t, io.EOF, err)
		require.Equal(t, "world!", string(b[:n]))
		_, err = f.ReadAt(b, -1)
		require.Error(t, err)
		_, err = f.ReadAt(b, 100)
		require.Equal(t, io.EOF, err)
		require.NoError(t, f.Close())
		require.ErrorIs(t, f.Close(), fs.ErrClosed)
		_, err = f.Write([]byte("x"))
		require.ErrorIs(t, err, fs.ErrClosed)

		w, err := fsys.OpenWrite(path.Join(dir, "f"))
		require.NoError(t, err)
		_, err = w.Write([]byte("H"))
		require.NoError(t, err)
		_, err = w.WriteAt([]byte("??"), 11) // grows the file
		require.NoError(t, err)
		require.NoError(t, w.Close())
		require.Equal(t, "Hello world??", get(t, fsys, path.Join(dir, "f")))

		r, err := fsys.Open(path.Join(dir, "f"), durable.OpenOptions{})
		require.NoError(t, err)
		_, err = r.Write([]byte("x"))
		require.Error(t, err)
		require.NoError(t, r.Close())
	})
}

func TestNamesBehaveTheSame(t *testing.T) {
	each(t, func(t *testing.T, fsys durable.FS, dir string) {
		at := func(name string) string { return path.Join(dir, name) }
		for _, err := range []error{
			func() error { _, err := fsys.Open(at("no"), durable.OpenOptions{}); return err }(),
			func() error { _, err := fsys.OpenWrite(at("no")); return err }(),
			func() error { _, err := fsys.Stat(at("no")); return err }(),
			func() error { _, err := fsys.List(at("no")); return err }(),
			func() error { _, err := fsys.Create(at("no/f"), durable.CreateOptions{}); return err }(),
			fsys.Rename(at("no"), at("x")), fsys.RenameNew(at("no"), at("x")), fsys.Remove(at("no")), fsys.SyncDir(at("no")),
		} {
			require.ErrorIs(t, err, fs.ErrNotExist)
		}
		require.NoError(t, fsys.RemoveAll(at("no")))

		require.NoError(t, fsys.MkdirAll(at("a/b/c")))
		require.NoError(t, fsys.MkdirAll(at("a/b/c")))
		require.NoError(t, fsys.Mkdir(at("a/d")))
		require.ErrorIs(t, fsys.Mkdir(at("a/d")), fs.ErrExist)
		require.ErrorIs(t, fsys.Mkdir(at("no/d")), fs.ErrNotExist)
		require.NoError(t, fsys.Remove(at("a/d")))
		put(t, fsys, at("a/one"), "1")
		put(t, fsys, at("a/two"), "2")
		require.Error(t, fsys.MkdirAll(at("a/one")))
		require.Error(t, fsys.MkdirAll(at("a/one/x")))
		require.Error(t, fsys.Remove(at("a/b")), "not empty")

		require.ErrorIs(t, fsys.RenameNew(at("a/one"), at("a/two")), fs.ErrExist)
		require.ErrorIs(t, fsys.Rename(at("a/one"), at("no/one")), fs.ErrNotExist)
		require.Equal(t, "1", get(t, fsys, at("a/one")))
		require.Equal(t, "2", get(t, fsys, at("a/two")))
		require.NoError(t, fsys.RenameNew(at("a/one"), at("a/b/three")))
		require.NoError(t, fsys.Rename(at("a/b/three"), at("a/two")))
		require.Equal(t, "1", get(t, fsys, at("a/two")))

		names, err := fsys.List(at("a"))
		require.NoError(t, err)
		require.Equal(t, []string{"b", "two"}, names)
		info, err := fsys.Stat(at("a/two"))
		require.NoError(t, err)
		require.Equal(t, durable.Info{Size: 1}, info)
		info, err = fsys.Stat(at("a"))
		require.NoError(t, err)
		require.Equal(t, durable.Info{Dir: true}, info)
		require.NoError(t, fsys.Remove(at("a/two")))
		require.NoError(t, fsys.RemoveAll(at("a")))
		_, err = fsys.Stat(at("a"))
		require.ErrorIs(t, err, fs.ErrNotExist)

		total, free, err := fsys.Usage(dir)
		require.NoError(t, err)
		require.Positive(t, free)
		require.GreaterOrEqual(t, total, free)
	})
}

func TestLockExcludesThisProcessToo(t *testing.T) {
	each(t, func(t *testing.T, fsys durable.FS, dir string) {
		name := path.Join(dir, "LOCK")
		l, err := fsys.Lock(name)
		require.NoError(t, err)
		_, err = fsys.Lock(name)
		require.ErrorIs(t, err, durable.ErrLocked)
		require.ErrorContains(t, err, name)
		require.NoError(t, l.Close())
		l, err = fsys.Lock(name)
		require.NoError(t, err)
		require.NoError(t, l.Close())
	})
}

// RenameNew has one winner however many try.
func TestRenameNewHasOneWinner(t *testing.T) {
	each(t, func(t *testing.T, fsys durable.FS, dir string) {
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			put(t, fsys, path.Join(dir, fmt.Sprint(i)), fmt.Sprint(i))
			wg.Go(func() { errs[i] = fsys.RenameNew(path.Join(dir, fmt.Sprint(i)), path.Join(dir, "x")) })
		}
		wg.Wait()
		won := 0
		for i, err := range errs {
			if err == nil {
				won++
				require.Equal(t, fmt.Sprint(i), get(t, fsys, path.Join(dir, "x")))
				continue
			}
			require.ErrorIs(t, err, fs.ErrExist)
			require.Equal(t, fmt.Sprint(i), get(t, fsys, path.Join(dir, fmt.Sprint(i))))
		}
		require.Equal(t, 1, won)
	})
}

// A file written with Direct has the same content as any, at every kind of
// length, whatever the pieces and wherever they lie in memory.
func TestDirectContent(t *testing.T) {
	const g = durable.Grid
	rng := rand.New(rand.NewPCG(1, 2))
	each(t, func(t *testing.T, fsys durable.FS, dir string) {
		for _, pieces := range [][]int{
			{}, {0}, {1}, {g - 1}, {g}, {g + 1}, {g, g}, {g, 1, g}, {8 * g, 3*g + 5}, {5, g, 2 * g}, {64 * g, 64*g + 1, 7},
		} {
			for _, shift := range []int{0, 1} {
				name := path.Join(dir, fmt.Sprint(pieces, shift))
				f, err := fsys.Create(name, durable.CreateOptions{Direct: true, Size: 100})
				require.NoError(t, err)
				var want []byte
				for _, n := range pieces {
					b := frame.Aligned(n + shift)[shift:]
					for i := range b {
						b[i] = byte(rng.Uint32())
					}
					m, err := f.Write(b)
					require.NoError(t, err)
					require.Equal(t, n, m)
					want = append(want, b...)
				}
				require.NoError(t, f.Sync())
				require.NoError(t, f.Close())
				require.Equal(t, string(want), get(t, fsys, name))
				readUncached(t, fsys, name, want)
			}
		}
	})
}

// readUncached compares reads of all kinds with want.
func readUncached(t *testing.T, fsys durable.FS, name string, want []byte) {
	t.Helper()
	f, err := fsys.Open(name, durable.OpenOptions{Uncached: true})
	require.NoError(t, err)
	defer f.Close()
	all, err := io.ReadAll(f)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, all))
	for _, off := range []int{0, 1, durable.Grid - 1, durable.Grid, len(want) - 1, len(want), len(want) + 1, len(want) + durable.Grid} {
		for _, n := range []int{0, 1, durable.Grid, durable.Grid + 1, 2 * durable.Grid, 300_000} {
			for _, shift := range []int{0, 8} {
				readOne(t, f, want, max(0, off), frame.Aligned(n + shift)[shift:])
			}
		}
	}
}

func readOne(t *testing.T, f durable.File, want []byte, off int, p []byte) {
	t.Helper()
	expect := want[min(off, len(want)):min(off+len(p), len(want))]
	n, err := f.ReadAt(p, int64(off))
	require.Equal(t, len(expect), n, "ReadAt of %d at %d of %d", len(p), off, len(want))
	require.True(t, bytes.Equal(expect, p[:n]))
	if n < len(p) {
		require.Equal(t, io.EOF, err)
	} else if err != io.EOF {
		require.NoError(t, err)
	}
}

func TestUncachedConcurrent(t *testing.T) {
	each(t, func(t *testing.T, fsys durable.FS, dir string) {
		want := bytes.Repeat([]byte("0123456789abcdef"), 16<<10)
		put(t, fsys, path.Join(dir, "f"), string(want))
		f, err := fsys.Open(path.Join(dir, "f"), durable.OpenOptions{Uncached: true})
		require.NoError(t, err)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() { readOne(t, f, want, i*4096+i%2, frame.Aligned(8192)) })
		}
		wg.Wait()
		require.NoError(t, f.Close())
		_, err = f.ReadAt(make([]byte, 1), 0)
		require.ErrorIs(t, err, fs.ErrClosed)
	})
}

func TestReadFileLimit(t *testing.T) {
	each(t, func(t *testing.T, fsys durable.FS, dir string) {
		name := path.Join(dir, "f")
		put(t, fsys, name, "")
		require.Equal(t, "", get(t, fsys, name))
		put(t, fsys, name, "12345")
		put(t, fsys, name+".tmp", "left by a crash")
		put(t, fsys, name, "12345")
		b, err := durable.ReadFile(fsys, name, 5)
		require.NoError(t, err)
		require.Equal(t, "12345", string(b))
		_, err = durable.ReadFile(fsys, name, 4)
		require.ErrorIs(t, err, fs.ErrInvalid)
		require.ErrorContains(t, err, name)
	})
}

// What was made durable survives a power cut; what was not does not.
func TestMemCrash(t *testing.T) {
	m := vfs.NewCrashableMem()
	fsys := durable.Mem(m)
	require.NoError(t, fsys.MkdirAll("/a/b"))
	put(t, fsys, "/a/b/kept", "kept")
	f, err := fsys.Create("/a/b/lost", durable.CreateOptions{})
	require.NoError(t, err)
	_, err = f.Write([]byte("lost"))
	require.NoError(t, err)
	require.NoError(t, f.Sync()) // the data, but not the entry
	require.NoError(t, f.Close())

	after := durable.Mem(m.CrashClone(vfs.CrashCloneCfg{}))
	names, err := after.List("/a/b")
	require.NoError(t, err)
	require.Equal(t, []string{"kept"}, names)
	require.Equal(t, "kept", get(t, after, "/a/b/kept"))
}

func TestMemUsage(t *testing.T) {
	m := vfs.NewMem()
	m.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 3, TotalBytes: 7, UsedBytes: 4})
	total, free, err := durable.Mem(m).Usage("/")
	require.NoError(t, err)
	require.EqualValues(t, []int64{7, 3}, []int64{total, free})
}

func TestPebbleSeesTheSameFiles(t *testing.T) {
	each(t, func(t *testing.T, fsys durable.FS, dir string) {
		put(t, fsys, path.Join(dir, "f"), "seen")
		f, err := fsys.Pebble().Open(path.Join(dir, "f"))
		require.NoError(t, err)
		b, err := io.ReadAll(f)
		require.NoError(t, err)
		require.Equal(t, "seen", string(b))
		require.NoError(t, f.Close())
	})
}

func TestClassify(t *testing.T) {
	require.NoError(t, durable.Classify(nil))
	for _, errno := range []error{syscall.ENOSPC, syscall.EDQUOT} {
		err := durable.Classify(&fs.PathError{Op: "write", Path: "f", Err: errno})
		require.ErrorIs(t, err, durable.ErrNoSpace)
		require.ErrorIs(t, err, errno)
		require.ErrorContains(t, err, "write f")
		require.Equal(t, err, durable.Classify(err))
	}
	require.NotErrorIs(t, durable.Classify(syscall.EIO), durable.ErrNoSpace)
}
