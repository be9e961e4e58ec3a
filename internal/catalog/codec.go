package catalog

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/store"
)

// Limits of what a command may hold, beside those of package store. Within them
// the encoding is one to one; what lies beyond has none.
const (
	maxStateKey   = 1 << 10
	maxState      = 64 << 10
	maxTarget     = store.MaxName
	maxPath       = 4 << 10
	maxStripeBits = 1 << 10 // bytes of a bitmap: 4096 stripes of 1+m in an extent of 64 KiB blocks are 512
	minExtent     = 190     // bytes of an encoded extent without its shards
)

// encodeCommand appends the body of c.
func encodeCommand(e *frame.Encoder, c store.Command) error {
	switch c := c.(type) {
	case store.OpenEpoch:
	case store.AddExtent:
		return encodeExtent(e, &c.Extent)
	case store.Put:
		return encodePut(e, &c)
	case store.Replace:
		return encodeReplace(e, &c)
	case store.Report:
		return encodeReport(e, &c)
	case store.Intact:
		return encodeIntact(e, &c)
	case store.Pack:
		return encodePack(e, &c)
	case store.Repack:
		return encodeRepack(e, &c)
	case store.Kill:
		e.Raw(c.Upload[:])
	case store.Forget:
		e.Raw(c.Upload[:])
	case store.Abandon:
		e.Raw(c.Upload[:])
	case store.Keep:
		return encodeKeep(e, &c)
	case store.Release:
		e.Raw(c.Upload[:])
	case store.Narrow:
		encodeNarrow(e, &c)
	case store.Reshape:
		return encodeReshape(e, &c)
	case store.SetState:
		if len(c.Key) > maxStateKey || len(c.Value) > maxState {
			return invalid("state key of %d bytes, value of %d", len(c.Key), len(c.Value))
		}
		e.String(c.Key)
		e.Bytes(c.Value)
	case store.Scrubbed:
		encodeScrubbed(e, &c)
	default:
		if known, err := encodeAdoption(e, c); known {
			return err
		}
		return encodeName(e, c)
	}
	return nil
}

// decodeCommand reads the body of a command of that kind.
func decodeCommand(kind store.CommandKind, body []byte) (c store.Command, err error) {
	d := frame.NewDecoder(body)
	switch kind {
	case store.KindOpenEpoch:
		c = store.OpenEpoch{}
	case store.KindAddExtent:
		c = store.AddExtent{Extent: decodeExtent(d)}
	case store.KindPut:
		c = decodePut(d)
	case store.KindReplace:
		c = decodeReplace(d)
	case store.KindReport:
		c = decodeReport(d)
	case store.KindIntact:
		c = decodeIntact(d)
	case store.KindPackMove:
		c = decodePack(d)
	case store.KindRepack:
		c = decodeRepack(d)
	case store.KindKill:
		c = store.Kill{Upload: d.ID()}
	case store.KindForget:
		c = store.Forget{Upload: d.ID()}
	case store.KindAbandon:
		c = store.Abandon{Upload: d.ID()}
	case store.KindKeep:
		c = decodeKeep(d)
	case store.KindRelease:
		c = store.Release{Upload: d.ID()}
	case store.KindNarrow:
		c = decodeNarrow(d)
	case store.KindReshape:
		c = decodeReshape(d)
	case store.KindSetState:
		c = store.SetState{Key: d.String(maxStateKey), Value: slices.Clone(d.Bytes(maxState))}
	case store.KindScrubbed:
		c = decodeScrubbed(d)
	default:
		if c = decodeAdoption(kind, d); c == nil {
			c = decodeName(kind, d)
		}
		if c == nil {
			return nil, fmt.Errorf("%w: command kind %d", frame.ErrVersion, kind)
		}
	}
	if err := d.Done(); err != nil {
		return nil, fmt.Errorf("command kind %d: %w", kind, err)
	}
	return c, nil
}

func encodeTime(e *frame.Encoder, t time.Time) {
	e.I64(t.Unix())
	e.U32(uint32(t.Nanosecond()))
}

func decodeTime(d *frame.Decoder) time.Time {
	sec, nsec := d.I64(), d.U32()
	t := time.Unix(sec, int64(nsec)).UTC()
	if nsec >= 1e9 || t.Unix() != sec {
		d.Fail("time %d.%d is out of range", sec, nsec)
	}
	return t
}

// attrModes are the mode bits that are kept.
const attrModes = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

func encodeAttr(e *frame.Encoder, a *store.Attr) error {
	if err := checkAttr(a); err != nil {
		return err
	}
	e.U32(uint32(a.Mode))
	e.U32(a.UID)
	e.U32(a.GID)
	encodeTime(e, a.ModTime)
	e.String(a.Target)
	e.U32(uint32(len(a.Xattrs)))
	for _, name := range slices.Sorted(maps.Keys(a.Xattrs)) {
		e.String(name)
		e.Bytes(a.Xattrs[name])
	}
	return nil
}

func decodeAttr(d *frame.Decoder) (a store.Attr) {
	a.Mode = fs.FileMode(d.U32())
	a.UID, a.GID = d.U32(), d.U32()
	a.ModTime = decodeTime(d)
	a.Target = d.String(maxTarget)
	last := ""
	if n := d.Count(8); n > 0 {
		a.Xattrs = make(map[string][]byte, n)
		for range n {
			name := d.String(store.MaxXattrBytes)
			value := append([]byte{}, d.Bytes(store.MaxXattrBytes)...)
			if name <= last {
				d.Fail("extended attributes out of order")
			}
			last = name
			a.Xattrs[name] = value
		}
	}
	if d.Err() == nil {
		if err := checkAttr(&a); err != nil {
			d.Fail("%v", err)
		}
	}
	return a
}

// checkAttr holds the limits of attributes. It does not look at the type bits.
func checkAttr(a *store.Attr) error {
	switch {
	case a.Mode&^(attrModes|fs.ModeType) != 0:
		return invalid("mode %#o has bits that are not kept", uint32(a.Mode))
	case len(a.Target) > maxTarget:
		return invalid("link target of %d bytes, at most %d", len(a.Target), maxTarget)
	}
	total := 0
	for name, value := range a.Xattrs {
		if name == "" || len(name) > store.MaxComponent || !clean(name) {
			return invalid("extended attribute name %q", name)
		}
		total += len(name) + len(value)
	}
	if total > store.MaxXattrBytes {
		return invalid("extended attributes of %d bytes, at most %d", total, store.MaxXattrBytes)
	}
	return nil
}

func encodeCode(e *frame.Encoder, c erasure.Code) error {
	if c.K < 0 || c.K > 255 || c.M < 0 || c.M > 255 {
		return invalid("code %v", c)
	}
	e.U8(uint8(c.K))
	e.U8(uint8(c.M))
	return nil
}

func decodeCode(d *frame.Decoder) erasure.Code {
	return erasure.Code{K: int(d.U8()), M: int(d.U8())}
}

func encodeShard(e *frame.Encoder, s store.Shard) {
	e.Raw(s.Backend[:])
	e.U32(s.Generation)
	e.Bool(s.Missing)
}

func decodeShard(d *frame.Decoder) store.Shard {
	return store.Shard{Backend: d.ID(), Generation: d.U32(), Missing: d.Bool()}
}

// encodeExtent appends a valid extent: see checkExtent, and enough.
func encodeExtent(e *frame.Encoder, x *store.Extent) error {
	if err := encodeFound(e, x); err != nil {
		return err
	}
	return enough(x)
}

// encodeFound appends an extent of which there may be just K shards.
func encodeFound(e *frame.Encoder, x *store.Extent) error {
	if err := checkExtent(x); err != nil {
		return err
	}
	e.Raw(x.ID[:])
	e.Raw(x.Upload[:])
	e.U32(uint32(x.Ordinal))
	e.I64(x.Offset)
	e.I64(x.Length)
	e.U8(uint8(x.Kind))
	e.Bool(x.Whole)
	e.U8(uint8(x.Code.K))
	e.U8(uint8(x.Code.M))
	e.U32(uint32(x.BlockSize))
	e.U8(x.CodeID)
	e.U8(x.Transform)
	e.U32(x.KeyEpoch)
	e.Raw(x.Hash[:])
	e.Raw(x.ParityRoot[:])
	e.Raw(x.Descriptor[:])
	e.U64(x.Epoch)
	for _, s := range x.Shards {
		encodeShard(e, s)
	}
	return nil
}

func decodeExtent(d *frame.Decoder) store.Extent {
	x := decodeFound(d)
	if d.Err() == nil {
		if err := enough(&x); err != nil {
			d.Fail("%v", err)
		}
	}
	return x
}

func decodeFound(d *frame.Decoder) (x store.Extent) {
	x.ID, x.Upload = d.ID(), d.ID()
	x.Ordinal = int(d.U32())
	x.Offset, x.Length = d.I64(), d.I64()
	x.Kind, x.Whole = store.Kind(d.U8()), d.Bool()
	x.Code = decodeCode(d)
	x.BlockSize = int(d.U32())
	x.CodeID, x.Transform, x.KeyEpoch = d.U8(), d.U8(), d.U32()
	x.Hash, x.ParityRoot, x.Descriptor = d.Hash(), d.Hash(), d.Hash()
	x.Epoch = d.U64()
	if d.Err() != nil {
		return x
	}
	x.Shards = make([]store.Shard, x.Code.Shards())
	for i := range x.Shards {
		x.Shards[i] = decodeShard(d)
	}
	if d.Err() == nil {
		if err := checkExtent(&x); err != nil {
			d.Fail("%v", err)
		}
	}
	return x
}

// checkExtent holds the limits of an extent by itself.
func checkExtent(x *store.Extent) error {
	bad := func(format string, args ...any) error {
		return invalid("extent %v: %s", x.ID, fmt.Sprintf(format, args...))
	}
	if err := x.Code.Validate(); err != nil {
		return bad("%v", err)
	}
	switch {
	case x.ID == store.ExtentID{} || x.Upload.IsZero():
		return bad("no id or no upload")
	case x.Ordinal < 0 || x.Ordinal > 1<<30:
		return bad("ordinal %d", x.Ordinal)
	case x.Length < 1 || x.Length > store.MaxExtent:
		return bad("length %d, want 1 to %d", x.Length, store.MaxExtent)
	case x.Offset < 0 || x.Offset > 1<<62:
		return bad("offset %d", x.Offset)
	case x.Whole && (x.Ordinal != 0 || x.Offset != 0):
		return bad("is the whole stream, at offset %d", x.Offset)
	case x.Kind < store.KindObject || x.Kind > store.KindSnapshot:
		return bad("kind %d", x.Kind)
	case x.BlockSize < 1<<16 || x.BlockSize > 1<<20 || x.BlockSize&(x.BlockSize-1) != 0:
		return bad("block size %d, want a power of two from 2^16 to 2^20", x.BlockSize)
	case x.CodeID != 1 || x.Transform != 0:
		return bad("code %d with transform %d", x.CodeID, x.Transform)
	case len(x.Shards) != x.Code.Shards():
		return bad("%d shards of a %v code", len(x.Shards), x.Code)
	}
	present := 0
	for _, s := range x.Shards {
		if !s.Missing {
			present++
			if s.Backend.IsZero() {
				return bad("a shard is nowhere")
			}
		}
	}
	if present < x.Code.K {
		return bad("%d shards of a %v code are durable, want at least %d", present, x.Code, x.Code.K)
	}
	return nil
}
