// Package lint checks the house rules of this module on its own sources: which
// package may import which, which vendor's code enters where, what the exported
// interface is, and a few habits that are cheap to hold and dear to lose.
//
// The checks run as ordinary tests of this package, and read the sources with
// go/parser in the test's own process: a test that calls the go tool instead
// passes from the test cache whatever has changed since.
//
//	tree, err := lint.Load(os.DirFS("../.."))
//	for _, p := range tree.Floors() { … }   // each problem is one line: place and reason
//	lines := tree.API()                      // one line for each exported declaration
//
// The tables to edit when the module grows are [floors] and [alongside] in
// floors.go for a new package, [doors] in doors.go for a new dependency, and
// testdata/api.txt, which is rewritten by
//
//	go test ./internal/lint -update
//
// so that every change of the exported interface is a line in review.
package lint
