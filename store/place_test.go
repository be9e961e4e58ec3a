package store_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/store"
)

// targets returns n backends of equal space.
func targets(n int) (list []store.Target) {
	for i := range n {
		list = append(list, store.Target{ID: store.BackendID{byte(i + 1)}, Free: 1 << 40})
	}
	return list
}

// ids yields extent ids as a hostile or careless generator would make them: all
// alike but for a counter, in either byte order, in few bits, or random.
var ids = map[string]func(i uint64) store.ExtentID{
	"counter first": func(i uint64) (id store.ExtentID) { binary.LittleEndian.PutUint64(id[:], i); return id },
	"counter last":  func(i uint64) (id store.ExtentID) { binary.BigEndian.PutUint64(id[8:], i); return id },
	"one bit each":  func(i uint64) (id store.ExtentID) { binary.BigEndian.PutUint64(id[:], i*0x0101010101010101); return id },
	"multiples":     func(i uint64) (id store.ExtentID) { binary.BigEndian.PutUint64(id[4:], i<<20); return id },
	"random": func(i uint64) (id store.ExtentID) {
		r := rand.New(rand.NewPCG(i, 1))
		binary.BigEndian.PutUint64(id[:], r.Uint64())
		return id
	},
}

// chi2 fails unless counts are those of independent draws with the given shares:
// the statistic of n-1 degrees of freedom is within five deviations of its mean.
func chi2(t *testing.T, counts []int, shares []float64) {
	t.Helper()
	total, sum := 0, 0.0
	for _, c := range counts {
		total += c
	}
	for _, s := range shares {
		sum += s
	}
	x, free := 0.0, float64(len(counts)-1)
	for i, c := range counts {
		want := float64(total) * shares[i] / sum
		x += (float64(c) - want) * (float64(c) - want) / want
	}
	require.InDelta(t, free, x, 5*math.Sqrt(2*free), "chi-square of %d counts", len(counts))
}

// Blobs spread evenly over the folders of a disk, whatever the ids. // T13, R16, W4
func TestFanOutIsEven(t *testing.T) {
	even := slices.Repeat([]float64{1}, 256)
	for name, id := range ids {
		t.Run(name, func(t *testing.T) {
			counts := make([]int, 256)
			for i := range uint64(1 << 15) {
				key := store.Key(id(i), 0, 0, 1, store.UploadID{1})
				var folder int
				_, err := fmt.Sscanf(string(key[:2]), "%02x", &folder)
				require.NoError(t, err)
				counts[folder]++
			}
			chi2(t, counts, even)
		})
	}
}

// A key depends on all that it is made of, and on nothing else. // T13
func TestKeysAreDistinct(t *testing.T) {
	seen := map[store.BackendKey]bool{}
	for e := range 4 {
		for s := range 3 {
			for g := range uint32(3) {
				for ep := range uint64(3) {
					for u := range 3 {
						k := store.Key(store.ExtentID{15: byte(e)}, s, g, ep, store.UploadID{15: byte(u)})
						require.False(t, seen[k])
						seen[k] = true
						again, ok := store.RecodeKey(k)
						require.True(t, ok)
						require.Equal(t, k, again)
					}
				}
			}
		}
	}
	k := store.Key(store.ExtentID{0xab}, 0x1f, 0x2e, 0x3d, store.UploadID{0x4c})
	require.Equal(t, store.BackendKey("cd/ab000000000000000000000000000000-1f-0000002e-000000000000003d-4c000000000000000000000000000000"), "cd"+k[2:])
}

// Equal inputs give equal places, in whatever order the targets come. // T13
func TestPlaceIsDeterministic(t *testing.T) {
	list := targets(12)
	for i := range uint64(200) {
		id := ids["random"](i)
		first, err := store.Place(id, 11, 1, 1<<20, list)
		require.NoError(t, err)
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		again, err := store.Place(id, 11, 1, 1<<20, list)
		require.NoError(t, err)
		require.Equal(t, first, again)
	}
	places, err := store.Place(store.ExtentID{1}, 3, 1, 1, targets(5))
	require.NoError(t, err)
	var got []string
	for _, p := range places {
		got = append(got, fmt.Sprint(p[0]))
	}
	require.Equal(t, goldenPlaces, strings.Join(got, " "), "placement is part of what nodes agree on")
}

const goldenPlaces = "5 4 2"

// The share of a backend is proportional to its free space. // T15
func TestPlaceIsProportional(t *testing.T) {
	free := []float64{1, 2, 4, 8, 1, 16}
	for name, id := range ids {
		t.Run(name, func(t *testing.T) {
			list := targets(len(free))
			for i := range list {
				list[i].Free = int64(free[i] * (1 << 40))
			}
			counts := make([]int, len(free))
			for i := range uint64(1 << 14) {
				places, err := store.Place(id(i), 1, 1, 1<<20, list)
				require.NoError(t, err)
				counts[places[0][0]-1]++
			}
			chi2(t, counts, free)
		})
	}
}

// A new backend takes its share from all others, and nothing else moves.
func TestPlaceMovesLittle(t *testing.T) {
	moved := 0
	for i := range uint64(1 << 12) {
		id := ids["random"](i)
		before, err := store.Place(id, 1, 1, 1, targets(7))
		require.NoError(t, err)
		after, err := store.Place(id, 1, 1, 1, targets(8))
		require.NoError(t, err)
		if before[0] != after[0] {
			require.Equal(t, store.BackendID{8}, after[0])
			moved++
		}
	}
	require.InDelta(t, 1<<12/8, moved, 120)
}

// Never two shards on one backend unless allowed, never where there is no room, and
// ErrNoSpace when there is no place. // T15
func TestPlaceLimits(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for i := range uint64(3000) {
		n, per, shards := 1+r.IntN(12), 1+r.IntN(3), 1+r.IntN(16)
		need := int64(1 + r.IntN(100))
		list := targets(n)
		room := 0
		for j := range list {
			list[j].Free = int64(r.IntN(300)) - 20 // the reserve may be in use
			room += min(per, max(0, int(list[j].Free/need)))
		}
		places, err := store.Place(ids["random"](i), shards, per, need, list)
		if room < shards {
			require.ErrorIs(t, err, store.ErrNoSpace)
			require.Nil(t, places)
			continue
		}
		require.NoError(t, err)
		require.Len(t, places, shards)
		count := map[store.BackendID]int64{}
		for _, id := range places {
			count[id]++
		}
		for _, target := range list {
			k := count[target.ID]
			require.LessOrEqual(t, k, int64(per))
			require.True(t, k == 0 || k*need <= target.Free, "%d shards of %d on %d free", k, need, target.Free)
		}
	}
	_, err := store.Place(store.ExtentID{}, 1, 1, 1, nil)
	require.ErrorIs(t, err, store.ErrNoSpace)
	list := targets(3)
	list[1].Free, list[2].Free = 12_340_000, -1 // the reserve is in use
	_, err = store.Place(store.ExtentID{}, 3, 1, 134_238_208, list)
	require.ErrorContains(t, err, fmt.Sprintf("3 shards of 134.2 MB need a place, and there is room for 1; backend %v has 12.3 MB left; backend %v has 0.0 MB left",
		list[1].ID, list[2].ID))
	places, err := store.Place(store.ExtentID{}, 3, 1, 0, targets(3))
	require.NoError(t, err)
	require.Len(t, places, 3)
}
