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
	require.Equal(t, store.Content{ID: idOf("content"), Size: 7, Refs: 1, Inline: []byte("content")}, c)
	require.True(t, view == r.cat.View(), "nothing is wrong with the view")
	r.ok(inline("b", "next", 9)) // goes on
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

// TestReadsGiveUpSettling ends lists while Pebble takes no rows: one goroutine at most
// goes on waiting for that, however many gave up.
func TestReadsGiveUpSettling(t *testing.T) {
	var stuck atomic.Bool
	release := make(chan struct{})
	end := sync.OnceFunc(func() { close(release) })
	fsys := durabletest.New(durable.Mem(vfs.NewCrashableMem()), durabletest.Options{Before: func(op durabletest.Op) {
		if stuck.Load() && op.Kind == durabletest.Write && strings.HasPrefix(op.Name, "view") {
			<-release
		}
	}})
	r := newRig(t, fsys)
	t.Cleanup(end) // before the catalog is closed
	stuck.Store(true)
	for i := 0; r.settles(); i++ {
		require.Less(t, i, 100, "Pebble takes all")
		r.ok(store.SetState{Key: fmt.Sprint(i), Value: make([]byte, 64<<10)})
	}
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
	end()
	require.NoError(t, r.cat.Settle())
	require.Empty(t, collect(r, r.cat.List(ctx, ".", "")))
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
