package blockframe

import (
	"context"
	"io"

	"github.com/blockframe/blockframe/store"
)

// keepWiden is how many segments a pass keeps anew.
const keepWiden = 4

// narrow is what is kept in a narrower code than it would be now.
type narrow struct {
	snapshot bool
	segments []store.Kept
}

// narrow finds that. In place of a snapshot another one is taken, of the index as it is by
// then, and the old one goes when there are three after it, and with it the segments that
// these cover. So segments are looked at when no snapshot is narrow. Before a rebuild is
// accepted nothing is dropped, and all stays as it is.
func (k *keeper) narrow(ctx context.Context, snaps, segs []store.Kept) (n narrow, err error) {
	if mark, err := k.s.cat.State(ctx, store.StateRebuilt); err != nil || string(mark) == store.Unaccepted {
		return n, err
	}
	for _, kept := range snaps[:min(len(snaps), keepSnapshots)] {
		if n.snapshot, err = k.s.eng.KeptNarrow(ctx, kept.Upload); err != nil || n.snapshot {
			return n, err
		}
	}
	for _, kept := range segs {
		is, err := k.s.eng.KeptNarrow(ctx, kept.Upload)
		if err != nil {
			return n, err
		}
		if is && kept.Last > covered(snaps) && k.inLog(kept) {
			n.segments = append(n.segments, kept)
		}
	}
	return n, nil
}

// inLog reports whether a segment that is kept is in the log, too.
func (k *keeper) inLog(kept store.Kept) bool {
	for _, seg := range k.s.journal.Segments() {
		if seg.Number == kept.Number && seg.First == kept.First && seg.Last == kept.Last {
			return seg.Sealed
		}
	}
	return false
}

// widen keeps the first of some segments anew. A crash before the old one is released
// leaves one of them that the next pass keeps anew once more.
func (k *keeper) widen(ctx context.Context, list []store.Kept) error {
	for _, old := range list[:min(len(list), keepWiden)] {
		kept := store.Kept{Kind: store.KindSegment, Number: old.Number, First: old.First, Last: old.Last}
		if _, err := k.keep(ctx, kept, func(w io.Writer) error { return k.s.journal.Export(old.Number, w) }); err != nil {
			return err
		}
		if err := k.s.eng.Drop(ctx, old.Upload); err != nil {
			return err
		}
	}
	return nil
}
