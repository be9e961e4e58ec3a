// Package journal is the commit log: the only record of what was committed.
//
// It answers one question after any crash and after damage to any one copy:
// which records were promised? A record is bytes that the caller understands;
// records are numbered from 1 without a gap. The log is kept in several equal
// copies, its members. The three calls that most callers need:
//
//	j, err := journal.Open(journal.Options{Members: m, StoreID: id, Create: true})
//	for r, err := range j.Records(applied + 1) { … }   // what the view lacks
//	first, err := j.Append(records)                    // durable on every member when nil
//
// Append puts the records of one call into one frame, writes it to all members
// in parallel, and syncs each: callers group what arrives while a sync is on its
// way. [Journal.Prove] adds an empty frame, which tells an unlucky last frame
// from a torn one (below); [Journal.Close] does so too.
//
// # Files
//
// A member is a directory. It holds segments, named by their number as 16
// hexadecimal digits and ".log", from the oldest without a gap. The copies of a
// segment are equal byte for byte. "spare" is a zeroed file that will become the
// next segment, "spare.tmp" one that is being made, or a segment that is being
// restored. "trimmed" says which segment is the oldest that was not given up, see
// [Journal.Trim]. Other names are ignored, and so is a file without a good header that is
// numbered higher than the segment after the newest would be.
//
// All integers are big-endian. A segment has a fixed size, a multiple of 4096:
//
//	0       header
//	4096    the header again
//	8192    frames, one after the other; then zeros to the end
//
// Header, 4096 bytes:
//
//	0     8   magic "BFLOGSEG"
//	8     4   version, 1
//	12    4   incompatible features, 0: a reader refuses bits it does not know
//	16    4   compatible features: a reader ignores bits it does not know
//	20    16  store id
//	36    8   number of the segment, from 1
//	44    8   epoch of the log set
//	52    8   index of the first record in this segment
//	60    8   size of the segment in bytes
//	68    32  hash of the last frame before this segment; if that segment has no
//	          frame, the hash of its header; zeros in segment 1
//	100   32  key of this segment: random
//	132   32  newest snapshot when the segment was made: its content id, or zeros
//	164   8   index of the last record that the snapshot covers, 0 if none
//	172   4   number of members of the log set, 1 to 8; then for each
//	          4 bytes length (1 to 128) and its name
//	      …   zeros
//	4064  32  BLAKE3 of the 4064 bytes before it
//
// The magic, the version and the place and kind of the hash are the same in all
// versions to come, so that damage (the hash is wrong) and the future (it is
// right) are told apart. Old versions stay readable.
//
// A frame starts at a multiple of 4096 and holds the records of one Append:
//
//	0     8   magic "BFLOGFRM"
//	8     4   kind, 0
//	12    4   number of records; 0 in an empty frame
//	16    8   epoch of the log set
//	24    8   index of the first record; in an empty frame, of the next one
//	32    8   offset of this frame in the segment
//	40    4   length in bytes of the records, L
//	44    4   zero
//	48    32  hash of the frame before; of the segment header if it is the first
//	80    32  BLAKE3 of the 80 bytes before it, keyed with the segment's key
//	112   L   the records: for each 4 bytes length, then its bytes
//	112+L 32  BLAKE3 of the 112+L bytes before it, keyed alike: the frame's hash
//	      …   zeros to a multiple of 4096
//
// A record has at most [MaxRecord] bytes, a frame at most [MaxFrame].
//
// The key makes the log safe from its own content: a stored file that imitates a
// frame does not know the key, and the offset under the hash voids a true frame
// that was copied elsewhere. The key protects nothing from who can read the disk.
//
// # What Open decides
//
// A copy gets a frame only after the sync of the one before returned. So at most
// the last frame of a copy can be torn by a crash. Per copy, Open looks at every
// multiple of 4096 of the newest segment. A bad frame that a valid one follows is
// damage: it is repaired from another copy. If every copy is bad at that place,
// Open fails with [frame.ErrCorrupt] naming it, never with fewer records. Only
// what follows the last valid frame of all copies is a torn tail: it is zeroed,
// with a warning. A crash makes nothing unreadable and no file shorter: unless a
// copy shows zeros where the chain ends, Open fails if one could not be read
// there, or none behind, with the error of the reads, and changes nothing. The
// longest valid chain is copied to the members that lack its last frame, and all
// are synced, before Open returns. Older segments are verified as they are read,
// and repaired alike; [Journal.Verify] reads all.
//
// What remains: the last frame, if no other follows it, damaged in all copies at
// once, looks like a torn tail. This is why there are empty frames.
//
// # The set of members
//
// Every record is acknowledged when all members of the set have it. The set changes
// only from one segment to the next: a header names the set that holds its segment, and
// the epoch counts the changes, one member more or less each time. Nothing is
// acknowledged in a segment before all of its set have the header, and all before it,
// durably.
//
//   - A member that fails while the log is open leaves: the others begin a segment
//     without it, and then the record is acknowledged. If two fail at once, or too few
//     would remain, the log is read-only until it is opened again.
//   - Open wants all members of the newest set that it sees, or two of three: any set
//     after that has a member among these. One that is missing, empty, of another store,
//     or behind by more than a crash explains, is left behind if it is one of three;
//     otherwise the log opens for reading only, without a write, and [Journal.ReadOnly]
//     names it. [Options.AssumeLost] is an operator's word that it will not come back.
//   - A copy that was left behind is not read. [Journal.Join] brings it, or an empty
//     directory, up to date and takes it into the set; [Journal.Leave] takes one out.
//   - Copies that are valid and disagree are never merged nor overwritten. Where a way
//     was provably never used, as a member of its set has no header of it, the other is
//     taken; else that is [ErrDiverged], and AssumeLost says which to give up. Join sets
//     its segments aside, under names that end with ".aside".
//
// A log that was opened for reading only because members are missing shows what those
// have that are there. The last frame in it may be one that was never acknowledged.
package journal
