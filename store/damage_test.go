package store_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/store"
)

// news is what a store told of damage.
type news struct {
	mu      sync.Mutex
	damaged []store.Damage
	lost    []*store.CorruptError
	log     bytes.Buffer
}

func (n *news) listen(o *store.Options) {
	o.Events.Damaged = func(d store.Damage) { n.mu.Lock(); defer n.mu.Unlock(); n.damaged = append(n.damaged, d) }
	o.Events.Lost = func(e *store.CorruptError) { n.mu.Lock(); defer n.mu.Unlock(); n.lost = append(n.lost, e) }
	o.Logger = slog.New(slog.NewTextHandler(&n.log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	o.Paths = map[store.BackendID]string{{1}: "/disk1", {2}: "/disk2", {3}: "/disk3", {4}: "/disk4"}
}

// Damage names an object and the backend as people call it, and is logged once for each
// shard, however many of its blocks are bad and however often they are read.
func TestDamageIsNamed(t *testing.T) {
	var n news
	change := func(o *store.Options) { uncached(2, 2, miB)(o); n.listen(o) }
	r := newRig(t, 4, change)
	data := content(1, 900_000)
	o := r.put("dir/x", data)
	e := r.extents(o)[0]
	m, key := r.shard(&e, 0)
	for stripe := range 6 {
		m.Flip(key, page+int64(stripe)*blk+5, 1)
	}
	gone, goneKey := r.shard(&e, 1)
	gone.Delete(goneKey)
	r = r.reopened(change)
	for range 3 {
		r.reads(o, data)
	}
	_, err := r.Scrub(t.Context(), store.ScrubOptions{Deep: true})
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.NotEmpty(t, n.damaged)
	for _, d := range n.damaged {
		require.Equal(t, "dir/x", d.Name)
		require.Equal(t, map[int]string{0: r.pathOf(&e, 0), 1: r.pathOf(&e, 1)}[d.Shard], d.Path)
	}
	lines := strings.Split(strings.TrimSpace(n.log.String()), "\n")
	require.Len(t, lines, 2, "one for each shard:\n%s", n.log.String())
	for _, line := range lines {
		require.Contains(t, line, "name=dir/x")
		require.Contains(t, line, "path=/disk")
		require.NotContains(t, line, "stripe")
	}
}

func (r *rig) pathOf(e *store.Extent, shard int) string {
	return "/disk" + string('0'+e.Shards[shard].Backend[0])
}

// A range that is lost is told of once, by the name of the object, whoever finds it:
// scrubs, and repairs of every shard it would be needed for.
func TestLostIsToldOnce(t *testing.T) {
	var n news
	change := func(o *store.Options) { uncached(2, 2, miB)(o); n.listen(o) }
	r := newRig(t, 4, change)
	o := r.put("x", content(1, 900_000))
	e := r.extents(o)[0]
	for shard := range 3 {
		m, key := r.shard(&e, shard)
		m.Flip(key, page+2*blk+5, 1)
	}
	for range 2 {
		_, err := r.Scrub(t.Context(), store.ScrubOptions{Deep: true, Repair: true})
		require.NoError(t, err)
		_, err = r.Repair(t.Context())
		require.NoError(t, err)
	}
	require.Len(t, n.lost, 2, "two data blocks: %v", n.lost)
	for i, ce := range n.lost {
		require.Equal(t, "x", ce.Name)
		require.EqualValues(t, (4+i)*blk, ce.Offset)
		require.EqualValues(t, blk, ce.Length)
	}
	r = r.reopened(change) // repairs alone find it too
	n.lost = nil
	for range 2 {
		rep, err := r.Repair(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 3, rep.Left)
	}
	require.Len(t, n.lost, 2)
	require.Equal(t, "x", n.lost[0].Name)
}
