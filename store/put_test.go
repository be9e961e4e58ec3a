package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/blockframe/blockframe/store"
)

// nothingLeft fails unless the store is as if nothing had been put.
func (r *rig) nothingLeft() {
	r.t.Helper()
	require.Zero(r.t, r.blobs(), "blobs left")
	require.Empty(r.t, r.cat.names)
	require.Empty(r.t, r.cat.contents)
	r.calm()
}

// What is put reads back, at every boundary there is. // T3, T4, R9
func TestSizes(t *testing.T) {
	for _, c := range []struct{ disks, k, m int }{{1, 8, 2}, {4, 1, 3}, {5, 3, 2}} {
		t.Run(fmt.Sprintf("%d+%d on %d", c.k, c.m, c.disks), func(t *testing.T) {
			r := newRig(t, c.disks, coded(c.k, c.m, miB))
			s := c.k * blk
			for _, n := range []int{0, 1, 63, 64, 65, 4096, 4097, blk - 1, blk, blk + 1, s - 1, s, s + 1, store.MaxSmall, store.MaxSmall + 1,
				miB - 1, miB, miB + 1, miB + 1025, 3*miB + 1, 3_500_000} {
				data := content(uint64(n), n)
				o := r.put(fmt.Sprint("o", n), data)
				r.reads(o, data)
			}
			require.NoError(t, r.PackInline(t.Context()))
			r.reads(r.cat.names["o4096"], content(4096, 4096))
			r.cleanScrub()
		})
	}
}

// A source may hand out its bytes as it likes.
func TestOddSources(t *testing.T) {
	r := newRig(t, 3, coded(2, 1, miB))
	for i, n := range []int{0, 1, 5000, 300_000} {
		data := content(1, n)
		for j, src := range []io.Reader{iotest.OneByteReader(bytes.NewReader(data)), iotest.HalfReader(bytes.NewReader(data)), iotest.DataErrReader(bytes.NewReader(data))} {
			o, err := r.Put(t.Context(), fmt.Sprint(i, j), src, store.PutOptions{Size: int64(n) * int64(j%2), Expect: store.AnyVersion})
			require.NoError(t, err)
			r.reads(o, data)
		}
	}
}

// Contents of every size that is read whole, announced or not, are put at the same time
// and over again: the memory of one is that of another next, and none sees it.
func TestMemoryOfSmallPuts(t *testing.T) {
	r := newRig(t, 3, coded(2, 1, miB))
	var work errgroup.Group
	work.SetLimit(16)
	n := 0
	for _, base := range []int{4096, 8192, 16384, 32768, 65536, 131072, store.MaxSmall} {
		for _, d := range []int{-20, -1, 0, 1, 15, 16, 17} {
			for _, announced := range []int64{0, 1} {
				n++
				seed, size := uint64(n), base+d
				work.Go(func() error {
					data := content(seed, size)
					o, err := r.Put(t.Context(), fmt.Sprint(seed), iotest.HalfReader(bytes.NewReader(data)), store.PutOptions{Size: announced * int64(size), Expect: store.AnyVersion})
					if err == nil {
						r.reads(o, data)
						_, err = r.Put(t.Context(), "wrong", bytes.NewReader(data), store.PutOptions{Size: int64(size) + 1, Expect: store.AnyVersion})
						if errors.Is(err, io.ErrUnexpectedEOF) {
							err = nil
						}
					}
					return err
				})
			}
		}
	}
	require.NoError(t, work.Wait())
	r.cleanScrub()
}

// counted counts what is read of it.
type counted struct {
	io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	return n, err
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A source that has more or fewer bytes than were announced, is read to no purpose,
// or breaks, leaves nothing behind. // R10
func TestPutsThatFailLeaveNothing(t *testing.T) {
	type put struct {
		size int64
		src  io.Reader
		id   store.ID
		want error
	}
	puts := map[string]put{"other content": {src: strings.NewReader("abc"), id: store.ID{1}, want: store.ErrCorrupt},
		"other long content": {src: bytes.NewReader(content(1, 700_000)), id: store.ID{1}, want: store.ErrCorrupt}}
	for _, n := range []int{1, 100, 4096, 5000, store.MaxSmall, store.MaxSmall + 1, 700_000, 3*miB + 5} {
		data := content(uint64(n), n)
		puts[fmt.Sprintf("one byte short of %d", n+1)] = put{size: int64(n) + 1, src: bytes.NewReader(data), want: io.ErrUnexpectedEOF}
		if n > 1 {
			puts[fmt.Sprintf("one byte over %d", n-1)] = put{size: int64(n) - 1, src: bytes.NewReader(data), want: io.ErrUnexpectedEOF}
		}
		puts[fmt.Sprintf("endless, %d announced", n)] = put{size: int64(n), src: zeros{}, want: io.ErrUnexpectedEOF}
		puts[fmt.Sprintf("broken after %d", n)] = put{src: broken(data, errBroken), want: errBroken}
		puts[fmt.Sprintf("broken after %d, more announced", n)] = put{size: int64(2 * n), src: broken(data, errBroken), want: errBroken}
	}
	for name, p := range puts {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 3, coded(2, 1, miB))
			src := &counted{Reader: p.src}
			_, err := r.Put(t.Context(), "x", src, store.PutOptions{Size: p.size, ID: p.id, Expect: store.AnyVersion})
			require.ErrorIs(t, err, p.want)
			require.LessOrEqual(t, src.n, max(p.size, 4*miB)+4*miB, "an endless source is not read for long")
			b := r.NewBatch(t.Context())
			if _, again := p.src.(zeros); again {
				require.ErrorIs(t, b.Put("x", p.src, store.PutOptions{Size: p.size, Expect: store.AnyVersion}), p.want)
				_, err = b.Commit()
				require.ErrorIs(t, err, p.want)
			}
			b.Abort()
			if len(r.cat.extents) == 0 { // else an open upload of this epoch, collected after the next open
				r.nothingLeft()
			}
			require.Empty(t, r.cat.names)
			r.reads(r.put("x", []byte("works still")), []byte("works still"))
		})
	}
}

// Names and attributes that cannot be are refused before anything is read. // R14
func TestPutsThatAreRefused(t *testing.T) {
	r := newRig(t, 3, coded(2, 1, miB))
	for _, name := range []string{"", ".", "/", "/etc/passwd", "../x", "a/../b", "a//b", "a/", strings.Repeat("a/", 2048) + "a"} {
		src := &counted{Reader: zeros{}}
		_, err := r.Put(t.Context(), name, src, store.PutOptions{Expect: store.AnyVersion})
		require.ErrorIs(t, err, fs.ErrInvalid, "%q", name)
		require.ErrorIs(t, r.NewBatch(t.Context()).Put(name, src, store.PutOptions{}), fs.ErrInvalid)
		require.Zero(t, src.n)
	}
	attr := store.Attr{Xattrs: map[string][]byte{"user.big": make([]byte, store.MaxXattrBytes)}}
	_, err := r.Put(t.Context(), "x", zeros{}, store.PutOptions{Attr: attr, Expect: store.AnyVersion})
	require.ErrorIs(t, err, fs.ErrInvalid)
	r.nothingLeft()
}

// A put whose context ends leaves nothing, whatever it is waiting for.
func TestContextEndsPuts(t *testing.T) {
	r := newRig(t, 3, coded(2, 1, miB))
	for _, n := range []int{100, 100_000, 500_000, 900_000} {
		ctx, cancel := context.WithCancel(t.Context())
		src := io.MultiReader(bytes.NewReader(content(1, n)), readerFunc(func([]byte) (int, error) { cancel(); return 0, io.EOF }))
		_, err := r.Put(ctx, "x", src, store.PutOptions{Expect: store.AnyVersion})
		require.ErrorIs(t, err, context.Canceled, "%d bytes", n)
		r.nothingLeft()
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Puts that meet the closing of the store end, one way or the other.
func TestPutsMeetClose(t *testing.T) {
	for range 20 {
		r := newRig(t, 3, coded(2, 1, miB))
		errs := make(chan error)
		for i := range 16 {
			go func() {
				_, err := r.Put(context.Background(), fmt.Sprint(i), bytes.NewReader(content(1, 10_000+i)), store.PutOptions{Expect: store.AnyVersion})
				errs <- err
			}()
		}
		require.NoError(t, r.Close())
		for range 16 {
			if err := <-errs; err != nil {
				require.ErrorIs(t, err, fs.ErrClosed)
			}
		}
		_, err := r.Put(t.Context(), "late", strings.NewReader("x"), store.PutOptions{})
		require.ErrorIs(t, err, fs.ErrClosed)
	}
}

// The same bytes under two names are stored once; when the stored copy is found
// damaged the new one takes its place, for both names. // T2, R8
func TestSameContentTwice(t *testing.T) {
	r := newRig(t, 3, coded(2, 1, miB))
	for i, n := range []int{100_000, 900_000} {
		data := content(9, n)
		a := r.put(fmt.Sprint("a", i), data)
		before := r.extents(a)[0].Upload
		b := r.put(fmt.Sprint("b", i), data)
		require.Equal(t, a.ID, b.ID)
		require.Equal(t, before, r.extents(b)[0].Upload, "stored once")
		e := r.extents(a)[0]
		m, key := r.shard(&e, 0)
		m.Flip(key, page+5, 1)
		r.put(fmt.Sprint("c", i), data)
		require.NotEqual(t, before, r.extents(a)[0].Upload, "the damaged copy is left")
		r.reads(a, data)
		r.reads(b, data)
	}
}
