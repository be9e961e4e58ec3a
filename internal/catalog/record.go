package catalog

import (
	"context"
	"fmt"
	"io/fs"
	"time"

	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/store"
)

// MaxRecord is the size, in bytes, of an encoded record at most.
const MaxRecord = 1 << 20

// recordVersion is the first byte of every record.
const recordVersion = 1

const (
	maxOrigin   = 255 // bytes of each string of an Origin
	minCommand  = 5   // bytes of a command: kind and length
	maxCommands = MaxRecord / minCommand
)

// Origin says where a record comes from. All strings may be empty and have at
// most 255 bytes.
type Origin struct {
	Source  string // part of the program, or kind of client
	Actor   string // on whose behalf
	Request string // id of the request, for people and for retries
}

type originKey struct{}

// WithOrigin returns a context whose commits carry o.
func WithOrigin(ctx context.Context, o Origin) context.Context {
	return context.WithValue(ctx, originKey{}, o)
}

// OriginOf returns what WithOrigin put into ctx.
func OriginOf(ctx context.Context) Origin {
	o, _ := ctx.Value(originKey{}).(Origin)
	return o
}

// Stamp is what a sequencer adds to a record: the only clock and the only
// identity that the state machine knows.
type Stamp struct {
	Time        time.Time     // log time; later than that of any record before
	Elapsed     time.Duration // since the record before, by a clock that cannot be set, if that was of the same incarnation
	Node        [16]byte
	Incarnation uint64 // of the sequencer, different each time it starts
}

// EncodeCommands returns the encoding of the commands, for EncodeRecord. What
// has no encoding, or inline content of another id, is fs.ErrInvalid, before anything is
// proposed.
func EncodeCommands(commands []store.Command) ([]byte, error) {
	e := frame.Encoder{B: make([]byte, 0, sizeOf(commands))}
	e.U32(uint32(len(commands)))
	for _, c := range commands {
		if c == nil {
			return nil, invalid("nil command")
		}
		e.U8(uint8(c.CommandKind()))
		at := len(e.B)
		e.U32(0)
		if err := encodeCommand(&e, c); err != nil {
			return nil, err
		}
		body := frame.Encoder{B: e.B[:at]}
		body.U32(uint32(len(e.B) - at - 4))
	}
	if len(e.B) > MaxRecord-1024 {
		return nil, invalid("commands of %d bytes do not fit a record of %d", len(e.B), MaxRecord)
	}
	return e.B, nil
}

// sizeOf returns about how many bytes the commands take.
func sizeOf(commands []store.Command) int {
	n := 4
	for _, c := range commands {
		n += 256
		if p, ok := c.(store.Put); ok {
			n += len(p.Name) + len(p.Inline)
		}
	}
	return n
}

// EncodeRecord returns a record of commands encoded before.
func EncodeRecord(s Stamp, o Origin, each bool, commands []byte) ([]byte, error) {
	if len(o.Source) > maxOrigin || len(o.Actor) > maxOrigin || len(o.Request) > maxOrigin {
		return nil, invalid("source, actor or request id is over %d bytes", maxOrigin)
	}
	e := frame.Encoder{B: make([]byte, 0, 64+len(o.Source)+len(o.Actor)+len(o.Request)+len(commands))}
	e.U8(recordVersion)
	e.Bool(each)
	e.I64(s.Time.UnixNano())
	e.I64(int64(s.Elapsed))
	e.Raw(s.Node[:])
	e.U64(s.Incarnation)
	e.String(o.Source)
	e.String(o.Actor)
	e.String(o.Request)
	e.Raw(commands)
	return e.B, nil
}

// Entry is a decoded record.
type Entry struct {
	Stamp
	Origin
	store.Record
}

// DecodeRecord reads a record. Content that is inline aliases b, and is not held
// against its id: EncodeCommands did that. An unknown version or kind of command is
// frame.ErrVersion: the log needs a newer blockframe. Anything else that they would
// not have written is frame.ErrCorrupt.
func DecodeRecord(b []byte) (*Entry, error) {
	if len(b) > MaxRecord {
		return nil, fmt.Errorf("%w: record of %d bytes", frame.ErrCorrupt, len(b))
	}
	d := frame.NewDecoder(b)
	if v := d.U8(); v != recordVersion && d.Err() == nil {
		return nil, fmt.Errorf("%w: record version %d, want %d", frame.ErrVersion, v, recordVersion)
	}
	var r Entry
	r.Each = d.Bool()
	r.Time = nanoTime(d.I64())
	if r.Elapsed = time.Duration(d.I64()); r.Elapsed < 0 {
		d.Fail("elapsed time is negative")
	}
	r.Node = d.ID()
	r.Incarnation = d.U64()
	r.Source, r.Actor, r.Request = d.String(maxOrigin), d.String(maxOrigin), d.String(maxOrigin)
	n := d.Count(minCommand)
	if n > 0 {
		r.Commands = make([]store.Command, 0, min(n, 1024))
	}
	for range n {
		kind := store.CommandKind(d.U8())
		body := d.Bytes(MaxRecord)
		if err := d.Err(); err != nil {
			return nil, err
		}
		c, err := decodeCommand(kind, body)
		if err != nil {
			return nil, err
		}
		r.Commands = append(r.Commands, c)
	}
	return &r, d.Done()
}

// nanoTime is the time of so many nanoseconds since 1970, in UTC.
func nanoTime(n int64) time.Time { return time.Unix(0, n).UTC() }

// loggable reports whether t can be kept in nanoseconds since 1970.
func loggable(t time.Time) bool {
	return !t.Before(time.Unix(0, 0)) && t.Before(time.Unix(9_000_000_000, 0))
}

// notExist says what is not there.
func notExist(format string, args ...any) error { return refuse(fs.ErrNotExist, format, args...) }
