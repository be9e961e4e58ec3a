package blockframe_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
)

// tree returns a store with a few directories, files and links.
func tree(t *testing.T) *blockframe.Store {
	t.Helper()
	ctx := context.Background()
	st := fresh(t, 1)
	put(t, st, "a.txt", []byte("alpha"))
	put(t, st, "empty", nil)
	put(t, st, "dir/b.bin", content(1, 100_000))
	put(t, st, "dir/deep/er/c.bin", content(2, 3*block+1))
	put(t, st, "dir/with space?#%.txt", []byte("odd"))
	put(t, st, "gone", []byte("1"))
	require.NoError(t, st.Delete(ctx, "gone", blockframe.DeleteOptions{}))
	require.NoError(t, st.Mkdir(ctx, "hollow", nil))
	for link, target := range map[string]string{"link": "dir/b.bin", "dir/deep/up": "../../a.txt", "dirlink": "dir/deep", "dir/twice": "../dirlink/er/c.bin"} {
		_, err := st.Symlink(ctx, link, target, nil)
		require.NoError(t, err)
	}
	return st
}

func TestFS(t *testing.T) {
	fsys := tree(t).FS()
	require.NoError(t, fstest.TestFS(fsys, "a.txt", "empty", "dir/b.bin", "dir/deep/er/c.bin", "dir/with space?#%.txt", "hollow", "link", "dirlink", "dir/twice"))
	sub, err := fs.Sub(fsys, "dir")
	require.NoError(t, err)
	_, err = fs.Stat(sub, "deep/er/c.bin")
	require.NoError(t, err)
}

// An empty store is an empty directory.
func TestEmptyFS(t *testing.T) {
	fsys := fresh(t, 1).FS()
	require.NoError(t, fstest.TestFS(fsys))
	entries, err := fs.ReadDir(fsys, ".")
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestFSSub(t *testing.T) {
	st := tree(t)
	sub, err := fs.Sub(st.FS(), "dirlink/..")
	require.ErrorIs(t, err, fs.ErrInvalid)
	require.Nil(t, sub)
	sub, err = fs.Sub(st.FS(), "dir")
	require.NoError(t, err)
	require.NoError(t, fstest.TestFS(sub, "b.bin", "deep/er/c.bin", "twice"))
	sub, err = fs.Sub(st.FS(), "dirlink")
	require.NoError(t, err)
	require.NoError(t, fstest.TestFS(sub, "er/c.bin", "up"))
	_, err = fs.Sub(st.FS(), "a.txt")
	require.ErrorIs(t, err, fs.ErrInvalid)
}

func TestFSLinks(t *testing.T) {
	ctx := context.Background()
	st := tree(t)
	for link, target := range map[string]string{"l/abs": "/etc/passwd", "l/out": "../../x", "l/none": "nothing", "l/loop": "loop2", "l/loop2": "loop", "l/dir/self": "."} {
		_, err := st.Symlink(ctx, link, target, nil)
		require.NoError(t, err)
	}
	fsys := st.FS()
	for _, name := range []string{"l/abs", "l/out", "l/none"} {
		_, err := fs.ReadFile(fsys, name)
		require.ErrorIs(t, err, fs.ErrNotExist, name)
		info, err := fs.Lstat(fsys, name)
		require.NoError(t, err)
		require.Equal(t, fs.ModeSymlink, info.Mode().Type())
	}
	_, err := fs.Stat(fsys, "l/loop")
	require.ErrorContains(t, err, "too many symbolic links")
	target, err := fs.ReadLink(fsys, "dir/deep/up")
	require.NoError(t, err)
	require.Equal(t, "../../a.txt", target)
	b, err := fs.ReadFile(fsys, "dirlink/up")
	require.NoError(t, err)
	require.Equal(t, "alpha", string(b))
	_, err = fs.Stat(fsys, "l/dir/self/self/self")
	require.NoError(t, err)
	_, err = fs.ReadLink(fsys, "a.txt")
	require.ErrorIs(t, err, fs.ErrInvalid)
}

// A file stays the version that it was opened as, and has all that a Reader has.
func TestFSFile(t *testing.T) {
	st := tree(t)
	fsys := st.FS()
	f, err := fsys.Open("dir/b.bin")
	require.NoError(t, err)
	defer f.Close()
	put(t, st, "dir/b.bin", []byte("new"))
	want := content(1, 100_000)
	p := make([]byte, 10)
	_, err = f.(io.ReaderAt).ReadAt(p, 70_000)
	require.NoError(t, err)
	require.Equal(t, want[70_000:70_010], p)
	_, err = f.(io.Seeker).Seek(-5, io.SeekEnd)
	require.NoError(t, err)
	rest, err := io.ReadAll(f)
	require.NoError(t, err)
	require.Equal(t, want[99_995:], rest)
	info, err := f.Stat()
	require.NoError(t, err)
	require.EqualValues(t, 1, info.Sys().(blockframe.Object).Version)
	require.EqualValues(t, 100_000, info.Size())

	for _, name := range []string{"", "/a.txt", "a.txt/", "../a.txt", "./a.txt", "a.txt/b", "gone", "x"} {
		_, err := fsys.Open(name)
		require.True(t, errors.As(err, new(*fs.PathError)), "Open(%q) = %v", name, err)
		want := fs.ErrInvalid
		if fs.ValidPath(name) {
			want = fs.ErrNotExist
		}
		require.ErrorIs(t, err, want, name)
	}
	_, err = fs.ReadFile(fsys, "dir")
	require.ErrorIs(t, err, fs.ErrInvalid)
	_, err = fs.ReadDir(fsys, "a.txt")
	require.ErrorIs(t, err, fs.ErrInvalid)
}

func TestListOptions(t *testing.T) {
	ctx := context.Background()
	st := tree(t)
	list := func(dir string, opts blockframe.ListOptions) (out []string) {
		for obj, err := range st.List(ctx, dir, opts) {
			require.NoError(t, err)
			out = append(out, obj.Name)
		}
		return out
	}
	require.Equal(t, []string{"dir/b.bin", "dir/deep", "dir/twice", "dir/with space?#%.txt"}, list("dir", blockframe.ListOptions{Flat: true}))
	require.Equal(t, []string{"dir/twice", "dir/with space?#%.txt"}, list("dir", blockframe.ListOptions{Flat: true, After: "dir/deep"}))
	require.Equal(t, []string{"dir/b.bin", "dir/deep", "dir/deep/er", "dir/deep/er/c.bin", "dir/deep/up", "dir/twice", "dir/with space?#%.txt"},
		list("dir", blockframe.ListOptions{}))
	require.Equal(t, []string{"dir/deep/up", "dir/twice", "dir/with space?#%.txt"}, list("dir", blockframe.ListOptions{After: "dir/deep/er/c.bin"}))
	require.Equal(t, []string{"a.txt"}, list("a.txt", blockframe.ListOptions{}))
	require.Contains(t, list("", blockframe.ListOptions{Deleted: true}), "gone")
	require.NotContains(t, list("", blockframe.ListOptions{Flat: true}), "gone")
	for _, err := range st.List(ctx, "nothing", blockframe.ListOptions{}) {
		require.ErrorIs(t, err, fs.ErrNotExist)
	}
	for _, err := range st.List(ctx, "../x", blockframe.ListOptions{}) {
		require.ErrorIs(t, err, fs.ErrInvalid)
	}
}
