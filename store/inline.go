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
// packed when inlineBacklog has gathered, or PackAfter is over.
const (
	inlineEnough  = MaxSmall              // bytes that are worth a pack
	inlineBacklog = 8 * miB               // bytes that are packed however busy the store is
	inlinePause   = 25 * time.Millisecond // without a put: nobody is busy
	inlinePack    = 4 * miB               // bytes of one pack, at most
	inlineLines   = 4 * miB               // of lines about their names, about
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
			if s.inlineBytes.Load() < inlineEnough {
				continue // they were packed with those before
			}
			s.lull(timer.C)
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

// lull waits until no inline content comes, too much has gathered, or the time is over.
func (s *Store) lull(over <-chan time.Time) {
	look := time.NewTicker(inlinePause)
	defer look.Stop()
	for before := s.inlineBytes.Load(); before < inlineBacklog; {
		select {
		case <-s.ctx.Done():
			return
		case <-over:
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
			b = &inlineBatch{upload: newUploadID(), wide: code, policy: Choose(s.opts.Policies(), in.Names[0].Name, in.Content.Size)}
			batches[code] = b
		}
		b.add(&in)
		if b.full() {
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

// inlineBatch is what goes into one pack: of the names no more than the lines.
type inlineBatch struct {
	upload  UploadID
	policy  Policy       // of the first content
	wide    erasure.Code // of it, or less while backends are missing
	copies  int          // that the contents should have besides the first
	members []Member
	content []io.Reader
	index   packIndex // where the next content begins
}

func (b *inlineBatch) add(in *Inline) {
	m := Member{ID: in.Content.ID, Offset: b.index.at, Size: in.Content.Size}
	b.index.name(b.upload, m, in.Names)
	b.index.at += m.Size
	b.members = append(b.members, m)
	b.content = append(b.content, bytes.NewReader(in.Content.Inline))
	b.copies = max(b.copies, in.Content.Code.M)
}

func (b *inlineBatch) full() bool {
	return b.index.at >= inlinePack || len(b.members) >= packMembers || len(b.index.lines) >= inlineLines
}

// wide returns the code that a policy has for a content among others.
func (s *Store) wide(ctx context.Context, in *Inline) erasure.Code {
	return s.code(ctx, Choose(s.opts.Policies(), in.Names[0].Name, in.Content.Size))
}

// code returns the code of the pack: that of the policy if it fills a stripe, and is
// as safe as was promised, else copies.
func (b *inlineBatch) code(fewer func(int) int) erasure.Code {
	if b.index.at >= int64(b.wide.K)*BlockSize && b.wide.M >= b.copies {
		return b.wide
	}
	return erasure.Code{K: 1, M: fewer(max(1, b.copies))}
}

// packContents writes one pack of inline contents. The commit compares: contents
// that moved or went meanwhile are skipped.
func (s *Store) packContents(ctx context.Context, b *inlineBatch) (err error) {
	s.pins.add(b.upload)
	defer func() { s.pins.settle(b.upload, err) }()
	code := b.code(func(m int) int { return s.fewer(ctx, m) })
	w, err := s.writePack(ctx, b.upload, code, &b.index, io.MultiReader(b.content...))
	if err != nil {
		return err
	}
	// A crash here leaves a pack that nothing names, and the contents in the log.
	commands := []Command{Pack{Extent: w.extents[0], Members: b.members}}
	if s.narrower(b.policy, code) {
		commands = append(commands, Narrow{Upload: b.upload, On: true})
	}
	res, err := s.cat.Commit(ctx, Record{Each: true, Commands: commands})
	if err == nil {
		err = res[0].Err
	}
	if err != nil && !errors.Is(err, ErrUncertain) {
		s.discard(w.extents)
	}
	s.churn.packed(w.extents, len(b.members))
	return err
}

// name adds a line for each version that refers to a content, so that the pack alone
// can tell its names, or for some where the lines are long.
func (x *packIndex) name(upload UploadID, m Member, names []Object) {
	for i := range names {
		obj := &names[i]
		x.add(upload, &Put{Name: obj.Name, Attr: obj.Attr, Policy: obj.Policy, ID: m.ID, Size: m.Size, Offset: m.Offset})
		if len(x.lines) >= inlineLines {
			return
		}
	}
}

// fewer returns how many copies besides the first there can be now of a content that
// should have m: while backends are away it has fewer, rather than staying in the log.
func (s *Store) fewer(ctx context.Context, m int) int {
	if n, all := len(s.targets(ctx, s.opts.Reserve)), s.registered(); n < all {
		return max(1, min(m, n-1))
	}
	return m
}
