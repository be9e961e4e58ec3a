package catalog

import (
	"github.com/blockframe/blockframe/internal/kv"
)

// View returns the view as it is now.
func (c *Catalog) View() *kv.DB { return c.view.Load() }
