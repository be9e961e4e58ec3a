package lint

import (
	"fmt"
	"slices"
	"strings"
)

// beside is the place of packages that import nothing of ours.
const beside = -1

// floors places every package of the module: imports go strictly down. Packages
// to come have their place already. All of examples is floor 7.
var floors = map[string]int{
	".": 6,

	"internal/httpapi":             5,
	"replication/memnet":           5,
	"replication/tlsnet":           5,
	"replication":                  4,
	"internal/catalog":             3,
	"ledger":                       2,
	"ledger/verify":                2,
	"store":                        2,
	"store/dir":                    2,
	"store/mem":                    2,
	"erasure":                      1,
	"merkle":                       1,
	"internal/journal":             1,
	"internal/frame":               0,
	"internal/durable":             0,
	"internal/kv":                  0,
	"fusefs":                       beside,
	"watch":                        beside,
	"internal/lint":                beside,
	"internal/oracle":              7, // drives whole stores from its tests
	"store/storetest":              2, // suites that implementations run
	"replication/transporttest":    4,
	"internal/durable/durabletest": 0,
}

// alongside are the imports within a floor, but for those between a package and
// the ones beneath its directory, which are free to choose their direction.
var alongside = map[string]string{
	"internal/kv": "internal/durable", // Pebble's files go through the one door to files
}

// guests are the packages beside the house and who may import them, next to
// examples.
var guests = map[string]string{
	"fusefs": "",
	"watch":  ".",
}

// links are the packages that must not come to depend on something, not even
// through other packages of ours. What they shall not link is the start of an
// import path.
var links = []struct {
	pkg   string
	never []string
}{
	// An auditor can read all that the verifier is made of.
	{"ledger/verify", []string{"github.com/cockroachdb/", "go.etcd.io/", Module + "/internal/kv", Module + "/internal/journal",
		Module + "/internal/catalog", Module + "/store", Module + "/replication"}},
	// A program that embeds the library gets no command line, no config file format, no mount.
	{".", []string{Module + "/fusefs", Module + "/examples", "github.com/spf13/", "github.com/BurntSushi/", "github.com/schollz/",
		"github.com/hanwen/", "github.com/stretchr/"}},
}

// floor returns the place of a package and whether it has one.
func floor(p string) (int, bool) {
	if under(p, "examples") {
		return 7, true
	}
	n, ok := floors[p]
	return n, ok
}

// Floors returns the packages without a place, the imports that do not go down,
// and the links that must not be, one line each.
func (t *Tree) Floors() (problems []string) {
	for _, p := range t.pkgs {
		if _, ok := floor(p.path); !ok {
			problems = append(problems, fmt.Sprintf("%s: package without a floor: add it to internal/lint/floors.go", p.path))
			continue
		}
		for _, f := range p.files {
			for _, im := range f.imports() {
				if why := refuse(p.path, im.own, f.test); why != "" {
					problems = append(problems, t.problem(im.pos, "%s", why))
				}
			}
		}
	}
	return append(problems, t.linked()...)
}

// refuse returns why package from may not import our package to, or "".
func refuse(from, to string, test bool) string {
	if to == "" || to == from {
		return ""
	}
	above, _ := floor(from)
	below, known := floor(to)
	switch {
	case !known: // reported where it stands
		return ""
	case above == beside:
		return fmt.Sprintf("%s stands beside the house and imports %s", from, to)
	case below == beside && above != 7 && (guests[to] == "" || guests[to] != from):
		return fmt.Sprintf("%s imports %s, which only examples may", from, to)
	case support(to) && !test && !support(from):
		return fmt.Sprintf("%s imports %s, which is for tests", from, to)
	case under(from, "examples") && under(to, "internal") && !test:
		return fmt.Sprintf("%s imports %s: nobody could copy the example", from, to)
	case below < above, below == above && (test || sameFloor(from, to)):
		return ""
	}
	return fmt.Sprintf("%s (floor %d) imports %s (floor %d): imports go strictly down", from, above, to, below)
}

// sameFloor reports whether one package may import another of its floor. Examples
// are islands: a program is copied alone.
func sameFloor(from, to string) bool {
	if under(from, "examples") {
		return false
	}
	return under(from, to) || under(to, from) || alongside[from] == to
}

// linked checks the table links over all imports that are not tests'.
func (t *Tree) linked() (problems []string) {
	for _, rule := range links {
		chains := t.chains(rule.pkg)
		for _, path := range sortedKeys(chains) {
			for _, never := range rule.never {
				if strings.HasPrefix(path, never) {
					problems = append(problems, fmt.Sprintf("%s must not link %s: %s", rule.pkg, path, strings.Join(chains[path], " -> ")))
				}
			}
		}
	}
	return problems
}

// chains returns all packages that one of ours depends on, by import path, each
// with a shortest chain of imports from the one to the other.
func (t *Tree) chains(from string) map[string][]string {
	chains := make(map[string][]string)
	reached := map[string][]string{from: {from}} // our packages
	queue := []string{from}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		for _, im := range t.dependencies(at) {
			if _, seen := chains[im.path]; seen {
				continue
			}
			if im.own == "" {
				chains[im.path] = append(slices.Clone(reached[at]), im.path)
				continue
			}
			reached[im.own] = append(slices.Clone(reached[at]), im.own)
			chains[im.path] = reached[im.own]
			queue = append(queue, im.own)
		}
	}
	return chains
}

// dependencies returns the imports of one of our packages without its tests.
func (t *Tree) dependencies(path string) (list []imported) {
	for _, p := range t.pkgs {
		for _, f := range p.files {
			if p.path == path && !f.test {
				list = append(list, f.imports()...)
			}
		}
	}
	return list
}

func sortedKeys[V any](m map[string]V) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
