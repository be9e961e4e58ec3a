package journal

import "context"

// Report is what Verify found.
type Report struct {
	Segments int
	Frames   int
	Records  uint64
	Bytes    int64    // read, over all members
	Bad      int      // copies of segments left bad, because the log is read-only
	Lost     []Damage // places of which no member has a good copy; missing oldest segments, too
}

// Verify reads all copies of all segments from end to end, past the page cache
// where it can, and repairs what is bad from a good copy (see Repairs). It
// returns what it got to see even with an error: a place that is lost is in the
// report, and does not stop it; ErrDiverged does, and the end of ctx, which is
// looked at between segments. A member that fails to be repaired makes the log
// read-only. Append may go on meanwhile.
func (j *Journal) Verify(ctx context.Context) (Report, error) {
	var rep Report
	v, err := j.view()
	if err != nil {
		return rep, err
	}
	if d := beginning(v.segs); d != nil {
		rep.Lost = append(rep.Lost, *d)
	}
	for i, h := range v.segs {
		if err := ctx.Err(); err != nil {
			return rep, err
		}
		frames, bad, err := j.heal(v, i, true)
		if d, ok := err.(*Damage); ok {
			rep.Lost = append(rep.Lost, *d)
			err = nil
		}
		if err != nil {
			return rep, err
		}
		_, limit := v.seal(i)
		rep.Segments++
		rep.Bad += bad
		rep.Frames += len(frames)
		rep.Records += endIndex(h, frames) - h.first
		rep.Bytes += limit * int64(len(v.readers))
	}
	return rep, nil
}
