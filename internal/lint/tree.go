package lint

import (
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Module is the import path of the root package.
const Module = "github.com/blockframe/blockframe"

// Tree is the parsed sources of the module, those of every platform together.
type Tree struct {
	fset *token.FileSet
	pkgs []*pkg // sorted by path
}

// pkg is the sources of one directory.
type pkg struct {
	path  string // relative to the module: "." is the root package
	files []*file
}

// file is one source file.
type file struct {
	name string // relative to the module
	test bool
	ast  *ast.File
}

// Load parses all Go files under the root of the module, but for those that the
// go tool does not see either: testdata, names that start with a dot or an
// underscore, and files whose build constraint is "ignore".
func Load(root fs.FS) (*Tree, error) {
	t := &Tree{fset: token.NewFileSet()}
	byPath := make(map[string]*pkg)
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && hidden(d.Name()):
			return fs.SkipDir
		case d.IsDir() || hidden(d.Name()) || path.Ext(name) != ".go":
			return nil
		}
		f, err := t.parse(root, name)
		if err != nil || f == nil {
			return err
		}
		dir := path.Dir(name)
		if byPath[dir] == nil {
			byPath[dir] = &pkg{path: dir}
			t.pkgs = append(t.pkgs, byPath[dir])
		}
		byPath[dir].files = append(byPath[dir].files, f)
		return nil
	})
	slices.SortFunc(t.pkgs, func(a, b *pkg) int { return strings.Compare(a.path, b.path) })
	return t, err
}

func hidden(name string) bool {
	return name == "testdata" || name == "vendor" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")
}

// parse returns nil for a file that is never built.
func (t *Tree) parse(root fs.FS, name string) (*file, error) {
	src, err := fs.ReadFile(root, name)
	if err != nil {
		return nil, err
	}
	a, err := parser.ParseFile(t.fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	if ignored(a) {
		return nil, nil
	}
	return &file{name: name, test: strings.HasSuffix(name, "_test.go"), ast: a}, nil
}

// ignored reports whether the build constraint of a file is "ignore".
func ignored(a *ast.File) bool {
	for _, group := range a.Comments {
		for _, c := range group.List {
			if c.Pos() < a.Package && constraint.IsGoBuild(c.Text) && strings.TrimSpace(c.Text) == "//go:build ignore" {
				return true
			}
		}
	}
	return false
}

// at returns the line of a position: "store/put.go:12".
func (t *Tree) at(pos token.Pos) string {
	p := t.fset.Position(pos)
	return p.Filename + ":" + strconv.Itoa(p.Line)
}

// line returns the line of a position in its file.
func (t *Tree) line(pos token.Pos) int { return t.fset.Position(pos).Line }

// problem returns one line: where, and what is wrong.
func (t *Tree) problem(pos token.Pos, format string, args ...any) string {
	return t.at(pos) + ": " + fmt.Sprintf(format, args...)
}

// imported is one import of a file.
type imported struct {
	path string // as written
	own  string // relative to the module, "" for all other packages
	pos  token.Pos
}

// imports returns what a file imports.
func (f *file) imports() (list []imported) {
	for _, spec := range f.ast.Imports {
		p, _ := strconv.Unquote(spec.Path.Value)
		list = append(list, imported{path: p, own: own(p), pos: spec.Pos()})
	}
	return list
}

// local returns the name that a file calls an imported package by, or "": the one
// it gives it, else the last element of the path before a version.
func (f *file) local(importPath string) string {
	for _, spec := range f.ast.Imports {
		if p, _ := strconv.Unquote(spec.Path.Value); p != importPath {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		base := path.Base(importPath)
		if n, ok := strings.CutPrefix(base, "v"); ok && strings.Trim(n, "0123456789") == "" {
			base = path.Base(path.Dir(importPath))
		}
		return base
	}
	return ""
}

// own returns the path of one of our packages relative to the module, or "".
func own(importPath string) string {
	if importPath == Module {
		return "."
	}
	rel, ok := strings.CutPrefix(importPath, Module+"/")
	if !ok {
		return ""
	}
	return rel
}

// vendor reports whether a path is neither ours nor the standard library's.
func vendor(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return strings.Contains(first, ".") && own(importPath) == ""
}

// name returns the name of the package: that of its files that are no tests, else
// of any.
func (p *pkg) name() (name string) {
	for _, f := range p.files {
		name = f.ast.Name.Name
		if !f.test {
			return name
		}
	}
	return strings.TrimSuffix(name, "_test")
}

// library reports whether programs outside the module can import the package.
func (p *pkg) library() bool {
	return p.name() != "main" && !under(p.path, "examples") && !slices.Contains(strings.Split(p.path, "/"), "internal")
}

// support reports whether a package exists for tests alone, as its name says:
// storetest, durabletest.
func support(p string) bool { return strings.HasSuffix(p, "test") }

// under reports whether path p is dir or lies beneath it.
func under(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }
