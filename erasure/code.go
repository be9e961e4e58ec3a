package erasure

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// ErrUnrecoverable reports that fewer than K blocks of a stripe are left, so
// that what is missing cannot be computed from them. Nothing was modified. The
// caller's last hope is another copy of the extent.
var ErrUnrecoverable = errors.New("blockframe: too many blocks missing")

// MaxShards is the largest K+M of a [Code]. The points of GF(2^8) would allow
// 256; shard numbers fit one byte with a value to spare.
const MaxShards = 255

// Code says how many blocks of a stripe hold data and how many hold parity: any
// K of the K+M give back the rest. K = 1 means copies. The zero Code is not
// valid.
type Code struct {
	K int // data blocks of a stripe, at least 1
	M int // parity blocks of a stripe, at least 1: as many may be lost
}

// Shards returns K+M.
func (c Code) Shards() int { return c.K + c.M }

// String returns the code as people write it: "8+3".
func (c Code) String() string { return strconv.Itoa(c.K) + "+" + strconv.Itoa(c.M) }

// Validate checks 1 ≤ K, 1 ≤ M and K+M ≤ [MaxShards]. The error matches
// fs.ErrInvalid.
func (c Code) Validate() error {
	if c.K < 1 || c.M < 1 || c.K > MaxShards || c.M > MaxShards-c.K {
		return fmt.Errorf("%w: code %v, want K+M with K and M at least 1 and at most %d in all", fs.ErrInvalid, c, MaxShards)
	}
	return nil
}

// MarshalText returns what String does.
func (c Code) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads what MarshalText wrote, by [ParseCode].
func (c *Code) UnmarshalText(b []byte) (err error) { *c, err = ParseCode(string(b)); return err }

// ParseCode reads a valid code as String writes it: two decimal numbers without
// sign, space or leading zero, and a plus between them. So String returns s
// again. The error matches fs.ErrInvalid.
func ParseCode(s string) (Code, error) {
	ks, ms, found := strings.Cut(s, "+")
	k, kerr := strconv.Atoi(ks)
	m, merr := strconv.Atoi(ms)
	c := Code{K: k, M: m}
	if !found || kerr != nil || merr != nil || c.String() != s {
		return Code{}, fmt.Errorf("%w: code %q is not of the form 8+3", fs.ErrInvalid, s)
	}
	if err := c.Validate(); err != nil {
		return Code{}, err
	}
	return c, nil
}

// defaults holds the default code by the least number of backends that takes
// it, most backends first.
var defaults = []struct {
	backends int
	code     Code
}{
	{12, Code{8, 4}},
	{8, Code{5, 3}},
	{6, Code{4, 2}},
	{5, Code{3, 2}},
	{4, Code{2, 2}},
	{3, Code{2, 1}},
	{2, Code{1, 1}},
	{1, Code{8, 2}}, // all on one disk: against rot, not against its loss
}

// DefaultCode returns the code of a store that names none, by the number of its
// backends. But for a single backend, which takes all ten shards of 8+2, the
// code never has more shards than there are backends. Below 1 it returns the
// zero Code.
func DefaultCode(backends int) Code {
	for _, d := range defaults {
		if backends >= d.backends {
			return d.code
		}
	}
	return Code{}
}
