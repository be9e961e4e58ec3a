package dir_test

import (
	"bytes"
	"io/fs"
	"os"
	"path"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/dir"
	"github.com/blockframe/blockframe/store/storetest"
)

func TestMissingOrEmptyIsNotExist(t *testing.T) {
	each(t, func(t *testing.T, fsys durable.FS, root string) {
		missing := func() {
			t.Helper()
			_, err := dir.Open(fsys, root, dir.Options{})
			require.ErrorIs(t, err, fs.ErrNotExist)
			require.NotErrorIs(t, err, store.ErrCorrupt)
			require.ErrorContains(t, err, root)
			_, err = dir.ReadIdentity(fsys, root)
			require.ErrorIs(t, err, fs.ErrNotExist)
		}
		missing()
		require.NoError(t, fsys.MkdirAll(root))
		missing()
		require.NoError(t, fsys.MkdirAll(path.Join(root, "lost+found"))) // a fresh filesystem
		require.NoError(t, fsys.MkdirAll(path.Join(root, "data/00")))    // an Init cut short
		missing()
		require.NoError(t, dir.Init(fsys, root, dir.InitOptions{Store: storeID}))
		id, err := dir.ReadIdentity(fsys, root)
		require.NoError(t, err)
		require.Equal(t, storeID, id.Store)
		require.False(t, id.Disk.IsZero())
	})
}

func TestInitLeavesWhatIsThereAlone(t *testing.T) {
	each(t, func(t *testing.T, fsys durable.FS, root string) {
		require.NoError(t, fsys.MkdirAll(root))
		require.NoError(t, durable.WriteFile(fsys, path.Join(root, "letter.txt"), nil))
		err := dir.Init(fsys, root, dir.InitOptions{})
		require.ErrorIs(t, err, fs.ErrExist)
		require.ErrorContains(t, err, "letter.txt")
		names, err := fsys.List(root)
		require.NoError(t, err)
		require.Equal(t, []string{"letter.txt"}, names)
		require.NoError(t, fsys.Remove(path.Join(root, "letter.txt")))

		b := open(t, fsys, root, dir.Options{})
		put(t, b, 1, nil)
		require.ErrorIs(t, dir.Init(fsys, root, dir.InitOptions{}), fs.ErrExist)
		require.NoError(t, b.Close())
		require.NoError(t, fsys.Remove(path.Join(root, "id")))
		err = dir.Init(fsys, root, dir.InitOptions{})
		require.ErrorIs(t, err, fs.ErrExist, "blobs without an identity")
		require.ErrorContains(t, err, string(storetest.Key(1)))
		_, err = dir.Open(fsys, root, dir.Options{})
		require.ErrorIs(t, err, store.ErrCorrupt)
		require.NotErrorIs(t, err, fs.ErrNotExist)
		require.ErrorContains(t, err, path.Join(root, "id"))
	})
}

func TestFormatText(t *testing.T) {
	fsys := durable.Mem(vfs.NewMem())
	open(t, fsys, "/d", dir.Options{})
	text, err := durable.ReadFile(fsys, "/d/FORMAT.txt", 10_000)
	require.NoError(t, err)
	for _, want := range []string{diskID.String(), "5a010203", "store/format.go", "github.com/blockframe/blockframe"} {
		require.Contains(t, string(text), want)
	}
	for _, c := range text {
		require.True(t, c == '\n' || c >= ' ' && c < 0x7f, "plain ASCII")
	}
	for line := range bytes.Lines(text) {
		require.LessOrEqual(t, len(line), 81)
	}
}

// The golden file was written by version 1 and is never written again.
func TestIdentityGolden(t *testing.T) {
	want, err := os.ReadFile("testdata/id-v1")
	require.NoError(t, err)
	id := dir.Identity{Store: storeID, Disk: diskID}
	require.True(t, bytes.Equal(want, id.Encode()))
	got, err := dir.DecodeIdentity(want[:4096])
	require.NoError(t, err)
	require.Equal(t, id, got)
}

// Every byte changed and every length but the right one is found out.
func TestIdentityDamage(t *testing.T) {
	good := dir.Identity{Store: storeID, Disk: diskID}.Encode()[:4096]
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		_, err := dir.DecodeIdentity(bad)
		require.Error(t, err, "byte %d", i)
		if i < 8 || i > 9 { // else it is another version
			require.ErrorIs(t, err, store.ErrCorrupt)
		}
		_, err = dir.DecodeIdentity(good[:i])
		require.ErrorIs(t, err, store.ErrCorrupt, "%d bytes", i)
	}
	_, err := dir.DecodeIdentity(append(bytes.Clone(good), 0))
	require.ErrorIs(t, err, store.ErrCorrupt)
}

// One copy of the identity may be lost; it is renewed.
func TestIdentityIsHealed(t *testing.T) { // R5
	each(t, func(t *testing.T, fsys durable.FS, root string) {
		require.NoError(t, open(t, fsys, root, dir.Options{}).Close())
		name := path.Join(root, "id")
		good, err := durable.ReadFile(fsys, name, 1<<20)
		require.NoError(t, err)
		for _, damage := range []func([]byte) []byte{
			func(b []byte) []byte { b[30] ^= 4; return b },
			func(b []byte) []byte { b[4096+9] ^= 4; return b },
			func(b []byte) []byte { return b[:5000] },
			func(b []byte) []byte { return append(b, 1) },
			func(b []byte) []byte { clear(b[:4096]); return b },
		} {
			require.NoError(t, durable.WriteFile(fsys, name, damage(bytes.Clone(good))))
			b := reopen(t, fsys, root, dir.Options{})
			require.Equal(t, diskID, b.ID())
			require.NoError(t, b.Close())
			now, err := durable.ReadFile(fsys, name, 1<<20)
			require.NoError(t, err)
			require.Equal(t, good, now)
		}
		both := bytes.Clone(good)
		both[100], both[4096+100] = 1, 1
		for content, want := range map[string]error{
			"": store.ErrCorrupt, string(both): store.ErrCorrupt, string(make([]byte, 2<<20)): store.ErrCorrupt,
			string(fromTheFuture(good)): store.ErrVersion,
		} {
			require.NoError(t, durable.WriteFile(fsys, name, []byte(content)))
			_, err := dir.Open(fsys, root, dir.Options{})
			require.ErrorIs(t, err, want)
			require.ErrorContains(t, err, name)
		}
	})
}

// fromTheFuture returns an identity of version 2 whose hashes are right.
func fromTheFuture(good []byte) []byte {
	one := bytes.Clone(good[:4096])
	one[9] = 2
	sum := frame.Sum(one[:4064])
	copy(one[4064:], sum[:])
	return append(one, one...)
}

func FuzzIdentity(f *testing.F) {
	good := dir.Identity{Store: storeID, Disk: diskID}.Encode()[:4096]
	f.Add(good)
	f.Add(fromTheFuture(good)[:4096])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := dir.DecodeIdentity(b)
		if err == nil {
			require.Equal(t, b, id.Encode()[:4096])
		}
	})
}
