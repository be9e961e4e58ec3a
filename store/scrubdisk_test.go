package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/mem"
)

// A disk that was added while the store is open has its path in reports.
func TestScrubDiskAdded(t *testing.T) {
	r := newRig(t, 2, nil)
	m := mem.New(mem.Options{ID: store.BackendID{9}})
	r.mems = append(r.mems, m)
	r.Attach(m, "/added")
	for i := range 8 {
		r.put(string(rune('a'+i)), content(uint64(i), 300_000))
	}
	rep, err := r.Scrub(t.Context(), store.ScrubOptions{})
	require.NoError(t, err)
	paths := map[store.BackendID]string{}
	for _, d := range rep.Disks {
		paths[d.Backend] = d.Path
	}
	require.Equal(t, "/added", paths[m.ID()])
}
