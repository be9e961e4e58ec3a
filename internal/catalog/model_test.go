package catalog_test

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/blockframe/blockframe/internal/catalog"
	"github.com/blockframe/blockframe/store"
)

// model is what a catalog should do, in the simplest way: one list of nodes that
// is searched from end to end, and counts that are made anew after each command.
type model struct {
	nodes    []*mNode
	contents map[store.ID]*store.Content // Refs is derived
	uploads  map[store.UploadID]*mUpload
	gone     map[store.UploadID]uint64 // forgotten, by epoch
	kept     map[store.UploadID]store.Kept
	extents  map[store.ExtentID]*store.Extent
	queue    map[string]*store.Repair
	narrow   map[store.UploadID]uint64 // marked
	inline   []store.ID                // oldest first
	state    map[string]string
	policies map[string]store.Policy
	backends []catalog.Backend
	inode    uint64
	epoch    uint64
	grace    time.Duration
	now      time.Time // log time of the record
	clock    time.Time // of retention
}

type mNode struct {
	inode   uint64
	parent  *mNode
	comp    string
	dir     bool
	deleted bool
	parked  bool
	attr    store.Attr
	made    time.Time
	last    uint64
	vers    []*mVer // oldest first
}

type mVer struct {
	store.Object
	ends time.Time // of retention, on its clock
}

type mUpload struct {
	store.Upload
	kind store.Kind
	list []store.ExtentID
}

func newModel() *model {
	root := &mNode{inode: 1, dir: true, attr: store.Attr{Mode: fs.ModeDir | 0o755}}
	return &model{nodes: []*mNode{root}, contents: map[store.ID]*store.Content{}, uploads: map[store.UploadID]*mUpload{}, gone: map[store.UploadID]uint64{}, kept: map[store.UploadID]store.Kept{},
		extents: map[store.ExtentID]*store.Extent{}, queue: map[string]*store.Repair{}, narrow: map[store.UploadID]uint64{}, state: map[string]string{},
		policies: map[string]store.Policy{}, inode: 2, grace: 7 * 24 * time.Hour, now: time.Unix(1_800_000_000, 0)}
}

// copy returns a model that shares nothing with m.
func (m *model) copy() *model {
	c := *m
	c.nodes, c.inline = nil, slices.Clone(m.inline)
	at := map[*mNode]*mNode{}
	for _, n := range m.nodes {
		d := *n
		d.vers = nil
		for _, v := range n.vers {
			w := *v
			d.vers = append(d.vers, &w)
		}
		at[n] = &d
		c.nodes = append(c.nodes, &d)
	}
	for _, n := range c.nodes {
		n.parent = at[n.parent]
	}
	c.contents, c.uploads = copyMap(m.contents), copyMap(m.uploads)
	c.queue = copyMap(m.queue)
	c.extents = copyMap(m.extents)
	for _, x := range c.extents {
		x.Shards = slices.Clone(x.Shards)
	}
	c.gone, c.kept, c.narrow = cloneMap(m.gone), cloneMap(m.kept), cloneMap(m.narrow)
	c.backends = slices.Clone(m.backends)
	c.state, c.policies = cloneMap(m.state), cloneMap(m.policies)
	return &c
}

func copyMap[K comparable, V any](m map[K]*V) map[K]*V {
	c := map[K]*V{}
	for k, v := range m {
		w := *v
		c[k] = &w
	}
	return c
}

func cloneMap[K comparable, V any](m map[K]V) map[K]V {
	c := map[K]V{}
	for k, v := range m {
		c[k] = v
	}
	return c
}

func (m *model) child(dir *mNode, comp string) *mNode {
	for _, n := range m.nodes {
		if n.parent == dir && n.comp == comp && !n.parked {
			return n
		}
	}
	return nil
}

// find returns the node that has the name now, deleted or not.
func (m *model) find(name string) *mNode {
	n := m.nodes[0]
	for _, comp := range strings.Split(name, "/") {
		if n = m.child(n, comp); n == nil {
			return nil
		}
	}
	return n
}

func (m *model) path(n *mNode) string {
	if n.parent == nil {
		return ""
	}
	return path.Join(m.path(n.parent), n.comp)
}

// all returns every node that has or had the name, the present one first.
func (m *model) all(name string) []*mNode {
	at := []*mNode{m.nodes[0]}
	for _, comp := range strings.Split(name, "/") {
		var next []*mNode
		for _, dir := range at {
			if c := m.child(dir, comp); c != nil {
				next = append(next, c)
			}
			for _, n := range m.nodes { // in order of inode
				if n.parked && n.parent == dir && n.comp == comp {
					next = append(next, n)
				}
			}
		}
		at = next
	}
	return at
}

func (n *mNode) top() *mVer {
	if len(n.vers) == 0 {
		return nil
	}
	return n.vers[len(n.vers)-1]
}

// live reports whether a version is what the name shows.
func (n *mNode) live() *mVer {
	if n == nil || n.dir || n.deleted {
		return nil
	}
	return n.top()
}

func (m *model) mk(dir *mNode, comp string, n *mNode) *mNode {
	n.inode, n.parent, n.comp = m.inode, dir, comp
	m.inode++
	m.nodes = append(m.nodes, n)
	return n
}

// up makes the directories above a name.
func (m *model) up(name string, a store.Attr) (*mNode, error) {
	dir := m.nodes[0]
	comps := strings.Split(name, "/")
	for _, comp := range comps[:len(comps)-1] {
		n := m.child(dir, comp)
		if n != nil && !n.dir && !n.deleted {
			return nil, fs.ErrInvalid
		}
		dir = m.mkdirAt(dir, comp, n, store.Attr{Mode: fs.ModeDir | 0o755, UID: a.UID, GID: a.GID, ModTime: a.ModTime})
	}
	return dir, nil
}

func (m *model) mkdirAt(dir *mNode, comp string, n *mNode, a store.Attr) *mNode {
	if n != nil && n.dir && !n.deleted {
		return n
	}
	if n != nil && !n.dir {
		n.parked, n = true, nil
	}
	if n == nil {
		n = m.mk(dir, comp, &mNode{dir: true})
	}
	n.deleted, n.attr, n.made = false, a, m.now
	return n
}

// settle derives what follows from references, after every command.
func (m *model) settle() {
	refs := map[store.ID]uint64{}
	for _, n := range m.nodes {
		for _, v := range n.vers {
			if !v.Deleted && v.Mode.IsRegular() {
				refs[v.ID]++
			}
		}
	}
	held := map[store.UploadID]uint64{}
	for id, c := range m.contents {
		c.Refs = refs[id]
		if c.Refs == 0 && c.Upload.IsZero() {
			delete(m.contents, id)
			m.inline = slices.DeleteFunc(m.inline, func(i store.ID) bool { return i == id })
		}
		if c.Refs > 0 && !c.Upload.IsZero() {
			held[c.Upload]++
		}
	}
	for id := range m.kept {
		held[id]++
	}
	for id, u := range m.uploads {
		u.Refs = held[id]
		if u.Refs > 0 {
			u.State, u.Until = store.UploadLive, time.Time{}
		} else if u.State == store.UploadLive {
			u.State, u.Until = store.UploadCondemned, m.now.Add(m.grace)
		}
	}
}

// abandon condemns an upload that a put named and nothing refers to.
func (m *model) abandon(id store.UploadID) {
	m.settle()
	if u := m.uploads[id]; u != nil && u.State == store.UploadOpen {
		u.State, u.Until = store.UploadCondemned, m.now
	}
}

// apply carries out one record, and returns what class of error each command got.
func (m *model) apply(rec store.Record) ([]error, *model) {
	errs := make([]error, len(rec.Commands))
	next := m.copy()
	for i, c := range rec.Commands {
		try := next.copy()
		err := try.command(c)
		try.settle()
		if err == nil {
			next = try
			continue
		}
		errs[i] = err
		if !rec.Each {
			for i := range errs {
				errs[i] = err
			}
			next = m.copy()
			next.refused(rec.Commands)
			return errs, next
		}
		next.refused(rec.Commands[i : i+1])
	}
	return errs, next
}

func (m *model) refused(commands []store.Command) {
	named := map[store.UploadID]bool{}
	for _, c := range commands {
		if p, ok := c.(store.Put); ok {
			named[p.Upload] = true
		}
	}
	for _, c := range commands {
		switch c := c.(type) {
		case store.AddExtent:
			if named[c.Extent.Upload] {
				m.addExtent(c.Extent)
			}
		case store.Put:
			for _, x := range c.Extents {
				m.addExtent(x)
			}
		}
	}
	for id := range named {
		m.abandon(id)
	}
}

func (m *model) command(c store.Command) error {
	switch c := c.(type) {
	case store.OpenEpoch:
		m.epoch++
	case store.AddExtent:
		return m.addExtent(c.Extent)
	case store.Put:
		return m.put(c)
	case store.Replace:
		return m.replace(c)
	case store.Report:
		return m.report(c)
	case store.Intact:
		return m.intact(c)
	case store.Pack:
		return m.pack(c)
	case store.Repack:
		return m.repack(c)
	case store.Narrow:
		m.mark(c)
	case store.Reshape:
		return m.reshape(c)
	case store.Kill:
		return m.kill(c.Upload)
	case store.Forget:
		return m.forget(c.Upload)
	case store.Abandon:
		m.abandon(c.Upload)
	case store.Keep:
		return m.keep(c)
	case store.Release:
		m.release(c.Upload)
	case store.SetState:
		m.state[c.Key] = string(c.Value)
	case store.AdoptExtent:
		return m.adoptExtent(c.Extent)
	case store.Adopt:
		return m.adopt(c)
	case store.Adopted:
		m.adopted(c.Upload)
	case store.RaiseEpoch:
		m.epoch = max(m.epoch, c.Epoch)
	case catalog.SetPolicy:
		m.policies[fmt.Sprintf("%s %020d", c.Policy.Prefix, c.Policy.MaxSize)] = c.Policy
	case catalog.UnsetPolicy:
		for k, p := range m.policies {
			if p.Prefix == c.Prefix {
				delete(m.policies, k)
			}
		}
	case catalog.SetGrace:
		m.grace = c.Grace
	case catalog.SetBackends, catalog.AddBackend, catalog.DrainBackend, catalog.DropBackend:
		return m.disk(c)
	default:
		return m.name(c)
	}
	return nil
}

func (m *model) name(c store.Command) error {
	switch c := c.(type) {
	case catalog.Delete:
		return m.delete(c)
	case catalog.Purge:
		return m.purge(c)
	case catalog.Rename:
		return m.rename(c)
	case catalog.Mkdir:
		return m.mkdir(c)
	case catalog.Rmdir:
		return m.rmdir(c)
	case catalog.Symlink:
		return m.symlink(c)
	case catalog.SetAttr:
		return m.setAttr(c)
	case catalog.Hold:
		return m.hold(c)
	case catalog.Retain:
		return m.retain(c)
	}
	panic(fmt.Sprintf("%T", c))
}
