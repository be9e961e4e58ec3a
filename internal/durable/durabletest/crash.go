package durabletest

import (
	"math/rand/v2"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Image is what a power cut at one moment may leave.
type Image struct {
	Op   Op  // the operation before or after which the power went
	Seed int // 0: all that was not synced is gone; 1, 2, …: random parts of it are left
	FS   *vfs.MemFS
}

// Crashes returns a hook for Options.Before or After that calls visit with the
// images of m at each change: one with everything dropped that was not synced,
// data and directory entries, and seeds more in which half of it, chosen at
// random by block and entry, is kept. The choice depends on the number of the
// operation and the seed alone. visit is called by one goroutine at a time; the
// image is its own.
func Crashes(m *vfs.MemFS, seeds int, visit func(Image)) func(Op) {
	var mu sync.Mutex
	return func(op Op) {
		mu.Lock()
		defer mu.Unlock()
		for seed := range seeds + 1 {
			visit(Image{Op: op, Seed: seed, FS: Cut(m, op, seed)})
		}
	}
}

// Cut returns what a power cut after op leaves of m.
func Cut(m *vfs.MemFS, op Op, seed int) *vfs.MemFS { return m.CrashClone(crashConfig(op, seed)) }

func crashConfig(op Op, seed int) vfs.CrashCloneCfg {
	if seed == 0 {
		return vfs.CrashCloneCfg{}
	}
	return vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(uint64(op.N), uint64(seed)))}
}
