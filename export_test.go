package blockframe

import (
	"context"
	"time"

	"github.com/blockframe/blockframe/internal/durable"
)

// WithFS returns o with the files of fs.
func WithFS(o Options, fs durable.FS) Options { o.fs = fs; return o }

// WithClock returns o with another clock.
func WithClock(o Options, now func() time.Time) Options { o.clock = now; return o }

// PackInline moves the contents that are kept in the log into packs.
func (s *Store) PackInline(ctx context.Context) error { return s.eng.PackInline(ctx) }

// WithPause returns o with another time that short contents wait to be packed.
func WithPause(o Options, d time.Duration) Options { o.pause = d; return o }

// WithSegment returns o with smaller segments of the log, which are quicker to make.
func WithSegment(o Options, size int64) Options { o.segment = size; return o }

// WithLog is WithSegment, with one operation after the other if calm is set, where that
// can be had.
func WithLog(o Options, segment int64, calm bool) Options {
	o.segment, o.calm = segment, calm
	return o
}

// FillLogs lets directories take copies of the log until there are enough, as it happens
// in the background.
func FillLogs(s *Store) error { return s.fillLogs() }
