package catalog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/blockframe/blockframe/internal/kv"
	"github.com/blockframe/blockframe/store"
)

// defaultGrace is how long an unreferenced upload stays revivable, unless a
// SetGrace said otherwise.
const defaultGrace = 7 * 24 * time.Hour

// catchUp is how far the retention clock follows the log time from one
// incarnation of the sequencer to the next, at most.
const catchUp = 24 * time.Hour

// tx applies one command, or the effects of one record. It decides from rows,
// and writes into an overlay that is merged below or forgotten as a whole.
type tx struct {
	rows
	w     *kv.Overlay
	meta  *meta
	index uint64 // of the record
	seq   uint32 // of the command in it
	now   int64  // log time
}

func (t *tx) set(key, value []byte) { t.fail2(t.w.Set(key, value)) }

// save is set for a value that nobody else has.
func (t *tx) save(key, value []byte) { t.fail2(t.w.Keep(string(key), value, false)) }

func (t *tx) del(key []byte) { t.fail2(t.w.Delete(key)) }

func (t *tx) fail2(err error) {
	if err != nil {
		t.fail(err)
	}
}

// setFlag writes a row that says all by its key.
func (t *tx) setFlag(key []byte) { t.set(key, nil) }

func be64(b []byte) uint64 {
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

func be64s(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// machine applies records to what is pending, one behind the other.
type machine struct {
	view *pending
	meta *meta
	sets []RowSet
}

// newMeta is the state of a catalog without records.
func newMeta(storeID [16]byte) *meta {
	return &meta{storeID: storeID, nextInode: rootInode + 1, grace: defaultGrace}
}

// record applies the record at index. An error means that nothing can be applied
// any more: the record or the view is bad.
func (m *machine) record(index uint64, data []byte) ([]store.Result, error) {
	if index != m.meta.applied+1 {
		return nil, fmt.Errorf("catalog: record %d after record %d", index, m.meta.applied)
	}
	e, err := DecodeRecord(data)
	if err != nil {
		return nil, &logError{fmt.Errorf("record %d: %w", index, err)}
	}
	m.meta.stamp(index, e)
	results, err := m.commands(index, e)
	if err != nil {
		return nil, err
	}
	return results, m.rowSets(index, e, results)
}

// layer is what an overlay lies over and is merged into.
type layer interface {
	kv.Reader
	kv.Writer
}

// stamp moves the clocks on. The retention clock counts the time that the store
// has seen pass: what its own monotonic clock measured between two records of
// one incarnation, and between incarnations what the clocks claim, up to
// catchUp. So no setting of a clock moves it by more than that, and only when
// the store is opened.
func (m *meta) stamp(index uint64, e *Entry) {
	now := e.Time.UnixNano()
	switch {
	case m.applied == 0:
		m.clock = now
	case e.Node == m.node && e.Incarnation == m.incarnation:
		m.clock += int64(e.Elapsed)
	default:
		m.clock += max(0, min(now-m.time, int64(catchUp)))
	}
	m.applied = index
	m.time = max(now, m.time+1)
	m.node, m.incarnation = e.Node, e.Incarnation
}

// commands applies the commands of a record.
func (m *machine) commands(index uint64, e *Entry) ([]store.Result, error) {
	results := make([]store.Result, len(e.Commands))
	before, refused := *m.meta, error(nil)
	var all layer = m.view
	var held *kv.Overlay // until it is known that no command is refused
	if !e.Each && len(e.Commands) > 1 {
		held = kv.NewOverlay(m.view)
		all = held
	}
	for i, c := range e.Commands {
		res, err := m.command(all, index, uint32(i), c)
		if err != nil {
			return nil, err
		}
		results[i] = res
		if res.Err != nil && !e.Each {
			refused = fmt.Errorf("command %d of %d: %w", i+1, len(e.Commands), res.Err)
			break
		}
	}
	if held == nil {
		return results, nil
	}
	if refused == nil {
		return results, held.Merge(m.view)
	}
	*m.meta = before
	for i := range results {
		results[i] = store.Result{Err: refused}
	}
	return results, m.abandon(m.view, index, e.Commands)
}

// command applies one command, whose effects go to over unless it is refused.
func (m *machine) command(over layer, index uint64, seq uint32, c store.Command) (store.Result, error) {
	before := *m.meta
	t := m.tx(over, index, seq)
	res := t.apply(c)
	if t.err != nil {
		return store.Result{}, t.err
	}
	if res.Err == nil {
		return res, t.w.Merge(over)
	}
	*m.meta = before
	if p, ok := c.(store.Put); ok {
		if err := m.abandon(over, index, []store.Command{p}); err != nil {
			return store.Result{}, err
		}
	}
	return store.Result{Err: res.Err}, nil
}

func (m *machine) tx(over layer, index uint64, seq uint32) *tx {
	w := kv.NewOverlay(over)
	return &tx{rows: rows{r: w}, w: w, meta: m.meta, index: index, seq: seq, now: m.meta.time}
}

// abandon settles the uploads that refused puts named: from here on they are
// known by references alone, and they have none.
func (m *machine) abandon(over layer, index uint64, commands []store.Command) error {
	named := map[store.UploadID]bool{}
	for _, c := range commands {
		if p, ok := c.(store.Put); ok {
			named[p.Upload] = true
		}
	}
	if len(named) == 0 {
		return nil
	}
	var extents []store.Extent
	var uploads []store.UploadID // in order of appearance
	for _, c := range commands {
		switch c := c.(type) {
		case store.AddExtent:
			if named[c.Extent.Upload] {
				extents = append(extents, c.Extent)
			}
		case store.Put:
			extents = append(extents, c.Extents...)
			uploads = append(uploads, c.Upload)
		}
	}
	t := m.tx(over, index, 0)
	for i := range extents {
		t.addExtent(&extents[i]) // what is refused is not ours
	}
	for _, id := range uploads {
		t.settle(id)
	}
	if t.err != nil {
		return t.err
	}
	return t.w.Merge(over)
}

// rowSets lets the other row sets see what happened.
func (m *machine) rowSets(index uint64, e *Entry, results []store.Result) error {
	info := Info{Index: index, Time: nanoTime(m.meta.time), Entry: e}
	for _, s := range m.sets {
		if err := s.Apply(newRowTx(s, m.view), info, results); err != nil {
			err = fmt.Errorf("record %d: rows of %s: %w", index, s.Name(), err)
			if !errors.Is(err, kv.ErrFailed) {
				err = &logError{err} // the view is not to blame
			}
			return err
		}
	}
	return nil
}

// apply carries one command out.
func (t *tx) apply(c store.Command) store.Result {
	switch c := c.(type) {
	case store.OpenEpoch:
		t.meta.epoch++
		t.forgetEpochs()
		return store.Result{Changed: true, Number: t.meta.epoch}
	case store.AddExtent:
		_, changed, err := t.addExtent(&c.Extent)
		return store.Result{Changed: changed, Err: err}
	case store.Put:
		return t.put(&c)
	case store.Replace:
		return t.replace(&c)
	case store.Report:
		return t.report(&c)
	case store.Intact:
		return t.intact(&c)
	case store.Pack:
		return t.pack(&c)
	case store.Repack:
		return t.repack(&c)
	case store.Kill:
		return t.kill(c.Upload)
	case store.Forget:
		return t.forget(c.Upload)
	case store.Abandon:
		return store.Result{Changed: t.settle(c.Upload)}
	case store.Keep:
		return t.keep(&c)
	case store.Release:
		return t.release(c.Upload)
	case store.Narrow:
		return t.narrow(&c)
	case store.Reshape:
		return t.reshape(&c)
	case store.SetState:
		return t.setState(&c)
	case store.Scrubbed:
		return t.scrubbed(&c)
	case store.AdoptExtent:
		return t.adoptExtent(&c.Extent)
	case store.Adopt:
		return t.adopt(&c)
	case store.Adopted:
		return t.adopted(c.Upload)
	case store.RaiseEpoch:
		return t.raiseEpoch(c.Epoch)
	}
	return t.applyName(c)
}

// applyName carries out a command that this package declares.
func (t *tx) applyName(c store.Command) store.Result {
	switch c := c.(type) {
	case Delete:
		return t.delete(&c)
	case Purge:
		return t.purge(&c)
	case Rename:
		return t.rename(&c)
	case Mkdir:
		return t.mkdir(&c)
	case Rmdir:
		return t.rmdir(&c)
	case Symlink:
		return t.symlink(&c)
	case SetAttr:
		return t.setAttr(&c)
	case SetPolicy:
		return t.setPolicy(&c.Policy)
	case UnsetPolicy:
		return t.unsetPolicy(c.Prefix)
	case Hold:
		return t.hold(&c)
	case Retain:
		return t.retain(&c)
	case SetBackends:
		return t.setBackends(&c)
	case AddBackend:
		return t.addBackend(&c)
	case DrainBackend:
		return t.drainBackend(&c)
	case DropBackend:
		return t.dropBackend(&c)
	case SetGrace:
		changed := t.meta.grace != c.Grace
		t.meta.grace = c.Grace
		return store.Result{Changed: changed}
	}
	panic(fmt.Sprintf("catalog: command %T was decoded and is not known", c))
}

// RowSet is another set of rows that lives in the same batches: after each
// record it sees what the record did, and writes its own rows with it, all or
// nothing. It must be deterministic, as the catalog is. An error stops the
// catalog.
type RowSet interface {
	Name() string // of its rows, never changed; without NUL
	Apply(rows RowTx, info Info, results []store.Result) error
}

// Info is what a RowSet learns of a record.
type Info struct {
	Index  uint64
	Time   time.Time // log time
	*Entry           // shared, not to be changed
}

// RowReader reads the rows of one RowSet.
type RowReader interface {
	Get(key []byte) (value []byte, ok bool, err error)
	Scan(lo, hi []byte) iter.Seq2[kv.KV, error]
}

// RowTx reads and writes the rows of one RowSet, as they are after the rows
// written so far. Slices are not retained.
type RowTx interface {
	RowReader
	Set(key, value []byte) error
	Delete(key []byte) error
}

// rowTx keeps a row set below its own prefix.
type rowTx struct {
	prefix []byte
	r      kv.Reader
	w      kv.Writer
}

func newRowTx(s RowSet, over layer) *rowTx {
	return &rowTx{prefix: rowPrefix(s), r: over, w: over}
}

func rowPrefix(s RowSet) []byte { return key(tForeign, s.Name(), byte(0)) }

func (t *rowTx) key(k []byte) []byte { return slices.Concat(t.prefix, k) }

func (t *rowTx) Get(k []byte) ([]byte, bool, error) { return t.r.Get(t.key(k)) }
func (t *rowTx) Set(k, v []byte) error              { return t.w.Set(t.key(k), v) }
func (t *rowTx) Delete(k []byte) error              { return t.w.Delete(t.key(k)) }

func (t *rowTx) Scan(lo, hi []byte) iter.Seq2[kv.KV, error] {
	end := after(t.prefix)
	if hi != nil {
		end = t.key(hi)
	}
	return func(yield func(kv.KV, error) bool) {
		for row, err := range t.r.Scan(t.key(lo), end) {
			if err == nil {
				row.Key = row.Key[len(t.prefix):]
			}
			if !yield(row, err) {
				return
			}
		}
	}
}
