package blockframe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strings"
)

// ListOptions says what List yields. The zero value is everything below.
type ListOptions struct {
	Flat    bool   // only the entries of the directory itself
	Deleted bool   // deleted names and removed directories too; implies Flat
	After   string // begin behind this name, which lies in the directory
}

// List yields what is in a directory, "" being the root, sorted by components: a
// directory comes before what is in it. The name of an object yields that object
// alone. It holds one entry in memory at a time, and sees one state of the store.
// A name that is absent is fs.ErrNotExist.
func (s *Store) List(ctx context.Context, dir string, opts ListOptions) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		if dir == "" {
			dir = "."
		}
		obj, err := s.stat(ctx, dir)
		if err == nil && !obj.Mode.IsDir() {
			yield(obj, nil)
			return
		}
		if err != nil && !(opts.Deleted && errors.Is(err, fs.ErrNotExist)) {
			yield(Object{}, fmt.Errorf("list %s: %w", dir, err))
			return
		}
		for obj, err := range s.entries(ctx, dir, opts) {
			if err != nil {
				err = fmt.Errorf("list %s: %w", dir, err)
			}
			if !yield(obj, err) || err != nil {
				return
			}
		}
	}
}

// entries yields what is in a directory.
func (s *Store) entries(ctx context.Context, dir string, opts ListOptions) iter.Seq2[Object, error] {
	if !opts.Flat && !opts.Deleted {
		return s.cat.Walk(ctx, dir, opts.After)
	}
	after := opts.After
	if dir != "." {
		after = strings.TrimPrefix(after, dir+"/")
	}
	if opts.Deleted {
		return s.cat.ListAll(ctx, dir, after)
	}
	return s.cat.List(ctx, dir, after)
}

// Versions yields the versions of a name, newest first, deletions included: these
// have Deleted set. After those of the present name come those of names that stood
// there before and gave way to a rename; their Inode differs.
func (s *Store) Versions(ctx context.Context, name string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		for obj, err := range s.cat.Versions(ctx, name) {
			if err != nil {
				err = fmt.Errorf("versions of %s: %w", name, err)
			}
			if !yield(obj, err) || err != nil {
				return
			}
		}
	}
}
