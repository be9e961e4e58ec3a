package lint

import (
	"bytes"
	"go/ast"
	"go/printer"
	"go/token"
	"slices"
	"strings"
)

// API returns the exported declarations of all packages that a program outside the
// module can import, sorted, one line for each, after the name of the package:
//
//	erasure: const MaxShards = 255
//	erasure: func For(c Code) (*Coder, error)
//	erasure: type Code struct
//	erasure: type Code struct, K int
//	erasure: method (Code) Shards() int
//
// Fields of structs and methods of interfaces have a line each, and what is not
// exported of them is left out. Declarations that platforms share are listed once.
func (t *Tree) API() (lines []string) {
	for _, p := range t.pkgs {
		if !p.library() {
			continue
		}
		for _, f := range p.files {
			if f.test {
				continue
			}
			for _, line := range t.exported(f) {
				lines = append(lines, title(p)+": "+line)
			}
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

// title is what API calls a package: its path, and the root by its name.
func title(p *pkg) string {
	if p.path == "." {
		return p.name()
	}
	return p.path
}

// exported lists one file.
func (t *Tree) exported(f *file) (lines []string) {
	for _, d := range f.ast.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			lines = append(lines, t.function(d)...)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					lines = append(lines, t.typ(s)...)
				case *ast.ValueSpec:
					lines = append(lines, t.values(d.Tok, s)...)
				}
			}
		}
	}
	return lines
}

func (t *Tree) function(d *ast.FuncDecl) []string {
	if !d.Name.IsExported() {
		return nil
	}
	signature := strings.TrimPrefix(t.text(d.Type), "func")
	if d.Recv == nil {
		return []string{"func " + d.Name.Name + signature}
	}
	if !ast.IsExported(receiver(d.Recv.List[0].Type)) {
		return nil
	}
	return []string{"method (" + t.text(d.Recv.List[0].Type) + ") " + d.Name.Name + signature}
}

// parameters returns the type parameters of a declaration in brackets.
func (t *Tree) parameters(list *ast.FieldList) string {
	if list == nil {
		return ""
	}
	var parts []string
	for _, field := range list.List {
		var names []string
		for _, n := range field.Names {
			names = append(names, n.Name)
		}
		parts = append(parts, strings.Join(names, ", ")+" "+t.text(field.Type))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

func (t *Tree) typ(s *ast.TypeSpec) []string {
	if !s.Name.IsExported() {
		return nil
	}
	head := "type " + s.Name.Name + t.parameters(s.TypeParams) + " "
	if s.Assign.IsValid() {
		head += "= "
	}
	switch typ := s.Type.(type) {
	case *ast.StructType:
		return append([]string{head + "struct"}, t.fields(head+"struct, ", typ.Fields, " ")...)
	case *ast.InterfaceType:
		return append([]string{head + "interface"}, t.fields(head+"interface, ", typ.Methods, "")...)
	}
	return []string{head + t.text(s.Type)}
}

// fields lists the exported fields of a struct, or the methods of an interface.
// Embedded types are a line whatever their name, for they bring their methods.
func (t *Tree) fields(head string, list *ast.FieldList, space string) (lines []string) {
	for _, field := range list.List {
		text := t.text(field.Type)
		if len(field.Names) == 0 {
			lines = append(lines, head+text)
		}
		if _, method := field.Type.(*ast.FuncType); method && space == "" {
			text = strings.TrimPrefix(text, "func")
		}
		for _, n := range field.Names {
			if n.IsExported() {
				lines = append(lines, head+n.Name+space+text+tag(field))
			}
		}
	}
	return lines
}

// tag returns the tag of a field: what it is called in JSON is interface too.
func tag(field *ast.Field) string {
	if field.Tag == nil {
		return ""
	}
	return " " + field.Tag.Value
}

// values lists constants and variables; constants and errors with their value,
// where it is short and given.
func (t *Tree) values(tok token.Token, s *ast.ValueSpec) (lines []string) {
	for i, n := range s.Names {
		if !n.IsExported() {
			continue
		}
		line := tok.String() + " " + n.Name
		if s.Type != nil {
			line += " " + t.text(s.Type)
		}
		if i < len(s.Values) {
			if value := t.text(s.Values[i]); len(value) <= 100 && !strings.Contains(value, "iota") {
				line += " = " + value
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// text prints a node on one line.
func (t *Tree) text(n ast.Node) string {
	var b bytes.Buffer
	if err := (&printer.Config{Mode: printer.RawFormat}).Fprint(&b, token.NewFileSet(), n); err != nil {
		panic("lint: Tree.text: " + err.Error())
	}
	return strings.Join(strings.Fields(b.String()), " ")
}
