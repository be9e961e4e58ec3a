package blockframe_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/internal/durable"
)

// rotFS is a filesystem in memory whose shard files a test can damage while a
// store has them open: what is open sees the damage, as it would on a disk.
type rotFS struct {
	durable.FS
	mem   *vfs.MemFS
	mu    sync.Mutex
	blobs map[string]bool // shards that the store made and did not remove; false: the test did
	edits map[string]int  // by path: how often the test replaced the file
}

func newRotFS() *rotFS {
	mem := vfs.NewMem()
	return &rotFS{FS: durable.Mem(mem), mem: mem, blobs: map[string]bool{}, edits: map[string]int{}}
}

// isBlob reports whether a path is that of a shard: DIR/data/HH/KEY.
func isBlob(name string) bool {
	return path.Base(path.Dir(path.Dir(name))) == "data" && strings.Count(path.Base(name), "-") == 4
}

func (r *rotFS) RenameNew(old, new string) error {
	err := r.FS.RenameNew(old, new)
	if err == nil && isBlob(new) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.blobs[new] = true
	}
	return err
}

func (r *rotFS) Remove(name string) error {
	err := r.FS.Remove(name)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.blobs, name)
	}
	return err
}

func (r *rotFS) Open(name string, opts durable.OpenOptions) (durable.File, error) {
	f, err := r.FS.Open(name, opts)
	if err != nil || !isBlob(name) {
		return f, err
	}
	return &rotFile{File: f, r: r, name: name, edit: r.edit(name)}, nil
}

func (r *rotFS) edit(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.edits[name]
}

// list returns the paths of all shards, sorted.
func (r *rotFS) list() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []string
	for name, there := range r.blobs {
		if there {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// named returns the extents of all shards, those included that the test removed.
func (r *rotFS) named() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := map[string]bool{}
	for name := range r.blobs {
		id, _, _ := parsePath(name)
		ids[id] = true
	}
	return ids
}

// read returns what is in a file, nil if it is absent.
func (r *rotFS) read(t testing.TB, name string) []byte {
	t.Helper()
	f, err := r.FS.Open(name, durable.OpenOptions{})
	if err != nil {
		return nil
	}
	defer f.Close()
	size, err := f.Size()
	require.NoError(t, err)
	b := make([]byte, size)
	_, err = f.ReadAt(b, 0)
	if err != io.EOF {
		require.NoError(t, err)
	}
	return b
}

// write makes b the content of a file, nil removes it.
func (r *rotFS) write(t testing.TB, name string, b []byte) {
	t.Helper()
	if err := r.mem.Remove(name); err != nil && r.isThere(name) {
		require.NoError(t, err)
	}
	if b != nil {
		f, err := r.FS.Create(name, durable.CreateOptions{})
		require.NoError(t, err)
		_, err = f.Write(b)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.edits[name]++
	r.blobs[name] = b != nil
}

func (r *rotFS) isThere(name string) bool {
	_, err := r.FS.Stat(name)
	return err == nil
}

// rotFile is an open shard. Like a file of Unix it stays readable when it is
// removed, and like one it changes under the reader when it is overwritten.
type rotFile struct {
	durable.File
	r    *rotFS
	name string
	mu   sync.Mutex
	edit int
}

func (f *rotFile) ReadAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	if now := f.r.edit(f.name); now != f.edit {
		if fresh, err := f.r.FS.Open(f.name, durable.OpenOptions{}); err == nil {
			f.File.Close()
			f.File, f.edit = fresh, now
		}
	}
	file := f.File
	f.mu.Unlock()
	return file.ReadAt(p, off)
}

// shelf is a store in memory, with an image of every shard as it was committed.
type shelf struct {
	testing.TB
	files   *rotFS
	opts    blockframe.Options
	st      *blockframe.Store
	extents map[string]*extentImage
	order   []*extentImage // in the order of their making; the same in every run
}

// extentImage is an extent as it was written.
type extentImage struct {
	id     string
	n      int // in the order of making
	geo    erasure.Geometry
	kind   byte
	offset int64
	hash   [32]byte
	shards []*shardImage
}

// shardImage is one shard as it was committed last.
type shardImage struct {
	path  string
	gen   uint64
	bytes []byte
}

// part returns where a part of the blob lies, padding excluded.
func (s *shardImage) part(name string) (off, size int) {
	tail := s.bytes[len(s.bytes)-4096:]
	at := map[string]int{"blocks": 120, "table": 136, "manifests": 152}
	switch name {
	case "header":
		return 0, 4096
	case "trailer":
		return len(s.bytes) - 4096, 4096
	}
	off, size = int(binary.BigEndian.Uint64(tail[at[name]:])), int(binary.BigEndian.Uint64(tail[at[name]+8:]))
	return off, size
}

// parts are those of a blob, in their order.
var parts = []string{"header", "blocks", "table", "manifests", "trailer"}

// newShelf makes a store in memory on so many directories. Damage waits for
// Repair and Scrub unless opts say otherwise.
func newShelf(t testing.TB, n int, opts blockframe.Options) *shelf {
	t.Helper()
	s := &shelf{TB: t, files: newRotFS(), extents: map[string]*extentImage{}}
	opts.Upkeep.Off = true
	for i := range n {
		opts.Dirs = append(opts.Dirs, fmt.Sprintf("/d%d", i))
	}
	s.opts = blockframe.WithLog(blockframe.WithFS(opts, s.files), 1<<20, false)
	s.opts = blockframe.WithPause(s.opts, 24*time.Hour) // files change when the test says so
	s.open()
	t.Cleanup(func() { require.NoError(t, s.st.Close()) })
	return s
}

func (s *shelf) open() {
	s.Helper()
	st, err := blockframe.Open(context.Background(), s.opts)
	require.NoError(s, err)
	s.st = st
}

func (s *shelf) reopen() {
	s.Helper()
	require.NoError(s, s.st.Close())
	s.open()
}

// parsePath reads what the path of a shard says.
func parsePath(name string) (extent string, shard int, gen uint64) {
	f := strings.Split(path.Base(name), "-")
	i, _ := strconv.ParseUint(f[1], 16, 8)
	g, _ := strconv.ParseUint(f[2], 16, 32)
	return f[0], int(i), g
}

// look takes images of shards that are new, checks those that took the place of
// an older generation, and forgets extents that were collected. It returns the
// shards that have a new generation, as EXTENT/SHARD with the number of the extent.
func (s *shelf) look() (healed []string) {
	s.Helper()
	var fresh []*extentImage
	seen := s.files.named()
	for _, name := range s.files.list() {
		id, shard, gen := parsePath(name)
		e := s.extents[id]
		if e == nil {
			e = s.image(id, name)
			s.extents[id] = e
			fresh = append(fresh, e)
		}
		old := e.shards[shard]
		switch {
		case old == nil:
			e.shards[shard] = &shardImage{name, gen, s.files.read(s, name)}
		case gen > old.gen:
			e.shards[shard] = s.successor(e, shard, old, name, gen)
			healed = append(healed, fmt.Sprintf("%d/%d", e.n, shard))
		}
	}
	for id := range s.extents {
		if !seen[id] {
			delete(s.extents, id)
		}
	}
	s.number(fresh)
	s.order = slices.DeleteFunc(s.order, func(e *extentImage) bool { return s.extents[e.id] == nil })
	slices.Sort(healed)
	return healed
}

// image reads from the trailer of one of its shards what an extent is.
func (s *shelf) image(id, name string) *extentImage {
	b := s.files.read(s, name)
	tail := b[len(b)-4096:]
	code := erasure.Code{K: int(tail[82]), M: int(tail[83])}
	e := &extentImage{id: id, kind: tail[80], shards: make([]*shardImage, code.Shards()),
		geo:    erasure.Geometry{Code: code, BlockSize: block, Length: int64(binary.BigEndian.Uint64(tail[104:]))},
		offset: int64(binary.BigEndian.Uint64(tail[96:])), hash: [32]byte(tail[192:])}
	return e
}

// number gives new extents their place in the order, which depends on what they
// hold and not on their random names.
func (s *shelf) number(fresh []*extentImage) {
	slices.SortFunc(fresh, func(a, b *extentImage) int {
		return cmp.Or(bytes.Compare(a.hash[:], b.hash[:]), cmp.Compare(a.offset, b.offset), cmp.Compare(a.geo.Code.K, b.geo.Code.K))
	})
	next := 0
	if n := len(s.order); n > 0 {
		next = s.order[n-1].n + 1
	}
	for i, e := range fresh {
		e.n = next + i
	}
	s.order = append(s.order, fresh...)
}

// successor checks that a repair wrote what was there before: every block and the
// table, bit for bit.
func (s *shelf) successor(e *extentImage, shard int, old *shardImage, name string, gen uint64) *shardImage {
	s.Helper()
	now := &shardImage{name, gen, s.files.read(s, name)}
	off, size := old.part("table")
	require.GreaterOrEqual(s, len(now.bytes), off+size, "%s", name)
	require.True(s, bytes.Equal(old.bytes[4096:off+size], now.bytes[4096:off+size]),
		"shard %d of extent %s was repaired to other bytes", shard, e.id)
	return now
}

// good reports whether the block of a shard in a stripe, with its padding, is as
// it was written.
func (s *shelf) good(e *extentImage, shard, stripe int, now []byte) bool {
	n := e.geo.ShardBlockLen(shard, stripe)
	lo := 4096 + stripe*block
	hi := lo + (n+4095)/4096*4096
	return n == 0 || len(now) >= hi && bytes.Equal(now[lo:hi], e.shards[shard].bytes[lo:hi])
}

// sound returns the number of good blocks of every stripe of an extent, and of
// shards whose table and trailer are good.
func (s *shelf) sound(e *extentImage) (stripes []int, tables int) {
	stripes = make([]int, e.geo.Stripes())
	for i, sh := range e.shards {
		now := s.files.read(s, sh.path)
		for j := range stripes {
			if s.good(e, i, j, now) {
				stripes[j]++
			}
		}
		off, size := sh.part("table")
		tail := len(sh.bytes) - 4096
		if len(now) == len(sh.bytes) && bytes.Equal(now[off:off+size], sh.bytes[off:off+size]) && bytes.Equal(now[tail:], sh.bytes[tail:]) {
			tables++
		}
	}
	return stripes, tables
}

// within reports whether the code of an extent can stand its damage.
func (s *shelf) within(e *extentImage) bool {
	stripes, tables := s.sound(e)
	return tables > 0 && slices.Min(stripes) >= e.geo.Code.K
}

// legit reports whether a loss is real: the extent and stripe that the error names
// have fewer good blocks than they need.
func (s *shelf) legit(ce *blockframe.CorruptError) bool {
	e := s.extents[ce.Extent.String()]
	if e == nil {
		return false
	}
	stripes, tables := s.sound(e)
	if ce.Stripe < 0 {
		return tables == 0
	}
	return stripes[ce.Stripe] < e.geo.Code.K
}

// spoil replaces the file of a shard by what f makes of it.
func (s *shelf) spoil(e *extentImage, shard int, f func(b []byte) []byte) {
	s.Helper()
	name := e.shards[shard].path
	s.files.write(s, name, f(s.files.read(s, name)))
}

// files of a store as they are, by path.
func (s *shelf) snapshot() map[string]string {
	out := map[string]string{}
	for _, name := range s.files.list() {
		out[name] = string(s.files.read(s, name))
	}
	return out
}

// requireSame checks that no file was modified, made or removed.
func (s *shelf) requireSame(before map[string]string, what string) {
	s.Helper()
	now := s.snapshot()
	for name, b := range before {
		require.Contains(s, slices.Collect(maps.Keys(now)), name, "%s: a file was removed", what)
		require.True(s, b == now[name], "%s: %s was modified", what, name)
	}
	require.Equal(s, len(before), len(now), "%s: a file was made", what) // Len would print them all
}

// scrub runs a deep scrub.
func (s *shelf) scrub(repair bool) blockframe.ScrubReport {
	s.Helper()
	rep, err := s.st.Scrub(context.Background(), blockframe.ScrubOptions{Deep: true, Repair: repair})
	require.NoError(s, err)
	return rep
}

// requireClean checks that nothing at all is wrong any more: what scrub says, and
// what the files are.
func (s *shelf) requireClean() {
	s.Helper()
	rep := s.scrub(false)
	require.True(s, rep.Clean(), "%+v", rep)
	s.look()
	count := 0
	for _, e := range s.order {
		for i, sh := range e.shards {
			count++
			require.True(s, bytes.Equal(sh.bytes, s.files.read(s, sh.path)), "shard %d of extent %s", i, e.id)
		}
	}
	require.Len(s, s.files.list(), count, "old blobs are removed")
}

// requireAll reads every object in three ways.
func (s *shelf) requireAll(want map[string][]byte) {
	s.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		requireBytes(s, want[name], get(s, s.st, name, 0), name)
		requireRanges(s, s.st, name, want[name])
	}
}

// readPieces reads an object block by block, and returns the ranges that are lost.
// It fails the test at a wrong byte, and at an error that is not a CorruptError.
func (s *shelf) readPieces(name string, version uint64, want []byte) (lost []*blockframe.CorruptError) {
	s.Helper()
	rd, err := s.st.OpenVersion(context.Background(), name, version)
	require.NoError(s, err)
	defer rd.Close()
	for at := 0; at < len(want); at += block {
		p := make([]byte, min(block, len(want)-at))
		n, err := rd.ReadAt(p, int64(at))
		requireBytes(s, want[at:at+n], p[:n], "%s at %d", name, at)
		if n == len(p) {
			continue
		}
		var ce *blockframe.CorruptError
		require.ErrorAs(s, err, &ce, "%s at %d", name, at)
		require.True(s, errors.Is(err, blockframe.ErrCorrupt) && errors.Is(err, blockframe.ErrUnrecoverable))
		require.Equal(s, name, ce.Name)
		lost = append(lost, ce)
	}
	return lost
}
