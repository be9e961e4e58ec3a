package lint

import (
	"go/ast"
	"regexp"
	"slices"
	"strings"
)

// doors names for each vendor's code the packages that may import it, so that a
// new dependency is a line here, and one is replaced behind one door. Tests may
// import all that is listed; an empty list is for tests alone. A package stands for
// those beneath it, and packages for tests may import what their parent may.
var doors = map[string][]string{
	"github.com/cockroachdb/pebble/v2":     {"internal/kv"},
	"github.com/cockroachdb/pebble/v2/vfs": {"internal/kv", "internal/durable"},
	"github.com/klauspost/reedsolomon":     {"erasure"},
	"lukechampine.com/blake3":              {"merkle"},
	"github.com/zeebo/blake3":              {"internal/frame", "internal/journal", "merkle", "store", "watch"},
	"golang.org/x/sync":                    {"store", "internal/catalog", "replication", "internal/httpapi", ".", "watch", "examples"},
	"golang.org/x/time":                    {"store", "internal/catalog", "replication", "watch"},
	"golang.org/x/sys":                     {"internal/durable", "fusefs", "watch", ".", "examples"},
	"golang.org/x/mod":                     {"ledger"},
	"go.etcd.io/raft/v3":                   {"replication"},
	"github.com/fsnotify/fsnotify":         {"watch"},
	"github.com/hanwen/go-fuse/v2":         {"fusefs"},

	// Programs only.
	"github.com/spf13/cobra":              {"examples"},
	"github.com/spf13/pflag":              {"examples"},
	"github.com/BurntSushi/toml":          {"examples"},
	"github.com/schollz/progressbar/v3":   {"examples"},
	"github.com/prometheus/client_golang": {"examples"},
	"golang.org/x/term":                   {"examples"},

	// Tests only, and packages for tests.
	"github.com/stretchr/testify": {},
	"github.com/transparency-dev": {},
}

// sealed are packages that reach no file but through internal/durable: what their
// tests crash and record is then all that they do.
var sealed = []string{"store", "erasure", "merkle", "internal/journal", "internal/kv", "internal/catalog", "internal/frame"}

// outside are the standard packages that sealed ones do without, but for names of
// errors, and of types that interfaces of vendors want.
var (
	outside  = []string{"os", "os/exec", "syscall"}
	harmless = regexp.MustCompile("^(FileMode|FileInfo|Err[A-Z][A-Za-z]+|E[A-Z0-9]+)$")
)

// Doors returns imports of vendors' code by packages that it is not for, or that
// is not listed at all, and uses of the operating system by sealed packages.
func (t *Tree) Doors() (problems []string) {
	for _, p := range t.pkgs {
		for _, f := range p.files {
			for _, im := range f.imports() {
				if vendor(im.path) {
					problems = append(problems, t.door(p, f, im)...)
				}
			}
			if !f.test && !support(p.path) && within(p.path, sealed) {
				problems = append(problems, t.leaks(p, f)...)
			}
		}
	}
	return problems
}

// leaks returns what a file of a sealed package takes from outside.
func (t *Tree) leaks(p *pkg, f *file) (problems []string) {
	for _, path := range outside {
		local := f.local(path)
		ast.Inspect(f.ast, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if ok && local != "" && isSelector(s, local, s.Sel.Name) && !harmless.MatchString(s.Sel.Name) {
				problems = append(problems, t.problem(s.Pos(), "%s uses %s.%s: files are reached through internal/durable", p.path, path, s.Sel.Name))
			}
			return true
		})
	}
	return problems
}

// door checks one import of a vendor's package.
func (t *Tree) door(p *pkg, f *file, im imported) []string {
	vendor, through, ok := doorOf(im.path)
	switch {
	case !ok:
		return []string{t.problem(im.pos, "%s imports %s, a new dependency: add it to internal/lint/doors.go", p.path, im.path)}
	case f.test || within(p.path, through) || len(through) == 0 && support(p.path):
		return nil
	}
	return []string{t.problem(im.pos, "%s imports %s: %s is for %v alone", p.path, im.path, vendor, through)}
}

// doorOf returns the longest entry of doors that import path p lies under.
func doorOf(p string) (vendor string, through []string, ok bool) {
	for v, list := range doors {
		if under(p, v) && len(v) > len(vendor) {
			vendor, through, ok = v, list, true
		}
	}
	return vendor, through, ok
}

// within reports whether p is one of the packages or lies beneath one; the root
// package stands for itself alone.
func within(p string, list []string) bool {
	return slices.ContainsFunc(list, func(dir string) bool {
		return p == dir || dir != "." && strings.HasPrefix(p, dir+"/")
	})
}
