package catalog

import (
	"fmt"
	"io/fs"
	"math"
	"strings"

	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/store"
)

// adoptExtent records an extent that was found, or the shards of it that were.
func (t *tx) adoptExtent(x *store.Extent) store.Result {
	if old := t.extent(x.ID); old != nil {
		return t.rejoin(old, x)
	}
	u, changed, err := t.addExtentOf(x, true)
	if err != nil {
		return store.Result{Err: err}
	}
	t.set(adoptingRow(u.id), []byte{1})
	return store.Result{Changed: changed}
}

// rejoin takes the shards that were missing and are there, and the new places of those
// that still are.
func (t *tx) rejoin(old, x *store.Extent) (res store.Result) {
	u := t.upload(old.Upload)
	if u == nil || !sameExtent(old, x) {
		return store.Result{Err: refuse(ErrConflict, "extent %v is another one", x.ID)}
	}
	if u.state == store.UploadDead {
		return store.Result{Err: refuse(ErrExpired, "upload %v is dead", u.id)}
	}
	for i, to := range x.Shards {
		if h := t.held(to.Backend); h.State.Gone() && takes(old.Shards[i], to) {
			return store.Result{Err: refuse(ErrConflict, "extent %v: backend %v is %v", x.ID, to.Backend, h.State)}
		}
	}
	for i, to := range x.Shards {
		s := &old.Shards[i]
		if !takes(*s, to) {
			continue
		}
		t.count(old, i, -1)
		if to.Missing {
			s.Backend = to.Backend
		} else {
			t.found(u, s)
			*s = to
			t.dequeue(old.ID, uint8(i), store.BackendID{})
		}
		t.count(old, i, 1)
		res.Changed = true
	}
	if res.Changed {
		t.set(key(tExtent, old.ID), encodedExtent(old))
	}
	return res
}

// takes reports whether a shard that is missing is found, or is to lie elsewhere.
func takes(old, found store.Shard) bool {
	return old.Missing && (!found.Missing || !found.Backend.IsZero() && old.Backend != found.Backend)
}

func adoptingRow(id store.UploadID) []byte { return key(tState, store.AdoptingKey(id)) }

// adopt gives an object that was found a name.
func (t *tx) adopt(c *store.Adopt) store.Result {
	if err := checkLost(c.Name); err != nil {
		return store.Result{Err: err}
	}
	p := &store.Put{Name: c.Name, Attr: c.Attr, Policy: c.Policy, ID: c.ID, Size: c.Size, Upload: c.Upload, Offset: c.Offset}
	u := t.upload(c.Upload)
	if u == nil || u.state == store.UploadDead {
		return store.Result{Err: refuse(ErrExpired, "adopt %q: upload %v is dead or not recorded", c.Name, c.Upload)}
	}
	own, err := t.own(p, u)
	if err == nil && u.kind == store.KindObject && (c.Offset != 0 || c.Size != u.length) {
		err = invalid("adopt %q: bytes [%d, %d) of an object of %d", c.Name, c.Offset, c.Offset+c.Size, u.length)
	}
	if err != nil {
		return store.Result{Err: err}
	}
	k := t.content(c.ID)
	if k != nil && k.size != c.Size {
		return store.Result{Err: invalid("adopt %q: content %v has %d bytes, not %d", c.Name, c.ID, k.size, c.Size)}
	}
	p.Code = own.code
	n := t.walk(c.Name)
	if cur := t.current(n); n != nil && (cur == nil || !t.same(cur, p)) {
		return store.Result{Err: refuse(fs.ErrExist, "%q", c.Name)}
	}
	return t.store(p, n, t.current(n), k, own)
}

// checkLost returns nil for a name that an Adopt may give.
func checkLost(name string) error {
	if err := checkAny(name); err != nil {
		return err
	}
	if !strings.HasPrefix(name, store.LostFound+"/") {
		return invalid("name %q: what was found goes below %s", name, store.LostFound)
	}
	return nil
}

// adopted ends an adoption.
func (t *tx) adopted(id store.UploadID) store.Result {
	row := adoptingRow(id)
	if _, ok := t.get(row); !ok {
		return store.Result{}
	}
	t.del(row)
	if u := t.upload(id); u != nil && u.state == store.UploadOpen {
		t.turn(u, store.UploadCondemned)
		u.until = t.now + min(int64(t.meta.grace), math.MaxInt64-t.now)
		t.saveUpload(u)
	}
	return store.Result{Changed: true}
}

// raiseEpoch lets no epoch be older than one that blobs were written in.
func (t *tx) raiseEpoch(epoch uint64) store.Result {
	if epoch <= t.meta.epoch {
		return store.Result{Number: t.meta.epoch}
	}
	t.meta.epoch = epoch
	return store.Result{Changed: true, Number: epoch}
}

// encodeAdoption appends the body of a command of these.
func encodeAdoption(e *frame.Encoder, c store.Command) (known bool, err error) {
	switch c := c.(type) {
	case store.AdoptExtent:
		return true, encodeFound(e, &c.Extent)
	case store.Adopt:
		return true, encodeAdopt(e, &c)
	case store.Adopted:
		e.Raw(c.Upload[:])
	case store.RaiseEpoch:
		if c.Epoch > store.MaxEpoch {
			return true, invalid("epoch %d", c.Epoch)
		}
		e.U64(c.Epoch)
	default:
		return false, nil
	}
	return true, nil
}

// decodeAdoption reads such a body, and returns nil for a kind that is none of these.
func decodeAdoption(kind store.CommandKind, d *frame.Decoder) store.Command {
	switch kind {
	case store.KindAdoptExtent:
		return store.AdoptExtent{Extent: decodeFound(d)}
	case store.KindAdopt:
		return decodeAdopt(d)
	case store.KindAdopted:
		return store.Adopted{Upload: d.ID()}
	case store.KindRaiseEpoch:
		c := store.RaiseEpoch{Epoch: d.U64()}
		if c.Epoch > store.MaxEpoch {
			d.Fail("epoch %d", c.Epoch)
		}
		return c
	}
	return nil
}

func encodeAdopt(e *frame.Encoder, c *store.Adopt) error {
	if err := checkAdopt(c); err != nil {
		return err
	}
	e.String(c.Name)
	if err := encodeAttr(e, &c.Attr); err != nil {
		return err
	}
	e.String(c.Policy)
	e.Raw(c.ID[:])
	e.I64(c.Size)
	e.Raw(c.Upload[:])
	e.I64(c.Offset)
	return nil
}

func decodeAdopt(d *frame.Decoder) (c store.Adopt) {
	c.Name, c.Attr, c.Policy = d.String(store.MaxName), decodeAttr(d), d.String(store.MaxComponent)
	c.ID, c.Size, c.Upload, c.Offset = d.Hash(), d.I64(), d.ID(), d.I64()
	if d.Err() == nil {
		if err := checkAdopt(&c); err != nil {
			d.Fail("%v", err)
		}
	}
	return c
}

// checkAdopt holds what can be said without looking at any row.
func checkAdopt(c *store.Adopt) error {
	switch {
	case len(c.Name) > store.MaxName:
		return invalid("name of %d bytes, at most %d", len(c.Name), store.MaxName)
	case len(c.Policy) > store.MaxComponent || !clean(c.Policy):
		return invalid("policy name %q", c.Policy)
	case c.Attr.Mode&^attrModes != 0 || c.Attr.Target != "":
		return invalid("adopt %q: mode %v is not that of a file", c.Name, c.Attr.Mode)
	case c.Upload.IsZero():
		return invalid("adopt %q: no upload id", c.Name)
	case c.Size < 1 || c.Offset < 0 || c.Size > 1<<61 || c.Offset > 1<<61:
		return invalid("adopt %q: size %d at offset %d", c.Name, c.Size, c.Offset)
	}
	return nil
}

// enough refuses an extent of which too few shards are durable. Fewer than K+1 could
// not lose a single one: no put is acknowledged so. What was found may have K.
func enough(x *store.Extent) error {
	present := 0
	for _, s := range x.Shards {
		if !s.Missing {
			present++
		}
	}
	if present <= x.Code.K {
		return invalid("extent %v: %s", x.ID, fmt.Sprintf("%d shards of a %v code are durable, want at least %d", present, x.Code, x.Code.K+1))
	}
	return nil
}
