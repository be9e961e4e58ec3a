package blockframe_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/blake3"

	"github.com/blockframe/blockframe"
)

// requireUntouched checks that nothing was added to a store.
func requireUntouched(t *testing.T, st *blockframe.Store, want []string) {
	t.Helper()
	require.Equal(t, want, names(t, st))
	rep, err := st.Scrub(context.Background(), blockframe.ScrubOptions{Deep: true})
	require.NoError(t, err)
	require.True(t, rep.Clean(), "%+v", rep)
}

// T5: a source that does not exist, or is no file, is an error and changes nothing.
func TestPutFileThatIsNot(t *testing.T) {
	ctx := context.Background()
	st := fresh(t, 1)
	put(t, st, "here", []byte("1"))
	_, err := st.PutFile(ctx, "f", filepath.Join(t.TempDir(), "nothing"), blockframe.PutOptions{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = st.PutFile(ctx, "f", t.TempDir(), blockframe.PutOptions{})
	require.ErrorIs(t, err, fs.ErrInvalid)
	requireUntouched(t, st, []string{"here"})
}

func TestPutFile(t *testing.T) {
	ctx := context.Background()
	st := fresh(t, 1)
	for _, size := range []int{0, 1, 4096, 100_000, 1 << 20} {
		path := filepath.Join(t.TempDir(), "source")
		data := content(3, size)
		require.NoError(t, os.WriteFile(path, data, 0o640))
		when := time.Unix(1_600_000_000, 123_456_789)
		require.NoError(t, os.Chtimes(path, when, when))
		attr, err := blockframe.ReadAttr(path)
		require.NoError(t, err)
		obj, err := st.PutFile(ctx, "f", path, blockframe.PutOptions{})
		require.NoError(t, err)
		require.Equal(t, attr.Mode, obj.Mode)
		require.Equal(t, attr.UID, obj.UID)
		require.True(t, when.Equal(obj.ModTime), "%v", obj.ModTime)
		requireBytes(t, data, get(t, st, "f", 0))
		again, err := st.PutFile(ctx, "f", path, blockframe.PutOptions{})
		require.NoError(t, err)
		require.Equal(t, obj.Version, again.Version, "nothing changed")
	}
}

// spoiled is a file that is changed when so many bytes of it were read.
type spoiled struct {
	*os.File
	after int64
	spoil func()
	read  int64
}

func (s *spoiled) Read(p []byte) (int, error) {
	n, err := s.File.Read(p[:min(len(p), 100_000)])
	if s.read += int64(n); s.read >= s.after && s.spoil != nil {
		s.spoil()
		s.spoil = nil
	}
	return n, err
}

// R10: a source that is modified, truncated or extended while it is read gives an
// error and no object, whatever its size.
func TestSourceChanges(t *testing.T) {
	ctx := context.Background()
	st := fresh(t, 3)
	put(t, st, "here", []byte("1"))
	for _, size := range []int{100, 200_000, 3 << 20} {
		for what, spoil := range map[string]func(path string) error{
			"truncated": func(path string) error { return os.Truncate(path, int64(size/3)) },
			"emptied":   func(path string) error { return os.Truncate(path, 0) },
			"extended": func(path string) error {
				f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
				if err != nil {
					return err
				}
				_, err = f.Write([]byte("more"))
				return errors.Join(err, f.Close())
			},
			"modified": func(path string) error {
				f, err := os.OpenFile(path, os.O_WRONLY, 0)
				if err != nil {
					return err
				}
				_, err = f.WriteAt([]byte("other"), 3)
				return errors.Join(err, f.Close())
			},
		} {
			path := filepath.Join(t.TempDir(), "source")
			require.NoError(t, os.WriteFile(path, content(1, size), 0o600))
			f, err := os.Open(path)
			require.NoError(t, err)
			_, err = st.Put(ctx, "f", &spoiled{File: f, after: int64(size / 2), spoil: func() { require.NoError(t, spoil(path)) }}, blockframe.PutOptions{})
			require.Error(t, err, "%s at %d bytes", what, size)
			require.True(t, errors.Is(err, blockframe.ErrChanged) || errors.Is(err, io.ErrUnexpectedEOF), "%s: %v", what, err)
			require.ErrorContains(t, err, "put f", what)
			require.NoError(t, f.Close())
		}
	}
	requireUntouched(t, st, []string{"here"})
}

type failing struct {
	io.Reader
	err error
}

func (f failing) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if err == io.EOF {
		err = f.err
	}
	return n, err
}

// A source that fails, and a context that ends, leave nothing.
func TestSourceFails(t *testing.T) {
	ctx := context.Background()
	st := fresh(t, 3)
	broken := errors.New("the cable was pulled")
	for _, size := range []int{0, 100, 200_000, 2 << 20} {
		_, err := st.Put(ctx, "f", failing{bytes.NewReader(content(1, size)), broken}, blockframe.PutOptions{})
		require.ErrorIs(t, err, broken)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	_, err := st.Put(gone, "f", strings.NewReader("1"), blockframe.PutOptions{})
	require.ErrorIs(t, err, context.Canceled)
	_, err = st.Put(gone, "f", bytes.NewReader(content(1, 1<<20)), blockframe.PutOptions{})
	require.ErrorIs(t, err, context.Canceled)
	requireUntouched(t, st, nil)
	put(t, st, "after", content(1, 1<<20))
	require.Zero(t, st.Stats().Queued, "who gives up says nothing of the disks")
}

// R14: names that would lead out of the store, or could not be shown, are refused
// with the reason before anything is read.
func TestHostileNames(t *testing.T) {
	ctx := context.Background()
	st := fresh(t, 1)
	for _, name := range []string{"", ".", "..", "/", "/etc/x", "../../x", "a/../b", "a//b", "a/", "./a", "a/./b", "a\x00b", "\xff\xfe", "a/\xc3\x28",
		strings.Repeat("x", 256), strings.Repeat("a/", 2048) + "b", "lost+found", "lost+found/x", ".versions/f/1"} {
		_, err := st.Put(ctx, name, unread{t}, blockframe.PutOptions{})
		require.ErrorIs(t, err, fs.ErrInvalid, "%q", name)
		_, err = st.Create(ctx, name, blockframe.PutOptions{})
		require.ErrorIs(t, err, fs.ErrInvalid, "%q", name)
		require.ErrorIs(t, st.Mkdir(ctx, name, nil), fs.ErrInvalid, "%q", name)
		_, err = st.Symlink(ctx, name, "x", nil)
		require.ErrorIs(t, err, fs.ErrInvalid, "%q", name)
		b := st.Batch(ctx)
		require.ErrorIs(t, b.Put(name, unread{t}, blockframe.PutOptions{}), fs.ErrInvalid, "%q", name)
		b.Abort()
	}
	for _, name := range []string{strings.Repeat("x", 255), strings.Repeat("aaaaaaa/", 511) + "b", "sp ace#?%&*", "ünïcödé/日本", "back\\slash", "new\nline", "-rf", "a/lost+found/b"} {
		put(t, st, name, []byte(name))
		require.Equal(t, name, string(get(t, st, name, 0)))
	}
}

// unread fails the test when it is read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the source was read")
	return 0, io.EOF
}

// R8: the same object put by eight at once is one object, and all succeed.
func TestSamePutAtOnce(t *testing.T) {
	ctx := context.Background()
	for _, size := range []int{100, 100_000, 1 << 20} {
		st := fresh(t, 3)
		data := content(7, size)
		attr := &blockframe.Attr{Mode: 0o644, ModTime: time.Unix(1, 2)}
		var wg sync.WaitGroup
		errs, objs := make([]error, 8), make([]blockframe.Object, 8)
		for i := range 8 {
			wg.Go(func() {
				objs[i], errs[i] = st.Put(ctx, "f", bytes.NewReader(data), blockframe.PutOptions{Attr: attr})
			})
		}
		wg.Wait()
		require.NoError(t, errors.Join(errs...))
		for _, obj := range objs {
			require.EqualValues(t, 1, obj.Version)
			require.Equal(t, objs[0].ID, obj.ID)
		}
		require.EqualValues(t, 1, st.Stats().Contents)
		requireBytes(t, data, get(t, st, "f", 0))

		// And again after a put that failed half way.
		_, err := st.Put(ctx, "f", failing{bytes.NewReader(data[:size/2]), io.ErrNoProgress}, blockframe.PutOptions{Attr: attr})
		require.ErrorIs(t, err, io.ErrNoProgress)
		obj, err := st.Put(ctx, "f", bytes.NewReader(data), blockframe.PutOptions{Attr: attr})
		require.NoError(t, err)
		require.EqualValues(t, 1, obj.Version)
		requireUntouched(t, st, []string{"f"})
	}
}

// R16: two names whose CRC32 is the same are two objects; deleting one for good
// leaves the other.
func TestNamesWithOneCRC(t *testing.T) {
	ctx := context.Background()
	st := fresh(t, 1)
	a, b := "media/movies/film_96849370.mkv", "media/movies/film_143183439.mkv"
	put(t, st, a, content(1, 300_000))
	put(t, st, b, content(2, 300_000))
	require.NoError(t, st.Delete(ctx, a, blockframe.DeleteOptions{All: true}))
	_, err := st.Collect(ctx, blockframe.CollectOptions{})
	require.NoError(t, err)
	requireBytes(t, content(2, 300_000), get(t, st, b, 0))
	_, err = st.Stat(ctx, a)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestWriter(t *testing.T) {
	ctx := context.Background()
	st := fresh(t, 1)
	for _, size := range []int{0, 10, 100_000, 2 << 20} {
		w, err := st.Create(ctx, "f", blockframe.PutOptions{})
		require.NoError(t, err)
		data := content(byte(size), size)
		_, err = io.CopyBuffer(struct{ io.Writer }{w}, bytes.NewReader(data), make([]byte, 1000))
		require.NoError(t, err)
		obj, err := w.Commit()
		require.NoError(t, err)
		require.EqualValues(t, size, obj.Size)
		again, err := w.Commit()
		require.NoError(t, err)
		require.Equal(t, obj, again)
		require.NoError(t, w.Abort())
		requireBytes(t, data, get(t, st, "f", 0))
	}
	before := names(t, st)

	w, err := st.Create(ctx, "aborted", blockframe.PutOptions{})
	require.NoError(t, err)
	_, err = w.Write(content(1, 1<<20))
	require.NoError(t, err)
	require.NoError(t, w.Abort())
	_, err = w.Commit()
	require.Error(t, err)
	_, err = w.Write([]byte("x"))
	require.Error(t, err)

	short, cancel := context.WithCancel(ctx)
	w, err = st.Create(short, "cancelled", blockframe.PutOptions{})
	require.NoError(t, err)
	cancel()
	_, err = w.Commit()
	require.ErrorIs(t, err, context.Canceled)
	requireUntouched(t, st, before)

	w, err = st.Create(ctx, "late", blockframe.PutOptions{})
	require.NoError(t, err)
	require.NoError(t, st.Close())
	require.NoError(t, st.Close())
	_, err = w.Commit()
	require.ErrorIs(t, err, fs.ErrClosed)
	_, err = st.Create(ctx, "later", blockframe.PutOptions{})
	require.ErrorIs(t, err, fs.ErrClosed)
	_, err = st.Put(ctx, "later", strings.NewReader("1"), blockframe.PutOptions{})
	require.ErrorIs(t, err, fs.ErrClosed)
	_, err = st.Stat(ctx, "f")
	require.ErrorIs(t, err, fs.ErrClosed)
}

// A batch takes effect as a whole or not at all.
func TestBatch(t *testing.T) {
	ctx := context.Background()
	st := fresh(t, 3)
	put(t, st, "old", []byte("1"))
	b := st.Batch(ctx)
	for _, size := range []int{0, 1, 5000, 70_000, 1 << 20} {
		require.NoError(t, b.Put("in/"+string(rune('a'+b.Len())), bytes.NewReader(content(byte(size), size)), blockframe.PutOptions{}))
	}
	require.NoError(t, b.Mkdir("empty/dir", nil))
	require.NoError(t, b.Symlink("in/link", "a", nil))
	require.NoError(t, b.Rename("old", "renamed"))
	require.Equal(t, 8, b.Len())
	require.Equal(t, []string{"old"}, names(t, st), "nothing is visible before Commit")
	objs, err := b.Commit()
	require.NoError(t, err)
	require.Len(t, objs, 8)
	require.Equal(t, "in/a", objs[0].Name)
	require.Equal(t, []string{"empty", "empty/dir", "in", "in/a", "in/b", "in/c", "in/d", "in/e", "in/link", "renamed"}, names(t, st))
	for i, size := range []int{0, 1, 5000, 70_000, 1 << 20} {
		requireBytes(t, content(byte(size), size), get(t, st, "in/"+string(rune('a'+i)), 0))
	}

	before := names(t, st)
	b = st.Batch(ctx)
	require.NoError(t, b.Put("new", strings.NewReader("1"), blockframe.PutOptions{}))
	require.NoError(t, b.Delete("nothing"))
	_, err = b.Commit()
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Equal(t, before, names(t, st), "all or nothing")
	b = st.Batch(ctx)
	require.NoError(t, b.Put("new", bytes.NewReader(content(1, 100_000)), blockframe.PutOptions{}))
	b.Abort()
	requireUntouched(t, st, before)
}

// Sources that block, make no progress or lie end with an error, and leave nothing.
func TestSourcesThatMisbehave(t *testing.T) {
	st := fresh(t, 3)
	for _, read := range []int{0, 100, 10_000, 1 << 20} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		pr, pw := io.Pipe()
		go pw.Write(content(1, read))
		_, err := st.Put(ctx, "blocks", pr, blockframe.PutOptions{})
		require.ErrorIs(t, err, context.DeadlineExceeded, "after %d bytes", read)
		b := st.Batch(ctx)
		require.ErrorIs(t, b.Put("blocks", pr, blockframe.PutOptions{}), context.DeadlineExceeded)
		b.Abort()
		cancel()
		pw.Close()
	}
	for name, c := range map[string]struct {
		read func(p []byte) (int, error)
		want error
	}{
		"sleeps": {func([]byte) (int, error) { return 0, nil }, io.ErrNoProgress},
		"boasts": {func(p []byte) (int, error) { return len(p) + 1, nil }, fs.ErrInvalid},
		"owes":   {func([]byte) (int, error) { return -1, nil }, fs.ErrInvalid},
	} {
		_, err := st.Put(t.Context(), name, readerFunc(c.read), blockframe.PutOptions{})
		require.ErrorIs(t, err, c.want, name)
	}
	require.PanicsWithValue(t, "mine", func() {
		st.Put(t.Context(), "panics", readerFunc(func([]byte) (int, error) { panic("mine") }), blockframe.PutOptions{})
	}, "in the goroutine of the caller, who may recover")
	_, err := st.Put(t.Context(), "negative", strings.NewReader("x"), blockframe.PutOptions{Size: -1})
	require.ErrorIs(t, err, fs.ErrInvalid)
	require.Zero(t, st.Stats().Objects)

	data := content(2, 3<<20+7)
	for i, r := range []io.Reader{iotest.OneByteReader(bytes.NewReader(data[:5000])), iotest.HalfReader(bytes.NewReader(data)), iotest.DataErrReader(bytes.NewReader(data[:70_000]))} {
		obj, err := st.Put(t.Context(), fmt.Sprint("odd", i), r, blockframe.PutOptions{})
		require.NoError(t, err)
		require.Equal(t, blockframe.ID(blake3.Sum256(data[:obj.Size])), obj.ID)
	}
}

// readerFunc is a reader.
type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
