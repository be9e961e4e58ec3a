package storetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/store"
)

func testListOrder(t *testing.T, b store.Backend) {
	var want []store.BackendKey
	for i := range 24 {
		mustPut(t, b, Key(i), nil)
		want = append(want, Key(i))
	}
	slices.Sort(want)
	got, err := Keys(t.Context(), b, "", "")
	require.NoError(t, err)
	require.Equal(t, want, got)

	var first []store.BackendKey
	for k, err := range b.List(t.Context(), "", "") {
		require.NoError(t, err)
		if first = append(first, k); len(first) == 3 {
			break // the caller may stop
		}
	}
	require.Equal(t, want[:3], first, "List that the caller ends")
}

// Every prefix and every after, cut from keys at each place of interest.
func testListPrefix(t *testing.T, b store.Backend) {
	probes := []store.BackendKey{"", "0", "f", "g", "zz/z", "00/", "7f/ffff"}
	var all []store.BackendKey
	for i := range 9 {
		k := Key(i)
		mustPut(t, b, k, nil)
		all = append(all, k)
		probes = append(probes, k, k[:1], k[:2], k[:3], k[:10], k[:len(k)-1], k+"0")
	}
	slices.Sort(all)
	for _, prefix := range probes {
		for _, after := range probes {
			want := matching(all, prefix, after)
			got, err := Keys(t.Context(), b, prefix, after)
			require.NoError(t, err)
			require.Equal(t, want, got, "List(%q, %q)", prefix, after)
		}
	}
}

func matching(all []store.BackendKey, prefix, after store.BackendKey) (keys []store.BackendKey) {
	for _, k := range all {
		if k > after && strings.HasPrefix(string(k), string(prefix)) {
			keys = append(keys, k)
		}
	}
	return keys
}

// A list taken while blobs come and go yields each that was there throughout,
// in order and once.
func testListChanging(t *testing.T, b store.Backend) {
	var steady []store.BackendKey
	for i := range 8 {
		mustPut(t, b, Key(i), nil)
		steady = append(steady, Key(i))
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 8 {
			if err := Put(t.Context(), b, Key(100+i), nil); err != nil {
				t.Error(fmt.Errorf("put: %w", err))
			}
			if err := b.Remove(t.Context(), Key(100+i)); err != nil {
				t.Error(fmt.Errorf("remove: %w", err))
			}
		}
	})
	for range 5 {
		got, err := Keys(t.Context(), b, "", "")
		require.NoError(t, err)
		require.True(t, slices.IsSorted(got), "List is not in order: %v", got)
		require.Equal(t, len(got), len(slices.Compact(slices.Clone(got))), "List yields a key twice: %v", got)
		require.Subset(t, got, steady, "List lacks a key that was there throughout")
	}
	wg.Wait()
}

// Usage counts what is there, if it counts, and never promises more room than
// the whole.
func testUsage(t *testing.T, b store.Backend) {
	before, err := b.Usage(t.Context())
	require.NoError(t, err)
	for i := range 3 {
		mustPut(t, b, Key(i), Content(i, 1<<20))
	}
	after, err := b.Usage(t.Context())
	require.NoError(t, err)
	for _, u := range []store.Usage{before, after} {
		require.Positive(t, u.Total, "Usage.Total: 0 is a backend that takes nothing")
		require.GreaterOrEqual(t, u.Total, u.Free, "Usage.Total is at least Usage.Free")
		require.GreaterOrEqual(t, u.Free, int64(0), "Usage.Free")
		require.Zero(t, u.Stray, "Usage.Stray of a backend that holds only what was put")
	}
	if before.Blobs >= 0 {
		require.Zero(t, before.Blobs, "Usage.Blobs of an empty backend")
		require.EqualValues(t, 3, after.Blobs, "Usage.Blobs after three puts")
	}
}

func testIdentity(t *testing.T, b store.Backend) {
	require.False(t, b.ID().IsZero(), "ID is zero")
	require.Equal(t, b.ID(), b.ID(), "ID changes from call to call")
}
