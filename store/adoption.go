package store

// The commands by which a catalog takes in what shards prove and no record names: see
// Store.Rebuild.

// LostFound is the directory for objects that no record named. Names in it are given by
// an Adopt alone; what has one can be read, moved out and removed as any other.
const LostFound = "lost+found"

// StateRebuilt is the key of the state that says that a store was rebuilt from its
// shards. While its value is Unaccepted nothing is collected.
const StateRebuilt = "rebuilt"

// Unaccepted is a value of StateRebuilt.
const Unaccepted = "unaccepted"

// accepted is the other one.
const accepted = "accepted"

// AdoptExtent records an extent that was found, whatever epoch up to the present one it
// is of. Of one that is recorded already it takes the shards that were missing and are
// there, and new places of those that are not. Its upload counts as being adopted until an Adopted: see AdoptingKey.
type AdoptExtent struct{ Extent Extent }

// Adopt gives an object, whose extents are recorded, a name below LostFound. A name that
// is there with the same content and attributes is success; with anything else it is
// refused with fs.ErrExist.
type Adopt struct {
	Name   string
	Attr   Attr
	Policy string
	ID     ID
	Size   int64
	Upload UploadID
	Offset int64 // of the content in the stored stream (packs)
}

// Adopted ends the adoption of an upload. One that nothing refers to is condemned, with
// the usual grace.
type Adopted struct{ Upload UploadID }

// RaiseEpoch makes the open epoch at least Epoch, so that blobs of epochs which the log
// does not know are not taken for those of the future.
type RaiseEpoch struct{ Epoch uint64 }

// MaxEpoch is the largest open epoch there can be.
const MaxEpoch = 1 << 62

// Their numbers in the log.
const (
	KindAdoptExtent CommandKind = 50
	KindAdopt       CommandKind = 51
	KindAdopted     CommandKind = 52
	KindRaiseEpoch  CommandKind = 53
)

// CommandKind returns the command's number in the log.
func (AdoptExtent) CommandKind() CommandKind { return KindAdoptExtent }
func (Adopt) CommandKind() CommandKind       { return KindAdopt }
func (Adopted) CommandKind() CommandKind     { return KindAdopted }
func (RaiseEpoch) CommandKind() CommandKind  { return KindRaiseEpoch }

// AdoptingKey is the key of the state that an upload has while it is being adopted.
func AdoptingKey(id UploadID) string { return "adopting/" + id.String() }
