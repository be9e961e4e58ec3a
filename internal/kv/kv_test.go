package kv_test

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/kv"
)

func open(t testing.TB, fs durable.FS) *kv.DB {
	t.Helper()
	db, err := kv.Open(kv.Options{FS: fs, Dir: "view", MemTable: 256 << 10, Cache: 1 << 20})
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

// put commits rows given as key, value, key, value ...; "-" deletes.
func put(t testing.TB, db *kv.DB, rows ...string) {
	t.Helper()
	b, err := db.NewBatch()
	require.NoError(t, err)
	write(t, b, rows...)
	require.NoError(t, b.Commit())
}

func write(t testing.TB, w kv.Writer, rows ...string) {
	t.Helper()
	for i := 0; i < len(rows); i += 2 {
		if rows[i+1] == "-" {
			require.NoError(t, w.Delete([]byte(rows[i])))
		} else {
			require.NoError(t, w.Set([]byte(rows[i]), []byte(rows[i+1])))
		}
	}
}

func text(t testing.TB, rows iter.Seq2[kv.KV, error]) (s string) {
	t.Helper()
	for row, err := range rows {
		require.NoError(t, err)
		s += fmt.Sprintf("%s=%s ", row.Key, row.Value)
	}
	return s
}

func TestReadsAndBatches(t *testing.T) {
	db := open(t, durable.Mem(vfs.NewCrashableMem()))
	require.Empty(t, text(t, db.Scan(nil, nil)))
	put(t, db, "a", "1", "b", "2", "c", "3")

	v, ok, err := db.Get([]byte("b"))
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "2", string(v))
	_, ok, err = db.Get([]byte("x"))
	require.NoError(t, err)
	require.False(t, ok)

	b, err := db.NewBatch()
	require.NoError(t, err)
	write(t, b, "b", "-", "d", "4", "a", "")
	require.Equal(t, "a= c=3 d=4 ", text(t, b.Scan(nil, nil)))
	_, ok, err = b.Get([]byte("b"))
	require.NoError(t, err)
	require.False(t, ok)
	v, ok, err = b.Get([]byte("a"))
	require.NoError(t, err)
	require.True(t, ok, "an empty value is a value")
	require.Empty(t, v)
	require.Equal(t, "a=1 b=2 c=3 ", text(t, db.Scan(nil, nil)), "not committed yet")

	s, err := db.Snapshot()
	require.NoError(t, err)
	require.NoError(t, b.Commit())
	require.Equal(t, "a= c=3 d=4 ", text(t, db.Scan(nil, nil)))
	require.Equal(t, "a=1 b=2 ", text(t, s.Scan(nil, []byte("c"))), "a snapshot stays as it was")
	s.Close()

	b, err = db.NewBatch()
	require.NoError(t, err)
	write(t, b, "z", "9")
	b.Drop()
	require.Equal(t, "c=3 d=4 ", text(t, db.Scan([]byte("b"), []byte("zz"))))
}

// TestOverlay compares an overlay over an overlay over a batch with a map.
func TestOverlay(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	db := open(t, durable.Mem(vfs.NewCrashableMem()))
	model := map[string]string{}
	for range 50 {
		b, err := db.NewBatch()
		require.NoError(t, err)
		mid := kv.NewOverlay(b)
		for range 4 {
			top := kv.NewOverlay(mid)
			changed := clone(model)
			for range rng.IntN(8) {
				k, v := fmt.Sprintf("k%02d", rng.IntN(40)), fmt.Sprint(rng.IntN(1000))
				if rng.IntN(3) == 0 {
					v = "-"
					delete(changed, k)
				} else {
					changed[k] = v
				}
				write(t, top, k, v)
			}
			lo, hi := fmt.Sprintf("k%02d", rng.IntN(40)), fmt.Sprintf("k%02d", rng.IntN(40))
			require.Equal(t, want(changed, "", "~"), text(t, top.Scan(nil, nil)))
			require.Equal(t, want(changed, lo, hi), text(t, top.Scan([]byte(lo), []byte(hi))))
			for k := range 40 {
				k := fmt.Sprintf("k%02d", k)
				v, ok, err := top.Get([]byte(k))
				require.NoError(t, err)
				w, has := changed[k]
				require.Equal(t, has, ok)
				require.Equal(t, w, string(v))
			}
			if rng.IntN(3) > 0 {
				require.NoError(t, top.Merge(mid))
				require.Zero(t, top.Len())
				model = changed
			}
		}
		require.NoError(t, mid.Merge(b))
		require.NoError(t, b.Commit())
		require.Equal(t, want(model, "", "~"), text(t, db.Scan(nil, nil)))
	}
}

func clone(m map[string]string) map[string]string {
	c := map[string]string{}
	for k, v := range m {
		c[k] = v
	}
	return c
}

func want(m map[string]string, lo, hi string) (s string) {
	var keys []string
	for k := range m {
		if k >= lo && k < hi {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		s += k + "=" + m[k] + " "
	}
	return s
}

// TestClose ends reads in progress and refuses new ones.
func TestClose(t *testing.T) {
	db := open(t, durable.Mem(vfs.NewCrashableMem()))
	put(t, db, "a", "1", "b", "2")
	var last error
	n := 0
	for _, err := range db.Scan(nil, nil) {
		n++
		last = err
		require.NoError(t, db.Close())
	}
	require.Equal(t, 2, n)
	require.ErrorIs(t, last, kv.ErrClosed)
	_, _, err := db.Get([]byte("a"))
	require.ErrorIs(t, err, kv.ErrClosed)
	_, err = db.NewBatch()
	require.ErrorIs(t, err, kv.ErrClosed)
	_, err = db.Snapshot()
	require.ErrorIs(t, err, kv.ErrClosed)
	require.ErrorIs(t, db.Flush(), kv.ErrClosed)
	require.NoError(t, db.Close())
}
