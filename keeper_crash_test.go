package blockframe_test

import (
	"context"
	"fmt"
	"path"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/durable/durabletest"
)

var keepNames = []string{"k/0", "k/1", "k/2", "k/3", "k/pack", "k/stream"}

// growStep writes more than two segments of the log, and leaves contents of every class, some
// of which are in the log alone.
func growStep(round int) step {
	return do("grow", func(ctx context.Context, st *blockframe.Store) error {
		for i := range 36 {
			name := keepNames[i%4]
			if i > 3 || round > 0 {
				if err := st.Delete(ctx, name, blockframe.DeleteOptions{All: true}); err != nil {
					return err
				}
			}
			if err := putStep(name, byte(round*40+i), 3000+i).do(ctx, st, nil); err != nil {
				return err
			}
		}
		if err := putStep("k/pack", byte(round), 20_000).do(ctx, st, nil); err != nil {
			return err
		}
		return putStep("k/stream", byte(round), 300_000).do(ctx, st, nil)
	})
}

// keepScript has the log grow, and the keeper pass after each time. In the last passes
// segments are kept, a snapshot is taken, older ones are dropped and the log is trimmed.
func keepScript(armed *atomic.Bool) (steps []step) {
	for round := range 5 {
		steps = append(steps, growStep(round), do("keep", func(ctx context.Context, st *blockframe.Store) error {
			armed.Store(round >= 2)
			defer armed.Store(false)
			return st.KeepPass(ctx)
		}))
	}
	return steps
}

func keepCrashOptions(dirs int) blockframe.Options {
	return blockframe.WithSnapshots(crashOptions(nil, dirs), 2)
}

// R6, I1, I6: the power is cut after every file operation of sealing, of a snapshot, of
// dropping old ones, and of the trim. Everything that was acknowledged is there, the next
// pass ends the work, and a view that is lost then is restored.
func TestCrashWhileKeeping(t *testing.T) {
	for dirs, rate := range map[int]int{1: 17, 3: 16} {
		t.Run(fmt.Sprintf("%d directories", dirs), func(t *testing.T) {
			var armed atomic.Bool
			opts := keepCrashOptions(dirs)
			c := &crasher{opts: opts, names: keepNames, images: make(chan image), log: t.Errorf,
				states: states(t, opts, durable.Mem(vfs.NewCrashableMem()), keepScript(&armed), keepNames)}
			sample := every(rate, 3*rate)
			m := vfs.NewCrashableMem()
			var list []image
			hook := c.hook(m, func(op durabletest.Op) (int, bool) {
				if !armed.Load() {
					return 0, false
				}
				return sample(op)
			})
			fsys := durabletest.New(durable.Mem(m), durabletest.Options{After: hook})
			c.wg.Go(func() {
				for img := range c.images {
					list = append(list, img)
				}
			})
			st, err := blockframe.Open(t.Context(), blockframe.WithFS(opts, fsys))
			require.NoError(t, err)
			c.run(t, st, durable.Mem(m), keepScript(&armed))
			require.Greater(t, st.Log()[0].First, uint64(1))
			require.NoError(t, st.Close())
			c.wait()
			for i, img := range list {
				img.thorough = i%4 == 0 || heavy
				require.NoError(t, checkKept(t.Context(), c, img), "power cut at %s, during step %d", img.what, img.step)
			}
			t.Logf("%d changes, %d images", fsys.Count(), len(list))
		})
	}
}

// checkKept checks an image, passes, and restores the view.
func checkKept(ctx context.Context, c *crasher, img image) error {
	dropped := image{fs: img.fs.CrashClone(vfs.CrashCloneCfg{}), step: img.step, doing: img.doing}
	if err := c.check(img); err != nil {
		return err
	}
	fsys := durable.Mem(dropped.fs)
	for _, dir := range c.opts.Dirs {
		if err := fsys.RemoveAll(path.Join(dir, "view")); err != nil {
			return err
		}
	}
	if err := c.check(dropped); err != nil {
		return fmt.Errorf("without the view: %w", err)
	}
	st, err := blockframe.Open(ctx, blockframe.WithFS(c.opts, fsys))
	if err != nil {
		return err
	}
	if err := st.KeepPass(ctx); err != nil {
		return err
	}
	return st.Close()
}

// R6: the power is cut after every file operation of an Open that restores the view.
func TestCrashWhileRestoring(t *testing.T) {
	var armed atomic.Bool
	opts := keepCrashOptions(2)
	m := vfs.NewCrashableMem()
	list := states(t, opts, durable.Mem(m), keepScript(&armed), keepNames)
	for _, dir := range opts.Dirs {
		require.NoError(t, durable.Mem(m).RemoveAll(path.Join(dir, "view")))
	}
	c := newCrasher(t, opts, list, keepNames)
	c.step = len(list) - 1
	fsys := durabletest.New(durable.Mem(m), durabletest.Options{After: c.hook(m, every(11, 23))})
	st, err := blockframe.Open(t.Context(), blockframe.WithFS(opts, fsys))
	require.NoError(t, err)
	require.NoError(t, st.Close())
	c.wait()
	t.Logf("%d changes, %d images", fsys.Count(), c.count.Load())
}
