package catalog

import (
	"errors"
	"fmt"
	"io/fs"
)

// What a command can be refused with, beside fs.ErrNotExist, fs.ErrExist and
// fs.ErrInvalid. A refused command changes nothing but the state of the uploads
// that it names: see the package comment.
var (
	// ErrConflict says that something else was committed first: the name, shard
	// or extent is not what the command expected. Look again, then decide.
	ErrConflict = errors.New("blockframe: changed meanwhile")

	// ErrExpired says that the upload a command relies on was given up: declared
	// dead, or left over from an earlier open of the store. Put again.
	ErrExpired = errors.New("blockframe: upload expired")

	// ErrRetained says that a version is under retention or hold.
	ErrRetained = errors.New("blockframe: under retention or hold")

	// ErrNotEmpty says that a directory has entries.
	ErrNotEmpty = errors.New("blockframe: directory not empty")
)

// invalid refuses bad input, with the reason.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", fs.ErrInvalid, fmt.Sprintf(format, args...))
}

// refuse returns an error that matches kind, with the reason.
func refuse(kind error, format string, args ...any) error {
	return fmt.Errorf("%w: %s", kind, fmt.Sprintf(format, args...))
}
