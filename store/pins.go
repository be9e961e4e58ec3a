package store

import "sync"

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

// has reports whether anybody needs the upload.
func (p *pins) has(id UploadID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n[id] > 0
}
