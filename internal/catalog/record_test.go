package catalog_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/internal/catalog"
	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/store"
)

var update = flag.Bool("update", false, "write testdata anew")

// samples are commands of every kind, with every field in use.
func samples() []store.Command {
	attr := store.Attr{Mode: fs.ModeSetuid | 0o755, UID: 1000, GID: 100, ModTime: time.Unix(-5, 999_999_999).UTC(),
		Xattrs: map[string][]byte{"user.b": {0, 255}, "user.a": {}}}
	dir, link := attr, attr
	dir.Mode = fs.ModeDir | 0o700
	link.Mode, link.Target = fs.ModeSymlink|0o777, "../to"
	x := extent(3, 4, 1, 1<<28, 77777, 9)
	x.Code, x.KeyEpoch = erasure.Code{K: 1, M: 2}, 5
	x.Kind, x.Descriptor, x.ParityRoot = store.KindPack, frame.Sum([]byte("d")), frame.Sum([]byte("p"))
	x.Shards[2] = store.Shard{Missing: true}
	x.Shards[1].Generation = 1 << 20
	few := extent(3, 4, 0, 0, 777, 9)
	few.Shards[0] = store.Shard{Missing: true, Generation: 2}
	put := located("dir/name", "L", 500, 4, 9)
	put.Attr, put.Policy, put.Expect, put.Distrust, put.Offset = attr, "gold", 12, uid(8), 0
	tiny := inline("tiny", "t", 6)
	tiny.Code = erasure.Code{K: 8, M: 3}
	empty := inline("empty", "", 7)
	empty.Inline = nil
	return []store.Command{
		store.OpenEpoch{},
		store.AddExtent{Extent: x},
		put, tiny, empty,
		store.Replace{Extent: eid(1), Shard: 2, From: 3, To: store.Shard{Backend: bid(4), Generation: 5}},
		store.Report{Damage: []store.Repair{{Extent: eid(1), Shard: 2, Stripes: []byte{1, 0x80}, Left: -1}, {Backend: bid(3), Left: 254}}},
		store.Intact{Extent: eid(1), Shard: 2, Generation: 3},
		store.Intact{Backend: bid(1)},
		store.Pack{Extent: x, Members: []store.Member{{ID: idOf("a"), Offset: 1, Size: 2}, {ID: idOf("b"), Offset: 3, Size: 4}}},
		store.Repack{Extent: x, Members: []store.Moved{{Member: store.Member{ID: idOf("a"), Offset: 1, Size: 2}, From: uid(7)}}},
		store.Narrow{Upload: uid(1), On: true},
		store.Reshape{ID: idOf("a"), Size: 9, From: uid(7), Upload: uid(4), Extents: []store.Extent{x}, Refs: 3},
		store.Kill{Upload: uid(1)},
		store.Forget{Upload: uid(2)},
		store.Abandon{Upload: uid(3)},
		keepOf(store.KindSnapshot, 9, 1, 9),
		store.Release{Upload: uid(9)},
		store.SetState{Key: "cursor", Value: []byte("here")},
		store.Scrubbed{Deep: true, Began: time.Unix(5, 6).UTC(), Extents: 1, Bytes: 2, Damaged: 3, Repaired: 4, Lost: 5},
		store.AdoptExtent{Extent: few},
		store.Adopt{Name: "lost+found/a", Attr: attr, Policy: "gold", ID: idOf("a"), Size: 5, Upload: uid(9), Offset: 7},
		store.Adopted{Upload: uid(9)},
		store.RaiseEpoch{Epoch: 1 << 40},
		catalog.Delete{Name: "a/b", Expect: 3},
		catalog.Purge{Name: "a/b", Version: 7},
		catalog.Purge{Name: "a/b", All: true},
		catalog.Rename{From: "a", To: "b/c"},
		catalog.Mkdir{Name: "d", Attr: dir, Parents: true},
		catalog.Rmdir{Name: "d"},
		catalog.Symlink{Name: "l", Attr: link},
		catalog.SetAttr{Name: "d", Mask: catalog.SetMode | catalog.SetXattrs, Attr: attr},
		catalog.SetPolicy{Policy: store.Policy{Name: "gold", Prefix: "g/", MaxSize: 1 << 30, Code: erasure.Code{K: 30, M: 3}, Extent: 32 << 20, PerBackend: 2, Fragile: true}},
		catalog.UnsetPolicy{Prefix: "g/"},
		catalog.Hold{Name: "h", Version: 1, On: true},
		catalog.Retain{Name: "h", Version: 2, Until: time.Unix(2_000_000_000, 1).UTC()},
		catalog.SetBackends{Backends: []catalog.Backend{{ID: bid(1), Path: "/d1"}, {ID: bid(2)}}},
		catalog.SetGrace{Grace: time.Hour},
		catalog.AddBackend{Backend: catalog.Backend{ID: bid(3), Path: "/d3"}},
		catalog.DrainBackend{ID: bid(3), On: true},
		catalog.DropBackend{ID: bid(3), Lost: true},
	}
}

var (
	stamp  = catalog.Stamp{Time: time.Unix(1_800_000_000, 42).UTC(), Elapsed: 99, Node: [16]byte{1, 2, 3}, Incarnation: 77}
	origin = catalog.Origin{Source: "test", Actor: "me", Request: "r-1"}
)

func encode(t testing.TB, each bool, commands ...store.Command) []byte {
	t.Helper()
	b, err := catalog.EncodeCommands(commands)
	require.NoError(t, err)
	b, err = catalog.EncodeRecord(stamp, origin, each, b)
	require.NoError(t, err)
	return b
}

// TestGolden holds the encoding of one record for each command.
func TestGolden(t *testing.T) {
	const name = "testdata/commands.golden"
	var lines strings.Builder
	kinds := map[store.CommandKind]bool{}
	for _, c := range samples() {
		kinds[c.CommandKind()] = true
		b := encode(t, true, c)
		fmt.Fprintf(&lines, "%d %s %s\n", c.CommandKind(), strings.TrimPrefix(fmt.Sprintf("%T", c), "*"), hex.EncodeToString(b))
		r, err := catalog.DecodeRecord(b)
		require.NoError(t, err)
		require.Equal(t, &catalog.Entry{Stamp: stamp, Origin: origin, Record: store.Record{Each: true, Commands: []store.Command{c}}}, r)
	}
	require.Len(t, kinds, 37, "a command without a golden vector")
	if *update {
		require.NoError(t, os.WriteFile(name, []byte(lines.String()), 0o644))
	}
	want, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, string(want), lines.String())
}

// TestDecodeDamaged tries every truncation, extension, and byte of every sample
// changed in eight ways: an error, or another record of the same encoding.
func TestDecodeDamaged(t *testing.T) {
	for _, c := range samples() {
		b := encode(t, false, c)
		for n := range b {
			_, err := catalog.DecodeRecord(b[:n])
			require.ErrorIs(t, err, frame.ErrCorrupt, "%T cut to %d", c, n)
			if testing.Short() && n%10 != 0 {
				continue
			}
			for bit := range 8 {
				flipped := bytes.Clone(b)
				flipped[n] ^= 1 << bit
				checkDecode(t, flipped)
			}
		}
		_, err := catalog.DecodeRecord(append(bytes.Clone(b), 0))
		require.ErrorIs(t, err, frame.ErrCorrupt)
	}
}

// checkDecode decodes b, and if that is possible encodes it again.
func checkDecode(t testing.TB, b []byte) {
	t.Helper()
	r, err := catalog.DecodeRecord(b)
	if err != nil {
		require.True(t, isOne(err, frame.ErrCorrupt, frame.ErrVersion), "%v", err)
		return
	}
	body, err := catalog.EncodeCommands(r.Commands)
	if err != nil && otherContent(r) {
		require.ErrorIs(t, err, fs.ErrInvalid)
		return
	}
	require.NoError(t, err)
	again, err := catalog.EncodeRecord(r.Stamp, r.Origin, r.Each, body)
	require.NoError(t, err)
	require.Equal(t, b, again)
}

// otherContent reports whether a put holds other bytes than it says: that is for who
// encodes it to see.
func otherContent(e *catalog.Entry) bool {
	for _, c := range e.Commands {
		if p, ok := c.(store.Put); ok && (len(p.Inline) > 0 || p.Size == 0) && store.ID(frame.Sum(p.Inline)) != p.ID {
			return true
		}
	}
	return false
}

func isOne(err error, of ...error) bool {
	for _, e := range of {
		if bytes.Contains([]byte(err.Error()), []byte(e.Error())) {
			return true
		}
	}
	return false
}

func FuzzDecodeRecord(f *testing.F) {
	for _, c := range samples() {
		f.Add(encode(f, true, c))
	}
	f.Add(encode(f, false, samples()...))
	f.Add([]byte{})
	f.Add([]byte{2})
	f.Fuzz(func(t *testing.T, b []byte) { checkDecode(t, b) })
}

// TestVersions tells a record from the future from a damaged one.
func TestVersions(t *testing.T) {
	b := encode(t, true, store.OpenEpoch{})
	future := bytes.Clone(b)
	future[0] = 2
	_, err := catalog.DecodeRecord(future)
	require.ErrorIs(t, err, frame.ErrVersion)
	for _, kind := range []byte{0, 14, 31, 45, 64, 96, 255} {
		unknown := bytes.Clone(b)
		unknown[len(b)-5] = kind
		_, err := catalog.DecodeRecord(unknown)
		require.ErrorIs(t, err, frame.ErrVersion, "kind %d", kind)
	}
	_, err = catalog.DecodeRecord(make([]byte, catalog.MaxRecord+1))
	require.ErrorIs(t, err, frame.ErrCorrupt)
}

// TestNoEncoding refuses what no record can hold, before anything is logged.
func TestNoEncoding(t *testing.T) {
	put := func(change func(p *store.Put)) store.Put {
		p := located("n", "L", 500, 4, 0)
		change(&p)
		return p
	}
	tiny := func(change func(p *store.Put)) store.Put {
		p := inline("n", "tiny", 4)
		change(&p)
		return p
	}
	big := make([]byte, store.MaxXattrBytes)
	bad := []store.Command{
		nil,
		put(func(p *store.Put) { p.Size = -1 }),
		put(func(p *store.Put) { p.Offset = -1 }),
		put(func(p *store.Put) { p.Upload = store.UploadID{} }),
		put(func(p *store.Put) { p.Expect = -2 }),
		put(func(p *store.Put) { p.Code = erasure.Code{K: 200, M: 56} }),
		put(func(p *store.Put) { p.Attr.Mode = fs.ModeDir }),
		put(func(p *store.Put) { p.Attr.Mode = fs.ModeDevice }),
		put(func(p *store.Put) { p.Attr.Mode = fs.ModeAppend }),
		put(func(p *store.Put) { p.Attr.Target = "x" }),
		put(func(p *store.Put) { p.Attr.Xattrs = map[string][]byte{"a": big} }),
		put(func(p *store.Put) { p.Attr.Xattrs = map[string][]byte{"": nil} }),
		put(func(p *store.Put) { p.Attr.Xattrs = map[string][]byte{"a\x00": nil} }),
		put(func(p *store.Put) { p.Policy = "\xff" }),
		put(func(p *store.Put) { p.Extents[0].Upload = uid(5) }),
		put(func(p *store.Put) { p.Extents[0].ID = store.ExtentID{} }),
		put(func(p *store.Put) { p.Extents[0].Code.K = 0 }),
		put(func(p *store.Put) { p.Extents[0].Code.M = 0 }),
		put(func(p *store.Put) { p.Extents[0].Length = store.MaxExtent + 1 }),
		put(func(p *store.Put) { p.Extents[0].Length = 0 }),
		put(func(p *store.Put) { p.Extents[0].Offset = -1 }),
		put(func(p *store.Put) { p.Extents[0].Ordinal = 1 }),
		put(func(p *store.Put) { p.Extents[0].BlockSize = 1<<16 + 1 }),
		put(func(p *store.Put) { p.Extents[0].Kind = 0 }),
		put(func(p *store.Put) { p.Extents[0].CodeID = 2 }),
		put(func(p *store.Put) { p.Extents[0].Shards = p.Extents[0].Shards[:2] }),
		put(func(p *store.Put) { p.Extents[0].Shards[0].Missing = true }),
		put(func(p *store.Put) { p.Extents[0].Shards[0].Backend = store.BackendID{} }),
		tiny(func(p *store.Put) { p.ID = idOf("other") }),
		tiny(func(p *store.Put) { p.Size++ }),
		tiny(func(p *store.Put) { p.Inline = make([]byte, store.MaxInline+1); p.Size = store.MaxInline + 1 }),
		tiny(func(p *store.Put) { p.Inline, p.Size = nil, 0 }),
		store.Replace{Shard: 255},
		store.Report{Damage: []store.Repair{{}}},
		store.Report{Damage: []store.Repair{{Extent: eid(1), Left: -2}}},
		store.Report{Damage: []store.Repair{{Extent: eid(1), Backend: bid(1)}}},
		store.Intact{},
		store.SetState{Key: "k", Value: make([]byte, 64<<10+1)},
		catalog.SetAttr{Name: "n", Mask: 32},
		catalog.SetPolicy{Policy: store.Policy{MaxSize: -1}},
		catalog.SetPolicy{Policy: store.Policy{Prefix: "\x00"}},
		catalog.SetPolicy{Policy: store.Policy{Extent: 3 << 20}},
		catalog.Retain{Name: "n", Until: time.Time{}},
		catalog.SetBackends{Backends: []catalog.Backend{{ID: bid(1)}, {ID: bid(1)}}},
		catalog.SetGrace{Grace: -1},
		catalog.AddBackend{},
		catalog.DrainBackend{On: true},
		catalog.DropBackend{},
	}
	r := memRig(t)
	for i, c := range bad {
		_, err := r.cat.Commit(ctx, store.Record{Commands: []store.Command{c}})
		require.ErrorIs(t, err, fs.ErrInvalid, "%d: %+v", i, c)
	}
	var many []store.Command
	for range 300 {
		many = append(many, tiny(func(p *store.Put) {
			p.Inline = make([]byte, 4000)
			p.Size, p.ID = 4000, store.ID(frame.Sum(p.Inline))
		}))
	}
	_, err := r.cat.Commit(ctx, store.Record{Commands: many})
	require.ErrorIs(t, err, fs.ErrInvalid)
	_, err = r.cat.Commit(catalog.WithOrigin(ctx, catalog.Origin{Actor: strings.Repeat("a", 256)}), store.Record{Commands: []store.Command{store.OpenEpoch{}}})
	require.ErrorIs(t, err, fs.ErrInvalid)
	require.Zero(t, r.cat.Applied())
}
