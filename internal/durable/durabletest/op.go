// Package durabletest wraps a durable.FS so that a test can see every change
// that code makes to files, look at what a power cut would leave after each,
// and make any of them fail.
//
//	m := vfs.NewCrashableMem()
//	fsys := durabletest.New(durable.Mem(m), durabletest.Options{
//		After: durabletest.Crashes(m, 3, func(img durabletest.Image) { … }),
//	})
//
// What goes through [FS.Pebble] is numbered, recorded and failed like the rest.
package durabletest

import (
	"fmt"
	"strings"
)

// Kind is what an operation does.
type Kind string

// The operations that change something: numbered and recorded.
const (
	Create    Kind = "create"
	Write     Kind = "write"
	Sync      Kind = "sync" // of a file's content
	SyncTo    Kind = "syncto"
	Rename    Kind = "rename"
	RenameNew Kind = "renamenew"
	Link      Kind = "link"
	Reuse     Kind = "reuse" // Pebble's ReuseForWrite: a rename
	Remove    Kind = "remove"
	RemoveAll Kind = "removeall"
	Mkdir     Kind = "mkdir"
	MkdirAll  Kind = "mkdirall" // the syncs of the parents included
	SyncDir   Kind = "syncdir"
	Lock      Kind = "lock"
)

// The operations that only look: not numbered, not recorded, but failed on
// request like the others.
const (
	Open  Kind = "open"
	Read  Kind = "read"
	List  Kind = "list"
	Stat  Kind = "stat"
	Usage Kind = "usage"
	Close Kind = "close"
)

// Changes reports whether an operation of kind k is numbered and recorded.
func (k Kind) Changes() bool {
	switch k {
	case Open, Read, List, Stat, Usage, Close:
		return false
	}
	return true
}

// Op is one operation.
type Op struct {
	N        int    // 1, 2, 3, … in the order of their beginning; 0 for one that only looks
	Kind     Kind   //
	Name     string // as the caller wrote it
	To       string // the new name, of renames and links
	Off, Len int64  // of reads and writes, in bytes; Len also of SyncTo
	Direct   bool   // of Create
}

// String returns the operation as one line without its number:
//
//	create NAME [direct]
//	write NAME OFF+LEN
//	renamenew OLD -> NEW
//	syncdir NAME
func (op Op) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", op.Kind, op.Name)
	switch op.Kind {
	case Rename, RenameNew, Link, Reuse:
		fmt.Fprintf(&b, " -> %s", op.To)
	case Write, Read:
		fmt.Fprintf(&b, " %d+%d", op.Off, op.Len)
	case SyncTo:
		fmt.Fprintf(&b, " %d", op.Len)
	}
	if op.Direct {
		b.WriteString(" direct")
	}
	return b.String()
}

// Arm says on which side of an operation a fault strikes.
type Arm int

const (
	Before Arm = iota + 1 // it did not happen, and an error is returned
	After                 // it did happen, and an error is returned all the same
)

// String returns the name of the arm.
func (a Arm) String() string {
	if a == Before {
		return "before"
	}
	return "after"
}

// Fault is an error to be returned in place of an operation's own result. Err
// is given the operation and the name, and matches durable.ErrNoSpace if it is
// syscall.ENOSPC or EDQUOT.
type Fault struct {
	Arm Arm
	Err error
}

// Nth returns a predicate for Options.Fault that fails the change numbered n,
// once.
func Nth(n int, arm Arm, err error) func(Op) *Fault {
	return func(op Op) *Fault {
		if op.N != n {
			return nil
		}
		return &Fault{Arm: arm, Err: err}
	}
}

// All returns a predicate for Options.Fault that fails every operation of one
// kind whose name contains part.
func All(kind Kind, part string, arm Arm, err error) func(Op) *Fault {
	return func(op Op) *Fault {
		if op.Kind != kind || !strings.Contains(op.Name, part) {
			return nil
		}
		return &Fault{Arm: arm, Err: err}
	}
}
