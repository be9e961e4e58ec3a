package lint_test

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/lint"
)

var update = flag.Bool("update", false, "rewrite testdata/api.txt")

// module loads the sources of the whole module. The test cache sees which files
// and directories that reads, so a cached result is one of the same sources.
func module(t *testing.T) *lint.Tree {
	t.Helper()
	tree, err := lint.Load(os.DirFS("../.."))
	require.NoError(t, err)
	return tree
}

// requireNone fails with one problem a line.
func requireNone(t *testing.T, problems []string) {
	t.Helper()
	if len(problems) > 0 {
		t.Fatalf("%d problems:\n%s", len(problems), strings.Join(problems, "\n"))
	}
}

func TestFloors(t *testing.T)  { requireNone(t, module(t).Floors()) }
func TestDoors(t *testing.T)   { requireNone(t, module(t).Doors()) }
func TestHouse(t *testing.T)   { requireNone(t, module(t).House()) }
func TestSurface(t *testing.T) { requireNone(t, module(t).Surface()) }

const apiFile = "testdata/api.txt"

// The exported interface is the recorded one: a change of it is a line in review.
func TestAPI(t *testing.T) {
	got := strings.Join(module(t).API(), "\n") + "\n"
	if *update {
		require.NoError(t, os.WriteFile(apiFile, []byte(got), 0o666))
	}
	want, err := os.ReadFile(apiFile)
	require.NoError(t, err)
	if d := diff(string(want), got); d != "" {
		t.Fatalf("the exported interface changed; if that is intended: go test ./internal/lint -update\n%s", d)
	}
}

// diff returns the lines that one of two sorted texts has and the other has not.
func diff(want, got string) string {
	var b strings.Builder
	w, g := strings.Split(strings.TrimSuffix(want, "\n"), "\n"), strings.Split(strings.TrimSuffix(got, "\n"), "\n") // sorted: no empty one last
	for _, line := range w {
		if !slices.Contains(g, line) {
			b.WriteString("- " + line + "\n")
		}
	}
	for _, line := range g {
		if !slices.Contains(w, line) {
			b.WriteString("+ " + line + "\n")
		}
	}
	return b.String()
}
