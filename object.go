package blockframe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/blockframe/blockframe/internal/catalog"
	"github.com/blockframe/blockframe/store"
)

// Put stores what r yields under name. When it returns without an error the object
// is durable and visible; nothing is visible otherwise, unless the error matches
// ErrUncertain, and then putting again is safe. Missing directories above the name
// are made. Other content under a name that exists becomes a new version; the same
// content with the same attributes changes nothing.
//
// A file, of the operating system or of an [fs.FS], is watched: one that changes
// while it is read is ErrChanged. A name that cannot be is fs.ErrInvalid.
//
// When ctx ends while r blocks, Put returns; the Read of r that is under way goes on.
func (s *Store) Put(ctx context.Context, name string, r io.Reader, opts PutOptions) (Object, error) {
	r, put, err := s.source(ctx, name, r, opts)
	if err != nil {
		return Object{}, fmt.Errorf("put %s: %w", name, err)
	}
	return s.eng.Put(ctx, name, r, put)
}

// source checks the name and completes what is known of the content.
func (s *Store) source(ctx context.Context, name string, r io.Reader, opts PutOptions) (io.Reader, store.PutOptions, error) {
	put := store.PutOptions{Attr: orDefault(opts.Attr, s.now()), Size: opts.Size, ID: opts.ID, Expect: opts.expect()}
	if err := checkName(name); err != nil {
		return nil, put, err
	}
	if put.Size < 0 {
		return nil, put, fmt.Errorf("%w: a size of %d bytes", fs.ErrInvalid, put.Size)
	}
	if t := put.Mode.Type(); t != 0 {
		return nil, put, fmt.Errorf("%w: content with the mode of a %v", fs.ErrInvalid, t)
	}
	r, size, err := announce(ctx, r)
	if put.Size == 0 {
		put.Size = size
	}
	return r, put, err
}

// checkName returns nil for a name that an object can have.
func checkName(name string) error { return catalog.CheckName(name) }

// Open returns a reader of the current version of a name. The caller closes it.
// ctx bounds its life. A name that is absent or deleted is fs.ErrNotExist, a
// directory or symbolic link fs.ErrInvalid.
func (s *Store) Open(ctx context.Context, name string) (*Reader, error) {
	return s.OpenVersion(ctx, name, 0)
}

// OpenVersion is Open of a version that Versions lists, 0 the current one.
func (s *Store) OpenVersion(ctx context.Context, name string, version uint64) (*Reader, error) {
	obj, err := s.StatVersion(ctx, name, version)
	if err != nil {
		return nil, err
	}
	return s.open(ctx, obj)
}

// OpenID returns a reader of the content with an address, whatever names it has.
func (s *Store) OpenID(ctx context.Context, id ID) (*Reader, error) {
	c, err := s.cat.Content(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("open %v: %w", id, err)
	}
	return s.open(ctx, Object{Name: id.String(), ID: id, Size: c.Size})
}

func (s *Store) open(ctx context.Context, obj Object) (*Reader, error) {
	switch {
	case obj.Mode.IsDir():
		return nil, fmt.Errorf("open %s: %w", obj.Name, errIsDir)
	case obj.Mode&fs.ModeSymlink != 0:
		return nil, fmt.Errorf("open %s: %w: is a symbolic link to %s", obj.Name, fs.ErrInvalid, obj.Target)
	}
	return s.eng.Open(ctx, obj)
}

// Stat returns the current version of a name, which may be a directory or a
// symbolic link. A name that is absent or deleted is fs.ErrNotExist.
func (s *Store) Stat(ctx context.Context, name string) (Object, error) {
	return s.StatVersion(ctx, name, 0)
}

// StatVersion is Stat of a version that Versions lists, 0 the current one.
func (s *Store) StatVersion(ctx context.Context, name string, version uint64) (Object, error) {
	err := catalog.CheckFound(name)
	if err != nil {
		return Object{}, fmt.Errorf("stat %s: %w", name, err)
	}
	obj, err := s.cat.Object(ctx, name, version)
	if err == nil && obj.Deleted {
		err = fmt.Errorf("%w: deleted at %v", fs.ErrNotExist, obj.Created.UTC().Format(time.RFC3339))
	}
	if err != nil {
		return Object{}, fmt.Errorf("stat %s: %w", name, err)
	}
	return obj, nil
}

// stat is Stat without the name in the error, and knows the root.
func (s *Store) stat(ctx context.Context, name string) (Object, error) {
	obj, err := s.cat.Object(ctx, name, 0)
	if name == "." && errors.Is(err, fs.ErrNotExist) {
		return Object{Name: ".", Attr: Attr{Mode: fs.ModeDir | 0o755}}, nil // nothing was ever put
	}
	if err == nil && obj.Deleted {
		err = fs.ErrNotExist
	}
	return obj, err
}

// DeleteOptions says what Delete removes. The zero value puts a marker on top of
// the name: it is gone from lists, and every version stays readable.
type DeleteOptions struct {
	Version uint64 // purge this version for good
	All     bool   // purge the name and all its versions for good
}

// Delete deletes a name or purges versions of it. What is under retention or hold
// is ErrRetained; a name that is absent or deleted already is fs.ErrNotExist. The
// space of purged content is free after its grace, at the next Collect.
func (s *Store) Delete(ctx context.Context, name string, opts DeleteOptions) error {
	if opts.Version != 0 && opts.All {
		return fmt.Errorf("delete %s: %w: both a version and all of them", name, fs.ErrInvalid)
	}
	if opts.Version == 0 && !opts.All {
		_, err := s.change(ctx, "delete", name, catalog.Delete{Name: name, Expect: store.AnyVersion})
		return err
	}
	for {
		res, err := s.change(ctx, "purge", name, catalog.Purge{Name: name, Version: opts.Version, All: opts.All})
		if err == nil {
			s.eng.Purged(1) // at least
		}
		if err != nil || !opts.All || res.Number == 0 {
			return err
		}
	}
}

// Rename gives an object or directory another name, with its history. The new name
// must be absent or deleted, else fs.ErrExist. Missing directories above it are
// made. What has a version under retention or hold, or is a directory above one,
// stays where it is: ErrRetained.
func (s *Store) Rename(ctx context.Context, from, to string) error {
	_, err := s.change(ctx, "rename", from, catalog.Rename{From: from, To: to})
	return err
}

// Mkdir makes a directory, and those above it that are missing. One that exists is
// fs.ErrExist. A nil attr is mode 0755 and the owner of the process.
func (s *Store) Mkdir(ctx context.Context, name string, attr *Attr) error {
	return s.mkdir(ctx, name, attr, false)
}

// MkdirAll is Mkdir, and succeeds where there is a directory already.
func (s *Store) MkdirAll(ctx context.Context, name string, attr *Attr) error {
	return s.mkdir(ctx, name, attr, true)
}

func (s *Store) mkdir(ctx context.Context, name string, attr *Attr, parents bool) error {
	_, err := s.change(ctx, "mkdir", name, catalog.Mkdir{Name: name, Attr: dirAttr(attr, s.now()), Parents: parents})
	return err
}

// Rmdir removes a directory without live entries, else ErrNotEmpty. Histories of
// what was deleted in it stay readable.
func (s *Store) Rmdir(ctx context.Context, name string) error {
	_, err := s.change(ctx, "rmdir", name, catalog.Rmdir{Name: name})
	return err
}

// Symlink makes a symbolic link to target, which need not exist. A nil attr is the
// owner of the process.
func (s *Store) Symlink(ctx context.Context, name, target string, attr *Attr) (Object, error) {
	res, err := s.change(ctx, "symlink", name, catalog.Symlink{Name: name, Attr: linkAttr(target, attr, s.now())})
	return res.Object, err
}

// AttrChange says which attributes SetAttr changes: those that are not nil.
type AttrChange struct {
	Mode    *fs.FileMode // permission, setuid, setgid and sticky bits
	UID     *uint32
	GID     *uint32
	ModTime *time.Time
	Xattrs  map[string][]byte // all of them together; an empty map removes all
}

// command returns the command that makes the change.
func (c AttrChange) command(name string) catalog.SetAttr {
	cmd := catalog.SetAttr{Name: name}
	if c.Mode != nil {
		cmd.Attr.Mode, cmd.Mask = *c.Mode, cmd.Mask|catalog.SetMode
	}
	if c.UID != nil {
		cmd.Attr.UID, cmd.Mask = *c.UID, cmd.Mask|catalog.SetUID
	}
	if c.GID != nil {
		cmd.Attr.GID, cmd.Mask = *c.GID, cmd.Mask|catalog.SetGID
	}
	if c.ModTime != nil {
		cmd.Attr.ModTime, cmd.Mask = *c.ModTime, cmd.Mask|catalog.SetModTime
	}
	if c.Xattrs != nil {
		cmd.Attr.Xattrs, cmd.Mask = c.Xattrs, cmd.Mask|catalog.SetXattrs
	}
	return cmd
}

// SetAttr changes attributes of a directory or of the current version of a name.
// The content and its version stay.
func (s *Store) SetAttr(ctx context.Context, name string, change AttrChange) (Object, error) {
	res, err := s.change(ctx, "setattr", name, change.command(name))
	return res.Object, err
}

// Hold sets or lifts the hold on a version, 0 the current one: while it is set the
// version is neither deleted nor purged.
func (s *Store) Hold(ctx context.Context, name string, version uint64, on bool) error {
	_, err := s.change(ctx, "hold", name, catalog.Hold{Name: name, Version: version, On: on})
	return err
}

// Retain keeps a version, 0 the current one, from being deleted or purged before
// until. It only extends: an earlier time is ErrRetained.
func (s *Store) Retain(ctx context.Context, name string, version uint64, until time.Time) error {
	_, err := s.change(ctx, "retain", name, catalog.Retain{Name: name, Version: version, Until: until})
	return err
}

// change commits one command. Durable when it returns without an error.
func (s *Store) change(ctx context.Context, op, name string, cmd store.Command) (store.Result, error) {
	res, err := s.cat.Commit(ctx, store.Record{Commands: []store.Command{cmd}})
	if err == nil {
		err = res[0].Err
	}
	if err != nil {
		return store.Result{}, fmt.Errorf("%s %s: %w", op, name, err)
	}
	return res[0], nil
}
