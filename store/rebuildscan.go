package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/blockframe/blockframe/internal/frame"
	"golang.org/x/sync/errgroup"
)

// shardBlob is what is known of a blob after a look at its key and trailer.
type shardBlob struct {
	parsedKey
	disk  BackendID
	size  int64
	err   error // why the trailer says nothing; of it only the words are kept
	facts facts
}

// facts is what the trailers of all shards of an extent have in common.
type facts struct {
	header     // but for shard, generation and compatible features, which are 0
	length     int64
	whole      bool
	hash       frame.Hash
	parityRoot frame.Hash
	descriptor frame.Hash
	packMani   int64
}

func factsOf(t *trailer) facts {
	f := facts{header: t.header, length: t.length, whole: t.whole, hash: t.hash, parityRoot: t.parityRoot, descriptor: t.descriptor, packMani: t.packMani}
	f.shard, f.generation, f.compat = 0, 0, 0
	return f
}

func (f *facts) encode(e *frame.Encoder) {
	f.header.encode(e)
	e.I64(f.length)
	e.Bool(f.whole)
	e.Raw(f.hash[:])
	e.Raw(f.parityRoot[:])
	e.Raw(f.descriptor[:])
	e.I64(f.packMani)
}

func (f *facts) decode(d *frame.Decoder) {
	f.header.decode(d)
	f.length, f.whole = d.I64(), d.Bool()
	f.hash, f.parityRoot, f.descriptor, f.packMani = d.Hash(), d.Hash(), d.Hash(), d.I64()
}

// row returns the key and value of the row of a blob: of one shard the newest
// generation comes first.
func (b *shardBlob) row() (key, value []byte) {
	key = append([]byte{'x'}, b.extent[:]...)
	key = append(key, byte(b.shard))
	key = binary.BigEndian.AppendUint32(key, ^b.generation)
	key = append(key, b.disk[:]...)
	var e frame.Encoder
	e.Raw(b.upload[:])
	e.U64(b.epoch)
	e.I64(b.size)
	e.Bool(b.err == nil)
	if b.err != nil {
		e.String(fmt.Sprintf("%.500s", b.err))
	} else {
		b.facts.encode(&e)
	}
	return key, e.B
}

func parseBlob(key, value []byte) (b shardBlob, err error) {
	k := frame.NewDecoder(key[1:])
	b.extent, b.shard, b.generation, b.disk = k.ID(), int(k.U8()), ^k.U32(), k.ID()
	d := frame.NewDecoder(value)
	b.upload, b.epoch, b.size = d.ID(), d.U64(), d.I64()
	if d.Bool() {
		b.facts.decode(d)
	} else {
		b.err = errors.New(d.String(600))
	}
	return b, errors.Join(k.Done(), d.Done())
}

// scan looks at all blobs, on all disks at once.
func (r *rebuild) scan(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, d := range r.s.here() {
		g.Go(func() error {
			if err := r.scanDisk(ctx, d); err != nil {
				return fmt.Errorf("backend %v: %w", d.id, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return r.flush()
}

func (r *rebuild) scanDisk(ctx context.Context, d *disk) error {
	for key, err := range d.keys(ctx, "") {
		if err == nil {
			err = r.s.over(ctx)
		}
		if err != nil {
			return err
		}
		k, ok := parseKey(key)
		r.counted(ok)
		if !ok {
			continue
		}
		b := shardBlob{parsedKey: k, disk: d.id}
		b.facts, b.size, b.err = r.factsOf(ctx, d, k, key)
		if b.err != nil && (unreachable(b.err) || r.s.over(ctx) != nil) {
			return b.err
		}
		if err := r.set(b.row()); err != nil {
			return err
		}
	}
	u, _ := d.Usage(ctx) // of a disk that takes no changes it has the number all the same
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rep.Strange += u.Stray
	return nil
}

// counted counts a blob.
func (r *rebuild) counted(ours bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !ours {
		r.rep.Strange++
		return
	}
	if r.rep.Blobs++; r.opts.Progress != nil && r.rep.Blobs%1000 == 0 {
		r.opts.Progress(*r.rep)
	}
}

// factsOf reads the trailer of a blob.
func (r *rebuild) factsOf(ctx context.Context, d *disk, k parsedKey, key BackendKey) (f facts, size int64, err error) {
	l, err := d.look(ctx, key, func() (BackendReader, error) { return d.Open(r.s.ctx, key, OpenOptions{}) })
	if err != nil {
		return f, 0, err
	}
	defer l.close()
	size = l.r.Size()
	var t trailer
	if _, err := l.do(ctx, func(r BackendReader) (err error) { t, err = readTrailer(r); return err }, nil); err != nil {
		return f, size, err // t may be written to yet
	}
	switch {
	case t.storeID != r.s.storeID:
		err = fmt.Errorf("%w: it is of store %x", ErrCorrupt, t.storeID)
	case t.extent != k.extent || t.upload != k.upload || t.shard != k.shard || t.generation != k.generation || t.epoch != k.epoch:
		err = fmt.Errorf("%w: the blob is another one than its key says", ErrCorrupt)
	case t.epoch > MaxEpoch:
		err = fmt.Errorf("%w: epoch %d", ErrCorrupt, t.epoch)
	}
	return factsOf(&t), size, err
}
