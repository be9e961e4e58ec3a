package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"

	"github.com/blockframe/blockframe/internal/frame"
)

// findManifests returns the manifests of an extent: those of any shard whose copy is
// sound; of a pack those in its stream itself; or, when no copy of an object's is left,
// made anew from the catalog.
func (s *Store) findManifests(ctx context.Context, x *handle) (lines, error) {
	for i := range x.e.Shards {
		if !x.e.carries(i) {
			continue
		}
		l, err := s.readManifests(ctx, x, i)
		if err == nil {
			return l, nil
		}
		if ctx.Err() != nil {
			return lines{}, ctx.Err()
		}
	}
	if x.e.Kind == KindPack {
		return s.unpackManifests(ctx, x)
	}
	return s.remakeManifests(ctx, x)
}

// readManifests returns the manifests part of shard i, which is sound now.
func (s *Store) readManifests(ctx context.Context, x *handle, i int) (lines, error) {
	t, err := s.trailerOf(ctx, x, i)
	if err != nil {
		return lines{}, err
	}
	if err := t.matches(s.storeID, &x.e, i); err != nil {
		return lines{}, err
	}
	if t.manifests.len == 0 {
		return lines{}, fmt.Errorf("shard %d carries no manifests: %w", i, fs.ErrNotExist)
	}
	l, err := measured(func(add func([]byte) error) error {
		buf := frame.Aligned(int(min(linePiece, t.manifests.len)))
		for at := int64(0); at < t.manifests.len; at += linePiece {
			b := buf[:min(linePiece, t.manifests.len-at)]
			err := s.withBlob(ctx, x, i, func(r BackendReader) error {
				_, err := readFull(r, b, t.manifests.off+at)
				return err
			})
			if err == nil {
				err = add(b)
			}
			if err != nil {
				return err
			}
		}
		return ctx.Err()
	})
	if err == nil && l.hash != t.maniHash {
		err = fmt.Errorf("%w: manifests hash does not match", ErrCorrupt)
	}
	l.at = t.packMani
	return l, err
}

// trailerOf returns the trailer of shard i.
func (s *Store) trailerOf(ctx context.Context, x *handle, i int) (trailer, error) {
	var t trailer
	err := s.withBlob(ctx, x, i, func(r BackendReader) (err error) { t, err = readTrailer(r); return err })
	if err != nil {
		return trailer{}, err // t may be written to yet
	}
	return t, nil
}

// unpackManifests finds the manifests in the stream of a pack, where they are the last
// lines: the last of them says where the last member ends, and there they begin.
func (s *Store) unpackManifests(ctx context.Context, x *handle) (lines, error) {
	from := max(0, x.e.Length-maxLine-1)
	var end []byte
	err := s.eachBlock(ctx, x, from, func(b []byte) error { end = append(end, b...); return nil })
	if err != nil {
		return lines{}, err
	}
	last := bytes.TrimSuffix(end, []byte("\n"))
	last = last[bytes.LastIndexByte(last, '\n')+1:]
	if i := bytes.LastIndex(last, []byte(`{"type":"member"`)); i > 0 { // the first line follows the bytes of a member
		last = last[i:]
	}
	var m manifest
	if err := json.Unmarshal(last, &m); err != nil || m.At == nil || m.Size == nil {
		return lines{}, fmt.Errorf("%w: pack %v does not end with a manifest", ErrCorrupt, x.e.ID)
	}
	at := *m.At + *m.Size
	if at < 0 || at > x.e.Length {
		return lines{}, fmt.Errorf("%w: last member of pack %v ends at %d of %d", ErrCorrupt, x.e.ID, at, x.e.Length)
	}
	l, err := measured(func(add func([]byte) error) error { return s.eachBlock(ctx, x, at, add) })
	l.at = at
	return l, err
}

// eachBlock hands the bytes of an extent from one of them on to do, verified, block by
// block.
func (s *Store) eachBlock(ctx context.Context, x *handle, from int64, do func([]byte) error) error {
	for at := from; at < x.e.Length; at += BlockSize - at%BlockSize {
		p, err := s.readBlock(ctx, x, int(at/BlockSize))
		if err != nil {
			return err
		}
		err = do(p.data[at%BlockSize:])
		p.free()
		if err != nil {
			return err
		}
	}
	return nil
}

// unnamed precedes the upload id in the name of an object that has none any more: the last
// was purged, and nothing else tells.
const unnamed = "lost+found/"

// remakeManifests makes the manifests of an object's extent from the catalog. They
// name the object as it is named now.
func (s *Store) remakeManifests(ctx context.Context, x *handle) (lines, error) {
	u, err := s.cat.Upload(ctx, x.e.Upload)
	if err != nil {
		return lines{}, err
	}
	if u.State == UploadOpen { // its put is under way: it may grow yet
		return lines{}, fmt.Errorf("%w: the put of upload %v has not ended", ErrUnavailable, x.e.Upload)
	}
	ref := stream{upload: x.e.Upload, name: unnamed + x.e.Upload.String(), keep: u.Kept}
	for o, err := range s.cat.Owners(ctx, x.e.Upload, x.e.Offset, x.e.Offset+x.e.Length) {
		if err != nil {
			return lines{}, err
		}
		ref.name, ref.attr, ref.policy.Name = o.Object.Name, o.Object.Attr, o.Object.Policy
		break
	}
	first := objectLine(ref, &x.e)
	switch {
	case u.Kept != nil:
		first = u.Kept.line(&x.e)
	case x.e.Kind != KindObject: // it is to go, and nothing tells what it was
		return lines{}, fmt.Errorf("%w: upload %v is not kept any more", ErrUnavailable, x.e.Upload)
	}
	if x.e.Ordinal != u.Extents-1 {
		return linesOf(first), nil
	}
	var top treeTop
	for e, err := range s.extentsOf(ctx, x.e.Upload, u.Extents) {
		if err != nil {
			return lines{}, err
		}
		top.add(e.Hash)
	}
	return measured(func(add func([]byte) error) error {
		if err := add(first); err != nil {
			return err
		}
		return completeLine(x.e.Upload, top.id(), u.Length, s.extentsOf(ctx, x.e.Upload, u.Extents), add)
	})
}
