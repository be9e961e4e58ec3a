package store_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/blake3"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/mem"
)

const (
	kiB = 1 << 10
	miB = 1 << 20
	blk = store.BlockSize
)

// rig is a store over backends in memory and a catalog in maps.
type rig struct {
	*store.Store
	t    testing.TB
	cat  *tables
	mems []*mem.Backend
}

// newRig opens a store over n backends. change may change its options. When the
// test ends the store is closed, and nothing may be left: no reader or writer of a
// backend, no memory of the slab budget, no goroutine.
func newRig(t testing.TB, n int, change func(*store.Options)) *rig {
	t.Helper()
	r := &rig{t: t, cat: newTables()}
	opts := store.Options{Catalog: r.cat, NoRepair: true, Upkeep: store.Upkeep{Off: true}, StoreID: [16]byte{'r', 'i', 'g'}}
	for i := range n {
		m := mem.New(mem.Options{ID: store.BackendID{byte(i + 1)}})
		r.mems = append(r.mems, m)
		opts.Backends = append(opts.Backends, m)
	}
	if change != nil {
		change(&opts)
	}
	s, err := store.New(t.Context(), opts)
	require.NoError(t, err)
	r.Store = s
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		require.NoError(t, s.Close(), "a second Close does nothing")
		r.calm()
		requireNoGoroutines(t)
	})
	return r
}

// coded makes every object take a code, in extents of so many bytes.
func coded(k, m int, extent int64) func(*store.Options) {
	return func(o *store.Options) {
		o.Policies = func() []store.Policy { return []store.Policy{{Code: erasure.Code{K: k, M: m}, Extent: extent}} }
	}
}

// uncached is coded without a block cache, so that every read goes to a backend.
func uncached(k, m int, extent int64) func(*store.Options) {
	return func(o *store.Options) { coded(k, m, extent)(o); o.CacheBytes = -1 }
}

// calm fails the test if an open blob or a slab is left.
func (r *rig) calm() {
	r.t.Helper()
	for i, m := range r.mems {
		eventually(r.t, func() bool { return m.Handles() == 0 }, "backend %d has %d readers or writers left", i, m.Handles())
	}
	eventually(r.t, func() bool { return r.SlabsLent() == 0 }, "slabs are lent out still")
	eventually(r.t, r.HeadsBack, "memory of contents that were read whole is lent out still")
}

// put stores data under a name and returns the object.
func (r *rig) put(name string, data []byte) store.Object {
	r.t.Helper()
	o, err := r.Put(r.t.Context(), name, bytes.NewReader(data), store.PutOptions{Expect: store.AnyVersion})
	require.NoError(r.t, err)
	require.Equal(r.t, store.ID(blake3.Sum256(data)), o.ID)
	require.EqualValues(r.t, len(data), o.Size)
	return o
}

// open opens an object for the length of the test.
func (r *rig) open(o store.Object) *store.Reader {
	r.t.Helper()
	rd, err := r.Open(r.t.Context(), o)
	require.NoError(r.t, err)
	r.t.Cleanup(func() { require.NoError(r.t, rd.Close()) })
	return rd
}

// reads fails unless an object reads as data: by WriteTo, and by Read.
func (r *rig) reads(o store.Object, data []byte) {
	r.t.Helper()
	rd, err := r.Open(r.t.Context(), o)
	require.NoError(r.t, err)
	defer rd.Close()
	var w bytes.Buffer
	n, err := rd.WriteTo(&w)
	require.NoError(r.t, err)
	require.EqualValues(r.t, len(data), n)
	require.True(r.t, bytes.Equal(data, w.Bytes()), "WriteTo of %s", o.Name)
	_, err = rd.Seek(0, io.SeekStart)
	require.NoError(r.t, err)
	got, err := io.ReadAll(struct{ io.Reader }{rd})
	require.NoError(r.t, err)
	require.True(r.t, bytes.Equal(data, got), "Read of %s", o.Name)
}

// blobs returns the number of blobs on all backends.
func (r *rig) blobs() (n int) {
	for _, m := range r.mems {
		n += len(m.Keys())
	}
	return n
}

// extents returns the extents of an object in their order.
func (r *rig) extents(o store.Object) (list []store.Extent) {
	r.t.Helper()
	c, err := r.cat.Content(r.t.Context(), o.ID)
	require.NoError(r.t, err)
	for {
		e, err := r.cat.ExtentAt(r.t.Context(), c.Upload, len(list))
		if err != nil {
			return list
		}
		list = append(list, e)
	}
}

// shard returns the backend and key of a shard.
func (r *rig) shard(e *store.Extent, i int) (*mem.Backend, store.BackendKey) {
	r.t.Helper()
	for _, m := range r.mems {
		if m.ID() == e.Shards[i].Backend {
			return m, e.Key(i)
		}
	}
	r.t.Fatalf("no backend %v", e.Shards[i].Backend)
	return nil, ""
}

// queued returns the length of the repair queue.
func (r *rig) queued() int {
	r.cat.mu.Lock()
	defer r.cat.mu.Unlock()
	return len(r.cat.repairs)
}

// cleanScrub fails unless a deep scrub finds nothing.
func (r *rig) cleanScrub() {
	r.t.Helper()
	rep, err := r.Scrub(r.t.Context(), store.ScrubOptions{Deep: true})
	require.NoError(r.t, err)
	require.True(r.t, rep.Clean(), "%+v", rep)
}

// content returns n bytes that depend on seed.
func content(seed uint64, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 1}).Read(b)
	return b
}

// eventually waits until something that is under way has happened.
func eventually(t testing.TB, ok func() bool, format string, args ...any) {
	t.Helper()
	for late := patience(); !ok(); runtime.Gosched() {
		if late() {
			t.Fatalf(format, args...)
		}
	}
}

// patience reports when it is over: after five seconds, or in a bubble, where time stands
// still for who does not wait, after some turns of the others.
func patience() (late func() bool) {
	began, turns := time.Now(), 0
	return func() bool {
		turns++
		waited := time.Since(began)
		return waited > 5*time.Second || waited == 0 && turns > 100_000
	}
}

// requireNoGoroutines fails when a goroutine of package store is left.
func requireNoGoroutines(t testing.TB) {
	t.Helper()
	late := patience()
	for left := goroutines(); left != ""; left = goroutines() {
		if late() {
			t.Fatalf("goroutines are left:\n%s", left)
		}
		runtime.Gosched()
	}
}

// goroutines returns the stacks in which a function of package store is running,
// the tests not counted.
func goroutines() string {
	buf := make([]byte, 1<<20)
	var left []string
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, "blockframe/store.") && !strings.Contains(g, "testing.tRunner") {
			left = append(left, g)
		}
	}
	return strings.Join(left, "\n\n")
}

// broken reads data and then fails.
func broken(data []byte, err error) io.Reader {
	return io.MultiReader(bytes.NewReader(data), failing{err})
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

var errBroken = errors.New("broken")
