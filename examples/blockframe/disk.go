package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/blockframe/blockframe"
)

func (a *app) diskCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "disk",
		Short: "Add, list, drain, remove and replace disks",
		Long: `A store lies on one or more directories, each best on a disk of its own. A disk
that is away for a while is only absent: what it holds is computed from the others,
and nothing is done about it. Replace or remove it when it does not come back.

DISK is the directory of a disk, or its id as disk list --json shows it.`,
		Args: cobra.ArbitraryArgs,
		RunE: unknown,
	}
	cmd.AddCommand(a.diskAddCommand(), a.diskListCommand(), a.diskDrainCommand(), a.diskRemoveCommand(), a.diskReplaceCommand(), a.diskRebalanceCommand())
	return cmd
}

func (a *app) diskAddCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "add DIR",
		Short: "Make an empty directory a disk of the store",
		Long: `Make an empty or absent directory a disk of the store, or take back one that was
absent. What is stored already stays where it is: see disk rebalance.`,
		Args: takes(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changingDisks(cmd.Context(), func(st *blockframe.Store) error {
				d, err := st.AddDisk(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if a.json {
					return writeJSON(a.out, rowOfDisk(d))
				}
				_, err = fmt.Fprintf(a.out, "added %s, %s free\n", d.Path, human(d.Free))
				return err
			})
		},
	}
}

func (a *app) diskDrainCommand() *cobra.Command {
	var stop bool
	opts, flags := moveFlags(true)
	cmd := &cobra.Command{
		Use:   "drain [--stop] [--rate RATE] [--dry-run] DISK",
		Short: "Move all that a disk holds to the others",
		Long: `Move all that a disk holds to the others, so that it can be removed. Nothing new
goes there from then on. Cut off, it goes on with the next drain; --stop ends it.`,
		Args: takes(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onDisk(cmd.Context(), args[0], func(st *blockframe.Store, d blockframe.Disk) error {
				if stop {
					return st.KeepDisk(cmd.Context(), d.ID)
				}
				o := opts()
				defer a.showMove("drain", &o).done()
				rep, err := st.DrainDisk(cmd.Context(), d.ID, o)
				return a.tellMove(rep, o.DryRun, err)
			})
		},
	}
	flags(cmd)
	cmd.Flags().BoolVar(&stop, "stop", false, "let it take new data again; what has moved stays where it is")
	return cmd
}

func (a *app) diskRemoveCommand() *cobra.Command {
	var lost bool
	opts, flags := moveFlags(false)
	cmd := &cobra.Command{
		Use:   "remove [--lost] DISK",
		Short: "Take a disk off the store that is drained, or lost",
		Long: `Take a disk off the store that was drained. With --lost, give up one that does
not come back, with all it holds: that is made anew on the others, as far as there
are disks to take it. What is on the disk is left as it is, and never used again.
One that is there and well is refused: drain it.

Exit codes of --lost: 0 all is whole again, 4 some data is lost for good, which scrub
--deep names, 5 nothing is lost, and some is missing for want of disks to take it.`,
		Args: takes(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onDisk(cmd.Context(), args[0], func(st *blockframe.Store, d blockframe.Disk) error {
				if lost && d.Err == nil && slices.Contains([]blockframe.DiskState{blockframe.DiskActive, blockframe.DiskFull, blockframe.DiskDraining}, d.State) {
					return fmt.Errorf("%s is there, and well: disk drain moves what it holds to the others, and then disk remove takes it off; --lost is for one that is absent or failing", diskName(d))
				}
				o := opts()
				defer a.showMove("rebuild", &o).done()
				rep, err := st.RemoveDisk(cmd.Context(), d.ID, blockframe.RemoveOptions{Lost: lost, Move: o})
				if err != nil && rep.Left == 0 {
					return err
				}
				if !lost {
					return a.tell(fmt.Sprintf("removed %s", diskName(d)))
				}
				return a.tellLost(rep, err)
			})
		},
	}
	flags(cmd)
	cmd.Flags().BoolVar(&lost, "lost", false, "give the disk up with what it holds")
	return cmd
}

func (a *app) diskReplaceCommand() *cobra.Command {
	opts, flags := moveFlags(false)
	cmd := &cobra.Command{
		Use:   "replace [--rate RATE] DISK NEWDIR",
		Short: "Put another disk in the place of one",
		Long: `Make an empty directory a disk, move or compute there what DISK holds, and take
DISK off the store. NEWDIR may be the mount point of DISK, where that is gone and a
new one is mounted. Cut off, it goes on with the next replace.`,
		Args: takes(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onDisk(cmd.Context(), args[0], func(st *blockframe.Store, d blockframe.Disk) error {
				o := opts()
				defer a.showMove("replace", &o).done()
				rep, err := st.ReplaceDisk(cmd.Context(), d.ID, args[1], o)
				return a.tellMove(rep, false, err)
			})
		},
	}
	flags(cmd)
	return cmd
}

func (a *app) diskRebalanceCommand() *cobra.Command {
	opts, flags := moveFlags(true)
	cmd := &cobra.Command{
		Use:   "rebalance [--rate RATE] [--dry-run]",
		Short: "Move data from fuller disks to emptier ones",
		Args:  takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), reading(), func(st *blockframe.Store) error {
				o := opts()
				defer a.showMove("rebalance", &o).done()
				rep, err := st.Rebalance(cmd.Context(), o)
				return a.tellMove(rep, o.DryRun, err)
			})
		},
	}
	flags(cmd)
	return cmd
}

// moveFlags returns the options of a command that moves data, and what adds its flags.
func moveFlags(dry bool) (opts func() blockframe.MoveOptions, add func(*cobra.Command)) {
	var rate sizeFlag
	var only bool
	return func() blockframe.MoveOptions {
			return blockframe.MoveOptions{Rate: int64(rate), DryRun: only}
		}, func(cmd *cobra.Command) {
			cmd.Flags().Var(&rate, "rate", "bytes a second at most, as 50MB")
			if dry {
				cmd.Flags().BoolVar(&only, "dry-run", false, "only tell what would be moved")
			}
		}
}

// showMove shows the progress of moves.
func (a *app) showMove(what string, o *blockframe.MoveOptions) *bar {
	bar := a.progress(what, -1)
	o.Progress = func(r blockframe.MoveReport) {
		bar.of(r.PlannedBytes)
		bar.set(r.Bytes)
	}
	return bar
}

// moveRow is what became of data that was to be moved.
type moveRow struct {
	Shards   int64 `json:"shards"`   // that moved, or would
	Bytes    int64 `json:"bytes"`    // of them
	Computed int64 `json:"computed"` // blocks, since they could not be read
	Left     int64 `json:"left"`     // shards that stay where they are, or missing
	Lost     int64 `json:"lost"`     // extents of these that are lost for good
	DryRun   bool  `json:"dry_run,omitempty"`
}

// tellLost prints what became of what a lost disk held; err is why some stays missing.
func (a *app) tellLost(rep blockframe.MoveReport, err error) error {
	if a.json {
		if err := a.tellMove(rep, false, nil); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(a.out, "computed %s, %s, from others\n", plural(rep.Shards, "shard", "shards"), human(rep.Bytes))
	}
	switch {
	case rep.Lost > 0:
		a.remark("%s lost for good, of %d shards that stay missing: scrub --deep names the files: %v", plural(rep.Lost, "extent is", "extents are"), rep.Left, err)
		return status(exitLost)
	case rep.Left > 0:
		a.remark("%d shards stay missing: %v", rep.Left, err)
		return status(exitDamaged)
	}
	return nil
}

// tellMove prints it; err is why some stays where it is.
func (a *app) tellMove(rep blockframe.MoveReport, dry bool, err error) error {
	row := moveRow{Shards: rep.Shards, Bytes: rep.Bytes, Computed: rep.Computed, Left: rep.Left, Lost: rep.Lost, DryRun: dry}
	if a.json {
		return errors.Join(writeJSON(a.out, row), err)
	}
	verb := "moved"
	if dry {
		verb = "would move"
	}
	fmt.Fprintf(a.out, "%s %s, %s", verb, plural(row.Shards, "shard", "shards"), human(row.Bytes))
	if row.Computed > 0 {
		fmt.Fprintf(a.out, "; %s computed from others", plural(row.Computed, "block", "blocks"))
	}
	fmt.Fprintln(a.out)
	return err
}

func (a *app) tell(line string) error {
	if a.json || a.quiet {
		return nil
	}
	_, err := fmt.Fprintln(a.out, line)
	return err
}

// onDisk calls f with a disk of the store, and writes the lists of disks anew.
func (a *app) onDisk(ctx context.Context, which string, f func(*blockframe.Store, blockframe.Disk) error) error {
	return a.changingDisks(ctx, func(st *blockframe.Store) error {
		for _, d := range st.Disks(ctx) {
			if d.ID.String() == which || d.Path != "" && listed([]string{d.Path}, absolute(which)) {
				return f(st, d)
			}
		}
		return fmt.Errorf("%s is no disk of the store: disk list shows them", quoted(which))
	})
}

func absolute(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return dir
}

// changingDisks calls f with the store, and then writes the list of disks into each that
// is there, and into the place that leads to the store. A crash before leaves a list that
// lacks a disk which was added, or names one that was removed: the first is absent then, and
// taken back by adding it again; the second is recognised.
func (a *app) changingDisks(ctx context.Context, f func(*blockframe.Store) error) error {
	return a.with(ctx, reading(), func(st *blockframe.Store) error {
		before := diskPaths(st.Disks(ctx), true)
		err := f(st)
		now := st.Disks(ctx)
		after := diskPaths(now, true)
		if len(before) == len(after) && fmt.Sprint(before) == fmt.Sprint(after) && err != nil {
			return err
		}
		return errors.Join(err, a.writeListsOf(now))
	})
}

// writeListsOf writes the lists of disks.
func (a *app) writeListsOf(now []blockframe.Disk) error {
	dirs := diskPaths(now, false)
	places, err := a.places()
	if err != nil {
		return err
	}
	if len(places) == 1 && !listed(diskPaths(now, true), places[0]) && !isDisk(places[0]) {
		dirs = append(dirs, absolute(places[0]))
	}
	return writeListIn(dirs, diskPaths(now, true))
}

// diskPaths returns the directories of disks, or of those that are there.
func diskPaths(disks []blockframe.Disk, absent bool) (list []string) {
	for _, d := range disks {
		if d.Path != "" && (absent || d.State != blockframe.DiskAbsent) {
			list = append(list, filepath.FromSlash(d.Path))
		}
	}
	return list
}

func diskName(d blockframe.Disk) string {
	if d.Path != "" {
		return d.Path
	}
	return d.ID.String()
}
