package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/blockframe/blockframe"
)

func (a *app) reshapeCommand() *cobra.Command {
	var opts blockframe.ReshapeOptions
	var rate sizeFlag
	cmd := &cobra.Command{
		Use:   "reshape [--policy PREFIX | --all]",
		Short: "Write anew what is in another code than its policy has",
		Long: `What is put while disks are missing gets a narrower code. Once they are back, write
it anew in the code of its policy. With --policy, also what has a name that begins
with PREFIX and was put under an older policy, with --all everything that was. Small
files in packs never get less parity than they have. The space of the old shards is
freed by gc, once their grace is over.`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts.Rate = int64(rate)
			if opts.All && opts.Prefix != "" {
				return usagef("both --all and --policy")
			}
			return a.with(cmd.Context(), reading(), func(st *blockframe.Store) error {
				return a.reshape(cmd.Context(), st, opts)
			})
		},
	}
	cmd.Flags().StringVar(&opts.Prefix, "policy", "", "also names that begin with it and were put under an older policy")
	cmd.Flags().BoolVar(&opts.All, "all", false, "also everything that was put under an older policy")
	cmd.Flags().BoolVar(&opts.DryRun, "dry-run", false, "only tell what would be done")
	cmd.Flags().Var(&rate, "rate", "bytes to read in a second at most, as 50MB")
	return cmd
}

// reshapeRow is what a reshaping did.
type reshapeRow struct {
	Looked  int64 `json:"looked"`  // acts of putting that were looked at
	Moved   int64 `json:"moved"`   // that are in another code now
	Bytes   int64 `json:"bytes"`   // of content in them
	Waiting int64 `json:"waiting"` // for disks that are missing
	Failed  int64 `json:"failed"`  // that could not be read in full, and stay
	DryRun  bool  `json:"dry_run,omitempty"`
}

func (a *app) reshape(ctx context.Context, st *blockframe.Store, opts blockframe.ReshapeOptions) error {
	rep, err := st.Reshape(ctx, opts)
	if err != nil {
		return err
	}
	if row := (reshapeRow{rep.Looked, rep.Moved, rep.Bytes, rep.Waiting, rep.Failed, opts.DryRun}); a.json {
		if err := writeJSON(a.out, row); err != nil {
			return err
		}
	} else {
		row.print(a)
	}
	if rep.Failed > 0 {
		return status(exitDamaged)
	}
	return nil
}

// print tells a person.
func (r *reshapeRow) print(a *app) {
	what := plural(r.Moved, "file or pack", "files and packs")
	switch {
	case r.DryRun:
		fmt.Fprintf(a.out, "would write %s anew, %s\n", what, human(r.Bytes))
	case r.Moved == 0:
		fmt.Fprintln(a.out, "nothing had to be written anew")
	default:
		fmt.Fprintf(a.out, "wrote %s anew, %s; gc frees the old shards once their grace is over\n", what, human(r.Bytes))
	}
	if r.Waiting > 0 {
		fmt.Fprintf(a.out, "%d wait until more disks are there, or more room\n", r.Waiting)
	}
	if r.Failed > 0 {
		fmt.Fprintf(a.out, "%d could not be read in full, and stay as they are: scrub --deep says why\n", r.Failed)
	}
}
