package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/internal/frame"
)

// Content that travelled in a record is packed when there is enough of it, and nobody
// is busy putting more: the log keeps it as safely for the moment, and what many puts
// brought makes one pack of the full code. While puts go on without a pause it is
// packed when inlineBacklog has gathered.
const (
	inlineEnough  = MaxSmall              // bytes that are worth a pack
	inlineBacklog = 8 * miB               // bytes that are packed however busy the store is
	inlinePause   = 25 * time.Millisecond // without a put: nobody is busy
	inlinePack    = 4 * miB               // bytes of one pack, at most
	inlineMembers = 8192                  // and their number: a record has at most 1 MiB
	inlineLines   = 16 * miB              // of names in one pack, about: then each content gets one
)

// runPacker packs inline contents when enough have gathered, or the oldest has
// waited for PackAfter.
func (s *Store) runPacker() {
	timer := time.NewTimer(s.opts.PackAfter)
	defer timer.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.packNow:
			s.lull()
		case <-timer.C:
		}
		if err := s.PackInline(s.ctx); err != nil && s.ctx.Err() == nil {
			s.log.Warn("inline contents stay in the log for now", "err", err)
		}
		timer.Reset(s.opts.PackAfter)
	}
}

// packSoon counts inline bytes and wakes the packer when there are enough.
func (s *Store) packSoon(n int64) {
	if s.inlineBytes.Add(n) >= inlineEnough {
		select {
		case s.packNow <- struct{}{}:
		default:
		}
	}
}

// lull waits until no inline content comes, or too much has gathered.
func (s *Store) lull() {
	look := time.NewTicker(inlinePause)
	defer look.Stop()
	for before := s.inlineBytes.Load(); before < inlineBacklog; {
		select {
		case <-s.ctx.Done():
			return
		case <-look.C:
		}
		now := s.inlineBytes.Load()
		if now == before {
			return
		}
		before = now
	}
}

// PackInline moves the contents that travelled in records into packs. It is done
// in the background; a program may call it before it takes a disk away, since a
// pack survives the loss of more of them than the log does.
func (s *Store) PackInline(ctx context.Context) error {
	if err := s.packing.take(ctx); err != nil {
		return fmt.Errorf("pack: wait for another one to end: %w", err)
	}
	defer s.packing.give()
	s.inlineBytes.Store(0)
	batches := map[erasure.Code]*inlineBatch{} // few: one for each code of a policy
	for in, err := range s.cat.Inline(ctx) {
		if err != nil {
			return err
		}
		if ID(frame.Sum(in.Content.Inline)) != in.Content.ID || int64(len(in.Content.Inline)) != in.Content.Size {
			s.log.Error("content in the catalog does not match its address; it stays there", "id", in.Content.ID)
			continue
		}
		if len(in.Names) == 0 {
			continue // its last name went meanwhile
		}
		code := s.wide(ctx, &in)
		b := batches[code]
		if b == nil {
			b = &inlineBatch{wide: code}
			batches[code] = b
		}
		b.add(&in)
		if b.bytes >= inlinePack || len(b.list) >= inlineMembers {
			delete(batches, code)
			if err := s.packContents(ctx, b); err != nil {
				return err
			}
		}
	}
	for _, b := range batches {
		if err := s.packContents(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// inlineBatch is what goes into one pack.
type inlineBatch struct {
	wide   erasure.Code // of the policy
	copies int          // that the contents should have besides the first
	list   []Inline
	bytes  int64
}

func (b *inlineBatch) add(in *Inline) {
	b.list = append(b.list, *in)
	b.bytes += in.Content.Size
	b.copies = max(b.copies, in.Content.Code.M)
}

// wide returns the code that a policy has for a content among others.
func (s *Store) wide(ctx context.Context, in *Inline) erasure.Code {
	return s.code(ctx, Choose(s.opts.Policies(), in.Names[0].Name, in.Content.Size))
}

// code returns the code of the pack: that of the policy if it fills a stripe, and is
// as safe as was promised, else copies.
func (b *inlineBatch) code(fewer func(int) int) erasure.Code {
	if b.bytes >= int64(b.wide.K)*BlockSize && b.wide.M >= b.copies {
		return b.wide
	}
	return erasure.Code{K: 1, M: fewer(max(1, b.copies))}
}

// packContents writes one pack of inline contents. The commit compares: contents
// that moved or went meanwhile are skipped.
func (s *Store) packContents(ctx context.Context, b *inlineBatch) (err error) {
	upload := newUploadID()
	s.pins.add(upload)
	defer func() { s.pins.settle(upload, err) }()
	index := &packIndex{}
	var content []io.Reader
	var members []Member
	for i := range b.list {
		c := &b.list[i].Content
		m := Member{ID: c.ID, Offset: index.at, Size: c.Size}
		index.name(upload, m, b.list[i].Names)
		index.at += c.Size
		members = append(members, m)
		content = append(content, bytes.NewReader(c.Inline))
	}
	code := b.code(func(m int) int { return s.fewer(ctx, m) })
	w, err := s.writePack(ctx, upload, code, index, io.MultiReader(content...))
	if err != nil {
		return err
	}
	// A crash here leaves a pack that nothing names, and the contents in the log.
	err = s.commitOne(ctx, Pack{Extent: w.extents[0], Members: members})
	if err != nil && !errors.Is(err, ErrUncertain) {
		s.discard(w.extents)
	}
	return err
}

// name adds a line for each version that refers to a content, so that the pack alone
// can tell its names, and a single one when the lines are long already.
func (x *packIndex) name(upload UploadID, m Member, names []Object) {
	for i := range names {
		obj := &names[i]
		x.add(upload, &Put{Name: obj.Name, Attr: obj.Attr, Policy: obj.Policy, ID: m.ID, Size: m.Size, Offset: m.Offset})
		if len(x.lines) > inlineLines {
			return
		}
	}
}

// fewer returns how many copies besides the first there can be now of a content that
// should have m: while backends are away it has fewer, rather than staying in the log.
func (s *Store) fewer(ctx context.Context, m int) int {
	if n, all := len(s.targets(ctx)), s.registered(); n < all {
		return max(1, min(m, n-1))
	}
	return m
}
