package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/blockframe/blockframe"
)

// mergeLost returns lost ranges by name and place, those of one object that touch as one.
// The extent and stripe of a range are those in which it begins.
func mergeLost(list []*blockframe.CorruptError) (merged []blockframe.CorruptError) {
	sorted := slices.Clone(list)
	slices.SortStableFunc(sorted, func(a, b *blockframe.CorruptError) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.Offset, b.Offset))
	})
	for _, ce := range sorted {
		if n := len(merged); n > 0 && merged[n-1].Name == ce.Name && ce.Offset <= merged[n-1].Offset+merged[n-1].Length {
			last := &merged[n-1]
			last.Length = max(last.Length, ce.Offset+ce.Length-last.Offset)
			last.Got = min(last.Got, ce.Got)
			continue
		}
		merged = append(merged, *ce)
	}
	return merged
}

// mostLost is the number of ranges of an object that a person is told of.
const mostLost = 3

// lostText returns a line for each object that lost ranges, which are merged.
func lostText(merged []blockframe.CorruptError) (lines []string) {
	for len(merged) > 0 {
		name := merged[0].Name
		end := slices.IndexFunc(merged, func(ce blockframe.CorruptError) bool { return ce.Name != name })
		if end < 0 {
			end = len(merged)
		}
		var b strings.Builder
		total, more := int64(0), int64(0)
		for i, ce := range merged[:end] {
			if total += ce.Length; i >= mostLost {
				more += ce.Length
				continue
			}
			if i > 0 {
				b.WriteString(", ")
			}
			fmt.Fprintf(&b, "[%d, %d)", ce.Offset, ce.Offset+ce.Length)
		}
		if more > 0 {
			fmt.Fprintf(&b, " and %s more in %s", plural(more, "byte", "bytes"), plural(end-mostLost, "range", "ranges"))
		}
		lines = append(lines, fmt.Sprintf("LOST %s: bytes %s, %d in all", quoted(name), &b, total))
		merged = merged[end:]
	}
	return lines
}
