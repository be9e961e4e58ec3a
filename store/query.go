package store

import (
	"context"
	"fmt"
	"io/fs"
	"sync"
	"time"
)

// query is the read of one data block by a goroutine that belongs to it: whoever asked can
// give up on a backend that does not answer. What it takes, the goroutine with its stack
// included, is used again, so that a read allocates nothing and costs little more than the
// handing over.
//
// To read on the goroutine of whoever asks would cost nothing at all, but then nobody
// could be called off a backend that hangs. What remains is that the runtime wakes another
// thread when it sees two goroutines that could run, of which there is one in truth. So the
// block is verified by whoever asked, right after it came, rather than where it was read:
// that thread is looking for work then, and is not woken a second time.
type query struct {
	errand
	s      *Store
	ctx    context.Context
	x      *handle // of the one who asked; after it was given up on, the query has its own
	column int
	stripe int
	begin  chan struct{} // closed: end
	ch     chan piece    // has room for the one
	timer  *time.Timer
}

// queries are those that wait to be used again, the last one first.
type queries struct {
	mu     sync.Mutex
	idle   []*query
	closed bool
}

// maxIdleQueries bounds the goroutines that wait for a read to be asked for: with their
// stacks they are half a MiB.
const maxIdleQueries = 32

// get returns one that waits, nil when there is none.
func (l *queries) get() (*query, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, fmt.Errorf("store: %w", fs.ErrClosed)
	}
	n := len(l.idle)
	if n == 0 {
		return nil, nil
	}
	q := l.idle[n-1]
	l.idle = l.idle[:n-1]
	return q, nil
}

// put keeps one for later, or ends it.
func (l *queries) put(q *query) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.idle) >= maxIdleQueries {
		close(q.begin)
		return
	}
	l.idle = append(l.idle, q)
}

// close ends those that wait.
func (l *queries) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, q := range l.idle {
		close(q.begin)
	}
	l.idle = nil
}

// query begins to read the block of a data column. The caller has a handle until it has
// the piece, or abandons the query.
func (s *Store) query(ctx context.Context, x *handle, column, stripe int) (*query, error) {
	q, err := s.queries.get()
	if err == nil && q == nil {
		q, err = s.newQuery()
	}
	if err != nil {
		return nil, err
	}
	q.ctx, q.x, q.column, q.stripe = ctx, x, column, stripe
	q.d = x.disks[column]
	q.state.Store(0)
	return q, nil
}

func (s *Store) newQuery() (q *query, err error) {
	q = &query{s: s, begin: make(chan struct{}), ch: make(chan piece, 1), timer: time.NewTimer(time.Hour)}
	q.timer.Stop()
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.ctx.Err() != nil {
		return nil, fmt.Errorf("store: %w", fs.ErrClosed)
	}
	s.reads.Go(q.run)
	return q, nil
}

// run reads whenever it is asked to, until somebody gave up on it.
func (q *query) run() {
	for range q.begin {
		x, p := q.x, q.read()
		if !q.end() {
			p.free()
			q.s.open.put(x)
			return
		}
		q.ch <- p // from here on q is whoever's asks next
	}
}

func (q *query) read() piece {
	p := piece{column: q.column}
	r, err := q.x.blob(q.ctx, q.s, q.column)
	if err != nil {
		p.err = err
		return p
	}
	p.buf = blockPool.Get().(*[]byte)
	p.data = (*p.buf)[:q.x.g.ShardBlockLen(q.column, q.stripe)]
	began := time.Now()
	_, p.err = readFull(r, p.data, headerSize+int64(q.stripe)*BlockSize)
	q.d.lat.add(time.Since(began))
	q.d.trouble.took(began)
	return p
}

// wait lets the query begin and returns the piece, if it comes before ctx ends or
// patience is over.
func (q *query) wait(ctx context.Context, patience time.Duration) (p piece, came bool) {
	q.timer.Reset(patience)
	q.begin <- struct{}{}
	select {
	case p = <-q.ch:
		q.timer.Stop()
		q.done()
		return p, true
	case <-q.timer.C:
	case <-ctx.Done():
		q.timer.Stop()
	}
	return piece{}, false
}

// done gives back a query whose piece came.
func (q *query) done() {
	q.ctx, q.x, q.d = nil, nil, nil
	q.s.queries.put(q)
}

// abandon gives up on the query.
func (q *query) abandon() {
	q.s.open.retain(q.x)
	if !q.giveUp() { // it came after all
		q.s.open.put(q.x)
		p := <-q.ch
		p.free()
		q.done()
	}
}
