package store_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/blake3"

	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/mem"
)

func snapshotOf(last uint64) store.Kept {
	return store.Kept{Kind: store.KindSnapshot, First: 1, Last: last}
}
func segmentOf(number uint64) store.Kept {
	return store.Kept{Kind: store.KindSegment, Number: number, First: 10 * number, Last: 10*number + 9}
}

// keep keeps data.
func (r *rig) keep(k store.Kept, data []byte) store.Kept {
	r.t.Helper()
	k, err := r.Keep(r.t.Context(), k, bytes.NewReader(data))
	require.NoError(r.t, err)
	require.Equal(r.t, store.ID(blake3.Sum256(data)), k.ID)
	require.EqualValues(r.t, len(data), k.Size)
	return k
}

// find looks for what is kept of a kind on all backends that are there.
func (r *rig) find(kind store.Kind) []store.KeptStream {
	r.t.Helper()
	opts := store.FindOptions{StoreID: [16]byte{'r', 'i', 'g'}, Kind: kind}
	for _, m := range r.mems {
		opts.Backends = append(opts.Backends, m)
	}
	list, err := store.FindKept(r.t.Context(), opts)
	require.NoError(r.t, err)
	return list
}

// readFound reads one of them.
func readFound(ctx context.Context, f *store.KeptStream) ([]byte, error) {
	rd, err := f.Open(ctx)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(rd)
	return b, errors.Join(err, rd.Close())
}

func (r *rig) keyBlobs(id store.UploadID) (n int) {
	for _, m := range r.mems {
		for _, key := range m.Keys() {
			if strings.HasSuffix(string(key), id.String()) {
				n++
			}
		}
	}
	return n
}

// What is kept is found by its shards alone, of every size, and read with any m backends
// gone. R5, R9
func TestFindKept(t *testing.T) {
	r := newRig(t, 4, coded(2, 2, miB))
	r.put("among others", content(1, 300_000))
	for _, size := range []int{1, blk - 1, blk, blk + 1, 2*blk + 1, 300_000, miB, miB + 1, 3*miB + 1} {
		data := content(uint64(size), size)
		snap := r.keep(snapshotOf(uint64(size)), data)
		seg := r.keep(segmentOf(uint64(size)), data)
		for a := range 4 {
			for b := range a + 1 { // one of them, or two
				r.mems[a].SetOffline(true)
				r.mems[b].SetOffline(true)
				for _, k := range []store.Kept{snap, seg} {
					list := r.find(k.Kind)
					require.NotEmpty(t, list)
					require.Equal(t, k, list[0].Kept, "the newest comes first")
					got, err := readFound(t.Context(), &list[0])
					require.NoError(t, err)
					require.True(t, bytes.Equal(data, got), "%d bytes", size)
				}
				r.mems[a].SetOffline(false)
				r.mems[b].SetOffline(false)
			}
		}
	}
	require.Len(t, r.find(store.KindSnapshot), 9)
	list, err := store.FindKept(t.Context(), store.FindOptions{StoreID: [16]byte{9}, Backends: []store.Backend{r.mems[0], r.mems[1]}, Kind: store.KindSnapshot})
	require.NoError(t, err)
	require.Empty(t, list, "of another store")
	r.cleanScrub()
}

// Damage of any m shards of an extent, whatever it is, is made good; one more is an error,
// and never other bytes. R2, R3
func TestFindKeptDamaged(t *testing.T) {
	data := content(3, 2*miB+5)
	for name, harm := range map[string]func(m *mem.Backend, key store.BackendKey){
		"header":    func(m *mem.Backend, key store.BackendKey) { m.Flip(key, 50, 1) },
		"block":     func(m *mem.Backend, key store.BackendKey) { m.Flip(key, 4096+70, 1) },
		"table":     func(m *mem.Backend, key store.BackendKey) { m.Flip(key, m.Size(key)-3*4096+5, 1) },
		"manifests": func(m *mem.Backend, key store.BackendKey) { m.Flip(key, m.Size(key)-2*4096+40, 1) },
		"trailer":   func(m *mem.Backend, key store.BackendKey) { m.Flip(key, m.Size(key)-4096+40, 1) },
		"truncated": func(m *mem.Backend, key store.BackendKey) { m.Truncate(key, m.Size(key)/2) },
		"gone":      func(m *mem.Backend, key store.BackendKey) { m.Delete(key) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 5, coded(3, 2, miB))
			k := r.keep(snapshotOf(7), data)
			for ordinal := range 3 {
				e, err := r.cat.ExtentAt(t.Context(), k.Upload, ordinal)
				require.NoError(t, err)
				for _, i := range []int{ordinal, ordinal + 2} {
					harm(r.shard(&e, i))
				}
			}
			list := r.find(store.KindSnapshot)
			require.Len(t, list, 1, name)
			require.Equal(t, k, list[0].Kept, name)
			got, err := readFound(t.Context(), &list[0])
			require.NoError(t, err, name)
			require.True(t, bytes.Equal(data, got), name)

			rep, err := r.Scrub(t.Context(), store.ScrubOptions{Deep: true, Repair: true})
			require.NoError(t, err)
			require.EqualValues(t, 6, rep.Repaired, "%s: %+v", name, rep)
			r.cleanScrub()

			e, err := r.cat.ExtentAt(t.Context(), k.Upload, 1)
			require.NoError(t, err)
			for i := range 3 {
				m, key := r.shard(&e, i)
				m.Flip(key, 4096+70, 1)
			}
			list = r.find(store.KindSnapshot)
			require.Len(t, list, 1, name)
			_, err = readFound(t.Context(), &list[0])
			require.ErrorIs(t, err, store.ErrUnrecoverable, name)
			for i := range 3 {
				m, key := r.shard(&e, i)
				m.Delete(key)
			}
			require.Empty(t, r.find(store.KindSnapshot), name)
		})
	}
}

// The manifests of what is kept, lost in every shard, are made anew by a scrub. R5
func TestKeptManifestsRepaired(t *testing.T) {
	r := newRig(t, 3, coded(2, 1, miB))
	data := content(4, miB+5)
	k := r.keep(segmentOf(5), data)
	for ordinal := range 2 {
		e, err := r.cat.ExtentAt(t.Context(), k.Upload, ordinal)
		if ordinal > 0 && err != nil {
			break // a segment of one extent
		}
		require.NoError(t, err)
		for i := range e.Shards {
			m, key := r.shard(&e, i)
			m.Flip(key, m.Size(key)-2*4096+40, 1)
		}
	}
	require.Empty(t, r.find(store.KindSegment))
	_, err := r.Scrub(t.Context(), store.ScrubOptions{Deep: true, Repair: true})
	require.NoError(t, err)
	r.cleanScrub()
	list := r.find(store.KindSegment)
	require.Len(t, list, 1)
	require.Equal(t, k, list[0].Kept)
}

// What could not be kept leaves nothing, whatever failed.
func TestKeepFails(t *testing.T) {
	r := newRig(t, 3, coded(2, 1, miB))
	for _, bad := range []store.Kept{{}, {Kind: store.KindObject, First: 1}, {Kind: store.KindSnapshot, First: 2, Last: 5}, {Kind: store.KindSegment, First: 2, Last: 5}} {
		_, err := r.Keep(t.Context(), bad, strings.NewReader("x"))
		require.ErrorIs(t, err, fs.ErrInvalid)
	}
	_, err := r.Keep(t.Context(), snapshotOf(1), strings.NewReader(""))
	require.ErrorIs(t, err, fs.ErrInvalid)
	_, err = r.Keep(t.Context(), snapshotOf(1), broken(content(1, 100_000), errBroken))
	require.ErrorIs(t, err, errBroken)
	refused := errors.New("refused")
	r.cat.commit = func(store.Record) (bool, error) { return false, refused }
	_, err = r.Keep(t.Context(), snapshotOf(1), bytes.NewReader(content(1, 100_000)))
	require.ErrorIs(t, err, refused)
	r.cat.commit = nil
	require.Zero(t, r.blobs())
	require.Empty(t, r.find(store.KindSnapshot))
}

// A collection leaves what is kept alone, and removes what was dropped and what no record
// names; Drop does so at once, unless a backend is absent. I6
func TestDropKept(t *testing.T) {
	r := newRig(t, 3, coded(2, 1, miB))
	one, two := r.keep(snapshotOf(1), content(1, 300_000)), r.keep(segmentOf(2), content(2, 300_000))
	lost := r.keep(snapshotOf(3), content(3, 2*miB))
	for _, e := range r.cat.allExtents() {
		if e.Upload == lost.Upload { // as a crash before the record leaves it
			delete(r.cat.extents, e.ID)
		}
	}
	delete(r.cat.kept, lost.Upload)
	rep, err := r.Collect(t.Context(), store.CollectOptions{})
	require.NoError(t, err)
	require.Zero(t, rep.Unclaimed)
	require.Zero(t, r.keyBlobs(lost.Upload))
	require.Equal(t, 3, r.keyBlobs(one.Upload))
	require.NotZero(t, r.keyBlobs(two.Upload))
	require.NoError(t, r.Drop(t.Context(), one.Upload))
	require.Zero(t, r.keyBlobs(one.Upload))
	require.NoError(t, r.Drop(t.Context(), one.Upload), "again")
	r.mems[0].SetOffline(true)
	require.NoError(t, r.Drop(t.Context(), two.Upload))
	require.NotZero(t, r.keyBlobs(two.Upload))
	r.mems[0].SetOffline(false)
	_, err = r.Collect(t.Context(), store.CollectOptions{})
	require.NoError(t, err)
	require.Zero(t, r.blobs())
}

const (
	keptLines = `{"type":"snapshot","v":1,"put":"62666b04000000000000000000000001","number":0,"first":1,"last":77,"ordinal":2,"offset":2097152}` + "\n"
	keptEnd   = `{"type":"complete","v":1,"put":"62666b04000000000000000000000001","id":"b3:0101010101010101010101010101010101010101010101010101010101010101","size":5,"extents":[{"extent":"0a000000000000000000000000000001","hash":"0200000000000000000000000000000000000000000000000000000000000000","offset":0,"length":5}]}` + "\n"
)

// The lines of what is kept, as the specification has them, and what is none.
func TestKeptLines(t *testing.T) {
	for _, good := range []string{keptLines, keptLines + keptEnd} {
		again, err := store.RecodeKept(store.KindSnapshot, []byte(good), 2, 2<<20)
		require.NoError(t, err)
		require.Equal(t, good, string(again))
		_, err = store.RecodeKept(store.KindSegment, []byte(good), 2, 2<<20)
		require.ErrorIs(t, err, store.ErrCorrupt, "another kind")
		for n := range good[:len(good)-1] {
			if n != len(keptLines) {
				_, err = store.RecodeKept(store.KindSnapshot, []byte(good[:n]), 2, 2<<20)
				require.ErrorIs(t, err, store.ErrCorrupt, "cut to %d", n)
			}
		}
	}
	for _, change := range [][2]string{
		{`"v":1`, `"v":1,"v":1`}, {`"number":0`, `"number":3`}, {`"first":1`, `"first":2`}, {`"last":77`, `"last":-1`},
		{`"ordinal":2`, `"ordinal":-1`}, {`"offset":2097152`, `"offset":-1`}, {"62666b04000000000000000000000001", "00000000000000000000000000000000"},
		{keptLines, keptLines + keptLines}, {keptEnd, keptEnd + "{}\n"}, {`"size":5`, `"size":6`}, {"snapshot", "snap"},
	} {
		_, err := store.RecodeKept(store.KindSnapshot, []byte(strings.Replace(keptLines+keptEnd, change[0], change[1], 1)), 2, 2<<20)
		require.ErrorIs(t, err, store.ErrCorrupt, "%s", change[1])
	}
	_, err := store.RecodeKept(store.KindSnapshot, []byte(strings.Replace(keptLines, `"v":1`, `"v":2`, 1)), 2, 2<<20)
	require.ErrorIs(t, err, store.ErrVersion)
}

func FuzzDecodeKept(f *testing.F) {
	f.Add([]byte(keptLines), true)
	f.Add([]byte(keptLines+keptEnd), true)
	f.Fuzz(func(t *testing.T, b []byte, snapshot bool) {
		kind := store.KindSegment
		if snapshot {
			kind = store.KindSnapshot
		}
		once, err := store.RecodeKept(kind, b, 0, 0)
		if err != nil {
			return
		}
		twice, err := store.RecodeKept(kind, once, 0, 0)
		require.NoError(t, err)
		require.Equal(t, string(once), string(twice))
	})
}
