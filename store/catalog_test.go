package store_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/blockframe/blockframe/store"
)

var errConflict = errors.New("conflict")

// tables is a store.Catalog in maps: what the tests of this package need of one,
// and hooks to make it fail. Versions are not kept but for the current one.
type tables struct {
	mu       sync.Mutex
	epoch    uint64
	names    map[string]store.Object
	contents map[store.ID]store.Content
	extents  map[store.ExtentID]store.Extent
	repairs  map[row]store.Repair
	dead     map[store.UploadID]bool
	given    map[store.UploadID]bool // up
	narrow   map[store.UploadID]bool
	state    map[string][]byte
	kept     map[store.UploadID]store.Kept
	records  []store.Record // every record that was applied

	// commit, if set, is asked before each record; applied decides whether it takes
	// effect although an error is returned.
	commit func(store.Record) (applied bool, err error)
}

type row struct {
	extent  store.ExtentID
	shard   int
	backend store.BackendID
}

var _ store.Catalog = (*tables)(nil)

func newTables() *tables {
	return &tables{names: map[string]store.Object{}, contents: map[store.ID]store.Content{}, extents: map[store.ExtentID]store.Extent{},
		repairs: map[row]store.Repair{}, dead: map[store.UploadID]bool{}, given: map[store.UploadID]bool{}, narrow: map[store.UploadID]bool{}, state: map[string][]byte{}, kept: map[store.UploadID]store.Kept{}}
}

// Commit applies a record. It holds the store to its limits: at most 1 MiB, and
// nothing that a decoder would refuse.
func (c *tables) Commit(ctx context.Context, rec store.Record) ([]store.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.commit != nil {
		if applied, err := c.commit(rec); err != nil {
			if applied {
				c.apply(rec)
			}
			return nil, err
		}
	}
	return c.apply(rec), nil
}

func (c *tables) apply(rec store.Record) []store.Result {
	c.records = append(c.records, rec)
	res := make([]store.Result, len(rec.Commands))
	saved := c.snapshot()
	for i, cmd := range rec.Commands {
		res[i] = c.one(cmd)
		if res[i].Err != nil && !rec.Each {
			c.restore(saved)
			for j := range res {
				res[j] = store.Result{Err: res[i].Err}
			}
			return res
		}
	}
	return res
}

func (c *tables) snapshot() *tables {
	return &tables{names: maps.Clone(c.names), contents: maps.Clone(c.contents), extents: maps.Clone(c.extents), repairs: maps.Clone(c.repairs)}
}

func (c *tables) restore(s *tables) {
	c.names, c.contents, c.extents, c.repairs = s.names, s.contents, s.extents, s.repairs
}

func (c *tables) one(cmd store.Command) (r store.Result) {
	switch v := cmd.(type) {
	case store.OpenEpoch:
		c.epoch++
		r.Number, r.Changed = c.epoch, true
	case store.AddExtent:
		r.Err = c.add(v.Extent)
	case store.Put:
		r = c.put(v)
	case store.Replace:
		r.Err = c.replace(v)
	case store.Report:
		for _, d := range v.Damage {
			if d.Left < -1 || d.Left > 254 {
				return store.Result{Err: fmt.Errorf("%w: %d shards left to lose", fs.ErrInvalid, d.Left)}
			}
			c.repairs[row{d.Extent, d.Shard, d.Backend}] = d
		}
	case store.Intact:
		delete(c.repairs, row{v.Extent, v.Shard, v.Backend})
	case store.Pack:
		r = c.pack(v)
	case store.Repack:
		r = c.repack(v)
	case store.Narrow:
		if r.Changed = c.narrow[v.Upload] != v.On; v.On {
			c.narrow[v.Upload] = true
		} else {
			delete(c.narrow, v.Upload)
		}
	case store.Reshape:
		r = c.reshape(v)
	case store.Kill:
		c.dead[v.Upload] = c.dead[v.Upload] || !c.referred(v.Upload)
		r.Changed = c.dead[v.Upload]
	case store.Forget:
		maps.DeleteFunc(c.extents, func(_ store.ExtentID, e store.Extent) bool { return e.Upload == v.Upload })
	case store.Abandon:
		c.given[v.Upload] = true
	case store.Keep:
		for _, e := range v.Extents {
			r.Err = cmp.Or(r.Err, c.add(e))
		}
		if r.Err == nil {
			c.kept[v.Upload] = v.Kept
		}
	case store.Release:
		delete(c.kept, v.Upload)
		c.given[v.Upload] = true
	case store.SetState:
		c.state[v.Key] = v.Value
	}
	return r
}

func (c *tables) add(e store.Extent) error {
	if len(e.Shards) != e.Code.Shards() || e.Length < 1 {
		return fmt.Errorf("%w: extent %v", fs.ErrInvalid, e.ID)
	}
	c.extents[e.ID] = e
	for i, s := range e.Shards {
		if s.Missing {
			c.repairs[row{extent: e.ID, shard: i}] = store.Repair{Extent: e.ID, Shard: i}
		}
	}
	return nil
}

func (c *tables) put(p store.Put) (r store.Result) {
	old, found := c.names[p.Name]
	if !fs.ValidPath(p.Name) {
		r.Err = fmt.Errorf("%w: name %q", fs.ErrInvalid, p.Name)
	} else if p.Expect >= 0 && uint64(p.Expect) != old.Version {
		r.Err = errConflict
	}
	for _, e := range p.Extents {
		if r.Err == nil {
			r.Err = c.add(e)
		}
	}
	if r.Err != nil {
		return r
	}
	have, known := c.contents[p.ID]
	if trusted := known && (p.Distrust.IsZero() || have.Upload != p.Distrust); trusted && have.Code.M >= p.Code.M {
		if found && old.ID == p.ID {
			return store.Result{Object: old}
		}
		have.Refs++
		c.contents[p.ID] = have
	} else {
		n := store.Content{ID: p.ID, Size: p.Size, Refs: have.Refs + 1, Code: p.Code, Upload: p.Upload, Offset: p.Offset, Inline: slices.Clone(p.Inline)}
		if p.Inline != nil || p.Size == 0 {
			n.Upload = store.UploadID{}
		}
		c.contents[p.ID] = n
	}
	obj := store.Object{Name: p.Name, Inode: cmp.Or(old.Inode, uint64(len(c.names))+1), Version: old.Version + 1, ID: p.ID, Size: p.Size, Attr: p.Attr, Policy: p.Policy, Upload: p.Upload}
	c.names[p.Name] = obj
	return store.Result{Object: obj, Changed: true}
}

func (c *tables) replace(v store.Replace) error {
	e := c.extents[v.Extent]
	if v.Shard >= len(e.Shards) || e.Shards[v.Shard].Generation != v.From {
		return errConflict
	}
	e.Shards = slices.Clone(e.Shards)
	e.Shards[v.Shard] = v.To
	c.extents[v.Extent] = e
	delete(c.repairs, row{extent: v.Extent, shard: v.Shard})
	return nil
}

func (c *tables) pack(v store.Pack) (r store.Result) {
	c.extents[v.Extent.ID] = v.Extent
	for _, m := range v.Members {
		if have := c.contents[m.ID]; have.Inline != nil && have.Size == m.Size {
			have.Inline, have.Upload, have.Offset, have.Code = nil, v.Extent.Upload, m.Offset, v.Extent.Code
			c.contents[m.ID] = have
			r.Changed = true
		}
	}
	return r
}

func (c *tables) repack(v store.Repack) (r store.Result) {
	if r.Err = c.add(v.Extent); r.Err != nil {
		return r
	}
	for _, m := range v.Members {
		k, ok := c.contents[m.ID]
		if !ok || k.Upload != m.From || k.Size != m.Size || k.Refs == 0 {
			continue
		}
		k.Upload, k.Offset, k.Code = v.Extent.Upload, m.Offset, v.Extent.Code
		c.contents[m.ID] = k
		c.emptied(m.From)
		r.Number++
		r.Changed = true
	}
	return r
}

func (c *tables) reshape(v store.Reshape) (r store.Result) {
	for _, e := range v.Extents {
		if r.Err = c.add(e); r.Err != nil {
			return r
		}
	}
	c.given[v.Upload] = true
	code, missing := v.Extents[0].Code, false
	for _, e := range c.extents {
		for _, s := range e.Shards {
			missing = missing || e.Upload == v.Upload && s.Missing
		}
	}
	k := c.contents[v.ID]
	if k.Upload == v.From && k.Size == v.Size && k.Refs > 0 && !missing && (k.Code.M <= code.M || k.Refs == v.Refs) {
		k.Upload, k.Offset, k.Code, r.Changed = v.Upload, 0, code, true
		c.contents[v.ID] = k
		c.emptied(v.From)
	}
	return r
}

// emptied takes the mark of an upload away that has no content any more.
func (c *tables) emptied(id store.UploadID) {
	for _, k := range c.contents {
		if k.Upload == id {
			return
		}
	}
	delete(c.narrow, id)
}

// Narrow yields what is marked.
func (c *tables) Narrow(_ context.Context, after store.UploadID) iter.Seq2[store.UploadID, error] {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := slices.SortedFunc(maps.Keys(c.narrow), func(a, b store.UploadID) int { return slices.Compare(a[:], b[:]) })
	return all(slices.DeleteFunc(list, func(id store.UploadID) bool { return slices.Compare(id[:], after[:]) <= 0 }))
}

func (c *tables) referred(id store.UploadID) bool {
	if _, ok := c.kept[id]; ok {
		return true
	}
	for _, k := range c.contents {
		if k.Upload == id && k.Refs > 0 {
			return true
		}
	}
	return false
}

func (c *tables) Object(_ context.Context, name string, _ uint64) (store.Object, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return found(c.names, name)
}

func (c *tables) Content(_ context.Context, id store.ID) (store.Content, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return found(c.contents, id)
}

func (c *tables) Extent(_ context.Context, id store.ExtentID) (store.Extent, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return found(c.extents, id)
}

func found[K comparable, V any](m map[K]V, k K) (V, error) {
	v, ok := m[k]
	if !ok {
		return v, fs.ErrNotExist
	}
	return v, nil
}

func (c *tables) ExtentAt(_ context.Context, upload store.UploadID, ordinal int) (store.Extent, error) {
	for _, e := range c.allExtents() {
		if e.Upload == upload && e.Ordinal == ordinal {
			return e, nil
		}
	}
	return store.Extent{}, fs.ErrNotExist
}

func (c *tables) Upload(_ context.Context, id store.UploadID) (store.Upload, error) {
	u := store.Upload{ID: id, State: store.UploadOpen}
	for _, e := range c.allExtents() {
		if e.Upload == id {
			u.Extents, u.Length, u.Epoch = u.Extents+1, u.Length+e.Length, e.Epoch
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.referred(id) {
		u.State = store.UploadLive
	} else if c.dead[id] {
		u.State = store.UploadDead
	} else if c.given[id] {
		u.State = store.UploadCondemned
	}
	if k, ok := c.kept[id]; ok {
		u.Kept = &k
	}
	if u.Extents == 0 {
		return u, fs.ErrNotExist
	}
	return u, nil
}

// allExtents returns the extents in order of their ids.
func (c *tables) allExtents() []store.Extent {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.SortedFunc(maps.Values(c.extents), func(a, b store.Extent) int { return slices.Compare(a.ID[:], b.ID[:]) })
}

func (c *tables) Extents(_ context.Context, after store.ExtentID) iter.Seq2[store.Extent, error] {
	return all(slices.DeleteFunc(c.allExtents(), func(e store.Extent) bool { return slices.Compare(e.ID[:], after[:]) <= 0 }))
}

func all[T any](list []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, v := range list {
			if !yield(v, nil) {
				return
			}
		}
	}
}

func (c *tables) Uploads(ctx context.Context, after store.UploadID) iter.Seq2[store.Upload, error] {
	seen := map[store.UploadID]store.Upload{}
	for _, e := range c.allExtents() {
		if u, err := c.Upload(ctx, e.Upload); err == nil && slices.Compare(u.ID[:], after[:]) > 0 {
			seen[u.ID] = u
		}
	}
	return all(slices.SortedFunc(maps.Values(seen), func(a, b store.Upload) int { return slices.Compare(a.ID[:], b.ID[:]) }))
}

func (c *tables) Repairs(context.Context) iter.Seq2[store.Repair, error] {
	c.mu.Lock()
	defer c.mu.Unlock()
	return all(slices.SortedFunc(maps.Values(c.repairs), func(a, b store.Repair) int {
		return cmp.Or(a.Left-b.Left, slices.Compare(a.Extent[:], b.Extent[:]), a.Shard-b.Shard)
	}))
}

func (c *tables) Queued(ctx context.Context, id store.ExtentID) (list []store.Repair, err error) {
	for r := range c.Repairs(ctx) {
		if r.Extent == id {
			list = append(list, r)
		}
	}
	return list, nil
}

func (c *tables) Inline(context.Context) iter.Seq2[store.Inline, error] {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := map[store.ID][]store.Object{}
	for _, o := range c.names {
		names[o.ID] = append(names[o.ID], o)
	}
	var list []store.Inline
	for _, k := range c.contents {
		if len(k.Inline) > 0 {
			list = append(list, store.Inline{Content: k, Names: names[k.ID]})
		}
	}
	slices.SortFunc(list, func(a, b store.Inline) int { return slices.Compare(a.Content.ID[:], b.Content.ID[:]) })
	return all(list)
}

func (c *tables) Owners(_ context.Context, upload store.UploadID, lo, hi int64) iter.Seq2[store.Owner, error] {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []store.Owner
	for _, o := range c.names {
		if k := c.contents[o.ID]; k.Upload == upload && k.Offset < hi && k.Offset+k.Size > lo {
			list = append(list, store.Owner{Object: o, Offset: k.Offset})
		}
	}
	slices.SortFunc(list, func(a, b store.Owner) int {
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), slices.Compare(a.Object.ID[:], b.Object.ID[:]), cmp.Compare(a.Object.Name, b.Object.Name))
	})
	return all(list)
}

func (c *tables) State(_ context.Context, key string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state[key], nil
}

// report puts a row on the queue.
func (c *tables) report(r store.Repair) error {
	_, err := c.Commit(context.Background(), store.Record{Commands: []store.Command{store.Report{Damage: []store.Repair{r}}}})
	return err
}
