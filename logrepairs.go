package blockframe

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"

	"github.com/blockframe/blockframe/store"
)

// logRepairsKey is where the state of the catalog has the number of places of the log
// that were repaired and that no scrub has reported yet, in eight bytes.
const logRepairsKey = "log/repairs"

// logRepairs counts places of the log that were made whole. A process that repaired some
// may end before anybody asks: what is owed outlives it.
type logRepairs struct {
	mu    sync.Mutex
	seen  int64 // of those that the journal has listed, how many are counted
	owed  int64 // not reported yet, those of earlier processes included
	saved int64 // of owed, as the catalog has it
}

// loadLogRepairs takes over what earlier processes owe, and saves what this one adds by opening.
func (s *Store) loadLogRepairs(ctx context.Context) error {
	b, err := s.cat.State(ctx, logRepairsKey)
	if err != nil {
		return err
	}
	l := &s.logRepairs
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(b) == 8 {
		l.saved = int64(binary.BigEndian.Uint64(b))
		l.owed = l.saved
	}
	return s.saveLogRepairs(ctx)
}

// countLogRepairs adds what the journal has repaired since to what is owed.
func (s *Store) countLogRepairs() {
	n := int64(len(s.journal.Repairs()))
	s.logRepairs.owed += n - s.logRepairs.seen
	s.logRepairs.seen = n
}

// owedLogRepairs returns how many have not been reported yet, and leaves it so.
func (s *Store) owedLogRepairs() int64 {
	s.logRepairs.mu.Lock()
	defer s.logRepairs.mu.Unlock()
	s.countLogRepairs()
	return s.logRepairs.owed
}

// saveLogRepairs counts what the journal has repaired since, and puts what is owed into
// the catalog. A store that takes no changes goes on without: it has repaired nothing
// either, but for what it found before. A crash before it loses the news, no more.
func (s *Store) saveLogRepairs(ctx context.Context) error {
	l := &s.logRepairs
	s.countLogRepairs()
	if l.owed == l.saved || s.journal.ReadOnly() != nil {
		return nil
	}
	var b []byte // none removes it
	if l.owed > 0 {
		b = binary.BigEndian.AppendUint64(nil, uint64(l.owed))
	}
	_, err := s.change(ctx, "record", "repairs of the log", store.SetState{Key: logRepairsKey, Value: b})
	if err == nil {
		l.saved = l.owed
	}
	if errors.Is(err, store.ErrNoSpace) {
		return nil // it is told again
	}
	return err
}

// reportLogRepairs returns how many places were repaired that no scrub has reported, and takes
// them for reported.
func (s *Store) reportLogRepairs(ctx context.Context) (int64, error) {
	l := &s.logRepairs
	l.mu.Lock()
	defer l.mu.Unlock()
	s.countLogRepairs()
	told := l.owed
	l.owed = 0
	err := s.saveLogRepairs(ctx)
	if err != nil {
		l.owed += told // nobody reads the report
	}
	return told, err
}

// keepLogRepairs saves at the end what a process owes that repaired some without a
// scrub.
func (s *Store) keepLogRepairs() {
	s.logRepairs.mu.Lock()
	defer s.logRepairs.mu.Unlock()
	if err := s.saveLogRepairs(context.Background()); err != nil {
		s.log.Warn("repairs of the log are not recorded: the next scrub does not tell of them", "err", err)
	}
}
