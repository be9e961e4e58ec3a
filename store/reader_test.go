package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/mem"
)

// A Reader is what the io interfaces say, of a content in the log, in a pack, of one
// extent and of several.
func TestReaderContract(t *testing.T) {
	r := newRig(t, 5, coded(3, 2, miB)) // it reads every byte by itself, several times
	for _, n := range []int{0, 1, 4000, 5000, blk + 1, 300_000} {
		data := content(uint64(n), n)
		require.NoError(t, iotest.TestReader(r.open(r.put(fmt.Sprint(n), data)), data), "%d bytes", n)
	}
}

// Every offset and length around the boundaries, with the end of the object told as
// io.ReaderAt says.
func TestReadAt(t *testing.T) {
	r := newRig(t, 3, coded(2, 1, miB))
	const n = 2*miB + 70_001
	data := content(3, n)
	rd := r.open(r.put("x", data))
	require.EqualValues(t, n, rd.Size())
	require.Equal(t, "x", rd.Object().Name)
	edges := []int{0, 1, 2, blk - 1, blk, blk + 1, 2 * blk, miB - 1, miB, miB + 1, 2*miB - 1, 2 * miB, 2*miB + blk, n - 2, n - 1, n, n + 1, n + blk}
	for _, off := range edges {
		for _, size := range []int{0, 1, 2, 4096, blk - 1, blk, blk + 1, 2*blk + 1, miB + 5} {
			p := make([]byte, size)
			got, err := rd.ReadAt(p, int64(off))
			want := data[min(off, n):min(off+size, n)]
			require.True(t, bytes.Equal(want, p[:got]), "ReadAt(%d, %d)", size, off)
			if got < size {
				require.Equal(t, io.EOF, err, "ReadAt(%d, %d)", size, off)
			} else {
				require.NoError(t, err)
			}
		}
	}
	_, err := rd.ReadAt(make([]byte, 1), -1)
	require.ErrorIs(t, err, fs.ErrInvalid)
	for _, whence := range []int{io.SeekStart, io.SeekCurrent, io.SeekEnd} {
		_, err = rd.Seek(-n-1, whence)
		require.ErrorIs(t, err, fs.ErrInvalid)
	}
	_, err = rd.Seek(0, 9)
	require.ErrorIs(t, err, fs.ErrInvalid)
	at, err := rd.Seek(10, io.SeekEnd)
	require.NoError(t, err)
	require.EqualValues(t, n+10, at)
	got, err := rd.Read(make([]byte, 1))
	require.Zero(t, got)
	require.Equal(t, io.EOF, err, "behind the end")
	total, err := rd.WriteTo(io.Discard)
	require.Zero(t, total)
	require.NoError(t, err)
}

// Reads, seeks, reads at places and WriteTo in any order are those of a bytes.Reader.
func TestReaderAgainstModel(t *testing.T) {
	r := newRig(t, 3, uncached(2, 1, miB))
	const n = miB + 400_003
	data := content(5, n)
	rd, model := r.open(r.put("x", data)), bytes.NewReader(data)
	rng := rand.New(rand.NewPCG(11, 1))
	for i := range 400 {
		switch rng.IntN(5) {
		case 0:
			off := rng.Int64N(n + 10)
			_, err := rd.Seek(off, io.SeekStart)
			require.NoError(t, err)
			model.Seek(off, io.SeekStart)
		case 1, 2, 3: // a few reads in a row, as readers do
			for range rng.IntN(6) {
				p := make([]byte, 1+rng.IntN(100_000))
				got, err := io.ReadFull(rd, p)
				q := make([]byte, len(p))
				want, werr := io.ReadFull(model, q)
				require.Equal(t, want, got, "step %d", i)
				require.Equal(t, werr, err)
				require.True(t, bytes.Equal(q[:want], p[:got]))
			}
		case 4:
			stop := &limited{n: rng.IntN(300_000)}
			got, _ := rd.WriteTo(stop)
			at, _ := model.Seek(0, io.SeekCurrent)
			require.True(t, bytes.Equal(data[min(at, n):min(at+got, n)], stop.b))
			model.Seek(got, io.SeekCurrent)
		}
	}
}

// limited is a writer that breaks after n bytes, in the middle of a write.
type limited struct {
	b []byte
	n int
}

func (l *limited) Write(p []byte) (int, error) {
	k := min(len(p), l.n-len(l.b))
	l.b = append(l.b, p[:k]...)
	if k < len(p) {
		return k, errBroken
	}
	return k, nil
}

// ReadAt may be called by many at once, also of one reader.
func TestConcurrentReadAt(t *testing.T) {
	r := newRig(t, 3, coded(2, 1, miB))
	data := content(1, 3*miB)
	o := r.put("x", data)
	rd := r.open(o)
	m, key := r.shard(&r.extents(o)[1], 0)
	m.Flip(key, page+blk+1, 4)
	var wg sync.WaitGroup
	errs := make(chan error, 16)
	for g := range 16 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 1))
			p := make([]byte, 150_000)
			for range 40 {
				off := rng.Int64N(int64(len(data)))
				n, err := rd.ReadAt(p[:rng.IntN(len(p))], off)
				if err != nil && err != io.EOF || !bytes.Equal(p[:n], data[off:off+int64(n)]) {
					errs <- fmt.Errorf("at %d: %w", off, err)
					return
				}
			}
		})
	}
	wg.Wait()
	require.Empty(t, errs)
}

// A closed reader, and every reader of a closed store, says so and nothing worse.
func TestReadAfterClose(t *testing.T) {
	for _, opened := range []bool{false, true} {
		for _, all := range []bool{false, true} {
			t.Run(fmt.Sprintf("store %v, opened %v", all, opened), func(t *testing.T) {
				damaged := 0
				r := newRig(t, 3, func(o *store.Options) {
					uncached(2, 1, miB)(o)
					o.Events.Damaged = func(store.Damage) { damaged++ }
				})
				o := r.put("x", content(1, 2*miB))
				rd, err := r.Open(t.Context(), o)
				require.NoError(t, err)
				defer rd.Close()
				if opened {
					_, err = io.CopyN(io.Discard, struct{ io.Reader }{rd}, 300_000)
					require.NoError(t, err)
				}
				if all {
					require.NoError(t, r.Close())
				} else {
					require.NoError(t, rd.Close())
					require.NoError(t, rd.Close())
				}
				for range 3 {
					_, err = rd.ReadAt(make([]byte, 10), 1_500_000)
					require.ErrorIs(t, err, fs.ErrClosed)
					require.NotErrorIs(t, err, store.ErrCorrupt)
					rd.Seek(1_700_000, io.SeekStart)
					_, err = rd.WriteTo(io.Discard)
					require.ErrorIs(t, err, fs.ErrClosed)
					_, err = rd.Read(make([]byte, 10))
					require.ErrorIs(t, err, fs.ErrClosed)
				}
				require.Zero(t, damaged)
				if all {
					_, err = r.Open(t.Context(), o)
					require.ErrorIs(t, err, fs.ErrClosed)
				}
			})
		}
	}
}

// Every shard is healed, one after the other, under a reader that is open: it reads
// on, and what it does not find any more is not called damage.
func TestHealUnderAReader(t *testing.T) {
	for _, streaming := range []bool{false, true} {
		t.Run(fmt.Sprint(streaming), func(t *testing.T) {
			r := newRig(t, 3, uncached(2, 1, miB))
			data := content(1, 900_000)
			o := r.put("x", data)
			rd := r.open(o)
			p := make([]byte, 1000)
			if streaming {
				_, err := io.CopyN(io.Discard, struct{ io.Reader }{rd}, 100_000)
				require.NoError(t, err)
			} else {
				_, err := rd.ReadAt(p, 5) // opens one of the three blobs
				require.NoError(t, err)
			}
			r.heal(o)
			before := r.Stats().Damaged
			var w bytes.Buffer
			if streaming {
				_, err := w.ReadFrom(struct{ io.Reader }{rd})
				require.NoError(t, err)
				require.True(t, bytes.Equal(data[100_000:], w.Bytes()))
			} else {
				_, err := rd.WriteTo(&w)
				require.NoError(t, err)
				require.True(t, bytes.Equal(data, w.Bytes()))
			}
			require.Equal(t, before, r.Stats().Damaged)
			require.Empty(t, r.cat.repairs)
			r.cleanScrub()
		})
	}
}

// heal damages and heals every shard of an object's first extent in turn.
func (r *rig) heal(o store.Object) {
	r.t.Helper()
	for i := range r.extents(o)[0].Shards {
		e := r.extents(o)[0]
		m, key := r.shard(&e, i)
		m.Flip(key, page+100, 1)
		rep, err := r.Scrub(r.t.Context(), store.ScrubOptions{Deep: true, Repair: true})
		require.NoError(r.t, err)
		require.EqualValues(r.t, 1, rep.Repaired)
		require.NotEqual(r.t, key, func() store.BackendKey { e := r.extents(o)[0]; return e.Key(i) }())
	}
}

// Another process, which shares catalog and backends, heals all that a reader has
// not opened yet: nothing tells the reader, but that the blobs are gone.
func TestHealByAnotherUnderAReader(t *testing.T) {
	r := newRig(t, 3, uncached(2, 1, miB))
	data := content(1, 900_000)
	o := r.put("x", data)
	rd := r.open(o)
	_, err := rd.ReadAt(make([]byte, 10), 0)
	require.NoError(t, err)
	var backends []store.Backend
	for _, m := range r.mems {
		backends = append(backends, m)
	}
	other, err := store.New(t.Context(), store.Options{Catalog: r.cat, Backends: backends, NoRepair: true, StoreID: [16]byte{'r', 'i', 'g'}})
	require.NoError(t, err)
	defer other.Close()
	(&rig{Store: other, t: t, cat: r.cat, mems: r.mems}).heal(o)
	require.Empty(t, r.cat.repairs)
	for off := range 13 {
		p := make([]byte, 1000)
		_, err = rd.ReadAt(p, int64(off*blk+3))
		require.NoError(t, err, "block %d", off)
		require.Equal(t, data[off*blk+3:][:1000], p)
	}
	require.Zero(t, r.Stats().Damaged)
	_, err = r.Repair(t.Context())
	require.NoError(t, err)
	require.Empty(t, r.cat.repairs)
}

// The content moves to another upload under a reader, and the old blobs are removed.
func TestContentMovesUnderAReader(t *testing.T) {
	r := newRig(t, 3, uncached(2, 1, miB))
	data := content(1, 2*miB+5)
	o := r.put("x", data)
	rd, seq := r.open(o), r.open(o)
	p := make([]byte, 1000)
	_, err := rd.ReadAt(p, 0)
	require.NoError(t, err)
	_, err = io.CopyN(io.Discard, struct{ io.Reader }{seq}, 200_000)
	require.NoError(t, err)
	e := r.extents(o)[2]
	m, key := r.shard(&e, 0)
	m.Flip(key, page, 1)
	old := r.blobs()
	r.put("y", data) // finds it damaged, and takes its place
	require.Equal(t, 2*old, r.blobs())
	for _, m := range r.mems {
		for _, k := range m.Keys() {
			if string(k[len(k)-32:]) == fmt.Sprintf("%x", e.Upload[:]) {
				m.Delete(k)
			}
		}
	}
	_, err = rd.ReadAt(p[:505], 2*miB-500)
	require.NoError(t, err)
	require.Equal(t, data[2*miB-500:][:505], p[:505])
	var w bytes.Buffer
	_, err = w.ReadFrom(struct{ io.Reader }{seq})
	require.NoError(t, err)
	require.True(t, bytes.Equal(data[200_000:], w.Bytes()))
}

// Of an object with a stripe beyond repair every other range is read, and that range
// is named.
func TestLostRange(t *testing.T) { // R3
	r := newRig(t, 3, uncached(2, 1, miB))
	data := content(1, 2*miB+300_000)
	o := r.put("x", data)
	e := r.extents(o)[1]
	for i := range 2 { // stripe 3 of the second extent: both data blocks
		m, key := r.shard(&e, i)
		m.Flip(key, page+3*blk+9, 0x80)
	}
	rd := r.open(o)
	lost := miB + 6*blk
	for b := 0; b*blk < len(data); b++ {
		p := make([]byte, min(blk, len(data)-b*blk))
		_, err := rd.ReadAt(p, int64(b*blk))
		if b*blk < lost || b*blk >= lost+2*blk {
			require.NoError(t, err)
			require.True(t, bytes.Equal(data[b*blk:][:len(p)], p))
			continue
		}
		var ce *store.CorruptError
		require.True(t, errors.As(err, &ce), "%v", err)
		require.ErrorIs(t, err, store.ErrCorrupt)
		require.ErrorIs(t, err, store.ErrUnrecoverable)
		require.Equal(t, store.CorruptError{Name: "x", Extent: e.ID, Stripe: 3, Want: 2, Got: 1, Offset: int64(b * blk), Length: blk},
			store.CorruptError{Name: ce.Name, Extent: ce.Extent, Stripe: ce.Stripe, Want: ce.Want, Got: ce.Got, Offset: ce.Offset, Length: ce.Length})
	}
	var w bytes.Buffer
	n, err := rd.WriteTo(&w)
	require.ErrorIs(t, err, store.ErrUnrecoverable)
	require.EqualValues(t, lost, n, "what came before was right")
	require.True(t, bytes.Equal(data[:lost], w.Bytes()))
	_, err = rd.Seek(int64(lost+2*blk), io.SeekStart)
	require.NoError(t, err)
	w.Reset()
	_, err = rd.WriteTo(&w)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data[lost+2*blk:], w.Bytes()))
}

// A reader that takes its time holds up nobody, and reads right.
func TestSlowReader(t *testing.T) {
	r := newRig(t, 3, func(o *store.Options) { uncached(2, 1, miB)(o); o.SlabBytes = 1 })
	data := content(1, 2*miB)
	o := r.put("x", data)
	var idle []*store.Reader
	for range 20 { // begun, and left
		rd := r.open(o)
		_, err := io.CopyN(io.Discard, struct{ io.Reader }{rd}, 200_000)
		require.NoError(t, err)
		idle = append(idle, rd)
	}
	r.reads(r.put("y", data), data)
	for _, rd := range idle {
		var w bytes.Buffer
		_, err := rd.WriteTo(&w)
		require.NoError(t, err)
		require.True(t, bytes.Equal(data[200_000:], w.Bytes()))
	}
}

// asked counts what the catalog is asked for.
type asked struct {
	*tables
	extents atomic.Int64
}

func (c *asked) ExtentAt(ctx context.Context, upload store.UploadID, i int) (store.Extent, error) {
	c.extents.Add(1)
	return c.tables.ExtentAt(ctx, upload, i)
}

// Who reads here and there in an object does not ask the catalog where its extents are,
// once they are open; after a repair it does.
func TestOpenExtentsAreFound(t *testing.T) {
	cat := &asked{}
	r := newRig(t, 3, func(o *store.Options) {
		uncached(2, 1, miB)(o)
		cat.tables = o.Catalog.(*tables)
		o.Catalog = cat
	})
	data := content(1, 4*miB+miB/2)
	o := r.put("x", data)
	rd := r.open(o)
	readAll := func() {
		p := make([]byte, 100_000)
		for i := range 50 {
			off := (i * 1_300_001) % (len(data) - len(p))
			_, err := rd.ReadAt(p, int64(off))
			require.NoError(t, err)
			require.True(t, bytes.Equal(p, data[off:off+len(p)]))
		}
	}
	readAll()
	before := cat.extents.Load()
	readAll()
	require.Equal(t, before, cat.extents.Load())
	e := r.extents(o)[2]
	m, key := r.shard(&e, 0)
	m.Flip(key, page+5, 1)
	rep, err := r.Scrub(t.Context(), store.ScrubOptions{Deep: true, Repair: true})
	require.NoError(t, err)
	require.EqualValues(t, 1, rep.Repaired)
	before, damaged := cat.extents.Load(), r.Stats().Damaged
	readAll()
	require.Greater(t, cat.extents.Load(), before, "of the extent that was repaired")
	require.Equal(t, damaged, r.Stats().Damaged)
	open, idle := r.Handles()
	require.Equal(t, []int{5, 4}, []int{open, idle})
}

// An object of more extents than are kept open reads right all the same, again and again.
func TestMoreExtentsThanAreKeptOpen(t *testing.T) {
	r := newRig(t, 3, uncached(1, 2, miB))
	data := content(1, 30*miB)
	rd := r.open(r.put("x", data))
	p := make([]byte, 5000)
	for i := range 200 {
		off := (i*(miB+4096) + i) % (len(data) - len(p))
		_, err := rd.ReadAt(p, int64(off))
		require.NoError(t, err)
		require.True(t, bytes.Equal(p, data[off:off+len(p)]))
		open, idle := r.Handles()
		require.LessOrEqual(t, idle, 24)
		require.LessOrEqual(t, open, idle+2)
	}
	require.Zero(t, r.Stats().Damaged)
}

// A process that cannot open another file has lost nothing: neither a table nor a block.
func TestOutOfFiles(t *testing.T) {
	for _, what := range []string{"tables", "blocks"} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t, 3, uncached(2, 1, miB))
			data := content(1, 700_000)
			o := r.put("x", data)
			r = r.reopened(uncached(2, 1, miB))
			rd := r.open(o)
			if what == "blocks" { // one blob is open, and the table known
				_, err := rd.ReadAt(make([]byte, 1), 0)
				require.NoError(t, err)
			}
			for _, m := range r.mems {
				m.SetFault(func(op mem.Op) *mem.Fault {
					if op.Kind == mem.Open {
						return &mem.Fault{Arm: mem.Before, Err: &fs.PathError{Op: "open", Path: string(op.Key), Err: syscall.EMFILE}}
					}
					return nil
				})
			}
			_, err := rd.ReadAt(make([]byte, 1), blk)
			require.ErrorIs(t, err, store.ErrUnavailable)
			require.ErrorContains(t, err, syscall.EMFILE.Error())
			require.NotErrorIs(t, err, store.ErrUnrecoverable)
			require.Zero(t, r.queued(), "there is nothing to repair")
			rep, err := r.Scrub(t.Context(), store.ScrubOptions{Deep: true})
			require.NoError(t, err)
			require.Empty(t, rep.Lost)
			require.EqualValues(t, 3, rep.Absent)
			for _, m := range r.mems {
				m.SetFault(nil)
			}
			_, err = r.Repair(t.Context())
			require.NoError(t, err)
			r.reads(o, data)
			r.cleanScrub()
		})
	}
}
