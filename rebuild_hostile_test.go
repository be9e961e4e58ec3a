package blockframe_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"github.com/zeebo/blake3"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/internal/durable"
)

// forge changes the shards whose manifests hold a text, and makes all their hashes right
// again, as somebody can who knows the format.
func forge(t testing.TB, fsys durable.FS, dirs []string, holds string, change func(b []byte)) {
	t.Helper()
	list, err := blobs(fsys, dirs)
	require.NoError(t, err)
	n := 0
	for _, name := range list {
		b, err := durable.ReadFile(fsys, name, 1<<30)
		require.NoError(t, err)
		tail := b[len(b)-4096:]
		at, size := binary.BigEndian.Uint64(tail[152:]), binary.BigEndian.Uint64(tail[160:])
		if !bytes.Contains(b[at:at+size], []byte(holds)) {
			continue
		}
		n++
		change(b)
		sum := blake3.Sum256(b[at : at+size])
		copy(tail[320:], sum[:])
		sum = blake3.Sum256(tail[:4056])
		copy(tail[4056:], sum[:])
		sum = blake3.Sum256(b[:4064])
		copy(b[4064:], sum[:])
		overwrite(t, fsys, name, b)
	}
	require.Positive(t, n, holds)
}

func overwrite(t testing.TB, fsys durable.FS, name string, b []byte) {
	t.Helper()
	_ = fsys.Remove(name)
	require.NoError(t, fsys.MkdirAll(path.Dir(name)))
	f, err := fsys.Create(name, durable.CreateOptions{})
	require.NoError(t, err)
	_, err = f.Write(b)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// swap replaces a text in a shard by one of the same length.
func swap(t testing.TB, old, new string) func([]byte) {
	require.Len(t, new, len(old))
	return func(b []byte) { copy(b[bytes.LastIndex(b, []byte(old)):], new) }
}

// R14, R7: shards that somebody forged, and files that are none, keep nothing else from
// being restored; names that lead out of lost+found are refused, and all is told of.
func TestRebuildHostile(t *testing.T) {
	fsys := durable.Mem(vfs.NewCrashableMem())
	opts := spread(fsys, 3)
	names := []string{"updirs/x", "rooted", "isnull", "claims", "sizes", "epoch", "wide", "stranger", "tinypack", "fine", "alsofine"}
	acts(t, opts, func(ctx context.Context, st *blockframe.Store) {
		for i, name := range names {
			size := 300_000 + i
			if strings.HasSuffix(name, "pack") {
				size = 30_000
			}
			putTo(t, st, name, content(byte(i), size))
		}
	})
	loseLogs(t, fsys, opts.Dirs)
	at := func(name, part string) string { return `"name":"` + name + `"` + part }
	text := func(name, as string) {
		forge(t, fsys, opts.Dirs, at(name, ""), swap(t, at(name, ""), at(as, "")))
	}
	both := func(name string, change func(page []byte)) { // header and trailer
		forge(t, fsys, opts.Dirs, at(name, ""), func(b []byte) { change(b); change(b[len(b)-4096:]) })
	}
	text("updirs/x", "../../.x")
	text("rooted", "/etc/x")
	text("isnull", `\u0000`)
	text("tinypack", "../../.y")
	forge(t, fsys, opts.Dirs, at("claims", ""), swap(t, `"id":"b3:`, `"id":"b4:`))
	forge(t, fsys, opts.Dirs, at("sizes", ""), swap(t, fmt.Sprintf(`"size":%d`, 300_004), `"size":300005`))
	both("epoch", func(p []byte) { p[72] = 0xff })
	both("wide", func(p []byte) { p[82], p[83] = 200, 100 })
	both("stranger", func(p []byte) { p[20] ^= 1 })
	for i := range 300 { // keys of nothing
		key := fmt.Sprintf("%032x-%02x-%08x-%016x-%032x", i, i%200, i, i, i+1)
		id := make([]byte, 16)
		id[14], id[15] = byte(i>>8), byte(i)
		sum := blake3.Sum256(id)
		overwrite(t, fsys, path.Join(opts.Dirs[i%3], "data", fmt.Sprintf("%02x", sum[0]), key), make([]byte, i%3*4096))
	}
	overwrite(t, fsys, path.Join(opts.Dirs[0], "data", "00", "note.txt"), []byte("not ours"))

	rep, found := rebuilt(t, opts, blockframe.RebuildOptions{})
	require.EqualValues(t, 3, rep.Named, "%q", brief(found)) // fine, alsofine, and the NUL under a name of ours
	require.EqualValues(t, 1, rep.Strange)
	told := strings.Join(brief(found), "\n")
	for _, want := range []string{"incomplete ../../.x", `name "../../.x"`, `name "/etc/x"`, "incomplete ../../.y", "incomplete claims", "incomplete sizes",
		"the extents do not make up the content", "no shard of it has a sound trailer"} {
		require.Contains(t, told, want)
	}
	acts(t, opts, func(ctx context.Context, st *blockframe.Store) {
		n := 0
		for obj, err := range st.List(ctx, "", blockframe.ListOptions{}) {
			require.NoError(t, err)
			require.True(t, obj.Name == "lost+found" || strings.HasPrefix(obj.Name, "lost+found/"), obj.Name)
			if obj.Mode.IsRegular() {
				n++
				_, err := readAll(ctx, st, obj.Name, 0)
				require.NoError(t, err)
			}
		}
		require.Equal(t, 3, n)
		for i, name := range names[9:] {
			b, err := readAll(ctx, st, "lost+found/"+name, 0)
			require.NoError(t, err)
			require.True(t, bytes.Equal(content(byte(9+i), 300_009+i), b))
		}
	})
	again, found := rebuilt(t, opts, blockframe.RebuildOptions{})
	require.False(t, again.Adoptable(), "%v", brief(found))
	require.Equal(t, rep.Incomplete, again.Incomplete)
}

// R5, one at a time: the log is there, and what is lost beside it comes back by itself;
// rebuild finds nothing to do.
func TestRebuildOneLoss(t *testing.T) {
	for name, lose := range map[string]func(t *testing.T, fsys durable.FS, opts blockframe.Options){
		"view": func(t *testing.T, fsys durable.FS, opts blockframe.Options) {
			for _, d := range opts.Dirs {
				require.NoError(t, fsys.RemoveAll(path.Join(d, "view")))
			}
		},
		"file of the view": func(t *testing.T, fsys durable.FS, opts blockframe.Options) {
			for name, what := range onDisk(t, fsys, within(opts.Dirs, "view")) {
				if strings.HasSuffix(name, ".sst") && what != "directory" {
					require.NoError(t, flip(fsys, name, 20, 0xff))
				}
			}
		},
		"copy of the log": func(t *testing.T, fsys durable.FS, opts blockframe.Options) {
			for name := range onDisk(t, fsys, within(opts.Dirs[:1], "log")) {
				if strings.HasSuffix(name, ".log") {
					require.NoError(t, flip(fsys, name, 9000, 0xff))
				}
			}
		},
		"manifests of a shard": func(t *testing.T, fsys durable.FS, opts blockframe.Options) {
			list, err := blobs(fsys, opts.Dirs[:1])
			require.NoError(t, err)
			for _, name := range list {
				b, err := durable.ReadFile(fsys, name, 1<<30)
				require.NoError(t, err)
				off := int64(binary.BigEndian.Uint64(b[len(b)-4096+152:]))
				require.NoError(t, flip(fsys, name, off+5, 1))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := durable.Mem(vfs.NewCrashableMem())
			opts := spread(fsys, 3)
			var want string
			acts(t, opts, func(ctx context.Context, st *blockframe.Store) {
				for i, n := range []string{"a/stream", "a/extents", "b"} {
					putTo(t, st, n, content(byte(i), []int{300_000, mib + 70_000, 30_000}[i]))
				}
				var err error
				want, err = dump(ctx, st, []string{"a/stream", "a/extents", "b"})
				require.NoError(t, err)
			})
			lose(t, fsys, opts)
			rep, found := rebuilt(t, opts, blockframe.RebuildOptions{})
			require.False(t, rep.LogLost || rep.Adoptable() || len(found) > 0, "%+v %v", rep, brief(found))
			require.True(t, rep.Accepted)
			acts(t, opts, func(ctx context.Context, st *blockframe.Store) {
				got, err := dump(ctx, st, []string{"a/stream", "a/extents", "b"})
				require.NoError(t, err)
				require.Equal(t, want, got)
				_, err = st.Scrub(ctx, blockframe.ScrubOptions{Deep: true, Repair: true})
				require.NoError(t, err)
				scrub, err := st.Scrub(ctx, blockframe.ScrubOptions{Deep: true})
				require.NoError(t, err)
				require.True(t, scrub.Clean(), "%+v", scrub)
			})
		})
	}
}
