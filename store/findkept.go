package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/blockframe/blockframe/internal/frame"
)

// FindOptions says where to look for streams that are kept.
type FindOptions struct {
	StoreID  [16]byte
	Backends []Backend // those that are there
	Kind     Kind
	Logger   *slog.Logger // nil: silent
}

// KeptStream is a stream that is kept, as its shards describe it.
type KeptStream struct {
	Kept
	opts    FindOptions
	extents []Extent
}

// FindKept returns the streams of a kind that shards prove to be complete and enough of
// them are there to be read: those of the latest open epoch first, since a store whose log
// was lost may have gone on from an earlier record, and of each the one with the newest
// records. It needs no catalog:
// it lists the keys of all backends, and opens the blobs of those streams alone. A backend
// that cannot be listed is passed over, with a warning. Some of what is found may have been
// dropped since, or never been recorded: the bytes are right all the same.
func FindKept(ctx context.Context, opts FindOptions) ([]KeptStream, error) {
	f := &finder{opts: opts, s: newLoose(opts.StoreID, opts.Backends, &shelf{}, opts.Logger), blobs: map[UploadID]map[ExtentID][]foundBlob{}}
	defer f.s.Close()
	for _, b := range opts.Backends {
		if err := f.list(ctx, f.s.here()[b.ID()]); err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			f.s.log.Warn("a backend cannot be listed", "backend", b.ID(), "err", err)
		}
	}
	var list []KeptStream
	for upload, extents := range f.blobs {
		found, err := f.upload(ctx, upload, extents)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			f.s.log.Info("shards of a "+keptType[opts.Kind]+" that cannot be used", "upload", upload, "reason", err)
			continue
		}
		list = append(list, found)
	}
	slices.SortFunc(list, func(a, b KeptStream) int {
		return cmp.Or(cmp.Compare(b.Epoch(), a.Epoch()), cmp.Compare(b.Last, a.Last), cmp.Compare(b.Number, a.Number), slices.Compare(a.Upload[:], b.Upload[:]))
	})
	return list, nil
}

// Epoch returns the open epoch that the stream was kept in.
func (f *KeptStream) Epoch() uint64 { return f.extents[0].Epoch }

// Open returns a reader of the content, every byte of it verified.
func (f *KeptStream) Open(ctx context.Context) (io.ReadCloser, error) {
	return openLoose(ctx, f.opts.StoreID, f.opts.Backends, f.extents, f.ID, f.Size, f.opts.Logger)
}

// finder is one search.
type finder struct {
	opts  FindOptions
	s     *Store
	blobs map[UploadID]map[ExtentID][]foundBlob
}

// foundBlob is a blob of a stream that may be one that is looked for.
type foundBlob struct {
	k   parsedKey
	d   *disk
	key BackendKey
}

// list notes the blobs of a backend whose keys say that they are of such a stream.
func (f *finder) list(ctx context.Context, d *disk) error {
	for key, err := range d.keys(ctx, "") {
		if err != nil {
			return err
		}
		k, ok := parseKey(key)
		if !ok || !k.upload.looksKept(f.opts.Kind) {
			continue
		}
		if f.blobs[k.upload] == nil {
			f.blobs[k.upload] = map[ExtentID][]foundBlob{}
		}
		f.blobs[k.upload][k.extent] = append(f.blobs[k.upload][k.extent], foundBlob{k, d, key})
	}
	return nil
}

// upload puts a stream together.
func (f *finder) upload(ctx context.Context, id UploadID, blobs map[ExtentID][]foundBlob) (KeptStream, error) {
	found := KeptStream{opts: f.opts}
	extents := map[ExtentID]Extent{}
	var done *complete
	var errs []error
	for x, list := range blobs {
		e, err := f.extent(ctx, list)
		if err != nil {
			errs = append(errs, fmt.Errorf("extent %v: %w", x, err))
			continue
		}
		extents[x] = e
		k, end, err := f.manifests(ctx, &e, list)
		if err == nil && end != nil {
			found.Kept, done = k, end
		}
		errs = append(errs, err)
	}
	if done == nil {
		return found, errors.Join(append(errs, fmt.Errorf("%w: nothing completes upload %v", ErrCorrupt, id))...)
	}
	var top treeTop
	for i, line := range done.Extents {
		e, ok := extents[ExtentID(line.Extent)]
		if !ok || e.Ordinal != i || e.Offset != line.Offset || e.Length != line.Length || e.Hash != frame.Hash(line.Hash) || e.Whole != (len(done.Extents) == 1) {
			return found, errors.Join(append(errs, fmt.Errorf("%w: extent %d of upload %v is missing, or another one", ErrCorrupt, i, id))...)
		}
		top.add(e.Hash)
		found.extents = append(found.extents, e)
	}
	if top.id() != done.ID {
		return found, fmt.Errorf("%w: the extents of upload %v do not fold to its id", ErrCorrupt, id)
	}
	return found, nil
}

// extent returns what a sound trailer among the blobs of an extent says, with the shards
// where they lie: of several generations of one, the highest.
func (f *finder) extent(ctx context.Context, list []foundBlob) (Extent, error) {
	slices.SortFunc(list, func(a, b foundBlob) int {
		return cmp.Or(cmp.Compare(b.k.generation, a.k.generation), cmp.Compare(a.k.shard, b.k.shard))
	})
	var e Extent
	var errs []error
	for _, b := range list {
		t, err := f.trailer(ctx, b)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		e = Extent{ID: t.extent, Upload: t.upload, Ordinal: t.ordinal, Offset: t.offset, Length: t.length, Kind: t.kind, Whole: t.whole,
			Code: t.code, BlockSize: t.blockSize, CodeID: t.codeID, Transform: t.transform, KeyEpoch: t.keyEpoch,
			Hash: t.hash, ParityRoot: t.parityRoot, Descriptor: t.descriptor, Epoch: t.epoch}
		break
	}
	if e.Length == 0 {
		return e, errors.Join(errs...)
	}
	e.Shards = make([]Shard, e.Code.Shards())
	for i := range e.Shards {
		e.Shards[i].Missing = true
	}
	there := map[int]bool{}
	for _, b := range list {
		if i := b.k.shard; i < len(e.Shards) && b.k.epoch == e.Epoch && !there[i] {
			e.Shards[i] = Shard{Backend: b.d.id, Generation: b.k.generation}
			there[i] = true
		}
	}
	if len(there) < e.Code.K {
		return e, fmt.Errorf("%w: %d shards of a %v code", ErrUnrecoverable, len(there), e.Code)
	}
	return e, nil
}

// look opens a blob and hands it to read.
func (f *finder) look(ctx context.Context, b foundBlob, read func(BackendReader) error) error {
	l, err := b.d.look(ctx, b.key, func() (BackendReader, error) { return b.d.Open(f.s.ctx, b.key, OpenOptions{}) })
	if err != nil {
		return err
	}
	defer l.close()
	_, err = l.do(ctx, read, nil)
	return err
}

func (f *finder) trailer(ctx context.Context, b foundBlob) (trailer, error) {
	var t trailer
	if err := f.look(ctx, b, func(r BackendReader) (err error) { t, err = readTrailer(r); return err }); err != nil {
		return trailer{}, err // t may be written to yet
	}
	if t.storeID != f.opts.StoreID || t.extent != b.k.extent || t.upload != b.k.upload || t.kind != f.opts.Kind ||
		t.shard != b.k.shard || t.generation != b.k.generation || t.epoch != b.k.epoch {
		return trailer{}, fmt.Errorf("%w: the blob is another one than its key says", ErrCorrupt)
	}
	return t, nil
}

// manifests reads those of an extent from any of its shards.
func (f *finder) manifests(ctx context.Context, e *Extent, list []foundBlob) (Kept, *complete, error) {
	var errs []error
	for _, b := range list {
		t, err := f.trailer(ctx, b)
		var raw []byte
		if err == nil {
			err = f.look(ctx, b, func(r BackendReader) error {
				lines := make([]byte, t.manifests.len) // at most maxManifests: see trailer.check
				_, err := readFull(r, lines, t.manifests.off)
				raw = lines
				return err
			})
		}
		if err == nil && frame.Sum(raw) != t.maniHash {
			err = fmt.Errorf("%w: manifests hash does not match", ErrCorrupt)
		}
		if err == nil {
			k, done, derr := decodeKept(f.opts.Kind, raw)
			if derr == nil && k.Upload == e.Upload {
				return k, done, nil
			}
			err = errors.Join(derr, fmt.Errorf("%w: manifests of shard %d", ErrCorrupt, b.k.shard))
		}
		errs = append(errs, err)
	}
	return Kept{}, nil, errors.Join(errs...)
}
