package blockframe

import (
	"context"
	"fmt"
)

// Audit holds what the store counts against what there is: names, versions, contents, acts
// of putting, extents and the blobs on the disks, each way. It reports, and changes
// nothing. With a problem the index is not to be trusted: closing the store, moving the
// folder view/ away and opening it again makes it anew from the commit log. It takes about
// as long as to list all blobs and to look up every row once, and beside puts it may tell
// of blobs that came or went meanwhile.
func (s *Store) Audit(ctx context.Context) (rep AuditReport, err error) {
	if err := s.cat.Audit(ctx, &rep); err != nil {
		return rep, fmt.Errorf("audit: %w", err)
	}
	if err := s.eng.AuditBlobs(ctx, &rep); err != nil {
		return rep, fmt.Errorf("audit: %w", err)
	}
	return rep, nil
}
