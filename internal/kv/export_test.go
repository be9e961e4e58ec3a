package kv

import "github.com/cockroachdb/pebble/v2"

// NewScheduler returns what Open gives to Pebble, and what starts it. failed is
// closed once the view has failed.
func NewScheduler(failed <-chan struct{}) (s pebble.CompactionScheduler, start func()) {
	own := newScheduler(failed)
	return own, own.start
}
