package blockframe_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/blake3"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/durable/durabletest"
)

// filled returns the options of a closed store on n directories that holds a few
// objects, and those.
func filled(t *testing.T, n int) (blockframe.Options, map[string][]byte) {
	t.Helper()
	opts := blockframe.Options{Dirs: dirs(t, n)}
	st := open(t, opts)
	want := map[string][]byte{}
	for i, size := range []int{0, 1000, 50_000, 700_000} {
		name := fmt.Sprintf("in/f%d", i)
		want[name] = content(byte(i), size)
		put(t, st, name, want[name])
	}
	require.NoError(t, st.Close())
	return opts, want
}

// requireAll reads everything.
func requireAll(t *testing.T, st *blockframe.Store, want map[string][]byte) {
	t.Helper()
	for name, data := range want {
		requireBytes(t, data, get(t, st, name, 0), name)
	}
	require.Len(t, names(t, st), len(want)+1)
}

// heard is a logger, and what was logged.
func heard() (*slog.Logger, *bytes.Buffer) {
	var b bytes.Buffer
	return slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelWarn})), &b
}

func TestOptionsTellAllProblems(t *testing.T) {
	err := blockframe.Options{Dirs: []string{"a", "./a"}, Code: blockframe.Code{K: 300, M: 1}, SlabBytes: -1,
		Policies: []blockframe.Policy{{Name: "p", MaxSize: -1}}}.Validate()
	require.ErrorIs(t, err, fs.ErrInvalid)
	for _, piece := range []string{"given twice", "300+1", "SlabBytes", "MaxSize"} {
		require.ErrorContains(t, err, piece)
	}
	require.ErrorIs(t, blockframe.Options{}.Validate(), fs.ErrInvalid)
	_, err = blockframe.Open(context.Background(), blockframe.Options{})
	require.ErrorIs(t, err, fs.ErrInvalid)
}

func TestNoCreate(t *testing.T) {
	opts := blockframe.Options{Dirs: dirs(t, 2), NoCreate: true}
	_, err := blockframe.Open(context.Background(), opts)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, opts.Dirs[1])
	require.NoDirExists(t, opts.Dirs[0])
}

// A directory with somebody's files does not become a store, and nothing is made
// in the others either.
func TestCreateKeepsItsHandsOff(t *testing.T) {
	opts := blockframe.Options{Dirs: dirs(t, 3)}
	require.NoError(t, os.MkdirAll(opts.Dirs[2], 0o700))
	thesis := filepath.Join(opts.Dirs[2], "thesis.doc")
	require.NoError(t, os.WriteFile(thesis, nil, 0o600))
	_, err := blockframe.Open(context.Background(), opts)
	require.ErrorIs(t, err, fs.ErrExist)
	require.ErrorContains(t, err, thesis)
	require.NoDirExists(t, opts.Dirs[0])
}

// A fresh filesystem has lost+found.
func TestCreateOnFreshFilesystems(t *testing.T) {
	opts := blockframe.Options{Dirs: dirs(t, 2)}
	for _, d := range opts.Dirs {
		require.NoError(t, os.MkdirAll(filepath.Join(d, "lost+found"), 0o700))
	}
	open(t, opts)
}

// The order of directories does not matter, nor where they are mounted.
func TestDirectoriesSwapped(t *testing.T) {
	opts, want := filled(t, 3)
	slices.Reverse(opts.Dirs)
	st := open(t, opts)
	requireAll(t, st, want)
	require.NoError(t, st.Close())

	a, c, aside := opts.Dirs[0], opts.Dirs[2], opts.Dirs[0]+".aside"
	require.NoError(t, os.Rename(a, aside))
	require.NoError(t, os.Rename(c, a))
	require.NoError(t, os.Rename(aside, c))
	st = open(t, opts)
	require.NoError(t, st.ReadOnly())
	requireAll(t, st, want)
	for _, d := range st.Disks(context.Background()) {
		require.NoError(t, d.Err)
	}
	rep, err := st.Scrub(context.Background(), blockframe.ScrubOptions{Deep: true})
	require.NoError(t, err)
	require.True(t, rep.Clean(), "%+v", rep)
	put(t, st, "after", []byte("1"))
}

// A directory that is gone or was emptied is named; everything is read all the
// same. Without one of two copies of the log there are no puts, and the reason names
// it; in the place of one of three another directory takes a copy.
func TestDirectoryMissing(t *testing.T) {
	ctx := context.Background()
	for n, which := range map[int][]int{2: {1}, 3: {0, 1, 2}, 6: {2, 3}} {
		for _, lost := range which {
			for what, lose := range map[string]func(string) error{
				"gone": os.RemoveAll,
				"emptied": func(dir string) error {
					if err := os.RemoveAll(dir); err != nil {
						return err
					}
					return os.Mkdir(dir, 0o700)
				},
			} {
				t.Run(fmt.Sprintf("%d of %d %s", lost+1, n, what), func(t *testing.T) {
					t.Parallel()
					opts, want := filled(t, n)
					require.NoError(t, lose(opts.Dirs[lost]))
					logger, log := heard()
					opts.Logger = logger
					st := open(t, opts)
					require.Contains(t, log.String(), opts.Dirs[lost])
					requireAll(t, st, want)
					bad := 0
					for _, d := range st.Disks(ctx) {
						if d.Err != nil {
							require.Equal(t, opts.Dirs[lost], d.Path)
							require.ErrorIs(t, d.Err, blockframe.ErrUnavailable)
							bad++
						}
					}
					require.Equal(t, 1, bad)
					_, err := st.Put(ctx, "new", strings.NewReader("1"), blockframe.PutOptions{})
					if copies := min(blockframe.DefaultCode(n).M+1, 3); lost < copies && copies < 3 {
						require.ErrorIs(t, err, fs.ErrPermission)
						require.ErrorIs(t, st.ReadOnly(), fs.ErrPermission)
						require.ErrorContains(t, st.ReadOnly(), opts.Dirs[lost])
					} else {
						require.NoError(t, st.ReadOnly())
						require.NoError(t, err)
						require.NoError(t, blockframe.FillLogs(st))
						require.Equal(t, copies, logs(st))
					}
					if entries, err := os.ReadDir(opts.Dirs[lost]); err == nil {
						require.Empty(t, entries, "an empty directory beside others is missing, not new")
					}
				})
			}
		}
	}
}

// logs returns how many directories have a copy of the log.
func logs(st *blockframe.Store) (n int) {
	for _, d := range st.Disks(context.Background()) {
		if d.Log {
			n++
		}
	}
	return n
}

// One directory that stays empty is a store to be created only without NoCreate;
// beside others it is not.
func TestAllLogsMissing(t *testing.T) {
	opts, _ := filled(t, 3)
	for _, d := range opts.Dirs[:2] {
		require.NoError(t, os.RemoveAll(d))
	}
	_, err := blockframe.Open(context.Background(), opts)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "copy of the log")
	require.ErrorContains(t, err, opts.Dirs[0])
	require.NoDirExists(t, opts.Dirs[0])
}

// The folder of a copy of the log was removed, the rest of the disk is there.
func TestLogFolderMissing(t *testing.T) {
	opts, want := filled(t, 3)
	require.NoError(t, os.RemoveAll(filepath.Join(opts.Dirs[1], "log")))
	st := open(t, opts)
	requireAll(t, st, want)
	require.ErrorIs(t, st.ReadOnly(), fs.ErrPermission)
	require.ErrorContains(t, st.ReadOnly(), opts.Dirs[1])
}

// One directory with two copies of the log: losing one makes it read-only.
func TestTwinMissing(t *testing.T) {
	opts, want := filled(t, 1)
	require.NoError(t, os.RemoveAll(filepath.Join(opts.Dirs[0], "log", "b")))
	st := open(t, opts)
	requireAll(t, st, want)
	require.ErrorContains(t, st.ReadOnly(), "log member b")
}

// refusing is a filesystem of which one directory takes no changes.
func refusing(dir string) durable.FS {
	fsys := durabletest.New(durable.OS(), durabletest.Options{})
	fsys.SetFault(func(op durabletest.Op) *durabletest.Fault {
		if !op.Kind.Changes() && op.Kind != durabletest.Lock || !strings.HasPrefix(op.Name, filepath.ToSlash(dir)) {
			return nil
		}
		return &durabletest.Fault{Arm: durabletest.Before, Err: &fs.PathError{Op: string(op.Kind), Path: op.Name, Err: syscall.EROFS}}
	})
	return fsys
}

// A directory that cannot be written to is read.
func TestDirectoryReadOnly(t *testing.T) {
	ctx := context.Background()
	for _, n := range []int{1, 3} {
		for ill := range n {
			opts, want := filled(t, n)
			logger, log := heard()
			opts.Logger = logger
			st := open(t, blockframe.WithFS(opts, refusing(opts.Dirs[ill])))
			require.Contains(t, log.String(), opts.Dirs[ill])
			requireAll(t, st, want)
			require.Error(t, st.Disks(ctx)[ill].Err)
			_, err := st.Put(ctx, "new", strings.NewReader("1"), blockframe.PutOptions{})
			if ill < 2 {
				require.ErrorIs(t, err, fs.ErrPermission)
				require.ErrorContains(t, st.ReadOnly(), opts.Dirs[ill])
			} else {
				require.NoError(t, err)
			}
			require.NoError(t, st.Close())
		}
	}
}

// The view of a store that takes no changes is among temporary files. What a killed
// process left of it there the next Open removes, and not what is in use.
func TestScratchViews(t *testing.T) {
	tmp := t.TempDir()
	for _, name := range []string{"TMPDIR", "TMP", "TEMP"} {
		t.Setenv(name, tmp)
	}
	opts, want := filled(t, 1)
	scratches := func() []string {
		list, err := filepath.Glob(filepath.Join(tmp, "blockframe-view-*"))
		require.NoError(t, err)
		return list
	}
	opts = blockframe.WithFS(opts, refusing(opts.Dirs[0]))
	first := open(t, opts)
	require.Len(t, scratches(), 1)
	left := scratches()[0] + "-left"
	require.NoError(t, os.CopyFS(left, os.DirFS(scratches()[0])))
	second := open(t, opts)
	require.Len(t, scratches(), 2)
	require.NoDirExists(t, left)
	for _, st := range []*blockframe.Store{first, second} {
		requireAll(t, st, want)
		require.NoError(t, st.Close())
	}
	require.Empty(t, scratches())
}

// A directory of another store is refused by name, and left as it is.
func TestDirectoryOfAnotherStore(t *testing.T) {
	a, _ := filled(t, 2)
	b, want := filled(t, 2)
	_, err := blockframe.Open(context.Background(), blockframe.Options{Dirs: []string{a.Dirs[0], b.Dirs[0]}})
	require.ErrorIs(t, err, fs.ErrInvalid)
	require.ErrorContains(t, err, b.Dirs[0])
	requireAll(t, open(t, b), want)
}

// One process opens a store once.
func TestOpenTwice(t *testing.T) {
	opts := blockframe.Options{Dirs: dirs(t, 2)}
	st := open(t, opts)
	_, err := blockframe.Open(context.Background(), opts)
	require.ErrorIs(t, err, blockframe.ErrLocked)
	require.ErrorContains(t, err, opts.Dirs[0])
	require.NoError(t, st.Close())
	open(t, opts)
}

// A store of a future version is refused as such, and left as it is.
func TestFutureVersion(t *testing.T) {
	opts, want := filled(t, 1)
	future := func(name string, at, size, copies int) {
		t.Helper()
		path := filepath.Join(opts.Dirs[0], filepath.FromSlash(name))
		before, err := os.ReadFile(path)
		require.NoError(t, err)
		after := bytes.Clone(before)
		for i := range copies {
			one := after[i*4096 : (i+1)*4096]
			one[at+size-1]++
			sum := blake3.Sum256(one[:4064])
			copy(one[4064:], sum[:])
		}
		require.NoError(t, os.WriteFile(path, after, 0o600))
		_, err = blockframe.Open(context.Background(), opts)
		require.ErrorIs(t, err, blockframe.ErrVersion, name)
		now, err := os.ReadFile(path)
		require.NoError(t, err)
		require.True(t, bytes.Equal(after, now), "%s was changed", name)
		require.NoError(t, os.WriteFile(path, before, 0o600))
	}
	future("id", 8, 2, 2)
	future("log/a/0000000000000001.log", 8, 4, 2)
	requireAll(t, open(t, opts), want)
}

// R7: files that are not ours are left alone and counted, wherever they lie, and
// the rest is served.
func TestStrayFiles(t *testing.T) {
	ctx := context.Background()
	opts, want := filled(t, 1)
	strays := []string{"notes.txt", "data/notes.txt", "data/7f/notes.txt", "data/7f/.hidden", "log/notes.txt", "log/a/notes.txt", "view/notes.txt",
		"data/zz/x", "data/00/" + strings.Repeat("0", 32) + "-zz"}
	for _, name := range strays {
		path := filepath.Join(opts.Dirs[0], filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte("mine"), 0o600))
	}
	require.NoError(t, os.Mkdir(filepath.Join(opts.Dirs[0], "data", "80", "folder"), 0o700))
	logger, log := heard()
	opts.Logger = logger
	st := open(t, opts)
	require.Contains(t, log.String(), "not ours")
	requireAll(t, st, want)
	rep, err := st.Scrub(ctx, blockframe.ScrubOptions{Deep: true, Repair: true})
	require.NoError(t, err)
	require.True(t, rep.Clean(), "%+v", rep)
	_, err = st.Collect(ctx, blockframe.CollectOptions{})
	require.NoError(t, err)
	require.GreaterOrEqual(t, st.Disks(ctx)[0].Stray, int64(2))
	for _, name := range strays {
		require.FileExists(t, filepath.Join(opts.Dirs[0], filepath.FromSlash(name)))
	}
}

// The view is disposable: removed, or damaged in any file, it is made anew.
func TestViewDamaged(t *testing.T) {
	opts, want := filled(t, 2)
	view := filepath.Join(opts.Dirs[0], "view")
	require.NoError(t, os.RemoveAll(view))
	st := open(t, opts)
	requireAll(t, st, want)
	require.NoError(t, st.Close())

	var files []string
	require.NoError(t, filepath.WalkDir(view, func(path string, d fs.DirEntry, err error) error {
		if info, ierr := d.Info(); err == nil && ierr == nil && !d.IsDir() && info.Size() > 0 {
			files = append(files, path)
		}
		return err
	}))
	require.NotEmpty(t, files)
	for _, path := range files {
		b, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			continue // of a view that was given up
		}
		require.NoError(t, err)
		for _, at := range []int{0, len(b) / 2, len(b) - 1} {
			bad := bytes.Clone(b)
			bad[at] ^= 0x40
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				break
			}
			logger, log := heard()
			opts.Logger = logger
			st := open(t, opts)
			require.NoError(t, st.ReadOnly())
			requireAll(t, st, want)
			require.NoError(t, st.Close())
			if said := log.String(); said != "" { // not all damage is seen
				require.Contains(t, said, "the index in "+view+" was damaged and is made anew; nothing is lost")
				require.Equal(t, 1, strings.Count(said, "\n"), said)
				require.NotContains(t, said, `\n`, "the first line of a reason")
			}
		}
	}
}

// LogDirs hold the log apart from the shards; they too are known by identity.
func TestLogDirs(t *testing.T) {
	all := dirs(t, 5)
	opts := blockframe.Options{Dirs: all[:3], LogDirs: all[3:]}
	st := open(t, opts)
	put(t, st, "f", content(1, 300_000))
	require.NoError(t, st.Close())
	require.NoDirExists(t, filepath.Join(all[0], "log"))
	require.DirExists(t, filepath.Join(all[3], "view"))
	opts.LogDirs = []string{all[4], all[3]}
	st = open(t, opts)
	requireBytes(t, content(1, 300_000), get(t, st, "f", 0))
	require.Len(t, st.Disks(context.Background()), 3)
	require.NoError(t, st.Close())

	require.NoError(t, os.RemoveAll(all[4]))
	st = open(t, opts)
	require.ErrorIs(t, st.ReadOnly(), fs.ErrPermission)
	requireBytes(t, content(1, 300_000), get(t, st, "f", 0))
	require.NoError(t, st.Close())
	require.NoError(t, os.RemoveAll(all[3]))
	_, err := blockframe.Open(context.Background(), opts)
	require.ErrorIs(t, err, fs.ErrNotExist)
}
