package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Files of a byte and of some stripes: each is damaged, and comes
// back right. The default, the module's sources, are among them.
func TestTour(t *testing.T) {
	for _, size := range []int{1, 3_500_000, -1} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "file")
			if size >= 0 {
				b := make([]byte, size)
				rand.NewChaCha8([32]byte{byte(size)}).Read(b)
				require.NoError(t, os.WriteFile(file, b, 0o644))
			} else {
				_, err := archive(file)
				require.NoError(t, err)
			}
			out := takeTour(t, dir, file)
			require.Contains(t, out, "ROT     flipped bits on disk: a block in")
			require.Contains(t, out, "Every byte came back right")
			require.LessOrEqual(t, strings.Count(out, "\n"), 25)
			require.Equal(t, 2, strings.Count(out, "again: clean"))
		})
	}
}

// takeTour takes the tour and returns what it says.
func takeTour(t *testing.T, dir, file string) string {
	t.Helper()
	var out bytes.Buffer
	tour := &tour{file: file, out: &out}
	for i := range directories {
		tour.dirs = append(tour.dirs, filepath.Join(dir, fmt.Sprint("disk", i)))
	}
	require.NoError(t, tour.take(context.Background()))
	return out.String()
}

// What is not right must not look right: with one shard too many gone the tour
// ends with an error.
func TestNotRight(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, bytes.Repeat([]byte("x"), 1_000_000), 0o644))
	tour := &tour{file: file, out: &bytes.Buffer{}}
	for i := range directories {
		tour.dirs = append(tour.dirs, filepath.Join(dir, fmt.Sprint("disk", i)))
	}
	ctx := context.Background()
	require.NoError(t, tour.put(ctx))
	require.NoError(t, tour.lose(ctx))
	shards, err := findShards(tour.dirs[tour.code.M:])
	require.NoError(t, err)
	require.NoError(t, os.Remove(shards[0].path))
	require.Error(t, tour.readDegraded(ctx))
	require.Error(t, tour.restore(ctx))
}

// An empty file has no shards to damage.
func TestEmpty(t *testing.T) {
	file := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	require.ErrorContains(t, (&tour{file: file}).put(context.Background()), "is empty")
}
