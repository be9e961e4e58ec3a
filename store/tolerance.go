package store

import (
	"context"
	"slices"
)

// Degraded is a version of an object that can lose fewer shards than its code
// provides for, after all that a scrub repaired.
type Degraded struct {
	Name    string
	Version uint64
	Left    int // shards, any of them, that it can still lose; -1: some of it is lost
}

// tolerances gathers what objects can still lose, the least of all their stripes.
type tolerances struct {
	list []Degraded
	at   map[tolerated]int // place in list
	more int64
}

type tolerated struct {
	inode, version uint64
}

// resume begins with what an earlier process found. The versions are not known any more by
// what tells them apart, so one of them may be listed again.
func (t *tolerances) resume(list []Degraded, more int64) { t.list, t.more = slices.Clone(list), more }

// note takes note of what a version can still lose in one extent.
func (t *tolerances) note(o *Object, left int) {
	key := tolerated{o.Inode, o.Version}
	if i, ok := t.at[key]; ok {
		t.list[i].Left = min(t.list[i].Left, left)
		return
	}
	if len(t.list) == maxLost {
		t.more++
		return
	}
	if t.at == nil {
		t.at = map[tolerated]int{}
	}
	t.at[key] = len(t.list)
	t.list = append(t.list, Degraded{Name: o.Name, Version: o.Version, Left: left})
}

// degraded takes note of the objects in an extent some of whose shards are still
// not in order: those of which stripes lack blocks.
func (c *scrub) degraded(ctx context.Context, x *handle, states []shardState) error {
	left := make([]int, x.g.Stripes())
	worst := x.e.Code.M
	for s := range left {
		left[s] = x.e.Code.M
		for i := range states {
			if x.g.ShardBlockLen(i, s) > 0 && (states[i].gone || hasBit(states[i].bad, s)) {
				left[s]--
			}
		}
		worst = min(worst, left[s])
	}
	if worst == x.e.Code.M {
		return nil
	}
	return c.eachOwner(ctx, &x.e, func(o Owner, lo, hi int64) {
		least := x.e.Code.M
		for s := x.g.Stripe(x.g.Block(lo)); s <= x.g.Stripe(x.g.Block(hi-1)); s++ {
			least = min(least, max(left[s], -1))
		}
		if least < x.e.Code.M {
			c.tolerances.note(&o.Object, least)
		}
	})
}

// eachOwner calls f for the versions that have bytes in an extent, with the part
// [lo, hi) of it that is theirs.
func (c *scrub) eachOwner(ctx context.Context, e *Extent, f func(o Owner, lo, hi int64)) error {
	for o, err := range c.s.cat.Owners(ctx, e.Upload, e.Offset, e.Offset+e.Length) {
		if err != nil {
			return err
		}
		lo, hi := max(o.Offset-e.Offset, 0), min(o.Offset+o.Object.Size-e.Offset, e.Length)
		if lo < hi {
			f(o, lo, hi)
		}
	}
	return nil
}
