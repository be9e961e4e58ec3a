package store

import (
	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/internal/frame"
)

// space adds up what an upload takes on the backends, and what of it versions refer to but
// for packs: of those measure knows.
func (c *compaction) space(u *Upload) error {
	e, err := c.s.cat.ExtentAt(c.ctx, u.ID, 0)
	if err != nil {
		return passAbsent(err)
	}
	whole := u.Length / e.Length // all extents but the last are as long as the first
	c.rep.Stored += whole * blobBytes(e.Code, e.Length)
	if rest := u.Length % e.Length; rest > 0 {
		c.rep.Stored += blobBytes(e.Code, rest)
	}
	if e.Kind != KindPack && u.State == UploadLive {
		c.rep.Live += u.Length
	}
	return nil
}

// blobBytes returns about how many bytes the blobs of an extent take: blocks, parity, table,
// and of manifests a page in each.
func blobBytes(code erasure.Code, length int64) int64 {
	g := erasure.Geometry{Code: code, BlockSize: BlockSize, Length: length}
	last := length - int64(g.Stripes()-1)*int64(code.K)*BlockSize // bytes in the last stripe
	parity := int64(g.Stripes()-1)*BlockSize + frame.Align(min(last, BlockSize))
	each := int64(headerSize+trailerSize+frame.Grid) + frame.Align(tableLen(g))
	return frame.Align(length) + int64(code.M)*parity + int64(code.Shards())*each
}
