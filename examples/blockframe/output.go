package main

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/blockframe/blockframe"
)

// writeJSON prints v as one line.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// objectRow is a version of a name as --json shows it.
type objectRow struct {
	Name        string            `json:"name"`
	Type        string            `json:"type"` // file, dir, symlink or deleted
	Version     uint64            `json:"version,omitempty"`
	ID          *blockframe.ID    `json:"id,omitempty"` // of files
	Size        *int64            `json:"size,omitempty"`
	Mode        string            `json:"mode"` // octal: permissions, setuid 4000, setgid 2000, sticky 1000
	UID         uint32            `json:"uid"`
	GID         uint32            `json:"gid"`
	ModTime     time.Time         `json:"mtime"`
	Xattrs      map[string][]byte `json:"xattrs,omitempty"` // base64
	Target      string            `json:"target,omitempty"`
	Policy      string            `json:"policy,omitempty"`
	Created     time.Time         `json:"created,omitzero"`
	RetainUntil time.Time         `json:"retain_until,omitzero"`
	Hold        bool              `json:"hold,omitempty"`
}

func rowOf(o blockframe.Object) objectRow {
	row := objectRow{Name: o.Name, Type: kindOf(o), Version: o.Version, Mode: fmt.Sprintf("%04o", unixMode(o.Mode)),
		UID: o.UID, GID: o.GID, ModTime: o.ModTime.UTC(), Xattrs: o.Xattrs, Target: o.Target, Policy: o.Policy,
		Created: utc(o.Created), RetainUntil: utc(o.RetainUntil), Hold: o.Hold}
	if row.Type == "file" {
		row.ID, row.Size = &o.ID, &o.Size
	}
	return row
}

// utc leaves the zero time what it is.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}

func kindOf(o blockframe.Object) string {
	switch {
	case o.Deleted:
		return "deleted"
	case o.Mode.IsDir():
		return "dir"
	case o.Mode&fs.ModeSymlink != 0:
		return "symlink"
	}
	return "file"
}

// unixMode returns the low twelve bits of a mode as Unix has them.
func unixMode(m fs.FileMode) uint32 {
	u := uint32(m.Perm())
	for _, bit := range []struct {
		go_  fs.FileMode
		unix uint32
	}{{fs.ModeSetuid, 0o4000}, {fs.ModeSetgid, 0o2000}, {fs.ModeSticky, 0o1000}} {
		if m&bit.go_ != 0 {
			u |= bit.unix
		}
	}
	return u
}

// object prints one version of a name.
func (a *app) object(o blockframe.Object) error {
	if a.json {
		return writeJSON(a.out, rowOf(o))
	}
	name := quoted(o.Name)
	if o.Target != "" {
		name += " -> " + quoted(o.Target)
	}
	if o.Deleted {
		_, err := fmt.Fprintf(a.out, "%-10s %12s  %s  %s\n", "deleted", "", o.Created.Local().Format("2006-01-02 15:04"), name)
		return err
	}
	_, err := fmt.Fprintf(a.out, "%v %12d  %s  %s\n", o.Mode, o.Size, o.ModTime.Local().Format("2006-01-02 15:04"), name)
	return err
}
