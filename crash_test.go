package blockframe_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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

// image is what a power cut leaves, and what is known of the moment.
type image struct {
	fs    *vfs.MemFS
	step  int  // steps that were acknowledged
	doing bool // another one was under way
	what  string

	thorough bool // look at everything twice
}

// crasher takes images of a script that runs, and has them checked.
type crasher struct {
	opts   blockframe.Options
	names  []string
	states []string // to be seen after each number of steps
	log    func(string, ...any)

	mu    sync.Mutex // held over what is known and the image that goes with it
	step  int
	doing bool

	images chan image
	count  atomic.Int64
	wg     sync.WaitGroup
	fails  atomic.Int64
}

// newCrasher starts two goroutines that check images.
func newCrasher(t *testing.T, opts blockframe.Options, states, names []string) *crasher {
	c := &crasher{opts: opts, names: names, states: states, images: make(chan image), log: t.Errorf}
	for range 2 {
		c.wg.Go(func() {
			for img := range c.images {
				img.thorough = c.count.Add(1)%4 == 0 || heavy
				if err := c.check(img); err != nil && c.fails.Add(1) <= 3 {
					c.log("power cut at %s, during step %d: %v", img.what, img.step, err)
				}
			}
		})
	}
	return c
}

// wait ends the checks.
func (c *crasher) wait() {
	close(c.images)
	c.wg.Wait()
}

// hook returns what is to be called after every change of m: it takes an image in
// which nothing is left that was not synced, and others in which random parts are.
func (c *crasher) hook(m *vfs.MemFS, sample func(op durabletest.Op) (seeds int, take bool)) func(durabletest.Op) {
	return func(op durabletest.Op) {
		seeds, take := sample(op)
		if !take || c.fails.Load() > 3 {
			return
		}
		for seed := range seeds + 1 {
			c.mu.Lock()
			img := image{step: c.step, doing: c.doing, what: fmt.Sprintf("change %d, %s, seed %d", op.N, op, seed)}
			cfg := vfs.CrashCloneCfg{}
			if seed > 0 {
				cfg = vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(uint64(op.N), uint64(seed)))}
			}
			img.fs = m.CrashClone(cfg)
			c.mu.Unlock()
			c.images <- img
		}
	}
}

// run carries out a script, and notes how far it is.
func (c *crasher) run(t *testing.T, st *blockframe.Store, fsys durable.FS, steps []step) {
	t.Helper()
	for i, s := range steps {
		c.mu.Lock()
		c.step, c.doing = i, true
		c.mu.Unlock()
		require.NoError(t, s.do(context.Background(), st, fsys), s.name)
		c.mu.Lock()
		c.step, c.doing = i+1, false
		c.mu.Unlock()
	}
}

// check opens what a power cut left. Everything that was acknowledged is there with
// its bytes; the step that was under way happened or did not (I1, I2, I3, I5);
// nothing is lost; what nobody can name is collected, and nothing else (I6); and the
// store goes on, and opens again to the same.
func (c *crasher) check(img image) error {
	ctx := context.Background()
	fsys := durable.Mem(img.fs)
	st, err := blockframe.Open(ctx, blockframe.WithFS(c.opts, fsys))
	if err != nil {
		return err
	}
	err = c.checkOpen(ctx, st, fsys, img)
	if err = errors.Join(err, st.Close()); err != nil || !img.thorough {
		return err
	}
	return c.checkAgain(ctx, fsys)
}

func (c *crasher) checkOpen(ctx context.Context, st *blockframe.Store, fsys durable.FS, img image) error {
	if err := st.ReadOnly(); err != nil {
		return err
	}
	got, err := dump(ctx, st, c.names)
	if err != nil {
		return err
	}
	if want := c.states[img.step]; got != want && !(img.doing && got == c.states[img.step+1]) {
		return fmt.Errorf("the store holds\n%s\nwant\n%s\nor the next state", got, want)
	}
	rep, err := st.Scrub(ctx, blockframe.ScrubOptions{Deep: true, Repair: true})
	if err != nil || len(rep.Lost) > 0 || rep.LostMore > 0 || len(rep.Errs) > 0 || rep.Left > 0 {
		return fmt.Errorf("scrub: %+v: %w", rep, err)
	}
	if err := collected(ctx, st, fsys, c.opts.Dirs, img.thorough); err != nil || !img.thorough {
		return err
	}
	if again, err := dump(ctx, st, c.names); err != nil || again != got {
		return fmt.Errorf("after the collection the store holds\n%s\nwant\n%s: %w", again, got, err)
	}
	return putStep("after", 77, 5000).do(ctx, st, fsys)
}

// collected collects, and checks that a blob is on a disk if and only if a record
// names it, and that all of them are sound.
func collected(ctx context.Context, st *blockframe.Store, fsys durable.FS, dirs []string, deep bool) error {
	rep, err := st.Collect(ctx, blockframe.CollectOptions{Unclaimed: true})
	if err != nil || rep.Skipped != nil || rep.Waiting > 0 {
		return fmt.Errorf("collect: %+v: %w", rep, err)
	}
	scrub, err := st.Scrub(ctx, blockframe.ScrubOptions{Deep: deep})
	if err != nil || !scrub.Clean() {
		return fmt.Errorf("scrub after the collection: %+v: %w", scrub, err)
	}
	list, err := blobs(fsys, dirs)
	if err == nil && int64(len(list)) != scrub.Blobs {
		err = fmt.Errorf("%d blobs are on the disks, records name %d:\n%s", len(list), scrub.Blobs, strings.Join(list, "\n"))
	}
	return err
}

// checkAgain opens once more what check left, after another power cut.
func (c *crasher) checkAgain(ctx context.Context, fsys durable.FS) error {
	m := fsys.Pebble().(*vfs.MemFS)
	st, err := blockframe.Open(ctx, blockframe.WithFS(c.opts, durable.Mem(m.CrashClone(vfs.CrashCloneCfg{}))))
	if err != nil {
		return fmt.Errorf("second open: %w", err)
	}
	defer st.Close()
	if b, err := readAll(ctx, st, "after", 0); err != nil || len(b) != 5000 {
		return fmt.Errorf("second open: what was put after the crash has %d bytes: %w", len(b), err)
	}
	if err := st.Delete(ctx, "after", blockframe.DeleteOptions{All: true}); err != nil {
		return err
	}
	got, err := dump(ctx, st, c.names)
	for _, want := range c.states {
		if err == nil && got == want {
			return nil
		}
	}
	return fmt.Errorf("second open: the store holds\n%s: %w", got, err)
}

// every returns a choice of changes: an image with nothing unsynced is taken of one
// in zero of them, and some in which parts of it are left of one in some; a tenth of
// that with -short, all with three seeds when heavy. Most of the 256 folders of a
// disk are left out.
func every(zero, some int) func(op durabletest.Op) (int, bool) {
	switch {
	case heavy:
		zero, some = 1, 1
	case testing.Short():
		zero, some = 10*zero, 10*some
	}
	return func(op durabletest.Op) (int, bool) {
		if op.Kind == durabletest.Lock || op.Kind == durabletest.Mkdir && !strings.HasSuffix(op.Name, "00") {
			return 0, false
		}
		seeds := 0
		if op.N%some == 0 {
			seeds = 1
		}
		if heavy {
			seeds = 3
		}
		return seeds, op.N%zero == 0 || op.N%some == 0
	}
}

// R6, I1, I2, I3, I5, I6: the power is cut after every file operation of a store's
// life, from its creation to Close, shards, log and view together.
func TestCrashAtEveryOperation(t *testing.T) {
	for dirs, sample := range map[int]func(op durabletest.Op) (int, bool){1: every(1, 8), 3: every(9, 10)} {
		t.Run(fmt.Sprintf("%d directories", dirs), func(t *testing.T) {
			opts := crashOptions(nil, dirs)
			m := vfs.NewCrashableMem()
			c := newCrasher(t, opts, states(t, opts, durable.Mem(vfs.NewCrashableMem()), script(), scriptNames), scriptNames)
			fsys := durabletest.New(durable.Mem(m), durabletest.Options{After: c.hook(m, sample)})
			st, err := blockframe.Open(context.Background(), blockframe.WithFS(opts, fsys))
			require.NoError(t, err)
			c.run(t, st, durable.Mem(m), script())
			require.NoError(t, st.Close())
			c.wait()
			t.Logf("%d changes, %d images", fsys.Count(), c.count.Load())
		})
	}
}

// R6: the power is cut during the recovery from a power cut, after every file
// operation of the Open that finds what the first one left, and of the repairs and
// the collection that follow.
func TestCrashDuringRecovery(t *testing.T) {
	ctx := context.Background()
	opts := crashOptions(nil, 2)
	c := newCrasher(t, opts, states(t, opts, durable.Mem(vfs.NewCrashableMem()), script(), scriptNames), scriptNames)
	first, n := gather(t, opts, script())
	for _, img := range first {
		fsys := durabletest.New(durable.Mem(img.fs), durabletest.Options{})
		c.mu.Lock()
		c.step, c.doing = img.step, img.doing
		c.mu.Unlock()
		second := durabletest.New(fsys, durabletest.Options{After: c.hook(img.fs, every(29, 61))})
		st, err := blockframe.Open(ctx, blockframe.WithFS(opts, second))
		require.NoError(t, err, img.what)
		_, err = st.Scrub(ctx, blockframe.ScrubOptions{Deep: true, Repair: true})
		require.NoError(t, err, img.what)
		_, err = st.Collect(ctx, blockframe.CollectOptions{Unclaimed: true})
		require.NoError(t, err, img.what)
		require.NoError(t, st.Close())
	}
	c.wait()
	t.Logf("%d changes, %d images, %d images of their recovery", n, len(first), c.count.Load())
}

// gather returns images of a script that runs, of one change in sixty on average.
func gather(t *testing.T, opts blockframe.Options, steps []step) (list []image, changes int) {
	t.Helper()
	m := vfs.NewCrashableMem()
	c := &crasher{images: make(chan image)}
	c.wg.Go(func() {
		for img := range c.images {
			list = append(list, img)
		}
	})
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(1, 2))
	fsys := durabletest.New(durable.Mem(m), durabletest.Options{After: c.hook(m, func(op durabletest.Op) (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		_, take := every(1, 1)(op)
		return rng.IntN(2), take && rng.IntN(60) == 0
	})})
	st, err := blockframe.Open(context.Background(), blockframe.WithFS(opts, fsys))
	require.NoError(t, err)
	c.run(t, st, durable.Mem(m), steps)
	require.NoError(t, st.Close())
	c.wait()
	return list, fsys.Count()
}
