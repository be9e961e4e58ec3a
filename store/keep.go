package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/blockframe/blockframe/erasure"
)

// Keep stores what r yields as a stream without a name: of k the kind, the number and the
// records are given, and the rest is filled in. It is durable when Keep returns without an
// error. A snapshot takes the code of objects that no policy gives another; a segment as
// many copies as that can lose shards, and one more.
//
// The record that says that it is kept is the one commit point. A crash before it leaves
// blobs that no record names, or an upload of an epoch that has ended, and both are
// collected.
func (s *Store) Keep(ctx context.Context, k Kept, r io.Reader) (Kept, error) {
	err := s.writable()
	if err == nil {
		if err = k.Check(); err != nil {
			err = fmt.Errorf("%w: %w", fs.ErrInvalid, err)
		}
	}
	if err == nil {
		k, err = s.keep(ctx, k, r)
	}
	if err != nil {
		return Kept{}, fmt.Errorf("keep %v: %w", k, err)
	}
	return k, nil
}

func (s *Store) keep(ctx context.Context, k Kept, r io.Reader) (Kept, error) {
	policy := Choose(s.opts.Policies(), "", -1)
	code := s.code(ctx, policy)
	if k.Kind == KindSegment {
		code = erasure.Code{K: 1, M: code.M}
		policy = Policy{PerBackend: s.perBackend(code)}
	}
	k.Upload = newKeptID(k.Kind)
	ref := stream{upload: k.Upload, kind: k.Kind, keep: &k, policy: policy, code: code, size: -1}
	s.pins.add(k.Upload)
	w, err := s.writeStream(ctx, ref, r)
	if err == nil && w.size == 0 {
		err = fmt.Errorf("%w: nothing to keep", fs.ErrInvalid)
	}
	if err == nil {
		k.ID, k.Size = w.id, w.size
		err = s.commitOne(ctx, Keep{k, w.extents})
		if err != nil && !errors.Is(err, ErrUncertain) {
			s.giveUp(k.Upload, w.extents)
		}
	}
	if w.given {
		s.pins.release(k.Upload)
		return k, err
	}
	s.pins.settle(k.Upload, err)
	if err == nil {
		s.repairSoon(w.extents)
	}
	return k, err
}

// KeptNarrow reports whether a stream that is kept can lose fewer shards than one that is
// kept now: backends were missing.
func (s *Store) KeptNarrow(ctx context.Context, id UploadID) (bool, error) {
	e, err := s.cat.ExtentAt(ctx, id, 0)
	if err != nil {
		return false, passAbsent(err)
	}
	return e.Code.M < s.code(ctx, Choose(s.opts.Policies(), "", -1)).M, nil
}

// Drop releases a stream that is kept, and removes its blobs. While a backend is absent
// they are left to a later collection. In a store that was rebuilt and not accepted it is
// refused.
func (s *Store) Drop(ctx context.Context, id UploadID) error {
	err := s.writable()
	if err == nil {
		err = s.unaccepted(ctx)
	}
	if err == nil {
		err = s.commitOne(ctx, Release{id})
	}
	// A crash from here on leaves an upload that is condemned, and collected as any.
	if err == nil {
		err = s.dropBlobs(ctx, id)
	}
	if err != nil {
		return fmt.Errorf("drop upload %v: %w", id, err)
	}
	return nil
}

// DropRest removes what there is left of streams that were released: a backend was absent
// then, a crash came, or a rebuild found too few of their shards. In a store that was rebuilt
// and not accepted it is refused.
func (s *Store) DropRest(ctx context.Context) error {
	err := s.writable()
	if err == nil {
		err = s.unaccepted(ctx)
	}
	var rest []UploadID
	if err == nil {
		rest, err = s.released(ctx)
	}
	for _, id := range rest {
		if err == nil {
			err = s.dropBlobs(ctx, id)
		}
	}
	if err != nil {
		return fmt.Errorf("drop what is left of kept streams: %w", err)
	}
	return nil
}

// released returns the uploads that look like those of streams which were released. Their ids
// are next to each other.
func (s *Store) released(ctx context.Context) (list []UploadID, err error) {
	after := UploadID{}
	copy(after[:], keptMark[:])
	for u, err := range s.cat.Uploads(ctx, after) {
		if err != nil {
			return nil, err
		}
		if !bytes.HasPrefix(u.ID[:], keptMark[:]) {
			break
		}
		if u.State == UploadCondemned || u.State == UploadDead {
			list = append(list, u.ID)
		}
	}
	return list, nil
}

func (s *Store) dropBlobs(ctx context.Context, id UploadID) error {
	if err := s.collecting.take(ctx); err != nil {
		return err
	}
	defer s.collecting.give()
	if s.allPresent(ctx) != nil {
		return nil
	}
	u, err := s.cat.Upload(ctx, id)
	if isAbsent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if dead, err := s.kill(ctx, id); err != nil || !dead {
		return err
	}
	return s.bury(ctx, u, &CollectReport{})
}
