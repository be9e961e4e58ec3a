package store

import (
	"context"
	"time"
)

const (
	tendEvery    = time.Minute      // between looks whether there is anything to do
	tendRarely   = time.Hour        // between tries of what fails
	compactEvery = 24 * time.Hour   // between compactions at most: an index is read for one
	compactSoon  = 10 * time.Minute // between them at least
	compactFirst = 10               // times Upkeep.After from the opening to the first
)

// tender does by itself, one thing after the other, what need not be done soon. It reshapes
// what was put in a narrower code, once backends are back. It compacts when enough small
// packs were written, or versions purged, and now and then in any case.
type tender struct {
	s    *Store
	pace *pacer

	reshaping, compacting retry
	opened                time.Time
	compacted             time.Time // zero: not since the store was opened
}

// retry says when something that failed is tried again.
type retry struct {
	at   time.Time
	wait time.Duration
}

// due reports whether it may be tried.
func (r *retry) due() bool { return !time.Now().Before(r.at) }

// ended takes note of how a try ended.
func (r *retry) ended(ok bool) {
	if ok {
		*r = retry{}
		return
	}
	r.wait = min(max(tendEvery, 2*r.wait), tendRarely)
	r.at = time.Now().Add(r.wait)
}

// run looks now and then until the store closes.
func (t *tender) run() {
	ctx, after := t.s.ctx, t.s.opts.Upkeep.After
	t.opened = time.Now()
	if pause(ctx, after) != nil {
		return
	}
	for {
		if t.s.writable() == nil {
			t.reshape(ctx)
			t.compact(ctx)
		}
		if pause(ctx, min(tendEvery, max(after, time.Second))) != nil {
			return
		}
	}
}

// reshape reshapes what is marked, if there is anything. To look costs one row. Marks of which
// none moves are looked at ever more rarely.
func (t *tender) reshape(ctx context.Context) {
	if t.s.opts.Upkeep.NoReshape || !t.reshaping.due() || !t.marked(ctx) {
		return
	}
	rep, err := t.s.reshape(ctx, ReshapeOptions{}, t.pace)
	if rep.Moved > 0 {
		t.s.log.Info("contents are in the code of their policy again", "contents", rep.Moved, "bytes", rep.Bytes, "waiting", rep.Waiting)
	}
	if err != nil && ctx.Err() == nil {
		t.s.log.Warn("contents stay in a narrower code for now", "err", err)
	}
	t.reshaping.ended(err == nil && rep.Waiting == 0 && rep.Moved > 0)
}

// marked reports whether any upload is marked as narrow.
func (t *tender) marked(ctx context.Context) bool {
	for _, err := range t.s.cat.Narrow(ctx, UploadID{}) {
		return err == nil
	}
	return false
}

// compact compacts if that may be worth it. Between two of them nothing is read for it.
func (t *tender) compact(ctx context.Context) {
	if t.s.opts.Upkeep.NoCompact || !t.compacting.due() || !t.worth(time.Now()) {
		return
	}
	t.s.churn.forget() // what comes meanwhile counts for the next one
	rep, err := t.s.compact(ctx, CompactOptions{}, t.pace)
	t.compacting.ended(err == nil)
	if err != nil {
		if ctx.Err() == nil {
			t.s.log.Warn("packs stay as they are for now", "err", err)
		}
		return
	}
	t.compacted = time.Now()
	t.s.stats.compactions.Add(1)
	if rep.Contents > 0 {
		t.s.log.Info("packs were put together", "packs", rep.Emptied, "into", rep.Written, "contents", rep.Contents, "bytes", rep.Moved)
	}
}

// worth reports whether a compaction is to be run. One that failed is, until it succeeded.
func (t *tender) worth(now time.Time) bool {
	switch {
	case t.compacting.wait > 0:
		return true
	case t.compacted.IsZero():
		return t.s.churn.enough() || now.Sub(t.opened) >= compactFirst*t.s.opts.Upkeep.After
	}
	since := now.Sub(t.compacted)
	return since >= compactEvery || since >= compactSoon && t.s.churn.enough()
}
