package catalog

import (
	"slices"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/store"
)

func encodePut(e *frame.Encoder, p *store.Put) error {
	if err := checkPut(p); err != nil {
		return err
	}
	// Only who proposes it looks at the bytes: what was logged does not change.
	if small := len(p.Inline) > 0 || p.Size == 0; small && store.ID(frame.Sum(p.Inline)) != p.ID {
		return invalid("put %q: content does not have id %v", p.Name, p.ID)
	}
	e.String(p.Name)
	if err := encodeAttr(e, &p.Attr); err != nil {
		return err
	}
	e.String(p.Policy)
	e.Raw(p.ID[:])
	e.I64(p.Size)
	e.Raw(p.Upload[:])
	e.U32(uint32(len(p.Extents)))
	for i := range p.Extents {
		if err := encodeExtent(e, &p.Extents[i]); err != nil {
			return err
		}
	}
	e.I64(p.Offset)
	e.Bytes(p.Inline)
	if err := encodeCode(e, p.Code); err != nil {
		return err
	}
	e.I64(p.Expect)
	e.Raw(p.Distrust[:])
	return nil
}

func decodePut(d *frame.Decoder) (p store.Put) {
	p.Name = d.String(store.MaxName)
	p.Attr = decodeAttr(d)
	p.Policy = d.String(store.MaxComponent)
	p.ID = d.Hash()
	p.Size = d.I64()
	p.Upload = d.ID()
	for range d.Count(minExtent) {
		p.Extents = append(p.Extents, decodeExtent(d))
	}
	p.Offset = d.I64()
	p.Inline = d.Bytes(store.MaxInline)
	p.Code = decodeCode(d)
	p.Expect = d.I64()
	p.Distrust = d.ID()
	if d.Err() == nil {
		if err := checkPut(&p); err != nil {
			d.Fail("%v", err)
		}
	}
	return p
}

// checkPut holds what can be said of a put without looking at any row, but for
// the name, whose refusal is to be found in the log.
func checkPut(p *store.Put) error {
	switch {
	case len(p.Name) > store.MaxName:
		return invalid("name of %d bytes, at most %d", len(p.Name), store.MaxName)
	case len(p.Policy) > store.MaxComponent || !clean(p.Policy):
		return invalid("policy name %q", p.Policy)
	case p.Attr.Mode&^attrModes != 0 || p.Attr.Target != "":
		return invalid("put %q: mode %v is not that of a file", p.Name, p.Attr.Mode)
	case p.Upload.IsZero():
		return invalid("put %q: no upload id", p.Name)
	case p.Size < 0 || p.Offset < 0 || p.Size > 1<<61 || p.Offset > 1<<61:
		return invalid("put %q: size %d at offset %d", p.Name, p.Size, p.Offset)
	case len(p.Inline) > store.MaxInline:
		return invalid("put %q: %d bytes inline, at most %d", p.Name, len(p.Inline), store.MaxInline)
	case len(p.Inline) > 0 && (int64(len(p.Inline)) != p.Size || len(p.Extents) > 0 || p.Offset != 0):
		return invalid("put %q: %d bytes inline of %d, with %d extents", p.Name, len(p.Inline), p.Size, len(p.Extents))
	case p.Size == 0 && (len(p.Extents) > 0 || p.Offset != 0):
		return invalid("put %q: extents of an empty object", p.Name)
	case p.Code != erasure.Code{} && p.Code.Validate() != nil:
		return invalid("put %q: code %v", p.Name, p.Code)
	case p.Expect < store.AnyVersion:
		return invalid("put %q: expects version %d", p.Name, p.Expect)
	}
	for i := range p.Extents {
		if p.Extents[i].Upload != p.Upload {
			return invalid("put %q: extent of another upload", p.Name)
		}
	}
	return nil
}

func encodeReplace(e *frame.Encoder, c *store.Replace) error {
	if c.Shard < 0 || c.Shard >= erasure.MaxShards {
		return invalid("shard %d", c.Shard)
	}
	e.Raw(c.Extent[:])
	e.U8(uint8(c.Shard))
	e.U32(c.From)
	encodeShard(e, c.To)
	return nil
}

func decodeReplace(d *frame.Decoder) store.Replace {
	c := store.Replace{Extent: d.ID(), Shard: int(d.U8()), From: d.U32(), To: decodeShard(d)}
	if c.Shard >= erasure.MaxShards {
		d.Fail("shard %d", c.Shard)
	}
	return c
}

// minRepair is the size in bytes of an encoded repair without a bitmap.
const minRepair = 16 + 1 + 16 + 4 + 2

// encodeReport appends the damage without its times: the log has those.
func encodeReport(e *frame.Encoder, c *store.Report) error {
	e.U32(uint32(len(c.Damage)))
	for i := range c.Damage {
		r := &c.Damage[i]
		if err := checkRepair(r); err != nil {
			return err
		}
		e.Raw(r.Extent[:])
		e.U8(uint8(r.Shard))
		e.Raw(r.Backend[:])
		e.Bytes(r.Stripes)
		e.U16(uint16(r.Left + 1))
	}
	return nil
}

func decodeReport(d *frame.Decoder) (c store.Report) {
	for range d.Count(minRepair) {
		r := store.Repair{Extent: d.ID(), Shard: int(d.U8()), Backend: d.ID(),
			Stripes: slices.Clone(d.Bytes(maxStripeBits)), Left: int(d.U16()) - 1}
		if d.Err() != nil {
			return c
		}
		if err := checkRepair(&r); err != nil {
			d.Fail("%v", err)
		}
		c.Damage = append(c.Damage, r)
	}
	return c
}

func checkRepair(r *store.Repair) error {
	switch {
	case (r.Extent == store.ExtentID{}) == r.Backend.IsZero():
		return invalid("damage of neither extent nor backend, or of both")
	case r.Shard < 0 || r.Shard >= erasure.MaxShards:
		return invalid("shard %d", r.Shard)
	case !r.Backend.IsZero() && (r.Shard != 0 || len(r.Stripes) > 0):
		return invalid("damage of a shard of an absent backend")
	case len(r.Stripes) > maxStripeBits:
		return invalid("bitmap of %d bytes", len(r.Stripes))
	case r.Left < -1 || r.Left >= erasure.MaxShards:
		return invalid("%d shards left to lose", r.Left)
	}
	return nil
}

func encodeIntact(e *frame.Encoder, c *store.Intact) error {
	if err := checkIntact(c); err != nil {
		return err
	}
	e.Raw(c.Extent[:])
	e.U8(uint8(c.Shard))
	e.U32(c.Generation)
	e.Raw(c.Backend[:])
	return nil
}

func decodeIntact(d *frame.Decoder) store.Intact {
	c := store.Intact{Extent: d.ID(), Shard: int(d.U8()), Generation: d.U32(), Backend: d.ID()}
	if d.Err() == nil {
		if err := checkIntact(&c); err != nil {
			d.Fail("%v", err)
		}
	}
	return c
}

func checkIntact(c *store.Intact) error {
	switch {
	case (c.Extent == store.ExtentID{}) == c.Backend.IsZero():
		return invalid("neither extent nor backend, or both")
	case c.Shard < 0 || c.Shard >= erasure.MaxShards:
		return invalid("shard %d", c.Shard)
	}
	return nil
}

const minMember = 32 + 8 + 8

func encodeMember(e *frame.Encoder, m *store.Member) {
	e.Raw(m.ID[:])
	e.I64(m.Offset)
	e.I64(m.Size)
}

func decodeMember(d *frame.Decoder) store.Member {
	return store.Member{ID: d.Hash(), Offset: d.I64(), Size: d.I64()}
}

func encodePack(e *frame.Encoder, c *store.Pack) error {
	if err := encodeExtent(e, &c.Extent); err != nil {
		return err
	}
	e.U32(uint32(len(c.Members)))
	for i := range c.Members {
		encodeMember(e, &c.Members[i])
	}
	return nil
}

func decodePack(d *frame.Decoder) (c store.Pack) {
	c.Extent = decodeExtent(d)
	for range d.Count(minMember) {
		c.Members = append(c.Members, decodeMember(d))
	}
	return c
}

func encodeRepack(e *frame.Encoder, c *store.Repack) error {
	if err := encodeExtent(e, &c.Extent); err != nil {
		return err
	}
	e.U32(uint32(len(c.Members)))
	for i := range c.Members {
		encodeMember(e, &c.Members[i].Member)
		e.Raw(c.Members[i].From[:])
	}
	return nil
}

func decodeRepack(d *frame.Decoder) (c store.Repack) {
	c.Extent = decodeExtent(d)
	for range d.Count(minMember + 16) {
		c.Members = append(c.Members, store.Moved{Member: decodeMember(d), From: d.ID()})
	}
	return c
}

func encodeScrubbed(e *frame.Encoder, c *store.Scrubbed) {
	e.Bool(c.Deep)
	encodeTime(e, c.Began)
	e.U64(c.Extents)
	e.U64(c.Bytes)
	e.U64(c.Damaged)
	e.U64(c.Repaired)
	e.U64(c.Lost)
}

func decodeScrubbed(d *frame.Decoder) store.Scrubbed {
	return store.Scrubbed{Deep: d.Bool(), Began: decodeTime(d), Extents: d.U64(), Bytes: d.U64(),
		Damaged: d.U64(), Repaired: d.U64(), Lost: d.U64()}
}
