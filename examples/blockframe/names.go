package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/blockframe/blockframe"
)

// nameRow says what became of a name.
type nameRow struct {
	Name string `json:"name"`
	Done string `json:"done"`
	To   string `json:"to,omitempty"`
}

func (a *app) rmCommand() *cobra.Command {
	var opts blockframe.DeleteOptions
	var recursive bool
	cmd := &cobra.Command{
		Use:   "rm [--version N|--all] [-r] NAME...",
		Short: "Delete names, or purge versions",
		Long: `Delete a name: it is gone from lists, and every version of it stays readable with
get --version. --version and --all purge for good: the space is free after the
grace, at the next gc. What is under retention or hold stays.`,
		Args: takes(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if opts.All && opts.Version != 0 {
				return usagef("--version and --all: one or the other")
			}
			return a.with(cmd.Context(), reading(), func(st *blockframe.Store) error {
				for _, name := range args {
					if err := a.rm(cmd.Context(), st, path.Clean(name), opts, recursive); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().Uint64Var(&opts.Version, "version", 0, "purge this version")
	cmd.Flags().BoolVar(&opts.All, "all", false, "purge all versions")
	cmd.Flags().BoolVarP(&recursive, "recursive", "r", false, "a directory with all that is in it")
	return cmd
}

// rm deletes or purges one name. Directories are removed when they are empty, or
// with all that is in them.
func (a *app) rm(ctx context.Context, st *blockframe.Store, name string, opts blockframe.DeleteOptions, recursive bool) error {
	obj, err := st.Stat(ctx, name)
	if err != nil && (!errors.Is(err, fs.ErrNotExist) || !opts.All && opts.Version == 0) {
		return err
	}
	if err == nil && obj.Mode.IsDir() {
		if recursive {
			return a.rmTree(ctx, st, name, opts)
		}
		err = st.Rmdir(ctx, name)
	} else {
		err = st.Delete(ctx, name, opts)
	}
	if err != nil {
		return err
	}
	return a.done(nameRow{Name: name, Done: removed(opts)})
}

func removed(opts blockframe.DeleteOptions) string {
	if opts.All || opts.Version != 0 {
		return "purged"
	}
	return "deleted"
}

// rmTree deletes all that is in a directory, and the directories from the deepest
// up. It stops at the first that cannot be deleted.
func (a *app) rmTree(ctx context.Context, st *blockframe.Store, dir string, opts blockframe.DeleteOptions) error {
	names, dirs := []string{}, []string{dir}
	for obj, err := range st.List(ctx, dir, blockframe.ListOptions{}) {
		switch {
		case err != nil:
			return err
		case obj.Mode.IsDir():
			dirs = append(dirs, obj.Name)
		default:
			names = append(names, obj.Name)
		}
	}
	for _, name := range names {
		if err := st.Delete(ctx, name, opts); err != nil {
			return err
		}
		if err := a.done(nameRow{Name: name, Done: removed(opts)}); err != nil {
			return err
		}
	}
	for _, name := range slices.Backward(dirs) {
		if err := st.Rmdir(ctx, name); err != nil {
			return err
		}
		if err := a.done(nameRow{Name: name, Done: removed(opts)}); err != nil {
			return err
		}
	}
	return nil
}

// done prints what became of a name, with --json; a person sees nothing, as with
// rm and mv of the system.
func (a *app) done(row nameRow) error {
	if a.json {
		return writeJSON(a.out, row)
	}
	return nil
}

func (a *app) mvCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "mv NAME NAME",
		Short: "Give an object or directory another name, with its history",
		Args:  takes(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), reading(), func(st *blockframe.Store) error {
				return a.mv(cmd.Context(), st, args[0], args[1])
			})
		},
	}
}

// mv renames; into a directory if the new name is one, as mv of the system does.
func (a *app) mv(ctx context.Context, st *blockframe.Store, from, to string) error {
	into := strings.HasSuffix(to, "/")
	from, to = path.Clean(from), path.Clean(to)
	if to == "." || to == "/" {
		to = path.Base(from)
	} else if obj, err := st.Stat(ctx, to); into || err == nil && obj.Mode.IsDir() {
		to = path.Join(to, path.Base(from))
	}
	if err := st.Rename(ctx, from, to); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%w\n  nothing is overwritten: rm or mv %s first", err, quoted(to))
		}
		return err
	}
	return a.done(nameRow{Name: from, Done: "renamed", To: to})
}

func (a *app) retainCommand() *cobra.Command {
	var until, span string
	var version uint64
	cmd := &cobra.Command{
		Use:   "retain NAME --for TIME | --until DATE",
		Short: "Keep a version from being deleted before a time",
		Long: `Keep a version from being deleted or purged before a time: in TIME from now, as
12h, 30d or 7y, or at DATE, as 2031-01-31 or 2031-01-31T12:00:00Z. It can be made
longer, and never shorter.`,
		Args: takes(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := parseUntil(until, span, time.Now())
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), reading(), func(st *blockframe.Store) error {
				if err := st.Retain(cmd.Context(), args[0], version, t); err != nil {
					return err
				}
				return a.keptNow(cmd.Context(), st, args[0], version)
			})
		},
	}
	cmd.Flags().StringVar(&until, "until", "", "date")
	cmd.Flags().StringVar(&span, "for", "", "time from now")
	cmd.Flags().Uint64Var(&version, "version", 0, "version (default the current one)")
	return cmd
}

// parseUntil returns the end of a retention.
func parseUntil(until, span string, now time.Time) (time.Time, error) {
	if (until == "") == (span == "") {
		return time.Time{}, usagef("how long? Give either --for or --until")
	}
	if span != "" {
		d, err := parseSpan(span)
		if err != nil {
			return time.Time{}, usageError{err}
		}
		return now.Add(d), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, until, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usagef("date %q: want 2031-01-31 or 2031-01-31T12:00:00Z", until)
}

func (a *app) holdCommand() *cobra.Command {
	var off bool
	var version uint64
	cmd := &cobra.Command{
		Use:   "hold NAME [--off]",
		Short: "Keep a version from being deleted until the hold is lifted",
		Args:  takes(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), reading(), func(st *blockframe.Store) error {
				if err := st.Hold(cmd.Context(), args[0], version, !off); err != nil {
					return err
				}
				return a.keptNow(cmd.Context(), st, args[0], version)
			})
		},
	}
	cmd.Flags().BoolVar(&off, "off", false, "lift the hold")
	cmd.Flags().Uint64Var(&version, "version", 0, "version (default the current one)")
	return cmd
}

// keptNow prints what keeps a version.
func (a *app) keptNow(ctx context.Context, st *blockframe.Store, name string, version uint64) error {
	obj, err := st.StatVersion(ctx, name, version)
	if err != nil {
		return err
	}
	if a.json {
		return writeJSON(a.out, rowOf(obj))
	}
	return a.versionLine(obj)
}
