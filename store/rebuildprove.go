package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/blockframe/blockframe/internal/frame"
)

// byPlace returns the disks that are there, in order of their ids.
func (s *Store) byPlace() []BackendID {
	list := make([]BackendID, 0, len(s.here()))
	for id := range s.here() {
		list = append(list, id)
	}
	slices.SortFunc(list, func(a, b BackendID) int { return slices.Compare(a[:], b[:]) })
	return list
}

// evidence is what the extents of one upload prove, as they come by in order.
type evidence struct {
	upload UploadID
	n      int
	length int64
	top    treeTop
	last   Extent
	why    string // it proves nothing
}

// add takes the next extent.
func (p *evidence) add(x *foundExtent) {
	e := &x.e
	bad := func(format string, args ...any) {
		if p.why == "" {
			p.why = fmt.Sprintf(format, args...)
		}
	}
	switch {
	case x.why != "":
		bad("%s", x.why)
		if x.have == 0 {
			return
		}
	case p.n > 0 && e.Ordinal == p.last.Ordinal:
		bad("extents %v and %v are both said to be number %d", p.last.ID, e.ID, e.Ordinal)
	case e.Ordinal != p.n:
		bad("extent %d is missing", p.n)
	case e.Offset != p.length:
		bad("extent %d begins at %d, those before end at %d", e.Ordinal, e.Offset, p.length)
	case p.n > 0 && (e.Kind != p.last.Kind || e.Epoch != p.last.Epoch || p.last.Whole || e.Kind == KindPack):
		bad("extent %d is of another kind or epoch than those before, or follows one that is the whole", e.Ordinal)
	}
	p.n++
	p.length += e.Length
	p.top.add(e.Hash)
	p.last = *e
}

// prove finds out which uploads are complete, and what they hold.
func (r *rebuild) prove(ctx context.Context) error {
	if err := r.each(ctx, []byte{'d'}, func(key, _ []byte) error {
		r.tell(Found{State: FoundDead, Upload: UploadID(key[1:])})
		return nil
	}); err != nil {
		return err
	}
	var p evidence
	err := r.each(ctx, []byte{'u'}, func(key, value []byte) error {
		x, err := decodeFoundExtent(value)
		if err != nil {
			return err
		}
		if p.upload != x.e.Upload {
			if err := r.proven(ctx, &p); err != nil {
				return err
			}
			p = evidence{upload: x.e.Upload}
		}
		p.add(&x)
		return nil
	})
	if err == nil {
		err = r.proven(ctx, &p)
	}
	if err == nil {
		err = r.flush()
	}
	return err
}

// proven decides on an upload of which all extents came by.
func (r *rebuild) proven(ctx context.Context, p *evidence) error {
	if p.upload.IsZero() {
		return nil
	}
	if k := p.last.Kind; k == KindSegment || k == KindSnapshot {
		r.tell(Found{State: FoundLog, Upload: p.upload, Size: p.length})
		return nil
	}
	m, err := r.content(ctx, p)
	if over := r.s.over(ctx); over != nil {
		return over
	}
	var failed *rowsError
	if errors.As(err, &failed) {
		return err
	}
	if err != nil {
		r.tell(Found{State: FoundIncomplete, Name: m.Name, Upload: p.upload, Size: p.length, Err: err})
	}
	return nil
}

// rowsError is a failure of the rows, which is not one of what they are about.
type rowsError struct{ error }

func (e *rowsError) Unwrap() error { return e.error }

// content notes the objects of an upload. The error says why it proves none; m is as much
// as is known of the object then.
func (r *rebuild) content(ctx context.Context, p *evidence) (m manifest, err error) {
	if p.why != "" {
		err = fmt.Errorf("%w: %s", ErrCorrupt, p.why)
		if p.n == 0 || p.last.Kind == KindPack {
			return m, err
		}
	}
	x, oerr := r.s.open.get(ctx, p.last)
	if oerr != nil {
		return m, cmpErr(err, oerr)
	}
	defer r.s.open.put(x)
	l, lerr := r.s.findManifests(ctx, x)
	if lerr != nil {
		return m, cmpErr(err, fmt.Errorf("no manifests: %w", lerr))
	}
	if p.last.Kind == KindPack {
		return m, r.members(p, l)
	}
	m, done, lerr := objectLines(p.upload, l)
	switch {
	case err != nil || lerr != nil:
		return m, cmpErr(err, lerr)
	case *m.Ordinal != p.last.Ordinal || *m.Offset != p.last.Offset:
		return m, fmt.Errorf("%w: manifests of another extent", ErrCorrupt)
	case done == nil:
		return m, fmt.Errorf("%w: what follows extent %d is missing: nothing says how much that is", ErrCorrupt, p.last.Ordinal)
	case done.ID != p.top.id() || done.Size != p.length:
		return m, fmt.Errorf("%w: the extents do not make up the content that the last one names", ErrCorrupt)
	}
	m.ID, m.Size, m.At = &done.ID, &done.Size, new(int64)
	return m, r.object(p.upload, 0, &m)
}

func cmpErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// object notes an object that is proven.
func (r *rebuild) object(upload UploadID, n int, m *manifest) error {
	r.rep.Objects++
	key := binary.BigEndian.AppendUint32(append([]byte{'o'}, upload[:]...), uint32(n))
	err := r.set(key, appendLine(nil, m))
	if err == nil {
		name, what := nameSum(m.Name), m.sum()
		err = r.set(append(append([]byte{'n'}, name[:]...), what[:]...), nil)
	}
	if err != nil {
		return &rowsError{err}
	}
	return nil
}

func nameSum(name string) frame.Hash { return frame.Sum([]byte(name)) }

// sum returns a hash of content and attributes, all but the name and the place.
func (m *manifest) sum() frame.Hash {
	c := manifest{Mode: m.Mode, UID: m.UID, GID: m.GID, ModTime: m.ModTime.UTC(), Xattrs: m.Xattrs, Policy: m.Policy, ID: m.ID, Size: m.Size}
	return frame.Sum(appendLine(nil, c))
}

// members notes the members of a pack. One that lies outside of it, or whose line is bad,
// is told of.
func (r *rebuild) members(p *evidence, l lines) error {
	n := 0
	return eachLine(l, func(line []byte) error {
		var m manifest
		var k lineKind
		err := json.Unmarshal(line, &k)
		switch {
		case err == nil && k.Type != "member":
			return nil // ignored, as unknown lines are
		case err == nil:
			err = decodeJSON(line, &m)
		}
		if err == nil {
			err = m.check()
		}
		if err == nil && (m.V != 1 || UploadID(m.Put) != p.upload || *m.Size < 1 || *m.At+*m.Size > l.at) {
			err = fmt.Errorf("%w: the line is of another version or put, or the member lies outside of the pack", ErrCorrupt)
		}
		if err != nil {
			r.tell(Found{State: FoundIncomplete, Name: fmt.Sprintf("%.4096s", m.Name), Upload: p.upload, Err: err})
			return nil
		}
		n++
		return r.object(p.upload, n, &m)
	})
}

// eachLine calls f with each line of a manifests part, of which the first maxLine+1
// bytes are kept.
func eachLine(l lines, f func(line []byte) error) error {
	var line []byte
	return l.each(func(b []byte) error {
		b = b[:len(b):len(b)]
		for len(b) > 0 {
			one, rest, ended := bytes.Cut(b, []byte("\n"))
			line = append(line, one[:min(len(one), maxLine+1-len(line))]...)
			if b = rest; !ended {
				return nil
			}
			if err := f(line); err != nil {
				return err
			}
			line = line[:0]
		}
		return nil
	})
}

// objectLines reads the lines of an object's extent. Of the one that proves the object
// the list of extents is not read: it may be long, and that the extents fold to the
// content says more.
func objectLines(upload UploadID, l lines) (m manifest, done *complete, err error) {
	err = eachLine(l, func(line []byte) error {
		if head, _, ok := bytes.Cut(line, []byte(`,"extents":`)); ok && bytes.HasPrefix(line, []byte(`{"type":"complete",`)) {
			c := &complete{}
			if err := decodeJSON(append(bytes.Clone(head), '}'), c); err != nil {
				return err
			}
			if done != nil || c.V != 1 || UploadID(c.Put) != upload {
				return fmt.Errorf("%w: it completes an object of another put, or for the second time", ErrCorrupt)
			}
			done = c
			return nil
		}
		var k lineKind
		if err := json.Unmarshal(line, &k); err != nil {
			return fmt.Errorf("%w: %v", ErrCorrupt, err)
		}
		if k.Type != "object" {
			return nil
		}
		if m.Type != "" {
			return fmt.Errorf("%w: a second object", ErrCorrupt)
		}
		if err := decodeJSON(line, &m); err != nil {
			return err
		}
		if m.V != 1 || UploadID(m.Put) != upload {
			return fmt.Errorf("%w: the manifest is of another version or put", ErrCorrupt)
		}
		return m.check()
	})
	if err == nil && m.Type == "" {
		err = fmt.Errorf("%w: no line names the object", ErrCorrupt)
	}
	return m, done, err
}

// attr returns the attributes that a line holds.
func (m *manifest) attr() Attr {
	a := Attr{Mode: fs.FileMode(m.Mode & 0o777), UID: m.UID, GID: m.GID, ModTime: m.ModTime.UTC()}
	for _, bit := range []struct {
		unix uint32
		mode fs.FileMode
	}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}} {
		if m.Mode&bit.unix != 0 {
			a.Mode |= bit.mode
		}
	}
	if len(m.Xattrs) > 0 {
		a.Xattrs = m.Xattrs
	}
	return a
}
