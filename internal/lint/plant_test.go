package lint_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/lint"
)

// sources parses files given as name and text. Imports of ours are written "our/…".
func sources(t *testing.T, files map[string]string) *lint.Tree {
	t.Helper()
	fsys := make(fstest.MapFS)
	for name, text := range files {
		text = strings.ReplaceAll(text, `"our/`, `"`+lint.Module+`/`)
		fsys[name] = &fstest.MapFile{Data: []byte(strings.ReplaceAll(text, `"our"`, `"`+lint.Module+`"`))}
	}
	tree, err := lint.Load(fsys)
	require.NoError(t, err)
	return tree
}

// planted is a module with one violation, and what is said of it.
type planted struct {
	name  string
	files map[string]string
	want  []string // a piece of each problem, in order
}

// one is a module of a single file.
func one(name, text string) map[string]string { return map[string]string{name: text} }

// requireFound runs a check over modules with planted violations.
func requireFound(t *testing.T, check func(*lint.Tree) []string, cases []planted) {
	t.Helper()
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			got := check(sources(t, tc.files))
			require.Len(t, got, len(tc.want), "%q", got)
			for i, want := range tc.want {
				require.Contains(t, got[i], want)
			}
		})
	}
}

// The floor test sees what it is for.
func TestFloorsPlanted(t *testing.T) {
	requireFound(t, (*lint.Tree).Floors, []planted{
		{"up to what is not there yet", one("store/x.go", `package store; import "our/internal/catalog"`),
			[]string{"store (floor 2) imports internal/catalog (floor 3)"}},
		{"up one floor", map[string]string{
			"store/x.go":            "package store\n\nimport _ \"our/internal/catalog\"",
			"internal/catalog/x.go": `package catalog; import "our/store"`,
		}, []string{"store/x.go:3: store (floor 2) imports internal/catalog (floor 3)"}},
		{"same floor", map[string]string{
			"store/x.go":  `package store; import "our/ledger"`,
			"ledger/x.go": `package ledger`,
		}, []string{"store (floor 2) imports ledger (floor 2)"}},
		{"a driver and its interface", map[string]string{
			"store/dir/x.go": `package dir; import "our/store"`,
			"store/x.go":     `package store; import "our/erasure"`,
			"erasure/x.go":   `package erasure`,
		}, nil},
		{"one driver and another", map[string]string{
			"store/dir/x.go": `package dir; import "our/store/mem"`,
			"store/mem/x.go": `package mem`,
		}, []string{"store/dir (floor 2) imports store/mem (floor 2)"}},
		{"a test may stay on its floor", map[string]string{
			"store/x_test.go": `package store_test; import ("our/store/mem"; "our/store"; "our/store/storetest")`,
			"store/mem/x.go":  `package mem`,
		}, nil},
		{"a test goes up", map[string]string{
			"store/x_test.go": `package store_test; import "our"`,
			"x.go":            `package blockframe`,
		}, []string{"store (floor 2) imports . (floor 6)"}},
		{"suites are for tests", map[string]string{
			"store/dir/x.go":       `package dir; import "our/store/storetest"`,
			"store/storetest/x.go": `package storetest`,
		}, []string{"store/dir imports store/storetest, which is for tests"}},
		{"no place", one("util/x.go", `package util`), []string{"util: package without a floor"}},
		{"from beside", map[string]string{
			"watch/x.go": `package watch; import "our/ledger"`, "ledger/x.go": `package ledger`,
		}, []string{"watch stands beside the house and imports ledger"}},
		{"guests", map[string]string{
			"watch/x.go": `package watch`, "fusefs/x.go": `package fusefs`,
			"x.go":                   `package blockframe; import "our/watch"`,
			"examples/mount/main.go": `package main; import ("our"; "our/fusefs"; "our/watch")`,
		}, nil},
		{"a guest in the wrong house", map[string]string{
			"watch/x.go": `package watch`, "ledger/x.go": `package ledger; import "our/watch"`,
		}, []string{"ledger imports watch, which only examples may"}},
		{"mount in the root", map[string]string{
			"fusefs/x.go": `package fusefs`, "x.go": `package blockframe; import "our/fusefs"`,
		}, []string{". imports fusefs, which only examples may", ". must not link " + lint.Module + "/fusefs"}},
		{"examples are islands", map[string]string{
			"examples/a/main.go": `package main; import "our/examples/b"`, "examples/b/x.go": `package b`,
		}, []string{"examples/a (floor 7) imports examples/b (floor 7)"}},
		{"examples can be copied", map[string]string{
			"examples/a/main.go": `package main; import "our/internal/kv"`, "internal/kv/x.go": `package kv`,
		}, []string{"examples/a imports internal/kv: nobody could copy the example"}},
		{"the verifier links the database through another", map[string]string{
			"ledger/verify/x.go": `package verify; import "our/ledger"`,
			"ledger/x.go":        `package ledger; import "our/internal/kv"`,
			"internal/kv/x.go":   `package kv; import "github.com/cockroachdb/pebble/v2"`,
		}, []string{
			"ledger/verify must not link " + lint.Module + "/internal/kv: ledger/verify -> ledger -> internal/kv",
			"ledger/verify must not link github.com/cockroachdb/pebble/v2: ledger/verify -> ledger -> internal/kv -> github.com/cockroachdb/pebble/v2",
		}},
		{"the tests of the verifier are free", one("ledger/verify/x_test.go",
			`package verify_test; import "github.com/cockroachdb/pebble/v2"`), nil},
	})
}

func TestDoorsPlanted(t *testing.T) {
	requireFound(t, (*lint.Tree).Doors, []planted{
		{"command line in a library", one("store/x.go", `package store; import "github.com/spf13/cobra"`),
			[]string{"store imports github.com/spf13/cobra: github.com/spf13/cobra is for [examples] alone"}},
		{"config format in the root", one("x.go", `package blockframe; import "github.com/BurntSushi/toml"`), []string{". imports"}},
		{"config format in a program", one("examples/a/b/x.go", `package b; import "github.com/BurntSushi/toml"`), nil},
		{"database beyond its door", one("store/x.go", `package store; import "github.com/cockroachdb/pebble/v2"`), []string{"is for [internal/kv] alone"}},
		{"its files have two", one("internal/durable/x.go", `package durable; import "github.com/cockroachdb/pebble/v2/vfs"`), nil},
		{"the longest door counts", one("internal/durable/x.go", `package durable; import "github.com/cockroachdb/pebble/v2/bloom"`), []string{"is for"}},
		{"assertions in a library", one("store/x.go", `package store; import "github.com/stretchr/testify/require"`), []string{"is for [] alone"}},
		{"assertions in tests", map[string]string{
			"store/x_test.go":      `package store; import "github.com/stretchr/testify/require"`,
			"store/storetest/x.go": `package storetest; import "github.com/stretchr/testify/require"`,
		}, nil},
		{"new dependency", one("x_test.go", `package blockframe; import "example.com/left/pad"`), []string{"a new dependency"}},
		{"a file by the side", one("store/dir/x.go", `package dir; import "os"; func f() { os.Remove("x") }`), []string{"store/dir uses os.Remove"}},
		{"the name of a type", one("internal/kv/x.go", `package kv; import "os"; func f(os.FileMode) {}`), nil},
		{"the name of an error", one("store/dir/x.go", `package dir; import "syscall"; var e error = syscall.EROFS; func f() { syscall.Unlink("x") }`),
			[]string{"store/dir uses syscall.Unlink"}},
		{"by the door", one("internal/durable/x.go", `package durable; import "os"; func f() { os.Remove("x") }`), nil},
	})
}

func TestHousePlanted(t *testing.T) {
	const doc = "// Package store is.\npackage store\n"
	requireFound(t, (*lint.Tree).House, []planted{
		{"good", map[string]string{
			"store/x.go":                doc + "// F is.\nfunc F() {}\n",
			"store/other.go":            "package store",
			"store/x_test.go":           "package store_test\nfunc Exported() {}",
			"examples/a/main.go":        "// Command a does.\npackage main\nimport \"os\"\nfunc init() {}\nfunc main() { os.Exit(0) }",
			"store/testdata/x.go":       "not even Go",
			"store/gen.go":              "//go:build ignore\n\npackage main\nfunc init() {}",
			"internal/oracle/x_test.go": "package oracle",
		}, nil},
		{"no package comment", one("store/x.go", "package store"), []string{"store: no package comment"}},
		{"of another package", one("store/x.go", "// Package shop is.\npackage store"), []string{"store: no package comment"}},
		{"sleeping test", one("store/x_test.go", "package store\nimport \"time\"\nfunc f() { time.Sleep(1) }"), []string{"store/x_test.go:3: time.Sleep"}},
		{"by another name", one("store/x_test.go", "package store\nimport t \"time\"\nvar s = t.Sleep"), []string{"time.Sleep"}},
		{"in a bubble", one("store/x_test.go",
			"package store\nimport (\"time\"; \"testing\"; \"testing/synctest\")\nfunc f(t *testing.T) { synctest.Test(t, func(*testing.T) { time.Sleep(1) }) }"), nil},
		{"for a bubble", one("store/x_test.go", "package store\nimport \"time\"\n// f runs under synctest.\nfunc f() { time.Sleep(1) }"), nil},
		{"sleeping library", one("store/x.go", doc+"import \"time\"\nfunc f() { time.Sleep(1) }"), []string{"time.Sleep"}},
		{"exit", one("store/x.go", doc+"import (\"os\"; \"log\")\nfunc f() { os.Exit(1); log.Fatal() }"), []string{"os.Exit", "log.Fatal"}},
		{"init", one("store/x.go", doc+"func init() {}"), []string{"store/x.go:3: init function"}},
		{"a method of that name", one("store/x.go", doc+"type t int\nfunc (t) init() {}"), nil},
		{"no comment", one("store/x.go", doc+"type T int\nfunc F() {}\nconst C = 1\nvar V = 1\ntype u int\nfunc (T) M() {}\nfunc (u) M() {}"),
			[]string{"T has no comment", "F has no comment", "C has no comment", "V has no comment", "M has no comment"}},
		{"a group", one("store/x.go", doc+"// These are.\nconst (\nC = 1\nD = 2\n)\nvar (\nE = 1\nF = 2 // with one\n)"), []string{"E has no comment"}},
		{"a run", one("store/x.go", doc+"// F and G are.\nfunc F() {}\nfunc G() {}\n\nfunc H() {}\n"), []string{"H has no comment"}},
		{"aliases", one("store/x.go", doc+"type (\n// A and B are.\nA = int\nB = int\n\nC = int\n)"), []string{"C has no comment"}},
		{"no aliases", one("store/x.go", doc+"type (\n// A is.\nA int\nB int\n)"), []string{"B has no comment"}},
		{"another word", one("store/x.go", doc+"// This returns.\nfunc F() {}"), []string{`the comment of F begins with "This"`}},
		{"too long", one("store/x.go", doc+strings.Repeat("\n", 600)), []string{"longer than 600 lines"}},
	})
}

func TestSurfacePlanted(t *testing.T) {
	const head = "package merkle\nimport (\"github.com/a/lib\"; \"io\"; \"github.com/b/raft/v3\")\n"
	requireFound(t, (*lint.Tree).Surface, []planted{
		{"hidden", one("merkle/x.go", head+"func f(lib.T) {}\ntype T struct { t lib.T; W io.Writer }\nvar V = lib.V()\nfunc F() { lib.F() }"), nil},
		{"parameter", one("merkle/x.go", head+"func F(a []lib.T) {}"), []string{"merkle/x.go:3: merkle exports lib.T"}},
		{"of a version", one("merkle/x.go", head+"func F() raft.Node { return nil }"), []string{"merkle exports raft.Node"}},
		{"field", one("merkle/x.go", head+"type T struct { A, b *lib.T }"), []string{"lib.T"}},
		{"embedded", one("merkle/x.go", head+"type T struct { lib.T }"), []string{"lib.T"}},
		{"interface", one("merkle/x.go", head+"type T interface { M() map[string]lib.T }"), []string{"lib.T"}},
		{"method", one("merkle/x.go", head+"type T int\nfunc (T) M(lib.T) {}"), []string{"lib.T"}},
		{"inside the module", one("internal/kv/x.go", head+"func F(lib.T) {}"), nil},
		{"too many", one("merkle/x.go", "package merkle\n"+names("type T", 30)+names("func F", 11)+names("const C", 9)), []string{"merkle: 41 exported names"}},
		{"enough", one("merkle/x.go", "package merkle\n"+names("type T", 30)+names("func F", 10)), nil},
	})
}

// names declares n names.
func names(what string, n int) string {
	tail := map[string]string{"type": " int\n", "func": "() {}\n", "const": " = 1\n"}[strings.Fields(what)[0]]
	var b strings.Builder
	for i := range n {
		b.WriteString(what + strings.Repeat("x", i) + tail)
	}
	return b.String()
}

// Every kind of declaration is one readable line; what is not exported is none.
func TestAPIPlanted(t *testing.T) {
	tree := sources(t, map[string]string{
		"x.go": "package blockframe\n" + `import "iter"
			const A, b = 1, 2
			const ( C Kind = iota + 1; D )
			var ErrE error
			var ErrF = other.ErrF
			type Kind uint8
			type Alias = Kind
			type Pair[K comparable, V any] struct { Key K ` + "`json:\"key\"`" + `; A, b int; *Embedded }
			type Reader interface {
				Read(p []byte) (n int, err error)
				private()
				Closer
			}
			func (p *Pair[K, V]) Swap(f func(K) V) (
				V,
				error,
			) { panic(1) }
			func Map[T any, U ~int | string](in iter.Seq2[T, error], f func(T) U) []U { return nil }
			func private() {}
			type hidden struct{ Field int }
			func (hidden) Method() {}`,
		"x_linux.go":            "package blockframe\nfunc Both() {}",
		"x_other.go":            "package blockframe\nfunc Both() {}",
		"x_test.go":             "package blockframe\nfunc Test() {}",
		"store/dir/x.go":        "package dir\ntype Backend struct{}",
		"internal/kv/x.go":      "package kv\nfunc Hidden() {}",
		"examples/a/lib/lib.go": "package lib\nfunc Hidden() {}",
		"cmd/x.go":              "package main\nfunc Hidden() {}",
	})
	require.Equal(t, strings.Split(strings.TrimSpace(`
blockframe: const A = 1
blockframe: const C Kind
blockframe: const D
blockframe: func Both()
blockframe: func Map[T any, U ~int | string](in iter.Seq2[T, error], f func(T) U) []U
blockframe: method (*Pair[K, V]) Swap(f func(K) V) (V, error)
blockframe: type Alias = Kind
blockframe: type Kind uint8
blockframe: type Pair[K comparable, V any] struct
blockframe: type Pair[K comparable, V any] struct, *Embedded
blockframe: type Pair[K comparable, V any] struct, A int
blockframe: type Pair[K comparable, V any] struct, Key K `+"`json:\"key\"`"+`
blockframe: type Reader interface
blockframe: type Reader interface, Closer
blockframe: type Reader interface, Read(p []byte) (n int, err error)
blockframe: var ErrE error
blockframe: var ErrF = other.ErrF
store/dir: type Backend struct
`), "\n"), tree.API())
}

// A file that does not parse is an error, not a file without problems.
func TestLoadBroken(t *testing.T) {
	_, err := lint.Load(fstest.MapFS{"x.go": &fstest.MapFile{Data: []byte("package blockframe; func {")}})
	require.ErrorContains(t, err, "x.go:1")
}
