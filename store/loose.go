package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"slices"
)

// shelf is a Catalog of one stream whose extents are known: so it is read, verified block
// by block and computed where shards are missing, without the catalog of its store. It
// takes no records.
type shelf struct {
	content Content
	extents []Extent // by ordinal
}

var _ Catalog = (*shelf)(nil)

func (c *shelf) Commit(context.Context, Record) ([]Result, error) {
	return nil, fmt.Errorf("%w: the catalog is not open", fs.ErrPermission)
}

func (c *shelf) Content(_ context.Context, id ID) (Content, error) {
	if id != c.content.ID {
		return Content{}, fs.ErrNotExist
	}
	return c.content, nil
}

func (c *shelf) Extent(_ context.Context, id ExtentID) (Extent, error) {
	for _, e := range c.extents {
		if e.ID == id {
			return e, nil
		}
	}
	return Extent{}, fs.ErrNotExist
}

func (c *shelf) ExtentAt(_ context.Context, upload UploadID, ordinal int) (Extent, error) {
	if upload != c.content.Upload || ordinal < 0 || ordinal >= len(c.extents) {
		return Extent{}, fs.ErrNotExist
	}
	return c.extents[ordinal], nil
}

func (c *shelf) Object(context.Context, string, uint64) (Object, error) {
	return Object{}, fs.ErrNotExist
}
func (c *shelf) Upload(context.Context, UploadID) (Upload, error)            { return Upload{}, fs.ErrNotExist }
func (c *shelf) State(context.Context, string) ([]byte, error)               { return nil, nil }
func (c *shelf) Queued(context.Context, ExtentID) ([]Repair, error)          { return nil, nil }
func (c *shelf) Extents(context.Context, ExtentID) iter.Seq2[Extent, error]  { return none[Extent] }
func (c *shelf) Uploads(context.Context, UploadID) iter.Seq2[Upload, error]  { return none[Upload] }
func (c *shelf) Repairs(context.Context) iter.Seq2[Repair, error]            { return none[Repair] }
func (c *shelf) Inline(context.Context) iter.Seq2[Inline, error]             { return none[Inline] }
func (c *shelf) Narrow(context.Context, UploadID) iter.Seq2[UploadID, error] { return none[UploadID] }
func (c *shelf) Owners(context.Context, UploadID, int64, int64) iter.Seq2[Owner, error] {
	return none[Owner]
}

func none[T any](func(T, error) bool) {}

// newLoose returns a store over backends without a catalog. It reads; close it.
func newLoose(storeID [16]byte, backends []Backend, cat Catalog, log *slog.Logger) *Store {
	s := newStore(Options{StoreID: storeID, Catalog: cat, Backends: backends, CacheBytes: -1, NoRepair: true, Logger: log})
	s.readOnly = fs.ErrPermission
	disks := &diskSet{here: map[BackendID]*disk{}}
	for _, b := range backends {
		disks.here[b.ID()] = &disk{Backend: b, id: b.ID()}
	}
	s.set.Store(disks)
	return s
}

// openLoose returns a reader of a stream of which the extents are known, by ordinal: where
// its shards lie, and by which hashes they are verified. Up to m of the shards of each
// stripe may be missing or damaged.
func openLoose(ctx context.Context, storeID [16]byte, backends []Backend, extents []Extent, id ID, size int64, log *slog.Logger) (io.ReadCloser, error) {
	if len(extents) == 0 {
		return nil, fmt.Errorf("%w: a stream without extents", fs.ErrInvalid)
	}
	c := Content{ID: id, Size: size, Refs: 1, Code: extents[0].Code, Upload: extents[0].Upload}
	s := newLoose(storeID, backends, &shelf{content: c, extents: slices.Clone(extents)}, log)
	rd, err := s.Open(ctx, Object{Name: "upload " + c.Upload.String(), ID: id, Size: size, Upload: c.Upload})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return &looseReader{rd, s}, nil
}

// looseReader closes its store with itself.
type looseReader struct {
	*Reader
	s *Store
}

func (r *looseReader) Close() error { return errors.Join(r.Reader.Close(), r.s.Close()) }
