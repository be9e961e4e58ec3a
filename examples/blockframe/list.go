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

func (a *app) lsCommand() *cobra.Command {
	var flat, deleted bool
	cmd := &cobra.Command{
		Use:   "ls [PREFIX]",
		Short: "List what is stored",
		Long: `List all names, or those that lie in the directory PREFIX, or else those that
begin with PREFIX: mode, size, time of modification, name.`,
		Args: takes(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			prefix := ""
			if len(args) > 0 {
				prefix = args[0]
			}
			opts := blockframe.ListOptions{Flat: flat || deleted, Deleted: deleted}
			return a.with(cmd.Context(), reading(), func(st *blockframe.Store) error {
				return a.ls(cmd.Context(), st, prefix, opts)
			})
		},
	}
	cmd.Flags().BoolVar(&flat, "flat", false, "only what is in the directory itself")
	cmd.Flags().BoolVar(&deleted, "deleted", false, "deleted names too, with the time of their deletion; implies --flat")
	return cmd
}

// ls lists a directory, or what begins with a prefix.
func (a *app) ls(ctx context.Context, st *blockframe.Store, prefix string, opts blockframe.ListOptions) error {
	dir := strings.Trim(prefix, "/")
	if dir == "" {
		dir = "."
	}
	err := a.list(ctx, st, dir, "", opts)
	if !errors.Is(err, fs.ErrNotExist) || strings.HasSuffix(prefix, "/") {
		return err
	}
	found := false
	for obj, lerr := range st.List(ctx, path.Dir(dir), blockframe.ListOptions{Flat: true, Deleted: opts.Deleted}) {
		if lerr != nil {
			return err // there is no such directory either
		}
		if !strings.HasPrefix(obj.Name, dir) {
			continue
		}
		found = true
		if err := a.object(obj); err != nil {
			return err
		}
		if obj.Mode.IsDir() && !opts.Flat {
			if err := a.list(ctx, st, obj.Name, obj.Name, opts); err != nil {
				return err
			}
		}
	}
	if !found {
		return err
	}
	return nil
}

// list prints what is in a directory.
func (a *app) list(ctx context.Context, st *blockframe.Store, dir, but string, opts blockframe.ListOptions) error {
	for obj, err := range st.List(ctx, dir, opts) {
		if err != nil {
			return err
		}
		if obj.Name == but {
			continue
		}
		if err := a.object(obj); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) statCommand() *cobra.Command {
	var history bool
	var version uint64
	cmd := &cobra.Command{
		Use:   "stat [--history] NAME",
		Short: "Describe a name, or all its versions",
		Args:  takes(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), reading(), func(st *blockframe.Store) error {
				if history {
					return a.history(cmd.Context(), st, args[0])
				}
				obj, err := st.StatVersion(cmd.Context(), args[0], version)
				if err != nil {
					return err
				}
				survival, err := st.Survival(cmd.Context(), obj)
				if err != nil {
					return err
				}
				return a.describe(obj, survival)
			})
		},
	}
	cmd.Flags().BoolVar(&history, "history", false, "all versions, newest first")
	cmd.Flags().Uint64Var(&version, "version", 0, "describe this version (default the current one)")
	return cmd
}

// history prints all versions of a name.
func (a *app) history(ctx context.Context, st *blockframe.Store, name string) error {
	for obj, err := range st.Versions(ctx, name) {
		if err != nil {
			return err
		}
		if a.json {
			err = writeJSON(a.out, rowOf(obj))
		} else {
			err = a.versionLine(obj)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// versionLine prints a version in one line.
func (a *app) versionLine(o blockframe.Object) error {
	what := o.ID.String()
	switch {
	case o.Deleted:
		what = "deleted"
	case o.Target != "":
		what = "-> " + quoted(o.Target)
	}
	_, err := fmt.Fprintf(a.out, "%4d  %s %12d  %s%s\n", o.Version, o.Created.Local().Format(time.RFC3339), o.Size, what, kept(o))
	return err
}

// kept says what keeps a version from being removed.
func kept(o blockframe.Object) (s string) {
	if !o.RetainUntil.IsZero() {
		s += ", retained until " + o.RetainUntil.Local().Format(time.RFC3339)
	}
	if o.Hold {
		s += ", on hold"
	}
	return s
}

// statRow is what stat says of a version.
type statRow struct {
	objectRow
	Survives  int `json:"survives"`  // how many disks, any of them, may be lost at once; -1: some of it is lost
	Tolerance int `json:"tolerance"` // how many shards of each extent, any of them
}

// describe prints all that is known of a version.
func (a *app) describe(o blockframe.Object, of blockframe.Survival) error {
	if a.json {
		return writeJSON(a.out, statRow{rowOf(o), of.Disks, of.Shards})
	}
	row := rowOf(o)
	line := func(what, format string, args ...any) {
		fmt.Fprintf(a.out, "%-9s %s\n", what, fmt.Sprintf(format, args...))
	}
	line("name", "%s", quoted(o.Name))
	line("type", "%s", row.Type)
	if row.ID != nil {
		line("address", "%v", o.ID)
		line("size", "%d", o.Size)
	}
	if o.Target != "" {
		line("target", "%s", quoted(o.Target))
	}
	line("mode", "%s", row.Mode)
	line("owner", "%d:%d", o.UID, o.GID)
	line("modified", "%s", o.ModTime.Local().Format(time.RFC3339Nano))
	for name, value := range o.Xattrs {
		line("xattr", "%s = %q", quoted(name), value)
	}
	if o.Version > 0 {
		line("version", "%d, stored %s%s", o.Version, o.Created.Local().Format(time.RFC3339), kept(o))
	}
	if o.Policy != "" {
		line("policy", "%s", o.Policy)
	}
	switch {
	case of.Shards < 0:
		line("survives", "nothing: some of it is lost already")
	case of.Disks == 0 && of.Shards == 0:
		line("survives", "no loss")
	case of.Disks == 0:
		line("survives", "the loss of any %s, but of no disk", plural(of.Shards, "shard", "shards"))
	case of.Shards > 0:
		line("survives", "the loss of any %s, or of any %s", plural(of.Disks, "disk", "disks"), plural(of.Shards, "shard", "shards"))
	default:
		line("survives", "the loss of any %s", plural(of.Disks, "disk", "disks"))
	}
	return nil
}
