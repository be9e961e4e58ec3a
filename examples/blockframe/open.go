package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/blockframe/blockframe"
)

// seen is what a store told of while it was open.
type seen struct {
	mu       sync.Mutex
	damaged  map[damagedShard]bool
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
				if s.damaged == nil {
					s.damaged = map[damagedShard]bool{}
				}
				s.damaged[damagedShard{d.Extent.String(), d.Shard}] = true
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

// damagedShard is a shard by its extent and number.
type damagedShard struct {
	extent string
	shard  int
}

// counts returns a copy; damaged are shards.
func (s *seen) counts() (damaged, absent, repaired, blocks int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.damaged), s.absent, s.repaired, s.blocks
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
	log := &openLog{a: a}
	opts.Upkeep.Off = true // a command does one thing
	opts.AssumeLost, opts.NoCreate, opts.Logger = a.lost, true, slog.New(logHandler{a: a, open: log})
	st, err := blockframe.Open(ctx, opts)
	if err != nil {
		log.end(nil, nil)
		return explainOpen(err, places[0], opts.Dirs)
	}
	a.ill = func() string { return ill(st) }
	disks := st.Disks(ctx)
	a.names = diskNames(disks)
	log.end(st, disks)
	err = f(st)
	text := a.ill() // Close forgets
	a.ill = func() string { return text }
	return errors.Join(err, st.Close())
}

// diskNames returns what puts the directories of disks in the place of their identities,
// which tell a person nothing.
func diskNames(disks []blockframe.Disk) *strings.Replacer {
	var pairs []string
	for _, d := range disks {
		if d.Path != "" {
			pairs = append(pairs, "backend "+d.ID.String(), d.Path, d.ID.String(), d.Path)
		}
	}
	return strings.NewReplacer(pairs...)
}

// reading are the options of commands that only look: they leave repairs to those
// that read or scrub.
func reading() blockframe.Options { return blockframe.Options{NoRepair: true} }

// logger returns one that prints warnings as remarks.
func (a *app) logger() *slog.Logger { return slog.New(logHandler{a: a}) }

// logHandler prints what the store logs, from warnings on.
type logHandler struct {
	a     *app
	open  *openLog // keeps what is logged until the store is open, or nil
	attrs []slog.Attr
}

func (h logHandler) Enabled(_ context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && !h.a.quiet
}

func (h logHandler) Handle(_ context.Context, r slog.Record) error {
	if h.a.json && r.Message == damageMessage {
		return writeJSON(h.a.stderr, damageOf(r))
	}
	var b strings.Builder
	b.WriteString(r.Message)
	add := func(at slog.Attr) bool { fmt.Fprintf(&b, ", %s %v", at.Key, at.Value); return true }
	for _, at := range h.attrs {
		add(at)
	}
	r.Attrs(add)
	if h.open == nil || !h.open.keep(r.Message, b.String()) {
		h.a.remark("%s", b.String())
	}
	return nil
}

// damageMessage is how a store logs that a shard, or a disk, is damaged.
const damageMessage = "damage found"

// damageRow is a shard that was found damaged; without shard it is a whole disk that
// cannot be asked.
type damageRow struct {
	Type  string `json:"type"` // damage
	Path  string `json:"path"`
	Name  string `json:"name,omitempty"`  // of an object that has bytes there
	Shard *int64 `json:"shard,omitempty"` // of the extent
	Block *int64 `json:"block,omitempty"` // of the shard, the first that was found; none: the whole shard
	Error string `json:"error"`
}

func damageOf(r slog.Record) damageRow {
	row := damageRow{Type: "damage"}
	r.Attrs(func(at slog.Attr) bool {
		number := func() *int64 { n := at.Value.Int64(); return &n }
		switch at.Key {
		case "path":
			row.Path = at.Value.String()
		case "name":
			row.Name = at.Value.String()
		case "shard":
			row.Shard = number()
		case "block":
			row.Block = number()
		case "err":
			row.Error = fmt.Sprint(at.Value)
		}
		return true
	})
	return row
}

func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return logHandler{h.a, h.open, append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)}
}

func (h logHandler) WithGroup(string) slog.Handler { return h }
