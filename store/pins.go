package store

import (
	"errors"
	"sync"
)

// pins counts who in this process still needs an upload: puts under way and open
// readers. Collection leaves what is pinned alone.
type pins struct {
	mu sync.Mutex
	n  map[UploadID]int
}

func (p *pins) add(id UploadID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n == nil {
		p.n = map[UploadID]int{}
	}
	p.n[id]++
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
