package kv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/blockframe/blockframe/internal/durable"
)

// guard receives what Pebble has to say, as its Logger and its EventListener,
// and keeps the first thing that makes the view untrustworthy.
type guard struct {
	log    *slog.Logger
	once   sync.Once
	cause  error         // set before failed is closed
	failed chan struct{} // closed once the view has failed
	fatal  atomic.Bool   // Pebble stands still, locks held
	still  sync.Once
	halted chan struct{} // closed when fatal is set

	closing chan struct{} // closed when Pebble is about to be
	rests   atomic.Int64  // calls of rest after the failure
}

func newGuard(log *slog.Logger) *guard {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &guard{log: log, failed: make(chan struct{}), halted: make(chan struct{}), closing: make(chan struct{})}
}

// poison keeps err, if it is the first.
func (g *guard) poison(err error) {
	g.once.Do(func() {
		g.cause = fmt.Errorf("%w: %w", ErrFailed, err)
		close(g.failed)
		g.log.Info("view failed", "err", Brief(err)) // whoever has the view says what becomes of it
	})
}

func (g *guard) err() error {
	select {
	case <-g.failed:
		return g.cause
	default:
		return nil
	}
}

// Infof is part of pebble.Logger.
func (g *guard) Infof(format string, args ...any) {
	if g.log.Enabled(context.Background(), slog.LevelDebug) {
		g.log.Debug(fmt.Sprintf(format, args...))
	}
}

// Errorf is part of pebble.Logger. Pebble tells of damage by its stacks, for hundreds of
// lines; what matters of that comes through events.
func (g *guard) Errorf(format string, args ...any) {
	g.log.Info(firstLine(fmt.Sprintf(format, args...)))
}

// Brief returns the first line of an error of a view, which may go on with stacks.
func Brief(err error) string { return firstLine(err.Error()) }

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// Fatalf is part of pebble.Logger. It poisons the view and stops the goroutine
// where it stands. Returning would let Pebble go on as if nothing had happened.
// Panicking and runtime.Goexit run deferred unlocks of a mutex that is not held
// at some of the places that call Fatalf, which the Go runtime answers with the
// end of the process. So every call that may end up here, or wait for a
// goroutine that did, goes through DB.run.
func (g *guard) Fatalf(format string, args ...any) {
	g.halt()
	err := fmt.Errorf(format, args...)
	for _, arg := range args {
		if cause, ok := arg.(error); ok {
			err = fmt.Errorf("%w (%w)", err, durable.Classify(cause))
		}
	}
	g.poison(err)
	select {}
}

// halt notes that Pebble cannot be closed any more.
func (g *guard) halt() {
	g.fatal.Store(true)
	g.still.Do(func() { close(g.halted) })
}

// events poisons the view when a background write failed or damage was found.
// Without a DataCorruption of ours, Pebble would call Fatalf for it.
func (g *guard) events() pebble.EventListener {
	return pebble.EventListener{
		BackgroundError: g.poison,
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			if g.err() == nil { // its text is dear, and only the first counts
				g.poison(errors.New(info.String()))
			}
			g.rest()
		},
	}
}

// rest comes after each read that fails, and slows down those that come after the
// view has failed. Pebble looks at the tables that were there when it was opened,
// and what it cannot read it reads again, at once and for ever, until it is closed.
// Other reads hardly notice: the pause grows from nothing.
func (g *guard) rest() {
	if g.err() == nil {
		return
	}
	t := time.NewTimer(min(time.Duration(g.rests.Add(1))*time.Millisecond, pause))
	defer t.Stop()
	select {
	case <-t.C:
	case <-g.closing:
	}
}

// run calls f, which may take locks of Pebble, and returns its error, or that of
// the view as soon as it fails: then f is left behind.
func (db *DB) run(f func() error) error {
	done := make(chan error, 1)
	db.inside.Add(1)
	go func() {
		err := db.recovered(f)
		db.leave() // before done: who waits for it may be about to close the view
		done <- err
	}()
	select {
	case err := <-done:
		if failed := db.Failed(); failed != nil {
			return failed
		}
		return err
	case <-db.guard.failed:
		return db.guard.cause
	}
}

// finish calls f and returns its error, or that of the view if a goroutine stands
// still inside Pebble: f may stand behind it, and is left behind.
func (db *DB) finish(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- db.recovered(f) }()
	select {
	case err := <-done:
		return err
	case <-db.guard.halted:
		<-db.guard.failed // any moment
		return db.Failed()
	}
}

// recovered calls f and takes a panic for a fatal message.
func (db *DB) recovered(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			db.guard.halt() // who knows which locks it held
			db.guard.log.Debug("panic in the view", "stack", string(debug.Stack()))
			db.guard.poison(fmt.Errorf("panic: %v", p))
			err = db.Failed()
		}
	}()
	return f()
}

// check poisons the view on an error of a read: what cannot be read cannot be
// trusted to be absent either.
func (db *DB) check(err error) error {
	if err == nil {
		return nil
	}
	db.guard.poison(err)
	return db.Failed()
}
