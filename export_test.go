package blockframe

import (
	"context"
	"time"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/journal"
	"github.com/blockframe/blockframe/store"
)

// WithFS returns o with the files of fs.
func WithFS(o Options, fs durable.FS) Options { o.fs = fs; return o }

// WithClock returns o with another clock.
func WithClock(o Options, now func() time.Time) Options { o.clock = now; return o }

// PackInline moves the contents that are kept in the log into packs.
func (s *Store) PackInline(ctx context.Context) error { return s.eng.PackInline(ctx) }

// WithPause returns o with another time that short contents wait to be packed.
func WithPause(o Options, d time.Duration) Options { o.pause = d; return o }

// WithSegment returns o with smaller segments of the log, which are quicker to make. They are
// kept outside of the log only when a test calls KeepPass.
func WithSegment(o Options, size int64) Options {
	o.segment, o.keepPause, o.snapshotEvery = size, -1, 1<<30
	return o
}

// WithSnapshots returns o with a snapshot for every so many segments.
func WithSnapshots(o Options, every int) Options { o.snapshotEvery = every; return o }

// KeepPass has the keeper do what there is to do.
func (s *Store) KeepPass(ctx context.Context) error { return s.keeper.pass(ctx) }

// Log returns the segments of the log.
func (s *Store) Log() []journal.Segment { return s.journal.Segments() }

// Kept returns the segments and snapshots that are kept.
func (s *Store) Kept(ctx context.Context) ([]store.Kept, error) { return s.cat.Kept(ctx) }

// WithLog is WithSegment, with one operation after the other if calm is set, where that
// can be had.
func WithLog(o Options, segment int64, calm bool) Options {
	o = WithSegment(o, segment)
	o.calm = calm
	return o
}

// FillLogs lets directories take copies of the log until there are enough, as it happens
// in the background.
func FillLogs(s *Store) error { return s.fillLogs() }

// WithKeepPause returns o with another time from one look of the keeper to the next.
func WithKeepPause(o Options, d time.Duration) Options { o.keepPause = d; return o }

// RowsRead returns how many rows of the index were looked at since the store was opened.
func (s *Store) RowsRead() int64 { return s.cat.RowsRead() }
