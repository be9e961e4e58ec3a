package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/internal/journal"
)

const (
	adoptBytes    = 256 << 10 // of a record of adoptions, about
	adoptCommands = 1000      // in it
	adoptTaken    = 10_000    // names given away that are in memory
)

// adoption is a command of a record of adoptions, and what it is about.
type adoption struct {
	cmd   Command
	found Found
	m     *manifest // of an Adopt
	tries int       // names that were not to be had
	same  bool      // the name is there, with the same content
}

// adopt records what was proven.
func (r *rebuild) adopt(ctx context.Context) error {
	a := &adopter{rebuild: r}
	if err := r.each(ctx, []byte{'j'}, func(_, value []byte) error { return a.rejoin(ctx, value) }); err != nil {
		return err
	}
	var upload UploadID
	err := r.each(ctx, []byte{'o'}, func(key, value []byte) error {
		var m manifest
		if err := json.Unmarshal(value, &m); err != nil {
			return err
		}
		if id := UploadID(key[1:17]); id != upload {
			upload = id
			if err := a.extents(ctx, id); err != nil {
				return err
			}
		}
		return a.name(ctx, upload, &m)
	})
	if err == nil {
		err = a.commit(ctx)
	}
	if err == nil {
		err = a.end(ctx)
	}
	return err
}

// adopter gathers commands into records.
type adopter struct {
	*rebuild
	list  []adoption
	size  int
	taken map[frame.Hash]frame.Hash // names given away, and to what
}

// add adds a command to the next record.
func (a *adopter) add(ctx context.Context, size int, one adoption) error {
	a.list, a.size = append(a.list, one), a.size+size
	if a.size >= adoptBytes || len(a.list) >= adoptCommands {
		return a.commit(ctx)
	}
	return nil
}

// rejoin records the shards of a known extent that were found.
func (a *adopter) rejoin(ctx context.Context, value []byte) error {
	x, err := decodeFoundExtent(value)
	if err != nil {
		return err
	}
	old, err := a.s.cat.Extent(ctx, x.e.ID)
	if err != nil {
		return err
	}
	found, missing := Found{State: FoundIncomplete, Upload: x.e.Upload}, false
	for _, i := range inOrder(old.Shards, x.e.Shards) {
		from, to := old.Shards[i], x.e.Shards[i]
		missing = missing || from.Missing && from != to
		if !from.Missing && from != to {
			if err := a.add(ctx, 100, adoption{cmd: Replace{Extent: old.ID, Shard: i, From: from.Generation, To: to}, found: found}); err != nil {
				return err
			}
		}
	}
	if !missing {
		return nil
	}
	return a.add(ctx, extentBytes(&x.e), adoption{cmd: AdoptExtent{x.e}, found: found})
}

// inOrder returns the shards in an order in which they can move one by one: one that goes
// where another is comes after that, as long as they do not go in a circle.
func inOrder(from, to []Shard) (list []int) {
	at := slices.Clone(from)
	free := func(i int) bool {
		return !slices.ContainsFunc(at, func(s Shard) bool { return s.Backend == to[i].Backend }) || at[i].Backend == to[i].Backend
	}
	left := make([]int, len(from))
	for i := range left {
		left[i] = i
	}
	for len(left) > 0 {
		n := max(0, slices.IndexFunc(left, free))
		i := left[n]
		at[i], left, list = to[i], slices.Delete(left, n, n+1), append(list, i)
	}
	return list
}

// extentBytes returns about how many bytes of a record an extent takes.
func extentBytes(e *Extent) int { return 200 + 21*len(e.Shards) }

// extents records the extents of an upload, and what is wrong with their shards.
func (a *adopter) extents(ctx context.Context, id UploadID) error {
	return a.each(ctx, append([]byte{'u'}, id[:]...), func(_, value []byte) error {
		x, err := decodeFoundExtent(value)
		if err != nil {
			return err
		}
		missing := len(x.e.Shards) - x.have
		a.rep.Missing += int64(missing)
		a.rep.Damaged += int64(len(x.damaged))
		found := Found{State: FoundIncomplete, Upload: id}
		if err := a.add(ctx, extentBytes(&x.e), adoption{cmd: AdoptExtent{x.e}, found: found}); err != nil {
			return err
		}
		var damage []Repair
		for _, i := range x.damaged {
			damage = append(damage, Repair{Extent: x.e.ID, Shard: int(i), Left: max(-1, x.e.Code.M-missing-len(x.damaged))})
		}
		if len(damage) == 0 {
			return nil
		}
		return a.add(ctx, 50*len(damage), adoption{cmd: Report{damage}, found: found})
	})
}

// name gives an object of an upload a name.
func (a *adopter) name(ctx context.Context, upload UploadID, m *manifest) error {
	one := adoption{m: m, found: Found{State: FoundObject, Name: m.Name, ID: *m.ID, Size: *m.Size, Upload: upload}}
	ok, err := a.choose(ctx, &one)
	if err != nil {
		return err
	}
	if !ok {
		a.tell(Found{State: FoundIncomplete, Name: m.Name, ID: *m.ID, Upload: upload, Err: fmt.Errorf("%w: all names for it are taken", fs.ErrExist)})
		return nil
	}
	size := 256 + len(one.found.To)
	for k, v := range m.Xattrs {
		size += 8 + len(k) + len(v)
	}
	return a.add(ctx, size, one)
}

// names returns the names an object may get, best first: its own, if no other content
// claims it; with its put, as the independent reader names it; and one that always can
// be.
func (a *adopter) names(upload UploadID, m *manifest) (list []string, err error) {
	plain := m.Name
	if !strings.HasPrefix(plain, LostFound+"/") {
		plain = LostFound + "/" + plain
	}
	sum, n := nameSum(m.Name), 0
	for _, err := range a.db.Scan(append([]byte{'n'}, sum[:]...), pastPrefix(append([]byte{'n'}, sum[:]...))) {
		if err != nil {
			return nil, err
		}
		if n++; n > 1 {
			break
		}
	}
	by := plain + ".put-" + upload.String()
	flat := fmt.Sprintf("%s/%v-%x-%x", LostFound, upload, *m.At, sum[:4])
	list = []string{by, fmt.Sprintf("%s-%x", by, *m.At), flat} // a pack may have several of a name
	if n == 1 {
		list = slices.Insert(list, 0, plain)
	}
	return list, nil
}

// choose sets the name of an object to the next one that may be had.
func (a *adopter) choose(ctx context.Context, one *adoption) (bool, error) {
	m, upload := one.m, one.found.Upload
	names, err := a.names(upload, m)
	if err != nil {
		return false, err
	}
	for ; one.tries < len(names); one.tries++ {
		name := names[one.tries]
		free, same, err := a.free(ctx, name, m)
		if err != nil {
			return false, err
		}
		if free || same {
			one.found.To, one.same = name, same
			one.cmd = Adopt{Name: name, Attr: m.attr(), Policy: m.Policy, ID: *m.ID, Size: *m.Size, Upload: upload, Offset: *m.At}
			return true, nil
		}
	}
	return false, nil
}

// free reports whether a name is nobody's, or that of the same content with the same
// attributes.
func (a *adopter) free(ctx context.Context, name string, m *manifest) (free, same bool, err error) {
	sum, what := nameSum(name), m.sum()
	if v, ok := a.taken[sum]; ok {
		return false, v == what, nil
	}
	if v, ok, err := a.db.Get(append([]byte{'t'}, sum[:]...)); err != nil || ok {
		return false, ok && frame.Hash(v) == what, err
	}
	o, err := a.s.cat.Object(ctx, name, 0)
	switch {
	case isAbsent(err):
		return true, false, a.take(sum, what)
	case errors.Is(err, fs.ErrInvalid):
		return false, false, nil
	case err != nil:
		return false, false, err
	}
	at := manifest{Mode: unixMode(o.Mode), UID: o.UID, GID: o.GID, ModTime: lineTime(o.ModTime), Xattrs: lineXattrs(o.Xattrs), Policy: o.Policy, ID: &o.ID, Size: &o.Size}
	if o.Deleted || !o.Mode.IsRegular() || at.sum() != what {
		return false, false, nil
	}
	return false, true, a.take(sum, what)
}

// take notes that a name is given away: in memory, until there are many.
func (a *adopter) take(name, what frame.Hash) error {
	if a.taken == nil {
		a.taken = map[frame.Hash]frame.Hash{}
	}
	a.taken[name] = what
	if len(a.taken) < adoptTaken {
		return nil
	}
	for name, what := range a.taken {
		if err := a.set(append([]byte{'t'}, name[:]...), what[:]); err != nil {
			return err
		}
	}
	clear(a.taken)
	return a.flush()
}

// commit commits a record of what was gathered. What is refused is told of; an object
// whose name is not to be had gets the next one.
func (a *adopter) commit(ctx context.Context) error {
	list := a.list
	a.list, a.size = nil, 0
	for len(list) > 0 {
		results, err := a.propose(ctx, list)
		if err != nil {
			return err
		}
		var again []adoption
		for i := range list {
			one := &list[i]
			switch err := results[i].Err; {
			case err == nil:
				a.done(one, results[i].Changed)
			case one.m != nil && (errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrInvalid)):
				one.tries++
				ok, cerr := a.choose(ctx, one)
				if cerr != nil {
					return cerr
				}
				if ok {
					again = append(again, *one)
					continue
				}
				fallthrough
			default:
				one.found.State, one.found.Err = FoundIncomplete, err
				a.tell(one.found)
			}
		}
		list = again
	}
	return nil
}

// done counts what was adopted.
func (a *adopter) done(one *adoption, changed bool) {
	if one.m == nil {
		return
	}
	if changed {
		a.rep.Named++
		a.rep.Bytes += one.found.Size
	}
	a.tell(one.found)
}

// propose commits adoptions, each accepted or refused by itself. One that is no command
// at all is refused too, and keeps no other; what is too long for one record takes several.
func (a *adopter) propose(ctx context.Context, list []adoption) ([]Result, error) {
	if a.opts.DryRun {
		res := make([]Result, len(list))
		for i := range res {
			res[i].Changed = !list[i].same
		}
		return res, nil
	}
	if err := a.mark(ctx); err != nil {
		return nil, err
	}
	rec := Record{Each: true}
	for i := range list {
		rec.Commands = append(rec.Commands, list[i].cmd)
	}
	res, err := a.s.cat.Commit(ctx, rec)
	if !errors.Is(err, fs.ErrInvalid) && !errors.Is(err, journal.ErrTooLarge) || errors.Is(err, ErrUncertain) {
		return res, err
	}
	if len(list) == 1 {
		return []Result{{Err: err}}, nil
	}
	first, err := a.propose(ctx, list[:len(list)/2])
	if err != nil {
		return nil, err
	}
	rest, err := a.propose(ctx, list[len(list)/2:])
	return append(first, rest...), err
}

// mark raises the epoch over that of all blobs, and ends collection, before anything is
// adopted.
func (a *adopter) mark(ctx context.Context) error {
	if a.marked {
		return nil
	}
	commands := []Command{SetState{Key: StateRebuilt, Value: []byte(Unaccepted)}}
	if a.epoch > a.s.epoch {
		commands = append(commands, RaiseEpoch{a.epoch})
	}
	res, err := a.s.cat.Commit(ctx, Record{Commands: commands})
	if err == nil {
		err = res[0].Err
	}
	a.marked = err == nil
	return err
}

// end ends all adoptions, only now: until then each run sees all that it may name, and
// gives the same names.
func (a *adopter) end(ctx context.Context) error {
	if a.opts.DryRun {
		return nil
	}
	var commands []Command
	flush := func() error {
		if len(commands) == 0 {
			return nil
		}
		_, err := a.s.cat.Commit(ctx, Record{Each: true, Commands: commands})
		commands = nil
		return err
	}
	var upload UploadID
	err := a.each(ctx, []byte{'o'}, func(key, _ []byte) error {
		if id := UploadID(key[1:17]); id != upload {
			upload = id
			if commands = append(commands, Adopted{id}); len(commands) >= adoptCommands {
				return flush()
			}
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	return err
}

// accept says whether the store is accepted, and makes it so if that is wanted.
func (r *rebuild) accept(ctx context.Context) error {
	not := r.s.unaccepted(ctx)
	if not == nil || !errors.Is(not, errUnaccepted) {
		r.rep.Accepted = not == nil
		return not
	}
	if !r.opts.Accept || r.opts.DryRun {
		return nil
	}
	err := r.s.commitOne(ctx, SetState{Key: StateRebuilt, Value: []byte(accepted)})
	r.rep.Accepted = err == nil
	return err
}

var errUnaccepted = errors.New("the store was rebuilt from its shards, and that was not accepted yet: look at what was found, and accept it (blockframe rebuild --accept)")

// unaccepted returns why nothing may be collected yet: the store was rebuilt.
func (s *Store) unaccepted(ctx context.Context) error {
	v, err := s.cat.State(ctx, StateRebuilt)
	if err == nil && string(v) == Unaccepted {
		err = errUnaccepted
	}
	return err
}
