package store

import (
	"bytes"
	"context"
	"fmt"

	"github.com/blockframe/blockframe/internal/frame"
)

// mergeTable makes a table out of copies none of which is whole: each entry is one
// that a block hashes to, or else the one that most copies agree on. Where several
// will do, as when the blob of another extent lies in the place of a shard, sound in
// itself, the copies are tried one after the other as the one to prefer. The result is
// checked like any other: it folds to the hash in the record.
func (s *Store) mergeTable(ctx context.Context, x *handle) error {
	want := tableLen(x.g)
	var copies [][]byte
	for i := range x.e.Shards {
		if raw := s.rawTable(ctx, x, i, want); raw != nil {
			copies = append(copies, raw)
		}
	}
	if len(copies) == 0 {
		return fmt.Errorf("%w: no shard has a table", ErrCorrupt)
	}
	votes := s.elect(ctx, x, copies)
	var err error
	for _, prefer := range copies {
		merged := bytes.Clone(prefer)
		for i, hashes := range votes {
			h := best(hashes, frame.Hash(prefer[32*i:]))
			copy(merged[32*i:], h[:])
		}
		if err = x.checkTable(merged); err == nil {
			x.setTable(merged)
			return nil
		}
	}
	return fmt.Errorf("merged from %d damaged copies: %w", len(copies), err)
}

// rawTable reads the table of shard i from where the record says that it must be,
// unchecked.
func (s *Store) rawTable(ctx context.Context, x *handle, i int, size int64) []byte {
	t := trailer{header: headerOf(s.storeID, &x.e, i), length: x.e.Length}
	t.layout(size, 0)
	raw := make([]byte, size)
	err := s.withBlob(ctx, x, i, func(r BackendReader) error { _, err := readFull(r, raw, t.table.off); return err })
	if err != nil {
		return nil
	}
	return raw
}

// seen outweighs any number of copies.
const seen = 1 << 16

// elect returns the hashes that copies of the table have for the entries that they do
// not agree on, each with the number of copies that have it, and seen more if a block
// that can be read hashes to it.
func (s *Store) elect(ctx context.Context, x *handle, copies [][]byte) map[int]map[frame.Hash]int {
	out := map[int]map[frame.Hash]int{}
	for i := range len(copies[0]) / 32 {
		votes := map[frame.Hash]int{}
		for _, c := range copies {
			votes[frame.Hash(c[32*i:])]++
		}
		if len(votes) == 1 {
			continue
		}
		for h := range votes {
			if s.witness(ctx, x, i, h) {
				votes[h] += seen
			}
		}
		out[i] = votes
	}
	return out
}

// best returns the hash to take for an entry: the preferred one if a block hashes to it,
// else one that a block hashes to, else the one that most copies have.
func best(votes map[frame.Hash]int, prefer frame.Hash) (h frame.Hash) {
	if votes[prefer] >= seen {
		return prefer
	}
	for other, n := range votes {
		if n > votes[h] || n == votes[h] && (other == prefer || h != prefer && bytes.Compare(other[:], h[:]) < 0) {
			h = other
		}
	}
	return h
}

// witness reports whether the block of table entry i hashes to h.
func (s *Store) witness(ctx context.Context, x *handle, i int, h frame.Hash) bool {
	trial := handle{e: x.e, g: x.g, table: x.table}
	k, blocks := x.e.Code.K, x.g.Blocks()
	column, stripe := i%k, i/k
	if i < blocks {
		trial.table.CVs = make([][32]byte, blocks)
		trial.table.CVs[i] = h
	} else {
		p := i - blocks
		column, stripe = k+p%x.e.Code.M, p/x.e.Code.M
		trial.par = make([]byte, 32*(p+1))
		copy(trial.par[32*p:], h[:])
	}
	for c := column; c < len(x.e.Shards); c++ { // with k = 1, any copy will do
		b := make([]byte, x.g.ShardBlockLen(c, stripe))
		err := s.withBlob(ctx, x, c, func(r BackendReader) error { _, err := readFull(r, b, headerSize+int64(stripe)*BlockSize); return err })
		if err == nil && trial.check(c, stripe, b) {
			return true
		}
		if k > 1 {
			break
		}
	}
	return false
}
