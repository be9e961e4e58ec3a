package catalog

import (
	"time"

	"github.com/blockframe/blockframe/store"
)

// The commands for names, policies and settings, beside those of the data plane
// that package store declares. Names are as for store.Put.

// Delete puts a marker on top of a name. What was there stays readable by its
// version. A name that is absent or deleted is fs.ErrNotExist, a directory
// fs.ErrInvalid, and a name whose current version is under retention or hold
// ErrRetained.
type Delete struct {
	Name   string
	Expect int64 // as in store.Put; 0 is the same as store.AnyVersion
}

// Purge drops one version of a name, or all of them and of the names that stood
// there before it (see Versions). It is refused with ErrRetained, and nothing is
// dropped, when one of them is under retention or hold. All drops at most
// PurgeLimit versions, those of names that stood there before first, of each name
// the current version last, and Result.Number says how many are left: repeat until
// it is 0.
type Purge struct {
	Name    string
	Version uint64 // 0 only with All
	All     bool
}

// PurgeLimit is the number of versions that one Purge drops at most.
const PurgeLimit = 4096

// Rename gives what has the name From the name To, history included. To must be
// absent or deleted; a deleted history there is kept aside. Missing directories
// above To are made. Moving a directory into itself is fs.ErrInvalid. Where any
// version of From, or of a name below the directory From, is under retention or
// hold, moving it is ErrRetained.
type Rename struct{ From, To string }

// Mkdir makes a directory. With Parents, missing directories above are made too,
// and a directory that exists is success. Of Attr the type bits are implied.
type Mkdir struct {
	Name    string
	Attr    store.Attr
	Parents bool
}

// Rmdir removes a directory without live entries. Histories of names that were
// deleted in it stay, and are reached by their names as before.
type Rmdir struct{ Name string }

// Symlink adds a version to a name that is absent or deleted: a symbolic link to
// Attr.Target. Committing the same again is success.
type Symlink struct {
	Name string
	Attr store.Attr
}

// AttrMask says which fields SetAttr changes.
type AttrMask uint8

// The fields of an Attr that can be changed.
const (
	SetMode    AttrMask = 1 << iota // permission, setuid, setgid and sticky bits
	SetUID                          // owner
	SetGID                          // group
	SetModTime                      // time of last modification
	SetXattrs                       // all extended attributes together

	allAttrs = SetMode | SetUID | SetGID | SetModTime | SetXattrs
)

// SetAttr changes the attributes of a directory or of the current version of a
// name, in place, but not of one under retention or hold.
type SetAttr struct {
	Name string
	Mask AttrMask
	Attr store.Attr
}

// SetPolicy adds a policy, or replaces the one of the same Prefix and MaxSize.
type SetPolicy struct{ Policy store.Policy }

// UnsetPolicy removes all policies of a prefix.
type UnsetPolicy struct{ Prefix string }

// Hold sets or lifts the hold on a version; version 0 is the current one.
type Hold struct {
	Name    string
	Version uint64
	On      bool
}

// Retain keeps a version from being purged, version 0 the current one, for as
// long as there is from the record's log time to Until, on a clock that cannot
// be set: see the package comment. It only extends: less is ErrRetained.
type Retain struct {
	Name    string
	Version uint64
	Until   time.Time
}

// SetBackends replaces the list of registered backends. Those that are gone stay known.
type SetBackends struct{ Backends []Backend }

// Backend is a registered backend of the store.
type Backend struct {
	ID   store.BackendID
	Path string // where it was last opened from, for people

	State BackendState // in what Backends returns; SetBackends and AddBackend leave it as it is
}

// SetGrace sets how long an unreferenced upload stays revivable.
type SetGrace struct{ Grace time.Duration }

// Numbers of commands in the log. 64 to 95 are kept for the entries of a ledger,
// 96 to 127 for leases and nodes. Numbers are never reused.
const (
	KindDelete      store.CommandKind = 32
	KindPurge       store.CommandKind = 33
	KindRename      store.CommandKind = 34
	KindMkdir       store.CommandKind = 35
	KindRmdir       store.CommandKind = 36
	KindSymlink     store.CommandKind = 37
	KindSetAttr     store.CommandKind = 38
	KindSetPolicy   store.CommandKind = 39
	KindUnsetPolicy store.CommandKind = 40
	KindHold        store.CommandKind = 41
	KindRetain      store.CommandKind = 42
	KindSetBackends store.CommandKind = 43
	KindSetGrace    store.CommandKind = 44
)

func (Delete) CommandKind() store.CommandKind      { return KindDelete }
func (Purge) CommandKind() store.CommandKind       { return KindPurge }
func (Rename) CommandKind() store.CommandKind      { return KindRename }
func (Mkdir) CommandKind() store.CommandKind       { return KindMkdir }
func (Rmdir) CommandKind() store.CommandKind       { return KindRmdir }
func (Symlink) CommandKind() store.CommandKind     { return KindSymlink }
func (SetAttr) CommandKind() store.CommandKind     { return KindSetAttr }
func (SetPolicy) CommandKind() store.CommandKind   { return KindSetPolicy }
func (UnsetPolicy) CommandKind() store.CommandKind { return KindUnsetPolicy }
func (Hold) CommandKind() store.CommandKind        { return KindHold }
func (Retain) CommandKind() store.CommandKind      { return KindRetain }
func (SetBackends) CommandKind() store.CommandKind { return KindSetBackends }
func (SetGrace) CommandKind() store.CommandKind    { return KindSetGrace }
