package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/blockframe/blockframe"
)

// policyFlags are those of policy set.
type policyFlags struct {
	policy blockframe.Policy
	code   string
	most   sizeFlag
	extent sizeFlag
	preset string
}

func (a *app) policyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy set|get|list|unset [PREFIX]",
		Short: "Say how names under a prefix are stored",
		Long: `A policy says with which code objects are stored whose name begins with PREFIX. It
counts for what is put from then on. Of several the longest prefix wins, and then
the smallest --max-size that holds the object. The prefix "" is all names. What no
policy is for gets the default code, by the number of disks.`,
		Args: cobra.ArbitraryArgs,
		RunE: unknown,
	}
	cmd.AddCommand(a.policySet(), a.policyList(), a.policyGet(), a.policyUnset())
	return cmd
}

func (a *app) policySet() *cobra.Command {
	var f policyFlags
	cmd := &cobra.Command{
		Use:   "set PREFIX --code K+M | --preset archive",
		Short: "Record a policy, in place of one of the same prefix and size",
		Args:  takes(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			policies, err := f.policies(args[0])
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), reading(), func(st *blockframe.Store) error {
				for _, p := range policies {
					if err := st.SetPolicy(cmd.Context(), p); err != nil {
						return err
					}
				}
				return a.policies(st, func(p blockframe.Policy) bool { return p.Prefix == args[0] })
			})
		},
	}
	cmd.Flags().StringVar(&f.policy.Name, "name", "", "name of the policy, as it appears in manifests")
	cmd.Flags().StringVar(&f.code, "code", "", "K data and M parity blocks in each stripe, as 8+3")
	cmd.Flags().Var(&f.most, "max-size", "largest object that it is for, as 10MB (default any)")
	cmd.Flags().Var(&f.extent, "extent", "length of the extents of an object, a power of two from 1MiB to 256MiB")
	cmd.Flags().IntVar(&f.policy.PerBackend, "per-disk", 0, "shards of a stripe that one disk may take (default 1)")
	cmd.Flags().BoolVar(&f.policy.Fragile, "fragile", false, "accept a code that survives the loss of no disk")
	cmd.Flags().StringVar(&f.preset, "preset", "", "archive: four copies up to 10 MB, four copies of every 32 MiB up to 1 GB, 30+3 above")
	return cmd
}

// policies returns what the flags say.
func (f *policyFlags) policies(prefix string) ([]blockframe.Policy, error) {
	switch f.preset {
	case "archive":
		return blockframe.TiersArchive(prefix, f.policy.PerBackend), nil
	case "":
	default:
		return nil, usagef("preset %s is not known; archive is", quoted(f.preset))
	}
	p := f.policy
	p.Prefix, p.MaxSize, p.Extent = prefix, int64(f.most), int64(f.extent)
	if f.code == "" {
		return nil, usagef("which code for %s? Give --code or --preset; policy unset goes back to the default", quoted(prefix))
	}
	var err error
	if p.Code, err = blockframe.ParseCode(f.code); err != nil {
		return nil, usageError{err}
	}
	return []blockframe.Policy{p}, nil
}

func (a *app) policyList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "Print all policies", Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), reading(), func(st *blockframe.Store) error {
				if err := a.policies(st, func(blockframe.Policy) bool { return true }); err != nil {
					return err
				}
				return a.defaultPolicy(st)
			})
		},
	}
}

func (a *app) policyGet() *cobra.Command {
	return &cobra.Command{
		Use: "get PREFIX", Short: "Print the policies of a prefix", Args: takes(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), reading(), func(st *blockframe.Store) error {
				has := func(p blockframe.Policy) bool { return p.Prefix == args[0] }
				for _, p := range st.Policies() {
					if has(p) {
						return a.policies(st, has)
					}
				}
				return fmt.Errorf("get policy: %w: none has the prefix %q", fs.ErrNotExist, args[0])
			})
		},
	}
}

func (a *app) policyUnset() *cobra.Command {
	return &cobra.Command{
		Use: "unset PREFIX", Short: "Remove all policies of a prefix", Args: takes(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), reading(), func(st *blockframe.Store) error {
				if err := st.UnsetPolicy(cmd.Context(), args[0]); err != nil {
					return err
				}
				return a.done(nameRow{Name: args[0], Done: "unset"})
			})
		},
	}
}

// policyRow is a policy as --json shows it.
type policyRow struct {
	Name     string `json:"name,omitempty"`
	Prefix   string `json:"prefix"`
	MaxSize  int64  `json:"max_size,omitempty"`
	Code     string `json:"code,omitempty"` // absent: the default for the number of disks
	Extent   int64  `json:"extent,omitempty"`
	PerDisk  int    `json:"per_disk,omitempty"`
	Fragile  bool   `json:"fragile,omitempty"`
	Survives int    `json:"survives"`          // how many disks, any of them
	Default  bool   `json:"default,omitempty"` // nobody set it: it is for all that no policy is for
}

// policies prints those policies that f chooses.
func (a *app) policies(st *blockframe.Store, f func(blockframe.Policy) bool) error {
	disks := len(st.Disks(context.Background()))
	for _, p := range st.Policies() {
		if !f(p) {
			continue
		}
		row := policyRow{Name: p.Name, Prefix: p.Prefix, MaxSize: p.MaxSize, Extent: p.Extent, PerDisk: p.PerBackend, Fragile: p.Fragile, Survives: p.Survives(disks)}
		if p.Code != (blockframe.Code{}) {
			row.Code = p.Code.String()
		}
		if err := a.policy(row); err != nil {
			return err
		}
	}
	return nil
}

// defaultPolicy prints how that is stored which no policy is for.
func (a *app) defaultPolicy(st *blockframe.Store) error {
	for _, p := range st.Policies() {
		if p.Prefix == "" && p.MaxSize == 0 {
			return nil // there is nothing
		}
	}
	disks := len(st.Disks(context.Background()))
	return a.policy(policyRow{Name: "default", Code: blockframe.DefaultCode(disks).String(), Survives: blockframe.Policy{}.Survives(disks), Default: true})
}

func (a *app) policy(r policyRow) error {
	if a.json {
		return writeJSON(a.out, r)
	}
	code, size := r.Code, "any size"
	if code == "" {
		code = "default"
	}
	if r.MaxSize > 0 {
		size = "up to " + human(r.MaxSize)
	}
	survives := "survives any " + plural(r.Survives, "disk", "disks")
	if r.Survives == 0 {
		survives = "survives no disk"
	}
	_, err := fmt.Fprintf(a.out, "%-24q %-16s %-8s %s  %s\n", r.Prefix, size, code, survives, r.Name)
	return err
}

func (a *app) gcCommand() *cobra.Command {
	var opts blockframe.CollectOptions
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Free the space of what was purged",
		Long: `Remove the shards that nothing can name any more: of what was purged, once its
grace is over, and of puts that were interrupted. Nothing is removed while a disk
is absent.

Complete objects that no record names are kept, and named: they are of puts that
were cut off before they were acknowledged, or of a log that was restored from an
older copy. --unclaimed removes them too.`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), reading(), func(st *blockframe.Store) error {
				return a.gc(cmd.Context(), st, opts)
			})
		},
	}
	cmd.Flags().BoolVar(&opts.DryRun, "dry-run", false, "only tell what could go")
	cmd.Flags().BoolVar(&opts.Unclaimed, "unclaimed", false, "remove complete objects that no record names too")
	return cmd
}

// gcRow is what a collection did.
type gcRow struct {
	Uploads int64 `json:"uploads"` // ended
	Waiting int64 `json:"waiting"` // for their grace to end
	Shards  int64 `json:"shards"`  // removed
	Orphans int64 `json:"orphans"` // of them, left by interrupted puts and repairs
	Strange int64 `json:"strange"` // files that are none of ours: left alone
	DryRun  bool  `json:"dry_run,omitempty"`

	Unclaimed      int64    `json:"unclaimed"` // complete objects that no record names
	UnclaimedNames []string `json:"unclaimed_names,omitempty"`
}

func (a *app) gc(ctx context.Context, st *blockframe.Store, opts blockframe.CollectOptions) error {
	rep, err := st.Collect(ctx, opts)
	if err == nil && rep.Skipped != nil {
		err = fmt.Errorf("nothing was removed: %w", rep.Skipped)
	}
	if err != nil {
		return err
	}
	row := gcRow{rep.Killed, rep.Waiting, rep.Blobs, rep.Orphans, rep.Strange, opts.DryRun, rep.Unclaimed, rep.UnclaimedNames}
	if a.json {
		return writeJSON(a.out, row)
	}
	verb := "removed"
	if opts.DryRun {
		verb = "would remove"
	}
	fmt.Fprintf(a.out, "%s %s, %d of them left by interrupted work; %s for the end of its grace\n",
		verb, plural(row.Shards, "shard", "shards"), row.Orphans, plural(row.Waiting, "upload waits", "uploads wait"))
	if !opts.Unclaimed {
		a.unclaimed(rep.Unclaimed, rep.UnclaimedNames)
	}
	return nil
}

// unclaimed tells of complete objects that no record names.
func (a *app) unclaimed(n int64, names []string) {
	if n == 0 {
		return
	}
	fmt.Fprintf(a.out, "%s kept: of puts that were cut off before they were acknowledged, or of a log that was restored from an older copy; gc --unclaimed removes them\n",
		plural(n, "complete object that no record names is", "complete objects that no record names are"))
	for _, name := range names {
		fmt.Fprintf(a.out, "  %s\n", quoted(name))
	}
	if more := n - int64(len(names)); more > 0 {
		fmt.Fprintf(a.out, "  and %d more\n", more)
	}
}

// openFile opens a regular file and returns its size.
func openFile(name string) (*os.File, int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a directory", name)
	} else if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is a %s, no file", name, kindOfFile(info.Mode()))
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}
