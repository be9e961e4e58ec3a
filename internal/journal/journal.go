package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/frame"
)

// Journal is an open commit log. Its methods may be called from several
// goroutines; Append and Prove run one at a time. One process has a log open
// for writing at a time: the caller holds a lock that says so.
type Journal struct {
	opts Options
	log  *slog.Logger

	mu      sync.Mutex
	members []*member    // those that every frame goes to
	readers []*member    // those that frames may be read from
	others  []Other      // copies that are not of the set
	left    []*copyState // of these, those that Open found
	before  *header      // of the segment before the newest, if that was begun and not used
	segs    []*header    // by number, from the oldest; appended to, never changed
	end     int64        // where the next frame goes in the newest segment
	prev    frame.Hash
	next    uint64 // index of the next record
	proven  bool   // nothing that was acknowledged hangs on the last frame alone
	sealer  sealer // of the newest segment
	pending *header
	snap    Snapshot // for headers to come
	reason  error    // why the log is read-only, or nil
	closed  bool
	buf     []byte
	errs    []error // of each member, in each

	last   atomic.Uint64
	spares sync.WaitGroup // the goroutine that makes spares
	tried  bool           // spares were made, or not, in this segment

	joinMu  sync.Mutex // held over a Join
	healMu  sync.Mutex // held over a repair; taken before mu
	seenMu  sync.Mutex
	repairs []Damage
}

// keepRepairs bounds what Repairs remembers.
const keepRepairs = 1000

// keepBuffer bounds the buffer that is kept from one Append to the next.
const keepBuffer = 1 << 20

// Last returns the index of the newest record, 0 when there is none.
func (j *Journal) Last() uint64 { return j.last.Load() }

// First returns the index of the oldest record that the log still holds, or of
// the next record if it holds none.
func (j *Journal) First() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.segs[0].first
}

// ReadOnly returns nil, or why nothing can be appended: an error that matches
// ErrReadOnly and names the member. It stays so until the log is opened again.
func (j *Journal) ReadOnly() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.reason
}

// Append writes the records as one frame to all members and syncs each. When it
// returns nil, all of them are durable on every member, numbered from first on.
// It does not retain them. All records of one call are in the log or none is.
//
// A member that fails leaves the set, if Options.Least of them remain and no other
// failed with it: that is no error. Errors: ErrTooLarge and durable.ErrNoSpace mean
// that nothing was written and the log works on. ErrUncertain means that members
// failed with the frame under way, and that the others cannot go on without them: the
// records may be found in the log when it is opened again, and until then the log is
// read-only. ErrReadOnly: nothing was written.
//
// It costs one write and one fdatasync of each member, all at once: about one
// fdatasync where each has its own disk; one disk may put them in a queue.
func (j *Journal) Append(records [][]byte) (first uint64, err error) {
	if err := j.checkBatch(records); err != nil {
		return 0, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.writable(); err != nil {
		return 0, err
	}
	first = j.next
	if err := j.append(records); err != nil {
		return 0, err
	}
	return first, nil
}

// Prove writes an empty frame if the last frame holds records. While that frame
// was the last, damage of all its copies at once would have looked like a torn
// tail; from now on it would be found. The caller does so shortly after the last
// Append of a burst. Errors are those of Append; after durable.ErrNoSpace it
// should try again later, as the frame may be the last that is written for long.
func (j *Journal) Prove() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.writable(); err != nil {
		return err
	}
	return j.prove()
}

func (j *Journal) prove() error {
	if j.proven {
		return nil
	}
	return j.append(nil)
}

// checkBatch holds the limits of a frame.
func (j *Journal) checkBatch(records [][]byte) error {
	if len(records) == 0 {
		return fmt.Errorf("log append: %w: no records", fs.ErrInvalid)
	}
	total := int64(0)
	for i, r := range records {
		if len(r) > MaxRecord {
			return fmt.Errorf("%w: record %d of the batch has %d bytes, want at most %d", ErrTooLarge, i, len(r), MaxRecord)
		}
		total += perEntry + int64(len(r))
	}
	if limit := min(MaxBatch, j.opts.SegmentSize-headArea-overhead); total > limit {
		return fmt.Errorf("%w: the batch has %d bytes, want at most %d", ErrTooLarge, total, limit)
	}
	return nil
}

func (j *Journal) writable() error {
	if j.closed {
		return fmt.Errorf("log: %w", fs.ErrClosed)
	}
	return j.reason
}

// append writes one frame, empty without records.
func (j *Journal) append(records [][]byte) error {
	size := frameSize(bodySize(records))
	// Once a next segment was begun it may be on some disk, and it says what
	// the last frame before it is.
	if j.pending != nil || j.end+size > j.newest().size {
		if err := j.rotate(); err != nil {
			return err
		}
	}
	m := mark{offset: j.end, first: j.next, prev: j.prev}
	buf := encodeFrame(j.buf, j.sealer, j.newest().epoch, &m, records)
	if j.buf = buf; cap(buf) > keepBuffer {
		j.buf = nil
	}
	if err := j.commit(buf, m); err != nil {
		return err
	}
	j.makeSpares()
	return nil
}

// commit writes an encoded frame to all members. Until it is synced on all, a
// crash leaves it on some, none, or torn: Open copies it or cuts it off.
func (j *Journal) commit(buf []byte, m mark) error {
	err := j.each(func(mb *member) error { return mb.write(buf, m.offset) })
	switch {
	case err == nil:
		j.advance(m)
		return nil
	case isFull(err):
		return j.cut(buf, m, err)
	}
	lost, full, ok := j.lost()
	if !ok {
		j.fail(err)
		return fmt.Errorf("%w: %w", ErrUncertain, err)
	}
	return j.commitWithout(lost, buf, m, full, err)
}

// commitWithout ends the commit of a frame that one member failed with: the set goes on
// without that. It is acknowledged, or said to be not written, only when the new set is
// durable: until then who sees the lost member may find the frame there, or not.
func (j *Journal) commitWithout(lost *member, buf []byte, m mark, full bool, cause error) error {
	j.drop(lost)
	var cut error
	if full {
		if cut = j.cut(buf, m, cause); !isFull(cut) {
			return cut
		}
	} else {
		j.advance(m)
	}
	if err := j.goOnWithout(lost.Name, cause); err != nil {
		return fmt.Errorf("%w: %w; %v", ErrUncertain, cause, err) // not to be taken for ErrReadOnly
	}
	return cut
}

// advance takes note of a frame that is durable on all members.
func (j *Journal) advance(m mark) {
	j.end, j.prev, j.next = m.offset+m.size, m.hash, m.first+uint64(m.count)
	j.proven = m.count == 0
	j.last.Store(j.next - 1)
}

func isFull(err error) bool { return errors.Is(err, durable.ErrNoSpace) }

// cut zeroes the frame on all members, so that it is as if it had never been
// written. Every page that a failed sync may have dropped is written anew here,
// so a sync that succeeds now vouches for all of them.
func (j *Journal) cut(buf []byte, m mark, cause error) error {
	clear(buf)
	if err := j.each(func(mb *member) error { return mb.write(buf, m.offset) }); err != nil {
		// Not to be taken for a full disk that changed nothing: hence %v.
		err = fmt.Errorf("%v; and to cut the frame away: %v", cause, err)
		j.fail(err)
		return fmt.Errorf("%w: %w", ErrUncertain, err)
	}
	// A crash before this point leaves the frame or not; after it, no frame.
	return fmt.Errorf("log append: %w", cause)
}

// each calls do for every member, at once unless Options.Sequential, and
// returns their errors, each with the member's name. If any is other than a
// full disk, the result does not match durable.ErrNoSpace.
func (j *Journal) each(do func(*member) error) error {
	clear(j.errs)
	var wg sync.WaitGroup
	for i, m := range j.members[1:] {
		if j.opts.Sequential {
			break
		}
		wg.Go(func() { j.errs[i+1] = do(m) })
	}
	j.errs[0] = do(j.members[0])
	for i, m := range j.members[1:] {
		if j.opts.Sequential {
			j.errs[i+1] = do(m)
		}
	}
	wg.Wait()
	return j.worst()
}

func (j *Journal) worst() error {
	var full, failed error
	for i, err := range j.errs {
		switch {
		case err == nil:
		case errors.Is(err, durable.ErrNoSpace):
			full = errors.Join(full, fmt.Errorf("log member %s: %w", j.members[i].Name, err))
		default:
			failed = errors.Join(failed, fmt.Errorf("log member %s: %w", j.members[i].Name, err))
		}
	}
	if failed != nil {
		return failed
	}
	return full
}

// fail makes the log read-only and returns the reason. The first one stays.
func (j *Journal) fail(err error) error {
	if j.reason == nil {
		j.reason = fmt.Errorf("%w: %w", ErrReadOnly, err)
		j.log.Error("log is read-only until it is opened again", "err", err)
	}
	return j.reason
}

// Repairs returns the damage that was found and repaired since Open began, the
// first 1000 places of it. A torn tail is no damage.
func (j *Journal) Repairs() []Damage {
	j.seenMu.Lock()
	defer j.seenMu.Unlock()
	return slices.Clone(j.repairs)
}

func (j *Journal) repaired(d Damage) {
	j.log.Warn("log repaired from another copy", "member", d.Member, "segment", d.Segment, "offset", d.Offset, "reason", d.Reason)
	j.seenMu.Lock()
	defer j.seenMu.Unlock()
	if len(j.repairs) < keepRepairs {
		j.repairs = append(j.repairs, d)
	}
}

// Close proves the last frame and closes the files. All that was acknowledged
// is durable without it. It waits for the repair of a segment that is under way:
// nothing is changed any more when it returns. Calls after the first do nothing.
func (j *Journal) Close() error {
	j.healMu.Lock()
	defer j.healMu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil
	}
	var err error
	if j.reason == nil {
		if err = j.prove(); errors.Is(err, durable.ErrNoSpace) {
			err = nil // what it would have proven is durable all the same
		}
	}
	j.closed = true
	j.spares.Wait()
	for _, m := range j.members {
		err = errors.Join(err, m.close())
	}
	return err
}
