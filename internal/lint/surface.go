package lint

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
)

// maxNames bounds the exported types, functions and variables of a package: who
// learns it reads them all. Methods, fields and constants are not counted; they
// belong to a type that is.
const maxNames = 40

// wider are the packages with a bound of their own.
var wider = map[string]int{
	".":     72,  // types of store that its methods take and return among them
	"store": 125, // next to the engine, the contract between data plane and catalog: each command is a type
}

// Surface returns vendors' types in exported declarations, which would make their
// version part of our interface, and packages with too many exported names.
func (t *Tree) Surface() (problems []string) {
	for _, p := range t.pkgs {
		if !p.library() {
			continue
		}
		names := make(map[string]bool)
		for _, f := range p.files {
			if f.test {
				continue
			}
			for _, d := range f.ast.Decls {
				problems = append(problems, t.vendored(p, f, d)...)
				count(names, d)
			}
		}
		if most := max(maxNames, wider[p.path]); len(names) > most {
			problems = append(problems, fmt.Sprintf("%s: %d exported names, want at most %d", p.path, len(names), most))
		}
	}
	return problems
}

// count adds the exported names of a declaration that is no method.
func count(names map[string]bool, d ast.Decl) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil && d.Name.IsExported() {
			names[d.Name.Name] = true
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() {
					names[s.Name.Name] = true
				}
			case *ast.ValueSpec:
				for _, n := range s.Names {
					if n.IsExported() && d.Tok == token.VAR {
						names[n.Name] = true
					}
				}
			}
		}
	}
}

// vendored finds vendors' types in what a declaration exports. Bodies of functions,
// values, and fields that are not exported may use them.
func (t *Tree) vendored(p *pkg, f *file, d ast.Decl) (problems []string) {
	look := func(n ast.Node) {
		ast.Inspect(n, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := s.X.(*ast.Ident); ok && f.vendor(x.Name) {
				problems = append(problems, t.problem(s.Pos(), "%s exports %s.%s, a vendor's type", title(p), x.Name, s.Sel.Name))
			}
			return false
		})
	}
	switch d := d.(type) {
	case *ast.FuncDecl:
		if exportedFunc(d) {
			look(d.Type)
		}
	case *ast.GenDecl:
		for _, n := range exportedTypes(d) {
			look(n)
		}
	}
	return problems
}

// exportedTypes returns the type expressions that a declaration exports.
func exportedTypes(d *ast.GenDecl) (nodes []ast.Node) {
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.ValueSpec:
			if s.Type != nil && slices.ContainsFunc(s.Names, (*ast.Ident).IsExported) {
				nodes = append(nodes, s.Type)
			}
		case *ast.TypeSpec:
			st, isStruct := s.Type.(*ast.StructType)
			switch {
			case !s.Name.IsExported():
			case isStruct:
				nodes = append(nodes, exportedFields(st)...)
			default:
				nodes = append(nodes, s.Type)
			}
		}
	}
	return nodes
}

func exportedFields(st *ast.StructType) (nodes []ast.Node) {
	for _, field := range st.Fields.List {
		if len(field.Names) == 0 || slices.ContainsFunc(field.Names, (*ast.Ident).IsExported) {
			nodes = append(nodes, field.Type)
		}
	}
	return nodes
}

// vendor reports whether a file calls a vendor's package by this name.
func (f *file) vendor(name string) bool {
	for _, im := range f.imports() {
		if vendor(im.path) && f.local(im.path) == name {
			return true
		}
	}
	return false
}
