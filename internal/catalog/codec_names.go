package catalog

import (
	"math"
	"time"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/store"
)

// encodeName appends the body of a command that this package declares.
func encodeName(e *frame.Encoder, c store.Command) error {
	switch c := c.(type) {
	case Delete:
		e.I64(c.Expect)
		return encodeNames(e, c.Name)
	case Purge:
		e.U64(c.Version)
		e.Bool(c.All)
		return encodeNames(e, c.Name)
	case Rename:
		return encodeNames(e, c.From, c.To)
	case Mkdir:
		e.Bool(c.Parents)
		return encodeNamed(e, c.Name, &c.Attr)
	case Rmdir:
		return encodeNames(e, c.Name)
	case Symlink:
		return encodeNamed(e, c.Name, &c.Attr)
	case SetAttr:
		if c.Mask&^allAttrs != 0 {
			return invalid("attribute mask %#x", c.Mask)
		}
		e.U8(uint8(c.Mask))
		return encodeNamed(e, c.Name, &c.Attr)
	case SetPolicy:
		return encodePolicy(e, &c.Policy)
	case UnsetPolicy:
		return encodeNames(e, c.Prefix)
	case Hold:
		e.U64(c.Version)
		e.Bool(c.On)
		return encodeNames(e, c.Name)
	case Retain:
		if !loggable(c.Until) {
			return invalid("retention until %v", c.Until)
		}
		e.U64(c.Version)
		e.I64(c.Until.UnixNano())
		return encodeNames(e, c.Name)
	case SetBackends:
		return encodeBackends(e, &c)
	case SetGrace:
		if c.Grace < 0 {
			return invalid("grace %v", c.Grace)
		}
		e.I64(int64(c.Grace))
	default:
		return encodeDisk(e, c)
	}
	return nil
}

// decodeName reads such a body, and returns nil for a kind that is not known.
func decodeName(kind store.CommandKind, d *frame.Decoder) store.Command {
	switch kind {
	case KindDelete:
		return Delete{Expect: d.I64(), Name: decodeString(d)}
	case KindPurge:
		return Purge{Version: d.U64(), All: d.Bool(), Name: decodeString(d)}
	case KindRename:
		return Rename{From: decodeString(d), To: decodeString(d)}
	case KindMkdir:
		return Mkdir{Parents: d.Bool(), Name: decodeString(d), Attr: decodeAttr(d)}
	case KindRmdir:
		return Rmdir{Name: decodeString(d)}
	case KindSymlink:
		return Symlink{Name: decodeString(d), Attr: decodeAttr(d)}
	case KindSetAttr:
		mask := AttrMask(d.U8())
		if mask&^allAttrs != 0 {
			d.Fail("attribute mask %#x", mask)
		}
		return SetAttr{Mask: mask, Name: decodeString(d), Attr: decodeAttr(d)}
	case KindSetPolicy:
		return SetPolicy{Policy: decodePolicy(d)}
	case KindUnsetPolicy:
		return UnsetPolicy{Prefix: decodeString(d)}
	case KindHold:
		return Hold{Version: d.U64(), On: d.Bool(), Name: decodeString(d)}
	case KindRetain:
		c := Retain{Version: d.U64(), Until: nanoTime(d.I64()), Name: decodeString(d)}
		if !loggable(c.Until) {
			d.Fail("retention until %v", c.Until)
		}
		return c
	case KindSetBackends:
		return decodeBackends(d)
	case KindSetGrace:
		c := SetGrace{Grace: time.Duration(d.I64())}
		if c.Grace < 0 {
			d.Fail("grace %v", c.Grace)
		}
		return c
	}
	return decodeDisk(kind, d)
}

func decodeString(d *frame.Decoder) string { return d.String(store.MaxName) }

func encodeNames(e *frame.Encoder, names ...string) error {
	for _, name := range names {
		if len(name) > store.MaxName {
			return invalid("name of %d bytes, at most %d", len(name), store.MaxName)
		}
		e.String(name)
	}
	return nil
}

func encodeNamed(e *frame.Encoder, name string, a *store.Attr) error {
	if err := encodeNames(e, name); err != nil {
		return err
	}
	return encodeAttr(e, a)
}

// encodePolicy appends a policy that could be in force on some store.
func encodePolicy(e *frame.Encoder, p *store.Policy) error {
	if err := checkPolicy(p); err != nil {
		return err
	}
	e.String(p.Name)
	e.String(p.Prefix)
	e.I64(p.MaxSize)
	if err := encodeCode(e, p.Code); err != nil {
		return err
	}
	e.I64(p.Extent)
	e.U32(uint32(p.PerBackend))
	e.Bool(p.Fragile)
	return nil
}

func decodePolicy(d *frame.Decoder) store.Policy {
	p := store.Policy{Name: d.String(store.MaxComponent), Prefix: decodeString(d), MaxSize: d.I64(),
		Code: decodeCode(d), Extent: d.I64(), PerBackend: int(d.U32()), Fragile: d.Bool()}
	if d.Err() == nil {
		if err := checkPolicy(&p); err != nil {
			d.Fail("%v", err)
		}
	}
	return p
}

// checkPolicy is the part of Policy.Validate that does not depend on how many
// backends there are, which changes.
func checkPolicy(p *store.Policy) error {
	switch {
	case len(p.Name) > store.MaxComponent || !clean(p.Name):
		return invalid("policy name %q", p.Name)
	case len(p.Prefix) > store.MaxName || !clean(p.Prefix):
		return invalid("policy prefix %q", p.Prefix)
	case p.MaxSize < 0:
		return invalid("policy %q: MaxSize is %d", p.Name, p.MaxSize)
	case p.Code != erasure.Code{} && p.Code.Validate() != nil:
		return invalid("policy %q: code %v", p.Name, p.Code)
	case p.Extent != 0 && (p.Extent < 1<<20 || p.Extent > store.MaxExtent || p.Extent&(p.Extent-1) != 0):
		return invalid("policy %q: Extent is %d, want a power of two from 1 MiB to 256 MiB", p.Name, p.Extent)
	case p.PerBackend < 0 || p.PerBackend > math.MaxInt32:
		return invalid("policy %q: PerBackend is %d", p.Name, p.PerBackend)
	}
	return nil
}

// minBackend is the size in bytes of an encoded backend without its path.
const minBackend = 16 + 4

func encodeBackends(e *frame.Encoder, c *SetBackends) error {
	seen := map[store.BackendID]bool{}
	e.U32(uint32(len(c.Backends)))
	for _, b := range c.Backends {
		if b.ID.IsZero() || seen[b.ID] {
			return invalid("backend %v is zero or there twice", b.ID)
		}
		seen[b.ID] = true
		if len(b.Path) > maxPath {
			return invalid("path of %d bytes", len(b.Path))
		}
		e.Raw(b.ID[:])
		e.String(b.Path)
	}
	return nil
}

func decodeBackends(d *frame.Decoder) (c SetBackends) {
	seen := map[store.BackendID]bool{}
	for range d.Count(minBackend) {
		b := Backend{ID: d.ID(), Path: d.String(maxPath)}
		if b.ID.IsZero() || seen[b.ID] {
			d.Fail("backend %v is zero or there twice", b.ID)
		}
		seen[b.ID] = true
		c.Backends = append(c.Backends, b)
	}
	return c
}
