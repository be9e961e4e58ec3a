package kv

import (
	"bytes"
	"iter"
	"slices"
)

// Overlay holds changes over another Reader until they are merged into a Writer
// or forgotten: a savepoint. A Get is one look into a map and one below; a Scan
// sorts the keys that changed within its range. It is used by one goroutine at a
// time.
type Overlay struct {
	below Reader
	rows  map[string]change
	order []string // the keys of rows, by first change
	size  int
}

type change struct {
	value   []byte
	deleted bool
}

// NewOverlay returns an Overlay without changes over below.
func NewOverlay(below Reader) *Overlay {
	return &Overlay{below: below, rows: map[string]change{}}
}

// Get returns a copy of the value under key, and whether there is one.
func (o *Overlay) Get(key []byte) ([]byte, bool, error) {
	if c, ok := o.rows[string(key)]; ok {
		if c.deleted {
			return nil, false, nil
		}
		return slices.Clone(c.value), true, nil
	}
	return o.below.Get(key)
}

// Set gives key the value. Both are copied.
func (o *Overlay) Set(key, value []byte) error {
	o.put(key, change{value: append([]byte{}, value...)})
	return nil
}

// Delete removes key, if it is there.
func (o *Overlay) Delete(key []byte) error {
	o.put(key, change{deleted: true})
	return nil
}

func (o *Overlay) put(key []byte, c change) {
	o.size += len(key) + len(c.value)
	if _, known := o.rows[string(key)]; known {
		o.rows[string(key)] = c
		return
	}
	o.add(string(key), c)
}

func (o *Overlay) add(key string, c change) {
	o.rows[key] = c
	o.order = append(o.order, key)
}

// Keep gives key the value, or removes it, without copying the value: it belongs to o
// from here on.
func (o *Overlay) Keep(key string, value []byte, deleted bool) error {
	o.size += len(key) + len(value)
	c := change{value: value, deleted: deleted}
	if _, known := o.rows[key]; known {
		o.rows[key] = c
		return nil
	}
	o.add(key, c)
	return nil
}

// Keeper is a Writer that takes values over.
type Keeper interface {
	Keep(key string, value []byte, deleted bool) error
}

// Len returns about how many bytes the changes take.
func (o *Overlay) Len() int { return o.size }

// Merge makes the changes on w, in the order in which their keys were first
// changed, and empties o. A Keeper is handed the values.
func (o *Overlay) Merge(w Writer) error {
	k, keeps := w.(Keeper)
	for _, key := range o.order {
		c := o.rows[key]
		var err error
		switch {
		case keeps:
			err = k.Keep(key, c.value, c.deleted)
		case c.deleted:
			err = w.Delete([]byte(key))
		default:
			err = w.Set([]byte(key), c.value)
		}
		if err != nil {
			return err
		}
	}
	o.Forget()
	return nil
}

// Forget drops the changes.
func (o *Overlay) Forget() {
	clear(o.rows)
	o.order, o.size = o.order[:0], 0
}

// Scan yields the rows whose keys lie in [lo, hi), in order. Changes made
// meanwhile may or may not be seen.
func (o *Overlay) Scan(lo, hi []byte) iter.Seq2[KV, error] {
	return func(yield func(KV, error) bool) {
		keys := o.keys(lo, hi)
		for row, err := range o.below.Scan(lo, hi) {
			if err != nil {
				yield(KV{}, err)
				return
			}
			for len(keys) > 0 && keys[0] < string(row.Key) {
				if !o.emit(keys[0], yield) {
					return
				}
				keys = keys[1:]
			}
			if len(keys) > 0 && keys[0] == string(row.Key) {
				continue // what is above hides it, and is emitted next
			}
			if !yield(row, nil) {
				return
			}
		}
		for _, key := range keys {
			if !o.emit(key, yield) {
				return
			}
		}
	}
}

// keys returns the changed keys in [lo, hi), sorted.
func (o *Overlay) keys(lo, hi []byte) []string {
	var keys []string
	for _, key := range o.order {
		k := []byte(key)
		if bytes.Compare(k, lo) >= 0 && (hi == nil || bytes.Compare(k, hi) < 0) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// emit yields the change under key, unless it is a deletion.
func (o *Overlay) emit(key string, yield func(KV, error) bool) bool {
	c, ok := o.rows[key]
	if !ok || c.deleted {
		return true
	}
	return yield(KV{[]byte(key), c.value}, nil)
}
