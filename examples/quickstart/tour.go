package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/blockframe/blockframe"
)

// directories is the number of disks of the store.
const directories = 6

// tour is what the program shows.
type tour struct {
	file string // of the operating system
	dirs []string
	out  io.Writer

	obj  blockframe.Object
	code blockframe.Code
}

func (t *tour) say(format string, args ...any) { fmt.Fprintf(t.out, format+"\n", args...) }

// take takes the tour. The error is for whatever is not as it must be.
func (t *tour) take(ctx context.Context) error {
	for _, step := range []func(context.Context) error{t.put, t.rot, t.readRotten, t.scrub, t.lose, t.readDegraded, t.restore} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	t.say("\nEvery byte came back right, and nothing is damaged any more.")
	return nil
}

// open opens the store, counts what it finds and repairs, and closes it after f:
// each step begins with nothing in memory.
func (t *tour) open(ctx context.Context, f func(st *blockframe.Store, seen *seen) error) error {
	seen := &seen{}
	st, err := blockframe.Open(ctx, blockframe.Options{Dirs: t.dirs, Events: blockframe.Events{
		Damaged:  func(blockframe.Damage) { seen.damaged.Add(1) },
		Repaired: func(r blockframe.Repaired) { seen.repaired.Add(1); seen.blocks.Add(int64(r.Blocks)) },
	}})
	if err != nil {
		return err
	}
	return errors.Join(f(st, seen), st.Close())
}

// seen is what a store told of.
type seen struct{ damaged, repaired, blocks atomic.Int64 }

// put stores the file. A batch of one writes its shards at once, however small it
// is.
func (t *tour) put(ctx context.Context) error {
	if info, err := os.Stat(t.file); err == nil && info.Size() == 0 {
		return fmt.Errorf("%s is empty: there is nothing to damage; try another file", t.file)
	}
	return t.open(ctx, func(st *blockframe.Store, _ *seen) error {
		b := st.Batch(ctx)
		defer b.Abort()
		if err := b.PutFile(filepath.Base(t.file), t.file, blockframe.PutOptions{}); err != nil {
			return err
		}
		objects, err := b.Commit()
		if err != nil {
			return err
		}
		t.obj, t.code = objects[0], blockframe.DefaultCode(directories)
		t.say("PUT     %s, %d bytes, into a store on %d directories, code %v", t.obj.Name, t.obj.Size, directories, t.code)
		t.say("        its address is %v, what b3sum prints", t.obj.ID)
		return nil
	})
}

// rot damages a block in every shard.
func (t *tour) rot(context.Context) error {
	shards, err := findShards(t.dirs)
	if err != nil {
		return err
	}
	n, stripes, err := rot(shards)
	if err != nil {
		return err
	}
	t.say("\nROT     flipped bits on disk: a block in %d of %d shards, in %s", n, len(shards), plural(stripes, "different stripe"))
	return nil
}

// readRotten reads everything back while it is damaged.
func (t *tour) readRotten(ctx context.Context) error {
	return t.open(ctx, func(st *blockframe.Store, seen *seen) error {
		if err := t.compare(ctx, st); err != nil {
			return err
		}
		if _, err := st.Repair(ctx); err != nil {
			return err
		}
		met := seen.repaired.Load()
		t.say("GET     all %d bytes are right; bad blocks in %s were met on the way, computed anew and repaired", t.obj.Size, plural(met, "shard"))
		if met == 0 {
			return errors.New("the damage was not noticed")
		}
		return nil
	})
}

// scrub repairs what reading did not come across, and looks again.
func (t *tour) scrub(ctx context.Context) error {
	return t.open(ctx, func(st *blockframe.Store, _ *seen) error {
		rep, err := st.Scrub(ctx, blockframe.ScrubOptions{Deep: true, Repair: true})
		if err != nil {
			return err
		}
		t.say("SCRUB   read every block of %s: %s more damaged, in parity that a reader has no use for; repaired %d",
			plural(rep.Blobs, "shard"), plural(rep.Damaged, "shard"), rep.Repaired)
		if rep.Damaged != rep.Repaired || len(rep.Lost) > 0 {
			return fmt.Errorf("scrub left damage: %+v", rep)
		}
		return t.mustBeClean(ctx, st)
	})
}

// lose deletes all shards from as many directories as parity can stand in for.
func (t *tour) lose(context.Context) error {
	shards, err := findShards(t.dirs[:t.code.M])
	if err != nil {
		return err
	}
	for _, s := range shards {
		if err := os.Remove(s.path); err != nil {
			return err
		}
	}
	t.say("\nLOSE    deleted %s, all that are on %d of the %d directories", plural(len(shards), "shard"), t.code.M, directories)
	return nil
}

// readDegraded reads everything back without them.
func (t *tour) readDegraded(ctx context.Context) error {
	return t.open(ctx, func(st *blockframe.Store, _ *seen) error {
		if err := t.compare(ctx, st); err != nil {
			return err
		}
		t.say("GET     all %d bytes are right, computed from the other %d directories", t.obj.Size, directories-t.code.M)
		return nil
	})
}

// restore lets the store make the shards again, and looks whether all is well.
func (t *tour) restore(ctx context.Context) error {
	return t.open(ctx, func(st *blockframe.Store, _ *seen) error {
		rep, err := st.Scrub(ctx, blockframe.ScrubOptions{Deep: true, Repair: true})
		if err != nil {
			return err
		}
		if rep.Damaged != rep.Repaired || len(rep.Lost) > 0 {
			return fmt.Errorf("scrub left damage: %+v", rep)
		}
		shards, err := findShards(t.dirs[:t.code.M])
		if err != nil {
			return err
		}
		t.say("SCRUB   made %s from the others: they are on these directories again", plural(len(shards), "shard"))
		if err := t.mustBeClean(ctx, st); err != nil {
			return err
		}
		return t.compare(ctx, st)
	})
}

// mustBeClean scrubs once more, and fails if anything is found.
func (t *tour) mustBeClean(ctx context.Context, st *blockframe.Store) error {
	rep, err := st.Scrub(ctx, blockframe.ScrubOptions{Deep: true})
	if err != nil {
		return err
	}
	if !rep.Clean() {
		return fmt.Errorf("the second scrub is not clean: %+v", rep)
	}
	t.say("SCRUB   again: clean, %s, %d bytes read", plural(rep.Blobs, "shard"), rep.Bytes)
	return nil
}

// compare reads the object and the file side by side.
func (t *tour) compare(ctx context.Context, st *blockframe.Store) error {
	rd, err := st.Open(ctx, t.obj.Name)
	if err != nil {
		return err
	}
	defer rd.Close()
	f, err := os.Open(t.file)
	if err != nil {
		return err
	}
	defer f.Close()
	a, b := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := int64(0); ; {
		n, err := io.ReadFull(rd, a)
		m, ferr := io.ReadFull(f, b)
		if !bytes.Equal(a[:n], b[:m]) {
			return fmt.Errorf("the %d bytes from %d on differ from the file", max(n, m), at)
		}
		at += int64(n)
		if atEnd(err) && atEnd(ferr) {
			return nil
		}
		if err := errors.Join(err, ferr); err != nil {
			return err
		}
	}
}

func atEnd(err error) bool { return err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) }

func plural[N int | int64](n N, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
