package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// disksOf returns what disk list says, by directory, and of the store.
func disksOf(t *testing.T, home string) (disks map[string]map[string]any, all map[string]any) {
	t.Helper()
	disks = map[string]map[string]any{}
	for _, row := range lines(t, ok(t, "--store", home, "--json", "disk", "list")) {
		if row["type"] == "store" {
			all = row
		} else {
			disks[row["path"].(string)] = row
		}
	}
	return disks, all
}

// Disks are added, drained, replaced, lost and removed on the command line; the store is
// found by each of its directories all the time, and every byte is right.
func TestDisk(t *testing.T) {
	t.Parallel()
	home, dirs := newStore(t, 4, "--code", "2+1")
	tree := t.TempDir()
	for i, size := range []int{10, 70_000, 300_000, 2_500_000} {
		write(t, filepath.Join(tree, string(rune('a'+i))), byte(i), size)
	}
	ok(t, "--store", home, "put", "-r", tree, "--name", "tree")
	whole := func(place string) {
		t.Helper()
		out := filepath.Join(t.TempDir(), "out")
		ok(t, "--store", place, "get", "-r", "tree", "-o", out)
		for i := range 4 {
			want, err := os.ReadFile(filepath.Join(tree, string(rune('a'+i))))
			require.NoError(t, err)
			got, err := os.ReadFile(filepath.Join(out, string(rune('a'+i))))
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		ok(t, "--store", place, "scrub", "--deep")
	}
	disks, all := disksOf(t, home)
	require.Len(t, disks, 4)
	require.EqualValues(t, 1, all["survives"])
	require.Equal(t, "active", disks[dirs[3]]["state"])
	require.Positive(t, disks[dirs[3]]["shards"])
	require.Equal(t, true, disks[dirs[0]]["log"])
	require.Contains(t, ok(t, "--store", home, "disk", "list"), "survives: any 1 disk\n")

	extra := filepath.Join(home, "extra")
	require.Contains(t, ok(t, "--store", home, "disk", "add", extra), "added "+extra)
	whole(extra)
	require.Contains(t, exits(t, exitError, "--store", home, "disk", "remove", dirs[3]).err, "holds")
	require.Contains(t, exits(t, exitError, "--store", home, "disk", "drain", "nowhere").err, "no disk of the store")
	exits(t, exitUsage, "--store", home, "disk", "drain")
	exits(t, exitUsage, "--store", home, "disk")
	require.Contains(t, ok(t, "--store", home, "disk", "drain", "--dry-run", dirs[3]), "would move")
	require.Contains(t, ok(t, "--store", home, "disk", "drain", "--rate", "500MB", dirs[3]), "moved")
	disks, _ = disksOf(t, home)
	require.Equal(t, "draining", disks[dirs[3]]["state"])
	require.Zero(t, disks[dirs[3]]["shards"])
	ok(t, "--store", home, "disk", "remove", disks[dirs[3]]["id"].(string))
	disks, _ = disksOf(t, extra)
	require.Len(t, disks, 4)
	require.NotContains(t, disks, dirs[3])
	for _, place := range []string{home, extra, dirs[0]} {
		whole(place)
	}
	require.Contains(t, exits(t, exitError, "--store", home, "disk", "add", dirs[3]).err, "former disk")

	// One is replaced, and one that died, by another at its mount point.
	second := filepath.Join(t.TempDir(), "second")
	row := lines(t, ok(t, "--store", home, "--json", "disk", "replace", dirs[2], second))[0]
	require.Positive(t, row["shards"])
	require.Zero(t, row["left"])
	whole(second)
	require.NoError(t, os.RemoveAll(second))
	require.NoError(t, os.Mkdir(second, 0o755))
	disks, all = disksOf(t, home)
	require.Equal(t, "absent", disks[second]["state"])
	require.EqualValues(t, 0, all["survives"])
	require.Contains(t, exits(t, exitError, "--store", home, "disk", "add", second).err, "absent")
	left, err := os.ReadDir(second)
	require.NoError(t, err)
	require.Empty(t, left, "an empty mount point is left alone")
	require.Contains(t, ok(t, "--store", home, "disk", "replace", second, second), "computed from others")
	whole(second)

	// Two go, of which the second leaves too few.
	require.Contains(t, exits(t, exitError, "--store", home, "disk", "remove", "--lost", second).err, "drain")
	require.NoError(t, os.RemoveAll(second))
	require.Contains(t, ok(t, "--store", home, "disk", "remove", "--lost", second), "computed")
	whole(home)
	require.NoError(t, os.RemoveAll(extra))
	r := exits(t, exitDamaged, "--store", home, "disk", "remove", "--lost", extra)
	require.Contains(t, r.err, "stay missing")
	disks, all = disksOf(t, home)
	require.Equal(t, "lost", disks[extra]["state"])
	require.Positive(t, disks[extra]["missing"])
	require.EqualValues(t, 0, all["survives"])
	exits(t, exitDamaged, "--store", home, "scrub", "--deep") // R15
	third := filepath.Join(home, "third")
	ok(t, "--store", home, "disk", "add", third)
	exits(t, exitRepaired, "--store", home, "scrub", "--deep", "--repair")
	whole(third)
	disks, all = disksOf(t, home)
	require.Len(t, disks, 3)
	require.EqualValues(t, 1, all["survives"])
	ok(t, "--store", home, "disk", "rebalance", "--dry-run")
	whole(home)
}
