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
	defer w.stop()
	if err := filepath.WalkDir(root, w.visit); err != nil {
		return err
	}
	if err := w.flush(); err != nil {
		return err
	}
	return w.settle()
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
	before *treeBatch // that is being committed while the next one is filled, nil if none is
}

// treeBatch is a list of entries on its way into the store.
type treeBatch struct {
	list  []entry
	batch *blockframe.Batch
	last  []int // of the results, the one that is the state of each entry
	done  chan struct{}
	made  []blockframe.Object // valid with err once done is closed
	err   error
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

// flush puts what has gathered. It commits in the background, one batch after the other:
// a later one may need the directories of an earlier one.
func (w *treeWalk) flush() error {
	list := w.list
	w.list, w.bytes, w.record = nil, 0, 0
	if len(list) == 0 {
		return nil
	}
	b := w.fill(list)
	if err := w.settle(); err != nil {
		b.batch.Abort()
		return err
	}
	w.before = b
	go b.commit()
	return nil
}

// settle waits for the batch that is being committed, and tells of it. What it could not
// put together it puts one by one, so that what cannot be put keeps nothing else from
// being stored.
func (w *treeWalk) settle() error {
	b := w.before
	if b == nil {
		return nil
	}
	w.before = nil
	<-b.done
	if b.err == nil {
		return w.tell(b)
	}
	if fatal(b.err) {
		return b.err
	}
	for _, e := range b.list {
		if err := w.one(e); err != nil {
			return err
		}
	}
	return nil
}

// stop waits for what is under way when the walk ends before its time.
func (w *treeWalk) stop() {
	if b := w.before; b != nil {
		<-b.done
		_ = w.tell(b) // the walk has an error already
	}
}

// tell counts and prints what a batch made, nothing if it failed.
func (w *treeWalk) tell(b *treeBatch) error {
	for _, o := range b.made {
		if err := w.stored(o); err != nil {
			return err
		}
	}
	return nil
}

// fill adds entries to a batch of their own.
func (w *treeWalk) fill(list []entry) *treeBatch {
	b := &treeBatch{list: list, batch: w.st.Batch(w.ctx), done: make(chan struct{})}
	for i := range list {
		if b.err = w.addTo(b.batch, &list[i]); b.err != nil {
			break
		}
		b.last = append(b.last, b.batch.Len()-1)
	}
	return b
}

// commit makes what was filled durable and visible, or nothing of it.
func (b *treeBatch) commit() {
	defer close(b.done)
	defer b.batch.Abort()
	if b.err != nil {
		return
	}
	var results []blockframe.Object
	if results, b.err = b.batch.Commit(); b.err != nil {
		return
	}
	for _, at := range b.last {
		b.made = append(b.made, results[at])
	}
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
		b := w.fill([]entry{e})
		if b.commit(); b.err == nil {
			return w.tell(b)
		}
		err = b.err
	}
	if err != nil && !fatal(err) {
		w.refuse(fmt.Errorf("%s: %w", strings.ToValidUTF8(e.path, "\uFFFD"), err))
		return nil
	}
	return err
}
