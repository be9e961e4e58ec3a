package journal_test

import (
	"bytes"
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/durable/durabletest"
	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/internal/journal"
)

// unread fails reads of files with part in their name that touch [lo, hi).
func unread(part string, lo, hi int64) func(durabletest.Op) *durabletest.Fault {
	return func(op durabletest.Op) *durabletest.Fault {
		if op.Kind != durabletest.Read || !strings.Contains(op.Name, part) || op.Off >= hi || op.Off+op.Len <= lo {
			return nil
		}
		return &durabletest.Fault{Arm: durabletest.Before, Err: syscall.EIO}
	}
}

// images returns the content of all segments of longLog.
func images(t testing.TB, fsys durable.FS) map[string][]byte {
	out := map[string][]byte{}
	for _, dir := range []string{"log/a/", "log/b/"} {
		for _, name := range goldenNames {
			out[dir+name] = readFile(t, fsys, dir+name)
		}
	}
	return out
}

// What no copy can be read of is not a torn tail: Open fails with the error of
// the reads and changes nothing, and all is there when reads work again.
func TestUnreadableIsNotTorn(t *testing.T) {
	tail := "0000000000000002.log"
	both := func(change func(t *testing.T, fsys durable.FS, name string)) func(*testing.T, durable.FS) {
		return func(t *testing.T, fsys durable.FS) {
			for _, dir := range []string{"log/a/", "log/b/"} {
				change(t, fsys, dir+tail)
			}
		}
	}
	junk := func(off int64) func(t *testing.T, fsys durable.FS, name string) {
		return func(t *testing.T, fsys durable.FS, name string) {
			patch(t, fsys, name, off, bytes.Repeat([]byte{0x55}, frame.Grid))
		}
	}
	for name, c := range map[string]struct {
		change func(*testing.T, durable.FS)
		fault  func(durabletest.Op) *durabletest.Fault
		lost   bool // for good, by change
	}{
		"all frames":            {fault: unread(tail, 8192, 1<<40)},
		"the last frames":       {fault: unread(tail, 8192+3*4096, 8192+5*4096)},
		"the file":              {fault: durabletest.All(durabletest.Open, tail, durabletest.Before, syscall.EMFILE)},
		"an older file":         {fault: durabletest.All(durabletest.Open, "0000000000000001.log", durabletest.Before, syscall.EMFILE)},
		"one, the other junk":   {func(t *testing.T, fsys durable.FS) { junk(8192+4*4096)(t, fsys, "log/a/"+tail) }, unread("log/b/"+tail, 8192, 1<<40), false},
		"what follows bad ones": {both(junk(8192 + 3*4096)), unread(tail, 8192+4*4096, 1<<40), true},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
			want := longLog(t, fsys)
			if c.change != nil {
				c.change(t, fsys)
			}
			before := images(t, fsys)
			fsys.Reset()
			fsys.SetFault(c.fault)
			_, err := journal.Open(options(fsys))
			require.ErrorIs(t, err, frame.ErrCorrupt)
			require.True(t, errorIsAny(err, syscall.EIO, syscall.EMFILE), err)
			var d *journal.Damage
			require.ErrorAs(t, err, &d)
			require.Empty(t, fsys.Log())

			fsys.SetFault(nil)
			require.Equal(t, before, images(t, fsys))
			if c.lost {
				_, err := journal.Open(options(fsys))
				require.ErrorIs(t, err, frame.ErrCorrupt)
				return
			}
			require.Equal(t, want, all(t, open(t, options(fsys)), 1))
		})
	}
}

// A newest segment that is too short in every copy has lost what was behind.
func TestShortInAllCopies(t *testing.T) {
	for _, n := range []int{8192, 8192 + 2*4096, 8192 + 3*4096 + 5} {
		fsys := durable.Mem(vfs.NewMem())
		longLog(t, fsys)
		for _, dir := range []string{"log/a/", "log/b/"} {
			b := readFile(t, fsys, dir+goldenNames[1])
			require.NoError(t, durable.WriteFile(fsys, dir+goldenNames[1], b[:n]))
		}
		before := images(t, fsys)
		_, err := journal.Open(options(fsys))
		require.ErrorIs(t, err, frame.ErrCorrupt, n)
		require.Equal(t, before, images(t, fsys))
	}
}

// One copy that can be read is enough, whatever is wrong with reads of the other.
func TestUnreadableInOneCopy(t *testing.T) {
	for i := range 11 {
		fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
		want := longLog(t, fsys)
		before := images(t, fsys)
		name, off := frameAt(i)
		fsys.SetFault(unread("log/b/"+name, off, 1<<40))
		j := open(t, options(fsys))
		require.Equal(t, want, all(t, j, 1))
		require.NoError(t, j.Close())
		fsys.SetFault(nil)
		require.Equal(t, before, images(t, fsys))
	}
}

func errorIsAny(err error, targets ...error) bool {
	for _, target := range targets {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
