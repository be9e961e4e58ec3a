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

	"golang.org/x/sync/errgroup"

	"github.com/blockframe/blockframe"
)

// parallelFiles is the number of files that are written at once: their syncs
// then share the disk's.
const parallelFiles = 8

// tree restores a directory of the store. What cannot be written is named, and the
// rest goes on.
func (g *getter) tree(ctx context.Context, name string) error {
	out := g.flags.out
	if name != "." {
		obj, err := g.st.Stat(ctx, name)
		if err != nil {
			return err
		}
		if !obj.Mode.IsDir() {
			return usagef("%s is a %s: get without -r gets it", quoted(name), kindOf(obj))
		}
	}
	if out == "" {
		if out = path.Base(name); name == "." {
			return usagef("the whole store: -o names the directory to write")
		}
	}
	if err := os.MkdirAll(out, 0o777); err != nil {
		return err
	}
	to, err := openTarget(out)
	if err != nil {
		return err
	}
	defer to.Close()
	r := &restore{getter: g, from: name, to: to}
	return r.run(ctx)
}

// restore is one tree on its way out of the store.
type restore struct {
	*getter
	from string
	to   *target
	bar  *bar
	dirs []restored // made, in the order of the store: parents first

	tally
}

type restored struct {
	name string // in the target
	obj  blockframe.Object
}

// run writes everything: directories first as they come, files in between, and the
// attributes of directories last, when nothing in them changes any more.
func (r *restore) run(ctx context.Context) error {
	total, err := r.size(ctx)
	if err != nil {
		return err
	}
	r.bar = r.progress(r.from, total)
	defer r.bar.done()
	var work errgroup.Group
	work.SetLimit(parallelFiles)
	var walkErr error
	skip := "" // a directory that could not be made, with all beneath
	for obj, err := range r.st.List(ctx, r.from, blockframe.ListOptions{}) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			walkErr = err
			break
		}
		if skip != "" && strings.HasPrefix(obj.Name, skip+"/") {
			continue
		}
		name, err := r.local(obj.Name)
		if err == nil && obj.Mode.IsDir() {
			err = r.to.mkdir(name)
		}
		switch {
		case err != nil:
			r.refuse(fmt.Errorf("%s: %w", quoted(obj.Name), err))
			if obj.Mode.IsDir() {
				skip = obj.Name
			}
		case obj.Mode.IsDir():
			r.dirs = append(r.dirs, restored{name, obj})
		default:
			work.Go(func() error { r.count(obj, r.write(ctx, name, obj)); return nil })
		}
	}
	work.Wait()
	if err := errors.Join(walkErr, r.finish(ctx)); err != nil {
		return err
	}
	return r.summary()
}

// size returns the bytes to come, for the bar.
func (r *restore) size(ctx context.Context) (total int64, err error) {
	if !r.shows() {
		return 0, nil
	}
	for obj, err := range r.st.List(ctx, r.from, blockframe.ListOptions{}) {
		if err != nil {
			return 0, err
		}
		total += obj.Size
	}
	return total, nil
}

// local returns the place of a name in the target.
func (r *restore) local(name string) (string, error) {
	if r.from != "." {
		name = strings.TrimPrefix(name, r.from+"/")
	}
	return filepath.Localize(name)
}

// write restores one file or symbolic link.
func (r *restore) write(ctx context.Context, name string, obj blockframe.Object) error {
	if info, err := r.to.root.Lstat(name); err == nil {
		if !r.flags.force {
			return &existsError{r.to.at(name)}
		}
		if info.IsDir() {
			return fmt.Errorf("%s is a directory, and a %s is to be there: move it away", r.to.at(name), kindOf(obj))
		}
	}
	if obj.Mode&fs.ModeSymlink != 0 {
		return r.to.symlink(name, obj.Attr)
	}
	rd, err := r.st.OpenVersion(ctx, obj.Name, obj.Version)
	if err != nil {
		return err
	}
	defer rd.Close()
	return r.to.write(name, rd, r.bar)
}

// finish gives directories their attributes, the deepest first, and makes their
// names durable.
func (r *restore) finish(ctx context.Context) error {
	for _, d := range slices.Backward(r.dirs) {
		err := syncDir(r.to.at(d.name))
		if err == nil {
			err = attrError(r.to.at(d.name), r.to.attributes(d.name, d.obj.Attr))
		}
		r.count(d.obj, err)
	}
	err := r.to.sync()
	if r.from == "." || ctx.Err() != nil {
		return err
	}
	if top, serr := r.st.Stat(ctx, r.from); serr == nil {
		r.count(top, attrError(r.to.path, r.to.attributes(".", top.Attr)))
	}
	return err
}
