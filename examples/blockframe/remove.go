package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/spf13/cobra"

	"github.com/blockframe/blockframe"
)

func (a *app) rmCommand() *cobra.Command {
	var opts blockframe.DeleteOptions
	var recursive bool
	cmd := &cobra.Command{
		Use:   "rm [--version N|--all] [-r] NAME...",
		Short: "Delete names, or purge versions",
		Long: `Delete a name: it is gone from lists, and every version of it stays readable with
get --version. --version and --all purge for good: the space is free after the
grace, at the next gc. What is under retention or hold stays; it is named, the
rest goes, and the exit code is 1.`,
		Args: takes(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if opts.All && opts.Version != 0 {
				return usagef("--version and --all: one or the other")
			}
			return a.with(cmd.Context(), reading(), func(st *blockframe.Store) error {
				r := &remover{app: a, st: st, opts: opts, recursive: recursive}
				return r.remove(cmd.Context(), args)
			})
		},
	}
	cmd.Flags().Uint64Var(&opts.Version, "version", 0, "purge this version")
	cmd.Flags().BoolVar(&opts.All, "all", false, "purge all versions")
	cmd.Flags().BoolVarP(&recursive, "recursive", "r", false, "a directory with all that is in it")
	return cmd
}

// remover is one rm command under way.
type remover struct {
	*app
	st        *blockframe.Store
	opts      blockframe.DeleteOptions
	recursive bool

	gone, kept, absent int             // names
	above              map[string]bool // directories with something in them that was kept
}

// remove removes all names, and goes on after one that cannot be.
func (r *remover) remove(ctx context.Context, names []string) error {
	r.above = map[string]bool{}
	var err error
	for _, name := range names {
		if err = r.name(ctx, path.Clean(name)); err != nil {
			break
		}
	}
	if err == nil && r.kept+r.absent > 0 {
		err = status(exitError)
	}
	if err != nil && r.gone+r.kept+r.absent > 1 {
		r.remark("%s", r.summary())
	}
	return err
}

// summary says what became of the names.
func (r *remover) summary() string {
	s := fmt.Sprintf("%s %s", plural(r.gone, "name was", "names were"), r.verb())
	if r.kept > 0 {
		s += fmt.Sprintf(", %s kept", plural(r.kept, "was", "were"))
	}
	if r.absent > 0 {
		s += fmt.Sprintf(", %s not there", plural(r.absent, "was", "were"))
	}
	return s
}

// verb says what is done to names.
func (r *remover) verb() string {
	if r.opts.All || r.opts.Version != 0 {
		return "purged"
	}
	return "deleted"
}

// name removes one name. Directories are removed when they are empty, or with all
// that is in them.
func (r *remover) name(ctx context.Context, name string) error {
	obj, err := r.st.Stat(ctx, name)
	if err != nil && (!errors.Is(err, fs.ErrNotExist) || r.verb() == "deleted") {
		return r.count(name, err)
	}
	if err == nil && obj.Mode.IsDir() {
		if r.recursive {
			return r.tree(ctx, name)
		}
		return r.count(name, r.st.Rmdir(ctx, name))
	}
	return r.count(name, r.st.Delete(ctx, name, r.opts))
}

// tree removes all that is in a directory, and the directories from the deepest up.
func (r *remover) tree(ctx context.Context, dir string) error {
	names, dirs := []string{}, []string{dir}
	for obj, err := range r.st.List(ctx, dir, blockframe.ListOptions{}) {
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
		if err := r.count(name, r.st.Delete(ctx, name, r.opts)); err != nil {
			return err
		}
	}
	for _, name := range slices.Backward(dirs) {
		if r.above[name] {
			r.kept++ // it is clear why
			continue
		}
		if err := r.count(name, r.st.Rmdir(ctx, name)); err != nil {
			return err
		}
	}
	return nil
}

// count counts a name that was removed, and tells of one that was not. An error that
// would keep all others too is returned.
func (r *remover) count(name string, err error) error {
	if err == nil {
		r.gone++
		return r.done(nameRow{Name: name, Done: r.verb()})
	}
	if fatal(err) {
		return err
	}
	if errors.Is(err, fs.ErrNotExist) {
		r.absent++
		r.fail(err)
		return nil
	}
	r.kept++
	for dir := path.Dir(name); dir != "." && dir != "/"; dir = path.Dir(dir) {
		r.above[dir] = true
	}
	r.fail(err)
	return nil
}
