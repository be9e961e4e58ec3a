package catalog

import (
	"context"

	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/store"
)

// BackendState is a step in the life of a backend: active, perhaps draining, and gone in
// the end.
type BackendState uint8

// The states of a backend.
const (
	BackendActive   BackendState = 0
	BackendDraining BackendState = 1 // nothing new is placed on it, and what it holds is moved away
	BackendRemoved  BackendState = 2 // it held nothing when it was taken off the store
	BackendLost     BackendState = 3 // it was taken off with what it held
)

// Gone reports whether the backend is one of the store no more. Its id stays known, so
// that it is recognised if it comes back.
func (s BackendState) Gone() bool { return s >= BackendRemoved }

// String returns the state in one word.
func (s BackendState) String() string {
	if int(s) < len(backendStates) {
		return backendStates[s]
	}
	return "unknown"
}

var backendStates = []string{"active", "draining", "removed", "lost"}

// AddBackend registers a backend. One that is registered is success; one that is gone is
// ErrConflict: what it holds may be of before.
type AddBackend struct{ Backend Backend }

// DrainBackend begins or, with On false, ends the draining of a backend. One that is not
// registered is fs.ErrNotExist, the last one that is active store.ErrTooFew.
type DrainBackend struct {
	ID store.BackendID
	On bool
}

// DropBackend takes a backend off the store. While a shard lies on it, or is to, that is
// ErrConflict unless Lost says that they are: then a row on the repair queue asks for
// them to be made anew on others. The last backend is fs.ErrInvalid, the last
// one that is active store.ErrTooFew, one that never was registered fs.ErrNotExist, one
// that is gone success.
type DropBackend struct {
	ID   store.BackendID
	Lost bool
}

// Numbers of these commands in the log.
const (
	KindAddBackend   store.CommandKind = 45
	KindDrainBackend store.CommandKind = 46
	KindDropBackend  store.CommandKind = 47
)

func (AddBackend) CommandKind() store.CommandKind   { return KindAddBackend }
func (DrainBackend) CommandKind() store.CommandKind { return KindDrainBackend }
func (DropBackend) CommandKind() store.CommandKind  { return KindDropBackend }

// encodeDisk appends the body of a command about one backend.
func encodeDisk(e *frame.Encoder, c store.Command) error {
	switch c := c.(type) {
	case AddBackend:
		return encodeBackends(e, &SetBackends{[]Backend{c.Backend}})
	case DrainBackend:
		e.Raw(c.ID[:])
		e.Bool(c.On)
		return knownID(c.ID)
	case DropBackend:
		e.Raw(c.ID[:])
		e.Bool(c.Lost)
		return knownID(c.ID)
	}
	return invalid("command kind %d", c.CommandKind())
}

func knownID(id store.BackendID) error {
	if id.IsZero() {
		return invalid("backend %v is zero", id)
	}
	return nil
}

// decodeDisk reads such a body, and returns nil for a kind that is not known.
func decodeDisk(kind store.CommandKind, d *frame.Decoder) store.Command {
	id := func() (id store.BackendID) {
		if id = d.ID(); id.IsZero() {
			d.Fail("backend %v is zero", id)
		}
		return id
	}
	switch kind {
	case KindAddBackend:
		c := decodeBackends(d)
		if len(c.Backends) != 1 {
			d.Fail("%d backends are added at once", len(c.Backends))
			return nil
		}
		return AddBackend{c.Backends[0]}
	case KindDrainBackend:
		return DrainBackend{ID: id(), On: d.Bool()}
	case KindDropBackend:
		return DropBackend{ID: id(), Lost: d.Bool()}
	}
	return nil
}

// Held is what the records say of a backend.
type Held struct {
	State   BackendState
	Shards  uint64 // that lie on it, or are to
	Missing uint64 // of these, not written yet
	Bytes   int64  // of the blocks of all of them
}

// held is the row of a backend, which need not be registered.
type held struct {
	id store.BackendID
	Held
}

func (r *rows) held(id store.BackendID) *held {
	h := &held{id: id}
	r.load(key(tHeld, id), h.decode)
	return h
}

func (h *held) decode(d *frame.Decoder) {
	h.State, h.Shards, h.Missing, h.Bytes = BackendState(d.U8()), d.U64(), d.U64(), d.I64()
}

func (t *tx) saveHeld(h *held) {
	if h.Held == (Held{}) {
		t.del(key(tHeld, h.id))
		return
	}
	var e frame.Encoder
	e.U8(uint8(h.State))
	e.U64(h.Shards)
	e.U64(h.Missing)
	e.I64(h.Bytes)
	t.set(key(tHeld, h.id), e.B)
}

// count adds shard i of an extent to what its backend holds, n times: -1 takes it away.
func (t *tx) count(x *store.Extent, i, n int) {
	s := x.Shards[i]
	h := t.held(s.Backend)
	h.Shards += uint64(n)
	if s.Missing {
		h.Missing += uint64(n)
	}
	h.Bytes += int64(n) * x.Geometry().ColumnLen(i)
	t.saveHeld(h)
}

func (t *tx) countAll(x *store.Extent, n int) {
	for i := range x.Shards {
		t.count(x, i, n)
	}
}

// here returns why the shards of a new extent cannot lie where its record says: one that
// was taken off the store meanwhile is written to by nobody who knew.
func (t *tx) here(x *store.Extent) error {
	for _, s := range x.Shards {
		if h := t.held(s.Backend); h.State.Gone() && !s.Missing {
			return refuse(ErrConflict, "extent %v: backend %v is %v", x.ID, s.Backend, h.State)
		}
	}
	return nil
}

// mayMove returns why shard i of an extent cannot move to another backend, nil if it can:
// see [store.Extent.MayMove].
func (t *tx) mayMove(x *store.Extent, i int, to store.BackendID) error {
	if h := t.held(to); h.State.Gone() {
		return refuse(ErrConflict, "extent %v: backend %v is %v", x.ID, to, h.State)
	}
	if !x.MayMove(i, to, nil, 0) && !x.MayMove(i, to, t.policies(), t.receivers()) {
		return invalid("extent %v: shard %d would come together with others on backend %v", x.ID, i, to)
	}
	return nil
}

// placeable returns how many backends there are that shards are placed on.
func (r *rows) placeable() (n int) {
	for _, b := range r.registered() {
		if b.State == BackendActive {
			n++
		}
	}
	return n
}

// receivers is what [store.Receivers] says of the backends that there are.
func (r *rows) receivers() int {
	draining := 0
	for _, b := range r.registered() {
		if b.State == BackendDraining {
			draining++
		}
	}
	return store.Receivers(r.placeable(), draining)
}

// registered returns the rows of backends that were ever registered, in their order.
func (r *rows) registered() (list []Backend) {
	for row := range r.scan(key(tBackend), nil) {
		var b Backend
		if r.decode(row.Key, row.Value, func(d *frame.Decoder) { b = Backend{ID: d.ID(), Path: d.String(maxPath)} }) {
			b.State = r.held(b.ID).State
			list = append(list, b)
		}
	}
	return list
}

// backend returns a registered backend with its place, and how many there are that are
// not gone; nil if it never was registered.
func (r *rows) backend(id store.BackendID) (b *Backend, at, active int) {
	list := r.registered()
	at = len(list)
	for i := range list {
		if !list[i].State.Gone() {
			active++
		}
		if list[i].ID == id {
			b, at = &list[i], i
		}
	}
	return b, at, active
}

func (t *tx) saveBackend(at int, b Backend) {
	var e frame.Encoder
	e.Raw(b.ID[:])
	e.String(b.Path)
	t.set(key(tBackend, uint32(at)), e.B)
}

// setBackends replaces the list of backends. Those that are gone stay known, behind it.
func (t *tx) setBackends(c *SetBackends) store.Result {
	given := map[store.BackendID]bool{}
	for _, b := range c.Backends {
		given[b.ID] = true
	}
	list := c.Backends
	for _, b := range t.registered() {
		switch {
		case given[b.ID]:
		case b.State.Gone():
			list = append(list[:len(list):len(list)], b)
		case b.State == BackendDraining: // it is not of the store any more
			h := t.held(b.ID)
			h.State = BackendActive
			t.saveHeld(h)
		}
	}
	for row := range t.scan(key(tBackend), nil) {
		t.del(row.Key)
	}
	for i, b := range list {
		t.saveBackend(i, b)
	}
	return store.Result{Changed: true}
}

func (t *tx) addBackend(c *AddBackend) store.Result {
	b, at, _ := t.backend(c.Backend.ID)
	switch {
	case b != nil && b.State.Gone():
		return store.Result{Err: refuse(ErrConflict, "backend %v is %v", b.ID, b.State)}
	case b != nil && b.Path == c.Backend.Path:
		return store.Result{}
	}
	t.saveBackend(at, c.Backend)
	return store.Result{Changed: true}
}

func (t *tx) drainBackend(c *DrainBackend) store.Result {
	b, _, _ := t.backend(c.ID)
	if b == nil || b.State.Gone() {
		return store.Result{Err: notExist("backend %v", c.ID)}
	}
	want := BackendActive
	if c.On {
		want = BackendDraining
	}
	h := t.held(c.ID)
	if h.State == want {
		return store.Result{}
	}
	if c.On && t.placeable() == 1 {
		return store.Result{Err: lastActive(c.ID)}
	}
	h.State = want
	t.saveHeld(h)
	return store.Result{Changed: true}
}

func (t *tx) dropBackend(c *DropBackend) store.Result {
	b, _, active := t.backend(c.ID)
	switch {
	case b == nil:
		return store.Result{Err: notExist("backend %v", c.ID)}
	case b.State.Gone():
		return store.Result{}
	case active == 1:
		return store.Result{Err: invalid("backend %v is the last one", c.ID)}
	case b.State == BackendActive && t.placeable() == 1:
		return store.Result{Err: lastActive(c.ID)}
	}
	h := t.held(c.ID)
	t.dequeue(store.ExtentID{}, 0, c.ID) // that it is absent
	switch {
	case h.Shards == 0 && !c.Lost:
		h.State = BackendRemoved
	case !c.Lost:
		return store.Result{Err: refuse(ErrConflict, "backend %v holds %d shards, %d of them not written yet", c.ID, h.Shards, h.Missing)}
	default:
		h.State = BackendLost
		if h.Shards > 0 {
			t.enqueue(store.ExtentID{}, 0, c.ID, 0, nil)
		}
	}
	t.saveHeld(h)
	return store.Result{Changed: true}
}

// lastActive refuses to leave no backend that shards can be placed on.
func lastActive(id store.BackendID) error {
	return refuse(store.ErrTooFew, "backend %v is the last one that takes anything: all others are draining", id)
}

// absent reports whether the absence of a backend is news for the repair queue: what is
// gone has nothing to wait for, unless it was lost with what it held.
func (t *tx) absent(id store.BackendID) bool {
	h := t.held(id)
	return !h.State.Gone() || h.State == BackendLost && h.Shards > 0
}

// Backends returns the backends in the order they were registered, those that are gone
// included.
func (c *Catalog) Backends(ctx context.Context) (out []Backend, err error) {
	err = c.readState(ctx, func(r *rows) error { out = r.registered(); return nil })
	return out, err
}

// Held returns what the records say of a backend, the zero Held of one that is not known.
func (c *Catalog) Held(ctx context.Context, id store.BackendID) (out Held, err error) {
	err = c.read(ctx, func(r *rows) error { out = r.held(id).Held; return nil })
	return out, err
}
