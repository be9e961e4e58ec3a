package store_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/store"
)

// parts returns where header, blocks, table, manifests and trailer of a blob begin.
func parts(b []byte) (blocks, table, manifests, trailer int) {
	tail := b[len(b)-page:]
	at := func(f field) int {
		return int(tail[f.off+6])<<8 | int(tail[f.off+7]) | int(tail[f.off+5])<<16 | int(tail[f.off+4])<<24
	}
	return at(fBlocks), at(fTable), at(fManifests), len(b) - page
}

// survives damages an object, reads it, heals all, and reads it again: its bytes are
// right every time, and in the end nothing is left to heal.
func survives(t *testing.T, r *rig, o store.Object, data []byte, damage func()) {
	t.Helper()
	damage()
	r.reads(o, data)
	p := make([]byte, min(len(data), 5000))
	_, err := r.open(o).ReadAt(p, int64(len(data)-len(p)))
	require.NoError(t, err)
	require.Equal(t, data[len(data)-len(p):], p)
	rep, err := r.Scrub(t.Context(), store.ScrubOptions{Deep: true, Repair: true})
	require.NoError(t, err)
	require.Positive(t, rep.Repaired)
	require.Empty(t, rep.Lost)
	require.Zero(t, rep.Left)
	r.cleanScrub()
	require.Empty(t, r.cat.repairs)
	r.reads(o, data)
	require.Equal(t, len(r.extents(o))*len(r.mems), r.blobs(), "old blobs are gone")
}

// reopened closes the store and opens another one over the same backends, so that no
// table is in memory and no blob is open.
func (r *rig) reopened(change func(*store.Options)) *rig {
	r.t.Helper()
	require.NoError(r.t, r.Close())
	opts := store.Options{Catalog: r.cat, NoRepair: true, StoreID: [16]byte{'r', 'i', 'g'}}
	for _, m := range r.mems {
		opts.Backends = append(opts.Backends, m)
	}
	change(&opts)
	s, err := store.New(r.t.Context(), opts)
	require.NoError(r.t, err)
	r.t.Cleanup(func() { s.Close() })
	return &rig{Store: s, t: r.t, cat: r.cat, mems: r.mems}
}

// One shard is damaged in every part and in every way; then m of them. // R2, R3
func TestDamagedShards(t *testing.T) {
	ways := map[string]func(r *rig, e *store.Extent, i int){}
	flip := func(at func(b []byte) int) func(r *rig, e *store.Extent, i int) {
		return func(r *rig, e *store.Extent, i int) {
			m, key := r.shard(e, i)
			m.Flip(key, int64(at(m.Bytes(key))), 0x40)
		}
	}
	for _, off := range []int{0, 9, 100, 3000, page - 1} {
		ways[fmt.Sprintf("header %d", off)] = flip(func([]byte) int { return off })
		ways[fmt.Sprintf("trailer %d", off)] = flip(func(b []byte) int { return len(b) - page + off })
	}
	ways["block"] = flip(func(b []byte) int { blocks, _, _, _ := parts(b); return blocks + 7 })
	ways["padding of the blocks"] = flip(func(b []byte) int { _, table, _, _ := parts(b); return table - 1 })
	ways["table"] = flip(func(b []byte) int { _, table, _, _ := parts(b); return table + 33 })
	ways["padding of the table"] = flip(func(b []byte) int { _, _, mani, _ := parts(b); return mani - 1 })
	ways["manifests"] = flip(func(b []byte) int { _, _, mani, _ := parts(b); return mani + 3 })
	ways["padding of the manifests"] = flip(func(b []byte) int { return len(b) - page - 1 })
	for _, cut := range []int{0, 1, page - 1, page, page + 1, page + blk} {
		ways[fmt.Sprintf("cut to %d", cut)] = func(r *rig, e *store.Extent, i int) {
			m, key := r.shard(e, i)
			m.Truncate(key, int64(cut))
		}
	}
	for _, more := range []int{-page, -1, 1, page} {
		ways[fmt.Sprintf("longer by %d", more)] = func(r *rig, e *store.Extent, i int) {
			m, key := r.shard(e, i)
			m.Truncate(key, m.Size(key)+int64(more))
		}
	}
	ways["deleted"] = func(r *rig, e *store.Extent, i int) { m, key := r.shard(e, i); m.Delete(key) }
	ways["zeroed"] = func(r *rig, e *store.Extent, i int) {
		m, key := r.shard(e, i)
		m.SetBytes(key, make([]byte, m.Size(key)))
	}
	ways["header zeroed"] = func(r *rig, e *store.Extent, i int) {
		m, key := r.shard(e, i)
		m.SetBytes(key, append(make([]byte, page), m.Bytes(key)[page:]...))
	}
	ways["trailer zeroed"] = func(r *rig, e *store.Extent, i int) {
		m, key := r.shard(e, i)
		b := m.Bytes(key)
		m.SetBytes(key, append(b[:len(b)-page], make([]byte, page)...))
	}
	ways["another store's"] = func(r *rig, e *store.Extent, i int) {
		m, key := r.shard(e, i)
		b := m.Bytes(key)
		for _, p := range [][]byte{b[:page], b[len(b)-page:]} {
			fStore.set(p, []byte("another store id"))
		}
		sealHeader(b[:page])
		sealTrailer(b[len(b)-page:])
		m.SetBytes(key, b)
	}
	ways["the next shard's"] = func(r *rig, e *store.Extent, i int) {
		m, key := r.shard(e, i)
		from, other := r.shard(e, (i+1)%len(e.Shards))
		m.SetBytes(key, from.Bytes(other))
	}
	for name, damage := range ways {
		for _, shards := range [][]int{{0}, {2}, {4}, {1, 3}, {0, 4}} {
			t.Run(fmt.Sprint(name, " ", shards), func(t *testing.T) {
				base := uncached(3, 2, miB)
				r := newRig(t, 5, base)
				data := content(1, 400_000)
				o := r.put("x", data)
				r = r.reopened(base)
				survives(t, r, o, data, func() {
					for _, i := range shards {
						e := r.extents(o)[0]
						damage(r, &e, i)
					}
				})
			})
		}
	}
}

// Shards that were swapped, within an extent and between two, are told apart.
func TestSwappedBlobs(t *testing.T) { // R2
	base := uncached(2, 2, miB)
	r := newRig(t, 4, base)
	data := content(1, 3*miB)
	o := r.put("x", data)
	r = r.reopened(base)
	survives(t, r, o, data, func() {
		all := r.extents(o)
		for _, pair := range [][2]int{{0, 2}, {4 + 3, 8 + 3}, {4 + 0, 8 + 1}} {
			a, ka := r.shard(&all[pair[0]/4], pair[0]%4)
			b, kb := r.shard(&all[pair[1]/4], pair[1]%4)
			x, y := a.Bytes(ka), b.Bytes(kb)
			a.SetBytes(ka, y)
			b.SetBytes(kb, x)
		}
	})
}

// Every table is damaged, each in another place: what most copies say, or what the
// blocks themselves say, makes a whole one.
func TestTablesDamagedEverywhere(t *testing.T) {
	type hit struct{ shard, entry int }
	entries := 7 + 3*2 // of an extent of 7 blocks in 3+2
	tables := map[string][]hit{
		"an entry in each":         {{0, 0}, {1, 1}, {2, 2}, {3, 3}, {4, 12}},
		"the same in two":          {{0, 5}, {1, 5}, {2, 0}, {3, 1}, {4, 2}},
		"the same in all but one":  {{0, 5}, {1, 5}, {2, 5}, {3, 5}, {4, 2}},
		"parity in all but one":    {{0, 9}, {1, 9}, {2, 9}, {3, 9}, {4, 2}},
		"every entry of some copy": nil,
	}
	for e := range entries {
		tables["every entry of some copy"] = append(tables["every entry of some copy"], hit{e % 5, e})
	}
	for name, hits := range tables {
		for _, same := range []bool{false, true} { // damaged alike: a majority of wrong ones
			t.Run(fmt.Sprintf("%s, alike %v", name, same), func(t *testing.T) {
				base := uncached(3, 2, miB)
				r := newRig(t, 5, base)
				data := content(1, 6*blk+100)
				o := r.put("x", data)
				r = r.reopened(base)
				survives(t, r, o, data, func() {
					for i, h := range hits {
						e := r.extents(o)[0]
						m, key := r.shard(&e, h.shard)
						_, table, _, _ := parts(m.Bytes(key))
						bit := byte(1)
						if !same {
							bit <<= i % 8
						}
						m.Flip(key, int64(table+32*h.entry+5), bit)
					}
				})
			})
		}
	}
}

// Table and blocks are damaged together: where no block bears witness the majority
// counts, and what it says is proven by the hash in the record.
func TestTablesAndBlocksDamaged(t *testing.T) {
	base := uncached(3, 2, miB)
	r := newRig(t, 5, base)
	data := content(1, 6*blk+100)
	o := r.put("x", data)
	r = r.reopened(base)
	survives(t, r, o, data, func() {
		for i := range 5 {
			e := r.extents(o)[0]
			m, key := r.shard(&e, i)
			_, table, _, _ := parts(m.Bytes(key))
			if i < 2 {
				m.Flip(key, int64(table), byte(1<<i)) // the entry of block 0, in two copies
			} else {
				m.Flip(key, int64(table+32*i), 1)
			}
		}
		e := r.extents(o)[0]
		m, key := r.shard(&e, 0)
		m.Flip(key, page+9, 1) // and block 0 itself
	})
}

// Copies (k = 1) and packs take the same damage.
func TestDamagedPacks(t *testing.T) {
	base := uncached(2, 2, miB)
	r := newRig(t, 4, base)
	data := content(1, 50_000)
	o := r.put("x", data)
	e := r.extents(o)[0]
	require.Equal(t, "1+2", e.Code.String())
	r = r.reopened(base)
	for i := range 2 {
		m, key := r.shard(&e, i)
		m.Flip(key, page+int64(i), 1)
	}
	m, key := r.shard(&e, 2)
	_, _, mani, _ := parts(m.Bytes(key))
	m.Flip(key, int64(mani), 1)
	m, key = r.shard(&e, 1)
	_, _, mani, _ = parts(m.Bytes(key))
	m.Flip(key, int64(mani), 1)
	m, key = r.shard(&e, 0)
	_, _, mani, _ = parts(m.Bytes(key))
	m.Flip(key, int64(mani), 1)
	r.reads(o, data)
	rep, err := r.Scrub(t.Context(), store.ScrubOptions{Deep: true, Repair: true})
	require.NoError(t, err)
	require.EqualValues(t, 3, rep.Repaired, "the manifests are in the stream too")
	r.cleanScrub()
	r.reads(o, data)
}

// One block is rotten in every shard, each in another stripe: all reads, all heals.
// And a store that finds damage by reading puts it on the repair queue by itself.
func TestRotInEveryShard(t *testing.T) { // R4
	for _, self := range []bool{false, true} {
		t.Run(fmt.Sprint(self), func(t *testing.T) {
			base := func(o *store.Options) { uncached(3, 2, 4*miB)(o); o.NoRepair = !self }
			r := newRig(t, 5, base)
			data := content(1, 3*miB+77)
			o := r.put("x", data)
			e := r.extents(o)[0]
			for i := range e.Shards {
				m, key := r.shard(&e, i)
				m.Flip(key, int64(page+2*i*blk+i), 1)
			}
			// A block that comes late is not waited for, nor looked at: so again.
			if self {
				eventually(t, func() bool { r.reads(o, data); return r.Stats().Repaired >= 3 }, "data columns that were read are repaired")
			} else {
				eventually(t, func() bool { r.reads(o, data); return r.queued() >= 3 }, "data columns that were read are reported")
				rep, err := r.Repair(t.Context())
				require.NoError(t, err)
				require.GreaterOrEqual(t, rep.Repaired, int64(3), "of parity, what those found who did not wait")
				require.EqualValues(t, rep.Repaired, rep.Blocks)
			}
			rep, err := r.Scrub(t.Context(), store.ScrubOptions{Deep: true, Repair: true})
			require.NoError(t, err)
			require.LessOrEqual(t, rep.Repaired, int64(2), "parity that nobody had read")
			require.EqualValues(t, 5, r.Stats().Repaired)
			r.cleanScrub()
			r.reads(o, data)
		})
	}
}

// More than m shards are gone: a typed error, and nothing is modified. // R3, T7
func TestTooMuchDamage(t *testing.T) {
	r := newRig(t, 5, uncached(3, 2, miB))
	data := content(1, 400_000)
	o := r.put("x", data)
	e := r.extents(o)[0]
	for i := range 3 {
		m, key := r.shard(&e, i*2)
		m.Delete(key)
	}
	var before [][]byte
	for _, m := range r.mems {
		for _, k := range m.Keys() {
			before = append(before, m.Bytes(k))
		}
	}
	rd := r.open(o)
	_, err := io.Copy(io.Discard, rd)
	require.ErrorIs(t, err, store.ErrUnrecoverable)
	rep, err := r.Scrub(t.Context(), store.ScrubOptions{Deep: true, Repair: true})
	require.NoError(t, err)
	require.NotEmpty(t, rep.Lost)
	require.Equal(t, "x", rep.Lost[0].Name)
	_, err = r.Repair(t.Context())
	require.NoError(t, err)
	var after [][]byte
	for _, m := range r.mems {
		for _, k := range m.Keys() {
			after = append(after, m.Bytes(k))
		}
	}
	require.Len(t, after, len(before))
	for i := range before {
		require.True(t, bytes.Equal(before[i], after[i]))
	}
}

// Damage in more shards than may be lost, though in different stripes, is queued with
// what is left to lose, and worked off. A row of a shard that was repaired meanwhile
// does not come back.
func TestDamageIsQueued(t *testing.T) {
	r := newRig(t, 5, uncached(3, 2, 4*miB))
	data := content(1, 3*miB)
	o := r.put("x", data)
	e := r.extents(o)[0]
	hit := func(shard, stripe int) {
		e := r.extents(o)[0]
		m, key := r.shard(&e, shard)
		m.Flip(key, int64(page+stripe*blk+3), byte(1<<shard)) // equal errors may cancel each other in the code
	}
	left := func() map[int]bool {
		_, err := r.Scrub(t.Context(), store.ScrubOptions{Deep: true})
		require.NoError(t, err)
		out := map[int]bool{}
		for _, row := range r.cat.repairs {
			out[row.Left] = true
		}
		return out
	}
	for i := range e.Shards {
		hit(i, i)
	}
	require.Equal(t, map[int]bool{1: true}, left())
	require.Len(t, r.cat.repairs, 5)
	rep, err := r.Repair(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 5, rep.Repaired)
	require.EqualValues(t, 5, rep.Blocks)
	for i := range 3 {
		hit(i, 7)
	}
	require.Equal(t, map[int]bool{-1: true}, left())
	rep, err = r.Repair(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 3, rep.Left, "%+v", rep)
}
