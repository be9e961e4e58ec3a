package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// lost looks for what the records name and no disk has: a log that went back to an earlier
// record knows nothing of what was purged, dropped and collected since. Streams that are
// kept are released, since nobody could read or move them; versions are told of. What may
// be on a disk that is absent counts as there.
func (r *rebuild) lost(ctx context.Context) error {
	if not := r.s.unaccepted(ctx); !errors.Is(not, errUnaccepted) {
		return not // or nil: nothing went back
	}
	for u, err := range r.s.cat.Uploads(ctx, UploadID{}) {
		if err == nil {
			err = r.s.over(ctx)
		}
		if err == nil && u.State == UploadLive {
			err = r.lostUpload(ctx, &u)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// lostUpload looks at the extents of an upload.
func (r *rebuild) lostUpload(ctx context.Context, u *Upload) error {
	var told Object
	for i := range u.Extents {
		e, err := r.s.cat.ExtentAt(ctx, u.ID, i)
		if isAbsent(err) {
			continue
		}
		there := 0
		if err == nil {
			there, err = r.shardsOf(ctx, &e)
		}
		if err != nil {
			return err
		}
		if there >= e.Code.K {
			continue
		}
		lo, hi := e.Offset, e.Offset+e.Length
		switch e.Kind {
		case KindSegment, KindSnapshot:
			if r.opts.DryRun {
				return nil
			}
			return r.s.commitOne(ctx, Release{u.ID})
		case KindObject:
			lo, hi = 0, u.Length
		}
		reason := fmt.Errorf("%w: extent %v: %d of the %d shards that it takes are there", ErrUnrecoverable, e.ID, there, e.Code.K)
		for o, err := range r.s.cat.Owners(ctx, u.ID, lo, hi) {
			if err != nil {
				return err
			}
			if v := o.Object; v.Inode != told.Inode || v.Version != told.Version {
				told = v
				r.rep.Lost++
				r.tell(Found{State: FoundIncomplete, Name: v.Name, ID: v.ID, Size: v.Size, Upload: u.ID, Err: reason})
			}
		}
		if e.Kind == KindObject {
			return nil
		}
	}
	return nil
}

// shardsOf returns how many shards of an extent were seen, or may be on disks that are
// absent.
func (r *rebuild) shardsOf(ctx context.Context, e *Extent) (n int, err error) {
	seen := map[int]bool{}
	err = r.each(ctx, append([]byte{'x'}, e.ID[:]...), func(key, value []byte) error {
		b, err := parseBlob(key, value)
		if err == nil && b.err == nil && b.upload == e.Upload && b.epoch == e.Epoch && b.shard < len(e.Shards) {
			seen[b.shard] = true
		}
		return err
	})
	absent := r.s.set.Load().absent
	for i, sh := range e.Shards {
		if !sh.Missing && slices.Contains(absent, sh.Backend) {
			seen[i] = true
		}
	}
	return len(seen), err
}
