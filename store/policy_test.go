package store_test

import (
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/store"
)

func TestChoose(t *testing.T) {
	list := []store.Policy{
		{Name: "all"}, {Name: "small", MaxSize: 100}, {Name: "tiny", MaxSize: 10},
		{Name: "a", Prefix: "a/", MaxSize: 1000}, {Name: "ab", Prefix: "a/b"}, {Name: "ab small", Prefix: "a/b", MaxSize: 1},
	}
	for _, c := range []struct {
		name string
		size int64
		want string
	}{
		{"x", 0, "tiny"}, {"x", 10, "tiny"}, {"x", 11, "small"}, {"x", 100, "small"}, {"x", 101, "all"}, {"x", -1, "all"}, {"x", 1 << 62, "all"},
		{"a/x", 5, "a"}, {"a/x", 1000, "a"}, {"a/x", 1001, "all"}, {"a/x", -1, "all"}, {"a", 5, "tiny"},
		{"a/bcd", 1, "ab small"}, {"a/b", 2, "ab"}, {"a/b", -1, "ab"}, {"", 5, "tiny"},
	} {
		for range 3 { // in any order
			require.Equal(t, c.want, store.Choose(list, c.name, c.size).Name, "Choose(%q, %d)", c.name, c.size)
			rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		}
	}
	require.Zero(t, store.Choose(nil, "x", 1))
	require.Zero(t, store.Choose([]store.Policy{{Name: "p", Prefix: "y"}}, "x", 1))
}

func TestSortPolicies(t *testing.T) {
	list := []store.Policy{{Prefix: "b"}, {Prefix: "a"}, {Prefix: "a", MaxSize: 2}, {Prefix: "a", MaxSize: 1}, {}}
	store.SortPolicies(list)
	require.Equal(t, []store.Policy{{}, {Prefix: "a", MaxSize: 1}, {Prefix: "a", MaxSize: 2}, {Prefix: "a"}, {Prefix: "b"}}, list)
}

// The three tiers of the preset take each size into the class it belongs to.
func TestTiersArchive(t *testing.T) { // T1
	tiers := store.TiersArchive("vault/", 0)
	for _, c := range []struct {
		size   int64
		code   string
		extent int64
	}{{0, "1+3", 0}, {1_000_000, "1+3", 0}, {10_000_000, "1+3", 0}, {10_000_001, "1+3", 32 * miB}, {15_000_000, "1+3", 32 * miB},
		{1_000_000_000, "1+3", 32 * miB}, {1_000_000_001, "30+3", 0}, {-1, "30+3", 0}} {
		p := store.Choose(tiers, "vault/x", c.size)
		require.Equal(t, c.code, p.Code.String(), "size %d", c.size)
		require.Equal(t, c.extent, p.Extent, "size %d", c.size)
		require.NoError(t, p.Validate(33))
		require.Equal(t, 3, p.Survives(33))
	}
	require.Zero(t, store.Choose(tiers, "elsewhere", 5))
	require.ErrorIs(t, tiers[2].Validate(32), fs.ErrInvalid)
	for _, p := range store.TiersArchive("", 3) {
		require.NoError(t, p.Validate(11), "several shards on one, by leave")
		require.GreaterOrEqual(t, p.Survives(11), 1)
	}
}

// Validate reports all that is wrong at once.
func TestValidatePolicy(t *testing.T) {
	bad := store.Policy{Name: strings.Repeat("n", 256), MaxSize: -1, Extent: 3 * miB, PerBackend: -1, Code: erasure.Code{K: 200, M: 100}}
	err := bad.Validate(3)
	require.ErrorIs(t, err, fs.ErrInvalid)
	for _, want := range []string{"MaxSize", "too long", "Extent", "PerBackend", "200+100"} {
		require.ErrorContains(t, err, want)
	}
	require.Len(t, err.(interface{ Unwrap() []error }).Unwrap(), 5)

	for _, c := range []struct {
		p        store.Policy
		backends int
		want     string // "" is valid
	}{
		{store.Policy{}, 1, ""}, {store.Policy{}, 7, ""},
		{store.Policy{Code: erasure.Code{K: 2, M: 1}}, 3, ""}, {store.Policy{Code: erasure.Code{K: 2, M: 1}}, 2, "needs"},
		{store.Policy{Code: erasure.Code{K: 8, M: 2}}, 1, ""}, {store.Policy{Code: erasure.Code{K: 253, M: 2}}, 1, ""},
		{store.Policy{Code: erasure.Code{K: 8, M: 2}, PerBackend: 5}, 2, "loss of no disk"},
		{store.Policy{Code: erasure.Code{K: 8, M: 2}, PerBackend: 5, Fragile: true}, 2, ""},
		{store.Policy{Code: erasure.Code{K: 2, M: 2}, PerBackend: 2}, 2, ""},
		{store.Policy{Code: erasure.Code{K: 2, M: 0}}, 5, "2+0"}, {store.Policy{Code: erasure.Code{K: 0, M: 2}}, 5, "0+2"},
		{store.Policy{Extent: miB}, 1, ""}, {store.Policy{Extent: miB / 2}, 1, "Extent"}, {store.Policy{Extent: 512 * miB}, 1, "Extent"},
		{store.Policy{Extent: -miB}, 1, "Extent"}, {store.Policy{PerBackend: 1 << 62, Code: erasure.Code{K: 8, M: 8}}, 4, "PerBackend"},
	} {
		err := c.p.Validate(c.backends)
		if c.want == "" {
			require.NoError(t, err, "%+v", c.p)
			continue
		}
		require.ErrorIs(t, err, fs.ErrInvalid, "%+v", c.p)
		require.ErrorContains(t, err, c.want)
	}
}

// What Survives promises holds for every placement: of any so many backends that
// are taken away, never more than m shards go with them.
func TestSurvives(t *testing.T) {
	for n := 2; n <= 9; n++ {
		for _, c := range []erasure.Code{{K: 1, M: 1}, {K: 1, M: 3}, {K: 2, M: 1}, {K: 2, M: 2}, {K: 4, M: 4}, {K: 8, M: 3}, {K: 8, M: 8}} {
			p := store.Policy{Code: c, PerBackend: c.Shards()}
			per := (c.Shards() + n - 1) / n
			places, err := store.Place(store.ExtentID{byte(n)}, c.Shards(), per, 1, targets(n))
			require.NoError(t, err)
			count := map[store.BackendID]int{}
			for _, id := range places {
				count[id]++
			}
			lost := 0
			var most []int
			for _, k := range count {
				most = append(most, k)
			}
			slices.Sort(most)
			for i := range p.Survives(n) {
				lost += most[len(most)-1-i] // the worst that can be taken
			}
			require.LessOrEqual(t, lost, c.M, "%v on %d backends survives %d", c, n, p.Survives(n))
		}
	}
	require.Zero(t, store.Policy{}.Survives(1), "rot only")
	for n, want := range map[int]int{2: 1, 3: 1, 4: 2, 5: 2, 6: 2, 8: 3, 12: 4, 40: 4} {
		require.Equal(t, want, store.Policy{}.Survives(n), "default code on %d backends", n)
	}
}
