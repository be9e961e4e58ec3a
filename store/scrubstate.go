package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ScrubPass is a pass over everything, under way or ended.
type ScrubPass struct {
	ScrubReport

	Began  time.Time
	Ended  time.Time     // zero: it is under way, or will go on where it was
	Worked time.Duration // that it took so far, in all processes
	Done   float64       // share of the extents that it has looked at, 0 to 1
}

// TimeLeft returns about how long the pass will take from here, 0 if it cannot be told.
func (p *ScrubPass) TimeLeft() time.Duration {
	if p.Done <= 0 || !p.Ended.IsZero() {
		return 0
	}
	return time.Duration(float64(p.Worked) * (1 - p.Done) / p.Done)
}

// ScrubStatus are the last passes that ended and those that are under way, nil where
// there is none. Of another process they are as it recorded them last: each 30 seconds, and
// when it closed the store. Of clean quick passes one a day is recorded.
type ScrubStatus struct {
	QuickLast, QuickNow *ScrubPass
	DeepLast, DeepNow   *ScrubPass
}

// progress returns the pass as it stands. Ids of extents are random: how far the cursor has
// come among all ids is how far the pass has come among the extents.
func (c *scrub) progress() *ScrubPass {
	p := &ScrubPass{ScrubReport: c.sure, Began: c.began, Worked: c.spent + time.Since(c.since)}
	p.Disks, p.Degraded, p.DegradedMore = slices.Clone(c.sure.Disks), slices.Clone(c.tolerances.list), c.tolerances.more
	p.Done = (float64(c.after[0]) + float64(c.after[1])/256) / 256
	return p
}

// scrubState is what the catalog keeps of the passes of one kind, as JSON.
type scrubState struct {
	V    int        `json:"v"`
	Last *savedPass `json:"last,omitempty"`
	Now  *savedPass `json:"now,omitempty"`
}

// stateVersion is that of scrubState. A state of another one is as good as none: the pass
// begins anew.
const stateVersion = 1

// savedPass is a ScrubPass, and where it goes on.
type savedPass struct {
	Began    time.Time     `json:"began"`
	Ended    time.Time     `json:"ended,omitzero"`
	Worked   time.Duration `json:"worked_ns"`
	After    hexID         `json:"after"` // the extent that was looked at last
	Done     float64       `json:"done"`
	Extents  int64         `json:"extents"`
	Blobs    int64         `json:"blobs"`
	Bytes    int64         `json:"bytes"`
	Contents int64         `json:"contents,omitempty"`
	Damaged  int64         `json:"damaged,omitempty"`
	Blocks   int64         `json:"blocks,omitempty"`
	Repaired int64         `json:"repaired,omitempty"`
	Left     int64         `json:"left,omitempty"`
	Absent   int64         `json:"absent,omitempty"`
	Errors   []string      `json:"errors,omitempty"`
	Log      savedLog      `json:"log,omitzero"`
	Disks    []savedDisk   `json:"disks,omitempty"`

	Degraded     []Degraded  `json:"degraded,omitempty"`
	DegradedMore int64       `json:"degraded_more,omitempty"`
	Lost         []savedLost `json:"lost,omitempty"`
	LostMore     int64       `json:"lost_more,omitempty"`
}

type savedLog struct {
	Bytes    int64    `json:"bytes"`
	Repaired int64    `json:"repaired,omitempty"`
	Left     int64    `json:"left,omitempty"`
	Lost     []string `json:"lost,omitempty"`
}

type savedDisk struct {
	Backend hexID `json:"backend"`
	Blobs   int64 `json:"blobs"`
	Bytes   int64 `json:"bytes"`
	Damaged int64 `json:"damaged,omitempty"`
	Absent  int64 `json:"absent,omitempty"`
	Errors  int64 `json:"errors,omitempty"`
}

type savedLost struct {
	Name   string `json:"name"`
	Extent hexID  `json:"extent"`
	Stripe int    `json:"stripe"`
	Want   int    `json:"want"`
	Got    int    `json:"got"`
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`
}

// A state is one small value: of objects it has the first savedNames, while their names
// take no more than savedBytes, and the number of the others.
const (
	savedNames = 200
	savedBytes = 12 << 10

	savedPassBytes = 30 << 10 // of JSON, of one pass: two of them make a state
)

// save returns a pass as it is kept.
func save(p *ScrubPass, after ExtentID) *savedPass {
	r := &p.ScrubReport
	out := &savedPass{Began: p.Began.Round(0).UTC(), Worked: p.Worked, After: hexID(after), Done: p.Done, Extents: r.Extents, Blobs: r.Blobs, Bytes: r.Bytes,
		Contents: r.Contents, Damaged: r.Damaged, Blocks: r.Blocks, Repaired: r.Repaired, Left: r.Left, Absent: r.Absent,
		DegradedMore: r.DegradedMore, LostMore: r.LostMore, Log: savedLog{Bytes: r.Log.Bytes, Repaired: r.Log.Repaired, Left: r.Log.Left}}
	if !p.Ended.IsZero() {
		out.Ended = p.Ended.Round(0).UTC()
	}
	out.Errors, out.Log.Lost = texts(r.Errs), texts(r.Log.Lost)
	for _, d := range r.Disks {
		out.Disks = append(out.Disks, savedDisk{hexID(d.Backend), d.Blobs, d.Bytes, d.Damaged, d.Absent, d.Errors})
	}
	room := savedBytes
	for i := range r.Degraded {
		if room -= len(r.Degraded[i].Name); room < 0 || i == savedNames {
			out.DegradedMore += int64(len(r.Degraded) - i)
			break
		}
		out.Degraded = append(out.Degraded, r.Degraded[i])
	}
	room = savedBytes
	for i, l := range r.Lost {
		if room -= len(l.Name); room < 0 || i == savedNames {
			out.LostMore += int64(len(r.Lost) - i)
			break
		}
		out.Lost = append(out.Lost, savedLost{l.Name, hexID(l.Extent), l.Stripe, l.Want, l.Got, l.Offset, l.Length})
	}
	out.fit()
	return out
}

// texts returns the first errors as text of bounded length.
func texts(errs []error) (list []string) {
	for _, err := range errs[:min(len(errs), 20)] {
		list = append(list, fmt.Sprintf("%.200s", err.Error()))
	}
	return list
}

func fromTexts(list []string) (errs []error) {
	for _, s := range list {
		errs = append(errs, errors.New(s))
	}
	return errs
}

// pass returns what was saved.
func (p *savedPass) pass(deep bool, paths map[BackendID]string) *ScrubPass {
	out := &ScrubPass{Began: p.Began, Ended: p.Ended, Worked: p.Worked, Done: p.Done, ScrubReport: ScrubReport{Deep: deep, Extents: p.Extents,
		Blobs: p.Blobs, Bytes: p.Bytes, Contents: p.Contents, Damaged: p.Damaged, Blocks: p.Blocks, Repaired: p.Repaired, Left: p.Left, Absent: p.Absent,
		Errs: fromTexts(p.Errors), Degraded: p.Degraded, DegradedMore: p.DegradedMore, LostMore: p.LostMore,
		Log: LogReport{Bytes: p.Log.Bytes, Repaired: p.Log.Repaired, Left: p.Log.Left, Lost: fromTexts(p.Log.Lost)}}}
	for _, d := range p.Disks {
		id := BackendID(d.Backend)
		out.Disks = append(out.Disks, ScrubDisk{Backend: id, Path: paths[id], Blobs: d.Blobs, Bytes: d.Bytes, Damaged: d.Damaged, Absent: d.Absent, Errors: d.Errors})
	}
	for _, l := range p.Lost {
		out.Lost = append(out.Lost, &CorruptError{Name: l.Name, Extent: ExtentID(l.Extent), Stripe: l.Stripe, Want: l.Want, Got: l.Got, Offset: l.Offset, Length: l.Length})
	}
	return out
}

// stateKey is where the catalog keeps the passes of a kind.
func stateKey(deep bool) string {
	if deep {
		return "scrub/deep"
	}
	return "scrub/quick"
}

// readState returns what the catalog has of the passes of a kind.
func (s *Store) readState(ctx context.Context, deep bool) (st scrubState, err error) {
	b, err := s.cat.State(ctx, stateKey(deep))
	if err != nil || len(b) == 0 {
		return st, err
	}
	if err := json.Unmarshal(b, &st); err != nil || st.V != stateVersion {
		s.log.Warn("what is recorded of earlier scrubs cannot be read: the next one begins anew", "deep", deep, "version", st.V, "err", err)
		return scrubState{}, nil
	}
	return st, nil
}

// command returns the command that keeps the state.
func (st scrubState) command(deep bool) (SetState, error) {
	st.V = stateVersion
	b, err := stateJSON(st)
	return SetState{Key: stateKey(deep), Value: b}, err
}
