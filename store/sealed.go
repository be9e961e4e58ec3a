package store

import "github.com/blockframe/blockframe/internal/frame"

// sealedExtent is what the trailers of an extent say.
type sealedExtent struct {
	trailer trailer // but for what differs by shard
	table   int64   // bytes, without padding
	lines   lines   // manifests
}

// newSealed returns what the trailers of an extent say that has this table and these
// manifests.
func newSealed(storeID [16]byte, e *Extent, table []byte, l lines) *sealedExtent {
	return &sealedExtent{table: int64(len(table)), lines: l, trailer: trailer{header: headerOf(storeID, e, 0), length: e.Length, whole: e.Whole,
		hash: e.Hash, parityRoot: e.ParityRoot, descriptor: e.Descriptor, packMani: l.at,
		tableHash: frame.Sum(table), maniHash: l.hash, extraHash: frame.Sum(nil)}}
}

// headerOf returns the header of shard i of an extent.
func headerOf(storeID [16]byte, e *Extent, i int) header {
	return header{storeID: storeID, extent: e.ID, upload: e.Upload, generation: e.Shards[i].Generation,
		epoch: e.Epoch, kind: e.Kind, shard: i, code: e.Code, blockSize: e.BlockSize, codeID: e.CodeID,
		transform: e.Transform, keyEpoch: e.KeyEpoch, ordinal: e.Ordinal, offset: e.Offset}
}

// carries reports whether shard i of the extent carries the manifests.
func (e *Extent) carries(i int) bool { return e.Kind != KindPack || i == 0 || i >= e.Code.K }

// tail returns the trailer of the shard with this header, in aligned memory. carries
// says that it carries the manifests.
func (x *sealedExtent) tail(h header, carries bool) []byte {
	t := x.trailer
	t.header = h
	n := x.lines.len
	if !carries {
		n, t.maniHash = 0, frame.Sum(nil)
	}
	t.layout(x.table, n)
	return appendTrailer(frame.Aligned(trailerSize)[:0], &t)
}
