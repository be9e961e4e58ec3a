package blockframe_test

import "github.com/blockframe/blockframe/store/mem"

// newMem returns a backend in memory.
func newMem() *mem.Backend { return mem.New(mem.Options{}) }
