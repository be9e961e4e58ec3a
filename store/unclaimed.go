package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/blockframe/blockframe/internal/frame"
)

const (
	mostUnclaimed      = 1 << 17 // uploads that are told apart, about 5 MB of memory
	mostUnclaimedNames = 100     // that a report lists
)

// unclaimed are uploads that the catalog does not know, though their blobs prove a
// complete object: of puts that were cut off before they were acknowledged, or of a log
// that was restored from an older copy. Nothing tells which.
type unclaimed struct {
	uploads map[UploadID]bool
	full    bool              // there may be more than uploads has: all that the catalog does not know
	there   map[UploadID]bool // uploads that the catalog knows: whether they can be read
}

// findUnclaimed finds them on all backends, before anything is removed: the blobs that
// prove an object may come after others of its upload.
func (c *collection) findUnclaimed(ctx context.Context) error {
	c.kept.uploads, c.kept.there = map[UploadID]bool{}, map[UploadID]bool{}
	for _, d := range c.s.here() {
		for key, err := range d.keys(ctx, "") {
			if err == nil {
				err = c.s.over(ctx)
			}
			if err != nil {
				return fmt.Errorf("backend %v: %w", d.id, err)
			}
			k, ok := parseKey(key)
			if !ok || c.kept.full || c.kept.uploads[k.upload] {
				continue
			}
			if err := c.claim(ctx, d, k, key); err != nil {
				return fmt.Errorf("backend %v: %w", d.id, err)
			}
		}
	}
	return nil
}

// claim notes the upload of a blob that proves a complete object which no record names.
func (c *collection) claim(ctx context.Context, d *disk, k parsedKey, key BackendKey) error {
	known, err := c.s.knows(ctx, k)
	if err != nil || known {
		return err
	}
	p, err := c.testimony(ctx, d, k, key)
	if err != nil || !p.complete() {
		return err
	}
	there, err := c.s.shardsThere(ctx, key)
	if err != nil || there < p.need {
		return err // of what is there, nothing can be read
	}
	if len(c.kept.uploads) == mostUnclaimed {
		c.kept.full = true
		return nil
	}
	c.kept.uploads[k.upload] = true
	c.rep.Unclaimed += p.objects
	c.rep.UnclaimedNames = append(c.rep.UnclaimedNames, p.names[:min(len(p.names), mostUnclaimedNames-len(c.rep.UnclaimedNames))]...)
	return nil
}

// keeps reports whether an orphan is to be left alone for what others of its upload
// prove, or for the commit log.
func (c *collection) keeps(ctx context.Context, k parsedKey) (bool, error) {
	if c.needs(k.upload) {
		return true, nil
	}
	if c.opts.Unclaimed || !c.kept.full {
		return !c.opts.Unclaimed && c.kept.uploads[k.upload], nil
	}
	known, err := c.s.knows(ctx, k)
	return !known, err
}

// knows reports whether the catalog knows the extent or the upload of a blob, or may
// yet: a put is pinned until it was applied.
func (s *Store) knows(ctx context.Context, k parsedKey) (bool, error) {
	if s.pins.has(k.upload) {
		return true, nil
	}
	u, err := s.cat.Upload(ctx, k.upload)
	if err == nil {
		return !s.stale(&u), nil
	}
	if isAbsent(err) {
		_, err = s.cat.Extent(ctx, k.extent)
	}
	if isAbsent(err) {
		return false, nil
	}
	return true, err
}

// stale reports whether the put of an upload had not ended when the log did that an
// earlier epoch wrote. A log that was restored knows an upload so that was put since.
func (s *Store) stale(u *Upload) bool { return u.State == UploadOpen && u.Epoch < s.epoch }

// testimony is what the manifests of a blob say of its upload.
type testimony struct {
	k       parsedKey
	has     func(ID) (bool, error)                 // whether a content is kept elsewhere
	named   func(name string, id ID) (bool, error) // whether a name has a content that is
	kind    Kind
	need    int      // shards of the extent, to read it
	names   []string // the first ones
	objects int64
	end     bool // the line that proves an object is there
	other   bool // the name has the content elsewhere: it was being reshaped
	bad     bool
	err     error  // of the catalog
	line    []byte // the one under way, the first maxLine bytes of it
}

// complete reports whether they prove all objects they name.
func (p *testimony) complete() bool {
	return !p.bad && !p.other && p.objects > 0 && (p.kind == KindPack || p.kind == KindObject && p.end)
}

// testimony reads the manifests of a blob. That it cannot be read well enough to tell is no
// error, but that its backend does not answer is.
func (c *collection) testimony(ctx context.Context, d *disk, k parsedKey, key BackendKey) (testimony, error) {
	p, err := c.readTestimony(ctx, d, k, key)
	switch over := c.s.over(ctx); {
	case over != nil:
		return testimony{}, over
	case p.err != nil:
		return testimony{}, p.err
	case err == nil:
		return p, nil
	case unreachable(err):
		return testimony{}, err
	}
	return testimony{}, nil
}

func (c *collection) readTestimony(ctx context.Context, d *disk, k parsedKey, key BackendKey) (testimony, error) {
	s := c.s
	l, err := d.look(ctx, key, func() (BackendReader, error) { return d.Open(s.ctx, key, OpenOptions{}) })
	if err != nil {
		return testimony{}, err
	}
	defer l.close()
	var t trailer
	if _, err := l.do(ctx, func(r BackendReader) (err error) { t, err = readTrailer(r); return err }, nil); err != nil {
		return testimony{}, err // t may be written to yet
	}
	if t.storeID != s.storeID || t.extent != k.extent || t.upload != k.upload {
		return testimony{}, fmt.Errorf("%w: the blob is another one than its key says", ErrCorrupt)
	}
	p := testimony{k: k, kind: t.kind, need: t.code.K, has: func(id ID) (bool, error) { return c.hasContent(ctx, id, KindPack) }}
	p.named = func(name string, id ID) (bool, error) { return c.hasObject(ctx, name, id) }
	got, err := measured(func(add func([]byte) error) error {
		for at := int64(0); at < t.manifests.len; at += linePiece {
			b := frame.Aligned(int(min(linePiece, t.manifests.len-at)))
			_, err := l.do(ctx, func(r BackendReader) error { _, err := readFull(r, b, t.manifests.off+at); return err }, nil)
			if err == nil {
				err = add(b)
			}
			if err != nil {
				return err
			}
			p.add(b)
		}
		return nil
	})
	if err == nil && (got.hash != t.maniHash || len(p.line) > 0) {
		err = fmt.Errorf("%w: manifests are damaged", ErrCorrupt)
	}
	return p, err
}

// add takes the next piece of the manifests. Memory is bounded by the longest line that
// names an object; the one that proves it may be longer.
func (p *testimony) add(b []byte) {
	for len(b) > 0 {
		line, rest, ended := bytes.Cut(b, []byte("\n"))
		p.line = append(p.line, line[:min(len(line), maxLine+1-len(p.line))]...)
		if b = rest; ended {
			p.read(p.line)
			p.line = p.line[:0]
		}
	}
}

// read takes one line.
func (p *testimony) read(line []byte) {
	if bytes.HasPrefix(line, []byte(`{"type":"complete","v":1,`)) {
		p.end = true
		p.proves(line)
		return
	}
	var m manifest
	if err := json.Unmarshal(line, &m); err != nil {
		p.bad = true
		return
	}
	if m.Type != "object" && m.Type != "member" {
		return
	}
	p.bad = p.bad || m.V != 1 || UploadID(m.Put) != p.k.upload || m.check() != nil
	if m.ID != nil && p.err == nil { // of a pack that was cut off while what it took in stayed where it was
		var here bool
		if here, p.err = p.has(*m.ID); here {
			return
		}
	}
	if p.objects++; len(p.names) < mostUnclaimedNames {
		p.names = append(p.names, m.Name)
	}
}

// proves takes the line that proves an object, of which the beginning is there.
func (p *testimony) proves(line []byte) {
	_, rest, ok := bytes.Cut(line, []byte(`,"id":"`))
	text, _, ended := bytes.Cut(rest, []byte(`"`))
	if !ok || !ended || len(p.names) != 1 || p.err != nil {
		return
	}
	if id, err := ParseID(string(text)); err == nil {
		p.other, p.err = p.named(p.names[0], id)
	}
}

// hasObject reports whether a name has a content that is kept elsewhere. Then what is found
// is of a reshaping that was cut off, or of a second put of the same.
func (c *collection) hasObject(ctx context.Context, name string, id ID) (bool, error) {
	o, err := c.s.cat.Object(ctx, name, 0)
	if err != nil || o.ID != id || o.Deleted {
		return false, passAbsent(err)
	}
	return c.hasContent(ctx, id, KindObject)
}

// hasContent reports whether a content is kept elsewhere in an upload of that kind, by what
// the catalog knows, and can be read there.
func (c *collection) hasContent(ctx context.Context, id ID, kind Kind) (bool, error) {
	k, err := c.s.cat.Content(ctx, id)
	if isAbsent(err) {
		return false, nil
	}
	if err != nil || k.Refs == 0 || k.Upload.IsZero() {
		return err == nil && k.Refs > 0, err
	}
	there, known := c.kept.there[k.Upload]
	if known {
		return there, nil
	}
	there, err = c.readable(ctx, k.Upload, kind)
	if err == nil && len(c.kept.there) < mostUnclaimed {
		c.kept.there[k.Upload] = there
	}
	return there, err
}

// readable reports whether of all extents of an upload there are enough shards.
func (c *collection) readable(ctx context.Context, id UploadID, kind Kind) (bool, error) {
	u, err := c.s.cat.Upload(ctx, id)
	if err != nil {
		return false, err
	}
	for i := range u.Extents {
		e, err := c.s.cat.ExtentAt(ctx, id, i)
		if err != nil || e.Kind != kind {
			return false, err
		}
		n := 0
		for j := range e.Shards {
			if c.s.hasShard(ctx, &e, j) {
				n++
			}
		}
		if err := c.s.over(ctx); err != nil || n < e.Code.K {
			return false, err
		}
	}
	return u.Extents > 0, nil
}

// shardsThere returns how many shards there are of the extent of a key.
func (s *Store) shardsThere(ctx context.Context, key BackendKey) (int, error) {
	prefix := key[:len("xx/")+2*len(ExtentID{})]
	have := map[int]bool{}
	for _, d := range s.here() {
		for key, err := range d.keys(ctx, prefix) {
			if err != nil {
				return 0, err
			}
			if k, ok := parseKey(key); ok {
				have[k.shard] = true
			}
		}
	}
	return len(have), nil
}
