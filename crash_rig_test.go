package blockframe_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/blake3"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/internal/durable"
)

// heavy is set when tests may take minutes.
var heavy = os.Getenv("BLOCKFRAME_HEAVY") != ""

const mib = 1 << 20

// crashOptions are those of a store in memory, with a log of small segments, no
// grace, and extents and a code that keep the number of file operations low.
func crashOptions(fsys durable.FS, dirs int) blockframe.Options {
	o := blockframe.Options{Grace: -1, SlabBytes: 8 * mib, CacheBytes: -1, Upkeep: blockframe.Upkeep{Off: true},
		Policies: []blockframe.Policy{{Name: "small-extents", Extent: mib, Code: blockframe.Code{K: 2, M: 1}, Fragile: true, PerBackend: 3}}}
	for i := range dirs {
		o.Dirs = append(o.Dirs, fmt.Sprintf("/d%d", i))
	}
	return blockframe.WithSegment(blockframe.WithFS(o, fsys), 64<<10)
}

// attr is what every object of a script has, so that two runs of it are equal.
var attr = &blockframe.Attr{Mode: 0o640, UID: 1, GID: 2, ModTime: time.Unix(1_700_000_000, 0)}

// step is one change of a script. Its record is in the log, durably, when do
// returns, and in no part before.
type step struct {
	name string
	do   func(ctx context.Context, st *blockframe.Store, fsys durable.FS) error
}

func putStep(name string, seed byte, size int) step {
	return step{fmt.Sprintf("put %s of %d bytes", name, size), func(ctx context.Context, st *blockframe.Store, _ durable.FS) error {
		_, err := st.Put(ctx, name, bytes.NewReader(content(seed, size)), blockframe.PutOptions{Attr: attr})
		return err
	}}
}

func do(name string, f func(ctx context.Context, st *blockframe.Store) error) step {
	return step{name, func(ctx context.Context, st *blockframe.Store, _ durable.FS) error { return f(ctx, st) }}
}

// script has every kind of change: puts of all classes, a batch, names, versions,
// damage and its repair, collection.
func script() []step {
	return []step{
		putStep("a/inline", 1, 100),
		putStep("a/empty", 0, 0),
		putStep("a/group", 2, 20_000),
		putStep("b/stream", 3, 300_000),
		putStep("b/extents", 4, mib+70_000),
		putStep("c/same", 3, 300_000), // stored once: the new upload is garbage
		putStep("b/stream", 3, 300_000),
		putStep("a/group", 5, 30_000), // another version
		do("batch", func(ctx context.Context, st *blockframe.Store) error {
			b := st.Batch(ctx)
			err := errors.Join(b.Put("batch/one", bytes.NewReader(content(6, 3000)), blockframe.PutOptions{Attr: attr}),
				b.Put("batch/two", bytes.NewReader(content(7, 70_000)), blockframe.PutOptions{Attr: attr}),
				b.Put("batch/three", bytes.NewReader(content(8, 300_001)), blockframe.PutOptions{Attr: attr}),
				b.Mkdir("batch/dir", attr), b.Symlink("batch/link", "one", attr),
				b.Rename("a/inline", "batch/inline"), b.Delete("a/empty"))
			if err == nil {
				_, err = b.Commit()
			}
			return err
		}),
		do("rename a directory", func(ctx context.Context, st *blockframe.Store) error { return st.Rename(ctx, "batch", "moved") }),
		do("setattr", func(ctx context.Context, st *blockframe.Store) error {
			mode := fs.FileMode(0o600)
			_, err := st.SetAttr(ctx, "c/same", blockframe.AttrChange{Mode: &mode})
			return err
		}),
		do("delete", func(ctx context.Context, st *blockframe.Store) error {
			return st.Delete(ctx, "b/extents", blockframe.DeleteOptions{})
		}),
		do("purge a version", func(ctx context.Context, st *blockframe.Store) error {
			return st.Delete(ctx, "a/group", blockframe.DeleteOptions{Version: 1})
		}),
		do("purge all versions", func(ctx context.Context, st *blockframe.Store) error {
			return st.Delete(ctx, "b/extents", blockframe.DeleteOptions{All: true})
		}),
		{"damage a block of each extent, and repair", func(ctx context.Context, st *blockframe.Store, fsys durable.FS) error {
			if err := rotShards(fsys, st, 0); err != nil {
				return err
			}
			_, err := st.Scrub(ctx, blockframe.ScrubOptions{Deep: true, Repair: true})
			return err
		}},
		{"read over damage, then repair", func(ctx context.Context, st *blockframe.Store, fsys durable.FS) error {
			if err := rotShards(fsys, st, 1); err != nil {
				return err
			}
			_, err := readAll(ctx, st, "b/stream", 0)
			if err == nil {
				_, err = st.Repair(ctx)
			}
			return err
		}},
		do("pack what is in the log", func(ctx context.Context, st *blockframe.Store) error { return st.PackInline(ctx) }),
		do("collect", func(ctx context.Context, st *blockframe.Store) error {
			_, err := st.Collect(ctx, blockframe.CollectOptions{})
			return err
		}),
		do("purge most of a pack", func(ctx context.Context, st *blockframe.Store) error {
			return st.Delete(ctx, "moved/two", blockframe.DeleteOptions{All: true})
		}),
		compactStep(),
		putStep("b/extents", 9, 2*mib+1), // the name is free again
		do("hold", func(ctx context.Context, st *blockframe.Store) error { return st.Hold(ctx, "b/extents", 0, true) }),
		putStep("a/inline", 1, 101),
	}
}

// compactStep moves something.
func compactStep() step {
	return do("compact", func(ctx context.Context, st *blockframe.Store) error {
		rep, err := st.Compact(ctx, blockframe.CompactOptions{})
		if err == nil && rep.Contents == 0 {
			err = fmt.Errorf("nothing was moved: %+v", rep)
		}
		return err
	})
}

// scriptNames are all names that a script gives to objects.
var scriptNames = []string{"a/inline", "a/empty", "a/group", "b/stream", "b/extents", "c/same", "batch/one", "batch/two", "batch/three",
	"batch/inline", "moved/one", "moved/two", "moved/three", "moved/inline"}

// readAll returns the content of a version, and checks it against its address.
func readAll(ctx context.Context, st *blockframe.Store, name string, version uint64) ([]byte, error) {
	rd, err := st.OpenVersion(ctx, name, version)
	if err != nil {
		return nil, err
	}
	defer rd.Close()
	var b bytes.Buffer
	if _, err := io.Copy(&b, rd); err != nil {
		return nil, err
	}
	if id := blake3.Sum256(b.Bytes()); rd.Object().ID != id {
		return nil, fmt.Errorf("%s version %d: read bytes with address %x, want %v", name, version, id, rd.Object().ID)
	}
	return b.Bytes(), nil
}

// dump returns all that can be seen of a store, as text; every version of every
// name was read whole and verified. I3.
func dump(ctx context.Context, st *blockframe.Store, names []string) (string, error) {
	var b strings.Builder
	for obj, err := range st.List(ctx, "", blockframe.ListOptions{}) {
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%s %v %d:%d %s\n", obj.Name, obj.Mode, obj.UID, obj.GID, obj.Target)
	}
	for _, name := range names {
		for obj, err := range st.Versions(ctx, name) {
			if errors.Is(err, fs.ErrNotExist) {
				break
			}
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&b, "%s version %d %v %d %v deleted=%v\n", name, obj.Version, obj.ID, obj.Size, obj.Mode, obj.Deleted)
			if obj.Deleted || !obj.Mode.IsRegular() {
				continue
			}
			if _, err := readAll(ctx, st, name, obj.Version); err != nil {
				return "", err
			}
		}
	}
	return b.String(), nil
}

// blobs returns the paths of all shard files, and fails if anything is left in
// tmp/.
func blobs(fsys durable.FS, dirs []string) (list []string, err error) {
	for _, d := range dirs {
		left, err := fsys.List(path.Join(d, "tmp"))
		if err != nil || len(left) > 0 {
			return nil, fmt.Errorf("%s/tmp holds %v: %w", d, left, err)
		}
		folders, err := fsys.List(path.Join(d, "data"))
		if err != nil {
			return nil, err
		}
		for _, folder := range folders {
			names, err := fsys.List(path.Join(d, "data", folder))
			if err != nil {
				return nil, err
			}
			for _, n := range names {
				list = append(list, path.Join(d, "data", folder, n))
			}
		}
	}
	return list, nil
}

// rotShards flips a bit in the first block of that shard of every extent, on the
// disk and not only in a cache.
func rotShards(fsys durable.FS, st *blockframe.Store, shard int) error {
	var dirs []string
	for _, d := range st.Disks(context.Background()) {
		dirs = append(dirs, d.Path)
	}
	list, err := blobs(fsys, dirs)
	if err != nil {
		return err
	}
	for _, name := range list {
		if fields := strings.Split(path.Base(name), "-"); fields[1] != fmt.Sprintf("%02x", shard) {
			continue
		}
		if err := flip(fsys, name, 5000, 1); err != nil {
			return err
		}
	}
	return nil
}

// flip inverts bits of one byte of a file, durably.
func flip(fsys durable.FS, name string, off int64, mask byte) error {
	f, err := fsys.OpenWrite(name)
	if err != nil {
		return err
	}
	b := make([]byte, 1)
	_, err = f.ReadAt(b, off)
	if err == nil {
		b[0] ^= mask
		_, err = f.WriteAt(b, off)
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// states runs a script on a store of its own and returns what is to be seen after
// each number of its steps, 0 to all of them.
func states(t testing.TB, opts blockframe.Options, fsys durable.FS, steps []step, names []string) []string {
	t.Helper()
	ctx := context.Background()
	st, err := blockframe.Open(ctx, blockframe.WithFS(opts, fsys))
	require.NoError(t, err)
	list := make([]string, len(steps)+1)
	for i, s := range steps {
		require.NoError(t, s.do(ctx, st, fsys), s.name)
		list[i+1], err = dump(ctx, st, names)
		require.NoError(t, err, s.name)
	}
	require.NoError(t, st.Close())
	return list
}
