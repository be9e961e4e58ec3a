package store_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/merkle"
	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/mem"
)

// Hashes that come one by one fold to what a list of them does.
func TestFoldOfExtents(t *testing.T) {
	require.Equal(t, store.ID(merkle.BlockRoot(nil)), store.FoldExtents(nil))
	var hashes []frame.Hash
	var cvs []merkle.CV
	for i := range 130 {
		h := frame.Sum([]byte{byte(i)})
		hashes, cvs = append(hashes, h), append(cvs, merkle.CV(h))
		if i == 0 {
			require.Equal(t, store.ID(h), store.FoldExtents(hashes), "a single extent was hashed as the whole stream")
			continue
		}
		require.Equal(t, store.ID(merkle.FoldRoot(cvs)), store.FoldExtents(hashes), "%d extents", i+1)
	}
}

// However a manifests part is added, it comes out whole, aligned, and zero behind its
// end.
func TestCutLines(t *testing.T) {
	const piece = store.LinePiece
	for _, n := range []int{0, 1, page - 1, page, page + 1, piece - 1, piece, piece + 1, 2 * piece, 2*piece + page + 1} {
		want := content(1, n)
		for _, by := range []int{n + 1, 1000, page, piece, piece + 1} {
			pieces, hash, err := store.CutLines(want, by)
			require.NoError(t, err)
			require.Equal(t, frame.Sum(want), hash)
			var got []byte
			for i, p := range pieces {
				require.True(t, frame.IsAligned(p))
				require.True(t, len(p) == piece || i == len(pieces)-1 && len(p)%page == 0 && len(p) < piece, "piece %d has %d bytes", i, len(p))
				got = append(got, p...)
			}
			require.Less(t, len(got)-n, page)
			require.True(t, bytes.Equal(want, got[:n]))
			require.True(t, frame.Zero(got[n:]))
		}
	}
	_, _, err := store.CutLines(make([]byte, 64*miB+1), piece)
	require.ErrorIs(t, err, fs.ErrInvalid, "more than a blob may have")
}

// proof is the line that proves an object.
type proof struct {
	Type    string
	ID      store.ID
	Size    int64
	Extents []struct {
		Extent, Hash   string
		Offset, Length int64
	}
}

// The shards of the last extent list all of them, read back from the catalog, however
// long the lines are; and a shard that is healed gets the same lines, copied from
// another one or, when none is left, made from the catalog.
func TestListOfExtents(t *testing.T) {
	for name, keys := range map[string]int{"short": 0, "long": 250} {
		t.Run(name, func(t *testing.T) {
			attr := store.Attr{Mode: 0o644, Xattrs: map[string][]byte{}}
			for i := range keys { // in JSON six times as long: more than a piece
				attr.Xattrs[fmt.Sprintf("%03d%s", i, strings.Repeat("\x01", 250))] = []byte("v")
			}
			base := uncached(2, 1, miB)
			r := newRig(t, 3, base)
			data := content(1, 6*miB+5)
			o, err := r.Put(t.Context(), "x", bytes.NewReader(data), store.PutOptions{Attr: attr, Expect: store.AnyVersion})
			require.NoError(t, err)
			all := r.extents(o)
			require.Len(t, all, 7)
			last := all[6]
			lines := r.manifests(&last, 0)
			require.Equal(t, name == "long", len(lines) > store.LinePiece, "%d bytes", len(lines))
			_, err = store.RecodeManifests(lines)
			require.NoError(t, err)
			var p proof
			require.NoError(t, json.Unmarshal(bytes.Split(lines, []byte("\n"))[1], &p))
			require.Equal(t, "complete", p.Type)
			require.Equal(t, o.ID, p.ID)
			require.Len(t, p.Extents, len(all))
			for i, e := range all {
				require.Equal(t, e.ID.String(), p.Extents[i].Extent)
				require.Equal(t, fmt.Sprintf("%x", e.Hash[:]), p.Extents[i].Hash)
				require.Equal(t, e.Offset, p.Extents[i].Offset)
				require.Equal(t, e.Length, p.Extents[i].Length)
			}
			for _, broken := range [][]int{{1}, {0, 1, 2}} {
				r = r.reopened(base)
				for _, i := range broken {
					e := r.extents(o)[6]
					m, key := r.shard(&e, i)
					_, _, at, _ := parts(m.Bytes(key))
					m.Flip(key, int64(at+len(lines)-2), 1)
				}
				rep, err := r.Scrub(t.Context(), store.ScrubOptions{Deep: true, Repair: true})
				require.NoError(t, err)
				require.EqualValues(t, len(broken), rep.Repaired, "%v", rep.Errs)
				r.cleanScrub()
				for i := range 3 {
					e := r.extents(o)[6]
					require.Equal(t, string(lines), string(r.manifests(&e, i)), "shard %d", i)
				}
			}
			r.reads(o, data)
		})
	}
}

// manifests returns the manifests part of a shard.
func (r *rig) manifests(e *store.Extent, i int) []byte {
	r.t.Helper()
	m, key := r.shard(e, i)
	b := m.Bytes(key)
	_, _, at, trailer := parts(b)
	return bytes.TrimRight(b[at:trailer], "\x00")
}

// An object may have as many extents as its last blobs can list: longer extents are
// chosen for one that is announced to have more, one that is not fails at the first that
// is too many, and one that is too long whatever its extents fails at once.
func TestMostExtents(t *testing.T) {
	r := newRig(t, 3, coded(2, 1, miB))
	require.Equal(t, 393_216, store.MaxExtents, "as documented at Policy.Extent")
	r.SetMostExtents(3)
	opts := store.PutOptions{Expect: store.AnyVersion}
	put := func(src io.Reader, size int64) (store.Object, error) {
		opts.Size = size
		return r.Put(t.Context(), "x", src, opts)
	}
	data := content(1, 6*miB)
	for size, extent := range map[int]int64{3 * miB: miB, 3*miB + 1: 2 * miB, 6 * miB: 2 * miB} {
		o, err := put(bytes.NewReader(data[:size]), int64(size))
		require.NoError(t, err)
		require.Equal(t, extent, r.extents(o)[0].Length, "of %d bytes", size)
		r.reads(o, data[:size])
	}
	_, err := put(bytes.NewReader(data[1:1+3*miB]), 0)
	require.NoError(t, err)
	src := &counted{Reader: zeros{}}
	_, err = put(src, 0)
	require.ErrorIs(t, err, fs.ErrInvalid)
	require.Less(t, src.n, int64(4*miB))
	src = &counted{Reader: zeros{}}
	_, err = put(src, 3*store.MaxExtent+1)
	require.ErrorIs(t, err, fs.ErrInvalid)
	require.LessOrEqual(t, src.n, int64(1))
	r.cleanScrub()
}

// slim is a catalog that keeps of an extent only what the list of them needs.
type slim struct {
	*tables
	rows []slimRow
}

type slimRow struct {
	id   store.ExtentID
	hash frame.Hash
}

func (c *slim) Commit(ctx context.Context, rec store.Record) ([]store.Result, error) {
	if add, ok := rec.Commands[0].(store.AddExtent); ok {
		c.rows = append(c.rows, slimRow{add.Extent.ID, add.Extent.Hash})
		return make([]store.Result, 1), nil
	}
	return c.tables.Commit(ctx, rec)
}

func (c *slim) ExtentAt(_ context.Context, upload store.UploadID, i int) (store.Extent, error) {
	return store.Extent{ID: c.rows[i].id, Hash: c.rows[i].hash, Upload: upload, Ordinal: i, Offset: int64(i) * miB, Length: miB}, nil
}

// The memory of a put does not grow with the number of extents: a thousand more are
// some 50 KB in this catalog, and nothing in the store. // R12
func TestMemoryOfManyExtents(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector changes how much memory is used")
	}
	cat := &slim{tables: newTables(), rows: make([]slimRow, 0, 2000)}
	opts := store.Options{Catalog: cat, NoRepair: true}
	for i := range 3 {
		opts.Backends = append(opts.Backends, discard{mem.New(mem.Options{ID: store.BackendID{byte(i + 1)}})})
	}
	opts.Policies = func() []store.Policy {
		return []store.Policy{{Code: erasure.Code{K: 1, M: 10}, Extent: miB, PerBackend: 4}}
	}
	s, err := store.New(t.Context(), opts)
	require.NoError(t, err)
	defer s.Close()
	heap := func() int64 {
		runtime.GC()
		runtime.GC() // pools
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	var before, after int64
	const first, second = 100, 1100
	at := func(extents int64, note *int64) io.Reader {
		return io.MultiReader(io.LimitReader(zeros{}, extents*miB), readerFunc(func([]byte) (int, error) {
			*note = heap()
			return 0, io.EOF
		}))
	}
	_, err = s.Put(t.Context(), "x", io.MultiReader(at(first, &before), at(second-first, &after)), store.PutOptions{Expect: store.AnyVersion})
	require.NoError(t, err)
	require.Len(t, cat.rows, second-1)
	require.Less(t, after-before, int64(200_000), "bytes more after %d extents than after %d", second, first)
}

// discard is a backend that takes blobs and keeps nothing of them.
type discard struct{ store.Backend }

func (d discard) Create(context.Context, store.BackendKey) (store.BackendWriter, error) {
	return discarded{}, nil
}

type discarded struct{}

func (discarded) Write(p []byte) (int, error) { return len(p), nil }
func (discarded) Commit() error               { return nil }
func (discarded) Abort() error                { return nil }
