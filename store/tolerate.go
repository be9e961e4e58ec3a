package store

import (
	"context"

	"github.com/blockframe/blockframe/erasure"
)

// Tolerates returns what everything that the store holds can lose at once and still be
// read: the least of all extents that contents lie in, by what the catalog knows. No
// backend is asked. It looks at the records of all extents, of a few hundred at a time,
// and at the repair queue for each: some 10 µs an extent. It is the zero Survival where
// there are none.
func (s *Store) Tolerates(ctx context.Context) (Survival, error) {
	least, any := Survival{erasure.MaxShards, erasure.MaxShards}, false // more than anything survives
	m := s.newMover(MoveOptions{})
	for after := (ExtentID{}); ; {
		page, err := m.page(ctx, after)
		if err != nil {
			return Survival{}, err
		}
		for i := range page {
			e := &page[i]
			of, err := s.extentSurvives(ctx, e, 0, e.Length)
			if err != nil {
				return Survival{}, err
			}
			if any && of.and(least) == least {
				continue
			}
			u, err := s.cat.Upload(ctx, e.Upload)
			if err != nil && !isAbsent(err) {
				return Survival{}, err
			}
			if err == nil && u.State == UploadLive {
				least, any = least.and(of), true
			}
		}
		if len(page) < extentsAPage {
			break
		}
		after = page[len(page)-1].ID
	}
	if !any {
		return Survival{}, nil
	}
	return least, nil
}
