package blockframe

import (
	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/store"
)

// What the packages below declare and who embeds a store needs.
type (
	// ID is the address of an object: the BLAKE3-256 of its content. It prints
	// as b3:HEX. See store.ID for its fields and methods.
	ID = store.ID

	// Object is one version of a name; it may be a directory or symbolic link. See
	// store.Object for its fields and methods.
	Object = store.Object

	// Attr is what a filesystem knows of a file besides its bytes. See store.Attr for
	// its fields and methods.
	Attr = store.Attr

	// Reader reads one version of an object, every byte verified. See store.Reader for
	// its fields and methods.
	Reader = store.Reader

	// Code says how many blocks of a stripe are data and how many parity. See
	// erasure.Code for its fields and methods.
	Code = erasure.Code

	// Policy says how objects under a prefix and of a size are stored. See
	// store.Policy for its fields and methods.
	Policy = store.Policy

	// Backend keeps blobs in one failure domain; users implement it for what is
	// not a directory. See store.Backend for its fields and methods.
	Backend = store.Backend

	// BackendID names a failure domain. See store.BackendID for its fields and
	// methods.
	BackendID = store.BackendID

	// Usage is the space of a failure domain. See store.Usage for its fields and
	// methods.
	Usage = store.Usage

	// Events are told of damage and repairs. See store.Events for its fields and
	// methods.
	Events = store.Events

	// Damage is something that is not as it was written. See store.Damage for its
	// fields and methods.
	Damage = store.Damage

	// Repaired is a shard that was made whole. See store.Repaired for its fields and
	// methods.
	Repaired = store.Repaired

	// CorruptError says which range of which object is lost. See store.CorruptError
	// for its fields and methods.
	CorruptError = store.CorruptError

	// ScrubOptions says how Store.Scrub works. See store.ScrubOptions for its fields
	// and methods.
	ScrubOptions = store.ScrubOptions

	// ScrubReport is what Store.Scrub found. See store.ScrubReport for its fields and
	// methods.
	ScrubReport = store.ScrubReport

	// Degraded is a version that can lose fewer shards than its code provides for. See
	// store.Degraded for its fields and methods.
	Degraded = store.Degraded

	// Survival is what an object can lose and still be read. See store.Survival for its
	// fields.
	Survival = store.Survival

	// ScrubStatus is how far the passes of scrub are. See store.ScrubStatus for its fields.
	ScrubStatus = store.ScrubStatus

	// Upkeep says what a store does by itself while it is open. See store.Upkeep for its
	// fields.
	Upkeep = store.Upkeep

	// ScrubPass is a pass of scrub. See store.ScrubPass for its fields and methods.
	ScrubPass = store.ScrubPass

	// RepairReport is what Store.Repair did. See store.RepairReport for its fields and
	// methods.
	RepairReport = store.RepairReport

	// CompactOptions says how Store.Compact works. See store.CompactOptions for its fields.
	CompactOptions = store.CompactOptions

	// CompactReport is what Store.Compact did. See store.CompactReport for its fields.
	CompactReport = store.CompactReport

	// ReshapeOptions says what Store.Reshape reshapes. See store.ReshapeOptions for its fields.
	ReshapeOptions = store.ReshapeOptions

	// ReshapeReport is what Store.Reshape did. See store.ReshapeReport for its fields.
	ReshapeReport = store.ReshapeReport

	// AuditReport is what Store.Audit found. See store.AuditReport for its fields.
	AuditReport = store.AuditReport

	// RebuildOptions says how to rebuild. See store.RebuildOptions for its fields.
	RebuildOptions = store.RebuildOptions

	// RebuildReport is what Rebuild found and did. See store.RebuildReport for its fields.
	RebuildReport = store.RebuildReport

	// Found is something on the disks that no record names. See store.Found for its fields.
	Found = store.Found

	// MoveOptions says how shards are moved from disk to disk. See store.MoveOptions for
	// its fields.
	MoveOptions = store.MoveOptions

	// MoveReport is what became of them. See store.MoveReport for its fields and methods.
	MoveReport = store.MoveReport

	// DiskTrouble counts what a disk gave besides good blocks. See store.Trouble for its
	// fields and methods.
	DiskTrouble = store.Trouble

	// CollectOptions says how Store.Collect works. See store.CollectOptions for its
	// fields and methods.
	CollectOptions = store.CollectOptions

	// CollectReport is what Store.Collect removed. See store.CollectReport for its
	// fields and methods.
	CollectReport = store.CollectReport
)

// ParseID reads an ID as it prints: b3: and 64 hexadecimal digits.
func ParseID(s string) (ID, error) { return store.ParseID(s) }

// ParseCode reads a code as it prints: 8+3.
func ParseCode(s string) (Code, error) { return erasure.ParseCode(s) }

// DefaultCode returns the code of a store on so many backends that was not told
// another.
func DefaultCode(backends int) Code { return erasure.DefaultCode(backends) }

// TiersArchive returns policies of three tiers by size: up to 10 MB four copies,
// up to 1 GB four copies of every 32 MiB, above that 30+3. Up to perBackend shards
// of a stripe may lie on one backend.
func TiersArchive(prefix string, perBackend int) []Policy {
	return store.TiersArchive(prefix, perBackend)
}
