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
	var status bool
	cmd := &cobra.Command{
		Use:     "scrub [--deep] [--repair]",
		Aliases: []string{"health"},
		Short:   "Look at everything that is kept, and repair it",
		Long: `Look at presence, header, table and trailer of every shard, with --deep at every
block and parity, as the disks have them. --repair makes whole what can be made
whole. Without it nothing is changed at once: what was found goes on the repair
queue, and the next command that puts or gets may repair it.

--status only tells when the last passes ended, what they found, and how far one is
that a program with the store open runs by itself, as it recorded that last.

Exit codes: 0 clean, 3 damage found and all of it repaired, 4 ranges of objects
are lost (they are named), 5 damage is left and nothing is lost.`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts.Rate = int64(rate)
			if status && (opts.Deep || opts.Repair || rate != 0) {
				return usagef("--status looks at nothing: it goes without other flags")
			}
			// The pass repairs what it finds itself. Repairs in the background would
			// get there first now and then, and the exit code would not tell.
			return a.with(cmd.Context(), reading(), func(st *blockframe.Store) error {
				if status {
					return a.scrubStatus(cmd.Context(), st)
				}
				return a.scrub(cmd.Context(), st, opts)
			})
		},
	}
	cmd.Flags().BoolVar(&opts.Deep, "deep", false, "read every block and recompute parity")
	cmd.Flags().BoolVar(&opts.Repair, "repair", false, "make whole what is damaged")
	cmd.Flags().BoolVar(&status, "status", false, "tell when the last passes ended and how far one is")
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
			row.Disks = append(row.Disks, diskRow{d.ID.String(), d.Path, trouble(d)})
		}
	}
	if err := a.audit(ctx, st, row); err != nil {
		return err
	}
	row.Exit, row.next = row.exit(), nextStep(ctx, st, opts.Repair)
	a.findUnclaimed(ctx, st, row)
	if a.json {
		err = a.scrubJSON(row, &rep)
	} else {
		a.scrubText(row, &rep)
	}
	if err != nil || row.Exit == exitOK {
		return err
	}
	return status(row.Exit)
}

// audit adds to a deep pass what does not agree in the index. What it says of blobs the
// pass has said.
func (a *app) audit(ctx context.Context, st *blockframe.Store, row *scrubRow) error {
	row.Unaccepted = st.Stats().Unaccepted
	if !row.Deep {
		return nil
	}
	rep, err := st.Audit(ctx)
	for _, p := range rep.Problems {
		row.Errors = append(row.Errors, "index: "+p)
	}
	if len(rep.Problems) > 0 {
		row.Errors = append(row.Errors, "the index is not to be trusted: move the folder view/ away, and the next command makes it anew from the commit log")
	}
	return err
}

// findUnclaimed adds to a deep pass what a collection would say of complete objects that
// no record names. They are no damage. That a disk is absent is in the row already.
func (a *app) findUnclaimed(ctx context.Context, st *blockframe.Store, row *scrubRow) {
	if !row.Deep || row.ReadOnly != "" {
		return
	}
	rep, err := st.Collect(ctx, blockframe.CollectOptions{DryRun: true})
	if err != nil {
		a.remark("could not look for objects that no record names: %v", err)
	}
	row.Unclaimed, row.UnclaimedNames = rep.Unclaimed, rep.UnclaimedNames
}

// scrubRow is what a pass found.
type scrubRow struct {
	Type     string      `json:"type"` // scrub
	Deep     bool        `json:"deep"`
	Extents  int64       `json:"extents"`
	Shards   int64       `json:"shards"`
	Contents int64       `json:"contents"` // kept in the log itself
	Bytes    int64       `json:"bytes"`    // read
	Damaged  int64       `json:"damaged"`  // shards
	Blocks   int64       `json:"blocks"`   // of them, bad blocks
	Repaired int64       `json:"repaired"`
	Left     int64       `json:"left"`     // shards still damaged
	Absent   int64       `json:"absent"`   // shards on disks that are not there
	Lost     int64       `json:"lost"`     // ranges
	Degraded int64       `json:"degraded"` // versions that can lose less than they should
	Log      logRow      `json:"log"`
	LogFixed int64       `json:"log_repaired"` // places of the log made whole from another copy
	LogLeft  int64       `json:"log_left"`     // copies of its segments left bad
	LogLost  []string    `json:"log_lost,omitempty"`
	Disks    []diskRow   `json:"disks,omitempty"`
	ByDisk   []byDiskRow `json:"by_disk,omitempty"`
	ReadOnly string      `json:"read_only,omitempty"`
	Errors   []string    `json:"errors,omitempty"`
	Exit     int         `json:"exit"`

	Unaccepted     bool     `json:"unaccepted,omitempty"` // the store was rebuilt: gc removes nothing
	Unclaimed      int64    `json:"unclaimed,omitempty"`  // complete objects that no record names
	UnclaimedNames []string `json:"unclaimed_names,omitempty"`

	lost []blockframe.CorruptError // merged
	next string                    // what to do about damage that is left, or ""
}

// logRow is what a deep pass found in the copies of the commit log.
type logRow struct {
	Bytes    int64    `json:"bytes"`
	Repaired int64    `json:"repaired"` // places made whole from another copy
	Left     int64    `json:"left"`     // segments that are bad still
	Lost     []string `json:"lost,omitempty"`
}

func newLogRow(r *blockframe.ScrubReport) logRow {
	row := logRow{Bytes: r.Log.Bytes, Repaired: r.Log.Repaired, Left: r.Log.Left}
	for _, err := range r.Log.Lost {
		row.Lost = append(row.Lost, err.Error())
	}
	return row
}

// text tells it, by lines: none where nothing was found.
func (l *logRow) text() (list []string) {
	if l.Repaired > 0 {
		list = append(list, fmt.Sprintf("commit log: %s made whole from another copy", plural(l.Repaired, "place", "places")))
	}
	if l.Left > 0 {
		list = append(list, fmt.Sprintf("commit log: %s left bad", plural(l.Left, "segment", "segments")))
	}
	for _, err := range l.Lost {
		list = append(list, "commit log: no copy is good: "+oneLine(err))
	}
	return list
}

// diskRow is a disk that is not well.
type diskRow struct {
	ID    string `json:"id"`
	Path  string `json:"path"`
	Error string `json:"error"`
}

func newScrubRow(r *blockframe.ScrubReport, readOnly error) *scrubRow {
	lost := mergeLost(r.Lost)
	row := &scrubRow{Type: "scrub", lost: lost, Deep: r.Deep, Extents: r.Extents, Shards: r.Blobs, Contents: r.Contents, Bytes: r.Bytes,
		Damaged: r.Damaged, Blocks: r.Blocks, Repaired: r.Repaired, Left: r.Left, Absent: r.Absent, Lost: int64(len(lost)) + r.LostMore,
		Degraded: int64(len(r.Degraded)) + r.DegradedMore, Log: newLogRow(r)}
	row.ByDisk = foundOn(r)
	row.LogFixed, row.LogLeft, row.LogLost = row.Log.Repaired, row.Log.Left, row.Log.Lost
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

// scrubJSON prints a line for each lost range, those that touch as one, one for each
// version that can lose less than it should, and one for the pass.
func (a *app) scrubJSON(row *scrubRow, rep *blockframe.ScrubReport) error {
	for _, ce := range row.lost {
		if err := writeJSON(a.out, lostLine{"lost", lostRow{ce.Name, ce.Offset, ce.Length, ce.Extent.String(), ce.Stripe}}); err != nil {
			return err
		}
	}
	for _, d := range rep.Degraded {
		if err := writeJSON(a.out, degradedLine{"degraded", d.Name, d.Version, d.Left}); err != nil {
			return err
		}
	}
	return writeJSON(a.out, row)
}

type lostLine struct {
	Type string `json:"type"` // lost
	lostRow
}

type degradedLine struct {
	Type      string `json:"type"` // degraded
	Name      string `json:"name"`
	Version   uint64 `json:"version"`
	Tolerance int    `json:"tolerance"` // shards, any of them, that it can still lose; -1: some of it is lost
}

// mostDegraded is the number of degraded objects that a person is told of by name.
const mostDegraded = 20

// scrubText prints what a person needs.
func (a *app) scrubText(row *scrubRow, rep *blockframe.ScrubReport) {
	pass := "quick"
	if row.Deep {
		pass = "deep"
	}
	fmt.Fprintf(a.out, "%s scrub: %s in %s, %s read\n", pass, plural(row.Shards, "shard", "shards"), plural(row.Extents, "extent", "extents"), human(row.Bytes))
	for _, d := range row.Disks {
		fmt.Fprintln(a.out, about("disk "+d.Path+" is not well", d.Path, d.Error))
	}
	for i := range row.ByDisk {
		if s := row.ByDisk[i].text(); s != "" {
			fmt.Fprintln(a.out, s)
		}
	}
	if row.ReadOnly != "" {
		fmt.Fprintln(a.out, "the store takes no changes")
	}
	for _, err := range append(row.Errors, row.Log.Lost...) {
		fmt.Fprintln(a.out, oneLine(err))
	}
	if row.Log.Repaired > 0 {
		fmt.Fprintf(a.out, "commit log: %s made whole from another copy\n", plural(row.Log.Repaired, "place", "places"))
	}
	for i, d := range rep.Degraded {
		if i == mostDegraded {
			fmt.Fprintf(a.out, "and %d more\n", row.Degraded-mostDegraded)
			break
		}
		if d.Left >= 0 {
			fmt.Fprintf(a.out, "%s can lose %s more\n", quoted(d.Name), plural(d.Left, "shard", "shards"))
		}
	}
	for _, line := range lostText(row.lost) {
		fmt.Fprintln(a.out, line)
	}
	if rep.LostMore > 0 {
		fmt.Fprintf(a.out, "LOST %s more\n", plural(rep.LostMore, "range", "ranges"))
	}
	a.unclaimed(row.Unclaimed, row.UnclaimedNames)
	fmt.Fprintln(a.out, row.verdict())
}

// repaired says what was made whole: of shards, of the log, or of both.
func (r *scrubRow) repaired(shards string) string {
	if r.LogFixed == 0 {
		return shards
	}
	log := plural(r.LogFixed, "damaged place", "damaged places") + " in a copy of the commit log"
	if r.Damaged == 0 {
		return log
	}
	return shards + "; " + log
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
		return fmt.Sprintf("damage left, nothing lost: %s, %d left, %d on disks that are not there%s", damage, r.Left, r.Absent, r.next)
	case exitRepaired:
		return "repaired: " + r.repaired(damage)
	}
	return "clean"
}
