package blockframe_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/durable/durabletest"
)

// lostStore returns a store of several objects, some of one name, whose log and view are
// lost.
func lostStore(t testing.TB) (*vfs.MemFS, blockframe.Options) {
	m := vfs.NewCrashableMem()
	fsys := durable.Mem(m)
	opts := spread(fsys, 3)
	acts(t, opts, func(ctx context.Context, st *blockframe.Store) {
		for i, name := range []string{"a/x", "a/y", "b", "a/x"} {
			putTo(t, st, name, content(byte(i+1), 30_000))
		}
		putTo(t, st, "c/two", content(7, mib+70_000))
		putTo(t, st, "c/one", content(8, 300_000))
		putTo(t, st, "c/one", content(9, 300_000))
		for i := range 5 {
			putTo(t, st, "tiny", content(byte(i+20), 100))
		}
		big := *attr // so that it takes several records
		big.Xattrs = map[string][]byte{"user.big": make([]byte, 20_000)}
		for i := range 8 {
			_, err := st.Put(ctx, fmt.Sprint("big/", i/2), bytes.NewReader(content(byte(i+30), 5000)), blockframe.PutOptions{Attr: &big})
			require.NoError(t, err)
		}
		require.NoError(t, st.PackInline(ctx))
	})
	loseLogs(t, fsys, opts.Dirs)
	return m.CrashClone(vfs.CrashCloneCfg{}), opts
}

// lostNames returns what is below lost+found, each read whole.
func lostNames(ctx context.Context, st *blockframe.Store) (string, error) {
	var b strings.Builder
	for obj, err := range st.List(ctx, "lost+found", blockframe.ListOptions{}) {
		if err != nil {
			return "", err
		}
		fmt.Fprintln(&b, obj.Name, obj.Mode, obj.ID, obj.Version)
		if obj.Mode.IsRegular() {
			if _, err := readAll(ctx, st, obj.Name, 0); err != nil {
				return "", err
			}
		}
	}
	return b.String(), nil
}

// R6 for Rebuild: the power is cut after every file operation of a rebuild. What is left
// either does not open, and is no new store, or serves some of what is restored; a rebuild
// of it restores all, under the same names, and the next one does nothing.
func TestRebuildCrash(t *testing.T) {
	ctx := context.Background()
	lost, opts := lostStore(t)
	whole := durable.Mem(lost.CrashClone(vfs.CrashCloneCfg{}))
	rebuilt(t, blockframe.WithFS(opts, whole), blockframe.RebuildOptions{})
	var want string
	acts(t, blockframe.WithFS(opts, whole), func(ctx context.Context, st *blockframe.Store) {
		var err error
		want, err = lostNames(ctx, st)
		require.NoError(t, err)
	})
	require.Equal(t, 23, strings.Count(want, "\n"), want)

	m := lost.CrashClone(vfs.CrashCloneCfg{})
	var mu sync.Mutex
	images := map[string]*vfs.MemFS{}
	sample := every(3, 5)
	fsys := durabletest.New(durable.Mem(m), durabletest.Options{After: func(op durabletest.Op) {
		seeds, take := sample(op)
		if !take || strings.Contains(op.Name, "/data/") { // the folders are synced by whoever opens a disk
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for seed := range seeds + 1 {
			cfg := vfs.CrashCloneCfg{}
			if seed > 0 {
				cfg = vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(uint64(op.N), uint64(seed)))}
			}
			images[fmt.Sprintf("change %d, %s, seed %d", op.N, op, seed)] = m.CrashClone(cfg)
		}
	}})
	rebuilt(t, blockframe.WithFS(opts, fsys), blockframe.RebuildOptions{})
	opened, refused := 0, 0
	for what, img := range images {
		ok, err := checkRebuild(ctx, blockframe.WithFS(opts, durable.Mem(img)), want)
		require.NoError(t, err, what)
		if ok {
			opened++
		} else {
			refused++
		}
	}
	require.Positive(t, opened)
	require.Positive(t, refused)
	t.Logf("%d changes, %d images, %d of them open", fsys.Count(), len(images), opened)
}

// checkRebuild rebuilds what a power cut left of a rebuild, and reports whether it opened
// before.
func checkRebuild(ctx context.Context, opts blockframe.Options, want string) (opened bool, err error) {
	st, err := blockframe.Open(ctx, opts)
	if opened = err == nil; opened {
		some, err := lostNames(ctx, st)
		if err != nil && !strings.Contains(err.Error(), "lost+found") {
			return opened, err
		}
		for line := range strings.Lines(some) {
			if !strings.Contains(want, line) {
				return opened, fmt.Errorf("%s is restored under another name", line)
			}
		}
		col, err := st.Collect(ctx, blockframe.CollectOptions{Unclaimed: true})
		if err == nil && col.Skipped == nil {
			err = fmt.Errorf("a collection did something: %+v", col)
		}
		if err = errors.Join(err, st.Close()); err != nil {
			return opened, err
		}
	}
	if _, err := blockframe.Rebuild(ctx, opts, blockframe.RebuildOptions{}); err != nil {
		return opened, err
	}
	rep, err := blockframe.Rebuild(ctx, opts, blockframe.RebuildOptions{})
	if err != nil || rep.Adoptable() || rep.Incomplete > 0 {
		return opened, fmt.Errorf("the second rebuild: %+v: %w", rep, err)
	}
	if st, err = blockframe.Open(ctx, opts); err != nil {
		return opened, err
	}
	got, err := lostNames(ctx, st)
	if err == nil && got != want {
		err = fmt.Errorf("restored\n%s\nwant\n%s", got, want)
	}
	return opened, errors.Join(err, st.Close())
}
