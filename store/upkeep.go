package store

import (
	"cmp"
	"context"
	"math/rand/v2"
	"time"

	"golang.org/x/time/rate"
)

// Upkeep says what an open store does by itself, in the background, to stay well. The
// zero value is the default of each field, and all of it is on.
type Upkeep struct {
	// Off: nothing is looked at, moved or merged unless a method is called for it.
	// Repairs of what is found damaged are not meant: see Options.NoRepair.
	Off bool

	// After is how long after it was opened a store begins with any of it, 1 minute:
	// who opens one for a moment does not pay for it.
	After time.Duration

	// Quick is the time between quick passes of scrub, 1 hour, and Deep that between
	// deep ones, 30 days, each up to a tenth more or less. Negative: none.
	Quick time.Duration
	Deep  time.Duration

	// NoReshape leaves what was put in a narrower code, while backends were missing, to
	// Store.Reshape once they are back.
	NoReshape bool

	// NoCompact leaves small packs, and what of packs is referred to no more, to
	// Store.Compact.
	NoCompact bool

	// Rate bounds the bytes of all this together that are read in a second, 32 MiB.
	// Negative: nothing does.
	Rate int64
}

// withDefaults fills in what is not given.
func (u Upkeep) withDefaults() Upkeep {
	u.After = cmp.Or(u.After, time.Minute)
	u.Quick = cmp.Or(u.Quick, time.Hour)
	u.Deep = cmp.Or(u.Deep, 30*24*time.Hour)
	u.Rate = cmp.Or(u.Rate, 32*miB)
	return u
}

// jitter returns d, or up to a tenth more or less: stores that were opened together do not
// all begin at once.
func jitter(d time.Duration) time.Duration {
	return d + time.Duration((rand.Float64()-0.5)/5*float64(d))
}

// pause waits for d, unless ctx ends first: then the error is that of ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// What is done by itself gives way to reads and puts: after a piece of work during which
// there were any it rests for yieldTimes as long as the piece took, at most yieldMost, or
// until there were none for yieldQuiet. So while others are at work it takes a tenth of
// the time, never more and never none; that is Garage's tranquility (src/util/tranquilizer.rs)
// with the "while others are at work" of MinIO's dynamicSleeper.
const (
	yieldTimes = 9
	yieldQuiet = 100 * time.Millisecond
	yieldMost  = 10 * time.Second
)

// pacer holds work back: to a rate, and behind that of others. A nil pacer does nothing.
type pacer struct {
	s     *Store
	limit *rate.Limiter // nil: no bound
	yield bool          // to reads and puts
	seen  uint64        // of s.busy, when it was looked at last
}

// newPacer returns a pacer for so many bytes a second, unless that is less than 1.
func newPacer(s *Store, bytes int64, yield bool) *pacer {
	p := &pacer{s: s, yield: yield}
	if bytes > 0 {
		p.limit = rate.NewLimiter(rate.Limit(bytes), int(bytes))
	}
	return p
}

// like returns a pacer with a view of its own of what others do, for the same bytes.
func (p *pacer) like() *pacer { return &pacer{s: p.s, limit: p.limit, yield: p.yield} }

// take waits until n bytes more may be read.
func (p *pacer) take(ctx context.Context, n int64) error {
	if p == nil || p.limit == nil {
		return ctx.Err()
	}
	for most := int64(p.limit.Burst()); n > 0; n -= most {
		if err := p.limit.WaitN(ctx, int(min(n, most))); err != nil {
			return err
		}
	}
	return nil
}

// rest gives way to others after a piece of work that took so long.
func (p *pacer) rest(ctx context.Context, worked time.Duration) error {
	if p == nil || !p.yield {
		return ctx.Err()
	}
	now := p.s.busy.Load()
	for left := min(yieldTimes*worked, yieldMost); left > 0 && now != p.seen; {
		step := min(left, yieldQuiet)
		if err := pause(ctx, step); err != nil {
			return err
		}
		left -= step
		p.seen, now = now, p.s.busy.Load()
		if step < yieldQuiet {
			break // too short to say that it is quiet
		}
	}
	p.seen = p.s.busy.Load()
	return ctx.Err()
}
