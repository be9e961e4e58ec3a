package store

import (
	"bytes"
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/merkle"
)

// maxHandles is how many extents are kept open beyond those in use. A handle holds
// a table of up to some 200 KiB and an open blob for each shard that was read.
const maxHandles = 24

// handle is an extent open for reading: its record, its verified table and the
// blobs opened so far.
type handle struct {
	e     Extent
	g     erasure.Geometry
	coder *erasure.Coder
	table merkle.Table
	par   []byte // parity hashes, by stripe

	stale atomic.Bool // the record changed since: get it anew

	refs atomic.Int32  // becomes and ceases to be 0 under handles.mu
	at   *list.Element // in handles.used, nil when it was forgotten

	disks []*disk // by shard
	blobs []blob
}

// blob is an open shard, or why it cannot be opened.
type blob struct {
	open atomic.Pointer[BackendReader] // r, once it is open: it stays so as long as the handle

	busy chan struct{} // holds a token while it is being opened, which may take long
	r    BackendReader
	err  error
	at   time.Time // of err
}

// place is where an extent is in the stored stream of an upload.
type place struct {
	upload  UploadID
	ordinal int
}

// handles is the set of open extents, shared by all readers. They are kept in order of
// use, and those that nobody uses are closed from the far end.
type handles struct {
	s    *Store
	mu   sync.Mutex
	open map[ExtentID]*handle
	at   map[place]*handle // the same
	used list.List         // the same, the one given back last at the end
	idle int               // number of them with refs 0
}

func newHandles(s *Store) *handles {
	return &handles{s: s, open: map[ExtentID]*handle{}, at: map[place]*handle{}}
}

// find returns the handle of an extent that is open, to be given back with put, nil if
// there is none or its record is known to have changed. The catalog is not asked.
func (h *handles) find(upload UploadID, ordinal int) *handle {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.at[place{upload, ordinal}]
	if x == nil || x.stale.Load() {
		return nil
	}
	h.take(x)
	return x
}

// get returns a handle of the extent, to be given back with put. The record may be
// older than the blobs: a repair replaced one. See refresh.
func (h *handles) get(ctx context.Context, e Extent) (*handle, error) {
	h.mu.Lock()
	if x := h.open[e.ID]; x != nil && sameBlobs(&x.e, &e) {
		h.take(x)
		h.mu.Unlock()
		return x, nil
	}
	h.mu.Unlock()
	x, err := h.s.openExtent(ctx, e)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if old := h.open[e.ID]; old != nil {
		if sameBlobs(&old.e, &e) { // another reader was faster
			h.drop1(x)
			h.take(old)
			return old, nil
		}
		h.forget(old)
	}
	h.open[e.ID], h.at[x.place()] = x, x
	x.at = h.used.PushBack(x)
	return x, nil
}

// sameBlobs reports whether two records of an extent name the same blobs.
func sameBlobs(a, b *Extent) bool {
	for i := range a.Shards {
		if a.Shards[i] != b.Shards[i] {
			return false
		}
	}
	return true
}

// take counts a user of x. h.mu is held.
func (h *handles) take(x *handle) {
	if x.refs.Add(1) == 1 {
		h.idle--
	}
}

// retain counts one more user of a handle in use.
func (h *handles) retain(x *handle) { x.refs.Add(1) }

// put gives a handle back.
func (h *handles) put(x *handle) {
	for n := x.refs.Load(); n > 1; n = x.refs.Load() {
		if x.refs.CompareAndSwap(n, n-1) {
			return // others use it
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop1(x)
}

// drop1 takes one user of x away. h.mu is held.
func (h *handles) drop1(x *handle) {
	if x.refs.Add(-1) > 0 {
		return
	}
	if x.at == nil { // forgotten while in use, or never in the set
		x.close()
		return
	}
	h.used.MoveToBack(x.at)
	if h.idle++; h.idle > maxHandles {
		h.forgetOldest()
	}
}

// forgetOldest forgets the handle that was not in use for longest. There is one. h.mu is
// held.
func (h *handles) forgetOldest() {
	for at := h.used.Front(); ; at = at.Next() {
		if x := at.Value.(*handle); x.refs.Load() == 0 {
			h.forget(x)
			return
		}
	}
}

// forget takes x out of the set, and closes it when nobody uses it. h.mu is held.
func (h *handles) forget(x *handle) {
	delete(h.open, x.e.ID)
	delete(h.at, x.place())
	h.used.Remove(x.at)
	x.at = nil
	if x.refs.Load() == 0 {
		h.idle--
		x.close()
	}
}

// drop forgets the handle of an extent whose blobs changed.
func (h *handles) drop(id ExtentID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if x := h.open[id]; x != nil {
		h.forget(x)
	}
}

// close closes what nobody uses; the rest is closed when it is given back.
func (h *handles) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, x := range h.open {
		h.forget(x)
	}
}

func (x *handle) place() place { return place{x.e.Upload, x.e.Ordinal} }

// holds reports whether a position of the stored stream of an upload is in the extent.
func (x *handle) holds(upload UploadID, pos int64) bool {
	return x.e.Upload == upload && pos >= x.e.Offset && pos < x.e.Offset+x.e.Length
}

// each returns the length of the extents of the stream, or of all but its last.
func (x *handle) each() int64 {
	if x.e.Ordinal == 0 {
		return x.e.Length
	}
	return x.e.Offset / int64(x.e.Ordinal)
}

func (x *handle) close() {
	for i := range x.blobs {
		if x.blobs[i].r != nil {
			x.blobs[i].r.Close()
		}
	}
}

// newHandle returns a handle without a table.
func newHandle(e Extent) *handle {
	return &handle{e: e, g: e.Geometry(), blobs: newBlobs(len(e.Shards)),
		table: merkle.Table{Offset: e.Offset, Length: e.Length, BlockSize: e.BlockSize, Whole: e.Whole}}
}

func newBlobs(n int) []blob {
	list := make([]blob, n)
	for i := range list {
		list[i].busy = make(chan struct{}, 1)
	}
	return list
}

// openExtent opens an extent: a shard with a sound trailer and table gives the table
// for all of them. Shards are asked in order, the next one when one fails or takes
// long. The caller has the one reference.
func (s *Store) openExtent(ctx context.Context, e Extent) (*handle, error) {
	x := newHandle(e)
	var err error
	if x.coder, err = erasure.For(e.Code); err != nil {
		return nil, err
	}
	for i := range e.Shards {
		x.disks = append(x.disks, s.disk(e.Shards[i].Backend))
	}
	x.refs.Store(1)
	errs, ok := s.raceTables(ctx, x)
	if ok {
		return x, nil
	}
	err = ctx.Err()
	if err == nil {
		if err = s.mergeTable(ctx, x); err == nil {
			return x, nil
		}
		err = s.lostTable(&e, append(errs, err))
	}
	s.open.put(x)
	return nil, err
}

// lostTable returns the error for an extent without a table: as stripeFetch.lost does
// for a stripe, one copy of it being needed.
func (s *Store) lostTable(e *Extent, errs []error) error {
	if s.ctx.Err() != nil {
		return fmt.Errorf("store: %w", fs.ErrClosed)
	}
	if unavailable(errs) > 0 {
		return fmt.Errorf("%w: extent %v: no table within reach: %v", ErrUnavailable, e.ID, errors.Join(errs...))
	}
	return &CorruptError{Extent: e.ID, Stripe: -1, Offset: e.Offset, Length: e.Length, Want: 1, err: errors.Join(errs...)}
}

// tableRead is the table of shard i, or why it is no good.
type tableRead struct {
	i   int
	raw []byte
	err error
}

// raceTables sets the table of x to the first sound one that arrives.
func (s *Store) raceTables(ctx context.Context, x *handle) (errs []error, ok bool) {
	ch := make(chan tableRead, len(x.e.Shards))
	asked, pending := 0, 0
	ask := func() {
		if asked < len(x.e.Shards) {
			s.askTable(ctx, x, asked, ch)
			asked, pending = asked+1, pending+1
		}
	}
	timer := time.NewTicker(hedgeLeast)
	defer timer.Stop()
	for ask(); pending > 0; {
		select {
		case r := <-ch:
			pending--
			if r.err == nil {
				x.setTable(r.raw)
				return nil, true
			}
			errs = append(errs, fmt.Errorf("shard %d on %v: %w", r.i, x.e.Shards[r.i].Backend, r.err))
			s.blame(ctx, x, r.i, wholeShard, r.err)
			ask()
		case <-timer.C:
			ask()
		case <-ctx.Done():
			return errs, false
		case <-s.ctx.Done():
			return errs, false
		}
	}
	return errs, false
}

// askTable reads the table of shard i in a goroutine, which sends it to ch.
func (s *Store) askTable(ctx context.Context, x *handle, i int, ch chan<- tableRead) {
	s.open.retain(x)
	s.spawnRead(func(err error) {
		defer s.open.put(x)
		t := tableRead{i: i, err: err}
		if err == nil {
			t.raw, t.err = s.readTable(ctx, x, i)
		}
		ch <- t
	})
}

// blob returns the open blob of shard i.
func (x *handle) blob(ctx context.Context, s *Store, i int) (BackendReader, error) {
	b := &x.blobs[i]
	if r := b.open.Load(); r != nil {
		return *r, nil
	}
	select {
	case b.busy <- struct{}{}:
		defer func() { <-b.busy }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if b.r == nil && (b.err == nil || time.Since(b.at) > retryAfter) {
		b.at = time.Now()
		b.r, b.err = s.openBlob(ctx, &x.e, i, OpenOptions{})
		if b.err != nil && ctx.Err() != nil {
			err := b.err
			b.err = nil // it was the reader who left
			return nil, err
		}
		if b.err == nil {
			r := b.r
			b.open.Store(&r)
		}
	}
	return b.r, b.err
}

// failed returns why the blob of shard i could not be opened lately, nil if it was
// not tried or is open. It does not wait for one that is being opened.
func (x *handle) failed(i int) error {
	b := &x.blobs[i]
	if x.e.Shards[i].Missing {
		return fs.ErrNotExist
	}
	select {
	case b.busy <- struct{}{}:
		defer func() { <-b.busy }()
	default:
		return nil
	}
	if time.Since(b.at) > retryAfter {
		return nil
	}
	return b.err
}

// openBlob opens the blob of shard i. It lives as long as the store unless it is
// closed.
func (s *Store) openBlob(ctx context.Context, e *Extent, i int, opts OpenOptions) (BackendReader, error) {
	if e.Shards[i].Missing {
		return nil, fmt.Errorf("shard %d was never written: %w", i, fs.ErrNotExist)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d := s.disk(e.Shards[i].Backend)
	r, err := d.Open(s.ctx, e.Key(i), opts)
	if err != nil {
		d.saw(err) // that a backend can be read says nothing of writes
	}
	return r, err
}

// readTable reads the table of shard i and checks it against the record, which
// binds it to the content.
func (s *Store) readTable(ctx context.Context, x *handle, i int) ([]byte, error) {
	r, err := x.blob(ctx, s, i)
	if err != nil {
		return nil, err
	}
	t, err := readTrailer(r)
	if err != nil {
		return nil, err
	}
	if err := t.matches(s.storeID, &x.e, i); err != nil {
		return nil, err
	}
	raw := make([]byte, t.table.len)
	if _, err := readFull(r, raw, t.table.off); err != nil {
		return nil, err
	}
	if frame.Sum(raw) != t.tableHash {
		return nil, fmt.Errorf("%w: table hash does not match", ErrCorrupt)
	}
	return raw, x.checkTable(raw)
}

// checkTable folds a table and compares with the record. It may run beside setTable.
func (x *handle) checkTable(raw []byte) error {
	n := 32 * x.g.Blocks()
	if int64(len(raw)) != tableLen(x.g) {
		return fmt.Errorf("%w: table of %d bytes, want %d", ErrCorrupt, len(raw), tableLen(x.g))
	}
	t := merkle.Table{Offset: x.e.Offset, Length: x.e.Length, BlockSize: x.e.BlockSize, Whole: x.e.Whole, CVs: cvsOf(raw[:n])}
	if t.Hash() != x.e.Hash || frame.Sum(raw[n:]) != x.e.ParityRoot {
		return fmt.Errorf("%w: table does not fold to the hash of the extent", ErrCorrupt)
	}
	return nil
}

// setTable takes a checked table.
func (x *handle) setTable(raw []byte) {
	n := 32 * x.g.Blocks()
	x.table.CVs, x.par = cvsOf(raw[:n]), bytes.Clone(raw[n:]) // raw is not kept: two dozen of them are some MiB
}

func cvsOf(raw []byte) []merkle.CV {
	cvs := make([]merkle.CV, len(raw)/32)
	for i := range cvs {
		cvs[i] = merkle.CV(raw[32*i:])
	}
	return cvs
}

// readTrailer reads and decodes the trailer of a blob.
func readTrailer(r BackendReader) (trailer, error) {
	size := r.Size()
	if size < headerSize+trailerSize || size%frame.Grid != 0 {
		return trailer{}, fmt.Errorf("%w: a blob of %d bytes", ErrCorrupt, size)
	}
	b := frame.Aligned(trailerSize)
	if _, err := readFull(r, b, size-trailerSize); err != nil {
		return trailer{}, err
	}
	t, err := decodeTrailer(b)
	if err == nil && t.size != size {
		err = fmt.Errorf("%w: a blob of %d bytes whose trailer says %d", ErrCorrupt, size, t.size)
	}
	return t, err
}

// readFull reads exactly len(b) bytes; fewer are damage.
func readFull(r BackendReader, b []byte, off int64) (int, error) {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return n, nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: %d bytes at %d, want %d", ErrCorrupt, n, off, len(b))
	}
	return n, err
}

// matches compares a trailer with the record of the extent: a blob that is sound
// in itself but another one is damage too.
func (t *trailer) matches(storeID [16]byte, e *Extent, i int) error {
	want := headerOf(storeID, e, i)
	want.compat = t.compat
	if t.header != want || t.descriptor != e.Descriptor || t.length != e.Length || t.whole != e.Whole ||
		t.hash != e.Hash || t.parityRoot != e.ParityRoot {
		return fmt.Errorf("%w: the blob is shard %d of extent %v, generation %d; want shard %d of %v, generation %d",
			ErrCorrupt, t.shard, t.extent, t.generation, i, e.ID, e.Shards[i].Generation)
	}
	return nil
}

// check compares a block with its hash. column is the shard, which for parity is
// k or more.
func (x *handle) check(column, stripe int, block []byte) bool {
	k := x.e.Code.K
	if column < k {
		return x.table.Check(stripe*k+column, block)
	}
	if k == 1 {
		return x.table.Check(stripe, block)
	}
	at := 32 * (stripe*x.e.Code.M + column - k)
	return sum(block) == ID(x.par[at:at+32])
}
