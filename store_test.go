package blockframe_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/blake3"

	"github.com/blockframe/blockframe"
)

// dirs returns so many new directories.
func dirs(t testing.TB, n int) (list []string) {
	t.Helper()
	root := t.TempDir()
	for i := range n {
		list = append(list, filepath.Join(root, fmt.Sprintf("d%02d", i)))
	}
	return list
}

// open opens a store and closes it when the test ends.
func open(t testing.TB, opts blockframe.Options) *blockframe.Store {
	t.Helper()
	opts.Upkeep.Off = true // nothing happens that the test did not ask for
	st, err := blockframe.Open(context.Background(), blockframe.WithSegment(opts, 4<<20))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	return st
}

// fresh returns a new store on so many directories.
func fresh(t testing.TB, n int) *blockframe.Store {
	t.Helper()
	return open(t, blockframe.Options{Dirs: dirs(t, n)})
}

// content returns n bytes that depend on seed alone.
func content(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// put puts bytes.
func put(t testing.TB, st *blockframe.Store, name string, data []byte) blockframe.Object {
	t.Helper()
	obj, err := st.Put(context.Background(), name, bytes.NewReader(data), blockframe.PutOptions{})
	require.NoError(t, err)
	require.Equal(t, name, obj.Name)
	require.Equal(t, blockframe.ID(blake3.Sum256(data)), obj.ID, "the address is the BLAKE3 of the content")
	require.EqualValues(t, len(data), obj.Size)
	return obj
}

// get reads a version of a name whole.
func get(t testing.TB, st *blockframe.Store, name string, version uint64) []byte {
	t.Helper()
	rd, err := st.OpenVersion(context.Background(), name, version)
	require.NoError(t, err)
	defer rd.Close()
	var b bytes.Buffer
	_, err = io.Copy(&b, rd)
	require.NoError(t, err)
	return b.Bytes()
}

// names returns all live names, directories included.
func names(t testing.TB, st *blockframe.Store) (list []string) {
	t.Helper()
	for obj, err := range st.List(context.Background(), "", blockframe.ListOptions{}) {
		require.NoError(t, err)
		list = append(list, obj.Name)
	}
	return list
}

// requireBytes compares without printing megabytes.
func requireBytes(t testing.TB, want, got []byte, what ...any) {
	t.Helper()
	require.Equal(t, len(want), len(got), what...)
	require.True(t, bytes.Equal(want, got), what...)
}

const block = 64 << 10

// Every boundary of block, stripe and extent, on one and on several directories.
// T3, T4, R9, and the sizes of DESIGN.md section 2.
func TestSizes(t *testing.T) {
	const extent = 1 << 20 // the smallest, so that the sizes stay small
	sizes := []int{0, 1, 63, 64, 65, 4095, 4096, 4097, block - 1, block, block + 1, 256<<10 - 1, 256 << 10, 256<<10 + 1,
		8*block - 1, 8 * block, 8*block + 1, extent - 1, extent, extent + 1, extent + 1024, 3*extent + 1, 3_500_000}
	for _, n := range []int{1, 2, 3, 6} {
		t.Run(fmt.Sprintf("%d directories", n), func(t *testing.T) {
			opts := blockframe.Options{Dirs: dirs(t, n), Policies: []blockframe.Policy{{Name: "small-extents", Extent: extent}}}
			st := open(t, opts)
			for i, size := range sizes {
				put(t, st, fmt.Sprintf("sizes/%d", size), content(byte(i), size))
			}
			check := func() {
				for i, size := range sizes {
					name, want := fmt.Sprintf("sizes/%d", size), content(byte(i), size)
					requireBytes(t, want, get(t, st, name, 0), name)
					requireRanges(t, st, name, want)
				}
			}
			check()
			require.NoError(t, st.Close())
			st = open(t, opts)
			check()
			rep, err := st.Scrub(context.Background(), blockframe.ScrubOptions{Deep: true})
			require.NoError(t, err)
			require.True(t, rep.Clean(), "%+v", rep)
		})
	}
}

// requireRanges reads a few ranges, those over the end among them.
func requireRanges(t testing.TB, st *blockframe.Store, name string, want []byte) {
	t.Helper()
	rd, err := st.Open(context.Background(), name)
	require.NoError(t, err)
	defer rd.Close()
	require.EqualValues(t, len(want), rd.Size())
	for _, off := range []int{0, 1, len(want) / 2, len(want) - 1, len(want), len(want) + 1} {
		if off < 0 {
			continue
		}
		p := make([]byte, 1000)
		n, err := rd.ReadAt(p, int64(off))
		rest := want[min(off, len(want)):]
		require.Equal(t, min(len(p), len(rest)), n, "ReadAt(%d) of %s", off, name)
		requireBytes(t, rest[:n], p[:n], "ReadAt(%d) of %s", off, name)
		if n < len(p) {
			require.Equal(t, io.EOF, err)
		} else {
			require.NoError(t, err)
		}
	}
}

// T6: an empty store lists nothing; one object lists one; a known name is found and
// an unknown one is not.
func TestListAndFind(t *testing.T) {
	ctx := context.Background()
	st := fresh(t, 1)
	require.Empty(t, names(t, st))
	put(t, st, "one", []byte("1"))
	require.Equal(t, []string{"one"}, names(t, st))

	obj, err := st.Stat(ctx, "one")
	require.NoError(t, err)
	require.EqualValues(t, 1, obj.Size)
	for _, unknown := range []string{"two", "one/below", "o"} {
		_, err = st.Stat(ctx, unknown)
		require.ErrorIs(t, err, fs.ErrNotExist, unknown)
		_, err = st.Open(ctx, unknown)
		require.ErrorIs(t, err, fs.ErrNotExist, unknown)
		require.ErrorIs(t, st.Delete(ctx, unknown, blockframe.DeleteOptions{}), fs.ErrNotExist, unknown)
	}
	_, err = st.OpenID(ctx, blockframe.ID(blake3.Sum256([]byte("2"))))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// T2: the same bytes under two names have one address and are stored once.
func TestSameContentTwice(t *testing.T) {
	st := fresh(t, 1)
	data := content(1, 300_000)
	a, b := put(t, st, "a", data), put(t, st, "b", data)
	require.Equal(t, a.ID, b.ID)
	stats := st.Stats()
	require.EqualValues(t, 1, stats.Contents)
	require.EqualValues(t, len(data), stats.Stored)
	requireBytes(t, data, get(t, st, "a", 0))
	requireBytes(t, data, get(t, st, "b", 0))
}

// T14: many files; one deleted leaves the others intact; restart keeps all.
func TestManyFiles(t *testing.T) {
	ctx := context.Background()
	opts := blockframe.Options{Dirs: dirs(t, 3)}
	st := open(t, opts)
	want := map[string][]byte{}
	for i := range 40 {
		name := fmt.Sprintf("dir%d/file%02d", i%4, i)
		want[name] = content(byte(i), i*i*100)
		put(t, st, name, want[name])
	}
	require.NoError(t, st.Delete(ctx, "dir1/file05", blockframe.DeleteOptions{}))
	delete(want, "dir1/file05")
	require.NoError(t, st.Close())
	st = open(t, opts)
	for name, data := range want {
		requireBytes(t, data, get(t, st, name, 0), name)
	}
	_, err := st.Stat(ctx, "dir1/file05")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Len(t, names(t, st), len(want)+4)
}

// A name keeps its versions, and A, B, A ends at A. R17: the address is that of the
// bytes, whatever the name, and one changed byte is another address.
func TestVersions(t *testing.T) {
	ctx := context.Background()
	st := fresh(t, 1)
	a, b := content(1, 100_000), content(1, 100_000)
	b[77_777] ^= 1
	v1, v2 := put(t, st, "f", a), put(t, st, "f", b)
	require.NotEqual(t, v1.ID, v2.ID)
	v3 := put(t, st, "f", a)
	require.Equal(t, []uint64{1, 2, 3}, []uint64{v1.Version, v2.Version, v3.Version})
	require.Equal(t, v1.ID, v3.ID)
	requireBytes(t, a, get(t, st, "f", 0))
	requireBytes(t, a, get(t, st, "f", 1))
	requireBytes(t, b, get(t, st, "f", 2))
	require.Equal(t, put(t, st, "other", a).ID, v1.ID)

	var versions []uint64
	for obj, err := range st.Versions(ctx, "f") {
		require.NoError(t, err)
		versions = append(versions, obj.Version)
	}
	slices.Sort(versions)
	require.Equal(t, []uint64{1, 2, 3}, versions)
	rd, err := st.OpenID(ctx, v2.ID)
	require.NoError(t, err)
	got, err := io.ReadAll(rd)
	require.NoError(t, err)
	requireBytes(t, b, got)
	require.NoError(t, rd.Close())
}

// The same content and attributes again are no new version.
func TestPutAgain(t *testing.T) {
	ctx := context.Background()
	st := fresh(t, 1)
	for i, size := range []int{0, 10, 10_000, 1 << 20} {
		data, name := content(byte(i), size), fmt.Sprint("f", size)
		attr := &blockframe.Attr{Mode: 0o600, UID: 7, GID: 8, ModTime: time.Unix(1e9, 5), Xattrs: map[string][]byte{"user.a": []byte("b")}}
		for range 3 {
			obj, err := st.Put(ctx, name, bytes.NewReader(data), blockframe.PutOptions{Attr: attr})
			require.NoError(t, err)
			require.EqualValues(t, 1, obj.Version, "size %d", size)
		}
		attr.Mode = 0o644
		obj, err := st.Put(ctx, name, bytes.NewReader(data), blockframe.PutOptions{Attr: attr})
		require.NoError(t, err)
		require.EqualValues(t, 2, obj.Version, "size %d, another mode", size)
	}
}

func TestExpectations(t *testing.T) {
	ctx := context.Background()
	st := fresh(t, 1)
	once := func(opts blockframe.PutOptions, text string) error {
		_, err := st.Put(ctx, "f", bytes.NewReader([]byte(text)), opts)
		return err
	}
	require.NoError(t, once(blockframe.PutOptions{IfAbsent: true}, "1"))
	require.ErrorIs(t, once(blockframe.PutOptions{IfAbsent: true}, "2"), blockframe.ErrConflict)
	require.ErrorIs(t, once(blockframe.PutOptions{IfVersion: 2}, "2"), blockframe.ErrConflict)
	require.NoError(t, once(blockframe.PutOptions{IfVersion: 1}, "2"))
	require.ErrorIs(t, once(blockframe.PutOptions{Size: 3}, "22"), io.ErrUnexpectedEOF)
	require.ErrorIs(t, once(blockframe.PutOptions{Size: 1}, "22"), io.ErrUnexpectedEOF)
	require.ErrorIs(t, once(blockframe.PutOptions{ID: blockframe.ID{1}}, "3"), blockframe.ErrCorrupt)
	require.NoError(t, once(blockframe.PutOptions{ID: blake3.Sum256([]byte("3")), Size: 1}, "3"))
	require.Equal(t, "3", string(get(t, st, "f", 0)))
}

// Delete hides a name and keeps its versions; purge drops them.
func TestDeleteAndPurge(t *testing.T) {
	ctx := context.Background()
	st := fresh(t, 1)
	put(t, st, "f", []byte("1"))
	put(t, st, "f", []byte("2"))
	require.NoError(t, st.Delete(ctx, "f", blockframe.DeleteOptions{}))
	require.ErrorIs(t, st.Delete(ctx, "f", blockframe.DeleteOptions{}), fs.ErrNotExist)
	_, err := st.Stat(ctx, "f")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Empty(t, names(t, st))
	require.Equal(t, "1", string(get(t, st, "f", 1)))

	require.NoError(t, st.Hold(ctx, "f", 1, true))
	require.ErrorIs(t, st.Delete(ctx, "f", blockframe.DeleteOptions{All: true}), blockframe.ErrRetained)
	require.ErrorIs(t, st.Delete(ctx, "f", blockframe.DeleteOptions{Version: 1}), blockframe.ErrRetained)
	require.NoError(t, st.Delete(ctx, "f", blockframe.DeleteOptions{Version: 2}))
	_, err = st.OpenVersion(ctx, "f", 2)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, st.Hold(ctx, "f", 1, false))
	require.NoError(t, st.Delete(ctx, "f", blockframe.DeleteOptions{All: true}))
	_, err = st.OpenVersion(ctx, "f", 1)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorIs(t, st.Delete(ctx, "f", blockframe.DeleteOptions{All: true, Version: 1}), fs.ErrInvalid)

	put(t, st, "kept", []byte("3"))
	require.NoError(t, st.Retain(ctx, "kept", 0, time.Now().Add(time.Hour)))
	require.ErrorIs(t, st.Retain(ctx, "kept", 0, time.Now().Add(time.Minute)), blockframe.ErrRetained)
	require.ErrorIs(t, st.Delete(ctx, "kept", blockframe.DeleteOptions{All: true}), blockframe.ErrRetained)
	require.Equal(t, "3", string(get(t, st, "kept", 0)))
}

func TestRename(t *testing.T) {
	ctx := context.Background()
	st := fresh(t, 1)
	before := put(t, st, "a/b/c", []byte("1"))
	put(t, st, "a/d", []byte("2"))
	require.NoError(t, st.Rename(ctx, "a/b/c", "x/y"))
	after, err := st.Stat(ctx, "x/y")
	require.NoError(t, err)
	require.Equal(t, before.Inode, after.Inode)
	require.Equal(t, before.Version, after.Version)
	_, err = st.Stat(ctx, "a/b/c")
	require.ErrorIs(t, err, fs.ErrNotExist)

	require.ErrorIs(t, st.Rename(ctx, "x/y", "a/d"), fs.ErrExist)
	require.ErrorIs(t, st.Rename(ctx, "nothing", "z"), fs.ErrNotExist)
	require.ErrorIs(t, st.Rename(ctx, "a", "a/b/inside"), fs.ErrInvalid)
	require.ErrorIs(t, st.Rename(ctx, "x/y", "../z"), fs.ErrInvalid)

	require.NoError(t, st.Rename(ctx, "a", "moved"))
	require.Equal(t, "2", string(get(t, st, "moved/d", 0)))
	require.Equal(t, []string{"moved", "moved/b", "moved/d", "x", "x/y"}, names(t, st))
}

func TestDirectoriesAndLinks(t *testing.T) {
	ctx := context.Background()
	st := fresh(t, 1)
	require.NoError(t, st.Mkdir(ctx, "d", &blockframe.Attr{Mode: 0o700, UID: 3, ModTime: time.Unix(5, 6)}))
	require.ErrorIs(t, st.Mkdir(ctx, "d", nil), fs.ErrExist)
	require.NoError(t, st.MkdirAll(ctx, "d/e/f", nil))
	require.NoError(t, st.MkdirAll(ctx, "d/e/f", nil))
	obj, err := st.Stat(ctx, "d")
	require.NoError(t, err)
	require.Equal(t, fs.ModeDir|0o700, obj.Mode)
	require.True(t, obj.ModTime.Equal(time.Unix(5, 6)))
	require.ErrorIs(t, st.Rmdir(ctx, "d"), blockframe.ErrNotEmpty)
	require.NoError(t, st.Rmdir(ctx, "d/e/f"))
	_, err = st.Stat(ctx, "d/e/f")
	require.ErrorIs(t, err, fs.ErrNotExist)

	link, err := st.Symlink(ctx, "d/link", "../elsewhere", nil)
	require.NoError(t, err)
	require.Equal(t, "../elsewhere", link.Target)
	_, err = st.Open(ctx, "d/link")
	require.ErrorIs(t, err, fs.ErrInvalid)
	_, err = st.Open(ctx, "d")
	require.ErrorIs(t, err, fs.ErrInvalid)

	put(t, st, "d/file", []byte("1"))
	_, err = st.Put(ctx, "d/file/below", bytes.NewReader(nil), blockframe.PutOptions{})
	require.ErrorIs(t, err, fs.ErrInvalid, "a name whose prefix is an object")
	_, err = st.Put(ctx, "d", bytes.NewReader(nil), blockframe.PutOptions{})
	require.Error(t, err, "a directory is not replaced")
	require.Equal(t, []string{"d", "d/e", "d/file", "d/link"}, names(t, st))
}

func TestAttributes(t *testing.T) {
	ctx := context.Background()
	opts := blockframe.Options{Dirs: dirs(t, 1)}
	st := open(t, opts)
	began := time.Now()
	obj := put(t, st, "f", []byte("1"))
	require.Equal(t, fs.FileMode(0o644), obj.Mode)
	require.Equal(t, uint32(max(os.Getuid(), 0)), obj.UID)
	require.Equal(t, uint32(max(os.Getgid(), 0)), obj.GID)
	require.WithinRange(t, obj.ModTime, began.Add(-time.Second), time.Now().Add(time.Second))

	mode, when := 0o711|fs.ModeSetuid, time.Unix(1_234_567_890, 987_654_321)
	obj, err := st.SetAttr(ctx, "f", blockframe.AttrChange{Mode: &mode, ModTime: &when, Xattrs: map[string][]byte{"user.k": {0, 1, 255}}})
	require.NoError(t, err)
	require.NoError(t, st.Close())
	st = open(t, opts)
	got, err := st.Stat(ctx, "f")
	require.NoError(t, err)
	require.Equal(t, obj.Version, got.Version)
	require.EqualValues(t, 1, got.Version)
	require.Equal(t, 0o711|fs.ModeSetuid, got.Mode)
	require.True(t, when.Equal(got.ModTime))
	require.Equal(t, map[string][]byte{"user.k": {0, 1, 255}}, got.Xattrs)
	require.Equal(t, uint32(max(os.Getuid(), 0)), got.UID)
}
