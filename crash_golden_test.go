package blockframe_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/durable/durabletest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// trace turns recorded operations into text that does not differ from run to run:
// extents, folders and temporary files get names by their order, and what shard
// writers do at the same time is told shard by shard.
type trace struct {
	extents map[string]int
}

var blobPath = regexp.MustCompile(`^(.*/data/)([0-9a-f]{2})/([0-9a-f]{32})-([0-9a-f]{2})-([0-9a-f]{8})-[0-9a-f]{16}-[0-9a-f]{32}$`)

// blob returns the short name of a blob, DIR/data/HH/E.S.G, or "".
func (tr *trace) blob(name string) string {
	m := blobPath.FindStringSubmatch(name)
	if m == nil {
		return ""
	}
	if _, ok := tr.extents[m[3]]; !ok {
		tr.extents[m[3]] = len(tr.extents) + 1
	}
	return fmt.Sprintf("%sHH/extent%d.shard%s.gen%s", m[1], tr.extents[m[3]], strings.TrimLeft(m[4][:1], "0")+m[4][1:], m[5][7:])
}

// text returns the operations as lines.
func (tr *trace) text(t *testing.T, ops []durabletest.Op) string {
	var b strings.Builder
	for len(ops) > 0 {
		n := 0
		for n < len(ops) && onShards(ops[n]) {
			n++
		}
		for _, line := range tr.shards(t, ops[:n]) {
			fmt.Fprintln(&b, line)
		}
		ops = ops[n:]
		for len(ops) > 0 && !onShards(ops[0]) {
			if line := other(ops[0]); line != "" {
				fmt.Fprintln(&b, line)
			}
			ops = ops[1:]
		}
	}
	return b.String()
}

func onShards(op durabletest.Op) bool {
	return strings.Contains(op.Name, "/tmp/") || strings.Contains(op.Name, "/data/") && op.Kind != durabletest.Mkdir
}

// other returns the line of an operation on what is no shard, "" for none. Of the
// 256 folders the first stands for all.
func other(op durabletest.Op) string {
	if op.Kind == durabletest.Mkdir && !strings.HasSuffix(op.Name, "/00") {
		return ""
	}
	if strings.Contains(op.Name, "/view/") {
		if op.Kind == durabletest.Remove {
			return "" // done in the background
		}
		op.Off, op.Len = 0, 0 // of rows with random identities, compressed
	}
	if strings.Contains(op.Name, "FORMAT.txt") {
		op.Len = 0 // words
	}
	return op.String()
}

// shards returns the lines of operations on shards, those of one shard together. It
// checks that a folder is synced after each rename into it and each removal.
func (tr *trace) shards(t *testing.T, ops []durabletest.Op) (lines []string) {
	final := map[string]string{} // of temporary files
	for _, op := range ops {
		if op.Kind == durabletest.RenameNew {
			final[op.Name] = op.To
		}
	}
	of := map[string][]string{}
	var order []string
	add := func(blob, line string) {
		if of[blob] == nil {
			order = append(order, blob)
		}
		of[blob] = append(of[blob], line)
	}
	for i, op := range ops {
		name := op.Name
		if to, ok := final[name]; ok {
			name = to
		}
		blob := tr.blob(name)
		if op.Kind == durabletest.SyncDir {
			continue // told with the blobs that it is for
		}
		if blob == "" {
			blob = op.Name
		}
		short := op
		if _, ok := final[op.Name]; ok {
			short.Name = path.Dir(op.Name) + "/TEMP"
		} else {
			short.Name = blob
		}
		short.To = blob
		add(blob, short.String())
		if op.Kind == durabletest.RenameNew || op.Kind == durabletest.Remove && tr.blob(op.Name) != "" {
			folder := path.Dir(name)
			synced := slices.ContainsFunc(ops[i:], func(o durabletest.Op) bool { return o.Kind == durabletest.SyncDir && o.Name == folder })
			require.True(t, synced, "%s is not followed by a sync of %s before anything relies on it", op, folder)
			add(blob, "syncdir "+path.Dir(blob))
		}
	}
	slices.Sort(order)
	for _, blob := range order {
		lines = append(lines, of[blob]...)
	}
	return lines
}

// The file operations of each kind of change, in order. What to look for: content is
// synced before it is renamed, renamed before its folder is synced, and all of that
// before the frame of the log is written; the frame is synced in both copies before
// the next thing happens; blobs are removed only behind the frame that says so.
func TestOperations(t *testing.T) { // R6
	var b bytes.Buffer
	synctest.Test(t, func(t *testing.T) { operations(t, &b) })
	name := filepath.Join("testdata", "operations.golden")
	if *update {
		require.NoError(t, os.WriteFile(name, b.Bytes(), 0o644))
	}
	want, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, string(want), b.String())
}

// operations runs every change once, in a bubble of synctest, and writes down what it
// did to files.
func operations(t *testing.T, b *bytes.Buffer) {
	ctx := context.Background()
	m := vfs.NewCrashableMem()
	fsys := durabletest.New(durable.Mem(m), durabletest.Options{})
	opts := blockframe.WithLog(crashOptions(fsys, 1), 256<<10, true)
	opts.NoRepair = true // by itself: one thing after the other
	tr := &trace{extents: map[string]int{}}
	var st *blockframe.Store
	section := func(what string, f func() error) {
		t.Helper()
		fsys.Reset()
		require.NoError(t, f(), what)
		time.Sleep(time.Second) // of the bubble: the last frame is proven, all is quiet
		synctest.Wait()
		fmt.Fprintf(b, "# %s\n%s\n", what, tr.text(t, fsys.Ops()))
	}
	open := func() (err error) {
		st, err = blockframe.Open(ctx, opts)
		return err
	}
	run := func(s step) {
		t.Helper()
		section(s.name, func() error { return s.do(ctx, st, durable.Mem(m)) })
	}
	section("create a store", open)
	run(putStep("a/inline", 1, 100))
	run(putStep("a/group", 2, 20_000))
	run(putStep("b/stream", 3, 300_000))
	run(putStep("b/extents", 4, mib+70_000))
	run(putStep("c/same", 3, 300_000))
	collect := do("collect", func(ctx context.Context, st *blockframe.Store) error {
		_, err := st.Collect(ctx, blockframe.CollectOptions{})
		return err
	})
	run(collect) // the second copy
	run(do("pack what is in the log", func(ctx context.Context, st *blockframe.Store) error { return st.PackInline(ctx) }))
	run(do("rename", func(ctx context.Context, st *blockframe.Store) error { return st.Rename(ctx, "a/group", "a/g") }))
	run(do("delete", func(ctx context.Context, st *blockframe.Store) error {
		return st.Delete(ctx, "b/extents", blockframe.DeleteOptions{})
	}))
	run(do("purge all versions", func(ctx context.Context, st *blockframe.Store) error {
		return st.Delete(ctx, "b/extents", blockframe.DeleteOptions{All: true})
	}))
	run(collect)
	run(step{"find a damaged block", func(ctx context.Context, st *blockframe.Store, fsys durable.FS) error {
		if err := rotOne(t, m); err != nil {
			return err
		}
		_, err := st.Scrub(ctx, blockframe.ScrubOptions{Deep: true})
		return err
	}})
	run(do("heal it", func(ctx context.Context, st *blockframe.Store) error {
		_, err := st.Repair(ctx)
		return err
	}))
	run(do("put a batch, and purge most of it", func(ctx context.Context, st *blockframe.Store) error {
		batch := st.Batch(ctx)
		for i := range 3 {
			if err := batch.Put(fmt.Sprint("batch/", i), bytes.NewReader(content(byte(10+i), 20_000)), blockframe.PutOptions{Attr: attr}); err != nil {
				return err
			}
		}
		if _, err := batch.Commit(); err != nil {
			return err
		}
		return errors.Join(st.Delete(ctx, "batch/0", blockframe.DeleteOptions{All: true}), st.Delete(ctx, "batch/1", blockframe.DeleteOptions{All: true}))
	}))
	run(compactStep())
	section("close", func() error { return st.Close() })
	section("open", open)
	require.NoError(t, st.Close())
}

// rotOne flips a bit of the largest blob of shard 1.
func rotOne(t *testing.T, m *vfs.MemFS) error {
	fsys := durable.Mem(m)
	list, err := blobs(fsys, []string{"/d0"})
	require.NoError(t, err)
	name, most := "", int64(0)
	for _, n := range list {
		info, err := fsys.Stat(n)
		require.NoError(t, err)
		if strings.Split(path.Base(n), "-")[1] == "01" && info.Size > most {
			name, most = n, info.Size
		}
	}
	return flip(fsys, name, 5000, 1)
}
