package catalog

import (
	"encoding/binary"
	"fmt"
	"iter"
	"time"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/internal/kv"
	"github.com/blockframe/blockframe/store"
)

// The rows of the view. Keys begin with the letter of their table; numbers in
// keys are big-endian, so that rows sort by them. Nothing here is a format that
// must be read later, but by snapshots: a view of another version is made anew from the
// log, and a program that writes the next version reads snapshots with rows of this one.
const (
	tMeta       = 'm' // -> meta
	tNode       = 'n' // inode -> node
	tDirent     = 'd' // inode of the directory, component -> inode
	tParked     = 'p' // inode of the directory, component, 0, inode -> nothing
	tVersion    = 'v' // inode, complement of version -> version: newest first
	tContent    = 'c' // content id -> content
	tInline     = 'i' // content id -> record index, number of the command, its bytes: see inlines
	tInlineAge  = 'I' // record index, number of the command, content id -> nothing
	tReferrer   = 'r' // content id, inode, version -> nothing: but for the one in the content's row
	tUpload     = 'u' // upload -> upload
	tForgotten  = 'f' // epoch, upload -> nothing
	tPlace      = 'o' // upload, offset, content id -> nothing
	tExtent     = 'e' // extent -> extent
	tOrdinal    = 'x' // upload, ordinal -> extent
	tQueue      = 'q' // left + 1, since, extent, shard, backend -> bitmap of stripes
	tQueued     = 'Q' // extent, shard, backend -> left + 1, since
	tState      = 's' // key -> value
	tPolicy     = 'P' // prefix, 0, size -> policy
	tBackend    = 'b' // position -> backend
	tHeld       = 'h' // backend -> its state, and what it holds
	tScrubbed   = 'S' // deep -> the last Scrubbed
	tKept       = 'k' // upload -> kept
	tNarrow     = 'w' // upload -> nothing: marked by a Narrow
	tForeign    = 'z' // name of a row set, 0, key of the row set -> its value
	rootInode   = 1
	viewVersion = 4

	viewRestoring = 0xff // as a view version: a snapshot is being restored
)

// rows reads typed rows of one state of the view. After the first failure, which
// sticks in err, every row is absent and every scan empty; who decides anything
// from rows looks at err before acting on it.
type rows struct {
	r     kv.Reader
	err   error
	paths map[uint64]string // names of directories by inode, of what does not change; nil: not kept
}

func (r *rows) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *rows) get(key []byte) ([]byte, bool) {
	if r.err != nil {
		return nil, false
	}
	v, ok, err := r.r.Get(key)
	if err != nil {
		r.fail(err)
		return nil, false
	}
	return v, ok
}

// load decodes the row under key by f, and reports whether there is one.
func (r *rows) load(key []byte, f func(*frame.Decoder)) bool {
	v, ok := r.get(key)
	return ok && r.decode(key, v, f)
}

func (r *rows) decode(key, value []byte, f func(*frame.Decoder)) bool {
	d := frame.NewDecoder(value)
	f(d)
	if err := d.Done(); err != nil {
		r.fail(fmt.Errorf("row %q of the view: %w", key, err))
		return false
	}
	return true
}

// scan yields the rows whose keys begin with prefix, from the key from on.
func (r *rows) scan(prefix, from []byte) iter.Seq[kv.KV] {
	return func(yield func(kv.KV) bool) {
		if r.err != nil {
			return
		}
		if from == nil {
			from = prefix
		}
		for row, err := range r.r.Scan(from, after(prefix)) {
			if err != nil {
				r.fail(err)
				return
			}
			if !yield(row) {
				return
			}
		}
	}
}

// after returns the least key that sorts after all keys with that prefix.
func after(prefix []byte) []byte {
	hi := append([]byte(nil), prefix...)
	for i := len(hi) - 1; i >= 0; i-- {
		if hi[i]++; hi[i] != 0 {
			return hi[:i+1]
		}
	}
	return nil
}

// key builds keys from their parts.
func key(table byte, parts ...any) []byte {
	k := make([]byte, 1, 48)
	k[0] = table
	for _, p := range parts {
		switch p := p.(type) {
		case uint64:
			k = binary.BigEndian.AppendUint64(k, p)
		case uint32:
			k = binary.BigEndian.AppendUint32(k, p)
		case byte:
			k = append(k, p)
		case string:
			k = append(k, p...)
		case store.ID:
			k = append(k, p[:]...)
		case store.UploadID:
			k = append(k, p[:]...)
		case store.ExtentID:
			k = append(k, p[:]...)
		case store.BackendID:
			k = append(k, p[:]...)
		default:
			panic(fmt.Sprintf("catalog: key part of type %T", p))
		}
	}
	return k
}

// The keys that every put needs, made by themselves: key boxes each of its parts.

func newKey(table byte, n int) []byte { return append(make([]byte, 0, 1+n), table) }

func idKey(table byte, id store.ID) []byte { return append(newKey(table, len(id)), id[:]...) }

func uploadKey(id store.UploadID) []byte { return append(newKey(tUpload, len(id)), id[:]...) }

func nodeKey(inode uint64) []byte {
	return binary.BigEndian.AppendUint64(newKey(tNode, 8), inode)
}

func direntKey(dir uint64, comp string) []byte {
	return append(binary.BigEndian.AppendUint64(newKey(tDirent, 8+len(comp)), dir), comp...)
}

func versionKey(inode, number uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(newKey(tVersion, 16), inode), ^number)
}

func placeKey(upload store.UploadID, offset int64, id store.ID) []byte {
	k := append(newKey(tPlace, len(upload)+8+len(id)), upload[:]...)
	return append(binary.BigEndian.AppendUint64(k, uint64(offset)), id[:]...)
}

// node is a name in the tree: a directory, or what versions belong to.
type node struct {
	inode   uint64
	parent  uint64
	comp    string // its component in the parent; of the root ""
	dir     bool
	deleted bool       // a removed directory, or a marker is the current version
	current uint64     // the newest version that exists
	last    uint64     // the newest version that ever was
	count   uint64     // versions that exist
	live    uint64     // of a directory: entries that are not deleted
	attr    store.Attr // of a directory
	made    int64      // log time of making a directory

	// Of the versions of the node and of all below it, deleted and parked ones
	// included. See keep.go.
	holds uint64 // on hold
	until int64  // retention clock when the last retention ends, 0: none
}

func (r *rows) node(inode uint64) *node {
	n := &node{inode: inode}
	if !r.load(nodeKey(inode), func(d *frame.Decoder) {
		n.parent, n.comp = d.U64(), d.String(store.MaxComponent)
		n.dir, n.deleted = d.Bool(), d.Bool()
		n.holds, n.until = d.U64(), d.I64()
		if n.dir {
			n.live, n.made, n.attr = d.U64(), d.I64(), decodeAttr(d)
		} else {
			n.current, n.last, n.count = d.U64(), d.U64(), d.U64()
		}
	}) {
		return nil
	}
	return n
}

func (n *node) encode() []byte {
	e := frame.Encoder{B: make([]byte, 0, 64+len(n.comp))}
	e.U64(n.parent)
	e.String(n.comp)
	e.Bool(n.dir)
	e.Bool(n.deleted)
	e.U64(n.holds)
	e.I64(n.until)
	if n.dir {
		e.U64(n.live)
		e.I64(n.made)
		must(encodeAttr(&e, &n.attr))
	} else {
		e.U64(n.current)
		e.U64(n.last)
		e.U64(n.count)
	}
	return e.B
}

// must panics on what was checked when the command was decoded.
func must(err error) {
	if err != nil {
		panic("catalog: row cannot be encoded: " + err.Error())
	}
}

// dirent returns the node that a component of a directory names, or nil.
func (r *rows) dirent(dir uint64, comp string) *node {
	v, ok := r.get(direntKey(dir, comp))
	if !ok {
		return nil
	}
	var inode uint64
	if !r.decode(nil, v, func(d *frame.Decoder) { inode = d.U64() }) {
		return nil
	}
	n := r.node(inode)
	if n == nil {
		r.fail(fmt.Errorf("%w: view: entry %q of directory %d without its node", frame.ErrCorrupt, comp, dir))
	}
	return n
}

// version is one version of a node.
type version struct {
	inode   uint64
	number  uint64
	id      store.ID
	size    int64
	attr    store.Attr
	policy  string
	upload  store.UploadID
	created int64 // log time
	deleted bool
	hold    bool
	retain  int64 // log time as asked for, 0 none
	lag     int64 // log time less retention clock when it was asked for
}

func (r *rows) version(inode, number uint64) *version {
	v := &version{inode: inode, number: number}
	if !r.load(v.key(), v.decode) {
		return nil
	}
	return v
}

func (v *version) key() []byte { return versionKey(v.inode, v.number) }

func (v *version) decode(d *frame.Decoder) {
	v.id, v.size, v.attr = d.Hash(), d.I64(), decodeAttr(d)
	v.policy, v.upload = d.String(store.MaxComponent), d.ID()
	v.created, v.deleted, v.hold = d.I64(), d.Bool(), d.Bool()
	v.retain, v.lag = d.I64(), d.I64()
}

func (v *version) encode() []byte {
	e := frame.Encoder{B: make([]byte, 0, 160)}
	e.Raw(v.id[:])
	e.I64(v.size)
	must(encodeAttr(&e, &v.attr))
	e.String(v.policy)
	e.Raw(v.upload[:])
	e.I64(v.created)
	e.Bool(v.deleted)
	e.Bool(v.hold)
	e.I64(v.retain)
	e.I64(v.lag)
	return e.B
}

// object is what the outside sees of a version.
func (v *version) object(name string) store.Object {
	o := store.Object{Name: name, Inode: v.inode, Version: v.number, ID: v.id, Size: v.size, Attr: v.attr,
		Policy: v.policy, Upload: v.upload, Created: nanoTime(v.created), Deleted: v.deleted, Hold: v.hold}
	if v.retain != 0 {
		o.RetainUntil = nanoTime(v.retain)
	}
	return o
}

// hasContent reports whether the version refers to a content row.
func (v *version) hasContent() bool { return !v.deleted && v.attr.Mode.IsRegular() }

// content is where a content is.
type content struct {
	id     store.ID
	size   int64
	refs   uint64
	code   erasure.Code
	upload store.UploadID // zero: inline or empty
	offset int64
	record uint64 // when inline: the record and command that brought it
	number uint32

	// One of the versions that refer to it, 0: none. The others have rows of their
	// own: most contents are referred to once.
	inode   uint64
	version uint64
}

func (r *rows) content(id store.ID) *content {
	c := &content{id: id}
	if !r.load(idKey(tContent, id), func(d *frame.Decoder) {
		c.size, c.refs, c.code = d.I64(), d.U64(), decodeCode(d)
		c.upload, c.offset = d.ID(), d.I64()
		c.record, c.number = d.U64(), d.U32()
		c.inode, c.version = d.U64(), d.U64()
	}) {
		return nil
	}
	return c
}

func (c *content) encode() []byte {
	e := frame.Encoder{B: make([]byte, 0, 96)}
	e.I64(c.size)
	e.U64(c.refs)
	must(encodeCode(&e, c.code))
	e.Raw(c.upload[:])
	e.I64(c.offset)
	e.U64(c.record)
	e.U32(c.number)
	e.U64(c.inode)
	e.U64(c.version)
	return e.B
}

// inline reports whether the bytes are in the catalog: in memory, or a row.
func (c *content) inline() bool { return c.upload.IsZero() && c.size > 0 }

// upload is the row of an upload.
type upload struct {
	id      store.UploadID
	state   store.UploadState
	kind    store.Kind
	refs    uint64
	epoch   uint64
	extents uint32
	length  int64
	until   int64
	largest int64  // size of the largest content that ever lay in it
	missing uint32 // shards marked Missing
}

func (r *rows) upload(id store.UploadID) *upload {
	u := &upload{id: id}
	if !r.load(uploadKey(id), u.decode) {
		return nil
	}
	return u
}

func (u *upload) decode(d *frame.Decoder) {
	u.state, u.kind = store.UploadState(d.U8()), store.Kind(d.U8())
	u.refs, u.epoch, u.extents = d.U64(), d.U64(), d.U32()
	u.length, u.until, u.largest, u.missing = d.I64(), d.I64(), d.I64(), d.U32()
}

func (u *upload) encode() []byte {
	e := frame.Encoder{B: make([]byte, 0, 64)}
	e.U8(uint8(u.state))
	e.U8(uint8(u.kind))
	e.U64(u.refs)
	e.U64(u.epoch)
	e.U32(u.extents)
	e.I64(u.length)
	e.I64(u.until)
	e.I64(u.largest)
	e.U32(u.missing)
	return e.B
}

func (u *upload) public() store.Upload {
	p := store.Upload{ID: u.id, State: u.state, Refs: u.refs, Epoch: u.epoch, Extents: int(u.extents), Length: u.length}
	if u.state == store.UploadCondemned {
		p.Until = nanoTime(u.until)
	}
	return p
}

func (r *rows) extent(id store.ExtentID) *store.Extent {
	var x store.Extent
	if !r.load(key(tExtent, id), func(d *frame.Decoder) { x = decodeFound(d) }) {
		return nil
	}
	return &x
}

func encodedExtent(x *store.Extent) []byte {
	var e frame.Encoder
	must(encodeFound(&e, x))
	return e.B
}

// meta is the one row about the view itself.
type meta struct {
	storeID     [16]byte
	applied     uint64     // index of the newest record in the view
	hash        frame.Hash // of that record
	time        int64      // its log time
	clock       int64      // the retention clock
	node        [16]byte   // of the newest record
	incarnation uint64
	nextInode   uint64
	epoch       uint64
	grace       time.Duration
	counts      Counts

	// Of the view alone: the record of the oldest content that is inline and not a
	// row, 0 if there is none.
	inline uint64
}

// Counts are the totals of a catalog.
type Counts struct {
	Objects  uint64    // names that are not deleted, symbolic links included
	Dirs     uint64    // directories that are not removed, without the root
	Versions uint64    // markers included
	Bytes    int64     // of all versions
	Contents uint64    // different contents
	Stored   int64     // bytes of different contents
	Inline   uint64    // contents that wait to be packed
	Extents  uint64    // of all uploads not forgotten
	Repairs  uint64    // rows of the repair queue
	Uploads  [5]uint64 // by store.UploadState
}

func (r *rows) meta() *meta {
	m := &meta{}
	if !r.load([]byte{tMeta}, func(d *frame.Decoder) {
		if v := d.U8(); v != viewVersion {
			d.Fail("view version %d", v)
		}
		m.storeID, m.applied, m.hash = d.ID(), d.U64(), d.Hash()
		m.time, m.clock = d.I64(), d.I64()
		m.node, m.incarnation = d.ID(), d.U64()
		m.nextInode, m.epoch, m.grace = d.U64(), d.U64(), time.Duration(d.I64())
		c := &m.counts
		for _, p := range c.fields() {
			*p = d.U64()
		}
		c.Bytes, c.Stored = d.I64(), d.I64()
		m.inline = d.U64()
	}) {
		return nil
	}
	return m
}

func (c *Counts) fields() []*uint64 {
	u := &c.Uploads
	return []*uint64{&c.Objects, &c.Dirs, &c.Versions, &c.Contents, &c.Inline, &c.Extents, &c.Repairs,
		&u[0], &u[1], &u[2], &u[3], &u[4]}
}

func (m *meta) encode() []byte {
	var e frame.Encoder
	e.U8(viewVersion)
	e.Raw(m.storeID[:])
	e.U64(m.applied)
	e.Raw(m.hash[:])
	e.I64(m.time)
	e.I64(m.clock)
	e.Raw(m.node[:])
	e.U64(m.incarnation)
	e.U64(m.nextInode)
	e.U64(m.epoch)
	e.I64(int64(m.grace))
	for _, p := range m.counts.fields() {
		e.U64(*p)
	}
	e.I64(m.counts.Bytes)
	e.I64(m.counts.Stored)
	e.U64(m.inline)
	return e.B
}
