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

// WithLog returns o with a log of segments of that size, whose members are written
// one after the other if calm is set.
func WithLog(o Options, segment int64, calm bool) Options {
	o.log, o.calm = segment, calm
	return o
}

// PackInline moves the contents that are kept in the log into packs.
func (s *Store) PackInline(ctx context.Context) error { return s.eng.PackInline(ctx) }
