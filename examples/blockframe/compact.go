package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/blockframe/blockframe"
)

func (a *app) compactCommand() *cobra.Command {
	var opts blockframe.CompactOptions
	var rate sizeFlag
	cmd := &cobra.Command{
		Use:   "compact",
		Short: "Put small files together, without what was purged",
		Long: `Files of up to 256 KiB lie in packs with others. Put the contents of small packs,
and of those of which half was purged, together in large ones, in the code of their
policy. Nothing is moved unless much is gained. The space of the old packs is freed
by gc, once their grace is over.`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts.Rate = int64(rate)
			return a.with(cmd.Context(), reading(), func(st *blockframe.Store) error {
				return a.compact(cmd.Context(), st, opts)
			})
		},
	}
	cmd.Flags().BoolVar(&opts.DryRun, "dry-run", false, "only tell what would be moved")
	cmd.Flags().Var(&rate, "rate", "bytes to read in a second at most, as 50MB")
	return cmd
}

// compactRow is what a compaction did.
type compactRow struct {
	Packs    int64 `json:"packs"`    // looked at
	Bytes    int64 `json:"bytes"`    // in them
	Waste    int64 `json:"waste"`    // of these, bytes that no version refers to
	Emptied  int64 `json:"emptied"`  // packs whose contents moved
	Written  int64 `json:"written"`  // packs they moved into
	Contents int64 `json:"contents"` // that moved
	Moved    int64 `json:"moved"`    // bytes of them
	Failed   int64 `json:"failed"`   // contents that could not be read, and stay
	DryRun   bool  `json:"dry_run,omitempty"`
	Stored   int64 `json:"stored"` // bytes that everything takes on the disks, about
	Live     int64 `json:"live"`   // bytes of content that versions refer to
}

func (a *app) compact(ctx context.Context, st *blockframe.Store, opts blockframe.CompactOptions) error {
	rep, err := st.Compact(ctx, opts)
	if err != nil {
		return err
	}
	row := compactRow{rep.Packs, rep.Bytes, rep.Waste, rep.Emptied, rep.Written, rep.Contents, rep.Moved, rep.Failed, opts.DryRun, rep.Stored, rep.Live}
	if a.json {
		if err := writeJSON(a.out, row); err != nil {
			return err
		}
		return row.status()
	}
	fmt.Fprintf(a.out, "%s of %s, %s of it referred to no more\n", plural(row.Packs, "pack", "packs"), human(row.Bytes), human(row.Waste))
	if row.Live > 0 {
		fmt.Fprintf(a.out, "all: %s of content take %s on the disks, %.2f times that\n", human(row.Live), human(row.Stored), float64(row.Stored)/float64(row.Live))
	}
	switch {
	case opts.DryRun:
		fmt.Fprintf(a.out, "would empty %s\n", plural(row.Emptied, "pack", "packs"))
	case row.Emptied == 0:
		fmt.Fprintln(a.out, "nothing is gained by moving any")
	default:
		fmt.Fprintf(a.out, "moved %s, %s, from %s into %s; gc frees the old ones once their grace is over\n", plural(row.Contents, "content", "contents"),
			human(row.Moved), plural(row.Emptied, "pack", "packs"), plural(row.Written, "pack", "packs"))
	}
	if row.Failed > 0 {
		fmt.Fprintf(a.out, "%s could not be read, and stay where they are: scrub --deep says why\n", plural(row.Failed, "content", "contents"))
	}
	return row.status()
}

// status returns the exit code: what cannot be read is damaged at least.
func (r *compactRow) status() error {
	if r.Failed > 0 {
		return status(exitDamaged)
	}
	return nil
}
