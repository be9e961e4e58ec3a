package kv

import "github.com/cockroachdb/pebble/v2"

// NewScheduler returns what Open gives to Pebble, and what starts it.
func NewScheduler() (s pebble.CompactionScheduler, start func()) {
	own := newScheduler()
	return own, own.start
}
