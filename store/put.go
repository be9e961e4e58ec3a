package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/bits"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/merkle"
	"golang.org/x/sync/semaphore"
)

// headBytes bounds the memory of contents that are read whole to find out whether
// they are small.
const headBytes = 8 * miB

// PutOptions says what is known of an object besides its name and bytes.
type PutOptions struct {
	Attr

	// Size announces the number of bytes, 0 is not known. A source that has
	// more or fewer makes Put fail with io.ErrUnexpectedEOF.
	Size int64

	// ID is the address that the content must have, unless it is zero.
	// Otherwise Put fails with ErrCorrupt.
	ID ID

	// Expect is the version that the name must have, as in the command Put.
	Expect int64
}

// Put stores what r yields under name. It is durable and visible when Put returns
// without an error, and nothing is visible otherwise, unless the error matches
// ErrUncertain.
//
// Content of up to 4 KiB travels in the record itself; up to 256 KiB it shares a
// pack, and the wait for the disks, with others that are put at the same time;
// anything longer is written as a stream of its own, in memory that does not
// depend on its length.
func (s *Store) Put(ctx context.Context, name string, r io.Reader, opts PutOptions) (Object, error) {
	obj, err := s.put(ctx, name, r, opts)
	if errors.Is(err, context.Canceled) && ctx.Err() == nil && s.ctx.Err() != nil {
		err = fmt.Errorf("store: %w: %w", fs.ErrClosed, err)
	}
	if err != nil {
		return Object{}, fmt.Errorf("put %s: %w", name, err)
	}
	return obj, nil
}

func (s *Store) put(ctx context.Context, name string, r io.Reader, opts PutOptions) (Object, error) {
	if err := s.admit(name, opts); err != nil {
		return Object{}, err
	}
	head, err := s.readHead(ctx, r, opts.Size)
	if err != nil {
		return Object{}, err
	}
	defer head.release()
	if !head.whole {
		return s.putStream(ctx, name, head.reader(r), opts)
	}
	p, err := s.smallPut(ctx, name, head.data, opts)
	if err != nil {
		return Object{}, err
	}
	if len(head.data) > MaxInline {
		return s.putSmall(ctx, p, head)
	}
	p.Inline = head.data
	return s.commitPut(ctx, p)
}

// admit returns why a put cannot be: before anything is read of its source, and
// before it makes others fail that share a pack with it.
func (s *Store) admit(name string, opts PutOptions) error {
	if err := s.writable(); err != nil {
		return err
	}
	s.busy.Add(1)
	if !fs.ValidPath(name) || name == "." || len(name) > MaxName {
		return fmt.Errorf("%w: %.100q is not the name of an object", fs.ErrInvalid, name)
	}
	if opts.Mode&^(fs.ModePerm|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0 || opts.Target != "" || opts.Expect < AnyVersion {
		return fmt.Errorf("%w: mode %v, target %q, expected version %d are not those of a file", fs.ErrInvalid, opts.Mode, opts.Target, opts.Expect)
	}
	n := 0
	for k, v := range opts.Xattrs {
		if k == "" || len(k) > MaxComponent || !utf8.ValidString(k) || strings.IndexByte(k, 0) >= 0 {
			return fmt.Errorf("%w: %.100q is not the name of an extended attribute", fs.ErrInvalid, k)
		}
		n += len(k) + len(v)
	}
	if n > MaxXattrBytes {
		return fmt.Errorf("%w: %d bytes of extended attributes, at most %d", fs.ErrInvalid, n, MaxXattrBytes)
	}
	return nil
}

// smallPut returns the command for content that is in memory.
func (s *Store) smallPut(ctx context.Context, name string, data []byte, opts PutOptions) (Put, error) {
	size := int64(len(data))
	policy := Choose(s.opts.Policies(), name, size)
	p := Put{Name: name, Attr: opts.Attr, Policy: policy.Name, ID: sum(data), Size: size,
		Upload: newUploadID(), Expect: opts.Expect, Code: s.copies(ctx, policy)}
	return p, opts.check(p.ID, size)
}

// sum returns the BLAKE3-256 of content that is in memory, a parity block too. From
// 16 KiB on the hash of trees is the faster one.
func sum(data []byte) ID {
	if len(data) < 16<<10 {
		return ID(frame.Sum(data))
	}
	if len(data) <= BlockSize {
		return ID(merkle.BlockRoot(data))
	}
	cvs := make([]merkle.CV, 0, MaxSmall/BlockSize)
	for off := 0; off < len(data); off += BlockSize {
		cvs = append(cvs, merkle.BlockCV(data[off:min(len(data), off+BlockSize)], int64(off)))
	}
	return ID(merkle.FoldRoot(cvs))
}

// check compares what was read with what was announced.
func (o PutOptions) check(id ID, size int64) error {
	if o.Size > 0 && size != o.Size {
		return wrongSize(size, o.Size)
	}
	if !o.ID.IsZero() && id != o.ID {
		return fmt.Errorf("%w: the source hashes to %v, expected %v", ErrCorrupt, id, o.ID)
	}
	return nil
}

// putSmall stores content that shares a pack with others. The group that takes it goes
// on with it when ctx ends: if it does not say soon what became of it, that is
// uncertain.
func (s *Store) putSmall(ctx context.Context, p Put, h *head) (Object, error) {
	if ctx.Done() == nil {
		return s.group.put(ctx, p, h.data)
	}
	mine := *h // what the caller of Put has may change when Put returns, and is not used then
	*h = head{}
	p.Attr.Xattrs = cloneXattrs(p.Attr.Xattrs)
	ended := make(chan outcome, 1)
	go func() {
		defer mine.release()
		obj, err := s.group.put(ctx, p, mine.data)
		ended <- outcome{obj, err}
	}()
	select {
	case out := <-ended:
		return out.obj, out.err
	case <-ctx.Done():
	}
	grace := time.NewTimer(leaveTime)
	defer grace.Stop()
	select {
	case out := <-ended:
		return out.obj, out.err
	case <-grace.C:
		return Object{}, fmt.Errorf("%w: a backend does not answer: %w", ErrUncertain, ctx.Err())
	}
}

func cloneXattrs(m map[string][]byte) map[string][]byte {
	m = maps.Clone(m)
	for k, v := range m {
		m[k] = bytes.Clone(v)
	}
	return m
}

// putStream stores content that is too long to be held.
func (s *Store) putStream(ctx context.Context, name string, r io.Reader, opts PutOptions) (Object, error) {
	p, err := s.stageStream(ctx, name, r, opts)
	if err != nil {
		return Object{}, err
	}
	obj, err := s.commitPut(ctx, p)
	s.pins.settle(p.Upload, err)
	return obj, err
}

// stageStream writes the extents of an object and returns the command that makes
// it visible. The upload is pinned until the caller releases it.
func (s *Store) stageStream(ctx context.Context, name string, r io.Reader, opts PutOptions) (Put, error) {
	size := opts.Size
	if size == 0 {
		size = -1
	}
	policy := Choose(s.opts.Policies(), name, size)
	ref := stream{upload: newUploadID(), kind: KindObject, name: name, attr: opts.Attr, policy: policy,
		code: s.code(ctx, policy), size: size}
	s.pins.add(ref.upload)
	w, err := s.writeStream(ctx, ref, r)
	if err == nil {
		if err = opts.check(w.id, w.size); err != nil {
			s.giveUp(ref.upload, w.extents)
		}
	}
	if w.given {
		s.pins.release(ref.upload)
		return Put{}, err
	}
	if err != nil {
		s.pins.settle(ref.upload, err)
		return Put{}, err
	}
	s.stats.putBytes.Add(w.size)
	return Put{Name: name, Attr: opts.Attr, Policy: policy.Name, ID: w.id, Size: w.size, Upload: ref.upload,
		Extents: w.extents, Code: ref.code, Expect: opts.Expect}, nil
}

// commitPut proposes the command, the one commit point of every put, after it
// looked whether the copy that the catalog would rather refer to can be relied on.
func (s *Store) commitPut(ctx context.Context, p Put) (Object, error) {
	s.suspect(ctx, &p, nil)
	res, err := s.cat.Commit(ctx, Record{Each: true, Commands: s.mark([]Command{p}, &p, p.Code)})
	if err != nil {
		if !errors.Is(err, ErrUncertain) {
			s.giveUp(p.Upload, p.Extents) // never proposed
		}
		return Object{}, err
	}
	if res[0].Err != nil {
		return Object{}, res[0].Err
	}
	s.stats.puts.Add(1)
	if len(p.Inline) > 0 {
		s.packSoon(int64(len(p.Inline)))
	}
	s.repairSoon(p.Extents)
	return res[0].Object, nil
}

// suspect verifies the copy of the same content that is stored already, and names
// it in the command if it is damaged: so the new bytes take its place.
func (s *Store) suspect(ctx context.Context, p *Put, known proofs) {
	c, err := s.cat.Content(ctx, p.ID)
	if err != nil || c.Upload.IsZero() || c.Upload == p.Upload {
		return
	}
	if err := s.trust(ctx, c, known); err != nil && s.over(ctx) == nil {
		s.log.Warn("stored copy is damaged, the new one replaces it", "id", p.ID, "upload", c.Upload, "err", err)
		p.Distrust = c.Upload
	}
}

// code returns the code for new extents under a policy: that of the policy, or the
// default of the backends that can be written to now, when they are too few.
func (s *Store) code(ctx context.Context, p Policy) erasure.Code {
	all := s.registered()
	if n := len(s.targets(ctx, s.opts.Reserve)); n < all {
		if c := p.code(all); c.Shards() <= n*p.per(c.Shards(), all) {
			return c
		}
		return erasure.DefaultCode(max(n, 1))
	}
	return p.code(all)
}

// copies returns the code of small packs: as many copies as the policy's code can
// lose shards, and one more.
func (s *Store) copies(ctx context.Context, p Policy) erasure.Code {
	return erasure.Code{K: 1, M: s.code(ctx, p).M}
}

// giveUp removes what was written for a put that was not proposed: extents are those of
// it that no record can name. Of a long one others are recorded.
func (s *Store) giveUp(upload UploadID, extents []Extent) {
	s.discard(extents)
	if len(extents) > 0 && extents[0].Ordinal > 0 {
		s.abandon(upload)
	}
}

// discard removes blobs that no record can name. What cannot be removed now is
// collected later.
func (s *Store) discard(extents []Extent) {
	for i := range extents {
		e := &extents[i]
		s.eachShard(len(e.Shards), func(j int) { s.removeLoose(e.Shards[j].Backend, e.Key(j)) })
	}
}

// removeLoose removes a blob that no record names, under a key that nothing will be
// written to any more: so it does not matter when a backend gets to it. One that stays
// is an orphan for the collection.
func (s *Store) removeLoose(id BackendID, key BackendKey) {
	d := s.disk(id)
	wait, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), leaveTime)
	defer cancel()
	_, err := d.await(wait, stallTime, "remove", key, func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), discardTime)
		defer cancel()
		return d.Remove(ctx, key)
	}, nil)
	if err != nil {
		s.log.Warn("leftover blob stays until it is collected", "key", key, "err", err)
	}
}

func newUploadID() (id UploadID) {
	rand.Read(id[:])
	return id
}

// head is the beginning of a source, or all of it. It is lent, until release.
type head struct {
	data  []byte
	whole bool
	buf   *[]byte             // of headPools, nil if data has memory of its own
	heads *semaphore.Weighted // nil if nothing was taken of it
	room  int64               // that was
}

// release gives the memory back. It may be called again.
func (h *head) release() {
	if h.heads != nil {
		h.heads.Release(h.room)
		h.heads = nil
	}
	h.lend(nil)
	h.data = nil
}

// lend takes buf, with what is in data, instead of the memory that it has.
func (h *head) lend(buf *[]byte) {
	if buf != nil {
		h.data = append((*buf)[:0], h.data...)
	}
	if h.buf != nil {
		headPools[headClass(cap(*h.buf))].Put(h.buf)
	}
	h.buf = buf
}

// fit moves whole content that leaves much of its memory empty into less, since it waits
// for its group.
func (h *head) fit() {
	have := len(h.data)
	if int64(have) >= h.room*3/4 {
		return
	}
	less := int64(have)
	if have <= MaxInline {
		h.data = bytes.Clone(h.data)
		h.lend(nil)
	} else if c := headClass(have); int64(headRoom(c)) < h.room {
		h.lend(headMemory(c))
		less = int64(headRoom(c))
	} else {
		return
	}
	h.heads.Release(h.room - less)
	h.room = less
}

// headPools has memory for contents of more than MaxInline, by class: that of class c
// is headRoom(c) bytes.
var headPools [6]sync.Pool

// headRoom returns 8 KiB to 256 KiB, and some more for the byte that shows the end.
func headRoom(class int) int { return 8<<10<<class + 16 }

// headClass returns the least class with room for n bytes.
func headClass(n int) int { return bits.Len(uint(max(n-16, 1)-1) >> 13) }

func headMemory(class int) *[]byte {
	if b, ok := headPools[class].Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 0, headRoom(class))
	return &b
}

// reader returns the source from its beginning. The memory of the head is given back
// when it was read.
func (h *head) reader(rest io.Reader) io.Reader {
	if len(h.data) == 0 {
		h.release()
		return rest
	}
	return io.MultiReader(&headReader{h: h}, rest)
}

// headReader reads the head and releases it at its end.
type headReader struct {
	h   *head
	off int
}

// Read implements io.Reader.
func (r *headReader) Read(p []byte) (int, error) {
	n := copy(p, r.h.data[r.off:])
	r.off += n
	if r.off == len(r.h.data) {
		r.h.data, r.off = nil, 0
		r.h.release()
		return n, io.EOF
	}
	return n, nil
}

// readHead reads a source of up to MaxSmall bytes whole. It reads nothing of one
// that was announced to be longer.
func (s *Store) readHead(ctx context.Context, r io.Reader, size int64) (*head, error) {
	if size > MaxSmall {
		return &head{}, nil
	}
	h := &head{heads: s.heads, room: MaxInline + 1}
	if size > MaxInline {
		h.room = int64(headRoom(headClass(int(size) + 1)))
	}
	if err := s.heads.Acquire(ctx, h.room); err != nil {
		return nil, err
	}
	if size > MaxInline {
		h.lend(headMemory(headClass(int(size) + 1)))
	} else {
		h.data = make([]byte, 0, h.room)
	}
	for {
		limit := min(cap(h.data), MaxSmall+1)
		if size > 0 {
			limit = int(size) + 1 // one byte more, to see that it ends there
		}
		n, err := io.ReadFull(r, h.data[len(h.data):limit])
		h.data = h.data[:len(h.data)+n]
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			h.whole = true
			h.fit()
			return h, nil
		}
		if err != nil {
			h.release()
			return nil, sourceError(err)
		}
		if size > 0 {
			h.release()
			return nil, wrongSize(int64(limit), size)
		}
		// Who has some of this memory does not wait for more: others may do the same.
		// What finds none is stored as if it were long.
		next := 1
		if h.buf != nil {
			next = headClass(limit) + 2
		}
		if limit > MaxSmall || !s.heads.TryAcquire(int64(headRoom(next))-h.room) {
			return h, nil
		}
		h.room = int64(headRoom(next))
		h.lend(headMemory(next))
	}
}
