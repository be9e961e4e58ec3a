package blockframe_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/durable/durabletest"
)

// reshapeStep writes so many anew.
func reshapeStep(moved int64) step {
	return do("reshape", func(ctx context.Context, st *blockframe.Store) error {
		rep, err := st.Reshape(ctx, blockframe.ReshapeOptions{All: true})
		if err == nil && rep.Moved != moved {
			err = fmt.Errorf("want %d: %+v", moved, rep)
		}
		return err
	})
}

// reshapeScript puts objects of one and of several extents and a pack, and has them written
// anew when the policy changed: with more parity, and with less.
func reshapeScript() []step {
	code := func(k, m int) step {
		return do("policy", func(ctx context.Context, st *blockframe.Store) error {
			return st.SetPolicy(ctx, blockframe.Policy{Name: "small-extents", Extent: mib, Code: blockframe.Code{K: k, M: m}, Fragile: true, PerBackend: 4})
		})
	}
	return []step{
		putStep("a/stream", 1, 300_000),
		putStep("a/extents", 2, mib+70_000),
		putStep("a/same", 1, 300_000),
		do("batch", func(ctx context.Context, st *blockframe.Store) error {
			b := st.Batch(ctx)
			err := b.Put("b/one", bytes.NewReader(content(3, 70_000)), blockframe.PutOptions{Attr: attr})
			if err == nil {
				_, err = b.Commit()
			}
			return err
		}),
		code(2, 2),
		reshapeStep(3),
		code(1, 1),
		reshapeStep(2), // packs keep their parity
	}
}

var reshapeNames = []string{"a/stream", "a/extents", "a/same", "b/one"}

// R6, I1, I2, I3, I5, I6: the power is cut after every file operation of a reshaping: old or
// new, every byte right, and nothing is left but what a collection removes.
func TestCrashDuringReshape(t *testing.T) {
	opts := crashOptions(nil, 1)
	m := vfs.NewCrashableMem()
	c := newCrasher(t, opts, states(t, opts, durable.Mem(vfs.NewCrashableMem()), reshapeScript(), reshapeNames), reshapeNames)
	fsys := durabletest.New(durable.Mem(m), durabletest.Options{After: c.hook(m, every(1, 8))})
	st, err := blockframe.Open(context.Background(), blockframe.WithFS(opts, fsys))
	require.NoError(t, err)
	c.run(t, st, durable.Mem(m), reshapeScript())
	require.NoError(t, st.Close())
	c.wait()
	t.Logf("%d changes, %d images", fsys.Count(), c.count.Load())
}
