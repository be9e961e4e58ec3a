package store

import (
	"context"
	"time"
)

const (
	tendEvery  = time.Minute // between looks whether there is anything to do
	tendRarely = time.Hour   // between tries of what fails
)

// tender does by itself, one thing after the other, what need not be done soon: it reshapes
// what was put in a narrower code, once backends are back.
type tender struct {
	s    *Store
	pace *pacer

	again time.Time     // a reshaping that failed is not tried before
	wait  time.Duration // the next time that it fails
}

// run looks now and then until the store closes.
func (t *tender) run() {
	ctx := t.s.ctx
	if pause(ctx, t.s.opts.Upkeep.After) != nil {
		return
	}
	for {
		if t.s.writable() == nil {
			t.reshape(ctx)
		}
		if pause(ctx, tendEvery) != nil {
			return
		}
	}
}

// reshape reshapes what is marked, if there is anything. To look costs one row.
func (t *tender) reshape(ctx context.Context) {
	if t.s.opts.Upkeep.NoReshape || time.Now().Before(t.again) || !t.marked(ctx) {
		return
	}
	rep, err := t.s.reshape(ctx, ReshapeOptions{}, t.pace)
	if rep.Moved > 0 {
		t.s.log.Info("contents are in the code of their policy again", "contents", rep.Moved, "bytes", rep.Bytes, "waiting", rep.Waiting)
	}
	if err == nil && rep.Waiting == 0 {
		t.wait = 0
		return
	}
	if err != nil && ctx.Err() == nil {
		t.s.log.Warn("contents stay in a narrower code for now", "err", err)
	}
	t.wait = min(max(tendEvery, 2*t.wait), tendRarely)
	t.again = time.Now().Add(t.wait)
}

// marked reports whether any upload is marked as narrow.
func (t *tender) marked(ctx context.Context) bool {
	for _, err := range t.s.cat.Narrow(ctx) {
		return err == nil
	}
	return false
}
