package store

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"sync"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/kv"
)

// RebuildOptions says how to rebuild.
type RebuildOptions struct {
	DryRun bool // only report

	// Accept says that what a rebuild found and did not find is as it has to be: from
	// then on Collect works again.
	Accept bool

	// Found is called for all that has to be told one by one, in no certain order.
	Found func(Found)

	// Progress is called now and then with what was done so far.
	Progress func(RebuildReport)
}

// FoundState says what became of something that was found.
type FoundState string

// What is found on disks, beside what the records name.
const (
	FoundObject     FoundState = "object"     // complete: it has, or would have, the name To
	FoundIncomplete FoundState = "incomplete" // Err says what is missing
	FoundDead       FoundState = "dead"       // the log declared it dead: it stays so
	FoundLog        FoundState = "log"        // part of a commit log or of its snapshots: left alone
	FoundStray      FoundState = "stray"      // a blob that nothing needs, or that nothing can be made of
)

// Found is something on the disks that no record names.
type Found struct {
	State  FoundState
	Name   string // as its shards have it, "" when they do not tell
	To     string // its name now
	ID     ID
	Size   int64
	Upload UploadID
	Disk   BackendID  // of a stray blob
	Key    BackendKey // of a stray blob
	Err    error      // of what is incomplete or stray: why
}

// RebuildReport says what a rebuild found and did. A second run finds nothing to do:
// Objects, Named, Joined and Shards are 0.
type RebuildReport struct {
	LogLost    bool   // no copy of the log was left: a new one was made
	Records    uint64 // of that, the last record that snapshots and segments on the disks had: 0 for none
	Blobs      int64  // looked at
	Objects    int64  // complete, that no record named
	Named      int64  // names given for them; the others are there already, with the same bytes
	Bytes      int64  // of content that was named
	Incomplete int64  // that cannot be read: objects that no record named, and Lost
	Lost       int64  // versions that records name, and too few shards are there of
	Dead       int64  // acts of putting that the log declared dead, and whose blobs are there
	Logs       int64  // parts of a commit log, or of its snapshots
	Stray      int64  // blobs of which nothing comes
	Strange    int64  // files on disks that are none of ours: left alone
	Joined     int64  // shards that records called missing, or of another generation, and are there
	Missing    int64  // shards of what was adopted that are not there: queued for repair
	Damaged    int64  // shards of what was adopted whose trailer is bad: queued for repair

	Index    int64 // rows of the index that were not what the log makes: it was made anew (a dry run does not look)
	Absent   int   // disks that are registered, and not there
	Disks    int   // disks that were there, and no record named: registered now
	Accepted bool  // collection works
}

// Adoptable reports whether there was anything to be adopted.
func (r *RebuildReport) Adoptable() bool { return r.Objects+r.Joined > 0 }

// Rebuilding is what a Store needs to rebuild its records from shards.
type Rebuilding struct {
	RebuildOptions
	FS   durable.FS // where rows may be kept meanwhile
	Dir  string
	Dead iter.Seq2[UploadID, error] // uploads that the log has forgotten since they were dead
}

// Rebuild adopts what blobs prove and no record names: complete objects get a name
// below LostFound, never one that is there already. Blobs are not touched. Of several
// contents that have one name each gets a name of its own: nothing tells which came
// last. Its memory does not depend on how many blobs there are: what it finds is sorted
// in rows on a disk.
//
// The steps: all blobs are looked at, and nothing is changed; then the epoch is raised,
// and the store is marked as not accepted, which ends collection; then each upload is
// adopted: its extents are recorded, its objects named; at last the adoptions are ended.
// Until that is accepted, what the records name and no disk has is looked for.
// A crash after any record leaves a store that serves what was adopted so far, and the
// next run does the rest: uploads whose adoption has not ended are found again.
func (s *Store) Rebuild(ctx context.Context, opts Rebuilding) (rep RebuildReport, err error) {
	if !opts.DryRun {
		if err := s.writable(); err != nil {
			return rep, err
		}
	}
	if err := s.collecting.take(ctx); err != nil {
		return rep, fmt.Errorf("rebuild: wait for a collection to end: %w", err)
	}
	defer s.collecting.give()
	db, err := kv.Open(kv.Options{FS: opts.FS, Dir: opts.Dir, Logger: s.log})
	if err != nil {
		return rep, fmt.Errorf("rebuild: %w", err)
	}
	defer db.Close()
	r := &rebuild{s: s, opts: opts, db: db, rep: &rep}
	for _, step := range []func(context.Context) error{r.noteDead, r.scan, r.join, r.prove, r.adopt, r.lost, r.accept} {
		if err := step(ctx); err != nil {
			return rep, fmt.Errorf("rebuild: %w", err)
		}
	}
	rep.Absent = len(s.set.Load().absent)
	return rep, nil
}

// rebuild is one under way. Its rows, by the first letter of their keys:
//
//	k  upload                             it is dead
//	x  extent, shard, generation, disk    a blob: see shardBlob
//	u  upload, ordinal, extent            an extent to be adopted: see encodeFound
//	j  extent                             the same, recorded already: shards are found again
//	o  upload, number                     the line of an object that is proven
//	n  hash of a name, of what has it     contents that have one name
//	t  hash of a name                     it is given away, to what has this hash
type rebuild struct {
	s    *Store
	opts Rebuilding
	rep  *RebuildReport
	db   *kv.DB

	mu    sync.Mutex // guards what follows: disks are scanned at once
	rows  *kv.Batch
	epoch uint64 // the newest of any blob that is adopted

	last   UploadID // that verdict was asked of
	answer verdictOf

	marked  bool // the store is not accepted
	pending []Command
}

// rowBytes is how much is in memory before rows are written.
const rowBytes = 1 << 20

// set writes a row. Reads do not see it before a flush.
func (r *rebuild) set(key, value []byte) (err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rows == nil {
		if r.rows, err = r.db.NewWrites(); err != nil {
			return err
		}
	}
	if err := r.rows.Set(key, value); err != nil || r.rows.Len() < rowBytes {
		return err
	}
	return r.write()
}

func (r *rebuild) write() error {
	b := r.rows
	r.rows = nil
	if b == nil {
		return nil
	}
	return b.Commit()
}

// flush lets reads see all rows.
func (r *rebuild) flush() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.write()
}

// each calls f with the rows whose keys begin with prefix. f must not keep them.
func (r *rebuild) each(ctx context.Context, prefix []byte, f func(key, value []byte) error) error {
	for row, err := range r.db.Scan(prefix, pastPrefix(prefix)) {
		if err == nil {
			err = r.s.over(ctx)
		}
		if err == nil {
			err = f(row.Key, row.Value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// pastPrefix returns the first key after all that begin with prefix, of which the first
// byte is a letter.
func pastPrefix(prefix []byte) []byte {
	hi := bytes.TrimRight(prefix, "\xff")
	hi = bytes.Clone(hi)
	hi[len(hi)-1]++
	return hi
}

// noteDead notes the uploads that the log has forgotten.
func (r *rebuild) noteDead(ctx context.Context) error {
	if r.opts.Dead == nil {
		return nil
	}
	for id, err := range r.opts.Dead {
		if err == nil {
			err = r.s.over(ctx)
		}
		if err == nil {
			err = r.set(append([]byte{'k'}, id[:]...), nil)
		}
		if err != nil {
			return err
		}
	}
	return r.flush()
}

// tell tells of something that was found.
func (r *rebuild) tell(f Found) {
	switch f.State {
	case FoundIncomplete:
		r.rep.Incomplete++
	case FoundDead:
		r.rep.Dead++
	case FoundLog:
		r.rep.Logs++
	case FoundStray:
		r.rep.Stray++
	}
	if r.opts.Found != nil {
		r.opts.Found(f)
	}
}

// verdictOf says what is to be done with an upload.
type verdictOf int

const (
	upKnown verdictOf = iota // the records name it, or say that nothing needs it
	upDead                   // the log declared it dead
	upAdopt                  // no record names it, or its adoption was cut off
)

// verdict says what the records know of an upload.
func (r *rebuild) verdict(ctx context.Context, id UploadID) (v verdictOf, err error) {
	if id == r.last && !id.IsZero() {
		return r.answer, nil
	}
	defer func() {
		if err == nil {
			r.last, r.answer = id, v
		}
	}()
	u, err := r.s.cat.Upload(ctx, id)
	switch {
	case isAbsent(err):
		_, dead, err := r.db.Get(append([]byte{'k'}, id[:]...))
		if dead {
			return upDead, err
		}
		return upAdopt, err
	case err != nil:
		return v, err
	case u.State == UploadDead:
		return upDead, nil
	case u.State == UploadOpen && !r.s.pins.has(id): // no put is under way
		return upAdopt, nil
	}
	under, err := r.s.cat.State(ctx, AdoptingKey(id))
	if len(under) > 0 {
		v = upAdopt
	}
	return v, err
}
