package dir_test

import (
	"bytes"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/durable/durabletest"
	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/dir"
	"github.com/blockframe/blockframe/store/storetest"
)

var (
	storeID = [16]byte{0x5a, 1, 2, 3}
	diskID  = store.BackendID{0xd1, 4, 5, 6}
)

// open makes a backend in root, which does not exist yet, and opens it.
func open(t testing.TB, fsys durable.FS, root string, opts dir.Options) *dir.Backend {
	t.Helper()
	require.NoError(t, dir.Init(fsys, root, dir.InitOptions{Store: storeID, ID: diskID}))
	return reopen(t, fsys, root, opts)
}

func reopen(t testing.TB, fsys durable.FS, root string, opts dir.Options) *dir.Backend {
	t.Helper()
	b, err := dir.Open(fsys, root, opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

// each runs a test on files of the operating system and on those of a MemFS.
func each(t *testing.T, run func(t *testing.T, fsys durable.FS, root string)) {
	t.Run("os", func(t *testing.T) { run(t, durable.OS(), otherTempDir(t)+"/d") })
	t.Run("mem", func(t *testing.T) { run(t, durable.Mem(vfs.NewCrashableMem()), "/d") })
}

func put(t testing.TB, b *dir.Backend, n int, content []byte) {
	t.Helper()
	require.NoError(t, storetest.Put(t.Context(), b, storetest.Key(n), content))
}

// holds asserts that a blob is whole.
func holds(t testing.TB, b *dir.Backend, n int, content []byte) {
	t.Helper()
	got, err := storetest.Get(t.Context(), b, storetest.Key(n), store.OpenOptions{Uncached: n%2 == 0})
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, got), "content of blob %d", n)
}

func lacks(t testing.TB, b *dir.Backend, n int) {
	t.Helper()
	_, err := b.Open(t.Context(), storetest.Key(n), store.OpenOptions{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NotErrorIs(t, err, store.ErrUnavailable)
}

func keys(t testing.TB, b *dir.Backend) []store.BackendKey {
	t.Helper()
	got, err := storetest.Keys(t.Context(), b, "", "")
	require.NoError(t, err)
	return got
}

// noTemps asserts that nothing is left of unfinished blobs.
func noTemps(t testing.TB, fsys durable.FS, root string) {
	t.Helper()
	names, err := fsys.List(path.Join(root, "tmp"))
	require.NoError(t, err)
	require.Empty(t, names)
}

func TestBackend(t *testing.T) {
	t.Run("direct", func(t *testing.T) {
		storetest.Run(t, func(t testing.TB) store.Backend { return open(t, durable.OS(), t.TempDir()+"/d", dir.Options{}) })
	})
	t.Run("buffered", func(t *testing.T) {
		storetest.Run(t, func(t testing.TB) store.Backend {
			return open(t, durable.OS(), otherTempDir(t)+"/d", dir.Options{Buffered: true})
		})
	})
	t.Run("mem", func(t *testing.T) {
		storetest.Run(t, func(t testing.TB) store.Backend {
			return open(t, durable.Mem(vfs.NewCrashableMem()), "/d", dir.Options{})
		})
	})
}

// otherTempDir returns a directory in memory where there is such a thing: another
// kind of filesystem than that of TempDir, and a quick one.
func otherTempDir(t testing.TB) string {
	root, err := os.MkdirTemp("/dev/shm", "blockframe")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(root)) })
	return root
}

// What is put is there when the backend is opened again, at the same place.
func TestReopen(t *testing.T) { // T13, T14
	each(t, func(t *testing.T, fsys durable.FS, root string) {
		b := open(t, fsys, root, dir.Options{})
		for i := range 10 {
			put(t, b, i, storetest.Content(i, i*1000))
		}
		require.Equal(t, diskID, b.ID())
		require.NoError(t, b.Close())
		require.NoError(t, b.Close())

		b = reopen(t, fsys, root, dir.Options{})
		require.Equal(t, diskID, b.ID())
		require.Equal(t, dir.Identity{Store: storeID, Disk: diskID}, b.Identity())
		require.Len(t, keys(t, b), 10)
		for i := range 10 {
			holds(t, b, i, storetest.Content(i, i*1000))
			info, err := fsys.Stat(path.Join(root, "data", string(storetest.Key(i))))
			require.NoError(t, err)
			require.EqualValues(t, i*1000, info.Size)
		}
	})
}

// Of 256 folders none gets many more blobs than another.
func TestFanOut(t *testing.T) { // T13, R16
	count := map[string]int{}
	const blobs = 256 * 64
	for i := range blobs {
		count[string(storetest.Key(i)[:2])]++
	}
	chi := 0.0
	for _, n := range count {
		d := float64(n - 64)
		chi += d * d / 64
	}
	// 255 degrees of freedom: above 330 in one run of a thousand.
	require.Len(t, count, 256)
	require.Less(t, chi, 330.0)
}

func TestSecondOpenIsRefused(t *testing.T) {
	each(t, func(t *testing.T, fsys durable.FS, root string) {
		b := open(t, fsys, root, dir.Options{})
		_, err := dir.Open(fsys, root, dir.Options{})
		require.ErrorIs(t, err, store.ErrLocked)
		require.ErrorContains(t, err, path.Join(root, "LOCK"))
		require.NoError(t, b.Close())
		reopen(t, fsys, root, dir.Options{})
	})
}

func TestClosed(t *testing.T) {
	b := open(t, durable.Mem(vfs.NewMem()), "/d", dir.Options{})
	put(t, b, 1, storetest.Content(1, 5000))
	r, err := b.Open(t.Context(), storetest.Key(1), store.OpenOptions{})
	require.NoError(t, err)
	w, err := b.Create(t.Context(), storetest.Key(2))
	require.NoError(t, err)
	require.NoError(t, b.Close())

	_, err = w.Write(storetest.Content(2, 10))
	require.ErrorIs(t, err, fs.ErrClosed)
	require.ErrorIs(t, w.Commit(), fs.ErrClosed)
	require.NoError(t, w.Abort())
	_, err = b.Create(t.Context(), storetest.Key(2))
	require.ErrorIs(t, err, store.ErrUnavailable)
	_, err = b.Open(t.Context(), storetest.Key(1), store.OpenOptions{})
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.ErrorIs(t, b.Remove(t.Context(), storetest.Key(1)), store.ErrUnavailable)
	_, err = storetest.Keys(t.Context(), b, "", "")
	require.ErrorIs(t, err, store.ErrUnavailable)

	n, err := r.ReadAt(make([]byte, 5000), 0) // an open reader stays good
	require.NoError(t, err)
	require.Equal(t, 5000, n)
	require.NoError(t, r.Close())
}

// A writer that outlives its backend touches nothing of the one that was opened after
// it: both count the files in tmp/ from 1.
func TestWriterOutlivesBackend(t *testing.T) {
	each(t, func(t *testing.T, fsys durable.FS, root string) {
		for name, end := range map[string]func(w store.BackendWriter){
			"write":  func(w store.BackendWriter) { _, err := w.Write(storetest.Content(1, 10)); require.Error(t, err) },
			"commit": func(w store.BackendWriter) { require.Error(t, w.Commit()) },
			"abort":  func(w store.BackendWriter) { require.NoError(t, w.Abort()) },
		} {
			root := root + name
			b := open(t, fsys, root, dir.Options{})
			old, err := b.Create(t.Context(), storetest.Key(1))
			require.NoError(t, err)
			_, err = old.Write(storetest.Content(1, 5000))
			require.NoError(t, err)
			require.NoError(t, b.Close())

			b = reopen(t, fsys, root, dir.Options{})
			w, err := b.Create(t.Context(), storetest.Key(2))
			require.NoError(t, err)
			_, err = w.Write(storetest.Content(2, 5000))
			require.NoError(t, err)
			end(old)
			require.NoError(t, w.Commit(), name)
			holds(t, b, 2, storetest.Content(2, 5000))
			noTemps(t, fsys, root)
		}
	})
}

// A disk that does not come back from a change holds up Close for half a minute. The
// lock is kept meanwhile: the change may yet happen.
func TestCloseOfAHungDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wait := make(chan struct{})
		inner := durable.Mem(vfs.NewMem())
		require.NoError(t, open(t, inner, "/d", dir.Options{}).Close())
		fsys := durabletest.New(inner, durabletest.Options{Before: func(op durabletest.Op) {
			if op.Kind == durabletest.Write {
				<-wait
			}
		}})
		b := reopen(t, fsys, "/d", dir.Options{})
		put := make(chan error, 1)
		go func() { put <- storetest.Put(t.Context(), b, storetest.Key(0), storetest.Content(0, 5000)) }()
		synctest.Wait()
		began := time.Now()
		require.ErrorIs(t, b.Close(), store.ErrUnavailable)
		require.Equal(t, 30*time.Second, time.Since(began))
		_, err := b.Create(t.Context(), storetest.Key(1))
		require.ErrorIs(t, err, fs.ErrClosed, "it waits for nothing")
		_, err = dir.Open(inner, "/d", dir.Options{})
		require.ErrorIs(t, err, store.ErrLocked)

		close(wait)
		<-put
		synctest.Wait()
		require.NoError(t, b.Close())
		b, err = dir.Open(inner, "/d", dir.Options{})
		require.NoError(t, err)
		noTemps(t, inner, "/d")
		require.NoError(t, b.Close())
	})
}

// Files and directories that are not ours are left alone, counted and said so;
// everything else is served.
func TestStrayFiles(t *testing.T) { // R7
	each(t, func(t *testing.T, fsys durable.FS, root string) {
		b := open(t, fsys, root, dir.Options{})
		put(t, b, 1, storetest.Content(1, 100))
		require.NoError(t, b.Close())
		folder := "data/" + string(storetest.Key(1)[:2])
		strays := []string{
			"notes.txt", "data/readme", folder + "/.DS_Store", folder + "/x.tmp",
			"data/00/" + string(storetest.Key(1)[3:]), // a blob in a folder where nobody looks for it
		}
		if storetest.Key(1)[:2] == "00" {
			t.Fatal("choose another key")
		}
		for _, name := range strays {
			require.NoError(t, durable.WriteFile(fsys, path.Join(root, name), []byte("mine")))
		}
		require.NoError(t, fsys.MkdirAll(path.Join(root, folder, "subdir")))

		var said strings.Builder
		b = reopen(t, fsys, root, dir.Options{Logger: slog.New(slog.NewTextHandler(&said, nil))})
		require.Contains(t, said.String(), "count=2")
		require.Equal(t, []store.BackendKey{storetest.Key(1)}, keys(t, b))
		holds(t, b, 1, storetest.Content(1, 100))
		u, err := b.Usage(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, len(strays)+1, u.Stray)
		for _, name := range strays {
			got, err := durable.ReadFile(fsys, path.Join(root, name), 10)
			require.NoError(t, err)
			require.Equal(t, "mine", string(got))
		}
	})
}

// What a crashed process left in tmp/ is gone after Open.
func TestTempFilesAreRemoved(t *testing.T) {
	each(t, func(t *testing.T, fsys durable.FS, root string) {
		b := open(t, fsys, root, dir.Options{})
		require.NoError(t, b.Close())
		require.NoError(t, durable.WriteFile(fsys, path.Join(root, "tmp/00000001"), []byte("half")))
		require.NoError(t, fsys.MkdirAll(path.Join(root, "tmp/d/e")))
		b = reopen(t, fsys, root, dir.Options{})
		noTemps(t, fsys, root)
		put(t, b, 1, storetest.Content(1, 100))
	})
}

// Folders that somebody removed come back when they are needed.
func TestMissingFolders(t *testing.T) {
	each(t, func(t *testing.T, fsys durable.FS, root string) {
		b := open(t, fsys, root, dir.Options{})
		folder := path.Join(root, "data", string(storetest.Key(1)[:2]))
		require.NoError(t, fsys.Remove(folder))
		require.Empty(t, keys(t, b))
		require.NoError(t, b.Remove(t.Context(), storetest.Key(1)))
		lacks(t, b, 1)
		put(t, b, 1, storetest.Content(1, 100))
		holds(t, b, 1, storetest.Content(1, 100))
		require.NoError(t, b.Close())

		require.NoError(t, fsys.RemoveAll(folder))
		require.NoError(t, fsys.RemoveAll(path.Join(root, "tmp")))
		b = reopen(t, fsys, root, dir.Options{})
		put(t, b, 1, storetest.Content(1, 100))
		holds(t, b, 1, storetest.Content(1, 100))
	})
}

// A directory emptied while it is open is unavailable: its blobs are not each
// missing.
func TestEmptiedWhileOpen(t *testing.T) {
	each(t, func(t *testing.T, fsys durable.FS, root string) {
		b := open(t, fsys, root, dir.Options{})
		put(t, b, 1, storetest.Content(1, 100))
		require.NoError(t, fsys.RemoveAll(root))
		_, err := b.Open(t.Context(), storetest.Key(1), store.OpenOptions{})
		require.ErrorIs(t, err, store.ErrUnavailable)
		_, err = b.Create(t.Context(), storetest.Key(2))
		require.ErrorIs(t, err, store.ErrUnavailable)
		_, err = storetest.Keys(t.Context(), b, "", "")
		require.ErrorIs(t, err, store.ErrUnavailable)
		require.ErrorIs(t, b.Remove(t.Context(), storetest.Key(1)), store.ErrUnavailable)
	})
}
