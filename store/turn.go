package store

import "context"

// turn is a lock for which nobody waits longer than their context lasts: what holds it
// may be at work on a backend for hours, or wait for one that does not answer.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

// take waits for the turn, to be given back with give, unless ctx ends first: then the
// error is that of ctx. Who comes with a context that has ended does not get it.
func (t turn) take(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) give() { <-t }
