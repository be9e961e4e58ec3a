package blockframe_test

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
)

// shards returns the number of blobs in all directories, and how many bytes the
// largest has.
func shards(t *testing.T, dirs []string) (n int, largest int64) {
	t.Helper()
	for _, dir := range dirs {
		require.NoError(t, filepath.WalkDir(filepath.Join(dir, "data"), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				info, ierr := d.Info()
				require.NoError(t, ierr)
				n++
				largest = max(largest, info.Size())
			}
			return err
		}))
	}
	return n, largest
}

// T1: the class is chosen by size, and its shards are there: four copies of one
// extent, four copies of each 32 MiB, and 30+3. The sizes of the classes are scaled
// down, but for one object of the second.
func TestTiersArchive(t *testing.T) {
	ctx := context.Background()
	counts := []int{17}
	if heavy {
		counts = append(counts, 33)
	}
	for _, dirCount := range counts {
		perBackend := (33 + dirCount - 1) / dirCount
		policies := blockframe.TiersArchive("", perBackend)
		require.Len(t, policies, 3)
		opts := blockframe.Options{Dirs: dirs(t, dirCount), Policies: policies, NoRepair: true}
		st := open(t, opts)
		before := 0
		for _, c := range []struct {
			class string
			size  int
			want  int
		}{
			{"archive-1", 1_000_000, 4},
			{"archive-2", 15_000_000, 4},
			{"archive-2", 50_000_000, 2 * 4},
		} {
			if testing.Short() && c.size > 20_000_000 {
				continue
			}
			data := content(byte(c.size), c.size)
			obj := put(t, st, c.class+"/x", data)
			require.Equal(t, c.class, obj.Policy)
			n, _ := shards(t, opts.Dirs)
			require.Equal(t, c.want, n-before, "%d bytes", c.size)
			before = n
			requireBytes(t, data, get(t, st, c.class+"/x", 0))
		}
		// An unannounced stream takes the class without a bound.
		data := content(9, 3_000_000)
		obj, err := st.Put(ctx, "stream", struct{ io.Reader }{bytes.NewReader(data)}, blockframe.PutOptions{})
		require.NoError(t, err)
		require.Equal(t, "archive-3", obj.Policy)
		n, _ := shards(t, opts.Dirs)
		require.Equal(t, 33, n-before)
		requireBytes(t, data, get(t, st, "stream", 0))
		require.NoError(t, st.Close())
	}
}

// Logged policies win over those of Options, from the first open on.
func TestPoliciesAreRecorded(t *testing.T) {
	ctx := context.Background()
	opts := blockframe.Options{Dirs: dirs(t, 4), Code: blockframe.Code{K: 1, M: 3},
		Policies: []blockframe.Policy{{Name: "movies", Prefix: "movies/", Code: blockframe.Code{K: 3, M: 1}}}}
	st := open(t, opts)
	require.Len(t, st.Policies(), 2)
	require.Equal(t, 1, st.Survives())
	data := content(1, 1<<20)
	require.Equal(t, "movies", put(t, st, "movies/x", data).Policy)
	n, _ := shards(t, opts.Dirs)
	require.Equal(t, 4, n)

	require.NoError(t, st.UnsetPolicy(ctx, "movies/"))
	require.ErrorIs(t, st.UnsetPolicy(ctx, "movies/"), fs.ErrNotExist)
	require.Equal(t, 2, st.Survives(), "of three copies of the log two may be lost")
	require.NoError(t, st.SetPolicy(ctx, blockframe.Policy{Name: "books", Prefix: "books/", MaxSize: 1 << 20}))
	require.ErrorIs(t, st.SetPolicy(ctx, blockframe.Policy{Name: "x", Code: blockframe.Code{K: 8, M: 2}}), fs.ErrInvalid, "ten shards on four disks")
	require.ErrorIs(t, st.SetPolicy(ctx, blockframe.Policy{Name: "x", Code: blockframe.Code{K: 8, M: 2}, PerBackend: 3}), fs.ErrInvalid, "survives nothing")
	require.NoError(t, st.SetPolicy(ctx, blockframe.Policy{Name: "x", Prefix: "x/", Code: blockframe.Code{K: 8, M: 2}, PerBackend: 3, Fragile: true}))
	require.Zero(t, st.Survives())
	require.NoError(t, st.Close())

	opts.Policies = []blockframe.Policy{{Name: "late", Prefix: "late/"}}
	st = open(t, opts)
	var have []string
	for _, p := range st.Policies() {
		have = append(have, p.Name)
	}
	require.Equal(t, []string{"default", "books", "x"}, have)
	require.Equal(t, "books", put(t, st, "books/x", []byte("1")).Policy)
	require.Equal(t, "default", put(t, st, "books/y", content(2, 2<<20)).Policy)
}

func TestSurvives(t *testing.T) {
	for n, want := range map[int]int{1: 0, 2: 1, 3: 1, 4: 2} {
		require.Equal(t, want, fresh(t, n).Survives(), "%d directories", n)
	}
}

// T7: a code that cannot be is a typed error; so are too many missing shards.
func TestTooManyMissing(t *testing.T) {
	ctx := context.Background()
	_, err := blockframe.Open(ctx, blockframe.Options{Dirs: dirs(t, 1), Code: blockframe.Code{K: 4, M: 0}})
	require.ErrorIs(t, err, fs.ErrInvalid)
	_, err = blockframe.Open(ctx, blockframe.Options{Dirs: dirs(t, 2), Code: blockframe.Code{K: 4, M: 2}})
	require.ErrorIs(t, err, fs.ErrInvalid)

	opts := blockframe.Options{Dirs: dirs(t, 1), NoRepair: true, CacheBytes: -1}
	st := open(t, opts)
	put(t, st, "lost", content(1, 1<<20))
	require.NoError(t, st.Close())
	blobs, err := filepath.Glob(filepath.Join(opts.Dirs[0], "data", "*", "*"))
	require.NoError(t, err)
	require.Len(t, blobs, 10)
	for _, path := range blobs {
		require.NoError(t, os.Remove(path))
	}
	st = open(t, opts)
	put(t, st, "other", content(2, 100))
	rd, err := st.Open(ctx, "lost")
	require.NoError(t, err)
	defer rd.Close()
	_, err = io.ReadAll(rd)
	var lost *blockframe.CorruptError
	require.ErrorAs(t, err, &lost)
	require.Equal(t, "lost", lost.Name)
	require.ErrorIs(t, err, blockframe.ErrUnrecoverable)
	require.ErrorIs(t, err, blockframe.ErrCorrupt)
	requireBytes(t, content(2, 100), get(t, st, "other", 0))
}

// What goes onto a disk that is back later is repaired, and a second scrub is clean.
func TestDiskComesBack(t *testing.T) {
	ctx := context.Background()
	opts, want := filled(t, 4)
	aside := opts.Dirs[3] + ".aside"
	require.NoError(t, os.Rename(opts.Dirs[3], aside))
	st := open(t, opts)
	requireAll(t, st, want)
	want["in/while-away"] = content(7, 500_000)
	put(t, st, "in/while-away", want["in/while-away"])
	rep, err := st.Collect(ctx, blockframe.CollectOptions{})
	require.NoError(t, err)
	require.Error(t, rep.Skipped, "nothing is removed while a disk is absent")
	require.NoError(t, st.Close())

	require.NoError(t, os.RemoveAll(opts.Dirs[3]))
	require.NoError(t, os.Rename(aside, opts.Dirs[3]))
	st = open(t, opts)
	requireAll(t, st, want)
	_, err = st.Repair(ctx)
	require.NoError(t, err)
	_, err = st.Scrub(ctx, blockframe.ScrubOptions{Deep: true, Repair: true})
	require.NoError(t, err)
	again, err := st.Scrub(ctx, blockframe.ScrubOptions{Deep: true})
	require.NoError(t, err)
	require.True(t, again.Clean(), "%+v", again)
	for _, d := range st.Disks(ctx) {
		require.NoError(t, d.Err)
	}
}

// A store over backends of the user's: LogDirs hold its log.
func TestBackends(t *testing.T) {
	ctx := context.Background()
	_, err := blockframe.Open(ctx, blockframe.Options{Backends: []blockframe.Backend{nil}})
	require.ErrorIs(t, err, fs.ErrInvalid)

	var backends []blockframe.Backend
	for range 3 {
		backends = append(backends, newMem())
	}
	logs := dirs(t, 1)
	st := open(t, blockframe.Options{Backends: backends, LogDirs: logs})
	put(t, st, "f", content(1, 300_000))
	require.NoError(t, st.Close())
	backends[0], backends[2] = backends[2], backends[0]
	st = open(t, blockframe.Options{Backends: backends, LogDirs: logs})
	requireBytes(t, content(1, 300_000), get(t, st, "f", 0))
	require.NoError(t, st.Close())

	_, err = blockframe.Open(ctx, blockframe.Options{Backends: append(backends, newMem()), LogDirs: logs})
	require.ErrorIs(t, err, fs.ErrInvalid)
	require.ErrorContains(t, err, "not one of the store")
	_, err = blockframe.Open(ctx, blockframe.Options{Backends: backends, LogDirs: dirs(t, 1)})
	require.ErrorIs(t, err, fs.ErrExist, "backends that hold something, and no log")

	st = open(t, blockframe.Options{Backends: backends[:2], LogDirs: logs})
	requireBytes(t, content(1, 300_000), get(t, st, "f", 0))
	_, err = st.Put(ctx, "new", strings.NewReader("1"), blockframe.PutOptions{})
	require.NoError(t, err)
}

// fading is a context that ends once it was looked at, unnoticed by who waits.
type fading struct {
	context.Context
	looks int
}

func (f *fading) Done() <-chan struct{} { return nil }

func (f *fading) Err() error {
	if f.looks++; f.looks > 1 {
		return context.Canceled
	}
	return nil
}

// A change of policies that is durable is reported as such, and counts, though the
// context ended behind it.
func TestPolicyOfCanceledContext(t *testing.T) {
	st := open(t, blockframe.Options{Dirs: dirs(t, 2)})
	p := blockframe.Policy{Name: "p", Prefix: "p/"}
	require.NoError(t, st.SetPolicy(&fading{Context: context.Background()}, p))
	require.Equal(t, []blockframe.Policy{p}, st.Policies())
	require.NoError(t, st.UnsetPolicy(&fading{Context: context.Background()}, "p/"))
	require.Empty(t, st.Policies())
}
