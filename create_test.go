package blockframe_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/durable/durabletest"
)

// memDirs returns the options of a store on n directories of a filesystem in
// memory.
func memDirs(n int, fsys durable.FS) blockframe.Options {
	var o blockframe.Options
	for i := range n {
		o.Dirs = append(o.Dirs, fmt.Sprintf("/d%d", i))
	}
	return blockframe.WithLog(blockframe.WithFS(o, fsys), 64<<10, true)
}

// from makes the n-th change and all later ones fail.
func from(n int) func(durabletest.Op) *durabletest.Fault {
	return func(op durabletest.Op) *durabletest.Fault {
		if op.N < n || op.N == 0 {
			return nil
		}
		return &durabletest.Fault{Arm: durabletest.Before, Err: syscall.EIO}
	}
}

// points returns which operations of a creation to fail: of the first and last ones
// every other, and some between. TestCrashAtEveryOperation takes them all.
func points(total int) (list []int) {
	for n := 1; n <= total; n++ {
		if n%2 == 0 && (n < 12 || n > total-30) || n%199 == 0 {
			list = append(list, n)
		}
	}
	return list
}

// A creation that was cut short at any operation is told by NoCreate, and ended by
// the next Open with the same directories, in any order.
func TestCreationCutShort(t *testing.T) {
	ctx := context.Background()
	for _, n := range []int{1, 4} {
		count := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
		st, err := blockframe.Open(ctx, memDirs(n, count))
		require.NoError(t, err)
		total := count.Count()
		require.NoError(t, st.Close())
		cut := 0
		for _, at := range points(total) {
			files := durable.Mem(vfs.NewMem())
			fsys := durabletest.New(files, durabletest.Options{})
			fsys.SetFault(from(at))
			if st, err := blockframe.Open(ctx, memDirs(n, fsys)); err == nil {
				require.NoError(t, errors.Join(st.ReadOnly(), st.Close()), "operation %d of %d", at, total)
				continue // it failed in something that may
			}
			cut++
			opts := memDirs(n, files)
			opts.NoCreate = true
			if st, err := blockframe.Open(ctx, opts); err == nil {
				require.NoError(t, st.Close())
			} else {
				require.ErrorIs(t, err, fs.ErrNotExist, "operation %d of %d", at, total)
			}
			opts.NoCreate = false
			opts.Dirs = append(opts.Dirs[1:], opts.Dirs[0])
			st, err := blockframe.Open(ctx, opts)
			require.NoError(t, err, "operation %d of %d", at, total)
			require.NoError(t, st.ReadOnly())
			require.Len(t, st.Disks(ctx), n)
			put(t, st, "f", content(1, 100_000))
			require.NoError(t, st.Close())
			opts.NoCreate = true
			st, err = blockframe.Open(ctx, opts)
			require.NoError(t, err)
			requireBytes(t, content(1, 100_000), get(t, st, "f", 0))
			require.NoError(t, st.Close())
		}
		require.Greater(t, cut, 10)
	}
}

// Going on with other directories than it began with is refused, and says which.
func TestCreationWithOtherDirectories(t *testing.T) {
	ctx := context.Background()
	files := durable.Mem(vfs.NewMem())
	fsys := durabletest.New(files, durabletest.Options{})
	fsys.SetFault(durabletest.All(durabletest.Rename, "/d1/id", durabletest.Before, syscall.EIO))
	_, err := blockframe.Open(ctx, memDirs(3, fsys))
	require.ErrorIs(t, err, syscall.EIO)
	_, err = blockframe.Open(ctx, memDirs(2, files))
	require.ErrorIs(t, err, fs.ErrInvalid)
	require.ErrorContains(t, err, "/d0, /d1, /d2")
	st, err := blockframe.Open(ctx, memDirs(3, files))
	require.NoError(t, err)
	require.NoError(t, st.Close())
}

// A plan that was left in one directory of the log means nothing: that directory's
// store is used.
func TestPlanLeftBehind(t *testing.T) {
	ctx := context.Background()
	files := durable.Mem(vfs.NewMem())
	fsys := durabletest.New(files, durabletest.Options{})
	fsys.SetFault(durabletest.All(durabletest.Remove, "/d1/log/creating", durabletest.Before, syscall.EIO))
	_, err := blockframe.Open(ctx, memDirs(2, fsys))
	require.ErrorIs(t, err, syscall.EIO)
	_, err = files.Stat("/d0/log/creating")
	require.ErrorIs(t, err, fs.ErrNotExist)
	opts := memDirs(2, files)
	opts.NoCreate = true
	st, err := blockframe.Open(ctx, opts)
	require.NoError(t, err)
	put(t, st, "f", []byte("1"))
	require.NoError(t, st.Close())
	_, err = files.Stat("/d1/log/creating")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// Two processes that name the same directories in another order, and so choose others
// for the log, do not both create a store.
func TestTwoCreateAtOnce(t *testing.T) {
	ctx := context.Background()
	for _, n := range []int{4, 6} {
		files := durable.Mem(vfs.NewMem())
		var second error
		var once sync.Once
		first := memDirs(n, durabletest.New(files, durabletest.Options{Before: func(op durabletest.Op) {
			if op.Kind != durabletest.Create || !strings.HasSuffix(op.Name, "/log/creating.tmp") {
				return
			}
			once.Do(func() {
				other := memDirs(n, files)
				slices.Reverse(other.Dirs)
				var st *blockframe.Store
				if st, second = blockframe.Open(ctx, other); second == nil {
					second = errors.Join(errors.New("two stores were created"), st.Close())
				}
			})
		}}))
		st, err := blockframe.Open(ctx, first)
		require.NoError(t, err)
		require.ErrorIs(t, second, blockframe.ErrLocked)
		put(t, st, "f", content(1, 100_000))
		require.NoError(t, st.Close())
		st, err = blockframe.Open(ctx, memDirs(n, files))
		require.NoError(t, err)
		require.NoError(t, st.ReadOnly())
		requireBytes(t, content(1, 100_000), get(t, st, "f", 0))
		require.NoError(t, st.Close())
		_, err = files.Stat(fmt.Sprintf("/d%d/log", n-1))
		require.ErrorIs(t, err, fs.ErrNotExist, "a folder for the lock alone")
	}
}

// What is left of a store without its identity and log is no empty directory.
func TestCreateOverView(t *testing.T) {
	ctx := context.Background()
	files := durable.Mem(vfs.NewMem())
	st, err := blockframe.Open(ctx, memDirs(1, files))
	require.NoError(t, err)
	require.NoError(t, st.Close())
	names, err := files.List("/d0")
	require.NoError(t, err)
	for _, name := range names {
		if name != "view" {
			require.NoError(t, files.RemoveAll("/d0/"+name))
		}
	}
	_, err = blockframe.Open(ctx, memDirs(1, files))
	require.ErrorIs(t, err, fs.ErrExist)
	require.ErrorContains(t, err, "/d0/view")
}

// A plan that was left in one directory of the log, which takes no changes now, is
// no reason not to open the store.
func TestPlanLeftReadOnly(t *testing.T) {
	ctx := context.Background()
	files := durable.Mem(vfs.NewMem())
	fsys := durabletest.New(files, durabletest.Options{})
	fsys.SetFault(durabletest.All(durabletest.Remove, "/d1/log/creating", durabletest.Before, syscall.EROFS))
	_, err := blockframe.Open(ctx, memDirs(2, fsys))
	require.ErrorIs(t, err, syscall.EROFS)
	logger, log := heard()
	opts := memDirs(2, fsys)
	opts.Logger = logger
	st, err := blockframe.Open(ctx, opts)
	require.NoError(t, err)
	require.Contains(t, log.String(), "/d1/log/creating")
	require.NoError(t, st.Close())
}

// A file of somebody's in log/ of a directory without a copy of the log does not make
// it one that lost its copy.
func TestStrayFileBesideNoLog(t *testing.T) {
	opts, want := filled(t, 6)
	last := filepath.Join(opts.Dirs[5], "log")
	require.NoDirExists(t, last)
	require.NoError(t, os.MkdirAll(last, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(last, "notes.txt"), []byte("mine"), 0o600))
	st := open(t, opts)
	require.NoError(t, st.ReadOnly())
	requireAll(t, st, want)
}
