package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/blockframe/blockframe"
)

// What goes into one batch at most. A batch is one record of the log, of up to
// 1 MiB, and its small files one pack.
const (
	batchEntries = 1000
	batchBytes   = 64 << 20  // of content
	batchRecord  = 512 << 10 // of names and attributes, roughly
	entryRecord  = 256       // of an entry besides those
)

// alone is the size in bytes from which a file is put by itself, as a stream.
const alone = 4 << 20

// entry is something in a tree that is to be put.
type entry struct {
	path string
	name string
	attr blockframe.Attr
	size int64
}

// record returns roughly how many bytes the entry takes in the log.
func (e *entry) record() int {
	n := entryRecord + len(e.name) + len(e.attr.Target)
	for k, v := range e.attr.Xattrs {
		n += len(k) + len(v)
	}
	if e.attr.Mode.IsRegular() && e.size <= 4096 {
		n += int(e.size) // tiny contents may travel in the record
	}
	return n
}

// tree puts a directory and all that is in it. What cannot be put is named, and
// the rest goes on.
func (p *putter) tree(ctx context.Context, s source) error {
	root, err := filepath.EvalSymlinks(s.path)
	if err != nil {
		return err
	}
	if p.shows() {
		p.bar = p.progress(s.name, treeSize(ctx, root))
		defer p.bar.done()
	}
	w := &treeWalk{putter: p, ctx: ctx, root: root, name: s.name}
	for _, d := range p.st.Disks(ctx) {
		if info, err := os.Stat(d.Path); err == nil {
			w.own = append(w.own, info)
		}
	}
	if err := filepath.WalkDir(root, w.visit); err != nil {
		return err
	}
	return w.flush()
}

// treeSize returns the bytes of all files of a tree, for the bar.
func treeSize(ctx context.Context, root string) (total int64) {
	filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				total += info.Size()
			}
		}
		return ctx.Err()
	})
	return total
}

// treeWalk gathers what a walk meets into batches.
type treeWalk struct {
	*putter
	ctx    context.Context
	root   string
	name   string        // of the root in the store
	own    []fs.FileInfo // directories of the store, which is not put into itself
	list   []entry
	bytes  int64
	record int
}

// visit takes one entry. Directories come before what is in them, so that they
// are made with their own attributes.
func (w *treeWalk) visit(file string, d fs.DirEntry, err error) error {
	if cerr := w.ctx.Err(); cerr != nil {
		return cerr
	}
	if err != nil {
		w.refuse(err)
		return nil
	}
	rel, err := filepath.Rel(w.root, file)
	if err != nil {
		return err
	}
	e := entry{path: file, name: path.Join(w.name, filepath.ToSlash(rel))}
	if d.IsDir() && w.isOwn(file) {
		w.remark("%s is left out: the store itself lies there", file)
		return fs.SkipDir
	}
	if e.name == "." {
		return nil // the top of the store has no attributes of its own
	}
	if e.attr, err = blockframe.ReadAttr(file); err != nil {
		w.refuse(err)
		return skip(d)
	}
	if !fs.ValidPath(e.name) {
		// Batch.Put would say so too; here all that is beneath is left out with it.
		w.refuse(fmt.Errorf("put %q: the name cannot be stored: it must be valid UTF-8 without empty parts", file))
		return skip(d)
	}
	if e.attr.Mode.IsRegular() {
		info, err := d.Info()
		if err != nil {
			w.refuse(err)
			return nil
		}
		e.size = info.Size()
		if e.size >= alone {
			return w.one(e)
		}
	}
	return w.add(e)
}

// isOwn reports whether a directory is one of the store's.
func (w *treeWalk) isOwn(dir string) bool {
	info, err := os.Stat(dir)
	return err == nil && slices.ContainsFunc(w.own, func(own fs.FileInfo) bool { return os.SameFile(own, info) })
}

// skip leaves out what is beneath a directory that cannot be taken.
func skip(d fs.DirEntry) error {
	if d != nil && d.IsDir() {
		return fs.SkipDir
	}
	return nil
}

// add adds an entry to the batch, after putting the batch if it is full.
func (w *treeWalk) add(e entry) error {
	if len(w.list) >= batchEntries || w.bytes+e.size > batchBytes || w.record+e.record() > batchRecord {
		if err := w.flush(); err != nil {
			return err
		}
	}
	w.list = append(w.list, e)
	w.bytes += e.size
	w.record += e.record()
	return nil
}

// flush puts what has gathered: together if that goes, else one by one, so that
// what cannot be put keeps nothing else from being stored.
func (w *treeWalk) flush() error {
	list := w.list
	w.list, w.bytes, w.record = nil, 0, 0
	if len(list) == 0 {
		return nil
	}
	objects, err := w.together(list)
	if err == nil {
		for _, o := range objects {
			if err := w.stored(o); err != nil {
				return err
			}
		}
		return nil
	}
	if fatal(err) {
		return err
	}
	for _, e := range list {
		if err := w.one(e); err != nil {
			return err
		}
	}
	return nil
}

// together puts entries in one batch. Durable when it returns without an error;
// nothing of it is visible otherwise.
func (w *treeWalk) together(list []entry) ([]blockframe.Object, error) {
	b := w.st.Batch(w.ctx)
	defer b.Abort()
	var last []int // of the results, the one that is the state of each entry
	for i := range list {
		if err := w.addTo(b, &list[i]); err != nil {
			return nil, err
		}
		last = append(last, b.Len()-1)
	}
	results, err := b.Commit()
	if err != nil {
		return nil, err
	}
	objects := make([]blockframe.Object, len(list))
	for i, at := range last {
		objects[i] = results[at]
	}
	return objects, nil
}

// addTo adds what an entry needs to a batch.
func (w *treeWalk) addTo(b *blockframe.Batch, e *entry) error {
	switch {
	case e.attr.Mode.IsDir():
		if err := b.Mkdir(e.name, &e.attr); err != nil {
			return err
		}
		return b.SetAttr(e.name, allOf(&e.attr)) // of one that was there
	case e.attr.Mode&fs.ModeSymlink != 0:
		old, err := w.st.Stat(w.ctx, e.name)
		if err == nil && !old.Mode.IsDir() && !sameLink(&old.Attr, &e.attr) {
			if err := b.Delete(e.name); err != nil { // the new version goes on top
				return err
			}
		}
		return b.Symlink(e.name, e.attr.Target, &e.attr)
	}
	f, err := os.Open(e.path)
	if err != nil {
		return err
	}
	defer f.Close()
	return b.Put(e.name, countedFile{f, w.bar}, blockframe.PutOptions{Attr: &e.attr})
}

// allOf returns the change that gives a directory the attributes of a.
func allOf(a *blockframe.Attr) blockframe.AttrChange {
	xattrs := a.Xattrs
	if xattrs == nil {
		xattrs = map[string][]byte{}
	}
	mode := a.Mode &^ fs.ModeType
	return blockframe.AttrChange{Mode: &mode, UID: &a.UID, GID: &a.GID, ModTime: &a.ModTime, Xattrs: xattrs}
}

// sameLink reports whether putting a symbolic link again would change nothing.
func sameLink(a, b *blockframe.Attr) bool {
	return a.Mode&fs.ModeSymlink != 0 && a.Target == b.Target && a.UID == b.UID && a.GID == b.GID && a.ModTime.Equal(b.ModTime) &&
		len(a.Xattrs) == 0 && len(b.Xattrs) == 0
}

// one puts an entry by itself. An error that stops everything is returned, any
// other is told.
func (w *treeWalk) one(e entry) error {
	var err error
	if e.attr.Mode.IsRegular() {
		err = w.file(w.ctx, e.path, e.name)
	} else {
		var objects []blockframe.Object
		if objects, err = w.together([]entry{e}); err == nil {
			err = w.stored(objects[0])
		}
	}
	if err != nil && !fatal(err) {
		w.refuse(fmt.Errorf("%s: %w", strings.ToValidUTF8(e.path, "\uFFFD"), err))
		return nil
	}
	return err
}
