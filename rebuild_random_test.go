package blockframe_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"github.com/zeebo/blake3"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/internal/durable"
)

// life is a random history of a store, and what is known of it.
type life struct {
	t    *testing.T
	rng  *rand.Rand
	fsys durable.FS
	opts blockframe.Options
	st   *blockframe.Store

	put   map[string]map[blockframe.ID]bool // by name: what ever stood under it
	bytes map[blockframe.ID][]byte
}

// spread is 2+1 over n directories, a shard on each at most, with small extents.
func spread(fsys durable.FS, n int) blockframe.Options {
	o := crashOptions(fsys, n)
	o.Policies = []blockframe.Policy{{Name: "spread", Extent: mib, Code: blockframe.Code{K: 2, M: 1}}}
	return o
}

func newLife(t *testing.T, seed uint64, dirs int) *life {
	fsys := durable.Mem(vfs.NewCrashableMem())
	l := &life{t: t, rng: rand.New(rand.NewPCG(seed, 3)), fsys: fsys, opts: spread(fsys, dirs),
		put: map[string]map[blockframe.ID]bool{}, bytes: map[blockframe.ID][]byte{}}
	l.open()
	return l
}

func (l *life) open() {
	var err error
	l.st, err = blockframe.Open(context.Background(), l.opts)
	require.NoError(l.t, err)
}

func (l *life) close() { require.NoError(l.t, l.st.Close()) }

// size is of all classes: inline, grouped, a stream, several extents.
func (l *life) size() int {
	most := []int{4096, 200_000, 700_000, 3*mib + 9}[l.rng.IntN(4)]
	return 1 + l.rng.IntN(most)
}

func (l *life) name() string {
	return fmt.Sprintf("%c/%c", 'a'+l.rng.IntN(3), 'p'+l.rng.IntN(6))
}

// note notes that a content stood under a name.
func (l *life) note(name string, id blockframe.ID) {
	if l.put[name] == nil {
		l.put[name] = map[blockframe.ID]bool{}
	}
	l.put[name][id] = true
}

// step does something. Refusals are part of it.
func (l *life) step() {
	ctx := context.Background()
	switch name := l.name(); l.rng.IntN(16) {
	case 0:
		if from := l.name(); l.st.Rename(ctx, from, name) == nil {
			for obj, err := range l.st.Versions(ctx, name) {
				require.NoError(l.t, err)
				l.note(name, obj.ID)
			}
		}
	case 1:
		_ = l.st.Delete(ctx, name, blockframe.DeleteOptions{})
	case 2:
		_ = l.st.Delete(ctx, name, blockframe.DeleteOptions{All: true})
	case 3:
		_ = l.st.Hold(ctx, name, 0, l.rng.IntN(2) == 0)
	case 4:
		require.NoError(l.t, l.st.PackInline(ctx))
	case 5:
		_, err := l.st.Compact(ctx, blockframe.CompactOptions{})
		require.NoError(l.t, err)
	case 6:
		_, err := l.st.Collect(ctx, blockframe.CollectOptions{})
		require.NoError(l.t, err)
	case 7:
		l.close()
		l.open()
	default:
		data := content(byte(l.rng.IntN(50)), l.size())
		obj, err := l.st.Put(ctx, name, bytes.NewReader(data), blockframe.PutOptions{Attr: attr})
		require.NoError(l.t, err)
		l.bytes[obj.ID] = data
		l.note(name, obj.ID)
	}
}

// contents returns what versions refer to now.
func (l *life) contents() map[blockframe.ID]bool {
	have := map[blockframe.ID]bool{}
	for name := range l.put {
		for obj, err := range l.st.Versions(context.Background(), name) {
			if err != nil {
				break
			}
			if !obj.Deleted {
				have[obj.ID] = true
			}
		}
	}
	return have
}

// restored returns the contents below lost+found, each read whole and held against what
// stood under its name once.
func (l *life) restored() map[blockframe.ID]bool {
	ctx, have := context.Background(), map[blockframe.ID]bool{}
	for obj, err := range l.st.List(ctx, "lost+found", blockframe.ListOptions{}) {
		require.NoError(l.t, err)
		if obj.Mode.IsDir() {
			continue
		}
		b, err := readAll(ctx, l.st, obj.Name, 0)
		require.NoError(l.t, err)
		require.True(l.t, bytes.Equal(l.bytes[obj.ID], b), obj.Name)
		name, _, _ := strings.Cut(strings.TrimPrefix(obj.Name, "lost+found/"), ".put-")
		require.True(l.t, l.put[name][obj.ID], "%s never held %v", name, obj.ID)
		have[obj.ID] = true
	}
	return have
}

// R5: after any history the log, the view and m disks are lost. All that versions refer to,
// and that shards hold, is restored under a name that it had; the dry run says so before,
// and changes no byte; what is missing is made again; the second run does nothing.
func TestRebuildRandom(t *testing.T) {
	seeds := 12
	if testing.Short() {
		seeds = 3
	} else if heavy {
		seeds = 200
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			ctx := context.Background()
			l := newLife(t, uint64(seed), 4)
			for range 40 + l.rng.IntN(40) {
				l.step()
			}
			require.NoError(t, l.st.PackInline(ctx))
			want := l.contents()
			l.close()
			loseLogs(t, l.fsys, l.opts.Dirs)
			if seed%3 > 0 {
				require.NoError(t, l.fsys.RemoveAll(l.opts.Dirs[l.rng.IntN(4)]))
			}
			if seed%3 == 1 {
				l.there() // the others do not know that there was one more
			}
			before := onDisk(t, l.fsys, l.opts.Dirs)
			dry, told := rebuilt(t, l.opts, blockframe.RebuildOptions{DryRun: true})
			require.Equal(t, before, onDisk(t, l.fsys, l.opts.Dirs), "a dry run changes nothing")
			rep, found := rebuilt(t, l.opts, blockframe.RebuildOptions{})
			require.Equal(t, brief(told), brief(found))
			require.Equal(t, dry, rep)
			require.Zero(t, rep.Damaged)
			l.open()
			require.Zero(t, audited(t, l.st).Gone)
			have := l.restored()
			for id := range want {
				require.True(t, have[id], "%v is not restored: %+v", id, rep)
			}
			_, err := l.st.Scrub(ctx, blockframe.ScrubOptions{Deep: true, Repair: true})
			require.NoError(t, err)
			scrub, err := l.st.Scrub(ctx, blockframe.ScrubOptions{Deep: true})
			require.NoError(t, err)
			require.True(t, scrub.Clean(), "%+v", scrub) // there is a free disk for what was on the lost one
			l.close()
			rep, _ = rebuilt(t, l.opts, blockframe.RebuildOptions{Accept: true})
			require.False(t, rep.Adoptable(), "%+v", rep)
			l.open()
			require.Equal(t, have, l.restored())
			if rep.Absent == 0 {
				require.NoError(t, collected(ctx, l.st, l.fsys, l.opts.Dirs, false))
			} else {
				require.Equal(t, 2, seed%3)
				col, err := l.st.Collect(ctx, blockframe.CollectOptions{})
				require.NoError(t, err)
				require.ErrorIs(t, col.Skipped, blockframe.ErrUnavailable)
			}
			require.Equal(t, have, l.restored())
			l.close()
		})
	}
}

// there leaves out the directories that are not there.
func (l *life) there() {
	l.opts.Dirs = slices.DeleteFunc(slices.Clone(l.opts.Dirs), func(d string) bool { _, err := l.fsys.Stat(d); return err != nil })
}

// brief returns what was told of, in order.
func brief(list []blockframe.Found) (out []string) {
	for _, f := range list {
		out = append(out, fmt.Sprintf("%s %s %s %v %d %v %s %v", f.State, f.Name, f.To, f.ID, f.Size, f.Upload, f.Key, f.Err))
	}
	slices.Sort(out)
	return out
}

// onDisk returns all files below directories with a hash of what is in them, and all
// directories.
func onDisk(t testing.TB, fsys durable.FS, dirs []string) map[string]string {
	t.Helper()
	all := map[string]string{}
	var walk func(name string)
	walk = func(name string) {
		info, err := fsys.Stat(name)
		if err != nil {
			return
		}
		if !info.Dir {
			b, err := durable.ReadFile(fsys, name, 1<<30)
			require.NoError(t, err)
			all[name] = fmt.Sprintf("%d %x", len(b), blake3.Sum256(b))
			return
		}
		all[name] = "directory"
		names, err := fsys.List(name)
		require.NoError(t, err)
		for _, n := range names {
			walk(path.Join(name, n))
		}
	}
	for _, d := range dirs {
		walk(d)
	}
	return all
}
