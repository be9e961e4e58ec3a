package dir

// What tests of the format see.
var DecodeIdentity = decodeIdentity

// Encode returns the content of the file id.
func (id Identity) Encode() []byte { return id.encodeFile() }
