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
	for _, limit := range []int{1, 100, 1 << 20} { // all of them rows, some, none
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
