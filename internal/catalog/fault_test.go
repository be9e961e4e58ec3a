package catalog_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/catalog"
	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/durable/durabletest"
	"github.com/blockframe/blockframe/internal/journal"
	"github.com/blockframe/blockframe/store"
)

// story is a life of a catalog in a dozen records, with a flush of the view, a
// proof and a reopening in between.
func story() []store.Command {
	return []store.Command{
		store.OpenEpoch{},
		inline("a/b", "one", 1),
		located("a/c", "L", 1000, 2, 1),
		catalog.Rename{From: "a/b", To: "d/e"},
		inline("a/b", "two", 3),
		nil, // flush, prove
		catalog.Delete{Name: "a/c"},
		catalog.Purge{Name: "a/c", All: true},
		catalog.SetGrace{},
		inline("d/e", "three", 4),
		nil,
		store.Pack{Extent: packOf(5), Members: []store.Member{{ID: idOf("one"), Size: 3}, {ID: idOf("two"), Offset: 3, Size: 3}}},
		store.Report{Damage: []store.Repair{{Extent: eid(5), Shard: 1}}},
		inline("z", "end", 6),
	}
}

func packOf(n int) store.Extent {
	x := extent(n, n, 0, 0, 100, 1)
	x.Kind = store.KindPack
	return x
}

// tell lives the story on fs and calls acked after each record, until something
// fails, and returns that.
func tell(t testing.TB, fs durable.FS, acked func(r *rig)) error {
	r := &rig{t: t, fs: fs}
	r.now = baseTime
	for i, c := range story() {
		if i%5 == 0 {
			if err := r.restart(); err != nil {
				return err
			}
		}
		if c == nil {
			_ = r.cat.Flush()
			_ = r.j.Prove()
			continue
		}
		res, err := r.cat.Commit(ctx, store.Record{Commands: []store.Command{c}})
		if err != nil {
			return errors.Join(err, r.stop())
		}
		if res[0].Err != nil {
			return errors.Join(res[0].Err, r.stop())
		}
		acked(r)
	}
	return r.stop()
}

// restart opens the catalog, closing it before if it was open.
func (r *rig) restart() (err error) {
	if err := r.stop(); err != nil {
		return err
	}
	if r.j, err = openLog(r.fs); err != nil {
		return err
	}
	opts := r.options()
	withTally(&opts)
	if r.cat, err = catalog.Open(opts); err != nil {
		return errors.Join(err, r.j.Close())
	}
	return nil
}

func (r *rig) stop() error {
	if r.cat == nil {
		return nil
	}
	cat := r.cat
	r.cat = nil
	return errors.Join(cat.Close(), r.j.Close())
}

// brief is the state that the story is told by.
func (r *rig) brief() string {
	r.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "%+v\n", r.cat.Counts())
	for _, o := range collect(r, r.cat.Walk(ctx, ".", "")) {
		fmt.Fprintln(&b, o.Name, o.Version, o.ID)
	}
	return b.String()
}

// chapters are the states of the story by the number of records applied.
func chapters(t testing.TB) map[uint64]string {
	states := map[uint64]string{0: fmt.Sprintf("%+v\n", catalog.Counts{})}
	require.NoError(t, tell(t, durable.Mem(vfs.NewCrashableMem()), func(r *rig) { states[r.cat.Applied()] = r.brief() }))
	return states
}

// TestCrashAtEveryOperation cuts the power around every operation on a file of
// log and view, and again during the recovery from that: what comes up is a state
// that was, with everything acked.
func TestCrashAtEveryOperation(t *testing.T) {
	states := chapters(t)
	mem := vfs.NewCrashableMem()
	var acked atomic.Uint64
	var mu sync.Mutex
	images := 0
	cut := func(op durabletest.Op) {
		least := acked.Load() // before the power goes
		mu.Lock()
		defer mu.Unlock()
		for seed := range uint64(4) {
			// All images of all operations in the heavy run; the one in which
			// everything unsynced is gone, always.
			if n := op.N + int(seed); os.Getenv("BLOCKFRAME_HEAVY") == "" && (seed > 0 && n%4 != 0 || testing.Short() && n%10 != 0) {
				continue
			}
			images++
			m := image(mem, seed*1000+uint64(op.N)*min(seed, 1))
			revive(t, m, least, states, images%40 == 0)
		}
	}
	wrapped := durabletest.New(durable.Mem(mem), durabletest.Options{Before: cut, After: cut})
	require.NoError(t, tell(t, wrapped, func(r *rig) { acked.Store(r.cat.Applied()) }))
	t.Logf("%d operations, %d images", wrapped.Count(), images)
}

// revive opens an image, and checks what comes up. deeper crashes every operation
// of that, too.
func revive(t testing.TB, m *vfs.MemFS, least uint64, states map[uint64]string, deeper bool) {
	fsys := durable.Mem(m)
	if deeper {
		var mu sync.Mutex
		fsys = durabletest.New(fsys, durabletest.Options{After: func(op durabletest.Op) {
			mu.Lock()
			defer mu.Unlock()
			revive(t, image(m, uint64(op.N%3)), least, states, false)
		}})
	}
	r := &rig{t: t, fs: fsys, now: baseTime}
	if err := r.restart(); err != nil {
		// Before the first record the log may not be there yet on both members.
		require.Zero(t, least, "%v", err)
		return
	}
	applied := r.cat.Applied()
	require.GreaterOrEqual(t, applied, least)
	require.Equal(t, states[applied], r.brief())
	r.checkTally()
	require.NoError(t, r.stop())
}

// TestFaultAtEveryOperation fails each operation once, in both arms. What was
// acked is there after reopening, what was refused with anything but ErrUncertain
// is not, and what is open can be read.
func TestFaultAtEveryOperation(t *testing.T) {
	states := chapters(t)
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		for _, arm := range []durabletest.Arm{durabletest.Before, durabletest.After} {
			for n := 1; ; n++ {
				if !sampled(n, cause) {
					continue
				}
				mem := vfs.NewCrashableMem()
				fsys := durabletest.New(durable.Mem(mem), durabletest.Options{Fault: durabletest.Nth(n, arm, cause)})
				least, most := uint64(0), uint64(0)
				err := tell(t, fsys, func(r *rig) {
					least, most = r.cat.Applied(), r.cat.Applied()
					require.Equal(t, states[least], r.brief())
				})
				if errors.Is(err, journal.ErrUncertain) {
					most++
				}
				if fsys.Count() < n {
					require.NoError(t, err)
					break
				}
				fsys.SetFault(nil)
				for _, m := range []*vfs.MemFS{mem, image(mem, 0)} {
					again := &rig{t: t, fs: durable.Mem(m), now: baseTime}
					if err := again.restart(); err != nil {
						require.Zero(t, least, "operation %d %v: %v", n, arm, err)
						break
					}
					require.GreaterOrEqual(t, again.cat.Applied(), least)
					require.LessOrEqual(t, again.cat.Applied(), most, "operation %d %v %v: %v", n, arm, cause, err)
					require.Equal(t, states[again.cat.Applied()], again.brief())
					require.NoError(t, again.stop())
				}
			}
		}
	}
}

// sampled leaves most faults to the heavy run: the view answers each lack of room by
// a pause, and in a store every operation is failed once more.
func sampled(n int, cause error) bool {
	switch {
	case os.Getenv("BLOCKFRAME_HEAVY") != "":
		return true
	case testing.Short():
		return n%20 == 1
	case cause == syscall.ENOSPC:
		return n%8 == 1
	}
	return n%2 == 1
}

// TestFullLog refuses puts while the log's disk is full, serves reads, and takes
// puts again when there is room.
func TestFullLog(t *testing.T) {
	fsys := durabletest.New(durable.Mem(vfs.NewCrashableMem()), durabletest.Options{})
	r := newRig(t, fsys)
	r.ok(inline("a", "1", 1))
	var tried atomic.Int64
	fsys.SetFault(func(op durabletest.Op) *durabletest.Fault {
		// The frame does not fit; zeros over it do.
		if op.Kind == durabletest.Write && strings.HasPrefix(op.Name, "log") && tried.Add(1) == 1 {
			return &durabletest.Fault{Arm: durabletest.Before, Err: syscall.ENOSPC}
		}
		return nil
	})
	_, err := r.cat.Commit(ctx, store.Record{Commands: []store.Command{inline("b", "2", 2)}})
	require.ErrorIs(t, err, durable.ErrNoSpace)
	r.object("a", 0)
	r.absent("b")
	r.ok(inline("b", "3", 3))
	r.reopen()
	require.Equal(t, idOf("3"), r.object("b", 0).ID)
}

// TestFullView logs nothing while the view cannot be written out, and goes on when
// there is room.
func TestFullView(t *testing.T) {
	fsys := durabletest.New(durable.Mem(vfs.NewCrashableMem()), durabletest.Options{})
	r := newRig(t, fsys)
	r.ok(inline("a", "1", 1))
	require.NoError(t, r.cat.Settle())
	r.ok(inline("c", "3", 3)) // waits in memory
	fsys.SetFault(func(op durabletest.Op) *durabletest.Fault {
		if op.Kind.Changes() && strings.HasPrefix(op.Name, "view") {
			return &durabletest.Fault{Arm: durabletest.Before, Err: syscall.ENOSPC}
		}
		return nil
	})
	require.NoError(t, r.cat.View().FlushSoon())
	require.Eventually(t, r.cat.View().Full, 1e10, 1e6)
	before := r.j.Last()
	_, err := r.cat.Commit(ctx, store.Record{Commands: []store.Command{inline("b", "2", 2)}})
	require.ErrorIs(t, err, durable.ErrNoSpace)
	require.Equal(t, before, r.j.Last())
	r.object("a", 0)
	require.Len(t, collect(r, r.cat.List(ctx, ".", "")), 2, "what is in memory, too")
	fsys.SetFault(nil)
	require.Eventually(t, func() bool { return !r.cat.View().Full() }, 1e10, 1e6)
	r.ok(inline("b", "2", 2))
}

// TestViewFailsWhileOpen makes it anew beside, while records come and reads go on.
func TestViewFailsWhileOpen(t *testing.T) {
	fsys := durabletest.New(durable.Mem(vfs.NewCrashableMem()), durabletest.Options{})
	r := newRig(t, fsys, withTally)
	for i := range 50 {
		r.ok(inline(fmt.Sprintf("n%d", i), fmt.Sprint(i), i+1))
	}
	want := r.dump()
	for _, part := range []string{"MANIFEST", ".sst"} {
		dir := must(r.fs.List("view"))[0]
		old := r.cat.View()
		fsys.SetFault(func(op durabletest.Op) *durabletest.Fault {
			if (op.Kind == durabletest.Write || op.Kind == durabletest.Sync) && strings.Contains(op.Name, dir) && strings.Contains(op.Name, part) {
				return &durabletest.Fault{Arm: durabletest.Before, Err: syscall.EIO}
			}
			return nil
		})
		require.Error(t, old.Flush(), "%v %v", dir, must(r.fs.List("view")))
		require.Equal(t, want, r.dump(), "a read makes it anew")
		require.NotEqual(t, old, r.cat.View())
		fsys.SetFault(nil)
		r.ok(inline("n0", "again"+part, 1000))
		want = r.dump()
		r.checkTally()
	}
	// An iteration that was under way goes on, unless a record was applied since:
	// then it says so, rather than skip.
	for _, applied := range []bool{false, true} {
		dir := must(r.fs.List("view"))[0]
		seen := 0
		var last error
		for _, err := range r.cat.List(ctx, ".", "") {
			seen++
			if last = err; seen == 3 {
				fsys.SetFault(durabletest.All(durabletest.Sync, dir, durabletest.Before, syscall.EIO))
				require.Error(t, r.cat.Flush())
				fsys.SetFault(nil)
				if applied {
					r.ok(store.OpenEpoch{})
				}
			}
		}
		if applied {
			require.Error(t, last)
			require.Less(t, seen, 50)
		} else {
			require.NoError(t, last)
			require.Equal(t, 50, seen)
			require.Equal(t, want, r.dump())
		}
	}
	want = r.dump()
	r.reopen(withTally)
	require.Equal(t, want, r.dump())
}

// TestReadOnlyLog serves what there is and says why no more comes.
func TestReadOnlyLog(t *testing.T) {
	fsys := durabletest.New(durable.Mem(vfs.NewCrashableMem()), durabletest.Options{})
	r := newRig(t, fsys)
	r.ok(inline("a", "1", 1))
	fsys.SetFault(durabletest.All(durabletest.Sync, "log/b", durabletest.Before, syscall.EIO))
	_, err := r.cat.Commit(ctx, store.Record{Commands: []store.Command{inline("b", "2", 2)}})
	require.ErrorIs(t, err, journal.ErrUncertain)
	fsys.SetFault(nil)
	_, err = r.cat.Commit(ctx, store.Record{Commands: []store.Command{inline("b", "2", 2)}})
	require.ErrorIs(t, err, fs.ErrPermission)
	require.ErrorIs(t, err, journal.ErrReadOnly)
	require.ErrorContains(t, err, "b")
	r.object("a", 0)

	// A member that is gone: opened for reading, with the reason.
	require.NoError(t, r.cat.Close())
	require.NoError(t, r.j.Close())
	require.NoError(t, r.fs.RemoveAll("log/b"))
	r.open(func(o *catalog.Options) { o.Grace = 1 })
	r.object("a", 0)
	_, err = r.cat.Commit(ctx, store.Record{Commands: []store.Command{store.OpenEpoch{}}})
	require.ErrorIs(t, err, fs.ErrPermission)
}

// fullView is a fault that leaves the view no room.
func fullView(op durabletest.Op) *durabletest.Fault {
	if op.Kind.Changes() && op.Kind != durabletest.Remove && strings.HasPrefix(op.Name, "view") {
		return &durabletest.Fault{Arm: durabletest.Before, Err: syscall.ENOSPC}
	}
	return nil
}

// TestCloseOnFullDisk does not wait for room: neither for its own flush, nor for
// one under way, nor for a record that waits for one.
func TestCloseOnFullDisk(t *testing.T) {
	for _, waiting := range []bool{false, true} {
		fsys := durabletest.New(durable.Mem(vfs.NewCrashableMem()), durabletest.Options{})
		r := newRig(t, fsys)
		r.ok(inline("a", "1", 1))
		fsys.SetFault(fullView)
		if waiting {
			require.NoError(t, r.cat.FlushSoon())
			require.Eventually(t, r.cat.View().Full, 1e10, 1e6)
		}
		closed := make(chan error, 1)
		go func() { closed <- r.cat.Close() }()
		select {
		case err := <-closed:
			require.NoError(t, err)
		case <-time.After(10 * time.Second):
			t.Fatal("Close waits for room")
		}
		fsys.SetFault(nil)
		r.reopen()
		r.object("a", 0)
	}
}

// TestViewFailsOnFullDisk makes the view anew when there is room: until then a try
// leaves nothing behind, and not each read is a try.
func TestViewFailsOnFullDisk(t *testing.T) {
	fsys := durabletest.New(durable.Mem(vfs.NewCrashableMem()), durabletest.Options{})
	r := newRig(t, fsys, withTally)
	r.ok(inline("a", "1", 1))
	views := must(r.fs.List("view"))
	full := func() {
		t.Helper()
		fsys.SetFault(func(op durabletest.Op) *durabletest.Fault {
			if op.Kind == durabletest.Sync && strings.HasPrefix(op.Name, "view") { // is not tried again
				return &durabletest.Fault{Arm: durabletest.Before, Err: syscall.ENOSPC}
			}
			return fullView(op)
		})
	}
	full()
	require.NoError(t, r.cat.FlushSoon())
	require.Eventually(t, r.cat.View().Full, 1e10, 1e6)
	r.cat.View().Impatient() // the disk is full where a failure is final
	<-r.cat.View().Failing()
	r.object("a", 0) // in memory
	_, err := r.cat.Policies(ctx)
	require.ErrorIs(t, err, durable.ErrNoSpace)
	fsys.Reset()
	for range 100 {
		_, err := r.cat.Policies(ctx)
		require.ErrorIs(t, err, durable.ErrNoSpace)
	}
	// A flush of the view that failed may still be on its way; a replay for each read
	// would make a directory each time.
	require.Less(t, strings.Count(fsys.Log(), "\n"), 20, "each read replays the log")
	require.Equal(t, views, must(r.fs.List("view")))

	// A record that is logged now is applied when there is room.
	_, err = r.cat.Commit(ctx, store.Record{Commands: []store.Command{inline("b", "2", 2)}})
	require.ErrorIs(t, err, journal.ErrUncertain)
	require.ErrorIs(t, err, durable.ErrNoSpace)
	fsys.SetFault(nil)
	require.Eventually(t, func() bool { return r.cat.Applied() == 2 }, 1e10, 1e7)
	r.object("b", 0)
	r.ok(inline("c", "3", 3))
	r.checkTally()
	r.reopen(withTally)
	r.object("c", 0)
}
