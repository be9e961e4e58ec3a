package blockframe_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/internal/durable"
)

// killed returns what kill -9 leaves of m: all that was written, synced or not.
func killed(m *vfs.MemFS) *vfs.MemFS {
	return m.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
}

// shot is a killed store, and all that was acknowledged.
type shot struct {
	opts blockframe.Options
	fs   *vfs.MemFS
	want string
}

// shoot runs puts of all classes on a store with a log of several segments and a
// view that was written out twice, and kills it.
func shoot(t *testing.T) shot {
	t.Helper()
	ctx := context.Background()
	m := vfs.NewCrashableMem()
	s := shot{opts: crashOptions(nil, 1)}
	var st *blockframe.Store
	for n := range 60 {
		if n%25 == 0 {
			if st != nil {
				require.NoError(t, st.Close())
			}
			var err error
			st, err = blockframe.Open(ctx, blockframe.WithFS(s.opts, durable.Mem(m)))
			require.NoError(t, err)
		}
		size := []int{10, 4096, 700, 9000, 0}[n%5]
		require.NoError(t, putStep(fmt.Sprintf("n/%03d", n), byte(n), size).do(ctx, st, nil))
	}
	require.NoError(t, putStep("n/stream", 99, 300_000).do(ctx, st, nil))
	require.NoError(t, st.Delete(ctx, "n/010", blockframe.DeleteOptions{}))
	var err error
	s.want, err = dump(ctx, st, s.names())
	require.NoError(t, err)
	s.fs = killed(m)
	require.NoError(t, st.Close())
	return s
}

func (s *shot) names() (list []string) {
	for n := range 60 {
		list = append(list, fmt.Sprintf("n/%03d", n))
	}
	return append(list, "n/stream")
}

// reopened opens a copy of the store after harm was done to it, and returns what is
// to be seen.
func (s *shot) reopened(harm func(fsys durable.FS) error) (string, error) {
	ctx := context.Background()
	fsys := durable.Mem(killed(s.fs))
	if err := harm(fsys); err != nil {
		return "", err
	}
	st, err := blockframe.Open(ctx, blockframe.WithFS(s.opts, fsys))
	if err != nil {
		return "", err
	}
	defer st.Close()
	if err := st.ReadOnly(); err != nil {
		return "", err
	}
	return dump(ctx, st, s.names())
}

// frameAt is a frame of the log.
type frameAt struct {
	segment string // file name
	off     int64
	size    int64 // of its bytes, without padding
}

// frames returns the frames of a copy of the log, in order.
func frames(t testing.TB, fsys durable.FS, dir string) (list []frameAt) {
	t.Helper()
	names, err := fsys.List(dir)
	require.NoError(t, err)
	for _, name := range names {
		if !strings.HasSuffix(name, ".log") {
			continue
		}
		b, err := durable.ReadFile(fsys, path.Join(dir, name), 1<<26)
		require.NoError(t, err)
		for off := 8192; off+4096 <= len(b); {
			if !bytes.HasPrefix(b[off:], []byte("BFLOGFRM")) {
				off += 4096
				continue
			}
			size := 112 + int(binary.BigEndian.Uint32(b[off+40:])) + 32
			list = append(list, frameAt{name, int64(off), int64(size)})
			off += (size + 4095) / 4096 * 4096
		}
	}
	return list
}

// A single bit of either copy of the log flips: in each byte of a frame's head, of
// its records and its hash, of the segment headers, in padding and empty space, with
// the view there and without. Every acked put is there. I1.
func TestFlippedBitInTheLog(t *testing.T) {
	s := shoot(t)
	fsys := durable.Mem(s.fs)
	all := frames(t, fsys, "/d0/log/a")
	require.Greater(t, len(all), 60)
	require.NotEqual(t, all[0].segment, all[len(all)-1].segment, "one segment alone is too few")
	type place struct {
		name string
		off  int64
	}
	var places []place
	rng := rand.New(rand.NewPCG(7, 7))
	for i := range int64(112) { // every byte of the head, of one frame or another
		f := all[rng.IntN(len(all))]
		places = append(places, place{f.segment, f.off + i})
	}
	for _, f := range all {
		places = append(places, place{f.segment, f.off + 112 + rng.Int64N(f.size-112)}, place{f.segment, f.off + f.size - 1 - rng.Int64N(32)})
	}
	last := all[len(all)-1]
	for i := range int64(112) { // and of the last one
		places = append(places, place{last.segment, last.off + i})
	}
	for range 60 {
		f := all[rng.IntN(len(all))]
		places = append(places, place{f.segment, rng.Int64N(8192)}, place{f.segment, rng.Int64N(64 << 10)})
	}
	each(t, len(places), func(i int) error {
		p, rng := places[i], rand.New(rand.NewPCG(uint64(i), 3))
		member, bit, noView := []string{"a", "b"}[rng.IntN(2)], byte(1)<<rng.IntN(8), rng.IntN(2) == 0
		got, err := s.reopened(func(fsys durable.FS) error {
			if noView {
				if err := fsys.RemoveAll("/d0/view"); err != nil {
					return err
				}
			}
			return flip(fsys, path.Join("/d0/log", member, p.name), p.off, bit)
		})
		if err != nil || got != s.want {
			return fmt.Errorf("bit %02x of byte %d of %s/%s, view gone %v: the store holds\n%s\nwant\n%s: %w", bit, p.off, member, p.name, noView, got, s.want, err)
		}
		return nil
	})
}

// each calls f for 0 to n-1, or every tenth with -short, in two goroutines.
func each(t *testing.T, n int, f func(i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	for half := range 2 {
		wg.Go(func() {
			for i := half; i < n && !t.Failed(); i += 2 {
				if testing.Short() && i/2%10 != 0 {
					continue
				}
				if err := f(i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// Both copies of the log are damaged at a frame that another follows: ErrCorrupt
// that names it when the log has to be read there, and never silently fewer objects.
func TestBothCopiesOfTheLogDamaged(t *testing.T) {
	s := shoot(t)
	all := frames(t, durable.Mem(s.fs), "/d0/log/a")
	newest := all[len(all)-1].segment
	each(t, len(all)-1, func(i int) error {
		f := all[i]
		for _, noView := range []bool{false, true} {
			got, err := s.reopened(func(fsys durable.FS) error {
				if noView {
					if err := fsys.RemoveAll("/d0/view"); err != nil {
						return err
					}
				}
				for k, member := range []string{"a", "b"} {
					if err := flip(fsys, path.Join("/d0/log", member, f.segment), f.off+int64((i*7+k*50)%112), 4); err != nil {
						return err
					}
				}
				return nil
			})
			where := fmt.Sprintf("offset %d", f.off)
			named := err != nil && errors.Is(err, blockframe.ErrCorrupt) && strings.Contains(err.Error(), f.segment) && strings.Contains(err.Error(), where)
			whole := err == nil && got == s.want && !noView && f.segment != newest
			if !named && !whole {
				return fmt.Errorf("both copies of the frame at %d of %s are damaged, view gone %v: %v, the store holds\n%s", f.off, f.segment, noView, err, got)
			}
		}
		return nil
	})
}

// Bits of Pebble's files flip, the files are cut short, emptied and removed. I1.
func TestDamagedView(t *testing.T) {
	s := shoot(t)
	fsys := durable.Mem(s.fs)
	dirs, err := fsys.List("/d0/view")
	require.NoError(t, err)
	require.Len(t, dirs, 1)
	dir := path.Join("/d0/view", dirs[0])
	names, err := fsys.List(dir)
	require.NoError(t, err)
	type harm struct {
		name string
		do   func(fsys durable.FS) error
	}
	var harms []harm
	rng := rand.New(rand.NewPCG(9, 9))
	for _, n := range names {
		info, err := fsys.Stat(path.Join(dir, n))
		require.NoError(t, err)
		if info.Dir || info.Size == 0 {
			continue
		}
		for range 50 {
			off, bit := rng.Int64N(info.Size), byte(1)<<rng.IntN(8)
			harms = append(harms, harm{fmt.Sprintf("bit %02x of byte %d of %s", bit, off, n), func(fsys durable.FS) error {
				return flip(fsys, path.Join(dir, n), off, bit)
			}})
		}
		for _, keep := range []int64{0, info.Size / 2, info.Size - 1} {
			harms = append(harms, harm{fmt.Sprintf("%d bytes of %s", keep, n), func(fsys durable.FS) error {
				b, err := durable.ReadFile(fsys, path.Join(dir, n), 1<<26)
				if err != nil {
					return err
				}
				return durable.WriteFile(fsys, path.Join(dir, n), b[:keep])
			}})
		}
		harms = append(harms, harm{n + " removed", func(fsys durable.FS) error { return fsys.Remove(path.Join(dir, n)) }})
	}
	harms = append(harms, harm{"all removed", func(fsys durable.FS) error { return fsys.RemoveAll("/d0/view") }})
	t.Logf("%d files, %d harms", len(names), len(harms))
	each(t, len(harms), func(i int) error {
		got, err := s.reopened(harms[i].do)
		if err != nil || got != s.want {
			return fmt.Errorf("%s: the store holds\n%s\nwant\n%s: %w", harms[i].name, got, s.want, err)
		}
		return nil
	})
}
