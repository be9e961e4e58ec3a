package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
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
