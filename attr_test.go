package blockframe_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
)

// What a filesystem knows of a file goes in with it and comes out again.
func TestAttrRoundTrip(t *testing.T) {
	ctx := context.Background()
	st := fresh(t, 1)
	from, to := t.TempDir(), t.TempDir()
	path, back := filepath.Join(from, "f"), filepath.Join(to, "f")
	require.NoError(t, os.WriteFile(path, []byte("1"), 0o600))
	require.NoError(t, os.WriteFile(back, []byte("1"), 0o600))
	attr, err := blockframe.ReadAttr(path)
	require.NoError(t, err)
	attr.Mode, attr.ModTime = 0o751|fs.ModeSetgid, time.Unix(1_500_000_000, 987_654_321).UTC()
	if runtime.GOOS == "linux" {
		attr.Xattrs = map[string][]byte{"user.blockframe": {0, 1, 2, 255}, "user.empty": nil}
	}
	if runtime.GOOS == "windows" {
		attr.Mode = 0o666
	}
	err = blockframe.WriteAttr(path, attr)
	if errors.Is(err, syscall.ENOTSUP) {
		t.Skip("the filesystem has no extended attributes")
	}
	require.NoError(t, err)

	obj, err := st.PutFile(ctx, "f", path, blockframe.PutOptions{})
	require.NoError(t, err)
	require.NoError(t, blockframe.WriteAttr(back, obj.Attr))
	got, err := blockframe.ReadAttr(back)
	require.NoError(t, err)
	require.Equal(t, attr.Mode, got.Mode)
	require.Equal(t, attr.UID, got.UID)
	require.Equal(t, attr.GID, got.GID)
	require.True(t, attr.ModTime.Equal(got.ModTime), "%v", got.ModTime)
	require.Len(t, got.Xattrs, len(attr.Xattrs))
	for name, value := range attr.Xattrs {
		require.Equal(t, string(value), string(got.Xattrs[name]), name)
	}
}

func TestAttrOfLinksAndDirectories(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink("to/nowhere", link); err != nil {
		t.Skip(err)
	}
	attr, err := blockframe.ReadAttr(link)
	require.NoError(t, err)
	require.Equal(t, "to/nowhere", attr.Target)
	require.Equal(t, fs.ModeSymlink, attr.Mode.Type())
	attr.ModTime = time.Unix(1_400_000_000, 5)
	require.NoError(t, blockframe.WriteAttr(link, attr))
	attr, err = blockframe.ReadAttr(dir)
	require.NoError(t, err)
	require.True(t, attr.Mode.IsDir())
	_, err = blockframe.ReadAttr(filepath.Join(dir, "nothing"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// What is not stored is named in words.
func TestReadAttrOfDevice(t *testing.T) {
	_, err := blockframe.ReadAttr(os.DevNull)
	require.ErrorIs(t, err, fs.ErrInvalid)
	if runtime.GOOS == "linux" {
		require.ErrorContains(t, err, "a character device is not stored")
	}
}
