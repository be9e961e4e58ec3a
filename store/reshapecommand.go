package store

// Narrow marks an upload whose extents have a narrower code than their policy says, since
// backends were missing when it was put, or takes the mark away. It comes after what
// refers to the upload: one that is not known, or dead, is left as it is, and Changed is
// false. The mark goes with the upload, or with the last content that is moved out of it.
type Narrow struct {
	Upload UploadID
	On     bool
}

// Reshape moves a content from one upload to another that has the same bytes in another
// code. It moves if it is then where it was and is referred to, if no shard of the new
// upload is missing, and if it loses no parity, or is still referred to by Refs versions:
// those that whoever proposes it knows to want less. Otherwise nothing refers to the new
// upload; the result's Changed tells.
type Reshape struct {
	ID      ID
	Size    int64
	From    UploadID
	Upload  UploadID // the new one: all of it is the content
	Extents []Extent // of Upload not recorded by AddExtent
	Refs    uint64
}

// Their numbers in the log.
const (
	KindNarrow  CommandKind = 18
	KindReshape CommandKind = 19
)

// CommandKind returns the command's number in the log.
func (Narrow) CommandKind() CommandKind  { return KindNarrow }
func (Reshape) CommandKind() CommandKind { return KindReshape }
