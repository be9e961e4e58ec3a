package blockframe_test

import (
	"bytes"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/durable/durabletest"
)

// moment is what a store held after a record of its log.
type moment struct {
	last uint64
	want map[string][]byte
}

// history works step by step, and returns what there was after each.
func (r *keepRig) history(steps int) (list []moment) {
	r.t.Helper()
	for i := range steps {
		r.work(1)
		if i%10 == 9 {
			require.NoError(r.t, r.st.KeepPass(r.t.Context()))
		}
		log := r.st.Log()
		list = append(list, moment{log[len(log)-1].Last, maps.Clone(r.want)})
	}
	return list
}

// checkAt checks the names of a store against what there was after a record; what the step
// under way at that record changed may be as before or after it.
func (r *keepRig) checkAt(list []moment, record uint64) {
	r.t.Helper()
	i := 0
	for i+1 < len(list) && list[i+1].last <= record {
		i++
	}
	before, after := list[i], list[min(i+1, len(list)-1)]
	for name, want := range before.want {
		if now, ok := after.want[name]; !ok || !bytes.Equal(now, want) {
			continue
		}
		got, err := readAll(r.t.Context(), r.st, name, 0)
		require.NoError(r.t, err, name)
		require.True(r.t, bytes.Equal(want, got), name)
	}
	for o, err := range r.st.List(r.t.Context(), "", blockframe.ListOptions{}) {
		require.NoError(r.t, err)
		if o.Mode.IsDir() || strings.HasPrefix(o.Name, "lost+found/") {
			continue
		}
		require.True(r.t, before.want[o.Name] != nil || after.want[o.Name] != nil, "%s was not there", o.Name)
	}
}

// names returns what is in the store, but for lost+found.
func (r *keepRig) names() map[string][]byte {
	r.t.Helper()
	names := map[string][]byte{}
	for o, err := range r.st.List(r.t.Context(), "", blockframe.ListOptions{}) {
		require.NoError(r.t, err)
		if o.Mode.IsRegular() && !strings.HasPrefix(o.Name, "lost+found/") {
			b, err := readAll(r.t.Context(), r.st, o.Name, 0)
			require.NoError(r.t, err)
			names[o.Name] = append([]byte{}, b...)
		}
	}
	return names
}

// Every copy of the log and of its view is lost, and as many disks as may be: names come
// back as they were at the end of the last segment that is kept, from the newest snapshot
// and the segments behind it, in their places; what came later is below lost+found. The
// store goes on, and so it is when that happens again. // R5
func TestRebuildFromKept(t *testing.T) {
	for dirs, gone := range map[int]int{1: 0, 4: 2, 6: 2} {
		if testing.Short() && dirs != 4 {
			continue
		}
		t.Run(fmt.Sprintf("%d disks, %d gone", dirs, gone), func(t *testing.T) {
			r := newKeepRig(t, dirs)
			var list []moment
			for life := range 3 {
				list = append(list, r.history(100)...)
				r.trimmed()
				last := list[len(list)-1].last
				r.close()
				loseLogs(t, r.fs, r.opts.Dirs)
				whole := r.fs
				if life == 2 {
					for i := range gone {
						require.NoError(t, r.fs.RemoveAll(r.opts.Dirs[dirs-1-i]))
					}
				}
				opts := blockframe.WithFS(r.opts, whole)
				dry, _ := rebuilt(t, opts, blockframe.RebuildOptions{DryRun: true})
				rep, _ := rebuilt(t, opts, blockframe.RebuildOptions{})
				require.True(t, rep.LogLost)
				require.Equal(t, dry.Records, rep.Records)
				require.Greater(t, rep.Records, last/2)
				require.LessOrEqual(t, rep.Records, last+50)
				again, _ := rebuilt(t, opts, blockframe.RebuildOptions{Accept: true})
				require.False(t, again.LogLost || again.Adoptable(), "%+v", again)
				r.open()
				r.checkAt(list, rep.Records)
				i := 0
				for i < len(list) && list[i].last <= rep.Records {
					i++
				}
				list = list[:i] // what came later is no history any more
				r.want = r.names()
			}
			_, err := r.st.Scrub(t.Context(), blockframe.ScrubOptions{Deep: true, Repair: true})
			require.NoError(t, err)
			r.check()
		})
	}
}

// The power is cut after file operations of such a rebuild: Rebuild again restores the
// same.
func TestRebuildFromKeptCrash(t *testing.T) {
	r := newKeepRig(t, 3)
	list := r.history(120)
	r.trimmed()
	r.close()
	loseLogs(t, r.fs, r.opts.Dirs)
	m := vfs.NewCrashableMem()
	copyTree(t, r.fs, durable.Mem(m), r.opts.Dirs)
	sample := every(2, 9)
	images := map[string]*vfs.MemFS{}
	fsys := durabletest.New(durable.Mem(m), durabletest.Options{After: func(op durabletest.Op) {
		if _, take := sample(op); take && !strings.Contains(op.Name, "/data/") && len(images) < 400 {
			images[fmt.Sprintf("change %d, %s", op.N, op)] = durabletest.Cut(m, op, 0)
		}
	}})
	opts := blockframe.WithFS(r.opts, fsys)
	first, _ := rebuilt(t, opts, blockframe.RebuildOptions{})
	require.Positive(t, first.Records)
	opened := 0
	for what, img := range images {
		r.fs = durable.Mem(img)
		opts := blockframe.WithFS(r.opts, r.fs)
		if st, err := blockframe.Open(t.Context(), opts); err == nil {
			opened++
			require.NoError(t, st.Close(), what)
		}
		_, err := blockframe.Rebuild(t.Context(), opts, blockframe.RebuildOptions{})
		require.NoError(t, err, what)
		r.open()
		r.checkAt(list, first.Records)
		r.close()
	}
	require.Positive(t, opened)
	require.Less(t, opened, len(images))
	t.Logf("%d images, %d of them open", len(images), opened)
}

// copyTree copies directories with all that is in them.
func copyTree(t testing.TB, from, to durable.FS, dirs []string) {
	t.Helper()
	for _, dir := range dirs {
		require.NoError(t, to.MkdirAll(dir))
		names, err := from.List(dir)
		require.NoError(t, err)
		for _, name := range names {
			at := dir + "/" + name
			info, err := from.Stat(at)
			require.NoError(t, err)
			if info.Dir {
				copyTree(t, from, to, []string{at})
				continue
			}
			b, err := durable.ReadFile(from, at, info.Size)
			require.NoError(t, err)
			require.NoError(t, durable.WriteFile(to, at, b))
		}
	}
}
