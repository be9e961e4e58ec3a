package store

import (
	"context"
	"fmt"
)

// AuditReport says what was held against what, and what did not agree.
type AuditReport struct {
	Versions uint64 // markers included
	Contents uint64
	Uploads  uint64
	Extents  uint64
	Blobs    int64 // on disks that are there
	Orphans  int64 // of them, those that no record names: Collect removes them, or names them
	Absent   int64 // shards on disks that are not there
	Gone     int64 // shards that are not on their disk, though that is there: Scrub says which

	Problems []string // of the records, the first 100, in words
	More     int64    // problems beyond those
}

// mostProblems is how many problems are told in words.
const mostProblems = 100

// Add adds a problem.
func (r *AuditReport) Add(format string, args ...any) {
	if len(r.Problems) == mostProblems {
		r.More++
		return
	}
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

// AuditBlobs holds the records of shards against the blobs on the disks, by their keys
// alone, and adds to a report. It changes nothing. What puts and repairs do meanwhile may
// be told of.
func (s *Store) AuditBlobs(ctx context.Context, rep *AuditReport) error {
	for e, err := range s.cat.Extents(ctx, ExtentID{}) {
		if err == nil {
			err = s.over(ctx)
		}
		if err != nil {
			return err
		}
		if u, err := s.cat.Upload(ctx, e.Upload); err == nil && u.State == UploadDead {
			continue // its blobs may be gone
		}
		for i, sh := range e.Shards {
			switch {
			case sh.Missing:
			case s.here()[sh.Backend] == nil:
				rep.Absent++
			case !s.hasShard(ctx, &e, i):
				rep.Gone++
			}
		}
	}
	for _, d := range s.here() {
		for key, err := range d.keys(ctx, "") {
			if err == nil {
				err = s.over(ctx)
			}
			if err != nil {
				return fmt.Errorf("backend %v: %w", d.id, err)
			}
			k, ok := parseKey(key)
			if !ok {
				continue
			}
			rep.Blobs++
			orphan, err := s.orphan(ctx, d, k)
			if err != nil {
				return err
			}
			if orphan {
				rep.Orphans++
			}
		}
	}
	return nil
}
