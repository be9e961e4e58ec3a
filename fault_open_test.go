package blockframe_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/durable/durabletest"
)

// R6: each disk operation of an Open that has something to recover fails once, looks
// included. Open says why, or serves everything, with the store read-only if a copy
// of the log is to blame; and the next Open finds everything as it was.
func TestFaultOfOpen(t *testing.T) {
	s := shoot(t)
	for c, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		for _, arm := range []durabletest.Arm{durabletest.Before, durabletest.After} {
			for _, looks := range []bool{false, true} {
				if looks && (arm == durabletest.After || cause == syscall.ENOSPC) {
					continue
				}
				var ended atomic.Bool
				each(t, 2000, func(i int) error {
					if ended.Load() || !heavy && (looks && i%7 != 0 || !looks && i/2%2 != c) {
						return nil // each change in both arms, of one cause
					}
					f := &fault{sc: scene{step: step{name: "open"}}, arm: arm, cause: cause, nth: i + 1, looks: looks}
					if err := s.faultyOpen(f); err != nil {
						return fmt.Errorf("%v: %w", f, err)
					}
					if f.hit.Load() == nil {
						ended.Store(true)
					}
					return nil
				})
			}
		}
	}
}

// faultyOpen opens the store with one operation failing, and then without.
func (s *shot) faultyOpen(f *fault) error {
	ctx := context.Background()
	m := killed(s.fs)
	fsys := durabletest.New(durable.Mem(m), durabletest.Options{Fault: f.strike})
	st, err := blockframe.Open(ctx, blockframe.WithFS(s.opts, fsys))
	fsys.SetFault(nil)
	if err == nil {
		got, derr := dump(ctx, st, s.names())
		if derr != nil || got != s.want {
			return fmt.Errorf("the store holds\n%s: %w", got, derr)
		}
		_, err := st.Put(ctx, "n/new", bytes.NewReader([]byte("new")), blockframe.PutOptions{Attr: attr})
		full := f.cause == syscall.ENOSPC && errors.Is(err, blockframe.ErrNoSpace) // it takes a moment to see that there is room
		if err != nil && !full && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, blockframe.ErrUnavailable) {
			return fmt.Errorf("put: %w", err)
		}
		if errors.Is(err, fs.ErrPermission) && st.ReadOnly() == nil {
			return fmt.Errorf("ReadOnly knows nothing of %w", err)
		}
		if err == nil {
			err = st.Delete(ctx, "n/new", blockframe.DeleteOptions{All: true})
		}
		if cerr := st.Close(); cerr != nil && !errors.Is(cerr, f.cause) {
			return cerr
		}
	} else if !errors.Is(err, f.cause) && !(f.cause == syscall.ENOSPC && errors.Is(err, blockframe.ErrNoSpace)) && !errors.Is(err, blockframe.ErrCorrupt) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("open: %w", err)
	}
	for _, after := range []*vfs.MemFS{killed(m), m.CrashClone(vfs.CrashCloneCfg{})} {
		again := shot{opts: s.opts, fs: after, want: s.want}
		if got, err := again.reopened(func(durable.FS) error { return nil }); err != nil || got != s.want {
			return fmt.Errorf("opened again, the store holds\n%s: %w", got, err)
		}
	}
	return nil
}

// A disk that is full fails puts with ErrNoSpace and nothing else: reads go on, what
// needs no room is not refused for long, and when there is room again everything
// works, without opening anew.
func TestFullDisk(t *testing.T) {
	ctx := context.Background()
	for _, part := range []string{"/data/", "/tmp/", "/log/", "/view/", "/"} {
		m := vfs.NewCrashableMem()
		fsys := durabletest.New(durable.Mem(m), durabletest.Options{})
		opts := crashOptions(fsys, 2)
		st, err := blockframe.Open(ctx, opts)
		require.NoError(t, err)
		for i, size := range []int{10, 20_000, 300_000} {
			require.NoError(t, putStep(fmt.Sprintf("before/%d", size), byte(i), size).do(ctx, st, nil))
		}
		fsys.SetFault(func(op durabletest.Op) *durabletest.Fault {
			switch op.Kind {
			case durabletest.Create, durabletest.Write, durabletest.Mkdir:
				if strings.Contains(op.Name, part) && !inLog(op) {
					return &durabletest.Fault{Arm: durabletest.Before, Err: syscall.ENOSPC}
				}
			}
			return nil
		})
		acked := map[string][]byte{"before/10": content(0, 10), "before/20000": content(1, 20_000), "before/300000": content(2, 300_000)}
		for round := range 3 {
			for i, size := range []int{10, 20_000, 300_000, mib + 5} {
				name, data := fmt.Sprintf("full/%d/%d", round, size), content(byte(10*round+i), size)
				_, err := st.Put(ctx, name, bytes.NewReader(data), blockframe.PutOptions{})
				if err == nil {
					acked[name] = data
				} else {
					require.ErrorIs(t, err, blockframe.ErrNoSpace, "%s, while %s is full", name, part)
				}
			}
		}
		for name := range acked {
			if part == "/" && strings.HasPrefix(name, "full/") {
				require.True(t, strings.HasSuffix(name, "/10"), "%s was acknowledged: the log alone has room", name)
			}
		}
		for name, data := range acked {
			requireBytes(t, data, get(t, st, name, 0), "%s, while %s is full", name, part)
		}
		require.NoError(t, st.ReadOnly(), "a full disk is no failed one")
		fsys.SetFault(nil)
		for i, size := range []int{10, 20_000, 300_000, mib + 5} {
			name := fmt.Sprintf("room/%d", size)
			acked[name] = content(byte(50+i), size)
			_, err := st.Put(ctx, name, bytes.NewReader(acked[name]), blockframe.PutOptions{})
			require.NoError(t, err, "%s, with room in %s again", name, part)
		}
		require.NoError(t, st.Close())
		after := durable.Mem(m.CrashClone(vfs.CrashCloneCfg{}))
		st = open(t, blockframe.WithFS(opts, after))
		for name, data := range acked {
			requireBytes(t, data, get(t, st, name, 0), name)
		}
		require.NoError(t, collected(ctx, st, after, opts.Dirs, true))
	}
}

// inLog reports whether an operation writes to a segment of the log, for which there
// is room since it was made.
func inLog(op durabletest.Op) bool {
	return op.Kind == durabletest.Write && strings.Contains(op.Name, "/log/") && strings.HasSuffix(op.Name, ".log")
}

// A store on full disks opens, and is read.
func TestOpenOnFullDisk(t *testing.T) {
	ctx := context.Background()
	s := shoot(t)
	for _, state := range []string{"killed", "closed", "killed with a full segment of the log"} {
		m := killed(s.fs)
		if state != "killed" {
			st, err := blockframe.Open(ctx, blockframe.WithFS(s.opts, durable.Mem(m)))
			require.NoError(t, err)
			for state != "closed" {
				require.NoError(t, st.Hold(ctx, "n/000", 0, true))
				all := frames(t, durable.Mem(m), "/d0/log/a")
				if all[len(all)-1].off+4096 == 64<<10 {
					m = killed(m) // the next record needs another segment
					break
				}
			}
			require.NoError(t, st.Close())
		}
		fsys := durabletest.New(durable.Mem(m), durabletest.Options{})
		fsys.SetFault(func(op durabletest.Op) *durabletest.Fault {
			switch op.Kind {
			case durabletest.Create, durabletest.Mkdir:
			case durabletest.Write:
				if inLog(op) {
					return nil
				}
			default:
				return nil
			}
			return &durabletest.Fault{Arm: durabletest.Before, Err: syscall.ENOSPC}
		})
		st, err := blockframe.Open(ctx, blockframe.WithFS(s.opts, fsys))
		require.NoError(t, err)
		got, err := dump(ctx, st, s.names())
		require.NoError(t, err)
		require.Equal(t, s.want, got)
		require.ErrorIs(t, putStep("x", 1, 10_000).do(ctx, st, nil), blockframe.ErrNoSpace)
		fsys.SetFault(nil)
		require.NoError(t, putStep("x", 1, 10_000).do(ctx, st, nil))
		_, err = readAll(ctx, st, "x", 0)
		require.NoError(t, err)
		require.NoError(t, st.Close())
	}
}

// After a failed sync of a disk it takes no writes until the store is opened again;
// what is on it is read. After a failed sync of a copy of the log the other one goes on
// alone, until the store is opened again.
func TestFailedSync(t *testing.T) {
	ctx := context.Background()
	for _, part := range []string{"/d0/tmp/", "/d0/data/", "/d0/log/", "/d1/log/"} {
		m := vfs.NewCrashableMem()
		fsys := durabletest.New(durable.Mem(m), durabletest.Options{})
		opts := crashOptions(fsys, 2)
		st, err := blockframe.Open(ctx, opts)
		require.NoError(t, err)
		require.NoError(t, putStep("before", 1, 300_000).do(ctx, st, nil))
		var once sync.Once
		fsys.SetFault(func(op durabletest.Op) (f *durabletest.Fault) {
			if (op.Kind == durabletest.Sync || op.Kind == durabletest.SyncDir) && strings.HasPrefix(op.Name, part) {
				once.Do(func() { f = &durabletest.Fault{Arm: durabletest.Before, Err: syscall.EIO} })
			}
			return f
		})
		first := putStep("during", 2, 300_000).do(ctx, st, nil)
		second := putStep("behind", 3, 300_000).do(ctx, st, nil)
		fsys.Reset()
		third := putStep("behind", 3, 300_000).do(ctx, st, nil)
		if strings.Contains(part, "log") {
			require.NoError(t, errors.Join(first, second, third, st.ReadOnly()))
			require.NoError(t, blockframe.FillLogs(st))
			require.Equal(t, 1, logs(st))
			require.NotContains(t, fsys.Log(), part)
		} else {
			require.Error(t, first)
			require.Error(t, second)
			require.Error(t, third)
			require.ErrorIs(t, third, blockframe.ErrUnavailable)
			require.NotContains(t, fsys.Log(), path.Dir(part)+"/", "the disk was written to")
			require.Error(t, st.Disks(ctx)[0].Err)
		}
		_, err = readAll(ctx, st, "before", 0)
		require.NoError(t, err)
		st.Close()

		st = open(t, blockframe.WithFS(opts, durable.Mem(m.CrashClone(vfs.CrashCloneCfg{}))))
		require.NoError(t, st.ReadOnly())
		if strings.Contains(part, "log") {
			for _, s := range []struct {
				name string
				seed byte
			}{{"during", 2}, {"behind", 3}} {
				requireBytes(t, content(s.seed, 300_000), get(t, st, s.name, 0), s.name)
			}
			require.NoError(t, blockframe.FillLogs(st))
			require.Equal(t, 2, logs(st))
			continue
		}
		_, err = readAll(ctx, st, "behind", 0)
		require.ErrorIs(t, err, fs.ErrNotExist)
		if _, err = readAll(ctx, st, "during", 0); !errors.Is(err, fs.ErrNotExist) {
			require.NoError(t, err)
			require.ErrorIs(t, first, blockframe.ErrUncertain)
		}
		require.NoError(t, putStep("behind", 3, 300_000).do(ctx, st, nil))
	}
}

// One copy of the log is restored from an older backup: the store is read-only, the
// copy is named, nothing is missing, and nothing is acknowledged.
func TestStaleCopyOfTheLog(t *testing.T) {
	ctx := context.Background()
	m := vfs.NewCrashableMem()
	fsys := durable.Mem(m)
	opts := crashOptions(fsys, 3)
	st, err := blockframe.Open(ctx, opts)
	require.NoError(t, err)
	require.NoError(t, putStep("old", 1, 100).do(ctx, st, nil))
	require.NoError(t, st.Close())
	backup := durable.Mem(m.CrashClone(vfs.CrashCloneCfg{}))
	st, err = blockframe.Open(ctx, opts)
	require.NoError(t, err)
	for n := range 10 {
		require.NoError(t, putStep(fmt.Sprint("new", n), byte(n), 100).do(ctx, st, nil))
	}
	require.NoError(t, st.Close())
	for _, dir := range []string{"/d0/log", "/d1/log"} {
		after := durable.Mem(m.CrashClone(vfs.CrashCloneCfg{}))
		restore(t, backup, after, dir)
		st := open(t, blockframe.WithFS(opts, after))
		require.ErrorContains(t, st.ReadOnly(), "stale", dir)
		require.ErrorContains(t, st.ReadOnly(), path.Dir(dir), "the reason names the disk")
		require.ErrorIs(t, putStep("x", 1, 10).do(ctx, st, nil), fs.ErrPermission)
		for n := range 10 {
			requireBytes(t, content(byte(n), 100), get(t, st, fmt.Sprint("new", n), 0))
		}
		require.NoError(t, st.Close())
	}
}

// restore puts the files of a directory back as they were.
func restore(t *testing.T, backup, fsys durable.FS, dir string) {
	t.Helper()
	names, err := backup.List(dir)
	require.NoError(t, err)
	require.NoError(t, fsys.RemoveAll(dir))
	require.NoError(t, fsys.MkdirAll(dir))
	for _, n := range names {
		b, err := durable.ReadFile(backup, path.Join(dir, n), 1<<26)
		require.NoError(t, err)
		require.NoError(t, durable.WriteFile(fsys, path.Join(dir, n), b))
	}
}

// All copies of the log are restored from an older backup: the view tells, and
// nothing is opened until the newer log is back, or somebody moves the view away.
func TestAllCopiesOfTheLogStale(t *testing.T) {
	ctx := context.Background()
	fsys := durable.Mem(vfs.NewCrashableMem())
	opts := crashOptions(fsys, 2)
	logs := []string{"/d0/log", "/d1/log"}
	copied := func() durable.FS {
		to := durable.Mem(vfs.NewMem())
		for _, dir := range logs {
			restore(t, fsys, to, dir)
		}
		return to
	}
	st, err := blockframe.Open(ctx, opts)
	require.NoError(t, err)
	require.NoError(t, putStep("old", 1, 100).do(ctx, st, nil))
	require.NoError(t, st.Close())
	older := copied()
	st, err = blockframe.Open(ctx, opts)
	require.NoError(t, err)
	require.NoError(t, putStep("new", 2, 100).do(ctx, st, nil))
	require.NoError(t, st.Close())
	newer := copied()

	for _, dir := range logs {
		restore(t, older, fsys, dir)
	}
	for range 2 {
		_, err = blockframe.Open(ctx, opts)
		require.ErrorIs(t, err, blockframe.ErrCorrupt)
		require.ErrorContains(t, err, "restore the newer copy of the log, or move /d0/view away")
	}
	for _, dir := range logs {
		restore(t, newer, fsys, dir)
	}
	st, err = blockframe.Open(ctx, opts)
	require.NoError(t, err)
	requireBytes(t, content(2, 100), get(t, st, "new", 0))
	require.NoError(t, st.Close())

	for _, dir := range logs {
		restore(t, older, fsys, dir)
	}
	require.NoError(t, fsys.Rename("/d0/view", "/d0/view.lost"))
	st, err = blockframe.Open(ctx, opts)
	require.NoError(t, err)
	requireBytes(t, content(1, 100), get(t, st, "old", 0))
	_, err = readAll(ctx, st, "new", 0)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, st.Close())
}
