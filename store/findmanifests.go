package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/blockframe/blockframe/internal/frame"
)

// findManifests returns the manifests of an extent, and for a pack where they begin
// in its stream: from any shard whose copy is sound; from the stream of the pack
// itself; or, when no copy of an object's is left, made anew from the catalog.
func (s *Store) findManifests(ctx context.Context, x *handle) (lines []byte, at int64, err error) {
	for i := range x.e.Shards {
		lines, at, err = s.readManifests(ctx, x, i)
		if err == nil && lines != nil {
			return lines, at, nil
		}
		if ctx.Err() != nil {
			return nil, 0, ctx.Err()
		}
	}
	if x.e.Kind == KindPack {
		return s.unpackManifests(ctx, x)
	}
	return s.remakeManifests(ctx, x)
}

// readManifests returns the manifests part of shard i, nil where it carries none.
func (s *Store) readManifests(ctx context.Context, x *handle, i int) ([]byte, int64, error) {
	r, err := x.blob(ctx, s, i)
	if err != nil {
		return nil, 0, err
	}
	t, err := readTrailer(r)
	if err != nil {
		return nil, 0, err
	}
	if err := t.matches(s.storeID, &x.e, i); err != nil {
		return nil, 0, err
	}
	if t.manifests.len == 0 {
		return nil, 0, nil
	}
	lines := make([]byte, t.manifests.len)
	if _, err := readFull(r, lines, t.manifests.off); err != nil {
		return nil, 0, err
	}
	if frame.Sum(lines) != t.maniHash {
		return nil, 0, fmt.Errorf("%w: manifests hash does not match", ErrCorrupt)
	}
	return lines, t.packMani, nil
}

// unpackManifests reads the manifests out of the stream of a pack, where they are
// the last lines: the last of them says where the last member ends, and there they
// begin.
func (s *Store) unpackManifests(ctx context.Context, x *handle) ([]byte, int64, error) {
	stream := make([]byte, 0, x.e.Length)
	for b := range x.g.Blocks() {
		p, err := s.readBlock(ctx, x, b)
		if err != nil {
			return nil, 0, err
		}
		stream = append(stream, p.data...)
		p.free()
	}
	last := bytes.TrimSuffix(stream, []byte("\n"))
	last = last[bytes.LastIndexByte(last, '\n')+1:]
	if i := bytes.LastIndex(last, []byte(`{"type":"member"`)); i > 0 { // the first line follows the bytes of a member
		last = last[i:]
	}
	var m manifest
	if err := json.Unmarshal(last, &m); err != nil || m.At == nil || m.Size == nil {
		return nil, 0, fmt.Errorf("%w: pack %v does not end with a manifest", ErrCorrupt, x.e.ID)
	}
	at := *m.At + *m.Size
	if at < 0 || at > int64(len(stream)) {
		return nil, 0, fmt.Errorf("%w: last member of pack %v ends at %d of %d", ErrCorrupt, x.e.ID, at, len(stream))
	}
	return bytes.Clone(stream[at:]), at, nil
}

// remakeManifests makes the manifests of an object's extent from the catalog. They
// name the object as it is named now.
func (s *Store) remakeManifests(ctx context.Context, x *handle) ([]byte, int64, error) {
	u, err := s.cat.Upload(ctx, x.e.Upload)
	if err != nil {
		return nil, 0, err
	}
	ref := stream{upload: x.e.Upload}
	for o, err := range s.cat.Owners(ctx, x.e.Upload, x.e.Offset, x.e.Offset+x.e.Length) {
		if err != nil {
			return nil, 0, err
		}
		ref.name, ref.attr, ref.policy.Name = o.Object.Name, o.Object.Attr, o.Object.Policy
		break
	}
	if x.e.Ordinal != u.Extents-1 {
		return objectManifests(ref, &x.e, nil, ID{}, 0), 0, nil
	}
	all := make([]Extent, u.Extents)
	for i := range all {
		if all[i], err = s.cat.ExtentAt(ctx, x.e.Upload, i); err != nil {
			return nil, 0, err
		}
	}
	return objectManifests(ref, &x.e, all, streamID(all), u.Length), 0, nil
}
