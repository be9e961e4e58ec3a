package catalog_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/catalog"
	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/durable/durabletest"
	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/internal/journal"
	"github.com/blockframe/blockframe/store"
)

// snapshot returns the bytes of a snapshot of now.
func (r *rig) snapshot() []byte {
	r.t.Helper()
	s, err := r.cat.Snapshot(ctx)
	require.NoError(r.t, err)
	defer s.Close()
	require.Equal(r.t, r.cat.Applied(), s.Index)
	var b bytes.Buffer
	n, err := s.WriteTo(&b)
	require.NoError(r.t, err)
	require.EqualValues(r.t, b.Len(), n)
	return b.Bytes()
}

func savedBytes(first, last uint64, b []byte) catalog.Saved {
	return catalog.Saved{First: first, Last: last, Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }}
}

// savedSnapshot returns a snapshot of now as what is kept of it is found.
func (r *rig) savedSnapshot() *catalog.Saved {
	s := savedBytes(1, r.cat.Applied(), r.snapshot())
	return &s
}

// A small history, with a row of every table that has any.
func sampleHistory(r *rig) {
	r.ok(store.OpenEpoch{})
	r.ok(inline("dir/tiny", "some bytes", 1))
	r.ok(located("dir/large", "L", 5000, 2, 1))
	r.ok(keepOf(store.KindSegment, 3, 1, 2))
	r.ok(store.SetState{Key: "cursor", Value: []byte("here")})
	r.ok(catalog.SetBackends{Backends: []catalog.Backend{{ID: bid(1), Path: "/d1"}}})
	r.ok(store.Report{Damage: []store.Repair{{Extent: eid(2), Shard: 1, Stripes: []byte{1}}}})
	r.ok(inline("again", "some bytes", 4))
	r.ok(catalog.Delete{Name: "again"})
}

// TestSnapshotGolden holds the format: an old snapshot must stay readable.
func TestSnapshotGolden(t *testing.T) {
	const name = "testdata/snapshot.golden"
	r := memRig(t)
	_, err := r.cat.Snapshot(ctx)
	require.ErrorIs(t, err, fs.ErrNotExist)
	r.now = baseTime
	sampleHistory(r)
	b := r.snapshot()
	require.Equal(t, b, r.snapshot())
	masked := maskIncarnation(t, b)
	if *update {
		require.NoError(t, os.WriteFile(name, []byte(hex.Dump(masked)), 0o644))
	}
	want, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, string(want), hex.Dump(masked))
	again, rows, err := catalog.ReadSnapshot(bytes.NewReader(b))
	require.NoError(t, err)
	require.Equal(t, b, again)
	require.Greater(t, len(rows), 15)
}

// maskIncarnation makes the one thing zero that is random, and what depends on it.
func maskIncarnation(t testing.TB, b []byte) []byte {
	_, rows, err := catalog.ReadSnapshot(bytes.NewReader(b))
	require.NoError(t, err)
	m := bytes.Clone(b)
	for _, row := range rows {
		if string(row.Key) == "m" {
			const hash, incarnation = 1 + 16 + 8, 1 + 16 + 8 + 32 + 8 + 8 + 16
			for _, span := range [][2]int{{hash, 32}, {incarnation, 8}} {
				at := bytes.Index(m, row.Value) // before anything of it is masked
				require.GreaterOrEqual(t, at, 0)
				clear(row.Value[span[0]:][:span[1]])
				clear(m[at+span[0]:][:span[1]])
			}
		}
	}
	clear(m[40:104])
	clear(m[len(m)-40-32 : len(m)-40])
	clear(m[len(m)-32:])
	return m
}

// Every truncation, extension and flipped byte of a snapshot is damage, and no row behind
// it is handed out. R2
func TestSnapshotDamaged(t *testing.T) {
	r := memRig(t)
	sampleHistory(r)
	b := r.snapshot()
	for n := range b {
		if testing.Short() && n%7 != 0 {
			continue
		}
		_, _, err := catalog.ReadSnapshot(bytes.NewReader(b[:n]))
		require.ErrorIs(t, err, frame.ErrCorrupt, "cut to %d", n)
		flipped := bytes.Clone(b)
		flipped[n] ^= 0x10
		_, rows, err := catalog.ReadSnapshot(bytes.NewReader(flipped))
		require.Error(t, err, "flipped at %d", n)
		if n < len(b)-40 {
			require.Empty(t, rows, "flipped at %d", n)
		}
	}
	_, _, err := catalog.ReadSnapshot(bytes.NewReader(append(bytes.Clone(b), 0)))
	require.ErrorIs(t, err, frame.ErrCorrupt)
	require.ErrorIs(t, r.cat.RenewFrom(new(savedBytes(1, r.cat.Applied(), b[:len(b)-1]))), frame.ErrCorrupt)
	require.ErrorIs(t, r.cat.RenewFrom(new(savedBytes(1, r.cat.Applied()-1, b))), frame.ErrCorrupt)
	r.ok(inline("works", "on", 9))
}

func FuzzSnapshot(f *testing.F) {
	r := memRig(f)
	sampleHistory(r)
	b := r.snapshot()
	f.Add(b)
	f.Add(b[:104])
	f.Add(b[:len(b)-40])
	f.Fuzz(func(t *testing.T, b []byte) {
		again, _, err := catalog.ReadSnapshot(bytes.NewReader(b))
		if err == nil {
			require.Equal(t, b, again)
		}
	})
}

// Snapshots of more than a frame, with contents inline in memory and as rows, are the same
// from a view that was made from the log.
func TestSnapshotLarge(t *testing.T) {
	r := memRig(t, func(o *catalog.Options) { o.Inline = 100 << 10 })
	for i := range 700 {
		r.ok(inline(fmt.Sprintf("n%d", i), strings.Repeat(fmt.Sprint(i, " "), 1+i%700), i+1))
	}
	b := r.snapshot()
	require.Greater(t, len(b), 1<<20)
	require.NoError(t, r.cat.Flush())
	require.True(t, bytes.Equal(b, r.snapshot()), "flushed")
	require.NoError(t, r.cat.Renew())
	require.True(t, bytes.Equal(b, r.snapshot()), "made anew")
	saved := savedBytes(1, r.cat.Applied(), b)
	r.ok(inline("n5", "another", 1000))
	want := r.snapshot()
	require.NoError(t, r.cat.RenewFrom(&saved))
	require.True(t, bytes.Equal(want, r.snapshot()), "restored")
}

// trimRig has a log that was trimmed to the second of three snapshots, with what was kept
// of it.
type trimRig struct {
	*rig
	snaps, segs []catalog.Saved // newest first
	opened      int             // of these
}

func newTrimRig(t *testing.T) *trimRig {
	r := &trimRig{rig: memRig(t)}
	i := 0
	for round := range 3 {
		for n := len(r.j.Segments()); len(r.j.Segments()) < n+2; i++ {
			r.ok(inline(fmt.Sprintf("d%d/n%d", i%3, i%40), strings.Repeat(fmt.Sprint(round, i, " "), 300)[:1000], i+1))
			if i%3 > 0 { // of the others the content waits to be packed, for ever
				r.ok(catalog.Purge{Name: fmt.Sprintf("d%d/n%d", i%3, i%40), All: true})
			}
		}
		r.snaps = append([]catalog.Saved{*r.savedSnapshot()}, r.snaps...)
		r.j.SetSnapshot(journal.Snapshot{ID: [32]byte{1}, Index: r.cat.Applied()})
	}
	for _, s := range r.j.Segments() {
		if s.Sealed {
			var b bytes.Buffer
			require.NoError(t, r.j.Export(s.Number, &b))
			seg := savedBytes(s.First, s.Last, b.Bytes())
			seg.Number = s.Number
			r.segs = append([]catalog.Saved{seg}, r.segs...)
		}
	}
	return r
}

func (r *trimRig) saved(o *catalog.Options) {
	o.Saved = func(_ context.Context, kind store.Kind) ([]catalog.Saved, error) {
		r.opened++
		if kind == store.KindSegment {
			return r.segs, nil
		}
		return r.snaps, nil
	}
}

func (r *trimRig) trim(to uint64) {
	r.t.Helper()
	require.NoError(r.t, r.cat.Detach(to, func() error { _, err := r.j.Trim(to); return err }))
	require.Greater(r.t, r.j.First(), uint64(1))
}

// Once the view is detached from records, they may go: a power cut leaves a view that needs
// none of them, contents that were inline in memory included. I1
func TestDetach(t *testing.T) {
	r := newTrimRig(t)
	require.ErrorIs(t, r.cat.Detach(r.cat.Applied()+1, nil), fs.ErrInvalid)
	want := r.snapshot()
	r.trim(r.snaps[1].Last)
	again := &trimRig{rig: &rig{t: t, fs: durable.Mem(image(r.fs.Pebble().(*vfs.MemFS), 0)), now: baseTime}}
	again.open(again.saved)
	require.True(t, bytes.Equal(want, again.snapshot()))
	require.Zero(t, again.opened, "the view was restored, though it was whole")
	r.ok(inline("after", "it", 99999))
}

// The view is lost, or older than the log: it is made of the newest snapshot that can be
// read, and the records behind it, kept segments included. R5
func TestRestore(t *testing.T) {
	r := newTrimRig(t)
	want, wantDump := r.snapshot(), r.dump()
	old := r.fs.Pebble().(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{}) // its view lacks nearly everything
	r.trim(r.snaps[1].Last)
	require.NoError(t, r.stop())
	whole, segs := r.snaps, r.segs
	bad := savedBytes(1, whole[0].Last, []byte("no snapshot"))
	future := savedBytes(1, 1<<40, nil)
	restored := func(what string, snaps, segs []catalog.Saved) {
		t.Helper()
		require.NoError(t, r.fs.RemoveAll("view"))
		r.snaps, r.segs = snaps, segs
		r.open(r.saved)
		require.True(t, bytes.Equal(want, r.snapshot()), what)
		require.Equal(t, wantDump, r.dump(), what)
		require.NoError(t, r.stop())
	}
	restored("newest", whole, nil)
	restored("the one before", whole[1:], nil)
	restored("newest damaged", append([]catalog.Saved{future, bad}, whole[1:]...), nil)
	restored("oldest, with segments that left the log", whole[2:], segs)

	r.open(r.saved)
	require.True(t, bytes.Equal(want, r.snapshot()), "and opens as it is")
	require.NoError(t, r.cat.Renew())
	require.True(t, bytes.Equal(want, r.snapshot()), "while it is open")
	require.NoError(t, r.stop())

	for what, snaps := range map[string][]catalog.Saved{"none": nil, "bad": {bad}, "not covered": whole[2:]} {
		require.NoError(t, r.fs.RemoveAll("view"))
		r.snaps, r.segs = snaps, nil
		_, err := catalog.Open(func() catalog.Options {
			var err error
			r.j, err = openLog(r.fs)
			require.NoError(t, err)
			o := r.options()
			r.saved(&o)
			return o
		}())
		require.ErrorIs(t, err, fs.ErrNotExist, what)
		require.NoError(t, r.j.Close())
	}

	// A view that was put aside before the log was trimmed.
	require.NoError(t, r.fs.RemoveAll("view"))
	copyTree(t, durable.Mem(old), r.fs, "view")
	r.snaps, r.segs = whole, nil
	r.open(r.saved)
	require.True(t, bytes.Equal(want, r.snapshot()), "an old view")
}

func copyTree(t testing.TB, from, to durable.FS, dir string) {
	require.NoError(t, to.MkdirAll(dir))
	for _, name := range must(from.List(dir)) {
		name = path.Join(dir, name)
		info, err := from.Stat(name)
		require.NoError(t, err)
		if info.Dir {
			copyTree(t, from, to, name)
			continue
		}
		b, err := durable.ReadFile(from, name, 1<<30)
		require.NoError(t, err)
		require.NoError(t, durable.WriteFile(to, name, b))
	}
}

// A power cut at any moment of a restore leaves a view that the next one makes again. R6
func TestRestoreCrash(t *testing.T) {
	r := newTrimRig(t)
	want := r.snapshot()
	r.trim(r.snaps[1].Last)
	require.NoError(t, r.stop())
	require.NoError(t, r.fs.RemoveAll("view"))
	mem := r.fs.Pebble().(*vfs.MemFS)
	var images atomic.Int64
	var done atomic.Bool // Pebble goes on in the background
	r.fs = durabletest.New(r.fs, durabletest.Options{After: durabletest.Crashes(mem, 2, func(img durabletest.Image) {
		if done.Load() {
			return
		}
		images.Add(1)
		again := &trimRig{rig: &rig{t: t, fs: durable.Mem(img.FS), now: baseTime}, snaps: r.snaps}
		again.open(again.saved)
		require.True(t, bytes.Equal(want, again.snapshot()), "after %s, seed %d", img.Op, img.Seed)
		require.NoError(t, again.stop())
	})})
	r.open(r.saved)
	done.Store(true)
	require.True(t, bytes.Equal(want, r.snapshot()))
	require.Greater(t, images.Load(), int64(10))
}
