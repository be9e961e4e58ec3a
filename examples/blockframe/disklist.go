package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/blockframe/blockframe"
)

func (a *app) diskListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Show the disks of the store, and how many may be lost",
		Long: `Show each disk with its state: active, draining, absent, failing (it takes no
changes), suspect (it gave errors, wrong bytes or late answers), full; and those that
were lost or removed, as far as something of them is missing or they are there again.
The last line says how many disks, any of them, may be lost at once without losing
anything that is stored now.`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), reading(), func(st *blockframe.Store) error { return a.diskList(cmd.Context(), st) })
		},
	}
}

// diskListRow is a disk as --json shows it.
type diskListRow struct {
	Type    string `json:"type"` // disk
	ID      string `json:"id"`
	Path    string `json:"path"`
	State   string `json:"state"`
	Log     bool   `json:"log"` // it has a copy of the commit log
	Total   int64  `json:"total"`
	Used    int64  `json:"used"`
	Free    int64  `json:"free"`
	Shards  uint64 `json:"shards"`
	Missing uint64 `json:"missing"` // of these, on the repair queue
	Bytes   int64  `json:"bytes"`   // of the blocks in them
	Errors  int64  `json:"errors"`  // reads and writes that failed
	Rotten  int64  `json:"rotten"`  // blocks that were not what was written
	Late    int64  `json:"late"`    // reads that took longer than half a second
	Reason  string `json:"reason,omitempty"`
}

func rowOfDisk(d blockframe.Disk) diskListRow {
	row := diskListRow{Type: "disk", ID: d.ID.String(), Path: d.Path, State: string(d.State), Log: d.Log, Total: d.Total, Used: d.Total - d.Free, Free: d.Free,
		Shards: d.Shards, Missing: d.Missing, Bytes: d.Bytes, Errors: d.Trouble.Errors, Rotten: d.Trouble.Rotten, Late: d.Trouble.Late, Reason: d.Trouble.Suspect()}
	if d.Err != nil {
		row.Reason = trouble(d)
	}
	return row
}

// storeRow is what is true of all disks together.
type storeRow struct {
	Type     string `json:"type"`     // store
	Survives int    `json:"survives"` // how many disks, any of them; -1: something is lost already
	Puts     int    `json:"puts_survive"`
	Queued   uint64 `json:"queued"` // rows of the repair queue
}

// diskList prints the disks, and what the store survives.
func (a *app) diskList(ctx context.Context, st *blockframe.Store) error {
	of, err := st.Tolerance(ctx)
	if err != nil {
		return err
	}
	all := storeRow{"store", of.Disks, st.Survives(), st.Stats().Queued}
	disks := append(st.Disks(ctx), st.FormerDisks(ctx)...)
	if a.json {
		for _, d := range disks {
			if err := writeJSON(a.out, rowOfDisk(d)); err != nil {
				return err
			}
		}
		return writeJSON(a.out, all)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STATE\tUSED\tFREE\tSHARDS\tMISSING\tLOG\tDISK")
	for _, d := range disks {
		used, free := "-", "-"
		if d.Total > 0 {
			used, free = human(d.Total-d.Free), human(d.Free)
		}
		log := ""
		if d.Log {
			log = "log"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\t%s\n", d.State, used, free, d.Shards, d.Missing, log, diskName(d))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, d := range disks {
		if why := rowOfDisk(d).Reason; why != "" {
			why, _, _ = strings.Cut(why, "\n")
			fmt.Fprintln(a.out, about(fmt.Sprintf("%s is %s", diskName(d), d.State), d.Path, a.named(why)))
		}
	}
	switch {
	case all.Survives < 0:
		fmt.Fprintln(a.out, "something is lost: scrub --deep names it")
	default:
		fmt.Fprintf(a.out, "survives: any %s\n", plural(all.Survives, "disk", "disks"))
	}
	return nil
}
