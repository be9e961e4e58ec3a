// Package catalog is the one state machine: names, versions, uploads, extents
// and the repair queue, as records of a log make them.
//
// Three calls are what most callers need. [Open] brings the view, a Pebble
// database, up to the end of the log, or makes it anew. [Catalog.Commit] puts a
// record of commands into the log and returns what became of them.
// [Catalog.Object], and the other reads of store.Catalog, look at the view.
//
// # One log, one machine
//
// A record goes the same way on one computer and on many: a [Sequencer] stamps
// it with log time and identity, makes it durable, and hands it to Apply, in
// order, on every copy. Apply decides from the rows of the view and the record
// alone: no clock, no randomness, no order of a map. So copies that applied the
// same records hold the same bytes, but for what each view does with contents that
// wait to be packed, and the view can be thrown away at any time. It is, when Pebble
// finds a damaged block or a write of it fails: the catalog makes another one beside
// it from the log, and goes on.
//
// The view holds only what is durable in the log. Rows of the newest records wait in
// memory and are written to Pebble many together: most change again soon. A content
// that travelled in its record stays in memory until it is packed, and becomes a row
// only where many wait, or it does for long; the log has its bytes, and the meta row
// says from which record on. A crash takes the view back by some records, which Open
// applies again.
//
// The log need not be whole either. [Catalog.Snapshot] gives all rows as of one record, the
// same bytes from every view; the format is in snapshot.go. Where the log begins later than
// a view needs, the view is made from the newest snapshot that [Options.Saved] finds and
// can be read, and the records behind it. [Catalog.Detach] sees to it before they go that
// the view on disk needs none of the records that are given up.
//
// A refused command stays in the log as refused, and changes nothing but this:
// once a put was applied, be it stored, found to be there, or refused, its upload
// is known by references alone. One that nothing refers to is condemned, and as
// nothing ever did, it may be killed at once.
//
// # Names
//
// Names form a tree of inodes, numbered from 2 and never reused; 1 is the root.
// A directory has attributes and entries and no versions. Any other name has
// versions, counted from 1 for each inode; a deleted name has a marker for its
// newest. To rename is to move an inode, with its versions or its entries.
//
// Where a name is taken by another inode, a deleted history that was there is
// put aside under the same name: Versions yields it after the present one, and
// Purge reaches it. A directory can be removed when it has no live entries; the
// histories in it stay, are found by their names as before, and come back in
// place when the directory is made again.
//
// # Uploads
//
// An upload is open while extents are recorded and no put named it, live while
// a content in it is referred to, then condemned for the grace and revived by the
// first reference, and dead when killed: that is final. The contents in a dead
// upload are gone from the catalog, and its blobs may be removed. Forget drops
// what is left of it. An upload of an earlier open epoch without rows, or one of
// this epoch that was forgotten, is nobody's: what still comes for it is refused
// with [ErrExpired]. One that no put will name is given up by an Abandon, and need
// not wait for the next epoch.
//
// # Backends
//
// A backend is registered by SetBackends, when the store is created, or AddBackend. It is
// active or draining, and gone once a DropBackend took it off the store: removed while
// nothing lay on it, or lost with all that did. One that is gone stays known by its id, is
// never registered again, and no record places a shard there. What lies on each backend is
// counted, so that no look at all extents is needed to tell; shards of a lost one keep it
// in their record until a Replace makes them anew elsewhere, and one row of the repair
// queue asks for that, which cannot be taken off before. A Replace never brings shards of
// a stripe together that were apart: see store.Extent.MayMove.
//
// # Time
//
// Log time is the time of day as the sequencer saw it, but never goes back: it is
// what Created and the end of a grace are in. A retention cannot rest on it, since
// a clock can be set. It counts on a clock of its own, which moves by the time that
// the store has seen pass: what a monotonic clock measured between two records of
// one run of the program, and from one run to the next what the times of day
// claim, but 24 hours at most. Setting the clock while the store is open does
// nothing to it; setting it forward between two runs shortens a retention by a
// day at most, and each such day is in the log; time in which nobody opened the
// store beyond a day only makes a retention longer. A retention asked for at log
// time T until U ends when that clock has moved on by U-T.
//
// # Records
//
// A record is at most 1 MiB, big-endian, written and read by [EncodeRecord] and
// [DecodeRecord]; strings and byte slices have their length before them in 32
// bits:
//
//	1   version, 1
//	1   each: 1 when every command stands for itself
//	8   log time in nanoseconds since 1970
//	8   nanoseconds since the record before, by a clock that cannot be set
//	16  node id
//	8   incarnation: which run of the sequencer
//	    source, actor, request id: strings of at most 255 bytes
//	4   number of commands; for each
//	      1  kind
//	      4  length of its body
//	         body
//
// The bodies are in codec.go, codec_put.go and codec_names.go, field by field in
// the order they are written, and testdata/commands.golden has one of each. A
// kind or version that is not known is frame.ErrVersion, and stops the catalog
// rather than losing a command.
package catalog
