package journal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/durable/durabletest"
	"github.com/blockframe/blockframe/internal/journal"
)

// A small model checker for the set of members. A world is three disks, and what a
// program was promised; a step opens the log with some of the disks, does one thing
// (a record; a record while a disk fails; a member leaves, or joins) and ends with the
// power cut after any of its file operations:
//
//	world ──open {a,b,c} or any part of them──> act ──cut──> worlds
//
// Every world that can come of this is visited once: worlds that look the same, names of
// the disks aside, are one. In each, whatever disks are seen, the log
//
//   - that takes records has all that was acknowledged, or shown by one that took records,
//     in order, and at most what was under way besides;
//   - that is read-only contradicts none of it, but for a last record that was under way;
//   - takes records when all disks are there.
type world struct {
	disks *vfs.MemFS
	must  [][]byte // acknowledged, or shown
	may   []byte   // under way when the power went, or nil
}

var diskNames = []string{"a", "b", "c"}

func (w *world) clone() *world {
	return &world{disks: w.disks.CrashClone(vfs.CrashCloneCfg{}), must: w.must, may: w.may}
}

// options returns those of the log on the disks that are there, in that order.
func (w *world) options(fsys durable.FS, there []string) journal.Options {
	opts := journal.Options{StoreID: storeID, SegmentSize: 20 << 10, Sequential: true}
	for _, n := range there {
		opts.Members = append(opts.Members, journal.Member{FS: fsys, Dir: "log/" + n, Name: n})
	}
	return opts
}

// check returns what is wrong with the records of an open log.
func (w *world) check(j *journal.Journal) error {
	got, err := collect(j, j.First())
	if err != nil {
		return err
	}
	// What was trimmed is covered by a snapshot.
	got = append(slices.Clone(w.must[:min(int(j.First())-1, len(w.must))]), got...)
	if j.ReadOnly() == nil && len(got) < len(w.must) {
		return fmt.Errorf("%d records, %d were acknowledged", len(got), len(w.must))
	}
	doubt := 0 // the last record of a log that is read-only
	if j.ReadOnly() != nil {
		doubt = 1
	}
	for i := range min(len(got)-doubt, len(w.must)) {
		if !bytes.Equal(got[i], w.must[i]) {
			return fmt.Errorf("record %d is %q, %q was acknowledged", i+1, got[i], w.must[i])
		}
	}
	for _, r := range got[min(len(got), len(w.must)):max(len(got)-doubt, min(len(got), len(w.must)))] {
		if !bytes.Equal(r, w.may) {
			return fmt.Errorf("record %q was not under way", r)
		}
	}
	return nil
}

// print describes a world, whatever the names of the disks: its smallest description over
// all orders of them.
func (w *world) print() string {
	sights := map[string][]journal.Sight{}
	for _, disk := range diskNames {
		sights[disk] = journal.Look(durable.Mem(w.disks), "log/"+disk)
	}
	var prints []string
	for _, order := range orders(diskNames) {
		known := map[string]int{} // keys of segments, in order of appearance
		var b strings.Builder
		for _, disk := range order {
			b.WriteString("|")
			for _, s := range sights[disk] {
				if _, ok := known[s.Key]; !ok {
					known[s.Key] = len(known)
				}
				var set []int
				for _, n := range s.Set {
					set = append(set, slices.Index(order, n))
				}
				slices.Sort(set)
				fmt.Fprintf(&b, " %d.%d%v", s.Number, known[s.Key], set)
				for _, r := range s.Records {
					fmt.Fprintf(&b, ",%d", slices.IndexFunc(w.must, func(m []byte) bool { return bytes.Equal(m, r) }))
					if bytes.Equal(r, w.may) {
						b.WriteString("?")
					}
				}
			}
		}
		prints = append(prints, b.String())
	}
	return slices.Min(prints)
}

// orders returns all orders of names.
func orders(names []string) (out [][]string) {
	if len(names) < 2 {
		return [][]string{names}
	}
	for i, n := range names {
		for _, rest := range orders(slices.Delete(slices.Clone(names), i, i+1)) {
			out = append(out, append([]string{n}, rest...))
		}
	}
	return out
}

// parts returns all parts of names but the empty one, each in two orders.
func parts(names []string) (out [][]string) {
	for bits := 1; bits < 1<<len(names); bits++ {
		var part []string
		for i, n := range names {
			if bits>>i&1 == 1 {
				part = append(part, n)
			}
		}
		out = append(out, part)
		if len(part) > 1 {
			back := slices.Clone(part)
			slices.Reverse(back)
			out = append(out, back)
		}
	}
	return out
}

// act is what a step does with an open log, and on which disk.
type act struct{ what, disk string }

func (a act) String() string { return strings.TrimSpace(a.what + " " + a.disk) }

func acts() []act {
	list := []act{{what: "append"}}
	for _, d := range diskNames {
		list = append(list, act{"fail before", d}, act{"fail after", d}, act{"leave", d}, act{"join", d})
	}
	return list
}

// checker visits worlds.
type checker struct {
	t      *testing.T
	seen   map[string]bool
	steps  int
	path   string
	serial int
	now    *world // of the step under way
	next   []*world
}

// step opens the log on some disks of a world and acts. Every image on the way that was
// not seen before becomes one of next.
func (c *checker) step(w *world, there []string, a act) {
	c.steps++
	now := w.clone()
	c.now = now
	what := func() string { return fmt.Sprintf("%s; then %v on %v", c.path, a, there) }
	fsys := durabletest.New(durable.Mem(now.disks), durabletest.Options{After: func(op durabletest.Op) {
		if !strings.Contains(op.String(), ".log") {
			return // spares
		}
		for seed := range 2 {
			c.visit(&world{disks: durabletest.Cut(now.disks, op, seed), must: now.must, may: now.may})
		}
	}})
	j, err := journal.Open(now.options(fsys, there))
	if err != nil {
		require.True(c.t, len(there) < 3 && errors.Is(err, journal.ErrDiverged) || errors.Is(err, fs.ErrNotExist), "%s: %v", what(), err)
		return
	}
	defer j.Close()
	require.NoError(c.t, now.check(j), what())
	if len(there) == 3 {
		require.NoError(c.t, j.ReadOnly(), what())
	}
	if j.ReadOnly() != nil {
		return
	}
	if len(w.must) < int(j.Last()) {
		now.must = append(slices.Clone(now.must), now.may)
	}
	now.may = nil
	c.act(now, fsys, j, a)
	if j.ReadOnly() == nil {
		require.NoError(c.t, now.check(j), what())
	}
}

// act does one thing, and then appends a record.
func (c *checker) act(w *world, fsys *durabletest.FS, j *journal.Journal, a act) {
	switch a.what {
	case "fail before":
		fsys.SetFault(durabletest.All(durabletest.Write, "log/"+a.disk+"/", durabletest.Before, syscall.EIO))
	case "fail after":
		fsys.SetFault(durabletest.All(durabletest.Sync, "log/"+a.disk+"/", durabletest.After, syscall.EIO))
	case "leave":
		if j.Leave(a.disk) != nil {
			return
		}
	case "join":
		if j.Join(context.Background(), journal.Member{FS: fsys, Dir: "log/" + a.disk, Name: a.disk}) != nil {
			return
		}
	}
	c.serial++
	r := fmt.Appendf(nil, "record %d", c.serial)
	w.may = r
	if _, err := j.Append([][]byte{r}); err == nil {
		w.must, w.may = append(slices.Clone(w.must), r), nil
		c.visit(&world{disks: w.disks.CrashClone(vfs.CrashCloneCfg{}), must: w.must})
	}
}

func (c *checker) visit(w *world) {
	if p := w.print(); !c.seen[p] {
		c.seen[p] = true
		c.next = append(c.next, w)
	}
}

// newWorld is a log on three disks with one record.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{disks: vfs.NewCrashableMem()}
	opts := w.options(durable.Mem(w.disks), diskNames)
	opts.Create = true
	j, err := journal.Open(opts)
	require.NoError(t, err)
	w.must = [][]byte{[]byte("record 0")}
	add(t, j, w.must[0])
	require.NoError(t, j.Close())
	return w
}

func TestEveryOrder(t *testing.T) {
	most := []int{1, 1 << 30, 25} // worlds gone on from, of those that the steps before led to
	switch {
	case heavy():
		most = []int{1, 1 << 30, 1 << 30, 2000}
	case testing.Short():
		most = []int{1, 5}
	}
	c := &checker{t: t, seen: map[string]bool{}}
	c.visit(newWorld(t))
	for d, n := range most {
		worlds := c.next
		c.next = nil
		rand.Shuffle(len(worlds), func(i, j int) { worlds[i], worlds[j] = worlds[j], worlds[i] })
		worlds = worlds[:min(len(worlds), n)]
		for _, w := range worlds {
			c.path = w.print()
			for _, there := range parts(diskNames) {
				for _, a := range acts() {
					c.step(w, there, a)
				}
			}
		}
		t.Logf("%d worlds after %d steps more, %d in all, %d steps", len(c.next), d+1, len(c.seen), c.steps)
	}
}
