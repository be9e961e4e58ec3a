package catalog_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/internal/catalog"
	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/store"
)

// seeded returns a random source, whose seed is printed and can be given back.
func seeded(t testing.TB) *rand.Rand {
	seed := rand.Uint64()
	if s := os.Getenv("BLOCKFRAME_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("replay with BLOCKFRAME_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// gen makes commands that often mean something to each other.
type gen struct {
	*rand.Rand
	m       *model
	uploads int
	began   bool
}

func (g *gen) oneOf(s ...string) string { return s[g.IntN(len(s))] }

func (g *gen) name() string {
	comps := []string{g.oneOf("a", "b", "c")}
	for g.IntN(2) == 0 && len(comps) < 3 {
		comps = append(comps, g.oneOf("a", "b", "c"))
	}
	return strings.Join(comps, "/")
}

// names are all that name returns.
func names() (out []string) {
	for _, a := range []string{"a", "b", "c"} {
		out = append(out, a)
		for _, b := range []string{"a", "b", "c"} {
			out = append(out, a+"/"+b)
			for _, c := range []string{"a", "b", "c"} {
				out = append(out, a+"/"+b+"/"+c)
			}
		}
	}
	return append(out, "lost+found", "lost+found/a", "lost+found/b", "lost+found/a/b")
}

func (g *gen) upload() int {
	if g.IntN(4) > 0 || g.uploads == 0 {
		g.uploads++
	}
	return max(1, g.uploads-g.IntN(2)*g.IntN(6))
}

func (g *gen) attr() store.Attr {
	a := store.Attr{Mode: 0o644, ModTime: time.Unix(1e9, 0).UTC()}
	if g.IntN(6) == 0 {
		a.Mode, a.UID, a.Xattrs = 0o600, 7, map[string][]byte{"user.x": {1}}
	}
	return a
}

func (g *gen) version() uint64 { return uint64(g.IntN(4)) }

func (g *gen) epoch() uint64 {
	if g.IntN(12) == 0 && g.m.epoch > 0 {
		return g.m.epoch - 1
	}
	return g.m.epoch
}

func (g *gen) put() store.Put {
	n := g.upload()
	var p store.Put
	switch content := g.oneOf("A", "B", "C", ""); g.IntN(5) {
	case 0, 1:
		p = inline(g.name(), content, n)
		if g.IntN(3) == 0 {
			p.Code = erasure.Code{K: 2, M: 1 + g.IntN(2)} // of the pack to come
		}
	case 2:
		p = located(g.name(), "L"+content, 1000, n, g.epoch())
		if g.IntN(3) == 0 {
			g.stronger(&p)
		}
	case 3: // what an AddExtent or a pack left
		p = located(g.name(), "M"+content, 200, n, g.epoch())
		p.Extents, p.Offset = nil, int64(g.IntN(5))*200
	case 4: // a tiny content in a pack of its own
		p = located(g.name(), content+"!", 2, n, g.epoch())
		p.Extents[0].Kind, p.Extents[0].Length, p.Extents[0].Whole, p.Offset = store.KindPack, 900, false, int64(g.IntN(400))
		p.ID, p.Size = idOf(content+"!"), 2
	}
	p.Attr = g.attr()
	if g.IntN(8) == 0 {
		p.Policy = "gold"
	}
	if g.IntN(4) == 0 {
		p.Expect = int64(g.IntN(4))
	}
	if g.IntN(5) == 0 {
		p.Distrust = uid(1 + g.IntN(g.uploads))
	}
	return p
}

// stronger gives the put a code of 2+2, a shard of which may be missing.
func (g *gen) stronger(p *store.Put) {
	x := &p.Extents[0]
	p.Code = erasure.Code{K: 2, M: 2}
	x.Code = p.Code
	x.Shards = append(x.Shards, store.Shard{Backend: bid(4)})
	if g.IntN(2) == 0 {
		x.Shards[g.IntN(4)].Missing = true
	}
}

func (g *gen) command() store.Command {
	switch g.IntN(37) {
	case 0:
		return store.OpenEpoch{}
	case 34, 35, 36:
		return g.adoption()
	case 1, 2:
		n := g.upload()
		return store.AddExtent{Extent: extent(1000*n+g.IntN(2), n, g.IntN(2), int64(g.IntN(2))*1000, 1000, g.epoch())}
	case 3, 4:
		return catalog.Delete{Name: g.name(), Expect: int64(g.IntN(2) * g.IntN(4))}
	case 5, 6:
		return catalog.Purge{Name: g.name(), Version: 1 + g.version()}
	case 7:
		return catalog.Purge{Name: g.name(), All: true}
	case 8, 9, 10:
		return catalog.Rename{From: g.name(), To: g.name()}
	case 11, 12:
		return catalog.Mkdir{Name: g.name(), Attr: g.attr(), Parents: g.IntN(2) == 0}
	case 13, 14, 15:
		return catalog.Rmdir{Name: g.name()}
	case 16:
		a := g.attr()
		a.Target = g.oneOf("x", "../y")
		return catalog.Symlink{Name: g.name(), Attr: a}
	case 17:
		return catalog.SetAttr{Name: g.name(), Mask: catalog.AttrMask(g.IntN(32)), Attr: g.attr()}
	case 18:
		return catalog.Hold{Name: g.name(), Version: g.version(), On: g.IntN(3) == 0}
	case 19:
		return catalog.Retain{Name: g.name(), Version: g.version(), Until: g.m.now.Add(time.Duration(g.IntN(30)) * time.Millisecond)}
	case 20:
		return store.Pack{Extent: g.pack(), Members: []store.Member{{ID: idOf("A"), Size: 1}, {ID: idOf("B"), Offset: 1, Size: 1}, {ID: idOf("C"), Offset: 2, Size: 1}}}
	case 21:
		return store.Forget{Upload: uid(1 + g.IntN(g.uploads+1))}
	case 22:
		return store.SetState{Key: g.oneOf("k", "l"), Value: []byte(g.oneOf("", "1", "2"))}
	case 23:
		return catalog.SetPolicy{Policy: store.Policy{Name: g.oneOf("p", "q"), Prefix: g.oneOf("", "a/"), MaxSize: int64(g.IntN(2)), Code: erasure.Code{K: 2, M: 1}, PerBackend: g.IntN(3)}}
	case 24:
		return catalog.UnsetPolicy{Prefix: g.oneOf("", "a/", "b")}
	case 25, 26:
		return g.keep()
	case 27:
		return store.Release{Upload: uid(1 + g.IntN(g.uploads+1))}
	case 28, 29:
		return g.disk()
	}
	return g.repair()
}

// keep keeps an upload, of which the extent may be recorded already or be another one.
func (g *gen) keep() store.Command {
	n := g.upload()
	c := keepOf(store.KindSegment+store.Kind(g.IntN(2)), n, g.epoch(), uint64(1+g.IntN(3)))
	if g.IntN(4) == 0 {
		c.Extents = nil
	}
	if g.IntN(8) == 0 {
		c.Size++
	}
	return c
}

func (g *gen) repair() store.Command {
	n := 1 + g.IntN(g.uploads+1)
	x := eid(n)
	switch g.IntN(31) {
	case 0, 1, 2:
		return store.Kill{Upload: uid(n)}
	case 3:
		return store.Report{Damage: []store.Repair{{Extent: x, Shard: g.IntN(4), Left: g.IntN(3) - 1, Stripes: []byte{1}[:g.IntN(2)]}, {Extent: eid(n + 1), Shard: 1}}}
	case 4:
		return store.Report{Damage: []store.Repair{{Backend: bid(g.IntN(6) + 1), Left: g.IntN(2)}}}
	case 5:
		return store.Intact{Extent: x, Shard: g.IntN(3), Generation: uint32(g.IntN(2))}
	case 6:
		return store.Intact{Backend: bid(g.IntN(6) + 1)}
	case 7:
		return store.Replace{Extent: x, Shard: g.IntN(4), From: uint32(g.IntN(3)), To: store.Shard{Backend: bid(1 + g.IntN(6)), Generation: uint32(g.IntN(4))}}
	case 8:
		return store.Abandon{Upload: uid(n)}
	case 10, 11, 12:
		return g.repack()
	case 25:
		return store.Narrow{Upload: uid(n), On: g.IntN(4) > 0}
	case 26, 27, 28, 29, 30:
		return g.reshape()
	case 9:
		return catalog.SetGrace{Grace: time.Duration(g.IntN(20)) * time.Millisecond}
	}
	return g.put()
}

// repack moves what lies in some upload.
func (g *gen) repack() store.Command {
	c := store.Repack{Extent: g.pack()}
	c.Extent.Length = 1000
	for _, id := range slices.SortedFunc(maps.Keys(g.m.contents), func(a, b store.ID) int { return bytes.Compare(a[:], b[:]) }) {
		at := g.m.contents[id]
		if !at.Upload.IsZero() && at.Size < 900 && len(c.Members) < 3 && g.IntN(2) == 0 {
			c.Members = append(c.Members, store.Moved{Member: store.Member{ID: id, Offset: int64(g.IntN(100)), Size: at.Size}, From: at.Upload})
		}
	}
	if len(c.Members) > 0 && g.IntN(5) == 0 {
		c.Members[0].From = uid(1 + g.IntN(g.uploads+1))
	}
	return c
}

// reshape moves what lies in some upload of its own.
func (g *gen) reshape() store.Command {
	var ids []store.ID
	for id, c := range g.m.contents {
		if !c.Upload.IsZero() {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return g.put()
	}
	slices.SortFunc(ids, func(a, b store.ID) int { return bytes.Compare(a[:], b[:]) })
	at := g.m.contents[ids[g.IntN(len(ids))]]
	p := located("x", "", at.Size, g.upload(), g.epoch())
	if g.IntN(2) == 0 {
		g.stronger(&p)
	}
	p.Extents[0].Hash = frame.Hash(at.ID)
	c := store.Reshape{ID: at.ID, Size: at.Size, From: at.Upload, Upload: p.Upload, Extents: p.Extents, Refs: at.Refs}
	switch g.IntN(8) {
	case 0:
		c.From = uid(1 + g.IntN(g.uploads+1))
	case 1:
		c.Refs++
	case 2:
		c.Size++
	case 3:
		c.Extents[0].Hash = frame.Hash{1}
	case 4:
		c.Extents = nil
	case 5: // of two extents, one of which is recorded before
		c.Extents[0].Whole = false
	}
	return c
}

func (g *gen) pack() store.Extent {
	n := g.upload()
	x := extent(n, n, 0, 0, int64(1+g.IntN(4)), g.epoch())
	x.Kind = store.KindPack
	return x
}

// TestModel compares the whole visible state after every record.
func TestModel(t *testing.T) {
	rng := seeded(t)
	rounds, records := 8, 120
	if testing.Short() {
		rounds = 1 // with the race detector
	}
	if os.Getenv("BLOCKFRAME_HEAVY") != "" {
		rounds = 200
	}
	for range rounds {
		// Rows that are written to Pebble at once, or after some records, or never.
		front, inline := 1<<(4+rng.IntN(16)), 1<<rng.IntN(14)
		small := func(o *catalog.Options) { o.Front, o.Inline = front, inline }
		mem := vfs.NewCrashableMem()
		r := newRig(t, durable.Mem(mem), small)
		g := &gen{Rand: rng, m: newModel(), uploads: 0}
		var log []string
		var saved *catalog.Saved // some snapshot of before
		for range records {
			rec := g.record()
			log = append(log, describe(rec))
			results, err := r.cat.Commit(ctx, rec)
			require.NoError(t, err)
			clock, now := r.cat.Clock()
			g.m.now, g.m.clock = now, clock
			errs, next := g.m.apply(rec)
			g.m = next
			for i := range errs {
				if got, want := class(results[i].Err), class(errs[i]); got != want {
					t.Fatalf("after\n%s\ncommand %d: %v, want %v", recent(log), i, results[i].Err, errs[i])
				}
			}
			if got, want := r.points(), g.m.points(); got != want {
				t.Fatalf("after\n%s\n%s", recent(log), diff(want, got))
			}
			if g.IntN(3) == 0 { // it writes all rows to Pebble
				if got, want := r.dump(), g.m.dump(g.uploads); got != want {
					t.Fatalf("after\n%s\n%s", recent(log), diff(want, got))
				}
			}
			if g.IntN(5) == 0 {
				r.sound(strings.Join(log[max(0, len(log)-2):], "\n"))
			}
			switch g.IntN(80) {
			case 4:
				saved = r.savedSnapshot()
			case 5, 6: // and all that has to be made of it, is
				if saved != nil {
					before := r.snapshot()
					require.NoError(t, r.cat.RenewFrom(saved))
					require.True(t, bytes.Equal(before, r.snapshot()), "restored from record %d", saved.Last)
				}
			case 7:
				before := r.snapshot()
				require.NoError(t, r.cat.Renew())
				require.True(t, bytes.Equal(before, r.snapshot()), "replayed")
			case 0:
				r.reopen(small)
			case 1:
				mem = image(mem, uint64(g.IntN(3)))
				require.NoError(t, r.stop())
				r.fs = durable.Mem(mem)
				r.open(small)
			case 2, 3:
				require.NoError(t, r.cat.Flush()) // what was inline before is not replayed
			}
		}
	}
}

func (g *gen) record() store.Record {
	rec := store.Record{Each: g.IntN(2) == 0}
	for {
		rec.Commands = append(rec.Commands, g.command())
		if g.IntN(4) > 0 {
			return rec
		}
	}
}

// class is the sentinel that an error matches.
func class(err error) error {
	for _, c := range []error{fs.ErrNotExist, fs.ErrExist, fs.ErrInvalid, catalog.ErrConflict, catalog.ErrExpired, catalog.ErrRetained, catalog.ErrNotEmpty, store.ErrTooFew} {
		if errors.Is(err, c) {
			return c
		}
	}
	return err
}

func diff(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	var out []string
	for _, line := range w {
		if !slices.Contains(g, line) {
			out = append(out, "want "+line)
		}
	}
	for _, line := range g {
		if !slices.Contains(w, line) {
			out = append(out, "got  "+line)
		}
	}
	return strings.Join(append(out, "(or the order)"), "\n")
}

func describe(rec store.Record) string {
	s := fmt.Sprintf("each=%v", rec.Each)
	for _, c := range rec.Commands {
		s += fmt.Sprintf(" %T%+v", c, c)
	}
	return s
}

// recent is the end of a log: the seed gives all of it.
func recent(log []string) string { return strings.Join(log[max(0, len(log)-2):], "\n") }
