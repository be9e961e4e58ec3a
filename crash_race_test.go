package blockframe_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/durable/durabletest"
)

// R8, R6: the same bytes are put eight times at once, under one name and under
// others, while the power goes at any of the file operations (one in five, unless heavy): each put that was
// acknowledged by then is there. The uploads that lost are garbage, and collected
// without harm to the one that all names share. I1, I6.
func TestSamePutsRacingAPowerCut(t *testing.T) {
	for _, size := range []int{500, 20_000, 300_000} {
		t.Run(fmt.Sprintf("%d bytes", size), func(t *testing.T) { racePowerCut(t, size) })
	}
}

// cut is a power cut, and the puts that were acknowledged before it.
type cut struct {
	fs    *vfs.MemFS
	what  string
	acked []string
}

func racePowerCut(t *testing.T, size int) {
	ctx := context.Background()
	data := content(1, size)
	rounds := 1
	if heavy {
		rounds = 20
	}
	for round := range rounds {
		m := vfs.NewCrashableMem()
		st, err := blockframe.Open(ctx, crashOptions(durable.Mem(m), 2))
		require.NoError(t, err)
		require.NoError(t, st.Close())

		var mu sync.Mutex // over acked, and the image that goes with it
		var acked []string
		var cuts []cut
		rng := rand.New(rand.NewPCG(uint64(size), uint64(round)))
		fsys := durabletest.New(durable.Mem(m), durabletest.Options{After: func(op durabletest.Op) {
			mu.Lock()
			defer mu.Unlock()
			if op.Kind == durabletest.Lock || op.N%5 != 0 && !heavy || testing.Short() && op.N%10 != 0 {
				return
			}
			cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: 50 * rng.IntN(2), RNG: rng}
			cuts = append(cuts, cut{m.CrashClone(cfg), op.String(), append([]string(nil), acked...)})
		}})
		st, err = blockframe.Open(ctx, crashOptions(fsys, 2))
		require.NoError(t, err)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				name := "one"
				if i%2 == 1 {
					name = fmt.Sprint("other", i)
				}
				if _, err := st.Put(ctx, name, bytes.NewReader(data), blockframe.PutOptions{Attr: attr}); err != nil {
					t.Errorf("put %s: %v", name, err)
				}
				mu.Lock()
				acked = append(acked, name)
				mu.Unlock()
			})
		}
		wg.Wait()
		_, err = st.Collect(ctx, blockframe.CollectOptions{Unclaimed: true})
		require.NoError(t, err)
		require.NoError(t, st.Close())
		each(t, len(cuts), func(i int) error { return cuts[i].check(data) })
	}
}

// check opens what the power cut left, and collects.
func (c *cut) check(data []byte) error {
	ctx := context.Background()
	fsys := durable.Mem(c.fs)
	opts := crashOptions(fsys, 2)
	st, err := blockframe.Open(ctx, opts)
	if err != nil {
		return fmt.Errorf("%s: %w", c.what, err)
	}
	defer st.Close()
	for range 2 { // before and after the collection
		for _, name := range c.acked {
			if b, err := readAll(ctx, st, name, 0); err != nil || !bytes.Equal(b, data) {
				return fmt.Errorf("power cut at %s: %s was acknowledged and has %d bytes: %w", c.what, name, len(b), err)
			}
		}
		if err := collected(ctx, st, fsys, opts.Dirs, false); err != nil {
			return fmt.Errorf("power cut at %s: %w", c.what, err)
		}
	}
	if stats := st.Stats(); stats.Contents > 1 {
		return fmt.Errorf("power cut at %s: the content is stored %d times", c.what, stats.Contents)
	}
	return nil
}
