package catalog_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/catalog"
	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/store"
)

// TestInlineAfterCrash finds contents in the log that were in memory alone when the
// view was written out, and only those that still are inline.
func TestInlineAfterCrash(t *testing.T) {
	for _, limit := range []int{1, 2000, 1 << 20} { // all of them rows, some, none
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			mem := vfs.NewCrashableMem()
			small := func(o *catalog.Options) { o.Inline = limit }
			r := newRig(t, durable.Mem(mem), small)
			for i := range 20 {
				r.ok(inline(fmt.Sprint(i), fmt.Sprintf("content %02d", i), i+1))
			}
			r.ok(store.OpenEpoch{})
			x := extent(50, 50, 0, 0, 200, 1)
			x.Kind = store.KindPack
			r.ok(store.Pack{Extent: x, Members: []store.Member{{ID: idOf("content 03"), Size: 10}}})
			r.ok(catalog.Purge{Name: "4", All: true})
			require.NoError(t, r.cat.Flush())
			r.ok(catalog.Purge{Name: "5", All: true})
			r.ok(inline("5", "content 05", 60)) // the newest now
			check := func() {
				t.Helper()
				waiting := collect(r, r.cat.Inline(ctx))
				require.Len(t, waiting, 18)
				for i, n := 0, 0; i < 20; i++ {
					c := fmt.Sprintf("content %02d", i)
					switch i {
					case 3:
						require.Empty(t, r.content(c).Inline)
						continue
					case 4, 5:
						continue
					}
					require.Equal(t, c, string(r.content(c).Inline))
					require.Equal(t, c, string(waiting[n].Content.Inline))
					require.Equal(t, fmt.Sprint(i), waiting[n].Names[0].Name)
					n++
				}
				require.Equal(t, "content 05", string(waiting[17].Content.Inline))
			}
			check()
			last := r.j.Last()
			for seed := range uint64(3) {
				r.fs = durable.Mem(image(mem, seed))
				r.open(small)
				require.Equal(t, last, r.cat.Applied())
				check()
			}
			r.reopen(small)
			check()
		})
	}
}

// TestInlineWhileViewIsMadeAnew lists contents that are rows while the view is made
// anew, where there is memory for all of them: none is passed over in silence.
func TestInlineWhileViewIsMadeAnew(t *testing.T) {
	r := memRig(t, func(o *catalog.Options) { o.Inline = 5000 })
	long := strings.Repeat("x", 4000)
	r.ok(inline("a", "a", 1))
	r.ok(inline("b", "b", 2))
	r.ok(inline("c", "c"+long, 3))
	r.ok(inline("d", "d"+long, 4))
	require.NoError(t, r.cat.Settle()) // but for the last all become rows
	r.ok(catalog.Purge{Name: "c", All: true})
	r.ok(catalog.Purge{Name: "d", All: true})
	var names []string
	var last error
	for in, err := range r.cat.Inline(ctx) {
		if last = err; err != nil {
			break
		}
		names = append(names, in.Names[0].Name)
		require.NoError(t, r.cat.Renew())
	}
	if last == nil {
		require.Equal(t, []string{"a", "b"}, names)
	}
	require.Len(t, collect(r, r.cat.Inline(ctx)), 2)
}

// TestInlineMemory makes rows of many short contents, which take more memory than they
// have bytes.
func TestInlineMemory(t *testing.T) {
	r := memRig(t, func(o *catalog.Options) { o.Inline = 1 << 20 })
	const n = 20_000
	for i := 0; i < n; i += 1000 {
		rec := store.Record{Each: true}
		for j := range 1000 {
			rec.Commands = append(rec.Commands, inline(fmt.Sprint(i+j), fmt.Sprint(i+j), i+j+1))
		}
		_, err := r.cat.Commit(ctx, rec)
		require.NoError(t, err)
	}
	require.NoError(t, r.cat.Settle())
	require.Greater(t, r.inlineRows(), n/2)
	live, _ := r.cat.InlineMemory()
	require.LessOrEqual(t, live, 1<<20)
	// Long ones that come and go do not stay for the sake of many short ones.
	for i := range 1000 {
		name := fmt.Sprint("long", i)
		r.ok(inline(name, name+strings.Repeat("x", 4000), n+i+1))
		r.ok(catalog.Purge{Name: name, All: true})
	}
	live, gone := r.cat.InlineMemory()
	require.LessOrEqual(t, gone, live+1<<17)
}

// inlineRows counts the contents that are rows of Pebble.
func (r *rig) inlineRows() (n int) {
	r.t.Helper()
	for _, err := range r.cat.View().Scan([]byte{'I'}, []byte{'J'}) {
		require.NoError(r.t, err)
		n++
	}
	return n
}

// TestInlineGrowsOld makes rows of contents that stay inline for long, so that little
// of the log is read by who opens the view; and no others.
func TestInlineGrowsOld(t *testing.T) {
	mem := vfs.NewCrashableMem()
	r := newRig(t, durable.Mem(mem))
	r.ok(inline("a", "a", 1))
	require.NoError(t, r.cat.Flush())
	r.ok(inline("b", "b", 2))
	require.Zero(t, r.inlineRows(), "only what was there at the flush before")
	require.NoError(t, r.cat.Flush())
	require.Equal(t, 1, r.inlineRows())
	r.ok(inline("c", "c", 3))
	require.NoError(t, r.cat.Flush())
	require.Equal(t, 2, r.inlineRows())

	// Contents that never were rows leave no trace.
	before := r.inlineRows()
	r.ok(inline("d", "d", 4))
	require.Zero(t, r.cat.InlineChanges())
	r.ok(catalog.Purge{Name: "d", All: true})
	require.Zero(t, r.cat.InlineChanges())
	require.NoError(t, r.cat.Settle())
	require.Equal(t, before, r.inlineRows())

	// Those that did are removed, whether they come again or not.
	r.ok(catalog.Purge{Name: "a", All: true})
	require.Equal(t, 2, r.cat.InlineChanges())
	r.ok(inline("a", "a", 5))
	r.ok(catalog.Purge{Name: "b", All: true})
	check := func() {
		t.Helper()
		var names []string
		for _, in := range collect(r, r.cat.Inline(ctx)) {
			require.Equal(t, in.Names[0].Name, string(in.Content.Inline))
			names = append(names, in.Names[0].Name)
		}
		require.Equal(t, []string{"c", "a"}, names)
	}
	check()
	require.Equal(t, 1, r.inlineRows())

	// Who opens the view, and closes it, makes rows of what was there before.
	r.reopen()
	check()
	r.ok(store.OpenEpoch{})
	r.reopen()
	require.Equal(t, 2, r.inlineRows())
	check()
	r.fs = durable.Mem(image(mem, 1))
	r.open()
	check()
}

// TestInlineOtherBytes puts content where the log has other bytes for it, as who wrote
// them did not look: it takes their place.
func TestInlineOtherBytes(t *testing.T) {
	r := memRig(t)
	b := encode(t, true, inline("a", "good bytes", 1))
	b = []byte(strings.Replace(string(b), "good bytes", "evil bytes", 1))
	first, err := r.j.Append([][]byte{b})
	require.NoError(t, err)
	_, err = r.cat.Apply(first, [][]byte{b})
	require.NoError(t, err)
	require.Equal(t, "evil bytes", string(r.content("good bytes").Inline))
	r.ok(inline("b", "good bytes", 2))
	require.Equal(t, "good bytes", string(r.content("good bytes").Inline))
	require.Equal(t, r.object("a", 0).ID, r.object("b", 0).ID)
}
