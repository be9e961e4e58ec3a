package catalog

import "github.com/blockframe/blockframe/store"

// lie counts the shards of an extent where they lie, or are to.
func (a *auditor) lie(x *store.Extent) {
	for i, s := range x.Shards {
		h := a.lies[s.Backend]
		h.Shards++
		if s.Missing {
			h.Missing++
		}
		h.Bytes += x.Geometry().ColumnLen(i)
		a.lies[s.Backend] = h
	}
}

// backends holds what is counted of each backend against the extents.
func (a *auditor) backends() {
	for row := range a.scan([]byte{tHeld}, nil) {
		id := store.BackendID(row.Key[1:])
		h := a.held(id)
		if a.over() {
			return
		}
		a.counted(id, h.Held)
		delete(a.lies, id)
	}
	for row := range a.scan([]byte{tExtent}, nil) { // in an order that does not change
		if len(a.lies) == 0 || a.over() {
			return
		}
		x := a.extent(store.ExtentID(row.Key[1:]))
		if x == nil {
			return
		}
		for _, s := range x.Shards {
			if _, open := a.lies[s.Backend]; open {
				a.counted(s.Backend, Held{})
				delete(a.lies, s.Backend)
			}
		}
	}
}

// counted compares what is counted of a backend with what lies there.
func (a *auditor) counted(id store.BackendID, h Held) {
	l := a.lies[id]
	if l.State = h.State; l != h {
		a.rep.Add("backend %v counts %d shards, %d of them missing, of %d bytes; there are %d, %d of %d",
			id, h.Shards, h.Missing, h.Bytes, l.Shards, l.Missing, l.Bytes)
	}
}
