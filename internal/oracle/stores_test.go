package oracle_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/erasure"
)

var update = flag.Bool("update", false, "write new golden stores to testdata")

// Stores that the real implementation writes, by their names.
var stores = map[string]blockframe.Options{
	"8+2 on one":    {Dirs: make([]string, 1)},
	"2+1 on three":  {Dirs: make([]string, 3)},
	"3+2 on five":   {Dirs: make([]string, 5)},
	"1+2 on three":  {Dirs: make([]string, 3), Code: erasure.Code{K: 1, M: 2}},
	"4+2 two a dir": {Dirs: make([]string, 3), Policies: []blockframe.Policy{{Code: erasure.Code{K: 4, M: 2}, PerBackend: 2}}},
}

// realStore is a store that the real implementation wrote, closed.
type realStore struct {
	dirs   []string
	golden bool // the bytes of its objects are few, and can be compressed
	want   map[string][]byte
}

// newRealStore writes objects of all size classes: streams, one of them in several
// extents, grouped puts, and packs of a batch.
func newRealStore(t testing.TB, opts blockframe.Options, golden bool) *realStore {
	t.Helper()
	s := &realStore{golden: golden}
	s.expect()
	root := t.TempDir()
	for i := range opts.Dirs {
		s.dirs = append(s.dirs, filepath.Join(root, "d"+strconv.Itoa(i)))
	}
	opts.Dirs = s.dirs
	opts.Policies = append([]blockframe.Policy{{Prefix: "extents/", Extent: 1 << 20}}, opts.Policies...)
	st, err := blockframe.Open(context.Background(), opts)
	require.NoError(t, err)
	s.fill(t, st)
	require.NoError(t, st.Close())
	return s
}

// contents of every real store, by name: streams, grouped puts, members of a batch.
func (s *realStore) contents() (streams, grouped, batch map[string][]byte) {
	streams, grouped, batch = map[string][]byte{}, map[string][]byte{}, map[string][]byte{}
	for name, size := range map[string]int{"stripe": 300_000, "stripes/ünïcode": 700_001, "extents/two": 1<<20 + 70_000} {
		streams[name] = s.content(size)
	}
	for i := range 8 {
		grouped[fmt.Sprintf("%d grouped", i)] = s.content(5000 + i*11_111)
	}
	for i, size := range []int{1, 100, 4096, 4097, 65_536, 150_000} {
		batch[fmt.Sprintf("%d of a batch/\"%s\"\n", i, strings.Repeat("long ", 40))] = s.content(size)
	}
	return streams, grouped, batch
}

// content returns n bytes, of which all but a few are zero in golden stores.
func (s *realStore) content(n int) []byte {
	b := random(n)
	for i := range b {
		if s.golden && i%1024 >= 24 {
			b[i] = 0
		}
	}
	return b
}

// fill puts them.
func (s *realStore) fill(t testing.TB, st *blockframe.Store) {
	t.Helper()
	ctx := context.Background()
	streams, grouped, batch := s.contents()
	opts := blockframe.PutOptions{Attr: &blockframe.Attr{Mode: 0o640, UID: 1, GID: 2, ModTime: time.Unix(1e9, 123), Xattrs: map[string][]byte{"user.k": {0, 255}}}}
	for name, data := range streams {
		_, err := st.Put(ctx, name, bytes.NewReader(data), opts)
		require.NoError(t, err)
	}
	var work sync.WaitGroup
	for name, data := range grouped {
		work.Go(func() {
			if _, err := st.Put(ctx, name, bytes.NewReader(data), opts); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	b := st.Batch(ctx)
	for name, data := range batch {
		require.NoError(t, b.Put(name, bytes.NewReader(data), opts))
	}
	_, err := b.Commit()
	require.NoError(t, err)
}

// expect notes what fill puts.
func (s *realStore) expect() {
	streams, grouped, batch := s.contents()
	s.want = streams
	maps.Copy(s.want, grouped)
	maps.Copy(s.want, batch)
}

// realBlob is a shard of a real store.
type realBlob struct {
	path        string
	shard, k, m int
	blocks      int // bytes
	stripes     int // of the extent
}

// extents returns the shards of every extent.
func (s *realStore) extents(t testing.TB) map[string][]realBlob {
	t.Helper()
	list := map[string][]realBlob{}
	for _, dir := range s.dirs {
		paths, err := filepath.Glob(filepath.Join(dir, "data", "*", "*"))
		require.NoError(t, err)
		for _, path := range paths {
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			tail := b[len(b)-grid:]
			k, m := int(tail[82]), int(tail[83])
			g := erasure.Geometry{Code: erasure.Code{K: k, M: m}, BlockSize: blockSize, Length: int64(be64(tail[104:]))}
			id := string(tail[36:52])
			list[id] = append(list[id], realBlob{path, int(tail[81]), k, m, int(be64(tail[128:])), g.Stripes()})
		}
	}
	for _, blobs := range list {
		slices.SortFunc(blobs, func(a, b realBlob) int { return a.shard - b.shard })
		require.Len(t, blobs, blobs[0].k+blobs[0].m)
	}
	return list
}

func be64(b []byte) (n uint64) {
	for _, c := range b[:8] {
		n = n<<8 | uint64(c)
	}
	return n
}

// requireRestored checks that the reader restores every object.
func (s *realStore) requireRestored(t *testing.T) result {
	t.Helper()
	r := runReader(t, s.dirs...)
	(&sample{want: s.want}).requireAll(t, r)
	return r
}

// rot flips a bit in the block of a stripe, and reports whether there is one.
func (b *realBlob) rot(t testing.TB, stripe int) bool {
	if stripe*blockSize >= b.blocks {
		return false
	}
	flip(t, b.path, grid+stripe*blockSize)
	return true
}

// lose deletes n shards of every extent, from another one on each time, and rots a
// block in each of the others, in stripes of their own. It returns the number of
// blocks that rotted.
func (s *realStore) lose(t testing.TB, spare int, rot bool) (rotten int) {
	t.Helper()
	extents := s.extents(t)
	for turn, id := range slices.Sorted(maps.Keys(extents)) {
		blobs := extents[id]
		n := len(blobs)
		stripe := 0
		for i := range n {
			b := blobs[(turn+i)%n]
			switch {
			case i < b.m-spare:
				require.NoError(t, os.Remove(b.path))
			case rot && stripe < b.stripes && b.rot(t, stripe):
				stripe++
				rotten++
			}
		}
	}
	return rotten
}

// The independent reader restores what the store wrote, and has nothing to remark
// about it; also with m shards of every extent deleted, and with m-1 deleted and a
// block rotten in each of the others, in different stripes.
func TestRealStores(t *testing.T) {
	for name, opts := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newRealStore(t, opts, false)
			require.Empty(t, s.requireRestored(t).stderr, "nothing is wrong with it")
			if testing.Short() {
				return
			}
			s.lose(t, 0, false)
			s.requireRestored(t)
		})
		t.Run(name+", rotten", func(t *testing.T) {
			t.Parallel()
			s := newRealStore(t, opts, false)
			rotten := s.lose(t, 1, true)
			require.NotZero(t, rotten)
			r := s.requireRestored(t)
			require.Equal(t, rotten, strings.Count(r.stderr, "block of stripe"), "%s", r.stderr)
		})
	}
}

// After the store healed itself, the reader has nothing to remark either.
func TestHealedStore(t *testing.T) {
	s := newRealStore(t, stores["2+1 on three"], false)
	s.lose(t, 0, false)
	ctx := context.Background()
	st, err := blockframe.Open(ctx, blockframe.Options{Dirs: s.dirs, NoCreate: true})
	require.NoError(t, err)
	rep, err := st.Scrub(ctx, blockframe.ScrubOptions{Deep: true, Repair: true})
	require.NoError(t, err)
	require.Zero(t, rep.Left)
	require.NoError(t, st.Close())
	require.Empty(t, s.requireRestored(t).stderr)
}

// Golden stores, written by the version that froze the format, are restored by the
// reader and opened by this version, with what they had lost by then, and without.
// They are whole directories of stores but for the view, which is made anew.
func TestGoldenStores(t *testing.T) {
	for _, name := range []string{"8+2 on one", "2+1 on three"} {
		t.Run(name, func(t *testing.T) {
			golden := filepath.Join("testdata", strings.ReplaceAll(name, " ", "-")+".tar.gz")
			if *update {
				s := newRealStore(t, stores[name], true)
				pack(t, golden, filepath.Dir(s.dirs[0]))
			}
			s := unpacked(t, golden)
			require.Empty(t, s.requireRestored(t).stderr)
			s.lose(t, 0, false)
			s.requireRestored(t)
			s.requireReads(t)

			s = unpacked(t, golden)
			require.NotZero(t, s.lose(t, 1, true))
			s.requireRestored(t)
			s.requireReads(t)
		})
	}
}

// requireReads reads every object with the real implementation.
func (s *realStore) requireReads(t testing.TB) {
	t.Helper()
	ctx := context.Background()
	st, err := blockframe.Open(ctx, blockframe.Options{Dirs: s.dirs, NoCreate: true, NoRepair: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, st.Close()) }()
	for name, data := range s.want {
		rd, err := st.Open(ctx, name)
		require.NoError(t, err)
		got, err := io.ReadAll(rd)
		require.NoError(t, err, name)
		require.True(t, bytes.Equal(data, got), name)
		require.NoError(t, rd.Close())
	}
}

// pack writes a directory as a compressed archive, views left out.
func pack(t testing.TB, golden, root string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(golden), 0o755))
	f, err := os.Create(golden)
	require.NoError(t, err)
	z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	require.NoError(t, err)
	w := tar.NewWriter(z)
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Name() == "view" {
			return fs.SkipDir
		}
		rel, _ := filepath.Rel(root, path)
		if !d.Type().IsRegular() {
			return nil
		}
		b, err := os.ReadFile(path)
		if err == nil {
			err = w.WriteHeader(&tar.Header{Name: filepath.ToSlash(rel), Mode: 0o644, Size: int64(len(b)), Format: tar.FormatPAX})
		}
		if err == nil {
			_, err = w.Write(b)
		}
		return err
	}))
	require.NoError(t, w.Close())
	require.NoError(t, z.Close())
	require.NoError(t, f.Close())
}

// unpacked unpacks a golden store.
func unpacked(t testing.TB, golden string) *realStore {
	t.Helper()
	f, err := os.Open(golden)
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	root := t.TempDir()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		path := filepath.Join(root, filepath.FromSlash(h.Name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		b, err := io.ReadAll(r)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, bytes.TrimRight(b, "\x00"), 0o644))
		require.NoError(t, os.Truncate(path, h.Size)) // the log is zeros for the most part
	}
	s := &realStore{golden: true}
	s.expect()
	s.dirs, err = filepath.Glob(filepath.Join(root, "d*"))
	require.NoError(t, err)
	return s
}
