package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
)

// A store without one of its copies of the log says once, by the path of the disk, what
// is the matter, and calls it no lack of permission.
func TestIll(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(t *testing.T, disk string)
		says  string
	}{
		"no log":  {func(t *testing.T, disk string) { require.NoError(t, os.RemoveAll(filepath.Join(disk, "log"))) }, "has lost its copy of the commit log (its folder log/ is missing). Everything can be read; nothing can be changed until it is back; if that will never be, the options --assume-lost "},
		"no disk": {func(t *testing.T, disk string) { require.NoError(t, os.RemoveAll(disk)) }, "is missing, with its copy of the commit log. Everything can be read"},
		"an empty": {func(t *testing.T, disk string) {
			require.NoError(t, os.RemoveAll(disk))
			require.NoError(t, os.Mkdir(disk, 0o700))
		}, "is empty, with its copy of the commit log."},
		"stale": {func(t *testing.T, disk string) {
			old := filepath.Join(filepath.Dir(disk), "old")
			require.NoError(t, os.RemoveAll(filepath.Join(disk, "log")))
			require.NoError(t, os.CopyFS(filepath.Join(disk, "log"), os.DirFS(old)))
		}, "has an old copy of the commit log"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home, dirs := newStore(t, 3)
			require.NoError(t, os.CopyFS(filepath.Join(home, "old"), os.DirFS(filepath.Join(dirs[1], "log"))))
			file := write(t, filepath.Join(t.TempDir(), "f"), 1, 100_000)
			ok(t, "--store", home, "put", file)
			c.spoil(t, dirs[1])

			says := dirs[1] + " " + c.says
			r := exits(t, exitOK, "--store", home, "ls")
			require.Contains(t, r.err, says)
			require.Equal(t, 1, strings.Count(r.err, "\n"), r.err)
			r = exits(t, exitError, "--store", home, "put", file, "--name", "g")
			require.Contains(t, r.err, says)
			require.Contains(t, r.err, "put g: the store takes no changes\n")
			require.Equal(t, 2, strings.Count(r.err, "\n"), r.err)
			require.NotContains(t, r.err, "permission")
			r = exits(t, exitError, "--store", home, "--quiet", "rm", "f")
			require.Contains(t, r.err, "delete f: the store takes no changes\n  "+says)
			r = exits(t, exitDamaged, "--store", home, "scrub", "--repair")
			require.Equal(t, strings.HasPrefix(name, "no disk") || name == "an empty", strings.Contains(r.out, "attach all disks"), r.out)
			rows := lines(t, exits(t, exitError, "--store", home, "--json", "rm", "f").err)
			require.Contains(t, rows[len(rows)-1]["hint"], says)
		})
	}
}

// A disk that has no copy of the log keeps nothing from being changed, and is named.
func TestMissingDisk(t *testing.T) {
	t.Parallel()
	home, dirs := newStore(t, 3)
	require.NoError(t, os.Rename(dirs[2], dirs[2]+"x"))
	r := exits(t, exitOK, "--store", home, "put", write(t, filepath.Join(t.TempDir(), "f"), 1, 100_000))
	require.Contains(t, r.err, dirs[2]+" is missing; what it holds is computed from the other disks\n")
}

// Disks are named by their directories.
func TestDiskNames(t *testing.T) {
	t.Parallel()
	_, dirs := newStore(t, 3)
	st, err := blockframe.Open(t.Context(), blockframe.Options{Dirs: dirs})
	require.NoError(t, err)
	a := &app{names: diskNames(st.Disks(t.Context()))}
	d := st.Disks(t.Context())[1]
	require.Equal(t, fmt.Sprintf("%s: full; log member %s", d.Path, d.Path), a.named(fmt.Sprintf("backend %v: full; log member %v", d.ID, d.ID)))
	require.NoError(t, st.Close())
}
