package blockframe_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/durable/durabletest"
	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/mem"
)

// A log that was trimmed and a view that is gone: the store comes back whole from the
// newest snapshot and what is left of the log, again and again. R5
func TestViewRestoredFromSnapshot(t *testing.T) {
	for _, dirs := range []int{1, 2, 4, 6} {
		t.Run(fmt.Sprintf("%d disks", dirs), func(t *testing.T) {
			r := newKeepRig(t, dirs)
			for range 3 {
				r.work(120)
				r.trimmed()
				r.check()
				r.close()
				r.dropViews()
				r.open()
				require.NoError(t, r.st.ReadOnly())
				r.check()
			}
			snaps, segs := r.kept()
			require.Equal(t, 3, snaps)
			require.LessOrEqual(t, segs, 12)
			rep, err := r.st.Scrub(context.Background(), blockframe.ScrubOptions{Deep: true})
			require.NoError(t, err)
			require.True(t, rep.Clean(), "%+v", rep)
			_, err = r.st.Collect(context.Background(), blockframe.CollectOptions{})
			require.NoError(t, err)
			after, _ := r.kept()
			require.Equal(t, 3, after)
			r.close()
			r.dropViews()
			r.open()
			r.check()
		})
	}
}

// Snapshots lie on backends that were given, too.
func TestViewRestoredFromBackends(t *testing.T) {
	r := &keepRig{t: t, fs: durable.Mem(vfs.NewCrashableMem()), rng: rand.New(rand.NewPCG(5, 5)), want: map[string][]byte{}}
	for range 4 {
		r.opts.Backends = append(r.opts.Backends, mem.New(mem.Options{}))
	}
	r.opts.LogDirs, r.opts.Grace = []string{"/l0", "/l1"}, -1
	r.opts = blockframe.WithSnapshots(blockframe.WithSegment(r.opts, 64<<10), 2)
	r.open()
	r.work(200)
	r.trimmed()
	r.close()
	for _, dir := range r.opts.LogDirs {
		require.NoError(t, r.fs.RemoveAll(path.Join(dir, "view")))
	}
	r.opts.Backends[2].(*mem.Backend).SetOffline(true)
	r.open()
	r.check()
	snaps, _ := r.kept()
	require.Equal(t, 3, snaps)
}

// A view is restored from a snapshot of which m shards are damaged or gone; from the one
// before where it is lost; and where all are, the store says so and changes nothing. R5
func TestSnapshotsDamaged(t *testing.T) {
	r := newKeepRig(t, 4)
	r.work(200)
	snaps := r.keptBlobs(store.KindSnapshot)
	order := newestFirst(snaps)
	require.Len(t, order, 3)
	r.close()
	saved := map[string][]byte{}
	for _, list := range snaps {
		for _, name := range list {
			b, err := durable.ReadFile(r.fs, name, 1<<30)
			require.NoError(t, err)
			saved[name] = b
		}
	}
	remove := func(record uint64, shards ...string) {
		for _, name := range snaps[record] {
			if len(shards) == 0 || slices.Contains(shards, strings.Split(path.Base(name), "-")[1]) {
				require.NoError(t, r.fs.Remove(name))
			}
		}
	}
	restored := func(what string) {
		r.dropViews()
		r.open()
		r.check()
		r.close()
		for name, b := range saved {
			if _, err := r.fs.Stat(name); err != nil {
				require.NoError(t, durable.WriteFile(r.fs, name, b), what)
			}
		}
	}
	for _, pair := range [][]string{{"00", "01"}, {"00", "03"}, {"02", "03"}, {"01", "02"}} {
		remove(order[0], pair...)
		restored("without shards " + pair[0] + " and " + pair[1])
	}
	for _, name := range snaps[order[0]] { // a header, a trailer, and blocks of two columns
		switch strings.Split(path.Base(name), "-")[1] {
		case "00":
			require.NoError(t, flip(r.fs, name, 5000, 1))
		case "01":
			require.NoError(t, flip(r.fs, name, 100, 1))
		case "02":
			require.NoError(t, flip(r.fs, name, int64(len(saved[name])-100), 1))
		case "03":
			require.NoError(t, flip(r.fs, name, 5000, 1))
		}
	}
	restored("damaged")
	remove(order[0])
	restored("without the newest")
	remove(order[0])
	remove(order[1], "00", "01", "02")
	restored("with the oldest alone")

	for _, record := range order {
		remove(record)
	}
	r.dropViews()
	_, err := blockframe.Open(t.Context(), blockframe.WithFS(r.opts, r.fs))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "the log begins at record")
	restore := saved
	for name, b := range restore {
		require.NoError(t, durable.WriteFile(r.fs, name, b))
	}
	restored("whole again")
}

// The view gone, the log trimmed, and any m disks missing: every byte is right. R5, R15
func TestViewRestoredWithoutDisks(t *testing.T) {
	r := newKeepRig(t, 4)
	r.work(200)
	r.trimmed()
	r.close()
	for a := range 4 {
		for b := range a {
			r.dropViews()
			for _, i := range []int{a, b} {
				require.NoError(t, r.fs.Rename(r.opts.Dirs[i], r.opts.Dirs[i]+"-away"))
			}
			r.open()
			r.check()
			r.close()
			for _, i := range []int{a, b} {
				require.NoError(t, r.fs.RemoveAll(r.opts.Dirs[i]))
				require.NoError(t, r.fs.Rename(r.opts.Dirs[i]+"-away", r.opts.Dirs[i]))
			}
		}
	}
	r.open()
	require.NoError(t, r.st.ReadOnly())
	r.check()
}

// A segment of which all copies of the log are damaged is read from where it is kept. R2
func TestSegmentsRestored(t *testing.T) {
	r := newKeepRig(t, 2)
	r.work(200)
	require.NoError(t, r.st.KeepPass(t.Context()))
	snaps, segs := newestFirst(r.keptBlobs(store.KindSnapshot)), r.keptBlobs(store.KindSegment)
	log := r.st.Log()
	r.close()
	for _, seg := range log {
		if seg.Last > snaps[0] || !seg.Sealed {
			break
		}
		require.Contains(t, segs, seg.Last)
		for _, dir := range r.opts.Dirs {
			require.NoError(t, flip(r.fs, path.Join(dir, "log", seg.Name), 8192+50, 1))
		}
	}
	all, err := blobs(r.fs, r.opts.Dirs)
	require.NoError(t, err)
	newest := 0
	for _, name := range all { // so that the damaged segments are needed
		if strings.Contains(name, "-62666b04") {
			newest++
		}
	}
	require.NotZero(t, newest)
	r.st = nil
	r.dropViews()
	r.open()
	blobsOf := r.keptBlobs(store.KindSnapshot)
	r.close()
	for _, record := range newestFirst(blobsOf)[:2] {
		for _, name := range blobsOf[record] {
			require.NoError(t, r.fs.Remove(name))
		}
	}
	r.dropViews()
	r.open()
	r.check()
}

// Over a long history neither the log nor what is kept of it grows.
func TestLogStaysBounded(t *testing.T) {
	r := newKeepRig(t, 2)
	steps := 1500
	if testing.Short() {
		steps = 400
	}
	r.work(300)
	first := r.log
	r.log = 0
	r.work(steps)
	require.LessOrEqual(t, r.log, 2*first)
	require.LessOrEqual(t, r.log, int64(16*64<<10))
	snaps, segs := r.keptBlobs(store.KindSnapshot), r.keptBlobs(store.KindSegment)
	require.Len(t, snaps, 3)
	require.LessOrEqual(t, len(segs), 12)
	log := r.st.Log()
	require.Contains(t, snaps, log[len(log)-1].Snapshot.Index, "the log names a snapshot that is kept")
	kept := 0
	all, err := blobs(r.fs, r.opts.Dirs)
	require.NoError(t, err)
	for _, name := range all {
		if strings.Contains(name, "-62666b0") {
			kept++
		}
	}
	require.Equal(t, 2*(len(snaps)+len(segs)), kept, "blobs of what was dropped are left")
	r.check()
}

// The keeper passes by itself, beside puts that go on, and does nothing in a store that is
// idle. What was acknowledged beside it is there when the view is lost.
func TestKeeperBesidePuts(t *testing.T) {
	r := newKeepRig(t, 3)
	r.close()
	r.opts = blockframe.WithKeepPause(r.opts, time.Millisecond)
	r.open()
	var wg sync.WaitGroup
	rounds := 250
	if testing.Short() {
		rounds = 120
	}
	for w := range 3 {
		wg.Go(func() {
			for i := range rounds {
				_, err := r.st.Put(t.Context(), fmt.Sprintf("w%d/n%d", w, i), bytes.NewReader(content(byte(w+i), 100+17*i)), blockframe.PutOptions{})
				require.NoError(t, err)
			}
		})
	}
	wg.Wait()
	late := time.After(30 * time.Second)
	for r.st.Log()[0].First == 1 {
		select {
		case <-late:
			t.Fatalf("the log is not trimmed: %+v", r.st.Log())
		default:
			_, err := r.st.Put(t.Context(), "more", bytes.NewReader(content(byte(rand.IntN(256)), 3000)), blockframe.PutOptions{})
			require.NoError(t, err)
		}
	}
	r.close()
	r.dropViews()
	r.opts = blockframe.WithSnapshots(blockframe.WithSegment(r.opts, 1<<20), 2) // as large as the records of a pass need
	r.open()
	for w := range 3 {
		for i := range rounds {
			got, err := readAll(t.Context(), r.st, fmt.Sprintf("w%d/n%d", w, i), 0)
			require.NoError(t, err)
			require.True(t, bytes.Equal(content(byte(w+i), 100+17*i), got))
		}
	}
	for range 3 {
		require.NoError(t, r.st.KeepPass(t.Context()))
	}
	before := r.st.Log()
	for range 20 {
		require.NoError(t, r.st.KeepPass(t.Context()))
	}
	require.Equal(t, before, r.st.Log(), "an idle store wrote to its log")
}

// A program that opens a store for moments only leaves the snapshot to Close, when it is
// overdue.
func TestKeeperAtClose(t *testing.T) {
	r := newKeepRig(t, 2)
	for i := range 300 {
		name := fmt.Sprintf("d0/n%d", i%20)
		r.want[name] = content(byte(i), 3000)
		_, err := r.st.Put(t.Context(), name, bytes.NewReader(r.want[name]), blockframe.PutOptions{})
		require.NoError(t, err)
		if i%10 == 9 {
			r.close()
			r.open()
		}
	}
	r.trimmed()
	r.check()
}

// A full disk stops the keeper, and neither puts nor the store.
func TestKeeperFullDisk(t *testing.T) {
	r := newKeepRig(t, 2)
	m := r.fs
	r.close()
	full := durabletest.New(m, durabletest.Options{})
	r.fs = full
	r.open()
	for i := range 120 {
		name := fmt.Sprintf("d1/n%d", i%20)
		r.want[name] = content(byte(i), 3000)
		_, err := r.st.Put(t.Context(), name, bytes.NewReader(r.want[name]), blockframe.PutOptions{})
		require.NoError(t, err)
		if i%30 == 29 {
			full.SetFault(durabletest.All(durabletest.Write, "/tmp/", durabletest.Before, syscall.ENOSPC))
			require.ErrorIs(t, r.st.KeepPass(t.Context()), blockframe.ErrNoSpace)
			full.SetFault(nil)
			r.check()
		}
	}
	for i := range 9 {
		require.NoError(t, r.st.KeepPass(t.Context()), i)
		r.work(40)
	}
	r.trimmed()
	r.check()
}
