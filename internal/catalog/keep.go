package catalog

import (
	"time"

	"github.com/blockframe/blockframe/store"
)

// Versions under retention or hold are kept: they are not purged, and stay under
// their name. The node of a name and every directory above it say how many holds
// there are below and when the last retention ends, so that moving a directory
// need not look at what is in it. A kept version can be neither dropped nor moved,
// with its directories neither: so those above it when a hold is lifted are those
// that counted it. What moves when a retention is over takes along an end that has
// passed, and that says nothing.

// retained refuses to touch a version that is under retention or hold.
func (t *tx) retained(name string, v *version) error {
	if v.hold {
		return refuse(ErrRetained, "%q version %d is on hold", name, v.number)
	}
	if left := v.retain - v.lag - t.meta.clock; v.retain != 0 && left > 0 {
		return refuse(ErrRetained, "%q version %d is retained until %s", name, v.number, date(nanoTime(v.retain)))
	}
	return nil
}

// kept refuses to touch a node when a version of it, or of anything below it, is
// under retention or hold.
func (t *tx) kept(name string, n *node) error {
	if n.holds > 0 {
		return refuse(ErrRetained, "%q: versions on hold: %d", name, n.holds)
	}
	if n.until != 0 && n.until > t.meta.clock {
		return refuse(ErrRetained, "%q: versions are retained until %s", name, date(nanoTime(t.now).Add(time.Duration(n.until-t.meta.clock))))
	}
	return nil
}

// date returns a time for people.
func date(t time.Time) string { return t.Format(time.RFC3339) }

// above changes a node and all directories that it lies in.
func (t *tx) above(inode uint64, change func(n *node)) {
	for n := t.node(inode); n != nil; n = t.node(n.parent) {
		change(n)
		t.saveNode(n)
		if n.inode == rootInode {
			return
		}
	}
}

// subject returns the version that Hold and Retain speak of.
func (t *tx) subject(name string, number uint64) (*version, error) {
	if err := CheckFound(name); err != nil {
		return nil, err
	}
	if number == 0 {
		n, err := t.live(name)
		if err != nil {
			return nil, err
		}
		if n.dir {
			return nil, invalid("%q is a directory", name)
		}
		return t.current(n), nil
	}
	_, v := t.find(name, number)
	if v == nil || v.deleted {
		return nil, notExist("%q has no version %d", name, number)
	}
	return v, nil
}

// hold sets or lifts a hold.
func (t *tx) hold(c *Hold) store.Result {
	v, err := t.subject(c.Name, c.Version)
	if err != nil || v == nil {
		return store.Result{Err: err}
	}
	changed := v.hold != c.On
	if changed {
		v.hold = c.On
		t.save(v.key(), v.encode())
		t.above(v.inode, func(n *node) {
			if c.On {
				n.holds++
			} else {
				n.holds--
			}
		})
	}
	return store.Result{Object: v.object(c.Name), Changed: changed}
}

// retain extends a retention. What is compared is when it ends on the retention
// clock, now and before.
func (t *tx) retain(c *Retain) store.Result {
	v, err := t.subject(c.Name, c.Version)
	if err != nil || v == nil {
		return store.Result{Err: err}
	}
	until, lag := c.Until.UnixNano(), t.now-t.meta.clock
	if v.retain != 0 && until-lag < v.retain-v.lag {
		return store.Result{Err: refuse(ErrRetained, "%q version %d is retained until %s, which is later", c.Name, v.number, date(nanoTime(v.retain)))}
	}
	changed := v.retain == 0 || until-lag > v.retain-v.lag
	if changed {
		v.retain, v.lag = until, lag
		t.save(v.key(), v.encode())
		t.above(v.inode, func(n *node) { n.until = max(n.until, until-lag) })
	}
	return store.Result{Object: v.object(c.Name), Changed: changed}
}
