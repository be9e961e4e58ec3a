package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/blockframe/blockframe/erasure"
)

// ReshapeOptions says what to reshape: what was put in a narrower code than its policy has,
// since backends were missing, and what else is asked for.
type ReshapeOptions struct {
	All    bool   // everything that is in another code than the policies in force say
	Prefix string // the same, of names that begin with it
	DryRun bool   // only report
	Rate   int64  // bounds the bytes read in a second, 0 does not
}

// ReshapeReport says what was reshaped, or would be.
type ReshapeReport struct {
	Looked  int64 // acts of putting that were looked at
	Moved   int64 // that are in another code now: the old shards go with the collection, after the grace
	Bytes   int64 // of content in them
	Waiting int64 // that have to wait until more backends are there, or more room
	Failed  int64 // that could not be read in full, and stay as they are
}

// Reshape writes anew, in the code of their policy, contents whose code is another one:
// those that were put while backends were missing, which an open store does by itself once
// they are back, and on demand those of policies that were changed since. Small contents in
// packs never get less parity than they have.
//
// It is safe beside everything else. A content is read verified and written as a put would
// write it; the record that moves it, if it is then where it was, is the one commit point. A
// crash before it leaves an upload that nothing refers to, for the collection. The old one is
// condemned by the record, and stays for readers and for its grace.
func (s *Store) Reshape(ctx context.Context, opts ReshapeOptions) (ReshapeReport, error) {
	return s.reshape(ctx, opts, newPacer(s, opts.Rate, false))
}

func (s *Store) reshape(ctx context.Context, opts ReshapeOptions, pace *pacer) (ReshapeReport, error) {
	r := &reshaping{s: s, ctx: ctx, opts: opts, pace: pace}
	if err := s.writable(); err != nil {
		return r.rep, err
	}
	if err := s.reshaping.take(ctx); err != nil {
		return r.rep, fmt.Errorf("reshape: wait for another one to end: %w", err)
	}
	defer s.reshaping.give()
	err := r.marked()
	if err == nil && (opts.All || opts.Prefix != "") {
		err = r.all()
	}
	if err != nil {
		return r.rep, fmt.Errorf("reshape: %w", err)
	}
	return r.rep, nil
}

// reshaping is one pass.
type reshaping struct {
	s    *Store
	ctx  context.Context
	opts ReshapeOptions
	pace *pacer
	rep  ReshapeReport
	told bool // that one cannot be written
}

// marked looks at what was put in a narrower code, in order of the ids, of which some are
// asked for in one go.
func (r *reshaping) marked() error {
	for after := (UploadID{}); ; {
		var ids []UploadID
		for id, err := range r.s.cat.Narrow(r.ctx, after) {
			if err != nil {
				return err
			}
			if ids = append(ids, id); len(ids) == extentsAtOnce {
				break
			}
		}
		if len(ids) == 0 {
			return nil
		}
		for _, id := range ids {
			if err := r.upload(id, true); err != nil {
				return err
			}
		}
		after = ids[len(ids)-1]
	}
}

// all looks at everything, in order of the ids, of which some are asked for in one go.
func (r *reshaping) all() error {
	for after := (UploadID{}); ; {
		var ids []UploadID
		for u, err := range r.s.cat.Uploads(r.ctx, after) {
			if err != nil {
				return err
			}
			if ids = append(ids, u.ID); len(ids) == extentsAtOnce {
				break
			}
		}
		if len(ids) == 0 {
			return nil
		}
		for _, id := range ids {
			if err := r.upload(id, false); err != nil {
				return err
			}
		}
		after = ids[len(ids)-1]
	}
}

// upload looks at one act of putting, and moves what is in it if that is to be.
func (r *reshaping) upload(id UploadID, marked bool) error {
	if err := r.s.over(r.ctx); err != nil {
		return err
	}
	u, err := r.s.cat.Upload(r.ctx, id)
	if err != nil || u.State != UploadLive || r.s.stuck(id) {
		return passAbsent(err)
	}
	e, err := r.s.cat.ExtentAt(r.ctx, id, 0)
	if err != nil {
		return passAbsent(err)
	}
	r.rep.Looked++
	switch e.Kind {
	case KindObject:
		err = r.object(&u, &e, marked)
	case KindPack:
		err = r.pack(&e, marked)
	}
	return r.failed(id, passAbsent(err))
}

// failed takes note of an upload that stays as it is, and returns an error if that concerns
// all. One that cannot be written now waits: another may be smaller, or lie elsewhere.
func (r *reshaping) failed(id UploadID, err error) error {
	var records *rowsError
	if over := cmp.Or(r.s.over(r.ctx), r.s.writable()); err == nil || over != nil || fatal(err) || errors.As(err, &records) {
		return cmp.Or(over, err)
	}
	if errors.Is(err, ErrCorrupt) {
		r.rep.Failed++
		r.s.stick(id)
		r.s.log.Warn("a content cannot be read, and stays in the code that it has", "upload", id, "err", err)
		return nil
	}
	if r.rep.Waiting++; !r.told {
		r.told = true
		r.s.log.Warn("a content cannot be written in the code of its policy for now", "upload", id, "err", err)
	}
	return nil
}

// wish is what is to become of an upload.
type wish struct {
	obj    Object // one of those that refer to it
	policy Policy // its
	code   erasure.Code
	owners uint64
	asked  bool // it has a name that was asked for
}

// wants reports whether a name was asked for.
func (r *reshaping) wants(name string) bool {
	return r.opts.All || r.opts.Prefix != "" && strings.HasPrefix(name, r.opts.Prefix)
}

// wish returns what the policies say of a content that versions share: the most parity that
// any of them is to have.
func (r *reshaping) wish(u *Upload) (w wish, err error) {
	policies := r.s.opts.Policies()
	for o, err := range r.s.cat.Owners(r.ctx, u.ID, 0, u.Length) {
		if err != nil {
			return w, err
		}
		p := Choose(policies, o.Object.Name, o.Object.Size)
		if c := p.code(r.s.registered()); w.owners == 0 || c.M > w.code.M {
			w.obj, w.policy, w.code = o.Object, p, c
		}
		w.owners++
		w.asked = w.asked || r.wants(o.Object.Name)
	}
	return w, nil
}

// object reshapes a content that has extents of its own.
func (r *reshaping) object(u *Upload, e *Extent, marked bool) error {
	w, err := r.wish(u)
	if err != nil || w.owners == 0 || !marked && !w.asked {
		return err
	}
	if w.code == e.Code {
		return r.unmark(u.ID, marked)
	}
	c, err := r.s.cat.Content(r.ctx, w.obj.ID)
	if err != nil || c.Upload != u.ID || w.code.M < e.Code.M && (!w.asked || c.Refs != w.owners) {
		return err // it moved, or other versions came
	}
	if r.s.code(r.ctx, w.policy) != w.code {
		r.rep.Waiting++
		return nil
	}
	moved := true
	if !r.opts.DryRun {
		moved, err = r.move(&w, &c)
	}
	if err == nil && moved {
		r.rep.Moved++
		r.rep.Bytes += c.Size
		if !r.opts.DryRun {
			r.s.stats.reshaped.Add(1)
		}
	}
	return err
}

// unmark takes the mark of an upload away that has the right code.
func (r *reshaping) unmark(id UploadID, marked bool) error {
	if !marked || r.opts.DryRun {
		return nil
	}
	return r.s.commitOne(r.ctx, Narrow{Upload: id})
}

// move writes a content anew and moves it, and reports whether it moved.
func (r *reshaping) move(w *wish, c *Content) (moved bool, err error) {
	s := r.s
	rd, err := s.Open(r.ctx, w.obj)
	if err != nil {
		return false, err
	}
	defer rd.Close()
	rd.upkeep = true
	ref := stream{upload: newUploadID(), kind: KindObject, name: w.obj.Name, attr: w.obj.Attr, policy: w.policy, code: w.code,
		size: c.Size, upkeep: true}
	s.pins.add(ref.upload)
	out, err := s.writeStream(r.ctx, ref, &pacedReader{r: rd, ctx: r.ctx, pace: r.pace})
	if err != nil && out.given {
		s.pins.release(ref.upload)
		return false, err
	}
	defer func() { s.pins.settle(ref.upload, err) }()
	if err != nil {
		return false, err
	}
	if err = whole(out.extents); err == nil && out.id != c.ID {
		err = fmt.Errorf("%w: bytes were read that are not those of %v", ErrCorrupt, c.ID)
	}
	if err != nil {
		s.giveUp(ref.upload, out.extents)
		return false, err
	}
	res, err := s.cat.Commit(r.ctx, Record{Commands: []Command{Reshape{ID: c.ID, Size: c.Size, From: c.Upload, Upload: ref.upload, Extents: out.extents, Refs: w.owners}}})
	// A crash before it took effect leaves an upload that nothing refers to; after it the
	// content is in the new one.
	if err != nil {
		if !errors.Is(err, ErrUncertain) {
			s.giveUp(ref.upload, out.extents)
		}
		return false, &rowsError{err} // of the records: it concerns all
	}
	if res[0].Err != nil {
		s.giveUp(ref.upload, out.extents)
	}
	return res[0].Changed, res[0].Err
}

// whole returns an error if a shard of an extent is missing: what is whole is not given up
// for that.
func whole(extents []Extent) error {
	for i := range extents {
		for _, sh := range extents[i].Shards {
			if sh.Missing {
				return fmt.Errorf("%w: backend %v did not take its shard", ErrUnavailable, sh.Backend)
			}
		}
	}
	return nil
}

// pack reshapes the contents of a pack, by the policy of the first of them.
func (r *reshaping) pack(e *Extent, marked bool) error {
	c := &compaction{s: r.s, ctx: r.ctx, pace: r.pace}
	policy, p, err := c.measure(e)
	if err != nil || p.puts == 0 || !marked && !r.wants(p.name) {
		return err
	}
	code := policy.code(r.s.registered())
	if e.Code.M > code.M || e.Code.M == code.M && (e.Code.K == 1 || e.Code == code) {
		return r.unmark(e.Upload, marked)
	}
	if r.s.code(r.ctx, policy) != code {
		r.rep.Waiting++
		return nil
	}
	if r.opts.DryRun {
		r.rep.Moved++
		r.rep.Bytes += p.need - p.lines
		return nil
	}
	if err := r.s.compacting.take(r.ctx); err != nil {
		return err
	}
	defer r.s.compacting.give()
	if err := c.move(code, []candidate{p}); err != nil {
		return err
	}
	r.rep.Moved += c.rep.Emptied
	r.rep.Bytes += c.rep.Moved
	r.s.stats.reshaped.Add(c.rep.Contents)
	if c.rep.Failed > 0 {
		r.rep.Failed++
	}
	return nil
}

// pacedReader reads as fast as a pacer says.
type pacedReader struct {
	r    io.Reader
	ctx  context.Context
	pace *pacer
	n    int64         // read since the pacer was asked
	took time.Duration // that this took
}

// Read implements io.Reader.
func (p *pacedReader) Read(b []byte) (int, error) {
	if p.n >= miB {
		if err := p.pace.take(p.ctx, p.n); err != nil {
			return 0, err
		}
		if err := p.pace.rest(p.ctx, p.took); err != nil {
			return 0, err
		}
		p.n, p.took = 0, 0
	}
	began := time.Now()
	n, err := p.r.Read(b)
	p.n, p.took = p.n+int64(n), p.took+time.Since(began)
	return n, err
}

// narrower reports whether a code is less than a policy has: backends were missing.
func (s *Store) narrower(p Policy, code erasure.Code) bool {
	full := p.code(s.registered())
	return code.M < full.M || code.K > 1 && code != full
}

// policyOf returns the policy that a put was put under: it may not have announced its size.
func (s *Store) policyOf(p *Put) Policy {
	policies := s.opts.Policies()
	of := Choose(policies, p.Name, p.Size)
	if of.Name != p.Policy {
		if stream := Choose(policies, p.Name, -1); stream.Name == p.Policy {
			return stream
		}
	}
	return of
}

// mark appends a command that marks the upload of a put, if its code is narrower than that
// of its policy, to a record that has the put.
func (s *Store) mark(commands []Command, p *Put, code erasure.Code) []Command {
	if p.Size == 0 || len(p.Inline) > 0 || !s.narrower(s.policyOf(p), code) {
		return commands
	}
	return append(commands, Narrow{Upload: p.Upload, On: true})
}
