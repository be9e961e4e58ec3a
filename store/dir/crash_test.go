package dir_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/durable/durabletest"
	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/dir"
	"github.com/blockframe/blockframe/store/storetest"
)

// The file operations of one put, of a put that loses, and of a removal.
func TestOperations(t *testing.T) {
	fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{Text: func(name string) string {
		return strings.ReplaceAll(name, string(storetest.Key(1)), "HH/KEY")
	}})
	b := open(t, fsys, "/d", dir.Options{})
	fsys.Reset()
	put(t, b, 1, storetest.Content(1, 300_000))
	require.Equal(t, `create /d/tmp/00000001 direct
write /d/tmp/00000001 0+262144
write /d/tmp/00000001 262144+37856
sync /d/tmp/00000001
renamenew /d/tmp/00000001 -> /d/data/HH/KEY
syncdir /d/data/`+string(storetest.Key(1)[:2])+"\n", fsys.Log())

	fsys.Reset()
	require.ErrorIs(t, storetest.Put(t.Context(), b, storetest.Key(1), frame.Aligned(10)), fs.ErrExist)
	require.Equal(t, `create /d/tmp/00000002 direct
write /d/tmp/00000002 0+10
sync /d/tmp/00000002
renamenew /d/tmp/00000002 -> /d/data/HH/KEY
remove /d/tmp/00000002
`, fsys.Log())

	fsys.Reset()
	require.NoError(t, b.Remove(t.Context(), storetest.Key(1)))
	require.Equal(t, "remove /d/data/HH/KEY\nsyncdir /d/data/"+string(storetest.Key(1)[:2])+"\n", fsys.Log())
}

// history is what a test did to a backend, as far as it was told of success.
type history struct {
	content map[int][]byte // of each blob that was ever put
	acked   map[int]bool   // put, and not removed since
	maybe   map[int]bool   // being put or removed right now
}

// check asserts that a backend holds all that was acked, and of the rest each
// whole or not at all.
func (h *history) check(t testing.TB, b *dir.Backend) {
	t.Helper()
	seen := map[store.BackendKey]bool{}
	for _, k := range keys(t, b) {
		seen[k] = true
	}
	for n, content := range h.content {
		got, err := storetest.Get(t.Context(), b, storetest.Key(n), store.OpenOptions{})
		if err == nil {
			require.True(t, bytes.Equal(content, got), "blob %d is not what was put", n)
			require.True(t, h.acked[n] || h.maybe[n], "blob %d is back", n)
		} else {
			require.ErrorIs(t, err, fs.ErrNotExist)
			require.False(t, h.acked[n] && !h.maybe[n], "blob %d is lost", n)
		}
		require.Equal(t, err == nil, seen[storetest.Key(n)])
		delete(seen, storetest.Key(n))
	}
	require.Empty(t, seen, "blobs that nobody put")
}

// A power cut after any operation of puts and removals, with everything that
// was not synced gone or random parts of it left: each blob is absent or
// complete, and what was acked is there. I4, I5.
func TestCrashAtEveryOperation(t *testing.T) { // R6
	m := vfs.NewCrashableMem()
	h := &history{content: map[int][]byte{}, acked: map[int]bool{}, maybe: map[int]bool{}}
	images, seeds := 0, 3
	if testing.Short() {
		seeds = 0
	}
	fsys := durabletest.New(durable.Mem(m), durabletest.Options{})
	b := open(t, fsys, "/d", dir.Options{})
	visit := durabletest.Crashes(m, seeds, func(img durabletest.Image) {
		images++
		defer explain(t, img)
		after := durable.Mem(img.FS)
		b, err := dir.Open(after, "/d", dir.Options{})
		require.NoError(t, err)
		noTemps(t, after, "/d")
		h.check(t, b)
		for n, content := range h.content { // and it goes on working
			err := storetest.Put(t.Context(), b, storetest.Key(n), content)
			require.True(t, err == nil || errors.Is(err, fs.ErrExist))
		}
		require.NoError(t, b.Close())
	})
	require.NoError(t, b.Close())
	hooked := durabletest.New(fsys, durabletest.Options{After: visit})
	b = reopen(t, hooked, "/d", dir.Options{})

	for n, size := range []int{0, 1, 4095, 4096, 4097, 20_000, 300_001} {
		h.content[n], h.maybe[n] = storetest.Content(n, size), true
		put(t, b, n, h.content[n])
		h.acked[n], h.maybe[n] = true, false
		if n%3 == 2 {
			h.maybe[n-1] = true
			require.NoError(t, b.Remove(t.Context(), storetest.Key(n-1)))
			h.acked[n-1], h.maybe[n-1] = false, false
		}
	}
	h.check(t, b)
	require.Greater(t, images, 45*(1+seeds))
}

func explain(t *testing.T, img durabletest.Image) {
	if t.Failed() {
		t.Logf("power cut at change %d, %s, seed %d", img.Op.N, img.Op, img.Seed)
	}
}

// A power cut at any operation of Init, or of an Open that has something to
// clean up, leaves a directory that Init or Open finishes. I5.
func TestCrashOfInitAndOpen(t *testing.T) { // R6
	m := vfs.NewCrashableMem()
	visit := durabletest.Crashes(m, 1, func(img durabletest.Image) {
		if img.Op.Kind == durabletest.Mkdir && !strings.HasSuffix(img.Op.Name, "0") {
			return // sixteen of the folders are enough
		}
		defer explain(t, img)
		after := durable.Mem(img.FS)
		b, err := dir.Open(after, "/d", dir.Options{})
		if errors.Is(err, fs.ErrNotExist) {
			require.NoError(t, dir.Init(after, "/d", dir.InitOptions{Store: storeID, ID: diskID}))
			b, err = dir.Open(after, "/d", dir.Options{})
		}
		require.NoError(t, err)
		require.Equal(t, diskID, b.ID())
		noTemps(t, after, "/d")
		require.NoError(t, b.Close())
	})
	fsys := durabletest.New(durable.Mem(m), durabletest.Options{After: visit})
	require.NoError(t, dir.Init(fsys, "/d", dir.InitOptions{Store: storeID, ID: diskID}))
	_, err := dir.ReadIdentity(durable.Mem(m.CrashClone(vfs.CrashCloneCfg{})), "/d")
	require.NoError(t, err, "Init returned before it was durable")

	require.NoError(t, durable.WriteFile(durable.Mem(m), "/d/tmp/left", []byte("half")))
	require.NoError(t, durable.Mem(m).RemoveAll("/d/data/10"))
	require.NoError(t, durable.WriteFile(durable.Mem(m), "/d/id", dir.Identity{Store: storeID, Disk: diskID}.Encode()[:4096]))
	reopen(t, fsys, "/d", dir.Options{})
}

// Every operation of a put fails once, before or after it happened. The put
// says so; the blob is absent or whole; everything else is readable; and the
// backend goes on, unless a sync failed: then it refuses changes until it is
// opened anew.
func TestFaultAtEveryOperation(t *testing.T) { // R6
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		for _, arm := range []durabletest.Arm{durabletest.Before, durabletest.After} {
			for n := 1; n <= 6; n++ {
				t.Run(fmt.Sprintf("%v %s change %d", cause, arm, n), func(t *testing.T) { faultAt(t, cause, arm, n) })
			}
		}
	}
}

func faultAt(t *testing.T, cause error, arm durabletest.Arm, n int) {
	m := vfs.NewCrashableMem()
	fsys := durabletest.New(durable.Mem(m), durabletest.Options{})
	b := open(t, fsys, "/d", dir.Options{})
	h := &history{content: map[int][]byte{0: storetest.Content(0, 9000)}, acked: map[int]bool{0: true}, maybe: map[int]bool{}}
	put(t, b, 0, h.content[0])
	fsys.Reset()
	fsys.SetFault(durabletest.Nth(n, arm, cause))
	h.content[1], h.maybe[1] = storetest.Content(1, 300_000), true
	err := storetest.Put(t.Context(), b, storetest.Key(1), h.content[1])
	require.ErrorIs(t, err, cause)
	require.Equal(t, cause == syscall.ENOSPC, errors.Is(err, store.ErrNoSpace))
	fsys.SetFault(nil)
	h.check(t, b)

	kind := fsys.Ops()[n-1].Kind
	refused := kind == durabletest.SyncDir || kind == durabletest.Sync && cause == syscall.EIO
	if refused {
		_, err := b.Create(t.Context(), storetest.Key(2))
		require.ErrorIs(t, err, store.ErrUnavailable)
		require.ErrorIs(t, err, cause, "the reason")
		require.ErrorContains(t, err, "/d")
		require.ErrorIs(t, b.Remove(t.Context(), storetest.Key(0)), store.ErrUnavailable)
		require.ErrorIs(t, b.Err(), store.ErrUnavailable)
		h.check(t, b)
	}
	if refused || kind == durabletest.Create && arm == durabletest.After { // a file that we do not know of
		require.NoError(t, b.Close())
		b = reopen(t, fsys, "/d", dir.Options{})
	}
	noTemps(t, fsys, "/d")
	h.check(t, b)
	err = storetest.Put(t.Context(), b, storetest.Key(1), h.content[1])
	require.True(t, err == nil || errors.Is(err, fs.ErrExist), err)
	h.acked[1] = true
	h.content[2], h.acked[2] = storetest.Content(2, 5), true
	put(t, b, 2, h.content[2])
	h.check(t, b)
	require.NoError(t, b.Close())

	b = reopen(t, durable.Mem(m.CrashClone(vfs.CrashCloneCfg{})), "/d", dir.Options{})
	h.maybe[1] = errors.Is(err, fs.ErrExist) // was not acked here
	h.check(t, b)
}

// Changes that fail while a blob is removed.
func TestFaultsOfRemove(t *testing.T) {
	for n := 1; n <= 2; n++ {
		for _, arm := range []durabletest.Arm{durabletest.Before, durabletest.After} {
			fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
			b := open(t, fsys, "/d", dir.Options{})
			put(t, b, 1, storetest.Content(1, 10))
			fsys.Reset()
			fsys.SetFault(durabletest.Nth(n, arm, syscall.EIO))
			require.ErrorIs(t, b.Remove(t.Context(), storetest.Key(1)), syscall.EIO)
			require.Equal(t, n == 2, b.Err() != nil)
			require.NoError(t, b.Close())
			b = reopen(t, fsys, "/d", dir.Options{})
			require.NoError(t, b.Remove(t.Context(), storetest.Key(1)))
			lacks(t, b, 1)
		}
	}
}

// An error of a read is the reader's, and of a folder is the lister's, who may
// go on behind it.
func TestFaultsOfReads(t *testing.T) { // R7
	fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
	b := open(t, fsys, "/d", dir.Options{})
	for n := range 20 {
		put(t, b, n, storetest.Content(n, 5000))
	}
	require.Len(t, keys(t, b), 20)
	bad := string(storetest.Key(3)[:2])
	fsys.SetFault(func(op durabletest.Op) *durabletest.Fault {
		if (op.Kind == durabletest.Read || op.Kind == durabletest.List) && strings.Contains(op.Name, "/data/"+bad) {
			return &durabletest.Fault{Arm: durabletest.Before, Err: syscall.EIO}
		}
		return nil
	})
	_, err := storetest.Get(t.Context(), b, storetest.Key(3), store.OpenOptions{})
	require.ErrorIs(t, err, syscall.EIO)
	var listed, failed int
	for k, err := range b.List(t.Context(), "", "") {
		if err != nil {
			require.ErrorContains(t, err, "data/"+bad)
			failed++
			continue
		}
		require.NotEqual(t, bad, string(k[:2]))
		listed++
	}
	require.Equal(t, 1, failed)
	require.Greater(t, listed, 10)
	for n := range 20 {
		if string(storetest.Key(n)[:2]) != bad {
			holds(t, b, n, storetest.Content(n, 5000))
		}
	}
	put(t, b, 99, nil)
}

// A directory that can only be read is read.
func TestReadOnly(t *testing.T) {
	for _, cause := range []error{syscall.EROFS, syscall.EACCES} {
		fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
		b := open(t, fsys, "/d", dir.Options{})
		put(t, b, 1, storetest.Content(1, 100))
		require.NoError(t, b.Close())
		fsys.SetFault(func(op durabletest.Op) *durabletest.Fault {
			if op.Kind.Changes() {
				return &durabletest.Fault{Arm: durabletest.Before, Err: cause}
			}
			return nil
		})
		b = reopen(t, fsys, "/d", dir.Options{})
		holds(t, b, 1, storetest.Content(1, 100))
		require.Len(t, keys(t, b), 1)
		require.ErrorIs(t, b.Err(), store.ErrUnavailable)
		require.ErrorIs(t, storetest.Put(t.Context(), b, storetest.Key(2), nil), store.ErrUnavailable)
		require.ErrorIs(t, b.Remove(t.Context(), storetest.Key(1)), store.ErrUnavailable)
	}
}

// Commits that wait for the same folder share its syncs: one is under way, and
// all others are in the next.
func TestDirectorySyncsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hold chan struct{}
		fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{Before: func(op durabletest.Op) {
			if op.Kind == durabletest.SyncDir && hold != nil {
				<-hold
			}
		}})
		b := open(t, fsys, "/d", dir.Options{})
		fsys.Reset()
		hold = make(chan struct{})
		const blobs = 40
		done := make(chan error, blobs)
		all := map[string]bool{}
		for i := range blobs {
			go func() {
				key := store.Key(store.ExtentID{byte(i % 5)}, i, 0, 0, store.UploadID{})
				done <- storetest.Put(t.Context(), b, key, storetest.Content(i, 10))
			}()
			all[string(store.Key(store.ExtentID{byte(i % 5)}, 0, 0, 0, store.UploadID{})[:2])] = true
		}
		synctest.Wait() // one sync of each folder is held, the rest wait for it
		close(hold)
		for range blobs {
			require.NoError(t, <-done)
		}
		require.Len(t, all, 5)
		require.Equal(t, 2*len(all), strings.Count(fsys.Log(), "syncdir"))
		require.Len(t, keys(t, b), blobs)
	})
}
