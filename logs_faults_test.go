package blockframe_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/durable/durabletest"
)

// A copy of the log failed; another disk is to take it while a third is full for a minute.
func TestFillLogsTwice(t *testing.T) {
	ctx := context.Background()
	mem := vfs.NewMem()
	setup := durable.Mem(mem)
	opts := crashOptions(setup, 4)
	opts.Policies = nil
	st, err := blockframe.Open(ctx, opts)
	require.NoError(t, err)
	require.NoError(t, putStep("a", 1, 3000).do(ctx, st, nil))
	require.NoError(t, st.Close())
	fsys := durabletest.New(durable.Mem(mem), durabletest.Options{})
	var full, dead atomic.Bool
	fsys.SetFault(func(op durabletest.Op) *durabletest.Fault {
		switch {
		case dead.Load() && op.Kind.Changes() && strings.HasPrefix(op.Name, "/d0/log/"):
			return &durabletest.Fault{Arm: durabletest.Before, Err: syscall.EIO}
		case full.Load() && op.Kind == durabletest.Create && strings.HasPrefix(op.Name, "/d1/log/"):
			if _, err := setup.Stat("/d3/log/0000000000000001.log"); err == nil { // after the seal
				return &durabletest.Fault{Arm: durabletest.Before, Err: syscall.ENOSPC}
			}
		}
		return nil
	})
	st, err = blockframe.Open(ctx, blockframe.WithFS(opts, fsys))
	require.NoError(t, err)
	full.Store(true)
	dead.Store(true)
	err = putStep("b", 2, 3000).do(ctx, st, nil) // d0 leaves the set
	require.NoError(t, err)
	require.Error(t, blockframe.FillLogs(st))
	full.Store(false)
	require.NoError(t, blockframe.FillLogs(st))
	require.Equal(t, 3, logs(st))
	require.NoError(t, putStep("c", 3, 3000).do(ctx, st, nil))
	require.NoError(t, st.Close())
	fsys.SetFault(nil)
	st, err = blockframe.Open(ctx, blockframe.WithFS(opts, fsys))
	require.NoError(t, err)
	st.Close()
}

// All copies of the log are lost, but for what a join that failed left on another disk.
func TestRebuildBesideFailedJoin(t *testing.T) {
	opts, _ := filled(t, 4)
	loseLogs(t, durable.OS(), opts.Dirs)
	require.NoError(t, os.MkdirAll(filepath.Join(opts.Dirs[3], "log"), 0o777))
	require.NoError(t, os.WriteFile(filepath.Join(opts.Dirs[3], "log", "spare.tmp"), make([]byte, 4096), 0o666))
	_, err := blockframe.Rebuild(t.Context(), opts, blockframe.RebuildOptions{})
	require.NoError(t, err)
}

// A disk is full when the log needs its next segment; the operator takes that disk out.
func TestRemoveFullDisk(t *testing.T) {
	ctx := context.Background()
	fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
	opts := blockframe.WithSegment(crashOptions(fsys, 4), 64<<10)
	opts.Policies = nil
	st, err := blockframe.Open(ctx, opts)
	require.NoError(t, err)
	require.Equal(t, 3, logs(st))
	fsys.SetFault(durabletest.All(durabletest.Create, "/d2/", durabletest.Before, syscall.ENOSPC))
	for i := range 200 {
		if _, err = st.Put(ctx, fmt.Sprintf("f%d", i), bytes.NewReader(content(byte(i), 3000)), blockframe.PutOptions{}); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, blockframe.ErrNoSpace)
	var id blockframe.BackendID
	for _, d := range st.Disks(ctx) {
		if strings.HasSuffix(d.Path, "d2") {
			id = d.ID
		}
	}
	_, err = st.RemoveDisk(ctx, id, blockframe.RemoveOptions{Lost: true})
	require.NotErrorIs(t, err, blockframe.ErrHoldsLog)
	acked := map[string][]byte{}
	for i := range 10 {
		name := fmt.Sprintf("after-%d", i)
		b := content(byte(i), 3000)
		_, err := st.Put(ctx, name, bytes.NewReader(b), blockframe.PutOptions{})
		require.NoError(t, err)
		acked[name] = b
	}
	require.NoError(t, st.Close())
	fsys.SetFault(nil)
	for _, noView := range []bool{false, true} {
		if noView {
			for _, d := range opts.Dirs {
				require.NoError(t, fsys.RemoveAll(d+"/view"))
			}
		}
		st, err = blockframe.Open(ctx, opts)
		require.NoError(t, err, "without view: %v", noView)
		for name, data := range acked {
			requireBytes(t, data, get(t, st, name, 0), name)
		}
		require.NoError(t, st.Close())
	}
}

// A store in one directory moves to another one without being opened again.
func TestMoveOneDiskStore(t *testing.T) {
	fsys := durable.Mem(vfs.NewCrashableMem())
	opts := blockframe.WithFS(blockframe.Options{Dirs: []string{"/old"}}, fsys)
	st, err := blockframe.Open(t.Context(), opts)
	require.NoError(t, err)
	defer st.Close()
	putTo(t, st, "a", content(1, 300_000))
	disks := st.Disks(t.Context())
	_, err = st.AddDisk(t.Context(), "/new")
	require.NoError(t, err)
	require.NoError(t, blockframe.FillLogs(st))
	_, err = st.DrainDisk(t.Context(), disks[0].ID, blockframe.MoveOptions{})
	require.NoError(t, err)
	_, err = st.RemoveDisk(t.Context(), disks[0].ID, blockframe.RemoveOptions{})
	require.NoError(t, err)
}

// A disk whose copy of the log was given up comes back with its view, and joins the log.
func TestViewOfAnotherWay(t *testing.T) {
	opts, _ := filled(t, 4)
	require.NoError(t, os.Rename(opts.Dirs[2], opts.Dirs[2]+".aside"))
	require.NoError(t, os.Rename(opts.Dirs[3], opts.Dirs[3]+".aside"))
	st := open(t, opts) // d0 and d1 go on alone
	require.NoError(t, st.ReadOnly())
	var ids []string
	for _, d := range st.Disks(t.Context())[:2] {
		ids = append(ids, d.ID.String()[:8])
	}
	for i := range 5 {
		put(t, st, fmt.Sprintf("in/first-%d", i), []byte("way of d0 and d1"))
	}
	require.NoError(t, st.Close())
	for i := range 2 {
		require.NoError(t, os.Rename(opts.Dirs[i], opts.Dirs[i]+".aside"))
		require.NoError(t, os.Rename(opts.Dirs[2+i]+".aside", opts.Dirs[2+i]))
	}
	given := opts
	given.AssumeLost = ids
	st = open(t, given)
	require.NoError(t, st.ReadOnly())
	require.NoError(t, blockframe.FillLogs(st))
	for i := range 20 {
		put(t, st, fmt.Sprintf("in/second-%d", i), []byte("way of d2 and d3"))
	}
	require.NoError(t, st.Close())
	for i := range 2 {
		require.NoError(t, os.Rename(opts.Dirs[i]+".aside", opts.Dirs[i]))
	}
	_, err := blockframe.Open(t.Context(), opts)
	require.ErrorIs(t, err, blockframe.ErrDiverged)
	st = open(t, given)
	require.NoError(t, st.ReadOnly())
	require.NoError(t, blockframe.FillLogs(st))
	require.NoError(t, st.Close())
	st, err = blockframe.Open(t.Context(), opts)
	require.NoError(t, err)
	require.NoError(t, st.Close())
}
