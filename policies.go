package blockframe

import (
	"context"
	"fmt"
	"io/fs"
	"slices"

	"github.com/blockframe/blockframe/internal/catalog"
	"github.com/blockframe/blockframe/store"
)

// SetPolicy records a policy, in place of the one with the same Prefix and MaxSize
// if there is one. It counts for what is put from now on. A policy that is wrong,
// for the number of backends too, is fs.ErrInvalid.
func (s *Store) SetPolicy(ctx context.Context, p Policy) error {
	if err := p.Validate(s.disks.placeable()); err != nil {
		return err
	}
	if _, err := s.change(ctx, "set policy", p.Prefix, catalog.SetPolicy{Policy: p}); err != nil {
		return err
	}
	s.policiesChanged(ctx)
	return nil
}

// UnsetPolicy removes all policies of a prefix; fs.ErrNotExist if there is none.
func (s *Store) UnsetPolicy(ctx context.Context, prefix string) error {
	res, err := s.change(ctx, "unset policy", prefix, catalog.UnsetPolicy{Prefix: prefix})
	if err == nil && !res.Changed {
		err = fmt.Errorf("unset policy: %w: none has the prefix %q", fs.ErrNotExist, prefix)
	}
	if err != nil {
		return err
	}
	s.policiesChanged(ctx)
	return nil
}

// Policies returns the policies in force, by prefix and size.
func (s *Store) Policies() []Policy { return slices.Clone(s.policies()) }

// policies returns the list that the engine chooses from. It is not changed.
func (s *Store) policies() []Policy {
	if s.stale.Load() {
		_ = s.loadPolicies(context.Background()) // until it succeeds, the list before the change counts
	}
	if list := s.inForce.Load(); list != nil {
		return *list
	}
	return nil
}

// policiesChanged reads the list after a change, which is durable and succeeded
// whatever becomes of that: a list that cannot be read now is read when it is needed.
func (s *Store) policiesChanged(ctx context.Context) {
	if err := s.loadPolicies(context.WithoutCancel(ctx)); err != nil {
		s.log.Warn("the change of a policy counts as soon as the list can be read", "err", err)
	}
}

// loadPolicies reads what is recorded.
func (s *Store) loadPolicies(ctx context.Context) error {
	s.loading.Lock()
	defer s.loading.Unlock()
	s.stale.Store(false)
	list, err := s.cat.Policies(ctx)
	if err != nil {
		s.stale.Store(true)
		return fmt.Errorf("read policies: %w", err)
	}
	store.SortPolicies(list)
	s.inForce.Store(&list)
	return nil
}

// Survives returns how many disks, any of them, may be lost at once without losing
// what is put from now on: the least of the policies in force, of the default code
// and of the copies of the commit log. What was put under other policies or onto
// fewer disks may survive fewer: a scrub says so.
func (s *Store) Survives() int {
	n := s.disks.placeable()
	least := Policy{}.Survives(n)
	for _, p := range s.policies() {
		if p.Prefix == "" && p.MaxSize == 0 {
			least = p.Survives(n) // says it instead of the default
		}
	}
	for _, p := range s.policies() {
		least = min(least, p.Survives(n))
	}
	return max(0, min(least, len(s.logHomes())-1))
}
