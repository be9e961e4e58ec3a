package catalog

import (
	"math"
	"slices"

	"github.com/blockframe/blockframe/store"
)

// addExtent records an extent under its upload, which it makes if it is the
// first, and returns the upload. An extent that is recorded already is success.
// When it is refused, nothing has changed.
func (t *tx) addExtent(x *store.Extent) (*upload, bool, error) { return t.addExtentOf(x, false) }

// addExtentOf is addExtent. An extent that was found may begin an upload of an earlier
// epoch.
func (t *tx) addExtentOf(x *store.Extent, found bool) (*upload, bool, error) {
	u := t.upload(x.Upload)
	if old := t.extent(x.ID); old != nil {
		if u == nil || !sameExtent(old, x) {
			return nil, false, refuse(ErrConflict, "extent %v is another one", x.ID)
		}
		if u.state == store.UploadDead {
			return nil, false, refuse(ErrExpired, "upload %v is dead", u.id)
		}
		return u, false, nil
	}
	err := t.here(x)
	if err == nil {
		u, err = t.extend(u, x, found)
	}
	if err != nil {
		return nil, false, err
	}
	if u.extents == 0 {
		t.meta.counts.Uploads[u.state]++
	}
	u.extents++
	u.length += x.Length
	t.set(key(tExtent, x.ID), encodedExtent(x))
	t.set(key(tOrdinal, x.Upload, uint32(x.Ordinal)), x.ID[:])
	t.meta.counts.Extents++
	t.queueMissing(u, x)
	t.countAll(x, 1)
	t.saveUpload(u)
	return u, true, nil
}

// sameExtent reports whether two records are of one extent: all but the place of
// its shards, which changes as they are repaired.
func sameExtent(a, b *store.Extent) bool {
	c, d := *a, *b
	c.Shards, d.Shards = nil, nil
	return slices.Equal(encodeFixed(&c, a), encodeFixed(&d, b))
}

// encodeFixed encodes x with shards in place that pass every check.
func encodeFixed(x, of *store.Extent) []byte {
	x.Shards = make([]store.Shard, len(of.Shards))
	for i := range x.Shards {
		x.Shards[i].Backend = store.BackendID{1}
	}
	return encodedExtent(x)
}

// extend returns the upload that x is the next extent of.
func (t *tx) extend(u *upload, x *store.Extent, found bool) (*upload, error) {
	switch {
	case x.Epoch > t.meta.epoch:
		return nil, invalid("extent %v is of epoch %d, the newest is %d", x.ID, x.Epoch, t.meta.epoch)
	case u == nil && x.Epoch < t.meta.epoch && !found:
		return nil, refuse(ErrExpired, "upload %v began in epoch %d, now is %d", x.Upload, x.Epoch, t.meta.epoch)
	case u == nil && t.isForgotten(x):
		return nil, refuse(ErrExpired, "upload %v was forgotten", x.Upload)
	case u == nil && x.Ordinal != 0:
		return nil, refuse(ErrExpired, "upload %v has no extents before ordinal %d", x.Upload, x.Ordinal)
	case u == nil:
		u = &upload{id: x.Upload, state: store.UploadOpen, kind: x.Kind, epoch: x.Epoch}
	case u.state == store.UploadDead:
		return nil, refuse(ErrExpired, "upload %v is dead", u.id)
	case u.state == store.UploadLive:
		return nil, refuse(ErrConflict, "upload %v was put already", u.id)
	}
	if x.Epoch != u.epoch || x.Kind != u.kind {
		return nil, invalid("extent %v: epoch %d and kind %d in an upload of epoch %d and kind %d", x.ID, x.Epoch, x.Kind, u.epoch, u.kind)
	}
	if x.Ordinal != int(u.extents) || x.Offset != u.length {
		return nil, invalid("extent %v: ordinal %d at offset %d, want %d at %d", x.ID, x.Ordinal, x.Offset, u.extents, u.length)
	}
	if u.extents > 0 && t.isWhole(u) {
		return nil, invalid("extent %v follows one that is the whole stream", x.ID)
	}
	return u, nil
}

func (t *tx) isWhole(u *upload) bool {
	x := t.extentAt(u.id, 0)
	return x != nil && x.Whole
}

// extentAt returns the extent of an upload with that ordinal, or nil.
func (r *rows) extentAt(id store.UploadID, ordinal uint32) *store.Extent {
	v, ok := r.get(key(tOrdinal, id, ordinal))
	if !ok || len(v) != len(store.ExtentID{}) {
		return nil
	}
	return r.extent(store.ExtentID(v))
}

// saveUpload writes the row.
func (t *tx) saveUpload(u *upload) { t.save(uploadKey(u.id), u.encode()) }

// turn changes the state of an upload, without writing the row.
func (t *tx) turn(u *upload, state store.UploadState) {
	t.meta.counts.Uploads[u.state]--
	t.meta.counts.Uploads[state]++
	u.state = state
}

// gain adds a content that is referred to.
func (t *tx) gain(id store.UploadID) {
	u := t.upload(id)
	if u == nil {
		return
	}
	u.refs++
	t.turn(u, store.UploadLive)
	u.until = 0
	t.saveUpload(u)
}

// lose takes one away. The last one condemns the upload.
func (t *tx) lose(id store.UploadID) {
	u := t.upload(id)
	if u == nil {
		return
	}
	u.refs--
	if u.refs == 0 {
		t.turn(u, store.UploadCondemned)
		u.until = t.now + min(int64(t.meta.grace), math.MaxInt64-t.now) // a long grace has no end
	}
	t.saveUpload(u)
}

// settle condemns an upload that a put named, or that none will, and that holds nothing that is
// referred to. As nothing ever was, nothing is to be revived: it may be killed at
// once. It reports whether the upload was open.
func (t *tx) settle(id store.UploadID) bool {
	u := t.upload(id)
	if u == nil || u.state != store.UploadOpen {
		return false
	}
	t.turn(u, store.UploadCondemned)
	u.until = t.now
	t.saveUpload(u)
	return true
}

// kill declares an upload dead, if it may be. The contents in it that nothing
// refers to are gone with this: they cannot be revived any more.
func (t *tx) kill(id store.UploadID) store.Result {
	u := t.upload(id)
	if u == nil {
		return store.Result{Err: notExist("upload %v", id)}
	}
	if _, adopting := t.get(adoptingRow(id)); adopting {
		return store.Result{} // a rebuild was cut off: the next one goes on with it
	}
	switch u.state {
	case store.UploadDead:
		return store.Result{Changed: true}
	case store.UploadCondemned:
		if t.now < u.until {
			return store.Result{}
		}
	case store.UploadOpen:
		if u.epoch >= t.meta.epoch {
			return store.Result{}
		}
	default:
		return store.Result{}
	}
	t.turn(u, store.UploadDead)
	t.unmark(id)
	u.until = 0
	prefix := key(tPlace, id)
	for row := range t.scan(prefix, nil) {
		t.dropContent(store.ID(row.Key[len(row.Key)-len(store.ID{}):]))
		t.del(row.Key)
	}
	for i := range u.extents {
		if x := t.extentAt(id, i); x != nil {
			t.unqueueAll(x)
			t.countAll(x, -1)
		}
	}
	t.saveUpload(u)
	return store.Result{Changed: true}
}

// forgetOld is how many rows of forgotten uploads are dropped at once, at most.
const forgetOld = 256

// forget drops the rows of a dead upload. While its epoch lasts, a row says that it
// was: a record that was under way could make it again, without its blobs. An upload
// of an earlier epoch is not made.
func (t *tx) forget(id store.UploadID) store.Result {
	u := t.upload(id)
	if u == nil {
		return store.Result{}
	}
	if u.state != store.UploadDead {
		return store.Result{Err: refuse(ErrConflict, "upload %v is not dead", id)}
	}
	for row := range t.scan(key(tOrdinal, id), nil) {
		t.del(key(tExtent, string(row.Value)))
		t.del(row.Key)
		t.meta.counts.Extents--
	}
	t.del(key(tUpload, id))
	t.meta.counts.Uploads[u.state]--
	if u.epoch >= t.meta.epoch {
		t.setFlag(key(tForgotten, u.epoch, id))
	}
	t.forgetEpochs()
	return store.Result{Changed: true}
}

// isForgotten reports whether the upload of an extent was forgotten in its epoch.
func (t *tx) isForgotten(x *store.Extent) bool {
	_, ok := t.get(key(tForgotten, x.Epoch, x.Upload))
	return ok
}

// forgetEpochs drops some of the rows that forgotten uploads of earlier epochs left.
func (t *tx) forgetEpochs() {
	n := 0
	for row := range t.scan(key(tForgotten), nil) {
		if n++; n > forgetOld || be64(row.Key[1:9]) >= t.meta.epoch {
			return
		}
		t.del(row.Key)
	}
}
