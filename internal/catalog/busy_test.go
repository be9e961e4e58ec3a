package catalog_test

import (
	"context"
	"fmt"
	"runtime"
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
	"github.com/blockframe/blockframe/store"
)

// TestReadWhileRecordsCome reads a content whose bytes are in memory alone while a
// record is applied in the middle of each try, until none can be.
func TestReadWhileRecordsCome(t *testing.T) {
	r := memRig(t)
	r.ok(inline("a", "content", 1))
	view, n := r.cat.View(), 0
	c, err := r.cat.ContentWhile(ctx, idOf("content"), func() {
		if n++; n <= 3 { // the next would wait for this read
			r.ok(inline(fmt.Sprint(n), fmt.Sprint(n), n+1))
		}
	})
	require.NoError(t, err)
	require.Equal(t, 4, n)
	require.Equal(t, store.Content{ID: idOf("content"), Size: 7, Refs: 1, Inline: []byte("content")}, c)
	require.True(t, view == r.cat.View(), "nothing is wrong with the view")
	r.ok(inline("b", "next", 9)) // goes on
}

// TestReadWhileContentMoves moves a content in the middle of a read, which sees it
// where it went.
func TestReadWhileContentMoves(t *testing.T) {
	r := memRig(t)
	r.ok(store.OpenEpoch{})
	r.ok(inline("a", "content", 1))
	view, n := r.cat.View(), 0
	c, err := r.cat.ContentWhile(ctx, idOf("content"), func() {
		if n++; n == 1 {
			r.ok(store.Pack{Extent: packOf(5), Members: []store.Member{{ID: idOf("content"), Size: 7}}})
		}
	})
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, uid(5), c.Upload)
	require.Nil(t, c.Inline)
	require.True(t, view == r.cat.View(), "nothing is wrong with the view")
}

// breaker is a row set without rows that breaks something in the middle of a record.
type breaker struct{ now func() }

func (b *breaker) Name() string { return "breaker" }

func (b *breaker) Apply(catalog.RowTx, catalog.Info, []store.Result) error {
	if b.now != nil {
		b.now()
	}
	return nil
}

// TestSettleAfterFailure fails the view while a record is applied, and has rows written
// to it twice more: those that came to nothing are read still.
func TestSettleAfterFailure(t *testing.T) {
	fsys := durabletest.New(durable.Mem(vfs.NewCrashableMem()), durabletest.Options{})
	b := &breaker{}
	r := newRig(t, fsys, func(o *catalog.Options) { o.Rows = append(o.Rows, b) })
	r.ok(inline("a", "old", 1))
	require.NoError(t, r.cat.Settle()) // quick to find from here on
	r.ok(inline("a", "new", 2))
	old := r.cat.View()
	b.now = func() {
		fsys.SetFault(durabletest.All(durabletest.Sync, "view", durabletest.Before, syscall.EIO))
		require.Error(t, old.Flush())
		fsys.SetFault(nil)
		require.Error(t, r.cat.Settle())
	}
	r.ok(inline("b", "more", 3))
	require.Error(t, r.cat.Settle())
	require.True(t, old == r.cat.View(), "nobody saw that it failed")
	require.Equal(t, idOf("new"), r.object("a", 0).ID)
	require.Equal(t, idOf("more"), r.object("b", 0).ID)
}

// stalledRig is a rig whose Pebble writes nothing until release is called, and a fault of
// its files can be set.
func stalledRig(t *testing.T, change ...func(*catalog.Options)) (r *rig, fsys *durabletest.FS, release func()) {
	var stalled atomic.Bool
	released := make(chan struct{})
	release = sync.OnceFunc(func() { close(released) })
	fsys = durabletest.New(durable.Mem(vfs.NewCrashableMem()), durabletest.Options{Before: func(op durabletest.Op) {
		if stalled.Load() && op.Kind == durabletest.Write && strings.HasPrefix(op.Name, "view") {
			<-released
		}
	}})
	r = newRig(t, fsys, change...)
	t.Cleanup(release) // before the catalog is closed
	stalled.Store(true)
	return r, fsys, release
}

// stall commits until Pebble takes no more rows, and returns the number of names. The
// last of them are on their way to it.
func (r *rig) stall() (names int) {
	r.t.Helper()
	for ; r.settles(); names++ {
		require.Less(r.t, names, 100, "Pebble takes all")
		r.ok(inline(fmt.Sprint(names), fmt.Sprint(names), names+1))
		r.ok(store.SetState{Key: fmt.Sprint(names), Value: make([]byte, 64<<10)})
	}
	return names
}

// TestReadsGiveUpSettling ends lists while Pebble takes no rows: one goroutine at most
// goes on waiting for that, however many gave up.
func TestReadsGiveUpSettling(t *testing.T) {
	r, _, release := stalledRig(t)
	names := r.stall()
	r.ok(store.SetState{Key: "one more", Value: []byte{1}})
	for range 20 {
		short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
		for _, err := range r.cat.List(short, ".", "") {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		cancel()
	}
	buf := make([]byte, 1<<20)
	require.LessOrEqual(t, strings.Count(string(buf[:runtime.Stack(buf, true)]), "trySettle"), 2, "a frame, and who began it")
	release()
	require.NoError(t, r.cat.Settle())
	require.Len(t, collect(r, r.cat.List(ctx, ".", "")), names)
}

// TestListOnFullDisk lists names whose rows are on their way to Pebble, which has no
// room for them, and those that came after them.
func TestListOnFullDisk(t *testing.T) {
	r, fsys, release := stalledRig(t)
	names := r.stall()
	r.ok(inline("last", "last", 1000))
	fsys.SetFault(fullView)
	release()
	require.Eventually(t, r.cat.View().Full, 1e10, 1e6)
	require.Len(t, collect(r, r.cat.List(ctx, ".", "")), names+1)
	require.Equal(t, "last", string(r.content("last").Inline))
	fsys.SetFault(nil)
	require.NoError(t, r.cat.Settle())
	require.Len(t, collect(r, r.cat.List(ctx, ".", "")), names+1)
}

// TestRowsInMemory writes rows to Pebble unasked when there are enough, and holds back
// who brings more while it takes none.
func TestRowsInMemory(t *testing.T) {
	const front = 64 << 10
	r, _, release := stalledRig(t, func(o *catalog.Options) { o.Front = front })
	n, done := 0, make(chan error, 1)
	commit := func() bool {
		n++
		c := store.SetState{Key: fmt.Sprint(n), Value: make([]byte, 8<<10)}
		go func() {
			_, err := r.cat.Commit(ctx, store.Record{Commands: []store.Command{c}})
			done <- err
		}()
		select {
		case err := <-done:
			require.NoError(t, err)
			return true
		case <-time.After(500 * time.Millisecond):
			return false
		}
	}
	for commit() {
		require.Less(t, n, 400, "memory for all of them")
	}
	// Pebble has two tables of 256 KiB at most, and there are four fronts.
	require.Greater(t, n, 4*front/(8<<10))
	release()
	require.NoError(t, <-done)
	for row, err := range r.cat.View().Scan([]byte("s1"), []byte("s2")) {
		require.NoError(t, err)
		require.Equal(t, "s1", string(row.Key))
		break
	}
}

// settles reports whether Pebble takes rows without much ado.
func (r *rig) settles() bool {
	r.t.Helper()
	done := make(chan error, 1)
	go func() { done <- r.cat.Settle() }()
	select {
	case err := <-done:
		require.NoError(r.t, err)
		return true
	case <-time.After(200 * time.Millisecond):
		return false
	}
}
