package main

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// units of sizes: powers of 1000 as in the SI, and of 1024 with an i.
var units = []struct {
	name  string
	bytes int64
}{
	{"", 1}, {"B", 1},
	{"K", 1e3}, {"KB", 1e3}, {"M", 1e6}, {"MB", 1e6}, {"G", 1e9}, {"GB", 1e9}, {"T", 1e12}, {"TB", 1e12}, {"P", 1e15}, {"PB", 1e15},
	{"KI", 1 << 10}, {"KIB", 1 << 10}, {"MI", 1 << 20}, {"MIB", 1 << 20}, {"GI", 1 << 30}, {"GIB", 1 << 30},
	{"TI", 1 << 40}, {"TIB", 1 << 40}, {"PI", 1 << 50}, {"PIB", 1 << 50},
}

// parseSize returns the number of bytes that a text such as "1024", "500MB",
// "1.5 GiB" or "64k" says. KB is 1000 bytes, KiB is 1024, and case does not
// matter. A size that is no whole number of bytes is an error, and so is one of
// more than 2^63-1.
func parseSize(text string) (int64, error) {
	s := strings.TrimSpace(text)
	end := strings.LastIndexAny(s, "0123456789.") + 1
	unit := strings.ToUpper(strings.TrimSpace(s[end:]))
	number, ok := new(big.Rat).SetString(s[:end])
	if !ok || strings.Trim(s[:end], "0123456789.") != "" {
		return 0, fmt.Errorf("size %q: want a number, and B, KB, MB, GB, TB, KiB, MiB, GiB or TiB behind it", text)
	}
	for _, u := range units {
		if u.name != unit {
			continue
		}
		number.Mul(number, new(big.Rat).SetInt64(u.bytes))
		if !number.IsInt() {
			return 0, fmt.Errorf("size %q: is no whole number of bytes", text)
		}
		if !number.Num().IsInt64() {
			return 0, fmt.Errorf("size %q: is more than %d bytes", text, int64(math.MaxInt64))
		}
		return number.Num().Int64(), nil
	}
	return 0, fmt.Errorf("size %q: unit %q is not known; B, KB, MB, GB, TB, KiB, MiB, GiB and TiB are", text, s[end:])
}

// sizeFlag is a size on the command line.
type sizeFlag int64

func (f *sizeFlag) String() string { return strconv.FormatInt(int64(*f), 10) }
func (f *sizeFlag) Type() string   { return "SIZE" }
func (f *sizeFlag) Set(s string) error {
	n, err := parseSize(s)
	*f = sizeFlag(n)
	return err
}

// human returns a number of bytes for people.
func human(n int64) string {
	if n < 1000 {
		return strconv.FormatInt(n, 10) + " B"
	}
	f := float64(n)
	for _, unit := range []string{"kB", "MB", "GB", "TB", "PB"} {
		if f /= 1000; f < 999.5 {
			return strconv.FormatFloat(f, 'g', 3, 64) + " " + unit
		}
	}
	return strconv.FormatFloat(f/1000, 'f', 0, 64) + " EB"
}

// plural returns "1 file" or "2 files".
func plural[N int | int64 | uint64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// parseSpan reads a length of time: what time.ParseDuration takes, and days and
// years of 365 days as in "30d" and "7y".
func parseSpan(text string) (time.Duration, error) {
	for suffix, unit := range map[string]time.Duration{"d": 24 * time.Hour, "y": 365 * 24 * time.Hour} {
		number, ok := strings.CutSuffix(text, suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || n < 0 || n > int64(math.MaxInt64/unit) {
			return 0, fmt.Errorf("time %q: want a whole number before %s, at most %d", text, suffix, int64(math.MaxInt64/unit))
		}
		return time.Duration(n) * unit, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("time %q: want something like 12h, 30d or 7y", text)
	}
	return d, nil
}
