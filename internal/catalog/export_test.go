package catalog

import (
	"github.com/blockframe/blockframe/internal/kv"
)

// View returns Pebble under the view as it is now.
func (c *Catalog) View() *kv.DB { return c.view.Load().db }

// Settle writes the rows of all records to Pebble.
func (c *Catalog) Settle() error { return c.view.Load().settle() }

// Flush writes the rows of all records to disk.
func (c *Catalog) Flush() error { return c.view.Load().flush() }

// FlushSoon starts what Flush does.
func (c *Catalog) FlushSoon() error {
	if err := c.Settle(); err != nil {
		return err
	}
	return c.View().FlushSoon()
}

// Renew closes the view as if it had failed, and makes another one.
func (c *Catalog) Renew() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.renew()
}
