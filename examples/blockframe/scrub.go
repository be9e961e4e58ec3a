package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/blockframe/blockframe"
)

func (a *app) scrubCommand() *cobra.Command {
	var opts blockframe.ScrubOptions
	var rate sizeFlag
	cmd := &cobra.Command{
		Use:     "scrub [--deep] [--repair]",
		Aliases: []string{"health"},
		Short:   "Look at everything that is kept, and repair it",
		Long: `Look at presence, header, table and trailer of every shard, with --deep at every
block and parity, as the disks have them. --repair makes whole what can be made
whole; without it nothing is changed.

Exit codes: 0 clean, 3 damage found and all of it repaired, 4 ranges of objects
are lost (they are named), 5 damage is left and nothing is lost.`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts.Rate = int64(rate)
			// The pass repairs what it finds itself. Repairs in the background would
			// get there first now and then, and the exit code would not tell.
			return a.with(cmd.Context(), reading(), func(st *blockframe.Store) error {
				return a.scrub(cmd.Context(), st, opts)
			})
		},
	}
	cmd.Flags().BoolVar(&opts.Deep, "deep", false, "read every block and recompute parity")
	cmd.Flags().BoolVar(&opts.Repair, "repair", false, "make whole what is damaged")
	cmd.Flags().Var(&rate, "rate", "bytes to read in a second at most, as 50MB")
	return cmd
}

// scrub runs a pass and tells what it found.
func (a *app) scrub(ctx context.Context, st *blockframe.Store, opts blockframe.ScrubOptions) error {
	bar := a.progress("scrub", -1)
	defer bar.done()
	opts.Progress = func(r blockframe.ScrubReport) { bar.set(r.Bytes) }
	rep, err := st.Scrub(ctx, opts)
	bar.done()
	if err != nil {
		return err
	}
	row := newScrubRow(&rep, st.ReadOnly())
	for _, d := range st.Disks(ctx) {
		if d.Err != nil {
			row.Disks = append(row.Disks, diskRow{d.ID.String(), d.Path, d.Err.Error()})
		}
	}
	row.Exit = row.exit()
	if a.json {
		err = a.scrubJSON(row, rep.Lost)
	} else {
		a.scrubText(row, rep.Lost)
	}
	if err != nil || row.Exit == exitOK {
		return err
	}
	return status(row.Exit)
}

// scrubRow is what a pass found.
type scrubRow struct {
	Type     string    `json:"type"` // scrub
	Deep     bool      `json:"deep"`
	Extents  int64     `json:"extents"`
	Shards   int64     `json:"shards"`
	Contents int64     `json:"contents"` // kept in the log itself
	Bytes    int64     `json:"bytes"`    // read
	Damaged  int64     `json:"damaged"`  // shards
	Blocks   int64     `json:"blocks"`   // of them, bad blocks
	Repaired int64     `json:"repaired"`
	Left     int64     `json:"left"`         // shards still damaged
	Absent   int64     `json:"absent"`       // shards on disks that are not there
	Lost     int64     `json:"lost"`         // ranges
	LogFixed int64     `json:"log_repaired"` // places of the log made whole from another copy
	LogLeft  int64     `json:"log_left"`     // copies of its segments left bad
	LogLost  []string  `json:"log_lost,omitempty"`
	Disks    []diskRow `json:"disks,omitempty"`
	ReadOnly string    `json:"read_only,omitempty"`
	Errors   []string  `json:"errors,omitempty"`
	Exit     int       `json:"exit"`
}

// diskRow is a disk that is not well.
type diskRow struct {
	ID    string `json:"id"`
	Path  string `json:"path"`
	Error string `json:"error"`
}

func newScrubRow(r *blockframe.ScrubReport, readOnly error) *scrubRow {
	row := &scrubRow{Type: "scrub", Deep: r.Deep, Extents: r.Extents, Shards: r.Blobs, Contents: r.Contents, Bytes: r.Bytes,
		Damaged: r.Damaged, Blocks: r.Blocks, Repaired: r.Repaired, Left: r.Left, Absent: r.Absent, Lost: int64(len(r.Lost)) + r.LostMore}
	row.LogFixed, row.LogLeft = r.Log.Repaired, r.Log.Left
	for _, err := range r.Log.Lost {
		row.LogLost = append(row.LogLost, err.Error())
	}
	for _, err := range r.Errs {
		row.Errors = append(row.Errors, err.Error())
	}
	if readOnly != nil {
		row.ReadOnly = readOnly.Error()
	}
	return row
}

// exit returns the exit code: 4 wins over 5 over 3.
func (r *scrubRow) exit() int {
	switch {
	case r.Lost > 0, len(r.LogLost) > 0:
		return exitLost
	case r.Left > 0, r.LogLeft > 0, r.Absent > 0, r.Damaged > r.Repaired, len(r.Errors) > 0, len(r.Disks) > 0, r.ReadOnly != "":
		return exitDamaged
	case r.Repaired > 0, r.LogFixed > 0:
		return exitRepaired
	}
	return exitOK
}

// scrubJSON prints a line for the pass and one for each lost range.
func (a *app) scrubJSON(row *scrubRow, lost []*blockframe.CorruptError) error {
	for _, ce := range lost {
		if err := writeJSON(a.out, lostLine{"lost", lostRow{ce.Name, ce.Offset, ce.Length, ce.Extent.String(), ce.Stripe}}); err != nil {
			return err
		}
	}
	return writeJSON(a.out, row)
}

type lostLine struct {
	Type string `json:"type"` // lost
	lostRow
}

// scrubText prints what a person needs.
func (a *app) scrubText(row *scrubRow, lost []*blockframe.CorruptError) {
	pass := "quick"
	if row.Deep {
		pass = "deep"
	}
	fmt.Fprintf(a.out, "%s scrub: %s in %s, %s read\n", pass, plural(row.Shards, "shard", "shards"), plural(row.Extents, "extent", "extents"), human(row.Bytes))
	for _, d := range row.Disks {
		fmt.Fprintf(a.out, "disk %s is not well: %s\n", d.Path, d.Error)
	}
	if row.ReadOnly != "" {
		fmt.Fprintln(a.out, row.ReadOnly)
	}
	for _, err := range row.Errors {
		fmt.Fprintln(a.out, err)
	}
	for _, ce := range lost {
		fmt.Fprintf(a.out, "LOST %s: bytes [%d, %d): %d good blocks of a stripe are left, %d are needed\n",
			quoted(ce.Name), ce.Offset, ce.Offset+ce.Length, ce.Got, ce.Want)
	}
	if n := row.Lost - int64(len(lost)); n > 0 {
		fmt.Fprintf(a.out, "LOST %s more\n", plural(n, "range", "ranges"))
	}
	for _, lost := range row.LogLost {
		fmt.Fprintln(a.out, "LOST from every copy of the log:", lost)
	}
	if row.LogFixed > 0 {
		fmt.Fprintf(a.out, "log: %s repaired from another copy\n", plural(row.LogFixed, "place", "places"))
	}
	fmt.Fprintln(a.out, row.verdict())
}

// verdict says in a line how it stands.
func (r *scrubRow) verdict() string {
	damage := fmt.Sprintf("%s damaged, %s bad in them, %d repaired", plural(r.Damaged, "shard", "shards"), plural(r.Blocks, "block", "blocks"), r.Repaired)
	switch r.Exit {
	case exitLost:
		lost := plural(r.Lost, "range", "ranges")
		if len(r.LogLost) > 0 {
			lost += " and " + plural(int64(len(r.LogLost)), "place", "places") + " of the log"
		}
		return fmt.Sprintf("DATA LOST: %s; %s; all else stays readable", lost, damage)
	case exitDamaged:
		return fmt.Sprintf("damage left, nothing lost: %s, %d left, %d on disks that are not there; attach all disks and run scrub --deep --repair", damage, r.Left, r.Absent)
	case exitRepaired:
		return "repaired: " + damage
	}
	return "clean"
}
