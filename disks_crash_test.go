package blockframe_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/durable/durabletest"
)

// diskCrash is a change of disks that is cut off: run can be repeated.
type diskCrash struct {
	name string
	run  func(ctx context.Context, st *blockframe.Store) error
	left []string // directories that the store has at the end
	lost bool     // shards are missing on the way
}

// byPath returns the disk of a directory, and whether it is one of the store.
func byPath(st *blockframe.Store, dir string) (blockframe.Disk, bool) {
	for _, d := range st.Disks(context.Background()) {
		if d.Path == dir {
			return d, true
		}
	}
	return blockframe.Disk{}, false
}

func diskCrashes() []diskCrash {
	move := blockframe.MoveOptions{}
	drop := func(ctx context.Context, st *blockframe.Store, lost bool) error {
		d, ok := byPath(st, "/d3")
		if !ok {
			return nil
		}
		_, err := st.RemoveDisk(ctx, d.ID, blockframe.RemoveOptions{Lost: lost})
		return err
	}
	return []diskCrash{
		{"add, drain, remove", func(ctx context.Context, st *blockframe.Store) error {
			_, err := st.AddDisk(ctx, "/d4")
			if d, ok := byPath(st, "/d3"); ok && err == nil {
				_, err = st.DrainDisk(ctx, d.ID, move)
			}
			if err == nil {
				err = drop(ctx, st, false)
			}
			return err
		}, []string{"/d0", "/d1", "/d2", "/d4"}, false},
		{"replace", func(ctx context.Context, st *blockframe.Store) error {
			d, ok := byPath(st, "/d3")
			if !ok {
				return nil
			}
			_, err := st.ReplaceDisk(ctx, d.ID, "/d4", move)
			return err
		}, []string{"/d0", "/d1", "/d2", "/d4"}, false},
		{"remove what is lost", func(ctx context.Context, st *blockframe.Store) error {
			if err := drop(ctx, st, true); err != nil {
				return err
			}
			_, err := st.Repair(ctx)
			return err
		}, []string{"/d0", "/d1", "/d2"}, true},
	}
}

// R6: the power is cut after every file operation (every second one, unless heavy) of a
// disk's being added, drained, removed, replaced or given up. What is left opens, with all bytes right; the same
// change goes on from there to its end; and then a blob is on a disk if and only if a
// record names it.
func TestCrashOfDiskChanges(t *testing.T) {
	for _, c := range diskCrashes() {
		t.Run(c.name, func(t *testing.T) {
			ctx := context.Background()
			opts := crashOptions(nil, 4)
			opts.NoRepair = true
			m := vfs.NewCrashableMem()
			st, err := blockframe.Open(ctx, blockframe.WithFS(opts, durable.Mem(m)))
			require.NoError(t, err)
			for i, size := range []int{20_000, 300_000, mib + 70_000} {
				require.NoError(t, putStep(fmt.Sprintf("f%d", i), byte(i), size).do(ctx, st, nil))
			}
			require.NoError(t, st.Close())
			k := &diskChecker{diskCrash: c, opts: opts, images: make(chan image)}
			k.want, err = k.dump(ctx, durable.Mem(m))
			require.NoError(t, err)
			for range 2 {
				k.wg.Go(k.work)
			}
			take := every(2, 7)
			fsys := durabletest.New(durable.Mem(m), durabletest.Options{After: func(op durabletest.Op) {
				seeds, want := take(op)
				if !want || k.fails.Load() > 0 {
					return
				}
				for seed := range seeds + 1 {
					k.images <- image{what: fmt.Sprintf("change %d, %s, seed %d", op.N, op, seed), fs: m.CrashClone(unsynced(op.N, seed))}
				}
			}})
			st, err = blockframe.Open(ctx, blockframe.WithFS(opts, fsys))
			require.NoError(t, err)
			require.NoError(t, c.run(ctx, st))
			require.NoError(t, st.Close())
			close(k.images)
			k.wg.Wait()
			require.NoError(t, errors.Join(k.errs...))
			require.NoError(t, k.check(durable.Mem(m)))
			t.Logf("%d changes, %d images", fsys.Count(), k.n.Load())
		})
	}
}

// unsynced keeps nothing that was not synced, or with a seed a random half of it.
func unsynced(n, seed int) vfs.CrashCloneCfg {
	if seed == 0 {
		return vfs.CrashCloneCfg{}
	}
	return vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(uint64(n), uint64(seed)))}
}

// diskChecker checks images of one change.
type diskChecker struct {
	diskCrash
	opts   blockframe.Options
	want   string
	images chan image
	n      atomic.Int64
	fails  atomic.Int64
	wg     sync.WaitGroup
	mu     sync.Mutex
	errs   []error
}

func (k *diskChecker) work() {
	for img := range k.images {
		k.n.Add(1)
		if err := k.check(durable.Mem(img.fs)); err != nil && k.fails.Add(1) <= 2 {
			k.mu.Lock()
			k.errs = append(k.errs, fmt.Errorf("power cut at %s: %w", img.what, err))
			k.mu.Unlock()
		}
	}
}

// open opens the store on its directories; the one that is added counts once it has an
// identity.
func (k *diskChecker) open(ctx context.Context, fsys durable.FS) (*blockframe.Store, error) {
	o := k.opts
	if _, err := fsys.Stat("/d4/id"); err == nil {
		o.Dirs = append(o.Dirs[:4:4], "/d4")
	}
	return blockframe.Open(ctx, blockframe.WithFS(o, fsys))
}

func (k *diskChecker) dump(ctx context.Context, fsys durable.FS) (string, error) {
	st, err := k.open(ctx, fsys)
	if err != nil {
		return "", err
	}
	text, err := dump(ctx, st, []string{"f0", "f1", "f2"})
	return text, errors.Join(err, st.Close())
}

func (k *diskChecker) check(fsys durable.FS) error {
	ctx := context.Background()
	st, err := k.open(ctx, fsys)
	if err != nil {
		return err
	}
	return errors.Join(k.checkOpen(ctx, st, fsys), st.Close())
}

func (k *diskChecker) checkOpen(ctx context.Context, st *blockframe.Store, fsys durable.FS) error {
	if err := st.ReadOnly(); err != nil {
		return err
	}
	names := []string{"f0", "f1", "f2"}
	if got, err := dump(ctx, st, names); err != nil || got != k.want {
		return fmt.Errorf("the store holds\n%s\nwant\n%s: %w", got, k.want, err)
	}
	if rep, err := st.Scrub(ctx, blockframe.ScrubOptions{}); !k.lost && (err != nil || !rep.Clean()) {
		return fmt.Errorf("a shard that moves is in one place or the other: %+v: %w", rep, err)
	}
	if err := k.run(ctx, st); err != nil {
		return fmt.Errorf("again: %w", err)
	}
	rep, err := st.Scrub(ctx, blockframe.ScrubOptions{Deep: true})
	if err != nil || !rep.Clean() {
		return fmt.Errorf("scrub: %+v: %w", rep, err)
	}
	if got, err := dump(ctx, st, names); err != nil || got != k.want {
		return fmt.Errorf("in the end the store holds\n%s\nwant\n%s: %w", got, k.want, err)
	}
	if _, err := st.Collect(ctx, blockframe.CollectOptions{Unclaimed: true}); err != nil {
		return err
	}
	var held uint64
	var have []string
	for _, d := range st.Disks(ctx) {
		held, have = held+d.Shards, append(have, d.Path)
	}
	if got, want := strings.Join(have, " "), strings.Join(k.left, " "); got != want {
		return fmt.Errorf("the disks are %s, want %s", got, want)
	}
	for _, d := range have { // a crash may leave what is cleared by the next Open
		if list, err := fsys.List(path.Join(d, "tmp")); err != nil || len(list) > 0 {
			return fmt.Errorf("%s/tmp holds %v: %w", d, list, err)
		}
	}
	list, err := blobs(fsys, have)
	if err != nil || uint64(len(list)) != held {
		return fmt.Errorf("%d blobs on the disks, the records have %d: %w", len(list), held, err)
	}
	return nil
}
