package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"

	"github.com/blockframe/blockframe"
)

// seen is what a store told of while it was open.
type seen struct {
	mu       sync.Mutex
	damaged  int // shards or blocks of them found bad
	absent   int // found on a disk that is not there
	repaired int // shards made whole
	blocks   int // computed for them
}

// events returns the functions that keep count.
func (s *seen) events() blockframe.Events {
	return blockframe.Events{
		Damaged: func(d blockframe.Damage) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if errors.Is(d.Err, blockframe.ErrUnavailable) {
				s.absent++
			} else {
				s.damaged++
			}
		},
		Repaired: func(r blockframe.Repaired) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.repaired++
			s.blocks += r.Blocks
		},
	}
}

// counts returns a copy.
func (s *seen) counts() (damaged, absent, repaired, blocks int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.damaged, s.absent, s.repaired, s.blocks
}

// with opens the store, calls f, and closes it. opts.Dirs are filled in.
func (a *app) with(ctx context.Context, opts blockframe.Options, f func(st *blockframe.Store) error) error {
	places, err := a.places()
	if err != nil {
		return err
	}
	if opts.Dirs, err = locate(places); err != nil {
		return err
	}
	opts.NoCreate, opts.Logger = true, a.logger()
	st, err := blockframe.Open(ctx, opts)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w\n  is the path right, and is every disk attached? blockframe --store %s init makes a new store", err, quoted(places[0]))
	}
	if err != nil {
		return err
	}
	return errors.Join(f(st), st.Close())
}

// reading are the options of commands that only look: they leave repairs to those
// that read or scrub.
func reading() blockframe.Options { return blockframe.Options{NoRepair: true} }

// logger returns one that prints warnings as remarks.
func (a *app) logger() *slog.Logger { return slog.New(logHandler{a: a}) }

// logHandler prints what the store logs, from warnings on.
type logHandler struct {
	a     *app
	attrs []slog.Attr
}

func (h logHandler) Enabled(_ context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && !h.a.quiet
}

func (h logHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Message)
	add := func(at slog.Attr) bool { fmt.Fprintf(&b, ", %s %v", at.Key, at.Value); return true }
	for _, at := range h.attrs {
		add(at)
	}
	r.Attrs(add)
	h.a.remark("%s", b.String())
	return nil
}

func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return logHandler{h.a, append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)}
}

func (h logHandler) WithGroup(string) slog.Handler { return h }
