package catalog

import (
	"bytes"

	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/store"
)

// setState keeps a small value.
func (t *tx) setState(c *store.SetState) store.Result {
	if c.Key == "" {
		return store.Result{Err: invalid("empty state key")}
	}
	k := key(tState, c.Key)
	old, had := t.get(k)
	switch {
	case len(c.Value) == 0 && !had, had && bytes.Equal(old, c.Value):
		return store.Result{}
	case len(c.Value) == 0:
		t.del(k)
	default:
		t.set(k, c.Value)
	}
	return store.Result{Changed: true}
}

// scrubbed keeps the last finished pass of its kind.
func (t *tx) scrubbed(c *store.Scrubbed) store.Result {
	var e frame.Encoder
	encodeScrubbed(&e, c)
	t.set(scrubbedKey(c.Deep), e.B)
	return store.Result{Changed: true}
}

func scrubbedKey(deep bool) []byte {
	if deep {
		return key(tScrubbed, byte(1))
	}
	return key(tScrubbed, byte(0))
}

// setPolicy adds or replaces a policy. Rows sort by prefix, then size.
func (t *tx) setPolicy(p *store.Policy) store.Result {
	var e frame.Encoder
	must(encodePolicy(&e, p))
	k := key(tPolicy, p.Prefix, byte(0), uint64(p.MaxSize))
	if old, had := t.get(k); had && bytes.Equal(old, e.B) {
		return store.Result{}
	}
	t.set(k, e.B)
	return store.Result{Changed: true}
}

func (t *tx) unsetPolicy(prefix string) (res store.Result) {
	for row := range t.scan(key(tPolicy, prefix, byte(0)), nil) {
		t.del(row.Key)
		res.Changed = true
	}
	return res
}
