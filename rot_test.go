package blockframe_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
)

// classes are objects of every size class: in a pack that the log was emptied
// into, in a small pack, in one stripe with a short block, in several stripes with
// a short one, in several extents, and in a pack that a batch wrote.
var classes = map[string]int{
	"inline": 1000, "small": 100_000, "stripe": 300_001, "stripes": 700_003, "extents/two": 1<<20 + 70_001,
	"batch/a": 30_000, "batch/b": 150_000, "batch/empty": 0,
}

// fill puts an object of every size class.
func (s *shelf) fill() map[string][]byte {
	s.Helper()
	ctx := context.Background()
	want := map[string][]byte{}
	batch := s.st.Batch(ctx)
	for i, name := range slices.Sorted(maps.Keys(classes)) {
		want[name] = content(byte(i), classes[name])
		if name[:5] == "batch" {
			require.NoError(s, batch.Put(name, bytes.NewReader(want[name]), blockframe.PutOptions{}))
		} else {
			put(s, s.st, name, want[name])
		}
	}
	_, err := batch.Commit()
	require.NoError(s, err)
	require.NoError(s, s.st.PackInline(ctx))
	s.look()
	return want
}

// smallExtents cuts what is under extents/ into pieces of 1 MiB.
var smallExtents = []blockframe.Policy{{Name: "cut", Prefix: "extents/", Extent: 1 << 20}}

// damage is something that happens to a shard. It returns nil for a shard that is
// gone; other is another shard of the extent.
type damage struct {
	name string
	do   func(b []byte, im, other *shardImage) []byte
}

// damages are all that is tried on every shard: on each part of it, and on it as a
// whole.
func damages() (list []damage) {
	add := func(name string, do func(b []byte, im, other *shardImage) []byte) {
		list = append(list, damage{name, do})
	}
	for _, part := range parts {
		add("flip a bit of the "+part, func(b []byte, im, _ *shardImage) []byte {
			off, size := im.part(part)
			if size > 0 {
				b[off+size/2] ^= 4
			} else {
				b[off] ^= 4 // of a part that is empty: the next one
			}
			return b
		})
		add("zero the "+part, func(b []byte, im, _ *shardImage) []byte {
			off, size := im.part(part)
			clear(b[off : off+size])
			return b
		})
		add("cut off in the "+part, func(b []byte, im, _ *shardImage) []byte {
			off, size := im.part(part)
			return b[:off+size/2]
		})
		add("flip a bit of the padding of the "+part, func(b []byte, im, _ *shardImage) []byte {
			off, size := im.part(part)
			b[(off+size+4095)/4096*4096-1] ^= 1 // the last byte, where there is no padding
			return b
		})
	}
	add("delete", func([]byte, *shardImage, *shardImage) []byte { return nil })
	add("zero all", func(b []byte, _, _ *shardImage) []byte { clear(b); return b })
	add("nothing left in it", func(b []byte, _, _ *shardImage) []byte { return b[:0] })
	add("one byte less", func(b []byte, _, _ *shardImage) []byte { return b[:len(b)-1] })
	add("append a byte", func(b []byte, _, _ *shardImage) []byte { return append(b, 7) })
	add("append a page", func(b []byte, _, _ *shardImage) []byte { return append(b, make([]byte, 4096)...) })
	add("another shard in its place", func(_ []byte, _, other *shardImage) []byte { return bytes.Clone(other.bytes) })
	return list
}

// R2: every size class, every shard, every damage to every part: reads return the
// right bytes, a scrub heals, nothing else changes, and a second scrub is clean.
// T12: a corrupt shard is detected.
func TestEveryShardEveryDamage(t *testing.T) {
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d directories", n), func(t *testing.T) {
			t.Parallel()
			s := newShelf(t, n, blockframe.Options{NoRepair: true, CacheBytes: -1, Policies: smallExtents})
			want := s.fill()
			most := 0
			for _, e := range s.order {
				most = max(most, len(e.shards))
			}
			for i, d := range damages() {
				for shard := range most {
					if testing.Short() && (i+shard)%17 != 0 {
						continue
					}
					s.oneDamage(d, shard, want)
				}
			}
		})
	}
}

// oneDamage damages that shard of every extent and sees it healed.
func (s *shelf) oneDamage(d damage, shard int, want map[string][]byte) {
	s.Helper()
	what := fmt.Sprintf("%s, shard %d", d.name, shard)
	var expect []string
	for _, e := range s.order {
		if shard >= len(e.shards) {
			continue
		}
		other := e.shards[(shard+1)%len(e.shards)]
		s.spoil(e, shard, func(b []byte) []byte { return d.do(b, e.shards[shard], other) })
		if !bytes.Equal(s.files.read(s, e.shards[shard].path), e.shards[shard].bytes) { // else it was nothing: an empty part
			expect = append(expect, fmt.Sprintf("%d/%d", e.n, shard))
		}
	}
	slices.Sort(expect)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		requireBytes(s, want[name], get(s, s.st, name, 0), "%s: %s", what, name)
	}
	rep := s.scrub(true)
	require.EqualValues(s, len(expect), rep.Damaged, "%s: %+v", what, rep)
	require.EqualValues(s, len(expect), rep.Repaired, "%s: %+v", what, rep)
	require.Zero(s, rep.Left, what)
	require.Empty(s, rep.Lost, what)
	require.Equal(s, expect, s.look(), "%s: these shards are repaired, and no others", what)
	s.requireClean()
}
