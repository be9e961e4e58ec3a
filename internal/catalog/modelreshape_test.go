package catalog_test

import (
	"io/fs"

	"github.com/blockframe/blockframe/internal/catalog"
	"github.com/blockframe/blockframe/store"
)

func (m *model) mark(c store.Narrow) {
	u := m.uploads[c.Upload]
	switch {
	case !c.On:
		delete(m.narrow, c.Upload)
	case u != nil && u.State != store.UploadDead:
		m.narrow[c.Upload] = 1
	}
}

func (m *model) reshape(c store.Reshape) error {
	for _, x := range c.Extents {
		if err := m.addExtent(x); err != nil {
			return err
		}
	}
	u := m.uploads[c.Upload]
	if u == nil || u.State == store.UploadDead {
		return catalog.ErrExpired
	}
	first := m.extents[u.list[0]]
	if u.kind != store.KindObject || u.Length != c.Size || first.Whole && store.ID(first.Hash) != c.ID {
		return fs.ErrInvalid
	}
	old := m.contents[c.ID]
	if old != nil && old.Size == c.Size && old.Refs > 0 && old.Upload == c.From && old.Upload != u.ID && m.missing(u) == 0 &&
		(old.Code.M <= first.Code.M || old.Refs == c.Refs) {
		m.place(store.Content{ID: c.ID, Size: c.Size, Upload: u.ID, Code: first.Code})
		m.empty(c.From)
	}
	m.abandon(u.ID)
	return nil
}

// empty takes the mark of an upload away that has no content any more.
func (m *model) empty(id store.UploadID) {
	for _, c := range m.contents {
		if c.Upload == id {
			return
		}
	}
	delete(m.narrow, id)
}
