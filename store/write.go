package store

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/merkle"
)

// stream is what is known of a stored stream before its first byte.
type stream struct {
	upload UploadID
	kind   Kind
	name   string // of an object: goes into its manifests
	attr   Attr
	policy Policy
	code   erasure.Code
	size   int64 // announced, -1 unknown
	pack   *packIndex
	keep   *Kept  // of a stream without a name
	slabs  *slabs // nil: those of the store
	upkeep bool   // the store writes it by itself
}

// written is a stored stream whose shards are durable, and to which nothing refers
// yet.
type written struct {
	id      ID
	size    int64
	extents []Extent // those that were not recorded by AddExtent: the last, if any
	given   bool     // up, after an error: no record of it is uncertain any more
}

// lookahead is a reader that can tell whether more is to come.
type lookahead struct {
	r    io.Reader
	next [1]byte
	have bool
	eof  bool
	n    int64 // bytes handed out
}

// more reports whether there is another byte.
func (l *lookahead) more() (bool, error) {
	for !l.have && !l.eof {
		n, err := l.r.Read(l.next[:])
		l.have = n == 1
		if err == io.EOF {
			l.eof = true
		} else if err != nil {
			return l.have, sourceError(err)
		}
	}
	return l.have, nil
}

// fill reads until b is full or the stream ends, and returns how much it read.
func (l *lookahead) fill(b []byte) (n int, err error) {
	if l.have && len(b) > 0 {
		b[0], n, l.have = l.next[0], 1, false
	}
	if !l.eof {
		var m int
		m, err = io.ReadFull(l.r, b[n:])
		n += m
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			l.eof, err = true, nil
		}
	}
	l.n += int64(n)
	if err != nil {
		err = sourceError(err)
	}
	return n, err
}

func sourceError(err error) error { return fmt.Errorf("read source: %w", err) }

// writeStream stores r as extents and records all but those of the last record's
// worth. Nothing refers to them when it returns. On an error it removes what it
// wrote and no record can name; what it cannot remove belongs to this open epoch
// and is collected after the next open.
func (s *Store) writeStream(ctx context.Context, ref stream, r io.Reader) (written, error) {
	in := &lookahead{r: r}
	if ref.size >= 0 {
		in.r = io.LimitReader(r, ref.size+1) // one byte more shows that it is longer
	}
	var done series
	err := s.writeExtents(ctx, ref, in, &done)
	if err == nil && ref.size >= 0 && in.n != ref.size {
		err = wrongSize(in.n, ref.size)
	}
	if err != nil {
		s.discard(done.loose())
		return written{given: done.recorded > 0 && s.abandon(ref.upload)}, err
	}
	return written{id: done.top.id(), size: in.n, extents: done.loose()}, nil
}

// writeExtents stores in as extents, and records each when the next one begins.
func (s *Store) writeExtents(ctx context.Context, ref stream, in *lookahead, done *series) error {
	for {
		if more, err := in.more(); err != nil || !more {
			return err
		}
		if err := s.tooLong(&ref, done); err != nil {
			return err
		}
		if err := s.record(ctx, done); err != nil {
			return err
		}
		e, err := s.writeExtent(ctx, ref, in, done)
		if err != nil {
			return err
		}
		done.add(e)
	}
}

// wrongSize is the error for a source of n bytes, or more.
func wrongSize(n, announced int64) error {
	return fmt.Errorf("%w: the source has %d bytes or more, %d were announced", io.ErrUnexpectedEOF, n, announced)
}

// abandon lets the collection have an upload that no put will name. When that cannot be
// recorded the upload waits for the next open. It reports whether it could be: then all
// that was proposed of it before has taken effect, or never will.
func (s *Store) abandon(id UploadID) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), discardTime)
	defer cancel()
	err := s.commitOne(ctx, Abandon{id})
	if err != nil {
		s.log.Warn("extents of a failed put stay until a collection after the next open", "upload", id, "err", err)
	}
	return err == nil
}

// writeExtent stores the next extent of in, which has at least one byte more.
// before are the extents of the stream so far.
func (s *Store) writeExtent(ctx context.Context, ref stream, in *lookahead, before *series) (Extent, error) {
	w, err := s.newExtentWriter(ctx, ref, before)
	if err != nil {
		return Extent{}, err
	}
	last := false
	if err = w.fill(ctx, in); err == nil {
		var more bool
		more, err = in.more()
		last = !more
	}
	w.jobs.Wait()
	if err == nil {
		err = w.failure()
	}
	if err == nil {
		err = w.seal(ctx, before, last, in.n)
	}
	if err = w.finish(err); err != nil {
		s.discard([]Extent{w.e})
		return Extent{}, err
	}
	return w.e, nil
}

// newExtentWriter chooses the code and places of an extent and starts its shard
// writers.
func (s *Store) newExtentWriter(ctx context.Context, ref stream, before *series) (*extentWriter, error) {
	coder, err := erasure.For(ref.code)
	if err != nil {
		return nil, err
	}
	w := &extentWriter{s: s, ctx: ctx, ref: ref, coder: coder, e: Extent{
		Upload: ref.upload, Ordinal: before.n, Offset: before.length, Kind: ref.kind, Code: ref.code,
		BlockSize: BlockSize, CodeID: codeReedSolomon, Epoch: s.epoch,
	}}
	rand.Read(w.e.ID[:])
	w.limit = ref.extent(s.mostExtents)
	w.builder = merkle.NewBuilder(w.e.Offset, BlockSize)
	places, err := s.place(ctx, w.e.ID, ref, w.expected(), before.n == 0)
	if err != nil {
		return nil, err
	}
	for i, id := range places {
		w.e.Shards = append(w.e.Shards, Shard{Backend: id})
		w.shards = append(w.shards, newShardWriter(w, i, s.disk(id)))
	}
	for _, sw := range w.shards {
		go sw.run(ctx)
	}
	return w, nil
}
