package store

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/blockframe/blockframe/internal/frame"
)

// A shard writer collects small writes before it passes them on. The blobs of small
// packs become a single write; in longer ones only the parts at both ends are small.
const (
	gatherSmall = 16 << 10
	gatherBlob  = 128 << 10
)

var (
	smallPool = sync.Pool{New: func() any { b := frame.Aligned(gatherSmall); return &b }}
	blobPool  = sync.Pool{New: func() any { b := frame.Aligned(gatherBlob); return &b }}
)

// gatherPool returns the pool for blobs of an extent of so many bytes, 0 unknown.
func gatherPool(length int64) *sync.Pool {
	if length > 0 && length <= MaxSmall {
		return &blobPool
	}
	return &smallPool
}

// shardWriter writes one blob of an extent. Its goroutine ends when jobs is
// closed, which the extent writer always does.
type shardWriter struct {
	w      *extentWriter
	index  int
	length int64 // expected of the extent, 0 unknown
	disk   *disk
	key    BackendKey
	jobs   chan *job
	done   chan struct{}
	err    error                 // valid once done is closed
	failed atomic.Pointer[error] // the same, as soon as it is known
	out    *blobWriter           // nil if there is none
	slab   *slab                 // that is being written from
	buf    *[]byte               // gathered, not written yet: (*buf)[:n]
	n      int
}

func newShardWriter(w *extentWriter, i int, d *disk) *shardWriter {
	return &shardWriter{w: w, index: i, length: w.expected(), disk: d, jobs: make(chan *job, 4), done: make(chan struct{})}
}

// run writes header, blocks and what follows them, then commits. After an error
// it goes on taking jobs, so that nobody waits for it, and aborts. A backend that does
// not come back from a call is such an error: the call is left behind, with the slab
// that it reads from.
func (sw *shardWriter) run(ctx context.Context) {
	defer close(sw.done)
	pool := gatherPool(sw.length)
	sw.buf = pool.Get().(*[]byte)
	defer func() {
		if sw.buf != nil {
			pool.Put(sw.buf)
		}
	}()
	sw.key = sw.w.e.Key(sw.index)
	h := headerOf(sw.w.s.storeID, &sw.w.e, sw.index)
	sw.try(func() (err error) { sw.out, err = sw.disk.newBlob(ctx, sw.key); return err })
	sw.write(appendHeader(make([]byte, 0, headerSize), &h))
	k := sw.w.ref.code.K
	for j := range sw.jobs {
		if j.part != nil {
			sw.write(j.part)
			continue
		}
		<-j.ready
		n := frame.Align(int64(j.columnLen(sw.index, k)))
		sw.slab = j.slab
		sw.write(j.slab.column(sw.index)[:n])
		if sw.slab != nil {
			sw.slab.release()
			sw.slab = nil
		}
	}
	sw.end(h)
}

// end commits or aborts.
func (sw *shardWriter) end(h header) {
	if x := sw.w.sealed; x != nil && sw.err == nil {
		sw.write(x.tail(h, sw.w.e.carries(sw.index)))
		sw.flush()
		if sw.err == nil {
			// A crash before Commit leaves nothing visible; after it, a whole blob
			// that no record names.
			sw.try(func() error { return sw.out.commit(sw.remove) })
		}
	}
	if sw.out != nil {
		sw.out.abort()
	}
}

// remove removes the blob of a commit that was left behind and came true after all. No
// record names it: if there is one of the extent, it says that the shard is missing,
// and a repair writes it under another key. If the blob stays, it is collected.
func (sw *shardWriter) remove(err error) {
	if err == nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(sw.w.s.ctx), discardTime)
		defer cancel()
		sw.disk.Remove(ctx, sw.key)
	}
}

// try runs f unless an error came before, and keeps its error.
func (sw *shardWriter) try(f func() error) {
	if sw.err != nil {
		return
	}
	if err := f(); err != nil {
		sw.err = err
		sw.failed.Store(&err)
	}
}

// write gathers b, or writes it with what was gathered before. len(b) is a
// multiple of the grid.
func (sw *shardWriter) write(b []byte) {
	if sw.err != nil {
		return
	}
	if sw.n+len(b) > len(*sw.buf) {
		if sw.flush(); sw.err != nil {
			return
		}
		if len(b) >= len(*sw.buf) {
			sw.put(b)
			return
		}
	}
	sw.n += copy((*sw.buf)[sw.n:], b)
}

func (sw *shardWriter) flush() {
	if sw.n > 0 {
		sw.put((*sw.buf)[:sw.n])
		sw.n = 0
	}
}

func (sw *shardWriter) put(b []byte) {
	sw.try(func() error {
		sl := sw.slab
		left, err := sw.out.write(b, func() {
			if sl != nil {
				sl.release()
			}
		})
		if left {
			sw.slab, sw.buf = nil, nil // they are read from still
			if sl != nil {
				sl.writeOff()
			}
		}
		return err
	})
}
