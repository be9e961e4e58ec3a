package main

import (
	"context"
	"fmt"
	"time"

	"github.com/blockframe/blockframe"
)

// byDiskRow is what a scrub found on a disk.
type byDiskRow struct {
	ID      string `json:"id"`
	Path    string `json:"path,omitempty"`
	Shards  int64  `json:"shards"`
	Bytes   int64  `json:"bytes"` // read
	Damaged int64  `json:"damaged"`
	Absent  int64  `json:"absent"`
	Errors  int64  `json:"errors"` // calls that failed
}

// foundOn returns what a scrub found, by disk.
func foundOn(r *blockframe.ScrubReport) (list []byDiskRow) {
	for _, d := range r.Disks {
		list = append(list, byDiskRow{d.Backend.String(), d.Path, d.Blobs, d.Bytes, d.Damaged, d.Absent, d.Errors})
	}
	return list
}

// text tells it, "" where nothing was found.
func (d *byDiskRow) text() string {
	if d.Damaged == 0 && d.Absent == 0 && d.Errors == 0 {
		return ""
	}
	name := d.Path
	if name == "" {
		name = d.ID
	}
	s := fmt.Sprintf("disk %s: %d of %s damaged, %d could not be asked for", name, d.Damaged, plural(d.Shards, "shard", "shards"), d.Absent)
	if d.Errors > 0 {
		s += fmt.Sprintf(", %s failed", plural(d.Errors, "read", "reads"))
	}
	return s
}

// statusRow is a pass of scrub, of this store or of a program that had it open.
type statusRow struct {
	Type     string      `json:"type"`  // quick or deep
	State    string      `json:"state"` // ended, under way or never
	Began    time.Time   `json:"began,omitzero"`
	Ended    time.Time   `json:"ended,omitzero"`
	Done     float64     `json:"done"` // of 1
	Left     float64     `json:"left_seconds,omitempty"`
	Extents  int64       `json:"extents"`
	Shards   int64       `json:"shards"`
	Bytes    int64       `json:"bytes"`
	Damaged  int64       `json:"damaged"`
	Repaired int64       `json:"repaired"`
	Absent   int64       `json:"absent"`
	Lost     int64       `json:"lost"`     // ranges
	Degraded int64       `json:"degraded"` // versions
	Errors   []string    `json:"errors,omitempty"`
	Log      logRow      `json:"log"`
	Clean    bool        `json:"clean"` // nothing was found, so far
	ByDisk   []byDiskRow `json:"by_disk,omitempty"`
	Names    []string    `json:"names,omitempty"` // of degraded versions, the first ones

	left time.Duration
}

// scrubStatus tells when everything was looked at last, and how far a pass is.
func (a *app) scrubStatus(ctx context.Context, st *blockframe.Store) error {
	s, err := st.ScrubStatus(ctx)
	if err != nil {
		return err
	}
	rows := []statusRow{statusOf("quick", s.QuickLast)}
	if s.QuickNow != nil {
		rows = append(rows, statusOf("quick", s.QuickNow))
	}
	rows = append(rows, statusOf("deep", s.DeepLast))
	if s.DeepNow != nil {
		rows = append(rows, statusOf("deep", s.DeepNow))
	}
	for i := range rows {
		if !a.json {
			rows[i].print(a)
		} else if err := writeJSON(a.out, rows[i]); err != nil {
			return err
		}
	}
	return nil
}

func statusOf(kind string, p *blockframe.ScrubPass) statusRow {
	if p == nil {
		return statusRow{Type: kind, State: "never"}
	}
	r := &p.ScrubReport
	row := statusRow{Type: kind, State: "ended", Began: utc(p.Began), Ended: utc(p.Ended), Done: p.Done, Extents: r.Extents, Shards: r.Blobs,
		Bytes: r.Bytes, Damaged: r.Damaged, Repaired: r.Repaired, Absent: r.Absent, Lost: int64(len(r.Lost)) + r.LostMore,
		Degraded: int64(len(r.Degraded)) + r.DegradedMore, ByDisk: foundOn(r),
		Log: newLogRow(r), Clean: r.Clean() && r.LostMore == 0}
	if p.Ended.IsZero() {
		row.State, row.left = "under way", p.TimeLeft()
		row.Left = row.left.Seconds()
	}
	for _, err := range r.Errs {
		row.Errors = append(row.Errors, err.Error())
	}
	for _, d := range r.Degraded {
		row.Names = append(row.Names, d.Name)
	}
	return row
}

// print tells a person.
func (r *statusRow) print(a *app) {
	switch r.State {
	case "never":
		fmt.Fprintf(a.out, "%s scrub: none has ended yet\n", r.Type)
		return
	case "ended":
		fmt.Fprintf(a.out, "%s scrub: ended %s", r.Type, r.Ended.Local().Format(time.DateTime))
	default:
		fmt.Fprintf(a.out, "%s scrub: under way since %s, %.0f%% done", r.Type, r.Began.Local().Format(time.DateTime), 100*r.Done)
		if r.left > 0 {
			fmt.Fprintf(a.out, ", about %s of work left", r.left.Round(time.Second))
		}
	}
	fmt.Fprintf(a.out, "; %s in %s, %s read", plural(r.Shards, "shard", "shards"), plural(r.Extents, "extent", "extents"), human(r.Bytes))
	if r.Clean {
		fmt.Fprintln(a.out, "; clean")
		return
	}
	fmt.Fprintf(a.out, "; %d damaged, %d could not be asked for, %s lost\n", r.Damaged, r.Absent, plural(r.Lost, "range", "ranges"))
	for _, s := range r.Log.text() {
		fmt.Fprintf(a.out, "  %s\n", s)
	}
	for i := range r.ByDisk {
		if s := r.ByDisk[i].text(); s != "" {
			fmt.Fprintf(a.out, "  %s\n", s)
		}
	}
	for i, name := range r.Names {
		if i == mostDegraded {
			break
		}
		fmt.Fprintf(a.out, "  %s could lose less than it should\n", quoted(name))
	}
}
