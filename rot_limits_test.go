package blockframe_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/erasure"
)

// flipBlock flips a bit in the block of a shard in a stripe.
func (s *shelf) flipBlock(e *extentImage, shard, stripe int) {
	s.Helper()
	require.Positive(s, e.geo.ShardBlockLen(shard, stripe), "shard %d has no block in stripe %d", shard, stripe)
	s.spoil(e, shard, func(b []byte) []byte {
		b[4096+stripe*block+(stripe*977+shard)%e.geo.ShardBlockLen(shard, stripe)] ^= 0x20
		return b
	})
}

// patterns are shards that are destroyed together, m+extra of them. Columns
// without a block, of which the last stripe may have some, do not count.
func patterns(e *extentImage, extra int) map[string][]int {
	var full []int
	for i := range e.shards {
		if e.geo.ColumnLen(i) > 0 {
			full = append(full, i)
		}
	}
	m := e.geo.Code.M
	n, parity := m+extra, len(full)-m
	from := func(start int) (list []int) {
		for i := range n {
			list = append(list, full[(start+i)%len(full)])
		}
		return list
	}
	last := slices.Index(full, e.geo.Shard(e.geo.Blocks()-1)) // has the last, short block
	mixed := append([]int{full[0]}, from(len(full) - n + 1)[:n-1]...)
	return map[string][]int{"the first": from(0), "all parity": from(parity), "the highest": from(len(full) - n), "the last short one": from(last), "data and parity": mixed}
}

// R3: exactly m shards destroyed, all parity, the highest index and the last short
// one among them: everything reads, and heals. T7, T12.
func TestExactlyAsManyAsTheCodeCanLose(t *testing.T) {
	for _, n := range []int{1, 3, 5} {
		t.Run(fmt.Sprintf("%d directories", n), func(t *testing.T) {
			t.Parallel()
			s := newShelf(t, n, blockframe.Options{NoRepair: true, CacheBytes: -1, Policies: smallExtents})
			want := s.fill()
			for pattern := range patterns(s.order[0], 0) {
				for _, e := range s.order {
					for i, shard := range patterns(e, 0)[pattern] {
						s.spoil(e, shard, func(b []byte) []byte {
							if i%2 == 0 {
								return nil
							}
							return make([]byte, len(b))
						})
					}
				}
				s.requireAll(want)
				rep, err := s.st.Repair(context.Background())
				require.NoError(t, err)
				require.Zero(t, rep.Left, "%s: %v", pattern, rep.Errs)
				s.requireAll(want)
				s.scrub(true) // what no read came by
				s.requireClean()
			}
		})
	}
}

// R3: one shard more than the code can lose: a typed error that names object and
// range, no file modified, never a wrong byte; also by those who repair.
func TestMoreThanTheCodeCanLose(t *testing.T) {
	ctx := context.Background()
	for _, n := range []int{1, 3, 5} {
		t.Run(fmt.Sprintf("%d directories", n), func(t *testing.T) {
			t.Parallel()
			s := newShelf(t, n, blockframe.Options{NoRepair: true, CacheBytes: -1, Policies: smallExtents})
			want := s.fill()
			before := s.snapshot()
			for pattern := range patterns(s.order[0], 1) {
				for _, e := range s.order {
					for i, shard := range patterns(e, 1)[pattern] {
						s.spoil(e, shard, func(b []byte) []byte {
							if i%2 == 0 {
								return nil
							}
							return make([]byte, len(b))
						})
					}
				}
				s.reopen() // a removed file that is open can still be read
				damaged := s.snapshot()
				lost := map[string]bool{}
				for name, data := range want {
					for _, ce := range s.readPieces(name, 0, data) {
						require.True(t, s.legit(ce), "%v", ce)
						lost[name] = true
					}
				}
				require.NotEmpty(t, lost)
				_, err := s.st.Repair(ctx)
				require.NoError(t, err)
				rep := s.scrub(true)
				require.False(t, rep.Clean())
				for _, ce := range rep.Lost {
					require.True(t, s.legit(ce), "%v", ce)
				}
				named := map[string]bool{}
				for _, ce := range rep.Lost {
					named[ce.Name] = true
				}
				for name := range lost {
					require.True(t, named[name], "%s: scrub names %s, which cannot be read", pattern, name)
				}
				require.Zero(t, rep.Repaired)
				s.requireSame(damaged, pattern)

				require.NoError(t, s.st.Close())
				for name, b := range before { // the operator found the disks again
					s.files.write(t, name, []byte(b))
				}
				s.open()
				s.requireAll(want)
				s.requireClean()
			}
		})
	}
}

// R4: a parity block and a data block of one stripe are bad: the bad parity is not
// used, and both heal.
func TestParityAndData(t *testing.T) {
	s := newShelf(t, 5, blockframe.Options{NoRepair: true, CacheBytes: -1, Policies: smallExtents})
	want := s.fill()
	for _, e := range s.order {
		for stripe := range e.geo.Stripes() {
			s.flipBlock(e, 0, stripe)
			s.flipBlock(e, e.geo.Code.K, stripe)
		}
	}
	s.requireAll(want)
	rep := s.scrub(true)
	require.EqualValues(t, 2*len(s.order), rep.Repaired)
	s.requireClean()
}

// One block of every shard of every object rots, in stripes of their own:
// everything reads, scrub repairs all of it, and a second scrub is clean.
func TestRotInEveryShard(t *testing.T) {
	for _, n := range []int{1, 3} {
		s := newShelf(t, n, blockframe.Options{NoRepair: true, CacheBytes: -1, Policies: smallExtents})
		want := map[string][]byte{"pack": content(1, 250_000), "object": content(2, 96*block+5), "extents/two": content(3, 1<<20+900_000)}
		for name, data := range want {
			put(t, s.st, name, data)
		}
		s.look()
		shards, rotten := 0, 0
		for _, e := range s.order {
			for shard := range e.shards {
				stripe := shard % e.geo.Stripes()
				if shard/e.geo.Stripes() < e.geo.Code.M && e.geo.ShardBlockLen(shard, stripe) > 0 {
					s.flipBlock(e, shard, stripe)
					rotten++
				}
				shards++
			}
		}
		require.Greater(t, rotten, shards/2)
		s.requireAll(want)
		rep := s.scrub(true)
		require.EqualValues(t, rotten, rep.Damaged)
		require.EqualValues(t, rotten, rep.Blocks)
		require.EqualValues(t, rotten, rep.Repaired)
		require.Zero(t, rep.Left)
		require.Len(t, s.look(), rotten)
		s.requireClean()
		s.requireAll(want)
	}
}

// More than m bad blocks in one stripe: that range is an error that names it, every
// other range reads, nothing is modified, and scrub names object and range.
func TestOneStripeTooMany(t *testing.T) {
	ctx := context.Background()
	for _, n := range []int{1, 3, 5} {
		s := newShelf(t, n, blockframe.Options{CacheBytes: -1, Policies: smallExtents})
		data := content(1, 30*block+5)
		put(t, s.st, "object", data)
		put(t, s.st, "other", content(2, 400_000))
		s.look()
		e := s.order[slices.IndexFunc(s.order, func(e *extentImage) bool { return e.geo.Length == int64(len(data)) })]
		k, m := e.geo.Code.K, e.geo.Code.M
		for i := range m + 1 {
			s.flipBlock(e, i%k, 1+i/k) // m+1 data blocks of stripe 1, as far as there are so many
			if i/k > 0 {
				s.flipBlock(e, k+i%k, 1)
			}
		}
		stripes, _ := s.sound(e)
		require.Less(t, stripes[1], k, "%v", e.geo.Code)
		before := s.snapshot()
		lost := s.readPieces("object", 0, data)
		require.NotEmpty(t, lost)
		for _, ce := range lost {
			require.Equal(t, 1, ce.Stripe)
			require.True(t, s.legit(ce))
			require.EqualValues(t, 0, ce.Offset%block)
			require.GreaterOrEqual(t, ce.Offset, int64(k*block))
			require.LessOrEqual(t, ce.Offset+ce.Length, int64(2*k*block))
		}
		requireBytes(t, content(2, 400_000), get(t, s.st, "other", 0))

		// A reader that goes through it gets what is right, then the error.
		rd, err := s.st.Open(ctx, "object")
		require.NoError(t, err)
		var b bytes.Buffer
		_, err = rd.WriteTo(&b)
		require.NoError(t, rd.Close())
		var ce *blockframe.CorruptError
		require.ErrorAs(t, err, &ce)
		require.Equal(t, lost[0].Offset, ce.Offset)
		requireBytes(t, data[:ce.Offset], b.Bytes())

		_, err = s.st.Repair(ctx)
		require.NoError(t, err)
		rep := s.scrub(true)
		require.Len(t, rep.Lost, len(lost))
		for i := range lost {
			require.Equal(t, [3]any{lost[i].Name, lost[i].Offset, lost[i].Length}, [3]any{rep.Lost[i].Name, rep.Lost[i].Offset, rep.Lost[i].Length})
		}
		s.requireSame(before, e.geo.Code.String())
	}
}

// What reads come by heals by itself, behind the reader's back.
func TestHealsByItself(t *testing.T) {
	repaired := make(chan blockframe.Repaired, 1000)
	s := newShelf(t, 3, blockframe.Options{CacheBytes: -1, Policies: smallExtents,
		Events: blockframe.Events{Repaired: func(r blockframe.Repaired) { repaired <- r }}})
	want := s.fill()
	for name, do := range map[string]func(b []byte) []byte{
		"gone":   func([]byte) []byte { return nil },
		"zero":   func(b []byte) []byte { return make([]byte, len(b)) },
		"short":  func(b []byte) []byte { return b[:4096+10] },
		"a flip": func(b []byte) []byte { b[5000] ^= 1; return b },
	} {
		expect := map[string]bool{}
		for _, e := range s.order {
			s.spoil(e, 0, do)
			expect[fmt.Sprintf("%d/0", e.n)] = true
		}
		s.reopen() // a removed file that is open can still be read
		s.requireAll(want)
		timeout := time.After(time.Minute)
		for range expect {
			select {
			case <-repaired:
			case <-timeout:
				t.Fatalf("%s: not repaired by itself", name)
			}
		}
		_, err := s.st.Repair(context.Background()) // waits for the pass that is under way
		require.NoError(t, err)
		require.Equal(t, slices.Sorted(maps.Keys(expect)), s.look(), name)
		s.requireClean()
		s.requireAll(want)
	}
}

// T12: every pattern of up to m missing shards, for several codes; and every
// pattern of m+1 is an error.
func TestEveryPatternOfMissingShards(t *testing.T) {
	for _, code := range []erasure.Code{{K: 1, M: 2}, {K: 2, M: 1}, {K: 3, M: 2}, {K: 4, M: 3}} {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			s := newShelf(t, 1, blockframe.Options{NoRepair: true, CacheBytes: -1, Code: code})
			data := content(9, 2*code.K*block+block+1) // the last stripe has a full, a short and empty blocks
			if code.K == 1 {
				data = content(9, 5*block+1)
			}
			put(t, s.st, "x", data)
			s.look()
			e := s.order[0]
			for set := range 1 << code.Shards() {
				if testing.Short() && set%11 != 0 {
					continue
				}
				n := 0
				for i := range code.Shards() {
					if set>>i&1 == 1 {
						s.files.write(t, e.shards[i].path, nil)
						n++
					}
				}
				if n <= code.M {
					requireBytes(t, data, get(t, s.st, "x", 0), "%b", set)
				} else if n == code.M+1 {
					// With one data shard left to read from, the last stripe may be
					// whole: its empty blocks are zeros that nobody stores.
					lost := s.readPieces("x", 0, data)
					require.NotEmpty(t, lost, "%b", set)
					require.True(t, errors.Is(lost[0], blockframe.ErrUnrecoverable))
				}
				for _, sh := range e.shards {
					s.files.write(t, sh.path, sh.bytes)
				}
				s.reopen() // forgets what was missing
			}
		})
	}
}
