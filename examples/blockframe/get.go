package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"github.com/blockframe/blockframe"
)

// getFlags are those of get.
type getFlags struct {
	out       string
	version   uint64
	recursive bool
	force     bool
}

func (a *app) getCommand() *cobra.Command {
	var flags getFlags
	cmd := &cobra.Command{
		Use:   "get NAME|b3:HEX [-r] [-o FILE] [--version N]",
		Short: "Get a file or a tree back",
		Long: `Get an object by its name or by its address, to standard output or into FILE.
Every byte was verified before it is written; a file appears under its name when
it is complete. With -r NAME is a directory, and FILE the directory that becomes
like it (default the last part of NAME); "." is the whole store.

Exit code 4 says that a range of an object is lost, and which.`,
		Args: takes(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.check(a.json); err != nil {
				return err
			}
			g := &getter{app: a, flags: flags}
			opts := blockframe.Options{Events: g.seen.events()}
			return a.with(cmd.Context(), opts, func(st *blockframe.Store) error {
				g.st = st
				err := g.get(cmd.Context(), args[0])
				g.mend(cmd.Context(), err)
				return err
			})
		},
	}
	cmd.Flags().StringVarP(&flags.out, "out", "o", "", "file, or with -r directory, to write; - is standard output")
	cmd.Flags().Uint64Var(&flags.version, "version", 0, "version as stat --history lists it (default the current one)")
	cmd.Flags().BoolVarP(&flags.recursive, "recursive", "r", false, "get a directory with all that is in it")
	cmd.Flags().BoolVar(&flags.force, "force", false, "replace files that exist")
	return cmd
}

// check returns what does not go together.
func (f *getFlags) check(json bool) error {
	switch {
	case f.recursive && f.version != 0:
		return usagef("-r and --version: versions are those of one file")
	case f.recursive && f.out == "-":
		return usagef("-r and -o -: a tree cannot be written to standard output")
	case json && !f.recursive && (f.out == "" || f.out == "-"):
		return usagef("--json needs -o FILE: standard output would be the content")
	}
	return nil
}

// getter is one get command under way.
type getter struct {
	*app
	st    *blockframe.Store
	flags getFlags
	seen  seen
}

// get gets what an operand names.
func (g *getter) get(ctx context.Context, name string) error {
	if g.flags.recursive {
		return g.tree(ctx, path.Clean(name))
	}
	rd, err := g.open(ctx, name)
	if err != nil {
		return err
	}
	defer rd.Close()
	bar := g.progress(name, rd.Size())
	defer bar.done()
	if g.flags.out == "" || g.flags.out == "-" {
		_, err := io.Copy(countedWriter{g.out, bar}, rd)
		return err
	}
	if err := g.into(rd, g.flags.out, bar); err != nil {
		return err
	}
	if g.json {
		return writeJSON(g.out, gotRow{objectRow: g.row(rd.Object()), File: g.flags.out})
	}
	return nil
}

// open opens an object by name or address.
func (g *getter) open(ctx context.Context, name string) (*blockframe.Reader, error) {
	if !strings.HasPrefix(name, "b3:") {
		return g.named(ctx, name)
	}
	if id, err := blockframe.ParseID(name); err == nil && g.flags.version == 0 {
		return g.st.OpenID(ctx, id)
	} else if rd, nerr := g.named(ctx, name); nerr == nil { // a file may have such a name
		return rd, nil
	} else if err != nil {
		return nil, err
	}
	return nil, usagef("%s is an address: it has no versions", name)
}

// named opens an object by name. Symbolic links are followed.
func (g *getter) named(ctx context.Context, name string) (*blockframe.Reader, error) {
	obj, err := g.st.StatVersion(ctx, name, g.flags.version)
	if err == nil && obj.Mode.IsDir() {
		return nil, usagef("%s is a directory: get -r gets it with all that is in it", quoted(name))
	}
	if err == nil && obj.Mode&fs.ModeSymlink != 0 && g.flags.version == 0 {
		if info, err := fs.Stat(g.st.FS(), name); err == nil {
			if target, ok := info.Sys().(blockframe.Object); ok {
				name = target.Name
			}
		}
	}
	return g.st.OpenVersion(ctx, name, g.flags.version)
}

// gotRow is what get prints with --json.
type gotRow struct {
	objectRow
	File string `json:"file"`
}

// row describes what was read; an object that was opened by its address has
// neither version nor attributes.
func (g *getter) row(o blockframe.Object) objectRow { return rowOf(o) }

// into writes an object to a file: complete or not at all, unless the file is a
// device or pipe.
func (g *getter) into(rd *blockframe.Reader, file string, bar *bar) error {
	info, err := os.Stat(file)
	switch {
	case err == nil && info.IsDir():
		return usagef("%s is a directory: -o names the file to write", file)
	case err == nil && !info.Mode().IsRegular():
		f, err := os.OpenFile(file, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = io.Copy(countedWriter{f, bar}, rd)
		return errors.Join(err, f.Close())
	case err == nil && !g.flags.force:
		return fmt.Errorf("%s exists, and was left as it is: --force replaces it", file)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	d, err := openDir(file)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.write(path.Base(d.last), rd, bar); err != nil {
		return err
	}
	return d.sync()
}

// mend waits for the repair of what was found damaged on the way, and says so. That what
// was missing was computed is true if the get succeeded, or shards could be repaired.
func (g *getter) mend(ctx context.Context, got error) {
	damaged, absent, _, _ := g.seen.counts()
	if damaged == 0 && absent == 0 {
		return
	}
	rep, err := g.st.Repair(ctx)
	_, _, repaired, blocks := g.seen.counts()
	msg := "found damage in " + plural(damaged, "shard", "shards")
	switch {
	case damaged == 0:
	case repaired > 0:
		g.remark("%s: computed what was missing, and repaired %s (%s)", msg, plural(repaired, "shard", "shards"), plural(blocks, "block", "blocks"))
	case got == nil:
		g.remark("%s: computed what was missing, and repaired nothing", msg)
	default:
		g.remark("%s, and repaired nothing", msg)
	}
	if absent > 0 {
		g.remark("shards are on a disk that is not there")
	}
	switch {
	case err != nil:
		g.remark("repair: %v", err)
	case rep.Left > 0:
		g.remark("%s could not be repaired, the first because of: %v; blockframe scrub tells more", plural(rep.Left, "shard", "shards"), rep.Errs[0])
	}
}
