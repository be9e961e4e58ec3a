package store

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/blockframe/blockframe/internal/frame"
)

// gather is how much a shard writer collects before it writes: blobs of small
// packs become a single write.
const gather = 128 << 10

var gatherPool = sync.Pool{New: func() any { b := frame.Aligned(gather); return &b }}

// shardWriter writes one blob of an extent. Its goroutine ends when jobs is
// closed, which the extent writer always does.
type shardWriter struct {
	w      *extentWriter
	index  int
	disk   *disk
	key    BackendKey
	jobs   chan *job
	done   chan struct{}
	err    error                 // valid once done is closed
	failed atomic.Pointer[error] // the same, as soon as it is known
	out    BackendWriter
	buf    *[]byte // gathered, not written yet: (*buf)[:n]
	n      int
}

func newShardWriter(w *extentWriter, i int, d *disk) *shardWriter {
	return &shardWriter{w: w, index: i, disk: d, jobs: make(chan *job, 4), done: make(chan struct{})}
}

// run writes header, blocks and what follows them, then commits. After an error
// it goes on taking jobs, so that nobody waits for it, and aborts.
func (sw *shardWriter) run(ctx context.Context) {
	defer close(sw.done)
	sw.buf = gatherPool.Get().(*[]byte)
	defer gatherPool.Put(sw.buf)
	sw.key = sw.w.e.Key(sw.index)
	h := headerOf(sw.w.s.storeID, &sw.w.e, sw.index)
	sw.try(func() (err error) { sw.out, err = sw.disk.create(ctx, sw.key); return err })
	sw.write(appendHeader(make([]byte, 0, headerSize), &h))
	k := sw.w.ref.code.K
	for j := range sw.jobs {
		<-j.ready
		n := frame.Align(int64(j.columnLen(sw.index, k)))
		sw.write(j.slab.column(sw.index)[:n])
		j.slab.release()
	}
	sw.end(h)
}

// end commits or aborts.
func (sw *shardWriter) end(h header) {
	if x := sw.w.sealed; x != nil && sw.err == nil {
		table, manifests, tail := x.of(h)
		sw.write(table)
		sw.write(manifests)
		sw.write(tail)
		sw.flush()
		// A crash before Commit leaves nothing visible; after it, a whole blob
		// that no record names.
		sw.try(func() error { return sw.disk.commit(sw.out) })
		return
	}
	if sw.out != nil {
		sw.out.Abort()
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
	if sw.n+len(b) > gather {
		sw.flush()
		if len(b) >= gather {
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
	sw.try(func() error { _, err := sw.out.Write(b); return err })
}
