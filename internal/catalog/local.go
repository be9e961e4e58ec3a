package catalog

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/journal"
	"github.com/blockframe/blockframe/store"
)

// What one frame of the log takes at most.
const (
	frameRecords = 4096
	frameBytes   = 2 << 20
)

// proveAfter is how long after the last ack the frame before it is proven.
const proveAfter = 50 * time.Millisecond

// proveAtMost bounds the wait, doubled each time, to prove it again on full disks.
const proveAtMost = time.Minute

// applyAgain is the time between two tries to apply what the view had no room for.
const applyAgain = 100 * time.Millisecond

// LocalOptions says what a Local sequencer is made of. Fields are as in Options.
type LocalOptions struct {
	Journal    *journal.Journal
	NodeID     [16]byte
	Clock      func() time.Time
	Elapsed    func() time.Duration
	ProveAfter time.Duration
	Logger     *slog.Logger
}

// Local is the Sequencer of one machine: group commit into the journal. While
// one frame is being synced, proposals gather for the next; while that one is
// synced, the first is applied and acknowledged.
type Local struct {
	opts        LocalOptions
	machine     Machine
	incarnation uint64

	in      chan *proposal
	frames  chan *group // appended, to be applied in order
	closing chan struct{}
	once    sync.Once
	wg      sync.WaitGroup
	broken  atomic.Pointer[error] // why nothing is applied any more
	full    atomic.Pointer[error] // why nothing is applied for now: a lack of room

	last  time.Time     // log time of the newest record in the log
	since time.Duration // reading of Elapsed for it
}

// proposal is a record on its way.
type proposal struct {
	origin   Origin
	each     bool
	commands []byte
	done     chan outcome // has room for the one outcome
}

type outcome struct {
	results []store.Result
	err     error
}

// group is what goes into one frame.
type group struct {
	proposals []*proposal
	records   [][]byte
	size      int
	first     uint64
	last      time.Time
	since     time.Duration
}

// NewLocal returns a Local sequencer. It does nothing before Start.
func NewLocal(opts LocalOptions) *Local {
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	if opts.Elapsed == nil {
		start := time.Now()
		opts.Elapsed = func() time.Duration { return time.Since(start) }
	}
	if opts.ProveAfter == 0 {
		opts.ProveAfter = proveAfter
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	var b [8]byte
	rand.Read(b[:])
	return &Local{opts: opts, incarnation: binary.BigEndian.Uint64(b[:]),
		in: make(chan *proposal), frames: make(chan *group, 1), closing: make(chan struct{})}
}

// Start implements Sequencer.
func (l *Local) Start(m Machine) error {
	l.machine = m
	l.last = m.LogTime()
	l.since = l.opts.Elapsed()
	l.wg.Go(l.append)
	l.wg.Go(l.apply)
	return nil
}

// Close implements Sequencer. What was not taken into the log yet is refused.
func (l *Local) Close() error {
	l.once.Do(func() { close(l.closing) })
	l.wg.Wait()
	return nil
}

// Propose implements Sequencer.
func (l *Local) Propose(ctx context.Context, rec store.Record) ([]store.Result, error) {
	commands, err := EncodeCommands(rec.Commands)
	if err != nil {
		return nil, err
	}
	p := &proposal{origin: OriginOf(ctx), each: rec.Each, commands: commands, done: make(chan outcome, 1)}
	select {
	case l.in <- p:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.closing:
		return nil, fmt.Errorf("catalog: %w", fs.ErrClosed)
	}
	select {
	case out := <-p.done:
		return out.results, out.err
	case <-ctx.Done():
	}
	return nil, fmt.Errorf("%w: %w", journal.ErrUncertain, ctx.Err())
}

// append is the goroutine that writes frames.
func (l *Local) append() {
	defer close(l.frames)
	prove := time.NewTimer(time.Hour)
	prove.Stop()
	defer prove.Stop()
	wait := l.opts.ProveAfter
	for {
		select {
		case p := <-l.in:
			l.commit(l.gather(p))
			if wait = l.opts.ProveAfter; wait > 0 {
				prove.Reset(wait)
			}
		case <-prove.C:
			if l.prove() {
				wait = min(2*wait, max(proveAtMost, l.opts.ProveAfter))
				prove.Reset(wait)
			}
		case <-l.closing:
			l.prove()
			return
		}
	}
}

// prove writes the empty frame that proves the one before. It reports whether
// only a full disk stood in the way, so that another try may succeed.
func (l *Local) prove() (again bool) {
	err := l.opts.Journal.Prove()
	if err != nil && !errors.Is(err, journal.ErrReadOnly) {
		l.opts.Logger.Warn("the last frame of the log is not proven", "err", err)
	}
	return errors.Is(err, store.ErrNoSpace)
}

// gather takes the proposals that wait now, as far as a frame goes.
func (l *Local) gather(p *proposal) *group {
	g := &group{last: l.last, since: l.opts.Elapsed()}
	for {
		l.stamp(g, p)
		if len(g.records) >= frameRecords || g.size >= frameBytes {
			return g
		}
		if p = l.waiting(); p == nil {
			return g
		}
	}
}

// turns is how often gather lets others run before it takes the group as it is: those
// who were just acknowledged are about to propose again, and a sync costs the same for
// all of them.
const turns = 8

// waiting returns a proposal that waits now, or nil.
func (l *Local) waiting() *proposal {
	for range turns {
		select {
		case p := <-l.in:
			return p
		default:
			runtime.Gosched()
		}
	}
	return nil
}

// stamp adds a proposal to the group. Log time is the time of day, but never goes
// back; see meta.stamp for the clock of retention.
func (l *Local) stamp(g *group, p *proposal) {
	s := Stamp{Time: l.opts.Clock(), Node: l.opts.NodeID, Incarnation: l.incarnation}
	if !s.Time.After(g.last) || !loggable(s.Time) {
		s.Time = g.last.Add(1)
	}
	if len(g.records) == 0 {
		s.Elapsed = max(0, g.since-l.since)
	}
	record, err := EncodeRecord(s, p.origin, p.each, p.commands)
	if err != nil {
		p.done <- outcome{err: err}
		return
	}
	g.last = s.Time
	g.proposals = append(g.proposals, p)
	g.records = append(g.records, record)
	g.size += len(record)
}

// commit writes a group as one frame, and passes it on to be applied.
func (l *Local) commit(g *group) {
	if len(g.records) == 0 {
		return
	}
	err := l.ready()
	if err == nil {
		g.first, err = l.opts.Journal.Append(g.records)
	}
	switch {
	case err == nil:
		// Durable on all members: from here on the records take effect,
		// at the latest when the log is opened again.
		l.last, l.since = g.last, g.since
		l.frames <- g
	case errors.Is(err, journal.ErrTooLarge) && len(g.records) > 1:
		l.split(g)
	default:
		g.fail(refused(err))
	}
}

// split commits the records of a group that no frame has room for one by one.
func (l *Local) split(g *group) {
	for i, p := range g.proposals {
		one := &group{proposals: []*proposal{p}, records: g.records[i : i+1], last: g.last, since: g.since}
		if i > 0 {
			one.since = l.since
		}
		l.commit(one)
	}
}

func (l *Local) ready() error {
	if err := l.broken.Load(); err != nil {
		return fmt.Errorf("%w: %w", fs.ErrPermission, *err)
	}
	if err := l.full.Load(); err != nil {
		return *err
	}
	return l.machine.Ready()
}

// refused makes a log that takes no records a lack of permission.
func refused(err error) error {
	if errors.Is(err, journal.ErrReadOnly) {
		return fmt.Errorf("%w: %w", fs.ErrPermission, err)
	}
	return err
}

func (g *group) fail(err error) {
	for _, p := range g.proposals {
		p.done <- outcome{err: err}
	}
}

// apply is the goroutine that applies frames in order, and acknowledges them.
func (l *Local) apply() {
	for g := range l.frames {
		if err := l.broken.Load(); err != nil {
			g.fail(fmt.Errorf("%w: %w", journal.ErrUncertain, *err))
			continue
		}
		results, err := l.machine.Apply(g.first, g.records)
		if err != nil {
			if err := l.applyLate(g, err); err != nil {
				l.broken.Store(&err)
			}
			l.full.Store(nil)
			continue
		}
		for i, p := range g.proposals {
			p.done <- outcome{results: results[i]}
		}
	}
}

// applyLate applies a group for which there was no room, once there is, and returns
// why that cannot be. Meanwhile nothing is logged. Nobody waits for the results any
// more: what was proposed takes effect all the same, as after an ErrUncertain it may.
func (l *Local) applyLate(g *group, err error) error {
	why := err // stays as it is: others read it
	if errors.Is(err, durable.ErrNoSpace) {
		l.full.Store(&why)
	} else {
		l.broken.Store(&why)
	}
	g.fail(fmt.Errorf("%w: logged, not applied: %w", journal.ErrUncertain, err))
	again := time.NewTicker(applyAgain)
	defer again.Stop()
	for errors.Is(err, durable.ErrNoSpace) {
		select {
		case <-again.C:
		case <-l.closing:
			return err
		}
		_, err = l.machine.Apply(g.first, g.records)
	}
	return err
}
