package store

import (
	"context"
	"io/fs"
	"iter"
	"time"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/internal/frame"
)

// Catalog keeps the records of a Store: which extents there are and where
// their shards lie, which contents they hold, which names and versions refer to
// those, and what waits to be repaired. A Store is given its catalog; the
// machine behind it is one log of records, applied in order by a deterministic
// state machine, on one computer or on many.
//
// Reads see every record whose Commit returned before the read began. An
// iterator sees one state of the catalog, that of its first step. Rows that do
// not exist are fs.ErrNotExist.
type Catalog interface {
	// Commit proposes one record. When the error is nil the record is durable
	// and applied, and there is one result for each command, in order. An error
	// that matches ErrUncertain means that the record may or may not take
	// effect, now or after a restart; repeating it is safe. Any other error
	// means that nothing happened.
	Commit(ctx context.Context, rec Record) ([]Result, error)

	// Object returns a version of a name; version 0 is the current one. A name
	// that was deleted has a current version with Deleted set.
	Object(ctx context.Context, name string, version uint64) (Object, error)

	// Content returns where the content with this id is kept.
	Content(ctx context.Context, id ID) (Content, error)

	// Extent returns one extent.
	Extent(ctx context.Context, id ExtentID) (Extent, error)

	// ExtentAt returns the extent of an upload with this ordinal.
	ExtentAt(ctx context.Context, upload UploadID, ordinal int) (Extent, error)

	// Upload returns one upload.
	Upload(ctx context.Context, id UploadID) (Upload, error)

	// Extents yields all extents whose id sorts after after, in order of id.
	Extents(ctx context.Context, after ExtentID) iter.Seq2[Extent, error]

	// Uploads yields all uploads that were not forgotten and whose id sorts
	// after after, in order of id.
	Uploads(ctx context.Context, after UploadID) iter.Seq2[Upload, error]

	// Repairs yields the repair queue: least remaining redundancy first, then
	// oldest first.
	Repairs(ctx context.Context) iter.Seq2[Repair, error]

	// Queued returns what the repair queue has of the shards of one extent.
	Queued(ctx context.Context, id ExtentID) ([]Repair, error)

	// Inline yields the contents that are kept in the catalog itself and wait
	// to be packed, oldest first, with the versions that refer to them. Each is
	// as of a state of its own.
	Inline(ctx context.Context) iter.Seq2[Inline, error]

	// Owners yields the versions whose content overlaps the bytes [lo, hi) of
	// the stored stream of an upload, in order of offset; those that share a
	// content come one after the other.
	Owners(ctx context.Context, upload UploadID, lo, hi int64) iter.Seq2[Owner, error]

	// Narrow yields the uploads behind after that are marked by a Narrow, in order of id.
	Narrow(ctx context.Context, after UploadID) iter.Seq2[UploadID, error]

	// State returns the value last set under a key by SetState, nil when there
	// is none.
	State(ctx context.Context, key string) ([]byte, error)
}

// Object is one version of a name.
type Object struct {
	Name    string    // slash-separated, satisfies fs.ValidPath
	Inode   uint64    // of the name: survives rename, never reused
	Version uint64    // counts from 1 for each inode
	ID      ID        // of the content; zero for directories and symlinks
	Size    int64     // bytes of content
	Attr              // as given when it was put, or set since
	Policy  string    // name of the policy it was put under, "" the default
	Upload  UploadID  // the act of putting
	Created time.Time // log time of the put
	Deleted bool      // a marker: the name was deleted at Created

	RetainUntil time.Time // not to be purged before, by a clock that cannot be set; zero: no retention
	Hold        bool      // not to be purged while set
}

// Attr is what a filesystem knows of a file besides its bytes.
type Attr struct {
	Mode    fs.FileMode // type bits: 0, fs.ModeDir or fs.ModeSymlink
	UID     uint32
	GID     uint32
	ModTime time.Time // with nanoseconds; the location is not kept
	Xattrs  map[string][]byte
	Target  string // of a symlink
}

// Content is a row that says where the bytes of an address are.
type Content struct {
	ID     ID
	Size   int64
	Refs   uint64       // versions that refer to it; 0 is condemned, but revivable
	Code   erasure.Code // of the extents it lies in
	Upload UploadID     // zero while the content is inline, or empty
	Offset int64        // of its first byte in the stored stream of the upload
	Inline []byte       // the bytes themselves, at most MaxInline, while Upload is zero
}

// Inline is a content that is kept in the catalog itself.
type Inline struct {
	Content Content
	Names   []Object // versions that refer to it, at most MaxInlineNames of them
}

// MaxInlineNames is how many of the versions that refer to a content an Inline holds.
const MaxInlineNames = 64

// Owner is a version and the place of its content in an upload's stream.
type Owner struct {
	Object Object
	Offset int64 // of the content's first byte in the stored stream
}

// Kind says what the stored stream of an extent is.
type Kind uint8

const (
	KindObject   Kind = 1 // the bytes of one object
	KindPack     Kind = 2 // many objects one behind the other, then their manifests
	KindSegment  Kind = 3 // a sealed segment of the commit log
	KindSnapshot Kind = 4 // a snapshot of the catalog
)

// Extent is the record of up to 256 MiB of a stored stream, coded over
// Code.Shards() blobs.
type Extent struct {
	ID         ExtentID
	Upload     UploadID
	Ordinal    int   // position among the extents of its upload, from 0
	Offset     int64 // of its first byte in the stored stream
	Length     int64 // bytes, at least 1
	Kind       Kind
	Whole      bool // the extent is the whole stream: Hash is the stream's id
	Code       erasure.Code
	BlockSize  int
	CodeID     uint8  // 1: Reed-Solomon over GF(2^8), 0x11D, systematic Vandermonde
	Transform  uint8  // 0: none
	KeyEpoch   uint32 // 0: no key
	Hash       frame.Hash
	ParityRoot frame.Hash
	Descriptor frame.Hash // binds the geometry to the hashes
	Epoch      uint64     // open epoch of the store when it was written
	Shards     []Shard    // Code.Shards() of them, by index
}

// Shard says where one blob of an extent is.
type Shard struct {
	Backend    BackendID
	Generation uint32
	Missing    bool // not written yet: it is on the repair queue until a Replace or Intact
}

// Key returns the key of the blob that holds shard i.
func (e *Extent) Key(i int) BackendKey {
	return Key(e.ID, i, e.Shards[i].Generation, e.Epoch, e.Upload)
}

// Geometry returns the arithmetic of the extent's blocks.
func (e *Extent) Geometry() erasure.Geometry {
	return erasure.Geometry{Code: e.Code, BlockSize: e.BlockSize, Length: e.Length}
}

// UploadState is a step in the life of an upload: live, condemned, dead.
type UploadState uint8

const (
	UploadOpen      UploadState = 1 // extents recorded, no put applied yet: protected by its epoch
	UploadLive      UploadState = 2 // contents refer to it
	UploadCondemned UploadState = 3 // unreferenced; revivable until Until
	UploadDead      UploadState = 4 // logged and final: its blobs are to be removed
)

// Upload is the record of an act of putting that wrote extents.
type Upload struct {
	ID      UploadID
	State   UploadState
	Refs    uint64    // contents that lie in it and are referred to
	Epoch   uint64    // open epoch of the store when it began
	Extents int       // number recorded
	Length  int64     // bytes of its stored stream
	Until   time.Time // end of grace, in log time, while condemned
	Kept    *Kept     // what it is, of a stream without a name that is kept; Uploads leaves it out
}

// Repair is a row of the repair queue. There is at most one for each extent and
// shard, or for each absent backend.
type Repair struct {
	Extent  ExtentID
	Shard   int
	Backend BackendID // set, and Extent zero: the whole backend is absent
	Stripes []byte    // bitmap of the stripes known bad, bit i of byte i/8; empty: the whole shard
	Left    int       // shards the extent could still lose, at the time of the report; -1: lost
	Since   time.Time // log time of the first report: what a Report says here is not looked at
}

// Record is a list of commands that becomes one entry of the commit log.
type Record struct {
	// Each lets every command succeed or be refused by itself. Otherwise they
	// take effect all or none: when one is refused, all results carry an error.
	Each     bool
	Commands []Command
}

// Command is one of the commands declared below, or one that the catalog
// declares itself for names.
type Command interface{ CommandKind() CommandKind }

// CommandKind is the number of a command in the log. Numbers are never reused.
type CommandKind uint8

// Result is what became of one command.
type Result struct {
	Object  Object // the version that a put or a change of name ended at
	Changed bool   // false: the command was accepted and had nothing to do
	Number  uint64 // OpenEpoch: the new epoch
	Err     error  // the command was refused
}

// OpenEpoch begins a new open epoch: uploads of earlier epochs that no applied
// command names are garbage from here on.
type OpenEpoch struct{}

// AddExtent records a finished extent under its upload. Its shards are durable,
// but for those marked Missing, which it puts on the repair queue.
type AddExtent struct{ Extent Extent }

// Put makes content visible under a name. What it relies on is durable: the
// extents recorded before under Upload, those in Extents, or Inline.
type Put struct {
	Name    string
	Attr    Attr
	Policy  string
	ID      ID
	Size    int64
	Upload  UploadID // identity of the act, also for inline content
	Extents []Extent // extents of Upload not recorded by AddExtent
	Offset  int64    // of the content in the stored stream (packs)
	Inline  []byte   // the content, when it is at most MaxInline and in no extent
	Code    erasure.Code

	// Expect is the version the name must have: AnyVersion, 0 for a name that
	// is absent or deleted, else the current version. Otherwise ErrConflict.
	Expect int64

	// Distrust names an upload whose copy of this content was found damaged
	// by the putter: the content moves to the new upload.
	Distrust UploadID
}

// AnyVersion as Put.Expect accepts whatever the name holds.
const AnyVersion int64 = -1

// Replace commits a repaired or moved shard: if the shard still has generation
// From, it becomes To, and its row leaves the repair queue. Otherwise the
// command is refused with ErrConflict, and the new blob is garbage. So it is if To is on
// a backend that is gone; one that [Extent.MayMove] does not allow is fs.ErrInvalid.
type Replace struct {
	Extent ExtentID
	Shard  int
	From   uint32
	To     Shard
}

// Report puts damage on the repair queue. Stripes are added to those known.
type Report struct{ Damage []Repair }

// Intact takes a row off the repair queue: the shard, of generation Generation,
// or the backend, was found in order.
type Intact struct {
	Extent     ExtentID
	Shard      int
	Generation uint32
	Backend    BackendID
}

// Pack moves inline contents into a pack. Contents that were dropped or moved
// since are skipped; the result's Changed tells whether any moved, and Number how many.
type Pack struct {
	Extent  Extent
	Members []Member
}

// Member is the place of one content in a pack.
type Member struct {
	ID     ID
	Offset int64
	Size   int64
}

// Repack moves contents from packs into another: those that are referred to and lie still
// where they did, unless the new pack has less parity than theirs. The others stay; the
// result's Changed tells whether any moved, and Number how many.
type Repack struct {
	Extent  Extent
	Members []Moved
}

// Moved is a member of a pack that was one of another before.
type Moved struct {
	Member
	From UploadID
}

// Kill declares dead what may be: an upload that is condemned and whose grace is
// over in log time, or one of an earlier epoch that is still open. Changed says
// whether it is dead now; only then its blobs may be removed.
type Kill struct{ Upload UploadID }

// Forget drops the rows of a dead upload whose blobs are removed. The fact of
// its death stays in the log.
type Forget struct{ Upload UploadID }

// Abandon gives up an upload whose extents were recorded and which no put will
// name: it may be killed at once. One that is not open, or has no rows, is left as
// it is: Changed is false. It comes after the records of its extents.
type Abandon struct{ Upload UploadID }

// SetState keeps a small value, such as the cursor of a scrub, under a key.
type SetState struct {
	Key   string
	Value []byte // at most 64 KiB; nil removes the key
}

// Scrubbed records a finished pass of scrub: what was proven intact, and when.
type Scrubbed struct {
	Deep     bool
	Began    time.Time
	Extents  uint64
	Bytes    uint64
	Damaged  uint64 // shards found damaged
	Repaired uint64 // shards repaired in the same pass
	Lost     uint64 // stripes that could not be decoded
}

// The numbers of the commands in the log.
const (
	KindOpenEpoch CommandKind = 1
	KindAddExtent CommandKind = 2
	KindPut       CommandKind = 3
	KindReplace   CommandKind = 4
	KindReport    CommandKind = 5
	KindIntact    CommandKind = 6
	KindPackMove  CommandKind = 7
	KindKill      CommandKind = 8
	KindForget    CommandKind = 9
	KindSetState  CommandKind = 10
	KindScrubbed  CommandKind = 11
	KindAbandon   CommandKind = 12
	KindRepack    CommandKind = 13
)

// CommandKind returns the command's number in the log.
func (OpenEpoch) CommandKind() CommandKind { return KindOpenEpoch }
func (AddExtent) CommandKind() CommandKind { return KindAddExtent }
func (Put) CommandKind() CommandKind       { return KindPut }
func (Replace) CommandKind() CommandKind   { return KindReplace }
func (Report) CommandKind() CommandKind    { return KindReport }
func (Intact) CommandKind() CommandKind    { return KindIntact }
func (Pack) CommandKind() CommandKind      { return KindPackMove }
func (Kill) CommandKind() CommandKind      { return KindKill }
func (Forget) CommandKind() CommandKind    { return KindForget }
func (SetState) CommandKind() CommandKind  { return KindSetState }
func (Scrubbed) CommandKind() CommandKind  { return KindScrubbed }
func (Abandon) CommandKind() CommandKind   { return KindAbandon }
func (Repack) CommandKind() CommandKind    { return KindRepack }

// Limits of format and catalog.
const (
	MaxInline     = 4 << 10   // bytes of content that travel in the commit itself
	MaxSmall      = 256 << 10 // bytes of content that go into a pack with others
	MaxExtent     = 256 << 20 // bytes of an extent
	MaxPack       = 64 << 20  // bytes of a pack
	BlockSize     = 64 << 10  // bytes of a block
	MaxName       = 4096      // bytes of a name
	MaxComponent  = 255       // bytes of one component of a name
	MaxXattrBytes = 64 << 10  // bytes of all extended attributes of an object together
)
