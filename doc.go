// Package blockframe keeps files for good: write-once files go in, and come out
// years later bit for bit, or with an error, never wrong.
//
// A program embeds it in five lines:
//
//	st, err := blockframe.Open(ctx, blockframe.Options{Dirs: []string{"/d1", "/d2", "/d3"}})
//	obj, err := st.Put(ctx, "books/moby.epub", r, blockframe.PutOptions{})
//	rd, err := st.Open(ctx, "books/moby.epub")
//	rep, err := st.Scrub(ctx, blockframe.ScrubOptions{Deep: true, Repair: true})
//	err = st.Close()
//
// A [Store] keeps objects under names that form a tree. The address of an object is
// the plain BLAKE3-256 of its content, what b3sum prints; the same content is
// stored once, whatever its names. Other content under a name becomes a new version
// of it, and old versions stay readable until they are purged.
//
// # What is promised
//
// What was acknowledged is durable: data was synced before anything said that it
// exists. Objects are cut into blocks of 64 KiB and coded over the directories, so
// that any m of k+m blocks of a stripe may be lost; [DefaultCode] says how many by
// the number of directories, a [Policy] says otherwise. Every byte that is read was
// verified against its hash, and damage is repaired behind the reader's back, block
// by block. What cannot be repaired is a [CorruptError] that names object and range;
// all else stays readable. A crash at any moment leaves each object absent or
// complete.
//
// # Several disks
//
// Each of Options.Dirs is best a disk of its own. They are known by the identity
// in them, so their order does not matter, and an empty mount point is a disk that
// is missing. With one directory the store survives rot, not the loss of the disk.
// A commit log on up to three of the directories says what was stored. One of three
// copies may be missing, or fail: another directory takes its place. With one of two
// missing the store can be read, not changed, since that one may know more, until it is
// back or [Options].AssumeLost gives it up. [Store.Survives] says how many disks, any of
// them, may be lost at once.
//
// # Over the years
//
// Disks come and go while the store is in use: [Store.AddDisk], [Store.DrainDisk],
// [Store.RemoveDisk], [Store.ReplaceDisk] and [Store.Rebalance]. An open store looks after
// itself: it repairs what is found damaged, scrubs everything now and then, puts small
// packs together, and writes anew what was put in a narrower code while disks were
// missing; [Options].Upkeep says how, or that it shall not. Sealed segments of the log and
// snapshots of its index are kept on the disks as objects are, and the log is trimmed.
// When an index is lost it is made anew by Open; when every copy of the log is lost too,
// [Rebuild] restores what the disks prove.
//
// # Few processors
//
// A call that waits for a disk keeps one of the GOMAXPROCS turns to run Go code until the
// runtime notices. Where these are two, and the disks many, put gains a quarter or more
// from one or two more of them (runtime.GOMAXPROCS, or the environment), for a few percent
// of the speed of reads from memory. The library leaves that to the program.
//
// # Errors
//
// Errors match those of [io/fs] wherever one fits, and the few declared here:
// full ([ErrNoSpace]), dead ([ErrUnavailable]) and bad ([ErrCorrupt]) are three
// different things, and each has its own cure. All methods may be called
// concurrently; contexts bound whatever may block.
//
// # Files from today
//
// The format of the directories is specified in packages store, store/dir and
// internal/journal, and readers of every version stay: a newer program opens an
// older store. An older program refuses a newer one with [ErrVersion].
package blockframe
