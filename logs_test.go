package blockframe_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/durable/durabletest"
)

// Disks with copies of the log die one after the other, the store closed or not: others
// take their place, until there are none left, and all is read and written meanwhile.
func TestLogMovesOn(t *testing.T) {
	opts, want := filled(t, 6)
	for i := range 2 {
		require.NoError(t, os.RemoveAll(opts.Dirs[i]))
		st := open(t, opts)
		require.NoError(t, st.ReadOnly())
		require.NoError(t, blockframe.FillLogs(st))
		require.Equal(t, 3, logs(st))
		name := fmt.Sprintf("after-%d", i)
		want["in/"+name] = []byte(name)
		put(t, st, "in/"+name, want["in/"+name])
		requireAll(t, st, want)
		require.NoError(t, st.Close())
	}
	for i := 2; i < 5; i++ { // the database, and the first of those that took its place
		require.NoError(t, os.RemoveAll(filepath.Join(opts.Dirs[i], "view")))
	}
	st := open(t, opts)
	require.NoError(t, st.ReadOnly())
	requireAll(t, st, want)
}

// Two of three copies of the log are gone at once: the third may not know it all, so the
// store is read-only until an operator gives the others up. Nothing was lost.
func TestLogGivenUp(t *testing.T) {
	opts, want := filled(t, 6)
	var ids []string
	st := open(t, opts)
	for _, d := range st.Disks(context.Background())[:2] {
		ids = append(ids, d.ID.String()[:8])
	}
	require.NoError(t, st.Close())
	aside := []string{opts.Dirs[0] + ".aside", opts.Dirs[1] + ".aside"}
	for i := range aside {
		require.NoError(t, os.Rename(opts.Dirs[i], aside[i]))
	}
	st = open(t, opts)
	requireAll(t, st, want)
	require.ErrorContains(t, st.ReadOnly(), "log member "+ids[0])
	require.ErrorContains(t, st.ReadOnly(), "log member "+ids[1])
	require.NoError(t, st.Close())

	given := opts
	given.AssumeLost = ids
	st = open(t, given)
	require.NoError(t, st.ReadOnly())
	require.NoError(t, blockframe.FillLogs(st))
	require.Equal(t, 3, logs(st))
	want["in/alone"] = []byte("alone")
	put(t, st, "in/alone", want["in/alone"])
	requireAll(t, st, want)
	require.NoError(t, st.Close())

	for i := range aside { // they come back, and are of no weight
		require.NoError(t, os.Rename(aside[i], opts.Dirs[i]))
	}
	st = open(t, opts)
	require.NoError(t, st.ReadOnly())
	requireAll(t, st, want)
}

// The only directory lost one of its two copies: the operator's word brings it back.
func TestTwinGivenUp(t *testing.T) {
	opts, want := filled(t, 1)
	b := filepath.Join(opts.Dirs[0], "log", "b")
	require.NoError(t, os.RemoveAll(b))
	opts.AssumeLost = []string{"b"}
	st := open(t, opts)
	require.NoError(t, st.ReadOnly())
	require.NoError(t, blockframe.FillLogs(st))
	require.DirExists(t, b)
	require.NoError(t, st.Close())
	opts.AssumeLost = nil
	require.NoError(t, os.RemoveAll(filepath.Join(opts.Dirs[0], "log", "a")))
	st = open(t, opts)
	requireAll(t, st, want)
	require.ErrorContains(t, st.ReadOnly(), "log member a")
}

// A copy of the log fails in the middle of puts, on each of its operations in turn: what
// was acknowledged is there after a power cut that takes that disk along.
func TestLogFailsInUse(t *testing.T) {
	ctx := context.Background()
	for at := range 6 {
		m := vfs.NewCrashableMem()
		fsys := durabletest.New(durable.Mem(m), durabletest.Options{})
		opts := crashOptions(fsys, 4)
		opts.Policies = nil // 2+2, and three copies of the log
		st, err := blockframe.Open(ctx, opts)
		require.NoError(t, err)
		var mu sync.Mutex
		n := 0
		fsys.SetFault(func(op durabletest.Op) *durabletest.Fault {
			mu.Lock()
			defer mu.Unlock()
			if !op.Kind.Changes() || !strings.HasPrefix(op.Name, "/d1/log/") {
				return nil
			}
			if n++; n <= at {
				return nil
			}
			return &durabletest.Fault{Arm: durabletest.Before, Err: syscall.EIO}
		})
		acked := map[string]byte{}
		for i := range byte(8) {
			name := fmt.Sprintf("f%d", i)
			require.NoError(t, putStep(name, i, 3000).do(ctx, st, nil), "fault from operation %d on", at)
			acked[name] = i
		}
		require.NoError(t, blockframe.FillLogs(st))
		require.Equal(t, 3, logs(st), "the fourth directory has a copy")
		left := durabletest.New(durable.Mem(m.CrashClone(vfs.CrashCloneCfg{})), durabletest.Options{})
		require.NoError(t, errors.Join(left.RemoveAll("/d1"), left.RemoveAll("/d0/log")))
		st.Close()
		st = open(t, blockframe.WithFS(opts, left))
		require.NoError(t, st.ReadOnly())
		for name, seed := range acked {
			requireBytes(t, content(seed, 3000), get(t, st, name, 0), name)
		}
		require.NoError(t, st.Close())
	}
}
