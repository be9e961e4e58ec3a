package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	usageFor   = 2 * time.Second  // how long a reading of free space is good
	retryAfter = 5 * time.Second  // before a backend that is off is tried again
	failLimit  = 3                // failures in a row that take a backend off
	usageTime  = 10 * time.Second // for an answer about free space
	hedgeLeast = 20 * time.Millisecond
)

// disk is a backend and what the store knows of its health. A backend that
// failed failLimit times in a row, or said that it is unavailable, is off: new
// extents avoid it, and it is tried again from time to time. So do they one that does
// not come back from a call.
type disk struct {
	Backend
	id    BackendID
	lat   latency
	stuck atomic.Int32 // reads that nobody waits for any more

	trouble troubles

	mu    sync.Mutex
	usage Usage
	asked time.Time // of usage, or of the last try while off
	known bool      // usage was read, or could not be
	fails int
	off   error          // why the backend is not used for new extents
	left  map[*call]bool // calls that nobody waits for any more
}

// saw takes note of how an operation ended. Errors that say nothing of the
// backend's health, such as a full disk, count as success.
func (d *disk) saw(err error) {
	d.trouble.failed(err)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err == nil:
		d.fails, d.off = 0, nil
	case errors.Is(err, ErrUnavailable):
		d.off, d.asked = err, time.Now()
	case isHealth(err):
		if d.fails++; d.fails >= failLimit {
			d.off, d.asked = err, time.Now()
		}
	}
}

// isHealth reports whether an error says that the backend is not well.
func isHealth(err error) bool {
	return !errors.Is(err, ErrNoSpace) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) &&
		!isAbsent(err) && !errors.Is(err, fs.ErrExist)
}

// target returns the backend as placement sees it, false while it is off.
func (d *disk) target(ctx context.Context, reserve float64) (Target, bool) {
	if d.due() {
		u, err := d.Usage(ctx)
		d.learned(u, err, ctx.Err() != nil)
	}
	hangs := d.hangs()
	d.mu.Lock()
	defer d.mu.Unlock()
	return Target{ID: d.id, Free: d.usage.Free - int64(reserve*float64(d.usage.Total))}, d.off == nil && hangs == nil
}

// Usage is that of the backend, as far as it answers.
func (d *disk) Usage(ctx context.Context) (Usage, error) {
	var u Usage
	_, err := d.await(ctx, usageTime, "usage", "", func() (err error) { u, err = d.Backend.Usage(ctx); return err }, nil)
	if err != nil {
		return Usage{}, err // u may be written to yet
	}
	return u, nil
}

// learned takes note of an answer of Usage. One that was given up on says nothing of
// the backend: the next caller asks again.
func (d *disk) learned(u Usage, err error, gaveUp bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err == nil:
		d.usage, d.off, d.fails, d.known = u, nil, 0, true
	case gaveUp:
		d.asked = time.Time{}
	default:
		d.usage, d.off, d.known = Usage{}, fmt.Errorf("usage: %w", err), true
	}
}

// due reports whether it is time to ask the backend for its space, and for a sign
// of life if it is off. Of several callers one is told so; at first, while nothing
// is known of the backend, all are.
func (d *disk) due() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	every := usageFor
	if d.off != nil {
		every = retryAfter
	}
	now := time.Now()
	if d.known && now.Sub(d.asked) < every {
		return false
	}
	d.asked = now
	return true
}

// wrote counts bytes against the reading of free space, so that many puts between
// two readings do not overfill a backend.
func (d *disk) wrote(n int64) {
	d.mu.Lock()
	d.usage.Free -= n
	d.mu.Unlock()
}

// place chooses backends for the shards of an extent of so many bytes; first says that
// its stream begins with it. The code of a stream stays as it was chosen at its beginning:
// when backends fail later, shards that find no place on the others are placed on the
// failed or absent ones, where they cannot be written, and are missing; if these do not
// suffice, on those that began to drain.
func (s *Store) place(ctx context.Context, id ExtentID, ref stream, length int64, first bool) ([]BackendID, error) {
	targets := s.targets(ctx, s.opts.Reserve)
	if err := ctx.Err(); err != nil {
		return nil, err // what backends did not answer then says nothing of them
	}
	if s.registered() == 0 {
		return nil, fmt.Errorf("%w: all backends are draining", ErrUnavailable)
	}
	if least := min(2, s.registered()); len(targets) < least {
		return nil, fmt.Errorf("%w: %d of %d backends can be written to, %d are needed: %w", ErrUnavailable, len(targets), s.registered(), least, s.ill())
	}
	need := (length+int64(ref.code.K)-1)/int64(ref.code.K) + headerSize + 4*trailerSize
	per := ref.policy.per(ref.code.Shards(), s.registered())
	places, err := Place(id, ref.code.Shards(), per, need, targets)
	for _, draining := range []bool{false, true} {
		if err != nil && !first {
			targets = append(targets, s.failed(targets, int64(per)*need, draining)...)
			places, err = Place(id, ref.code.Shards(), per, need, targets)
		}
	}
	if err == nil {
		for _, p := range places {
			s.disk(p).wrote(need)
		}
	}
	return places, err
}

// targets returns the backends that shards may be placed on, with what is free there
// beyond a reserve.
func (s *Store) targets(ctx context.Context, reserve float64) []Target {
	var list []Target
	set := s.set.Load()
	for id, d := range set.here {
		if set.draining[id] {
			continue
		}
		if t, ok := d.target(ctx, reserve); ok {
			list = append(list, t)
		}
	}
	return list
}

// failed returns the backends that are not among targets, absent ones included, each with so
// much room: those that are draining, or the others.
func (s *Store) failed(targets []Target, room int64, draining bool) (list []Target) {
	set := s.set.Load()
	for _, id := range slices.AppendSeq(slices.Clone(set.absent), maps.Keys(set.here)) {
		if set.draining[id] == draining && !slices.ContainsFunc(targets, func(t Target) bool { return t.ID == id }) {
			list = append(list, Target{ID: id, Free: room})
		}
	}
	return list
}

// ill returns why backends are not used for new extents.
func (s *Store) ill() error {
	var errs []error
	for _, id := range s.set.Load().absent {
		errs = append(errs, absent(id).gone())
	}
	for _, d := range s.here() {
		hangs := d.hangs()
		d.mu.Lock()
		if err := cmp.Or(hangs, d.off); err != nil {
			errs = append(errs, fmt.Errorf("backend %v: %w", d.id, err))
		}
		d.mu.Unlock()
	}
	if len(errs) == 0 {
		return ErrUnavailable // they came back just now
	}
	return errors.Join(errs...)
}

// latency keeps the median of the last reads of a backend.
type latency struct {
	median atomic.Int64 // in nanoseconds

	mu   sync.Mutex
	ring [63]time.Duration
	n    int
}

// add takes note of a read. The median is computed anew every 16 of them.
func (l *latency) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ring[l.n%len(l.ring)] = d
	if l.n++; l.n%16 == 0 {
		sorted := l.ring
		have := sorted[:min(l.n, len(sorted))]
		slices.Sort(have)
		l.median.Store(int64(have[len(have)/2]))
	}
}

// usual returns the median of the last reads, by block.
func (l *latency) usual() time.Duration { return time.Duration(l.median.Load()) }

// patience returns how long a read of n blocks of an extent may take before it is
// hedged: three times what is usual for its backends, at least 20 ms. What counts is
// the middle one of them: one that is always slow shall not be waited for always.
func (x *handle) patience(n int) time.Duration {
	usual := make([]time.Duration, 0, 16)
	for _, d := range x.disks {
		usual = append(usual, d.lat.usual())
	}
	slices.Sort(usual)
	return max(hedgeLeast, 3*usual[(len(usual)-1)/2]*time.Duration(n))
}

// maxStuck is how many reads of a backend may be under way that nobody waits for:
// from then on it is the last one to be asked. So one that does not answer at all
// gathers a few buffers and goroutines, and costs no patience.
const maxStuck = 4

// slow reports whether other backends should be asked first.
func (d *disk) slow() bool { return d.stuck.Load() >= maxStuck }

// errand is a read of a backend that may be given up on.
type errand struct {
	d     *disk
	state atomic.Int32 // 0 under way, 1 ended, 2 given up on
}

// end takes note of the end, and reports whether somebody waits for it.
func (o *errand) end() bool {
	if o.state.CompareAndSwap(0, 1) {
		return true
	}
	o.d.stuck.Add(-1)
	return false
}

// giveUp gives up on the read, and reports whether it is still under way.
func (o *errand) giveUp() bool {
	if !o.state.CompareAndSwap(0, 2) {
		return false
	}
	o.d.stuck.Add(1)
	return true
}
