package journal_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/durable/durabletest"
	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/internal/journal"
)

var goldenRecords = [][]byte{[]byte("first"), []byte("second"), bytes.Repeat([]byte("x"), 300), {}}

// flips returns the bits of a segment to try: all of them in heavy runs, else
// two or three of each byte that something stands in, fewer of the second copy
// of the header and of padding.
func flips(seg []byte) (bits []int64) {
	for i := int64(0); i < int64(len(seg)); i++ {
		at := i % frame.Grid
		switch {
		case heavy() || at >= frame.Grid-32 && i < 2*frame.Grid || at < 200 && seg[i-at] != 0:
			if !heavy() && i >= frame.Grid && i < 2*frame.Grid {
				bits = append(bits, i*8+i%8)
				continue
			}
			for b := int64(0); b < 8; b++ {
				bits = append(bits, i*8+b)
			}
		case at%32 == 0:
			bits = append(bits, i*8+at/32%8)
		}
	}
	step := 3 // not a divisor of 8: all places in a byte are tried
	switch {
	case heavy():
		step = 1
	case testing.Short():
		step = 29
	}
	for i := range len(bits) / step {
		bits[i] = bits[i*step]
	}
	return bits[:len(bits)/step]
}

// One bit flipped anywhere in either copy loses nothing, and is repaired: at
// the open in the newest segment and in headers, at the read in older ones.
func TestEveryFlip(t *testing.T) {
	fsys := durable.Mem(vfs.NewMem())
	goldenLog(t, fsys)
	opts := options(fsys)
	for _, member := range []string{"log/a/", "log/b/"} {
		for _, name := range goldenNames {
			for _, bit := range flips(golden(t, name)) {
				flip(t, fsys, member+name, bit)
				j, err := journal.Open(opts)
				require.NoError(t, err, "bit %d of %s%s", bit, member, name)
				require.NoError(t, j.ReadOnly())
				got, err := collect(j, 1)
				require.NoError(t, err)
				require.Equal(t, goldenRecords, got)
				if b := readFile(t, fsys, member+name); !bytes.Equal(golden(t, name), b) {
					// Behind the frames of an older segment nothing is read.
					_, err = j.Verify(t.Context())
					require.NoError(t, err)
					require.NotEmpty(t, j.Repairs(), "bit %d of %s%s", bit, member, name)
					require.True(t, bytes.Equal(golden(t, name), readFile(t, fsys, member+name)), "bit %d of %s%s", bit, member, name)
				}
				require.NoError(t, j.Close())
			}
		}
	}
	for _, name := range goldenNames {
		require.True(t, bytes.Equal(golden(t, name), readFile(t, fsys, "log/a/"+name)))
		require.True(t, bytes.Equal(golden(t, name), readFile(t, fsys, "log/b/"+name)))
	}
}

const perSegment = 6

// longLog makes a log of 10 records, one a frame: frames 0 to 5 in the first
// segment, 6 to 9 and the empty frame 10 in the second.
func longLog(t testing.TB, fsys durable.FS) (want [][]byte) {
	j := open(t, options(fsys))
	for i := range 10 {
		want = append(want, record(i, 100))
		add(t, j, want[i])
	}
	require.NoError(t, j.Close())
	return want
}

// frameAt returns where frame i of longLog stands.
func frameAt(i int) (name string, off int64) {
	return fmt.Sprintf("%016x.log", i/perSegment+1), 8192 + int64(i%perSegment)*4096
}

// Both copies damaged at a frame that another follows: an error that names the
// place, never fewer records.
func TestDoubleDamage(t *testing.T) {
	for i := range 11 {
		for _, at := range []int64{0, 8, 24, 48, 112, 120, 250, 4095} {
			t.Run(fmt.Sprintf("frame%d+%d", i, at), func(t *testing.T) {
				fsys := durable.Mem(vfs.NewMem())
				want := longLog(t, fsys)
				name, off := frameAt(i)
				for _, dir := range []string{"log/a/", "log/b/"} {
					flip(t, fsys, dir+name, (off+at)*8+3)
				}
				a, b := readFile(t, fsys, "log/a/"+name), readFile(t, fsys, "log/b/"+name)
				j, err := journal.Open(options(fsys))
				switch {
				case i == 10: // the last frame holds nothing
					require.NoError(t, err)
					require.Equal(t, want, all(t, j, 1))
					require.NoError(t, j.Close())
					return
				case i < perSegment:
					require.NoError(t, err)
					var got [][]byte
					got, err = collect(j, 1)
					require.Equal(t, want[:i], append([][]byte{}, got...))
					require.Equal(t, want[perSegment:], all(t, j, perSegment+1)) // the rest is served
					rep, verr := j.Verify(t.Context())
					require.NoError(t, verr)
					require.Len(t, rep.Lost, 1)
					require.Equal(t, off, rep.Lost[0].Offset)
					require.NoError(t, j.Close())
				}
				require.ErrorIs(t, err, frame.ErrCorrupt)
				var d *journal.Damage
				require.ErrorAs(t, err, &d)
				require.Equal(t, "a, b", d.Member)
				require.Equal(t, name, d.Segment)
				require.Equal(t, off, d.Offset)
				require.Equal(t, a, readFile(t, fsys, "log/a/"+name)) // nothing was touched
				require.Equal(t, b, readFile(t, fsys, "log/b/"+name))
			})
		}
	}
}

// The last two frames damaged in both copies: the head of the last gives it away.
func TestDoubleDamageOfTheTail(t *testing.T) {
	fsys := durable.Mem(vfs.NewMem())
	longLog(t, fsys)
	for i := 9; i <= 10; i++ {
		name, off := frameAt(i)
		for _, dir := range []string{"log/a/", "log/b/"} {
			flip(t, fsys, dir+name, (off+115)*8)
		}
	}
	_, err := journal.Open(options(fsys))
	require.ErrorIs(t, err, frame.ErrCorrupt)
}

// Damage of different frames in the two copies is repaired from each other.
func TestCrossedDamage(t *testing.T) {
	fsys := durable.Mem(vfs.NewMem())
	want := longLog(t, fsys)
	dirs := []string{"log/a/", "log/b/"}
	whole := map[string][]byte{}
	for i := range 11 {
		name, _ := frameAt(i)
		whole[name] = readFile(t, fsys, "log/a/"+name)
	}
	for i := range 11 {
		name, off := frameAt(i)
		patch(t, fsys, dirs[i%2]+name, off, bytes.Repeat([]byte{0xaa}, 4096))
	}
	for i, dir := range dirs {
		for _, name := range goldenNames {
			patch(t, fsys, dir+name, int64(i)*4096, make([]byte, 4096)) // one copy of the header each
		}
	}
	j := open(t, options(fsys))
	require.Equal(t, want, all(t, j, 1))
	require.Len(t, j.Repairs(), 10+4) // the empty frame at the end may have been torn
	for name, b := range whole {
		for _, dir := range dirs {
			require.True(t, bytes.Equal(b, readFile(t, fsys, dir+name)), dir+name)
		}
	}
}

// A record whose content imitates frames, at every offset on the grid, changes
// nothing, also when the frame around it is damaged or torn.
func TestImitation(t *testing.T) {
	fsys := durable.Mem(vfs.NewMem())
	opts := options(fsys)
	opts.SegmentSize = 256 << 10
	j := open(t, opts)
	add(t, j, []byte("one"))
	add(t, j, []byte("two"))
	seg := readFile(t, fsys, "log/a/0000000000000001.log")
	real := seg[12288:16384] // the frame of record 2, as it stands

	// Content that puts copies of it on the grid, and forgeries made without the key.
	evil := make([]byte, 4096-112-4)
	for i := range 20 {
		evil = append(evil, real...)
		evil = append(evil, journal.ForgeFrame([32]byte{}, 1, 16384+int64(2*i+2)*4096, 4+uint64(i), [32]byte{}, [][]byte{[]byte("forged")})...)
	}
	add(t, j, evil)
	want := [][]byte{[]byte("one"), []byte("two"), evil}
	require.Equal(t, want, all(t, j, 1))
	name := "/0000000000000001.log"
	require.Equal(t, real, readFile(t, fsys, "log/a"+name)[16384+4096:][:4096])

	flip(t, fsys, "log/a"+name, 16384*8) // torn in one copy
	j = reopen(t, j, opts)
	require.Equal(t, want, all(t, j, 1))

	require.NoError(t, j.Close())
	patch(t, fsys, "log/a"+name, 16384, make([]byte, 4096))
	patch(t, fsys, "log/b"+name, 16384, make([]byte, 4096))
	_, last := lastFrame(t, fsys, "log/a"+name)
	for _, dir := range []string{"log/a", "log/b"} {
		patch(t, fsys, dir+name, last, make([]byte, 4096)) // and the empty frame
	}
	j = open(t, opts) // torn in both: nothing in it is taken for a frame
	require.Equal(t, want[:2], all(t, j, 1))
	add(t, j, []byte("three"))
	require.Equal(t, [][]byte{[]byte("one"), []byte("two"), []byte("three")}, all(t, j, 1))
}

// reopen closes j and opens it again.
func reopen(t testing.TB, j *journal.Journal, opts journal.Options) *journal.Journal {
	t.Helper()
	require.NoError(t, j.Close())
	return open(t, opts)
}

// lastFrame returns the last grid block of a segment that is not zero, and where
// it is.
func lastFrame(t testing.TB, fsys durable.FS, name string) ([]byte, int64) {
	b := readFile(t, fsys, name)
	for off := len(b) - frame.Grid; ; off -= frame.Grid {
		if !frame.Zero(b[off : off+frame.Grid]) {
			return b[off : off+frame.Grid], int64(off)
		}
	}
}

// A copy cut short, one with bytes behind its end, and one without an older
// segment are made whole.
func TestWrongLength(t *testing.T) {
	fsys := durable.Mem(vfs.NewMem())
	want := longLog(t, fsys)
	for _, name := range goldenNames {
		whole := readFile(t, fsys, "log/a/"+name)
		for _, n := range []int{0, 1, 4096, 8192, 12288, 12289, 20000, len(whole) - 1, len(whole) + 1, -1} {
			if n < 0 && name == goldenNames[1] {
				continue // the newest segment gone is a stale member
			}
			require.NoError(t, fsys.Remove("log/b/"+name))
			if n >= 0 {
				require.NoError(t, durable.WriteFile(fsys, "log/b/"+name, append(bytes.Clone(whole), 'x')[:n]))
			}
			j := open(t, options(fsys))
			require.Equal(t, want, all(t, j, 1))
			require.NoError(t, j.Close())
			require.True(t, bytes.Equal(whole, readFile(t, fsys, "log/b/"+name)[:len(whole)]), "%s of %d bytes", name, n)
			require.True(t, bytes.Equal(whole, readFile(t, fsys, "log/a/"+name)))
		}
	}
}

// Oldest segments that are missing in every copy are a loss, unless a snapshot
// covers their records.
func TestOldestMissing(t *testing.T) {
	for _, covers := range []uint64{0, perSegment - 1, perSegment, perSegment + 2} {
		fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
		j := open(t, options(fsys))
		for i := range 2*perSegment + 1 {
			if i == perSegment+3 && covers > 0 {
				j.SetSnapshot(journal.Snapshot{ID: [32]byte{1}, Index: covers})
			}
			add(t, j, record(i, 10))
		}
		require.NoError(t, j.Close())
		for _, dir := range []string{"log/a/", "log/b/"} {
			require.NoError(t, fsys.Remove(dir+goldenNames[0]))
		}
		fsys.Reset()
		j, err := journal.Open(options(fsys))
		if covers >= perSegment {
			require.NoError(t, err)
			require.EqualValues(t, perSegment+1, j.First())
			rep, err := j.Verify(t.Context())
			require.NoError(t, err)
			require.Empty(t, rep.Lost)
			require.NoError(t, j.Close())
			continue
		}
		var d *journal.Damage
		require.ErrorAs(t, err, &d)
		require.Equal(t, goldenNames[0], d.Segment)
		require.Empty(t, fsys.Log())

		opts := options(fsys) // what is left can be looked at
		opts.ReadOnly = true
		j, err = journal.Open(opts)
		require.NoError(t, err)
		require.Len(t, all(t, j, perSegment+1), perSegment+1)
		rep, err := j.Verify(t.Context())
		require.NoError(t, err)
		require.Equal(t, []journal.Damage{*d}, rep.Lost)
		require.NoError(t, j.Close())
	}
}

// A file named like a segment far above the newest one is none.
func TestStraySegment(t *testing.T) {
	for name, content := range map[string][]byte{
		"ffffffffffffffff.log": []byte("stray"), "0000000000000004.log": make([]byte, smallSegment), "8000000000000000.log": nil,
	} {
		fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
		want := longLog(t, fsys)
		require.NoError(t, durable.WriteFile(fsys, "log/b/"+name, content))
		j := open(t, options(fsys))
		require.Equal(t, want, all(t, j, 1))
		require.Len(t, j.Segments(), 2)
		add(t, j, []byte("more"))
		require.NoError(t, j.Close())
		require.Equal(t, string(content), string(readFile(t, fsys, "log/b/"+name)))

		fsys.SetFault(durabletest.All(durabletest.Open, name, durabletest.Before, syscall.EIO))
		_, err := journal.Open(options(fsys)) // who knows what it holds
		require.ErrorIs(t, err, frame.ErrCorrupt)
		require.ErrorIs(t, err, syscall.EIO)
	}
	// The one after the newest was a segment, or would be taken for one later.
	fsys := durable.Mem(vfs.NewMem())
	longLog(t, fsys)
	require.NoError(t, durable.WriteFile(fsys, "log/b/0000000000000003.log", []byte("stray")))
	_, err := journal.Open(options(fsys))
	require.ErrorIs(t, err, frame.ErrCorrupt)
}

// A log that is closed while it is verified changes nothing any more when Close has
// returned: others may open it then, or put other copies in its place.
func TestCloseDuringVerify(t *testing.T) {
	for n := int64(1); ; n++ {
		var verifying, closed atomic.Bool
		var reads, late atomic.Int64
		fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{Before: func(durabletest.Op) {
			if closed.Load() {
				late.Add(1)
			}
		}})
		longLog(t, fsys)
		j := open(t, options(fsys))
		for i := range 3 {
			name, off := frameAt(i)
			f, err := fsys.OpenWrite("log/a/" + name)
			require.NoError(t, err)
			_, err = f.WriteAt([]byte("damage"), off+200)
			require.NoError(t, err)
			require.NoError(t, f.Close())
		}
		ended := make(chan error, 1)
		fsys.SetFault(func(op durabletest.Op) *durabletest.Fault {
			if verifying.Load() && op.Kind == durabletest.Read && reads.Add(1) == n {
				go func() {
					err := j.Close()
					closed.Store(true)
					ended <- err
				}()
				for began := time.Now(); !closed.Load() && time.Since(began) < 20*time.Millisecond; {
					runtime.Gosched() // it may wait for what is being repaired
				}
			}
			return nil
		})
		verifying.Store(true)
		rep, err := j.Verify(t.Context())
		if reads.Load() < n {
			require.NoError(t, err)
			require.Greater(t, n, int64(4))
			return
		}
		require.Empty(t, rep.Lost)
		if err != nil {
			require.ErrorIs(t, err, fs.ErrClosed)
		}
		require.NoError(t, <-ended)
		require.Zero(t, late.Load(), "changes, closed at read %d", n)
	}
}
