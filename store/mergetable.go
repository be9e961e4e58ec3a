package store

import (
	"bytes"
	"context"
	"fmt"

	"github.com/blockframe/blockframe/internal/frame"
)

// mergeTable makes a table out of copies none of which is whole: each entry is the
// one that the block itself hashes to, or else the one that most copies agree on.
// The result is checked like any other: it folds to the hash in the record.
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
	merged := bytes.Clone(copies[0])
	for at := 0; at < len(merged); at += 32 {
		votes := map[frame.Hash]int{}
		for _, c := range copies {
			votes[frame.Hash(c[at:])]++
		}
		if len(votes) > 1 {
			h := s.elect(ctx, x, at/32, votes)
			copy(merged[at:], h[:])
		}
	}
	if err := x.checkTable(merged); err != nil {
		return fmt.Errorf("merged from %d damaged copies: %w", len(copies), err)
	}
	x.setTable(merged)
	return nil
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

// elect chooses the hash of table entry i: a copy that a readable block agrees
// with is right, whatever the others say.
func (s *Store) elect(ctx context.Context, x *handle, i int, votes map[frame.Hash]int) (best frame.Hash) {
	for h, n := range votes {
		if s.witness(ctx, x, i, h) {
			return h
		}
		if n > votes[best] || n == votes[best] && bytes.Compare(h[:], best[:]) < 0 {
			best = h
		}
	}
	return best
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
