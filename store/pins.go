package store

import (
	"errors"
	"sync"
)

// pins counts who in this process still needs an upload: puts under way and open
// readers. Collection leaves what is pinned alone. While it declares an upload dead
// the upload is doomed, and who wants to pin it waits: with the pin, what the catalog
// says of the upload holds.
type pins struct {
	mu     sync.Mutex
	n      map[UploadID]int
	doomed map[UploadID]chan struct{} // closed when that is over
}

func (p *pins) add(id UploadID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.doomed[id] != nil {
		over := p.doomed[id]
		p.mu.Unlock()
		<-over
		p.mu.Lock()
	}
	if p.n == nil {
		p.n = map[UploadID]int{}
	}
	p.n[id]++
}

// doom keeps the upload from being pinned until spare, unless it is pinned.
func (p *pins) doom(id UploadID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n[id] > 0 {
		return false
	}
	if p.doomed == nil {
		p.doomed = map[UploadID]chan struct{}{}
	}
	p.doomed[id] = make(chan struct{})
	return true
}

// spare lets the upload be pinned again.
func (p *pins) spare(id UploadID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.doomed[id])
	delete(p.doomed, id)
}

func (p *pins) release(id UploadID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n[id]--; p.n[id] == 0 {
		delete(p.n, id)
	}
}

// settle releases an upload after an attempt to commit that ended with err. If it is
// not certain that no record names the upload it stays pinned as long as the store is
// open: what a record that takes effect late relies on must not be collected.
func (p *pins) settle(id UploadID, err error) {
	if !errors.Is(err, ErrUncertain) {
		p.release(id)
	}
}

// has reports whether anybody needs the upload.
func (p *pins) has(id UploadID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n[id] > 0
}
