package store

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/blockframe/blockframe/erasure"
)

// Policy says how objects under a prefix and of a size are stored. It is
// consulted when an object is put; what is stored already keeps the geometry it
// was written with.
type Policy struct {
	// Name appears in Object.Policy and in the manifests of the shards.
	Name string

	// Prefix is compared with the beginning of the object's name, byte by
	// byte; "" is the beginning of all.
	Prefix string

	// MaxSize is the largest size in bytes that the policy is for; 0 is any,
	// and what a stream of unannounced size takes.
	MaxSize int64

	// Code is k+m. The zero code is the default for the number of backends.
	Code erasure.Code

	// Extent is the length in bytes of the extents that a stream is cut into:
	// a power of two from 1 MiB to 256 MiB, 0 the latter. An object may have
	// 393,216 extents: one that is announced to be longer than that gets longer
	// ones, and one that is not announced cannot be put.
	Extent int64

	// PerBackend allows up to so many shards of a stripe on one backend; 0 is
	// one, unless there is only one backend.
	PerBackend int

	// Fragile accepts a policy that survives the loss of no disk.
	Fragile bool
}

// MiB and friends are the sizes that presets are written in.
const (
	miB = 1 << 20
	mB  = 1_000_000
	gB  = 1_000_000_000
)

// TiersArchive returns the preset of three tiers by size: up to 10 MB four
// copies, up to 1 GB four copies of every 32 MiB, above that 30+3. It asks for
// 33 backends, or for leave to keep several shards on one.
func TiersArchive(prefix string, perBackend int) []Policy {
	return []Policy{
		{Name: "archive-1", Prefix: prefix, MaxSize: 10 * mB, Code: erasure.Code{K: 1, M: 3}, PerBackend: perBackend},
		{Name: "archive-2", Prefix: prefix, MaxSize: 1 * gB, Code: erasure.Code{K: 1, M: 3}, Extent: 32 * miB, PerBackend: perBackend},
		{Name: "archive-3", Prefix: prefix, Code: erasure.Code{K: 30, M: 3}, PerBackend: perBackend},
	}
}

// Validate reports everything that is wrong with the policy on a store of so
// many backends, all at once. Each problem matches fs.ErrInvalid.
func (p Policy) Validate(backends int) error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: policy %q for the prefix %q: %s", fs.ErrInvalid, p.Name, p.Prefix, fmt.Sprintf(format, args...)))
	}
	if p.MaxSize < 0 {
		bad("MaxSize is %d", p.MaxSize)
	}
	if len(p.Prefix) > MaxName || len(p.Name) > MaxComponent {
		bad("name or prefix too long")
	}
	if p.Extent != 0 && (p.Extent < miB || p.Extent > MaxExtent || p.Extent&(p.Extent-1) != 0) {
		bad("Extent is %d, want a power of two from 1 MiB to 256 MiB", p.Extent)
	}
	if p.PerBackend < 0 || p.PerBackend > erasure.MaxShards {
		bad("PerBackend is %d", p.PerBackend)
	}
	if p.Code != (erasure.Code{}) {
		if err := p.Code.Validate(); err != nil {
			bad("%v", err)
		} else if most := backends * p.spread(backends); p.Code.Shards() > most {
			bad("a %v code needs %d backends with %d shards on each, there are %d", p.Code, p.Code.Shards(), p.spread(backends), backends)
		} else if backends > 1 && !p.Fragile && p.Survives(backends) == 0 {
			bad("survives the loss of no disk; set Fragile to accept that")
		}
	}
	return errors.Join(errs...)
}

// spread returns how many shards of one stripe a backend may take.
func (p Policy) spread(backends int) int {
	if backends == 1 {
		return erasure.MaxShards
	}
	return max(p.PerBackend, 1)
}

// per returns how many shards of a stripe of so many a backend may take: as spread,
// but never more than it takes to find a place for all. More on one because another
// is full would survive less than [Policy.Survives] says.
func (p Policy) per(shards, backends int) int {
	backends = max(1, backends)
	return min(p.spread(backends), (shards+backends-1)/backends)
}

// code returns the code for new extents when so many backends take part.
func (p Policy) code(backends int) erasure.Code {
	if p.Code != (erasure.Code{}) && p.Code.Shards() <= backends*p.spread(backends) {
		return p.Code
	}
	return erasure.DefaultCode(max(1, backends))
}

// extent returns the length of extents in bytes.
func (p Policy) extent() int64 {
	if p.Extent == 0 {
		return MaxExtent
	}
	return p.Extent
}

// Survives returns how many backends, any of them, may be lost out of so many
// without losing what is stored under the policy.
func (p Policy) Survives(backends int) int {
	if backends < 2 {
		return 0
	}
	c := p.code(backends)
	most := (c.Shards() + backends - 1) / backends
	return c.M / most
}

// Choose returns the policy for an object: of those whose prefix begins its name
// the ones with the longest, and of these the smallest MaxSize that holds size.
// size -1 is unknown, and takes one without a MaxSize. The zero Policy is the
// answer when none fits.
func Choose(policies []Policy, name string, size int64) Policy {
	best, found := Policy{}, false
	for _, p := range policies {
		if !strings.HasPrefix(name, p.Prefix) || p.MaxSize != 0 && (size < 0 || size > p.MaxSize) {
			continue
		}
		if !found || better(p, best) {
			best, found = p, true
		}
	}
	return best
}

// better reports whether p, which fits, is to be preferred to q, which fits too.
func better(p, q Policy) bool {
	if len(p.Prefix) != len(q.Prefix) {
		return len(p.Prefix) > len(q.Prefix)
	}
	return q.MaxSize == 0 && p.MaxSize != 0 || p.MaxSize != 0 && p.MaxSize < q.MaxSize
}

// SortPolicies orders policies by prefix and size, as lists show them.
func SortPolicies(policies []Policy) {
	slices.SortFunc(policies, func(a, b Policy) int {
		return cmp.Or(strings.Compare(a.Prefix, b.Prefix), cmp.Compare(uint64(a.MaxSize-1), uint64(b.MaxSize-1)))
	})
}
