package blockframe_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
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

// scene is a closed store in memory on which a script got so far, to be cloned.
type scene struct {
	fs     *vfs.MemFS
	step   step
	before string // what is to be seen of it
	after  string // once the step was done
}

// scenes runs a script and returns the store as it is before each of its steps.
func scenes(t testing.TB, opts blockframe.Options, steps []step) (list []scene) {
	t.Helper()
	ctx := context.Background()
	m := vfs.NewCrashableMem()
	before := ""
	for _, s := range steps {
		st, err := blockframe.Open(ctx, blockframe.WithFS(opts, durable.Mem(m)))
		require.NoError(t, err)
		require.NoError(t, st.Close())
		sc := scene{fs: m.CrashClone(vfs.CrashCloneCfg{}), step: s, before: before}
		st, err = blockframe.Open(ctx, blockframe.WithFS(opts, durable.Mem(m)))
		require.NoError(t, err)
		require.NoError(t, s.do(ctx, st, durable.Mem(m)), s.name)
		before, err = dump(ctx, st, scriptNames)
		require.NoError(t, err)
		require.NoError(t, st.Close())
		sc.after = before
		list = append(list, sc)
	}
	return list
}

// fault is one disk operation that fails.
type fault struct {
	sc    scene
	opts  blockframe.Options
	arm   durabletest.Arm
	cause error
	nth   int
	looks bool // count the operations that only look instead of the changes

	hit   atomic.Pointer[durabletest.Op] // what it struck
	count atomic.Int64
}

// strike is the predicate: it fails the operation once.
func (f *fault) strike(op durabletest.Op) *durabletest.Fault {
	if f.looks == op.Kind.Changes() || op.Kind == durabletest.Close {
		return nil
	}
	if f.count.Add(1) != int64(f.nth) {
		return nil
	}
	f.hit.Store(&op)
	return &durabletest.Fault{Arm: f.arm, Err: f.cause}
}

func (f *fault) String() string {
	op := f.hit.Load()
	if op == nil {
		return fmt.Sprintf("%s: no operation %d", f.sc.step.name, f.nth)
	}
	return fmt.Sprintf("%s: operation %d, %s, fails %s it is done: %v", f.sc.step.name, f.nth, op, f.arm, f.cause)
}

// run carries out the step of the scene with one operation failing, and checks all
// that can be seen: at once, after the step was repeated, and after a power cut.
// It reports whether the fault struck.
func (f *fault) run() (bool, error) {
	ctx := context.Background()
	m := f.sc.fs.CrashClone(vfs.CrashCloneCfg{})
	fsys := durabletest.New(durable.Mem(m), durabletest.Options{})
	st, err := blockframe.Open(ctx, blockframe.WithFS(f.opts, fsys))
	if err != nil {
		return true, err
	}
	fsys.SetFault(f.strike)
	first := f.sc.step.do(ctx, st, durable.Mem(m))
	fsys.SetFault(nil)
	want, err := f.live(ctx, st, m, first)
	if err = errors.Join(err, f.closed(st)); err != nil {
		return true, err
	}
	if f.hit.Load() == nil {
		return false, nil
	}
	return true, f.reopened(ctx, m.CrashClone(vfs.CrashCloneCfg{}), want)
}

// closed closes the store; a log or disk that failed may say so again.
func (f *fault) closed(st *blockframe.Store) error {
	if err := st.Close(); err != nil && !errors.Is(err, f.cause) {
		return err
	}
	return nil
}

// live checks the store that met the fault, and returns what a later Open may find.
func (f *fault) live(ctx context.Context, st *blockframe.Store, m *vfs.MemFS, first error) (want []string, err error) {
	want = f.outcomes(first)
	got, err := dump(ctx, st, scriptNames)
	if err != nil {
		return nil, fmt.Errorf("after %v: %w", first, err)
	}
	if !slices.Contains(want, got) {
		return nil, fmt.Errorf("the step returned %v, then the store holds\n%s\nwant\n%s", first, got, want[0])
	}
	if first != nil && f.hit.Load() == nil {
		return nil, fmt.Errorf("fails without a fault: %w", first)
	}
	if f.cause == syscall.ENOSPC && first != nil && !errors.Is(first, blockframe.ErrNoSpace) && !errors.Is(first, blockframe.ErrUncertain) {
		return nil, fmt.Errorf("a full disk is reported as %w", first)
	}
	if first == nil || got == f.sc.after && f.sc.before != f.sc.after {
		return want, nil
	}
	// Repeating it works, or says what is the matter.
	again := f.sc.step.do(ctx, st, durable.Mem(m))
	switch {
	case again == nil:
		return []string{f.sc.after}, nil
	case !errors.Is(again, blockframe.ErrUnavailable) && !errors.Is(again, fs.ErrPermission):
		return nil, fmt.Errorf("the step returned %v, repeated it returned: %w", first, again)
	case f.cause == syscall.ENOSPC && !f.lasting():
		return nil, fmt.Errorf("a full disk that has room again is not written to: %w", again)
	case errors.Is(again, fs.ErrPermission) && st.ReadOnly() == nil:
		return nil, fmt.Errorf("ReadOnly knows nothing of %w", again)
	}
	if got, err = dump(ctx, st, scriptNames); err == nil && !slices.Contains(want, got) {
		err = fmt.Errorf("after a refused repetition the store holds\n%s", got)
	}
	return want, err
}

// lasting reports whether a full disk struck where nobody can tell what is on the
// disk now: the sync of a folder.
func (f *fault) lasting() bool { return f.hit.Load().Kind == durabletest.SyncDir }

// outcomes returns what may be seen after a step that returned err.
func (f *fault) outcomes(err error) []string {
	switch {
	case err == nil:
		return []string{f.sc.after}
	case errors.Is(err, blockframe.ErrUncertain):
		return []string{f.sc.before, f.sc.after}
	}
	return []string{f.sc.before}
}

// reopened checks what the next Open finds.
func (f *fault) reopened(ctx context.Context, m *vfs.MemFS, want []string) error {
	fsys := durable.Mem(m)
	st, err := blockframe.Open(ctx, blockframe.WithFS(f.opts, fsys))
	if err != nil {
		return fmt.Errorf("reopen: %w", err)
	}
	defer st.Close()
	if err := st.ReadOnly(); err != nil {
		return fmt.Errorf("reopen: %w", err)
	}
	got, err := dump(ctx, st, scriptNames)
	if err != nil || !slices.Contains(want, got) {
		return fmt.Errorf("reopened, the store holds\n%s\nwant\n%s: %w", got, strings.Join(want, "\nor\n"), err)
	}
	if rep, err := st.Scrub(ctx, blockframe.ScrubOptions{Deep: true, Repair: true}); err != nil || rep.Left > 0 || len(rep.Lost) > 0 {
		return fmt.Errorf("reopened: scrub: %+v: %w", rep, err)
	}
	if err := collected(ctx, st, fsys, f.opts.Dirs, false); err != nil {
		return fmt.Errorf("reopened: %w", err)
	}
	if got == f.sc.before && got != f.sc.after {
		if err := f.sc.step.do(ctx, st, fsys); err != nil {
			return fmt.Errorf("reopened: %w", err)
		}
		if got, err = dump(ctx, st, scriptNames); err != nil || got != f.sc.after {
			return fmt.Errorf("reopened, and repeated, the store holds\n%s: %w", got, err)
		}
	}
	return nil
}

// faulted are the steps of the script of which every operation is made to fail; the
// others are one record each, as a purge is.
var faulted = []string{"put a/inline", "put a/group of 20000", "put b/stream", "put b/extents of 1118576", "batch", "purge all", "damage", "read over", "pack", "collect"}

// R6: each disk operation of each step fails once, before or after it was done. The
// step succeeds or says why not; nothing is half visible; everything else stays
// readable; a full disk is ErrNoSpace, and works when it has room again; and after a
// power cut the step happened or did not, as its error said. I1, I3, I5.
func TestFaultAtEveryOperation(t *testing.T) {
	opts := crashOptions(nil, 1)
	opts.NoRepair = true // by itself: the checks look for what is left while nothing goes on
	var wg sync.WaitGroup
	cases := make(chan func())
	for range 2 {
		wg.Go(func() {
			for f := range cases {
				f()
			}
		})
	}
	var ran, failed atomic.Int64
	done := map[string]bool{}
	for _, sc := range scenes(t, opts, script()) {
		i := slices.IndexFunc(faulted, func(name string) bool { return strings.HasPrefix(sc.step.name, name) })
		if i < 0 || done[faulted[i]] {
			continue
		}
		done[faulted[i]] = true
		for variant := range 8 {
			var ended atomic.Bool // the step has no more operations than that
			for nth := 1; nth < 2000 && !ended.Load() && failed.Load() < 4; nth++ {
				f := &fault{sc: sc, opts: opts, nth: nth, looks: variant >= 4,
					arm: durabletest.Arm(1 + variant%2), cause: []error{syscall.ENOSPC, syscall.EIO}[variant/2%2]}
				if f.looks && (f.cause == syscall.ENOSPC || f.arm == durabletest.After) {
					break // a failed read is a failed read
				}
				switch {
				case testing.Short() && (nth+variant)%20 != 0:
					continue
				case heavy || testing.Short():
				case f.looks && nth%29 != 0, !f.looks && variant/2 != nth%2: // each in both arms, of one cause
					continue
				}
				cases <- func() {
					ran.Add(1)
					hit, err := f.run()
					if !hit {
						ended.Store(true)
					}
					if err != nil && failed.Add(1) < 4 {
						t.Errorf("%v: %v", f, err)
					}
				}
			}
		}
	}
	close(cases)
	wg.Wait()
	require.Len(t, done, len(faulted))
	t.Logf("%d faults", ran.Load())
}
