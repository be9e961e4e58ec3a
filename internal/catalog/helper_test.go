package catalog_test

import (
	"context"
	"encoding/binary"
	"io/fs"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/internal/catalog"
	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/internal/journal"
	"github.com/blockframe/blockframe/store"
)

var (
	ctx     = context.Background()
	storeID = [16]byte{0xbf, 1}

	baseTime = time.Unix(1_800_000_000, 0)
)

// rig is a catalog over two copies of a log and a view, on one file system.
type rig struct {
	t   testing.TB
	fs  durable.FS
	j   *journal.Journal
	cat *catalog.Catalog
	now time.Time // of day, moved by the test
	ran time.Duration
}

func members(fs durable.FS) []journal.Member {
	return []journal.Member{{FS: fs, Dir: "log/a", Name: "a"}, {FS: fs, Dir: "log/b", Name: "b"}}
}

func openLog(fs durable.FS) (*journal.Journal, error) {
	return journal.Open(journal.Options{Members: members(fs), StoreID: storeID, Create: true, Least: 2, SegmentSize: 256 << 10})
}

// newRig opens a catalog on fs; change adapts its options.
func newRig(t testing.TB, fs durable.FS, change ...func(*catalog.Options)) *rig {
	t.Helper()
	r := &rig{t: t, fs: fs, now: baseTime}
	r.open(change...)
	return r
}

func memRig(t testing.TB, change ...func(*catalog.Options)) *rig {
	return newRig(t, durable.Mem(vfs.NewCrashableMem()), change...)
}

func (r *rig) options() catalog.Options {
	return catalog.Options{FS: r.fs, Dir: "view", StoreID: storeID, Journal: r.j, NodeID: [16]byte{7},
		Clock:   func() time.Time { r.now = r.now.Add(time.Millisecond); return r.now },
		Elapsed: func() time.Duration { r.ran += time.Millisecond; return r.ran }, ProveAfter: -1, MemTable: 256 << 10, Cache: 1 << 20}
}

func (r *rig) open(change ...func(*catalog.Options)) {
	r.t.Helper()
	var err error
	r.j, err = openLog(r.fs)
	require.NoError(r.t, err)
	opts := r.options()
	for _, c := range change {
		c(&opts)
	}
	r.cat, err = catalog.Open(opts)
	require.NoError(r.t, err)
	cat, j := r.cat, r.j
	r.t.Cleanup(func() { cat.Close(); j.Close() })
}

func (r *rig) reopen(change ...func(*catalog.Options)) {
	r.t.Helper()
	require.NoError(r.t, r.cat.Close())
	require.NoError(r.t, r.j.Close())
	r.open(change...)
}

// do commits one command and returns its result.
func (r *rig) do(c store.Command) store.Result {
	r.t.Helper()
	res, err := r.cat.Commit(ctx, store.Record{Commands: []store.Command{c}})
	require.NoError(r.t, err)
	require.Len(r.t, res, 1)
	return res[0]
}

// ok commits one command that must not be refused.
func (r *rig) ok(c store.Command) store.Result {
	r.t.Helper()
	res := r.do(c)
	require.NoError(r.t, res.Err)
	return res
}

// refused commits one command that must be refused so.
func (r *rig) refused(want error, c store.Command) {
	r.t.Helper()
	require.ErrorIs(r.t, r.do(c).Err, want)
}

func uid(n int) (id store.UploadID) {
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	id[0] = 0xaa
	return id
}

func eid(n int) (id store.ExtentID) {
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	id[0] = 0xee
	return id
}

func bid(n int) store.BackendID { return store.BackendID{0xbb, byte(n)} }

func idOf(content string) store.ID { return store.ID(frame.Sum([]byte(content))) }

// inline is a put of tiny content.
func inline(name, content string, upload int) store.Put {
	return store.Put{Name: name, Attr: store.Attr{Mode: 0o644, ModTime: time.Unix(1e9, 5).UTC()}, ID: idOf(content),
		Size: int64(len(content)), Upload: uid(upload), Inline: []byte(content), Expect: store.AnyVersion}
}

// extent is one of 2+1 shards that begins at offset of an upload.
func extent(id, upload, ordinal int, offset, length int64, epoch uint64) store.Extent {
	x := store.Extent{ID: eid(id), Upload: uid(upload), Ordinal: ordinal, Offset: offset, Length: length, Kind: store.KindObject,
		Code: erasure.Code{K: 2, M: 1}, BlockSize: store.BlockSize, CodeID: 1, Hash: frame.Sum([]byte{byte(id)}), Epoch: epoch}
	for i := range 3 {
		x.Shards = append(x.Shards, store.Shard{Backend: bid(i + 1)})
	}
	return x
}

// located is a put of content in one extent of its own.
func located(name, content string, size int64, upload int, epoch uint64) store.Put {
	x := extent(upload, upload, 0, 0, size, epoch)
	x.Whole, x.Hash = true, frame.Sum([]byte(content))
	return store.Put{Name: name, Attr: store.Attr{Mode: 0o644, ModTime: time.Unix(1e9, 5).UTC()}, ID: idOf(content), Size: size,
		Upload: uid(upload), Extents: []store.Extent{x}, Code: x.Code, Expect: store.AnyVersion}
}

// keepOf keeps an upload of one extent.
func keepOf(kind store.Kind, upload int, epoch, last uint64) store.Keep {
	x := extent(upload, upload, 0, 0, 700, epoch)
	x.Kind, x.Whole, x.Hash = kind, true, frame.Sum([]byte{byte(upload), 'k'})
	k := store.Kept{Kind: kind, Upload: uid(upload), ID: store.ID(x.Hash), Size: x.Length, First: 1, Last: last}
	if kind == store.KindSegment {
		k.Number = last
	}
	return store.Keep{Kept: k, Extents: []store.Extent{x}}
}

func (r *rig) object(name string, version uint64) store.Object {
	r.t.Helper()
	o, err := r.cat.Object(ctx, name, version)
	require.NoError(r.t, err)
	return o
}

func (r *rig) absent(name string) {
	r.t.Helper()
	o, err := r.cat.Object(ctx, name, 0)
	if err == nil {
		require.True(r.t, o.Deleted, "%q is there", name)
		return
	}
	require.ErrorIs(r.t, err, fs.ErrNotExist)
}

func (r *rig) content(content string) store.Content {
	r.t.Helper()
	c, err := r.cat.Content(ctx, idOf(content))
	require.NoError(r.t, err)
	return c
}

func (r *rig) upload(n int) store.Upload {
	r.t.Helper()
	u, err := r.cat.Upload(ctx, uid(n))
	require.NoError(r.t, err)
	return u
}

// epoch opens the next epoch and returns it.
func (r *rig) epoch() uint64 {
	r.t.Helper()
	return r.ok(store.OpenEpoch{}).Number
}
