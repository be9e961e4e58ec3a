package blockframe_test

import (
	"bytes"
	"context"
	"io/fs"
	"path"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/internal/durable"
)

// Tiny files, attributes and names that imitate frames of the log change nothing,
// although they lie in the log where a frame could begin: neither frames of another
// store nor true ones of the same log, and not even when the frame that holds them
// is torn and the scan goes on behind its head.
func TestContentThatImitatesTheLog(t *testing.T) {
	ctx := context.Background()
	other := shoot(t)
	foreign := frames(t, durable.Mem(other.fs), "/d0/log/a")
	m := vfs.NewCrashableMem()
	opts := crashOptions(durable.Mem(m), 1)
	st, err := blockframe.Open(ctx, opts)
	require.NoError(t, err)
	for n := range 4 {
		require.NoError(t, putStep("own/"+string(rune('a'+n)), byte(n), 500).do(ctx, st, nil))
	}
	own := frames(t, durable.Mem(m), "/d0/log/a")
	forged := [][]byte{
		bytesOf(t, other.fs, foreign[len(foreign)-5]),
		bytesOf(t, m, own[len(own)-1]), // of the newest put, to be applied twice
		bytesOf(t, m, own[1]),
	}
	names := []string{"own/a", "own/b", "own/c", "own/d"}
	want, err := dump(ctx, st, names)
	require.NoError(t, err)
	for _, b := range forged {
		pad := 0
		for range 2 { // the second time it lies on the grid
			name := "forged"
			images := putForged(t, st, m, name, b, pad)
			at := lastIndex(t, m, b[:48])
			pad = int((4096 - at%4096) % 4096)
			checkForged(t, images, opts, names, want, name)
			require.NoError(t, st.Delete(ctx, name, blockframe.DeleteOptions{All: true}))
		}
		require.Zero(t, pad, "the imitation lies on the grid")
	}
	require.NoError(t, st.Close())
}

// forgedImages are a store killed behind a put of forged content, and the same with
// the frame that holds it torn in both copies of the log.
type forgedImages struct{ whole, torn *vfs.MemFS }

// putForged puts the bytes of a frame as content of a tiny file and, behind pad
// bytes, as an attribute of it.
func putForged(t *testing.T, st *blockframe.Store, m *vfs.MemFS, name string, b []byte, pad int) (f forgedImages) {
	t.Helper()
	ctx := context.Background()
	a := *attr
	a.Xattrs = map[string][]byte{"user.forged": append(make([]byte, pad), bytes.Repeat(padTo(b, 4096), 3)...)}
	_, err := st.Put(ctx, name, bytes.NewReader(b[:min(len(b), 4096)]), blockframe.PutOptions{Attr: &a})
	require.NoError(t, err)
	f.whole, f.torn = killed(m), killed(m)
	fsys := durable.Mem(f.torn)
	all := frames(t, fsys, "/d0/log/a")
	torn := all[len(all)-1:]
	if torn[0].size == 144 { // an empty frame has proven it meanwhile
		torn = all[len(all)-2:]
	}
	for _, last := range torn {
		for _, member := range []string{"a", "b"} {
			require.NoError(t, flip(fsys, path.Join("/d0/log", member, last.segment), last.off+90, 1))
		}
	}
	return f
}

// checkForged opens what a kill and a tear left: everything is as if the content
// were any other, and the torn put is gone.
func checkForged(t *testing.T, images forgedImages, opts blockframe.Options, names []string, want, name string) {
	t.Helper()
	ctx := context.Background()
	for _, m := range []*vfs.MemFS{images.whole, images.torn} {
		fsys := durable.Mem(m)
		require.NoError(t, fsys.RemoveAll("/d0/view")) // all of the log is read
		st, err := blockframe.Open(ctx, blockframe.WithFS(opts, fsys))
		require.NoError(t, err)
		require.NoError(t, st.ReadOnly())
		obj, err := st.Stat(ctx, name)
		if m == images.whole {
			require.NoError(t, err)
			require.EqualValues(t, 1, obj.Version)
			_, err = readAll(ctx, st, name, 0)
			require.NoError(t, err)
			require.NoError(t, st.Delete(ctx, name, blockframe.DeleteOptions{All: true}))
		} else {
			require.ErrorIs(t, err, fs.ErrNotExist)
		}
		got, err := dump(ctx, st, names)
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.NoError(t, st.Close())
	}
}

func padTo(b []byte, grid int) []byte {
	return append(bytes.Clone(b), make([]byte, (grid-len(b)%grid)%grid)...)
}

// bytesOf returns a frame of the log as it stands on the disk.
func bytesOf(t *testing.T, m *vfs.MemFS, f frameAt) []byte {
	t.Helper()
	b, err := durable.ReadFile(durable.Mem(m), path.Join("/d0/log/a", f.segment), 1<<26)
	require.NoError(t, err)
	return b[f.off : f.off+f.size]
}

// lastIndex returns where the first of the last copies of marker stands in the
// newest segment that has any, but for a true frame.
func lastIndex(t *testing.T, m *vfs.MemFS, marker []byte) int {
	t.Helper()
	fsys := durable.Mem(m)
	names, err := fsys.List("/d0/log/a")
	require.NoError(t, err)
	for i := len(names) - 1; i >= 0; i-- {
		b, err := durable.ReadFile(fsys, path.Join("/d0/log/a", names[i]), 1<<26)
		require.NoError(t, err)
		if at := bytes.LastIndex(b, []byte("user.forged")); at >= 0 {
			return at + bytes.Index(b[at:], marker)
		}
	}
	t.Fatal("the imitation is not in the log")
	return 0
}
