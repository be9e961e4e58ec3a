package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/blockframe/blockframe"
)

func (a *app) putCommand() *cobra.Command {
	var name string
	var recursive bool
	cmd := &cobra.Command{
		Use:     "put [-r] FILE|DIR|-... [--name NAME]",
		Aliases: []string{"commit"},
		Short:   "Store files, directory trees, or standard input",
		Long: `Store files under their names, or under NAME; - is standard input. With -r
directories are taken with all that is in them: modes, owners, times, extended
attributes, symbolic links and empty directories too. What is put durably is
stored when the command ends; a file that cannot be taken is named, the others
are stored, and the exit code is 1.

The same content under the same name changes nothing; other content becomes a new
version. With several operands, or a / at its end, NAME is the directory for them;
--name . is the top of the store.`,
		Args: takes(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			sources, err := planPut(args, name, recursive)
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), blockframe.Options{}, func(st *blockframe.Store) error {
				return a.put(cmd.Context(), st, sources)
			})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "name in the store (default the last part of the path)")
	cmd.Flags().BoolVarP(&recursive, "recursive", "r", false, "take directories with all that is in them")
	return cmd
}

// source is one operand of put.
type source struct {
	path string // "-" is standard input
	name string // in the store; "." for the content of a directory at the top
	info fs.FileInfo
}

// planPut finds out what the operands are and what names they get. Nothing is put
// if one of them is not there.
func planPut(args []string, name string, recursive bool) (list []source, err error) {
	for _, arg := range args {
		s := source{path: arg}
		if s.name, err = nameFor(arg, name, len(args) > 1); err != nil {
			return nil, err
		}
		if arg != "-" {
			if s.info, err = os.Stat(arg); err != nil {
				return nil, err
			}
			if s.info.IsDir() && !recursive {
				return nil, usagef("%s is a directory: put -r takes it with all that is in it", arg)
			}
		}
		list = append(list, s)
	}
	return list, nil
}

// nameFor returns the name in the store of an operand.
func nameFor(arg, name string, several bool) (string, error) {
	if name != "" {
		name = filepath.ToSlash(name)
		if slices.Contains(strings.Split(name, "/"), "..") {
			return "", fmt.Errorf("--name %s: %w: .. is no part of a name", quoted(name), fs.ErrInvalid)
		}
		into := strings.HasSuffix(name, "/")
		if name = path.Clean(name); name == "/" {
			name = "."
		}
		if !several && (!into || name == ".") {
			return name, nil
		}
	}
	if arg == "-" {
		return "", usagef("standard input needs a --name of its own")
	}
	abs, err := filepath.Abs(arg)
	if err != nil {
		return "", err
	}
	base := filepath.Base(abs)
	if base == string(filepath.Separator) {
		base = "."
	}
	return path.Join(name, base), nil
}

// put stores all sources, and goes on after one that cannot be.
func (a *app) put(ctx context.Context, st *blockframe.Store, sources []source) error {
	p := &putter{app: a, st: st, start: time.Now()}
	for _, s := range sources {
		err := p.source(ctx, s)
		if err == nil {
			continue
		}
		if fatal(err) {
			if p.same+p.files+p.dirs+p.links > 0 {
				p.summary()
			}
			return interrupted(s, err)
		}
		p.refuse(err)
	}
	return p.summary()
}

// interrupted says what became of a source when the command was interrupted. Which shards
// were under way then is of no interest.
func interrupted(s source, err error) error {
	if !errors.Is(err, context.Canceled) || errors.Is(err, blockframe.ErrUncertain) {
		return err
	}
	what := "is not stored"
	if s.info != nil && s.info.IsDir() {
		what = "is not stored, or only in part"
	}
	return &hinted{error: fmt.Errorf("interrupted: %s %s", quoted(s.name), what)}
}

// fatal reports whether nothing more can be put after an error.
func fatal(err error) bool {
	for _, is := range []error{context.Canceled, context.DeadlineExceeded, blockframe.ErrNoSpace, blockframe.ErrUnavailable,
		blockframe.ErrUncertain, blockframe.ErrDiverged, fs.ErrClosed} {
		if errors.Is(err, is) {
			return true
		}
	}
	return isIll(err)
}

// putter is one put command under way.
type putter struct {
	*app
	st  *blockframe.Store
	bar *bar

	start              time.Time
	files, dirs, links int
	same               int // files that were stored before, just so
	bytes              int64
	refused            int
}

// source puts one operand.
func (p *putter) source(ctx context.Context, s source) error {
	switch {
	case s.path == "-":
		return p.stdinput(ctx, s)
	case s.info.IsDir():
		return p.tree(ctx, s)
	case !s.info.Mode().IsRegular():
		return fmt.Errorf("%s is a %s: only files, directories and symbolic links are stored; - puts standard input", s.path, kindOfFile(s.info.Mode()))
	}
	p.bar = p.progress(s.name, s.info.Size())
	defer p.bar.done()
	return p.file(ctx, s.path, s.name)
}

// kindOfFile names what is neither file nor directory.
func kindOfFile(m fs.FileMode) string {
	switch {
	case m&fs.ModeSymlink != 0:
		return "symbolic link"
	case m.IsDir():
		return "directory"
	case m&fs.ModeCharDevice != 0:
		return "character device"
	case m&fs.ModeDevice != 0:
		return "block device"
	case m&fs.ModeNamedPipe != 0:
		return "named pipe"
	case m&fs.ModeSocket != 0:
		return "socket"
	}
	return "special file"
}

// stdinput puts standard input.
func (p *putter) stdinput(ctx context.Context, s source) error {
	p.bar = p.progress(s.name, -1)
	defer p.bar.done()
	obj, err := p.st.Put(ctx, s.name, countedReader{p.stdin, p.bar}, blockframe.PutOptions{})
	if err != nil {
		return err
	}
	return p.stored(obj)
}

// file puts one file by itself.
func (p *putter) file(ctx context.Context, name, as string) error {
	real, err := filepath.EvalSymlinks(name)
	if err != nil {
		return err
	}
	attr, err := blockframe.ReadAttr(real)
	if err != nil {
		return err
	}
	f, err := os.Open(real)
	if err != nil {
		return err
	}
	defer f.Close()
	obj, err := p.st.Put(ctx, as, countedFile{f, p.bar}, blockframe.PutOptions{Attr: &attr})
	if err != nil {
		return err
	}
	return p.stored(obj)
}

// stored counts and prints what was put.
func (p *putter) stored(o blockframe.Object) error {
	switch kindOf(o) {
	case "dir":
		p.dirs++
	case "symlink":
		p.links++
	default:
		if o.Created.Before(p.start) {
			p.same++
			break
		}
		p.files++
		p.bytes += o.Size
	}
	if p.json {
		return writeJSON(p.out, rowOf(o))
	}
	return nil
}

// refuse names what could not be put.
func (p *putter) refuse(err error) {
	p.refused++
	p.fail(err)
}

// summary ends the command.
func (p *putter) summary() error {
	if !p.json && !p.quiet {
		what := []string{plural(p.files, "file", "files")}
		if p.dirs > 0 {
			what = append(what, plural(p.dirs, "directory", "directories"))
		}
		if p.links > 0 {
			what = append(what, plural(p.links, "symbolic link", "symbolic links"))
		}
		unchanged := ""
		if p.same > 0 {
			unchanged = fmt.Sprintf("; %s stored before, unchanged", plural(p.same, "file was", "files were"))
		}
		fmt.Fprintf(p.out, "stored %s, %s%s\n", strings.Join(what, ", "), human(p.bytes), unchanged)
	}
	if p.refused > 0 {
		p.remark("%s could not be stored", plural(p.refused, "name", "names"))
		return status(exitError)
	}
	return nil
}
