package blockframe

import (
	"context"
	"fmt"
	"io"

	"github.com/blockframe/blockframe/internal/catalog"
	"github.com/blockframe/blockframe/store"
)

// Batch gathers changes that take effect together or not at all, in the order they
// were added. Small contents go into a pack together, which makes it the fast way
// to put many files. A Batch is used by one goroutine, and ended by Commit or
// Abort.
//
// One batch is one record of the log, of at most 1 MiB: about 2,000 puts.
type Batch struct {
	s   *Store
	ctx context.Context
	b   *store.Batch
}

// Batch returns an empty batch. ctx bounds all of it.
func (s *Store) Batch(ctx context.Context) *Batch {
	return &Batch{s: s, ctx: ctx, b: s.eng.NewBatch(ctx)}
}

// Put adds an object and reads all of r, as Store.Put does. It is neither durable
// nor visible before Commit. After an error the batch can only be aborted, but for
// a name that cannot be and for a file that cannot be opened, which add nothing.
func (b *Batch) Put(name string, r io.Reader, opts PutOptions) error {
	r, put, err := b.s.source(b.ctx, name, r, opts)
	if err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	return b.b.Put(name, r, put)
}

// PutFile adds a file of the operating system, as Store.PutFile does.
func (b *Batch) PutFile(name, path string, opts PutOptions) error {
	f, err := openSource(path, &opts)
	if err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	defer f.Close()
	return b.Put(name, f, opts)
}

// Mkdir adds a directory; one that exists already is no error.
func (b *Batch) Mkdir(name string, attr *Attr) error {
	return b.add(name, catalog.Mkdir{Name: name, Attr: dirAttr(attr, b.s.now()), Parents: true})
}

// Symlink adds a symbolic link.
func (b *Batch) Symlink(name, target string, attr *Attr) error {
	return b.add(name, catalog.Symlink{Name: name, Attr: linkAttr(target, attr, b.s.now())})
}

// Rename adds a change of a name.
func (b *Batch) Rename(from, to string) error {
	if err := checkName(to); err != nil {
		return fmt.Errorf("batch: %w", err)
	}
	return b.add(from, catalog.Rename{From: from, To: to})
}

// Delete adds the deletion of a name: its versions stay readable.
func (b *Batch) Delete(name string) error {
	return b.add(name, catalog.Delete{Name: name, Expect: store.AnyVersion})
}

// SetAttr adds a change of attributes.
func (b *Batch) SetAttr(name string, change AttrChange) error {
	return b.add(name, change.command(name))
}

func (b *Batch) add(name string, cmd store.Command) error {
	if err := checkName(name); err != nil {
		return fmt.Errorf("batch: %w", err)
	}
	b.b.Add(cmd)
	return nil
}

// Len returns the number of changes added.
func (b *Batch) Len() int { return b.b.Len() }

// Commit makes all changes take effect, durably, or none. It returns what each
// name is now, in the order of the changes. An error that matches ErrUncertain
// says that all of them or none did.
func (b *Batch) Commit() ([]Object, error) {
	res, err := b.b.Commit()
	if err != nil {
		return nil, fmt.Errorf("batch: %w", err)
	}
	objects := make([]Object, len(res))
	for i := range res {
		objects[i] = res[i].Object
	}
	return objects, nil
}

// Abort drops the changes. It does nothing after Commit.
func (b *Batch) Abort() { b.b.Abort() }
