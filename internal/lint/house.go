package lint

import (
	"fmt"
	"go/ast"
	"go/token"
	"strings"
)

// maxLines is where a file is split.
const maxLines = 600

// House returns breaches of the habits: sleeping, exiting and init functions where
// they may not be, packages and exported names without a comment, and files too
// long for one sitting.
func (t *Tree) House() (problems []string) {
	for _, p := range t.pkgs {
		if !commented(p) {
			problems = append(problems, fmt.Sprintf("%s: no package comment", p.path))
		}
		for _, f := range p.files {
			if n := t.fset.Position(f.ast.FileEnd).Line; n > maxLines {
				problems = append(problems, fmt.Sprintf("%s:%d: file longer than %d lines: it is more than one noun", f.name, n, maxLines))
			}
			problems = append(problems, t.sleeps(f)...)
			if !f.test && !under(p.path, "examples") {
				problems = append(problems, t.exits(f)...)
			}
			if !f.test && p.name() != "main" {
				problems = append(problems, t.undocumented(p, f)...)
			}
		}
	}
	return problems
}

// commented reports whether a package that is more than tests has a comment that
// says what it is.
func commented(p *pkg) bool {
	code := false
	for _, f := range p.files {
		if f.test {
			continue
		}
		code = true
		if doc := f.ast.Doc.Text(); p.name() == "main" && doc != "" || strings.HasPrefix(doc, "Package "+p.name()+" ") {
			return true
		}
	}
	return !code
}

// sleeps finds calls of time.Sleep. In the bubble of a synctest.Test it passes time
// that is not real; anywhere else a test waits for an event and a library for its
// context too. A function that only bubbles call says so by the word synctest in
// its comment.
func (t *Tree) sleeps(f *file) (problems []string) {
	clock, bubble := f.local("time"), f.local("testing/synctest")
	if clock == "" {
		return nil
	}
	for _, d := range f.ast.Decls {
		fn, isFunc := d.(*ast.FuncDecl)
		if isFunc && f.test && strings.Contains(fn.Doc.Text(), "synctest") {
			continue
		}
		ast.Inspect(d, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && bubble != "" && isSelector(call.Fun, bubble, "Test") {
				return false
			}
			if s, ok := n.(*ast.SelectorExpr); ok && isSelector(s, clock, "Sleep") {
				problems = append(problems, t.problem(s.Pos(), "time.Sleep outside synctest.Test"))
			}
			return true
		})
	}
	return problems
}

// exits finds what ends the process of the program that embeds us, and init
// functions, which run whether it wants them or not.
func (t *Tree) exits(f *file) (problems []string) {
	for _, d := range f.ast.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
			problems = append(problems, t.problem(fn.Pos(), "init function: packages have no effect by being linked"))
		}
	}
	for _, end := range []struct{ pkg, name string }{
		{"os", "Exit"}, {"syscall", "Exit"}, {"runtime", "Goexit"}, {"log", "Fatal"}, {"log", "Fatalf"}, {"log", "Fatalln"},
	} {
		local := f.local(end.pkg)
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && local != "" && isSelector(s, local, end.name) {
				problems = append(problems, t.problem(s.Pos(), "%s.%s outside examples: the host's process is not ours to end", end.pkg, end.name))
			}
			return true
		})
	}
	return problems
}

// isSelector reports whether e is pkg.name.
func isSelector(e ast.Expr, pkg, name string) bool {
	s, ok := e.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != name {
		return false
	}
	x, ok := s.X.(*ast.Ident)
	return ok && x.Name == pkg
}

// undocumented returns the exported names of a file without a comment, and the
// functions, methods and types whose comment begins with another word. Functions
// of one line, one below another, share the comment above the first. Inside the
// module methods are free: their interface says what they do.
func (t *Tree) undocumented(p *pkg, f *file) (problems []string) {
	runEnds := 0 // the last line of a run of one-line functions
	for _, d := range f.ast.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			first, last := t.line(d.Pos()), t.line(d.End())
			inRun := d.Doc == nil && first == runEnds+1
			if runEnds = 0; first == last {
				runEnds = last
			}
			if exportedFunc(d) && !inRun && (d.Recv == nil || p.library()) {
				problems = append(problems, t.begins(d.Pos(), d.Name.Name, d.Doc)...)
			}
		case *ast.GenDecl:
			problems = append(problems, t.undocumentedSpecs(d)...)
		}
	}
	return problems
}

// exportedFunc reports whether d is exported, and if it is a method its type too.
func exportedFunc(d *ast.FuncDecl) bool {
	return d.Name.IsExported() && (d.Recv == nil || ast.IsExported(receiver(d.Recv.List[0].Type)))
}

// undocumentedSpecs looks at types, constants and variables. A comment above a
// group of constants or variables stands for all of it, and one above an alias of a
// type also for aliases right below.
func (t *Tree) undocumentedSpecs(d *ast.GenDecl) (problems []string) {
	runEnds := 0 // the last line of a run of aliases
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			doc := s.Doc
			if doc == nil && !d.Lparen.IsValid() {
				doc = d.Doc
			}
			inRun := s.Assign.IsValid() && doc == nil && t.line(s.Pos()) == runEnds+1
			if runEnds = 0; s.Assign.IsValid() {
				runEnds = t.line(s.End())
			}
			if s.Name.IsExported() && !inRun {
				problems = append(problems, t.begins(s.Pos(), s.Name.Name, doc)...)
			}
		case *ast.ValueSpec:
			for _, name := range s.Names {
				if name.IsExported() && s.Doc == nil && s.Comment == nil && d.Doc == nil {
					return append(problems, t.problem(name.Pos(), "%s has no comment", name.Name))
				}
			}
		}
	}
	return problems
}

// begins checks that a comment begins with the name that it is about.
func (t *Tree) begins(pos token.Pos, name string, doc *ast.CommentGroup) []string {
	first, _, _ := strings.Cut(strings.ReplaceAll(doc.Text(), "\n", " "), " ")
	switch strings.TrimRight(first, ",.:;") {
	case name, "Deprecated":
		return nil
	case "":
		return []string{t.problem(pos, "%s has no comment", name)}
	}
	return []string{t.problem(pos, "the comment of %s begins with %q", name, first)}
}

// receiver returns the name of the type of a method.
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	}
	return ""
}
