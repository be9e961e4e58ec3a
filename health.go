package blockframe

import (
	"context"
	"fmt"
	"io/fs"
	"strings"

	"github.com/blockframe/blockframe/store"
)

// Scrub looks at everything that is kept and says what it found; with Repair it
// makes whole what it can. Damage is no error: it is in the report. A deep pass
// reads all copies of the commit log too, whose damage is always repaired from a
// copy that is good. What Open repaired of it, this one or an earlier one, counts in the
// next report, be it of a quick pass or a deep one.
func (s *Store) Scrub(ctx context.Context, opts ScrubOptions) (ScrubReport, error) {
	rep, err := s.eng.Scrub(ctx, opts)
	if err == nil {
		rep.Log.Repaired, err = s.reportLogRepairs(ctx)
	}
	return rep, err
}

// scrubLog adds what is wrong with the log to a report.
func (s *Store) scrubLog(ctx context.Context, rep *store.LogReport) error {
	v, err := s.journal.Verify(ctx)
	rep.Bytes, rep.Left, rep.Repaired = v.Bytes, int64(v.Bad), s.owedLogRepairs()
	for i := range v.Lost {
		rep.Lost = append(rep.Lost, &v.Lost[i])
	}
	if err != nil {
		return fmt.Errorf("scrub log: %w", err)
	}
	return nil
}

// ScrubStatus returns the last passes of scrub that ended, and those that the store runs by
// itself and are under way: what they found, on which disks and in which objects. Another
// process may have run them.
func (s *Store) ScrubStatus(ctx context.Context) (ScrubStatus, error) { return s.eng.ScrubStatus(ctx) }

// Repair makes whole what reads and scrubs have found damaged so far.
func (s *Store) Repair(ctx context.Context) (RepairReport, error) { return s.eng.Repair(ctx) }

// Collect removes the blobs that nothing can name any more: of what was purged,
// once its grace is over, and of puts that failed. Nothing is removed while a disk
// is absent, nor in a store that was rebuilt and not accepted. Complete objects that no record names, of puts that were cut off before
// they were acknowledged or of a log that was restored from an older copy, are named in
// the report and left alone unless CollectOptions.Unclaimed is set.
func (s *Store) Collect(ctx context.Context, opts CollectOptions) (CollectReport, error) {
	return s.eng.Collect(ctx, opts)
}

// Compact puts the contents of small packs, and of those of which half is referred to no
// more, together in packs of up to 64 MiB, in the code of their policy: many small files
// that were put one by one take less space then, and purged ones give theirs back. The old
// packs go with Collect, once their grace is over.
func (s *Store) Compact(ctx context.Context, opts CompactOptions) (CompactReport, error) {
	return s.eng.Compact(ctx, opts)
}

// Reshape writes anew, in the code of their policy, contents that are in another one: what was
// put while disks were missing, which an open store does by itself once they are back, and on
// demand what was put under policies that were changed since. The old shards go with Collect,
// once their grace is over.
func (s *Store) Reshape(ctx context.Context, opts ReshapeOptions) (ReshapeReport, error) {
	return s.eng.Reshape(ctx, opts)
}

// Survival returns what a version can lose and still be read, by what is known: damage
// counts that reads and scrubs have found and nobody has repaired yet, and disks that are
// absent. No disk is asked. Without the commit log no name leads to the bytes, so of the
// disks no more may be lost than leave a copy of it. What has no bytes of its own, such as
// a directory, is in the log alone, and Shards is 0.
func (s *Store) Survival(ctx context.Context, obj Object) (Survival, error) {
	logs := Survival{Disks: max(0, len(s.logHomes())-1)}
	if obj.Deleted || !obj.Mode.IsRegular() || obj.Size == 0 {
		return logs, nil
	}
	c, err := s.cat.Content(ctx, obj.ID)
	if err != nil {
		return Survival{}, fmt.Errorf("survival of %s: %w", obj.Name, err)
	}
	if c.Upload == (store.UploadID{}) {
		return logs, nil
	}
	of, err := s.eng.Survives(ctx, c)
	if err != nil {
		return Survival{}, fmt.Errorf("survival of %s: %w", obj.Name, err)
	}
	of.Disks = min(of.Disks, logs.Disks)
	return of, nil
}

// Tolerance returns what everything in the store can lose at once and still be read, as
// Survival does for one version: the least of all. It looks at the records of all extents,
// in little memory; each has up to 256 MiB of objects. Where nothing but the log holds any
// bytes, Shards is 0.
func (s *Store) Tolerance(ctx context.Context) (Survival, error) {
	logs := max(0, len(s.logHomes())-1)
	of, err := s.eng.Tolerates(ctx)
	if err != nil {
		return Survival{}, fmt.Errorf("tolerance: %w", err)
	}
	if of == (Survival{}) && s.cat.Counts().Extents == 0 {
		of.Disks = logs
	}
	of.Disks = min(of.Disks, logs)
	return of, nil
}

// Stats are what the store holds, and totals since it was opened.
type Stats struct {
	store.Stats

	Objects   uint64 // names that are not deleted, symbolic links included
	Dirs      uint64 // directories
	Versions  uint64 // of all names, deletions included
	Bytes     int64  // of all versions
	Contents  uint64 // different contents
	Stored    int64  // bytes of different contents, before coding
	Inline    uint64 // contents that wait in the log to be packed
	Extents   uint64
	Queued    uint64 // rows of the repair queue: shards, and absent disks
	Condemned uint64 // acts of putting that nothing refers to, for Collect when their grace is over

	Unaccepted bool // it was rebuilt, and nothing is collected until a Rebuild with Accept
}

// Stats returns what the store holds, and totals since it was opened. It costs
// nothing.
func (s *Store) Stats() Stats {
	c := s.cat.Counts()
	return Stats{Stats: s.eng.Stats(), Objects: c.Objects, Dirs: c.Dirs, Versions: c.Versions, Bytes: c.Bytes, Contents: c.Contents,
		Stored: c.Stored, Inline: c.Inline, Extents: c.Extents, Queued: c.Repairs, Condemned: c.Uploads[store.UploadCondemned],
		Unaccepted: s.unaccepted}
}

// ReadOnly returns nil, or why the store takes no changes: the error names the
// copy of the commit log that is missing or failed, and matches fs.ErrPermission.
// Everything stays readable. Opening the store with all its directories is the
// cure, or with Options.AssumeLost if one is gone for good.
func (s *Store) ReadOnly() error {
	reason := s.journal.ReadOnly()
	if reason == nil {
		return nil
	}
	err := fmt.Errorf("store is read-only: %w: %w", fs.ErrPermission, reason)
	for _, h := range s.homes.all() {
		switch {
		case !h.present():
			err = fmt.Errorf("%w; directory %s: %w", err, h.path, h.err)
		case h.disk.Err() != nil:
			err = fmt.Errorf("%w; directory %w", err, h.disk.Err())
		case strings.Contains(reason.Error(), h.disk.ID().String()):
			err = fmt.Errorf("%w; %v is directory %s", err, h.disk.ID(), h.path)
		}
	}
	return err
}
