package blockframe_test

import (
	"bytes"
	"context"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/internal/durable"
)

// saved is a copy of directories in memory, to be put back.
type saved map[string][]byte

func save(t testing.TB, fsys durable.FS, dirs ...string) saved {
	t.Helper()
	s := saved{}
	for name, what := range onDisk(t, fsys, dirs) {
		if what != "directory" {
			b, err := durable.ReadFile(fsys, name, 1<<30)
			require.NoError(t, err)
			s[name] = b
		}
	}
	return s
}

// back makes the directories what they were.
func (s saved) back(t testing.TB, fsys durable.FS, dirs ...string) {
	t.Helper()
	for _, d := range dirs {
		require.NoError(t, fsys.RemoveAll(d))
		require.NoError(t, fsys.MkdirAll(d))
	}
	for name, b := range s {
		require.NoError(t, fsys.MkdirAll(path.Dir(name)))
		f, err := fsys.Create(name, durable.CreateOptions{})
		require.NoError(t, err)
		_, err = f.Write(b)
		require.NoError(t, err)
		require.NoError(t, f.Sync())
		require.NoError(t, f.Close())
		require.NoError(t, fsys.SyncDir(path.Dir(name)))
	}
}

// within returns a folder of each directory.
func within(dirs []string, name string) (out []string) {
	for _, d := range dirs {
		out = append(out, path.Join(d, name))
	}
	return out
}

// acts carries out what a test does with an open store.
func acts(t testing.TB, opts blockframe.Options, do func(ctx context.Context, st *blockframe.Store)) {
	t.Helper()
	st, err := blockframe.Open(context.Background(), opts)
	require.NoError(t, err)
	do(context.Background(), st)
	require.NoError(t, st.Close())
}

func putTo(t testing.TB, st *blockframe.Store, name string, data []byte) {
	t.Helper()
	_, err := st.Put(context.Background(), name, bytes.NewReader(data), blockframe.PutOptions{Attr: attr})
	require.NoError(t, err)
}

// A log that was restored from an older copy, with its view, lacks what was put since: that
// comes back below lost+found. What it names stays as it is, and what it declared dead,
// and a disk that was restored from an older copy brings back, stays dead. // R5
func TestRebuildAfterLogWentBack(t *testing.T) {
	fsys := durable.Mem(vfs.NewCrashableMem())
	opts := spread(fsys, 3)
	var disk saved
	acts(t, opts, func(ctx context.Context, st *blockframe.Store) {
		putTo(t, st, "kept", content(1, 300_000))
		putTo(t, st, "dead", content(2, 300_000))
	})
	disk = save(t, fsys, within(opts.Dirs, "data")...)
	acts(t, opts, func(ctx context.Context, st *blockframe.Store) {
		require.NoError(t, st.Delete(ctx, "dead", blockframe.DeleteOptions{All: true}))
		rep, err := st.Collect(ctx, blockframe.CollectOptions{})
		require.NoError(t, err)
		require.EqualValues(t, 3, rep.Blobs)
	})
	logs := append(within(opts.Dirs, "log"), within(opts.Dirs, "view")...)
	old := save(t, fsys, logs...)
	for range 3 { // epochs that the old log does not know
		acts(t, opts, func(context.Context, *blockframe.Store) {})
	}
	acts(t, opts, func(ctx context.Context, st *blockframe.Store) {
		putTo(t, st, "since", content(3, 2*mib+500_000))
		putTo(t, st, "small", content(4, 40_000))
		putTo(t, st, "kept", content(5, 300_000))
	})
	old.back(t, fsys, logs...)
	for name, b := range disk { // the blobs of what is dead
		if _, err := fsys.Stat(name); err != nil {
			f, err := fsys.Create(name, durable.CreateOptions{})
			require.NoError(t, err)
			_, err = f.Write(b)
			require.NoError(t, err)
			require.NoError(t, f.Close())
		}
	}
	rep, found := rebuilt(t, opts, blockframe.RebuildOptions{})
	require.False(t, rep.LogLost)
	require.EqualValues(t, 3, rep.Named, "%v", brief(found))
	require.EqualValues(t, 1, rep.Dead)
	require.Zero(t, rep.Incomplete+rep.Stray)
	acts(t, opts, func(ctx context.Context, st *blockframe.Store) {
		for name, want := range map[string][]byte{"kept": content(1, 300_000), "lost+found/since": content(3, 2*mib+500_000),
			"lost+found/small": content(4, 40_000), "lost+found/kept": content(5, 300_000)} {
			b, err := readAll(ctx, st, name, 0)
			require.NoError(t, err, name)
			require.True(t, bytes.Equal(want, b), name)
		}
		_, err := st.Stat(ctx, "lost+found/dead")
		require.Error(t, err)
		require.NoError(t, st.Rename(ctx, "lost+found/since", "since"))
		require.NoError(t, st.Delete(ctx, "lost+found/small", blockframe.DeleteOptions{All: true}))
	})
	rep, found = rebuilt(t, opts, blockframe.RebuildOptions{})
	require.False(t, rep.Adoptable(), "%v", brief(found))
}

// A disk that was away while the store was rebuilt is taken in by the next rebuild: its
// shards count again, and what was incomplete without it is restored.
func TestRebuildTakesDiskInLater(t *testing.T) {
	t.Run("not given", func(t *testing.T) { takesIn(t, false) })
	t.Run("given and absent", func(t *testing.T) { takesIn(t, true) })
}

func takesIn(t *testing.T, given bool) {
	fsys := durable.Mem(vfs.NewCrashableMem())
	opts := spread(fsys, 3) // two missing: nothing is complete
	acts(t, opts, func(ctx context.Context, st *blockframe.Store) {
		putTo(t, st, "x", content(1, 2*mib+500_000))
	})
	loseLogs(t, fsys, opts.Dirs)
	away := save(t, fsys, opts.Dirs[1:]...)
	for _, d := range opts.Dirs[1:] {
		require.NoError(t, fsys.RemoveAll(d))
	}
	one := opts
	if !given {
		one.Dirs = opts.Dirs[:1]
	}
	one.Policies = nil
	rep, found := rebuilt(t, one, blockframe.RebuildOptions{})
	require.Zero(t, rep.Named)
	require.EqualValues(t, 1, rep.Incomplete, "%v", brief(found))
	require.True(t, slices.ContainsFunc(brief(found), func(s string) bool {
		return strings.HasPrefix(s, "incomplete x ") && strings.HasSuffix(s, "extent 0: 1 of its 3 shards are there, it takes 2 to read it")
	}), "%v", brief(found))
	acts(t, one, func(ctx context.Context, st *blockframe.Store) { // nothing of what may be completed goes
		rep, err := st.Collect(ctx, blockframe.CollectOptions{Unclaimed: true})
		require.NoError(t, err)
		require.Error(t, rep.Skipped)
	})

	for i, joined := range []int64{0, 3} {
		dir := opts.Dirs[i+1]
		back := saved{}
		for name, b := range away {
			if strings.HasPrefix(name, dir+"/") {
				back[name] = b
			}
		}
		back.back(t, fsys, dir)
		if !given {
			one.Dirs = opts.Dirs[:i+2]
		}
		rep, found = rebuilt(t, one, blockframe.RebuildOptions{})
		require.Equal(t, 1, rep.Disks)
		if given {
			require.Equal(t, 1-i, rep.Absent)
		}
		require.Zero(t, rep.Incomplete+rep.Stray, "%v", brief(found))
		require.Equal(t, joined, rep.Joined)
		require.EqualValues(t, 1-i, rep.Named, "%v", brief(found))
	}
	rep, _ = rebuilt(t, opts, blockframe.RebuildOptions{Accept: true})
	require.False(t, rep.Adoptable())
	acts(t, opts, func(ctx context.Context, st *blockframe.Store) {
		b, err := readAll(ctx, st, "lost+found/x", 0)
		require.NoError(t, err)
		require.True(t, bytes.Equal(content(1, 2*mib+500_000), b))
		scrub, err := st.Scrub(ctx, blockframe.ScrubOptions{Deep: true})
		require.NoError(t, err)
		require.True(t, scrub.Clean(), "%+v", scrub)
		require.NoError(t, collected(ctx, st, fsys, opts.Dirs, true))
	})
}
