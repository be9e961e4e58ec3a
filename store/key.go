package store

import (
	"encoding/hex"
	"fmt"
	"io/fs"

	"github.com/blockframe/blockframe/internal/frame"
)

// keyForm is the shape of a key: every x is a lower-case hexadecimal digit.
const keyForm = "xx/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xx-xxxxxxxx-xxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

// Validate returns nil if [Key] could have made k: the form is right, and the
// folder is that of the extent. No such key leads out of its folder, and no
// other file on a disk is taken for a blob. The error matches fs.ErrInvalid.
func (k BackendKey) Validate() error {
	if !k.hasForm() {
		return fmt.Errorf("%w: %q is not a backend key", fs.ErrInvalid, string(k))
	}
	var extent ExtentID
	hex.Decode(extent[:], []byte(k[3:35]))
	if h := frame.Sum(extent[:]); hex.EncodeToString(h[:1]) != string(k[:2]) {
		return fmt.Errorf("%w: backend key %q is in the wrong folder, want %x", fs.ErrInvalid, string(k), h[0])
	}
	return nil
}

func (k BackendKey) hasForm() bool {
	if len(k) != len(keyForm) {
		return false
	}
	for i, c := range []byte(k) {
		digit := '0' <= c && c <= '9' || 'a' <= c && c <= 'f'
		if keyForm[i] == 'x' && !digit || keyForm[i] != 'x' && c != keyForm[i] {
			return false
		}
	}
	return true
}
