package blockframe_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/blake3"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/erasure"
)

// tooMany destroys all but k-1 blocks of every stripe of an extent.
func (s *shelf) tooMany(e *extentImage) {
	s.Helper()
	for i := range e.shards {
		s.spoil(e, i, func(b []byte) []byte {
			if i < e.geo.Code.M+1 || i >= e.geo.Code.K {
				clear(b[4096 : len(b)-4096])
			}
			return b
		})
	}
}

// Bytes that are put again over a damaged object repair it, also when more is gone
// than its code can lose, and mend every name and version that shares them.
func TestPutAgainRepairs(t *testing.T) {
	for _, n := range []int{1, 3} {
		for class, size := range classes {
			if size == 0 {
				continue
			}
			t.Run(fmt.Sprintf("%s on %d", path.Base(class), n), func(t *testing.T) {
				s := newShelf(t, n, blockframe.Options{NoRepair: true, CacheBytes: -1, Policies: smallExtents, Grace: -1})
				data, other := content(1, size), content(2, 50_000)
				put(t, s.st, "extents/object", data)
				put(t, s.st, "extents/twin", data)
				put(t, s.st, "versions", data)
				put(t, s.st, "versions", other)
				require.NoError(t, s.st.PackInline(context.Background()))
				s.look()
				for round, again := range []string{"extents/object", "elsewhere"} {
					for _, e := range s.order {
						if e.geo.Length/1000 != 50 { // the pack of other
							s.tooMany(e)
						}
					}
					s.reopen()
					require.NotEmpty(t, s.readPieces("extents/twin", 0, data))
					obj, err := s.st.Put(context.Background(), again, bytes.NewReader(data), blockframe.PutOptions{Attr: monkeyAttr})
					require.NoError(t, err)
					require.Equal(t, blockframe.ID(blake3.Sum256(data)), obj.ID)
					for _, name := range []string{"extents/object", "extents/twin", again} {
						requireBytes(t, data, get(t, s.st, name, 0), "round %d: %s", round, name)
					}
					requireBytes(t, data, get(t, s.st, "versions", 1))
					require.NoError(t, s.st.PackInline(context.Background()))
					rep, err := s.st.Collect(context.Background(), blockframe.CollectOptions{})
					require.NoError(t, err)
					require.NoError(t, rep.Skipped)
					s.look()
				}
				s.scrub(true)
				s.requireClean() // nothing of the old extents is left
			})
		}
	}
}

// T2: dedup with one copy; and a damaged copy is not relied on, however slightly it
// is damaged.
func TestOneCopy(t *testing.T) {
	s := newShelf(t, 3, blockframe.Options{NoRepair: true, CacheBytes: -1, Grace: -1})
	data := content(1, 400_000)
	put(t, s.st, "a", data)
	require.Len(t, s.files.list(), 3)
	put(t, s.st, "b", data)
	_, err := s.st.Collect(context.Background(), blockframe.CollectOptions{})
	require.NoError(t, err)
	require.Len(t, s.files.list(), 3, "stored once")
	s.look()
	old := s.order[0]
	s.flipBlock(old, 2, 0)
	put(t, s.st, "c", data)
	_, err = s.st.Collect(context.Background(), blockframe.CollectOptions{})
	require.NoError(t, err)
	require.Len(t, s.files.list(), 3)
	s.look()
	require.Len(t, s.order, 1)
	require.NotEqual(t, old.id, s.order[0].id, "the new copy took the place of the damaged one")
	s.requireClean()
	for _, name := range []string{"a", "b", "c"} {
		requireBytes(t, data, get(t, s.st, name, 0))
	}
}

// A, B, A ends at A, whichever of them is damaged meanwhile, and the old versions
// stay what they were.
func TestThereAndBack(t *testing.T) {
	for _, size := range []int{1000, 100_000, 500_000} {
		s := newShelf(t, 3, blockframe.Options{NoRepair: true, CacheBytes: -1})
		a, b := content(1, size), content(2, size)
		put(t, s.st, "x", a)
		require.NoError(t, s.st.PackInline(context.Background()))
		s.look()
		put(t, s.st, "x", b)
		for _, e := range s.order {
			s.tooMany(e)
		}
		s.reopen()
		require.NotEmpty(t, s.readPieces("x", 1, a))
		require.EqualValues(t, 3, put(t, s.st, "x", a).Version)
		for version, data := range [][]byte{a, a, b, a} {
			requireBytes(t, data, get(t, s.st, "x", uint64(version)))
		}
	}
}

// R15: a report tells clean, repaired, left and lost apart. Parity that is gone is
// not healthy, and the objects that can lose less than their code provides for are
// named with what they can still lose.
func TestReport(t *testing.T) {
	s := newShelf(t, 5, blockframe.Options{NoRepair: true, CacheBytes: -1, Policies: []blockframe.Policy{{Code: erasure.Code{K: 2, M: 3}, Extent: 1 << 20}}})
	data := content(1, 1<<20+300_000)
	put(t, s.st, "whole", content(2, 300_000))
	put(t, s.st, "object", data)
	s.look()
	var first, second *extentImage
	for _, e := range s.order {
		switch e.geo.Length {
		case 1 << 20:
			first = e
		case 300_000:
			if e.offset > 0 {
				second = e
			}
		}
	}
	rep := s.scrub(false)
	require.True(t, rep.Clean())
	require.Empty(t, rep.Degraded)

	// All parity gone: every byte is there, and yet.
	for i := 2; i < 5; i++ {
		s.files.write(t, first.shards[i].path, nil)
	}
	for _, deep := range []bool{false, true} {
		rep, err := s.st.Scrub(context.Background(), blockframe.ScrubOptions{Deep: deep})
		require.NoError(t, err)
		require.False(t, rep.Clean())
		require.EqualValues(t, 3, rep.Damaged)
		require.EqualValues(t, 3, rep.Left)
		require.Empty(t, rep.Lost)
		require.Len(t, rep.Degraded, 1)
		require.Equal(t, "object", rep.Degraded[0].Name)
		require.EqualValues(t, 1, rep.Degraded[0].Version)
		require.Zero(t, rep.Degraded[0].Left)
	}
	rep = s.scrub(true)
	require.EqualValues(t, 3, rep.Repaired)
	require.Zero(t, rep.Left)
	require.Empty(t, rep.Degraded)
	s.requireClean()

	// One bad block costs one, blocks in different stripes no more, two in one two.
	s.flipBlock(first, 0, 1)
	s.flipBlock(first, 1, 2)
	rep = s.scrub(false)
	require.Equal(t, 2, rep.Degraded[0].Left)
	s.flipBlock(second, 2, 0)
	s.flipBlock(second, 0, 0)
	rep = s.scrub(false)
	require.Len(t, rep.Degraded, 1)
	require.Equal(t, 1, rep.Degraded[0].Left, "the least of its extents counts")

	// A header alone makes the shard damaged, but no stripe poorer.
	s.scrub(true)
	s.requireClean()
	s.look()
	s.spoil(first, 0, func(b []byte) []byte { b[60] ^= 1; return b })
	rep = s.scrub(false)
	require.EqualValues(t, 1, rep.Left)
	require.Empty(t, rep.Degraded)

	// Lost: named with the range, and no longer counted among what is left.
	s.tooMany(second)
	s.reopen()
	rep = s.scrub(true)
	require.NotEmpty(t, rep.Lost)
	require.Zero(t, rep.Left)
	require.EqualValues(t, 1, rep.Repaired, "the header")
	require.Equal(t, []int{-1}, []int{rep.Degraded[0].Left})
	for _, ce := range rep.Lost {
		require.Equal(t, "object", ce.Name)
		require.GreaterOrEqual(t, ce.Offset, int64(1<<20))
	}
}

// R16: shards spread evenly over the folders of a disk (a chi-square test), whatever
// the names of the objects; and over the disks.
func TestFanOut(t *testing.T) {
	s := newShelf(t, 4, blockframe.Options{NoRepair: true})
	ctx := context.Background()
	objects := 600
	if testing.Short() {
		objects = 200
	}
	var work sync.WaitGroup
	for w := range 8 {
		work.Go(func() {
			for i := w; i < objects; i += 8 {
				_, err := s.st.Put(ctx, fmt.Sprintf("media/movies/film_%08d.mkv", i), bytes.NewReader(content(byte(i), 5000+i)), blockframe.PutOptions{})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	work.Wait()
	folders, disks := map[string]int{}, map[string]int{}
	extents := map[string]bool{}
	for _, name := range s.files.list() {
		id, _, _ := parsePath(name)
		disks[strings.Split(name, "/")[1]]++
		if !extents[id] {
			extents[id] = true
			folders[path.Base(path.Dir(name))[:1]]++ // the first digit: enough in each to test
		}
	}
	// 99.9 % of samples of an even spread lie below 37.7 for 15 degrees of freedom,
	// and one in a hundred million above 70.
	require.Less(t, chiSquare(folders, 16, len(extents)), 70.0, "%v", folders)
	require.Len(t, disks, 4)
	for disk, n := range disks {
		require.InDelta(t, len(s.files.list())/4, n, float64(len(s.files.list()))/8, "%s", disk)
	}
}

// chiSquare returns the statistic for n things counted in so many classes.
func chiSquare(counts map[string]int, classes, n int) (sum float64) {
	want := float64(n) / float64(classes)
	for _, have := range counts {
		sum += (float64(have) - want) * (float64(have) - want) / want
	}
	return sum + want*float64(classes-len(counts))
}

// R17: a changed byte is another address, and the old bytes stay readable; a blob
// whose bytes were altered, with all its own hashes made to match, is rejected.
func TestAlteredBlob(t *testing.T) {
	s := newShelf(t, 3, blockframe.Options{NoRepair: true, CacheBytes: -1})
	mine, theirs := content(1, 300_000), content(2, 300_000)
	put(t, s.st, "mine", mine)
	s.look()
	e := s.order[0]

	// Another store holds other bytes of the same shape. Its blobs are whole in
	// every respect, but for being those of another extent.
	o := newShelf(t, 3, blockframe.Options{NoRepair: true})
	put(t, o.st, "mine", theirs)
	o.look()
	forged := o.order[0]
	for i := range e.shards {
		s.files.write(t, e.shards[i].path, forged.shards[i].bytes)
		requireBytes(t, mine, get(t, s.st, "mine", 0), "shard %d is forged", i)
		rep := s.scrub(true)
		require.EqualValues(t, 1, rep.Repaired)
		s.look()
	}
	s.requireClean()
	for i := range e.shards {
		s.files.write(t, e.shards[i].path, forged.shards[i].bytes)
	}
	s.reopen()
	rd, err := s.st.Open(context.Background(), "mine")
	require.NoError(t, err)
	defer rd.Close()
	got, err := io.ReadAll(rd)
	require.ErrorIs(t, err, blockframe.ErrCorrupt)
	require.Empty(t, got)
}

// T14: stores and reads at the same time, beside repairs of what rots meanwhile;
// one object deleted leaves the others intact; a restart keeps all.
func TestBusyAndRotting(t *testing.T) {
	ctx := context.Background()
	s := newShelf(t, 3, blockframe.Options{CacheBytes: -1, Policies: smallExtents})
	want := s.fill()
	names := slices.Sorted(maps.Keys(want))
	rounds := 60
	if testing.Short() {
		rounds = 15
	}
	var work sync.WaitGroup
	for w := range 4 {
		work.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 1))
			for i := range rounds {
				name := names[rng.IntN(len(names))]
				rd, err := s.st.Open(ctx, name)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(rd)
				if err != nil || !bytes.Equal(want[name], got) {
					t.Errorf("%s: %d bytes, %v", name, len(got), err)
				}
				rd.Close()
				mine := fmt.Sprintf("busy/%d", w)
				if _, err := s.st.Put(ctx, mine, bytes.NewReader(content(byte(i), 1000*i*w)), blockframe.PutOptions{}); err != nil {
					t.Error(err)
				}
				if err := s.st.Delete(ctx, mine, blockframe.DeleteOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	// One shard of each old extent at most is bad at any time: the next one rots when
	// it was repaired.
	for round := range rounds / 5 {
		for _, e := range s.order[:min(len(s.order), 7)] {
			s.flipBlock(e, round%2, 0)
		}
		_, err := s.st.Scrub(ctx, blockframe.ScrubOptions{Deep: true, Repair: true})
		require.NoError(t, err)
		_, err = s.st.Repair(ctx)
		require.NoError(t, err)
		s.images()
	}
	work.Wait()
	require.NoError(t, s.st.Delete(ctx, names[0], blockframe.DeleteOptions{}))
	delete(want, names[0])
	s.reopen()
	_, err := s.st.Stat(ctx, names[0])
	require.ErrorIs(t, err, fs.ErrNotExist)
	s.requireAll(want)
	s.scrub(true)
	rep := s.scrub(false)
	require.True(t, rep.Clean(), "%+v", rep)
}

// images takes images of the newest generation of the known extents.
func (s *shelf) images() {
	s.Helper()
	for _, name := range s.files.list() {
		id, shard, gen := parsePath(name)
		if e := s.extents[id]; e != nil && gen > e.shards[shard].gen {
			e.shards[shard] = s.successor(e, shard, e.shards[shard], name, gen)
		}
	}
}

// Every copy of the manifests of what was purged, and is kept for its grace, is damaged:
// they are made anew, under a name that says that there is none.
func TestManifestsOfThePurged(t *testing.T) {
	s := newShelf(t, 3, blockframe.Options{NoRepair: true, CacheBytes: -1})
	data := content(1, 700_000)
	put(t, s.st, "a", data)
	s.look()
	require.NoError(t, s.st.Delete(context.Background(), "a", blockframe.DeleteOptions{All: true}))
	e := s.order[0]
	for i, sh := range e.shards {
		off, size := sh.part("manifests")
		s.spoil(e, i, func(b []byte) []byte { b[off+size/2] ^= 1; return b })
	}
	rep := s.scrub(true)
	require.EqualValues(t, 3, rep.Repaired)
	require.Zero(t, rep.Left, "%+v", rep)
	s.look()
	s.requireClean()
	for _, sh := range e.shards {
		off, size := sh.part("manifests")
		require.Contains(t, string(sh.bytes[off:off+size]), `"name":"lost+found/`)
	}
	put(t, s.st, "b", data)
	requireBytes(t, data, get(t, s.st, "b", 0), "b")
}

// No table is whole, and in the place of one shard lies the blob of another extent, sound
// in itself: each of two tables has blocks that hash to it. The right one is found,
// whichever of them is looked at first.
func TestForeignBlobAmongDamagedTables(t *testing.T) {
	s := newShelf(t, 1, blockframe.Options{NoRepair: true, Policies: []blockframe.Policy{{Name: "copies", Code: erasure.Code{K: 1, M: 2}}}})
	want := map[string][]byte{"right": content(1, 20_000), "other": content(2, 20_000)}
	var extents []*extentImage
	for _, name := range []string{"right", "other"} {
		put(s, s.st, name, want[name])
		s.look()
		extents = append(extents, s.order[len(s.order)-1])
	}
	foreign := extents[1].shards[0].bytes
	s.spoil(extents[0], 0, func([]byte) []byte { return foreign })
	for shard := 1; shard <= 2; shard++ {
		s.spoil(extents[0], shard, func(b []byte) []byte { b[len(b)-100] ^= 1; return b }) // the trailer
	}
	for range 12 {
		s.reopen()
		requireBytes(t, want["right"], get(s, s.st, "right", 0), "right")
	}
	require.Equal(t, int64(3), s.scrub(true).Repaired)
	s.requireClean()
}
