package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"github.com/blockframe/blockframe/internal/frame"
)

// CollectOptions says how to collect.
type CollectOptions struct {
	DryRun bool // only report

	// Unclaimed removes complete objects that no record names too. They are of puts
	// that were cut off before they were acknowledged; but where a log was restored
	// from an older copy, they are all that is left of what was acknowledged since.
	Unclaimed bool
}

// CollectReport says what a collection did, or would do.
type CollectReport struct {
	Killed  int64 // uploads declared dead
	Waiting int64 // uploads condemned, whose grace is not over
	Blobs   int64 // removed
	Orphans int64 // of them: blobs that no record names
	Strange int64 // names on backends that are no keys of ours: left alone
	Skipped error // why nothing was removed: a backend is absent, or the store was rebuilt and not accepted

	// Unclaimed are complete objects that no record names, as far as their blobs tell;
	// UnclaimedNames are those of the first 100. They are left alone, with all blobs of
	// the puts they are of, unless the option of this name is set. At most 131,072 acts
	// of putting are counted: of more, all that may be such are left alone.
	Unclaimed      int64
	UnclaimedNames []string
}

// Collect removes what nothing can name any more: the blobs of uploads that are
// unreferenced since longer than the grace, and blobs that crashes left behind.
// Complete objects that no record names are left alone, and in the report. It is safe
// beside puts and readers of this process. Nothing is removed while a backend is absent.
//
// For each upload: Kill is committed, the one commit point; its blobs are removed; it
// is forgotten. A crash between leaves a dead upload, which the next collection ends.
func (s *Store) Collect(ctx context.Context, opts CollectOptions) (rep CollectReport, err error) {
	if err := s.writable(); err != nil {
		return rep, err
	}
	if err := s.collecting.take(ctx); err != nil {
		return rep, fmt.Errorf("collect: wait for another one to end: %w", err)
	}
	defer s.collecting.give()
	if err := s.allPresent(ctx); err != nil {
		rep.Skipped = err
		return rep, nil
	}
	if rep.Skipped = s.unaccepted(ctx); rep.Skipped != nil && !opts.DryRun {
		return rep, nil
	}
	c := &collection{s: s, opts: opts, rep: &rep}
	if s.opts.NeedsKept != nil {
		c.needsKept, err = s.opts.NeedsKept(ctx)
	}
	if err == nil {
		err = c.findUnclaimed(ctx)
	}
	if err != nil {
		return rep, fmt.Errorf("collect: %w", err)
	}
	// Orphans come first: those of an upload that is forgotten in the same collection
	// are known to be of it as yet.
	for _, d := range s.here() {
		if err := c.orphans(ctx, d); err != nil {
			return rep, fmt.Errorf("collect: backend %v: %w", d.id, err)
		}
	}
	if err := c.uploads(ctx); err != nil {
		return rep, fmt.Errorf("collect: %w", err)
	}
	return rep, nil
}

// collection is one under way.
type collection struct {
	s    *Store
	opts CollectOptions
	rep  *CollectReport
	kept unclaimed

	needsKept bool // the commit log depends on streams that no record names
}

// needs reports whether an upload may be one that the commit log depends on.
func (c *collection) needs(id UploadID) bool {
	return c.needsKept && (id.looksKept(KindSegment) || id.looksKept(KindSnapshot))
}

// allPresent returns why a sweep must wait.
func (s *Store) allPresent(ctx context.Context) error {
	if absent := s.set.Load().absent; len(absent) > 0 {
		return fmt.Errorf("backend %v is absent: %w", absent[0], ErrUnavailable)
	}
	for _, d := range s.here() {
		if _, err := d.Usage(ctx); err != nil {
			return fmt.Errorf("backend %v: %w", d.id, err)
		}
	}
	return nil
}

// uploads ends the uploads that may be.
func (c *collection) uploads(ctx context.Context) error {
	s, opts, rep := c.s, c.opts, c.rep
	for u, err := range s.cat.Uploads(ctx, UploadID{}) {
		if err == nil {
			err = s.over(ctx)
		}
		if err != nil {
			return err
		}
		if u.State == UploadLive || u.State == UploadOpen && u.Epoch >= s.epoch || s.pins.has(u.ID) || c.needs(u.ID) {
			continue
		}
		if s.stale(&u) && !opts.Unclaimed && (c.kept.uploads[u.ID] || c.kept.full) {
			continue // complete, whatever the log says of it
		}
		if opts.DryRun {
			rep.Waiting++
			continue
		}
		dead := u.State == UploadDead
		if !dead {
			if dead, err = s.kill(ctx, u.ID); err != nil {
				return err
			}
		}
		if !dead {
			rep.Waiting++
			continue
		}
		rep.Killed++
		if err := s.bury(ctx, u, rep); err != nil {
			return err
		}
	}
	return nil
}

// kill declares an upload dead if its grace is over and nobody has pinned it.
func (s *Store) kill(ctx context.Context, id UploadID) (bool, error) {
	if !s.pins.doom(id) {
		return false, nil
	}
	defer s.pins.spare(id)
	res, err := s.cat.Commit(ctx, Record{Commands: []Command{Kill{id}}})
	if err != nil {
		return false, err
	}
	if errors.Is(res[0].Err, ErrUncertain) {
		return false, res[0].Err
	}
	return res[0].Err == nil && res[0].Changed, nil
}

// bury removes the blobs of a dead upload and forgets it.
func (s *Store) bury(ctx context.Context, u Upload, rep *CollectReport) error {
	for i := range u.Extents {
		e, err := s.cat.ExtentAt(ctx, u.ID, i)
		if isAbsent(err) {
			continue
		}
		if err != nil {
			return err
		}
		if err := s.buryExtent(ctx, &e, rep); err != nil {
			return err
		}
	}
	return s.commitOne(ctx, Forget{u.ID})
}

// buryExtent removes the blobs of an extent, while no repair of it writes another.
func (s *Store) buryExtent(ctx context.Context, e *Extent, rep *CollectReport) error {
	s.open.drop(e.ID)
	unlock, err := s.healing.lock(ctx, e.ID)
	if err != nil {
		return err
	}
	defer unlock()
	for j, sh := range e.Shards {
		if _, err := s.disk(sh.Backend).remove(ctx, e.Key(j), nil); err != nil {
			return err
		}
		rep.Blobs++
	}
	return nil
}

// keysAtOnce is how many keys of a backend are listed in one go.
const keysAtOnce = 1000

// remove removes a blob, as await calls what may not return.
func (d *disk) remove(ctx context.Context, key BackendKey, late func(error)) (left bool, err error) {
	return d.await(ctx, stallTime, "remove", key, func() error { return d.Remove(ctx, key) }, late)
}

// keys yields the keys that begin with prefix, as far as the backend answers.
func (d *disk) keys(ctx context.Context, prefix BackendKey) iter.Seq2[BackendKey, error] {
	return func(yield func(BackendKey, error) bool) {
		for after := BackendKey(""); ; {
			var page []BackendKey
			_, err := d.await(ctx, stallTime, "list", after, func() (err error) { page, err = d.page(ctx, prefix, after); return err }, nil)
			if err != nil {
				yield("", err) // page may be written to yet
				return
			}
			for _, key := range page {
				if !yield(key, nil) {
					return
				}
			}
			if len(page) < keysAtOnce {
				return
			}
			after = page[len(page)-1]
		}
	}
}

// page lists the next keys.
func (d *disk) page(ctx context.Context, prefix, after BackendKey) (page []BackendKey, err error) {
	for key, err := range d.List(ctx, prefix, after) {
		if err != nil {
			return nil, err
		}
		if page = append(page, key); len(page) == keysAtOnce {
			break
		}
	}
	return page, nil
}

// orphans removes the blobs of a backend that no record names: of puts that were never
// acknowledged, and of repairs that crashed.
func (c *collection) orphans(ctx context.Context, d *disk) error {
	for key, err := range d.keys(ctx, "") {
		if err == nil {
			err = c.s.over(ctx)
		}
		if err != nil {
			return err
		}
		k, ok := parseKey(key)
		if !ok {
			c.rep.Strange++
			continue
		}
		if err := c.orphan(ctx, d, k, key); err != nil {
			return err
		}
	}
	return nil
}

// orphan removes a blob if no record names it. No repair of its extent is under way
// meanwhile: a repair has blobs that no record names yet.
func (c *collection) orphan(ctx context.Context, d *disk, k parsedKey, key BackendKey) error {
	unlock, err := c.s.healing.lock(ctx, k.extent)
	if err != nil {
		return err
	}
	orphan, err := c.s.orphan(ctx, d, k)
	if err == nil && orphan {
		var keep bool
		keep, err = c.keeps(ctx, k)
		orphan = !keep
	}
	left := false
	if err == nil && orphan && !c.opts.DryRun {
		// The next repair may use the key again: not before this has ended.
		left, err = d.remove(ctx, key, func(error) { unlock() })
	}
	if !left {
		unlock()
	}
	if err == nil && orphan {
		c.rep.Orphans++
		c.rep.Blobs++
	}
	return err
}

// orphan reports whether no record names a blob, nor will. The order of the
// questions matters: a put is pinned until it was applied, so whoever is neither
// pinned nor then in the catalog never will be.
func (s *Store) orphan(ctx context.Context, d *disk, k parsedKey) (bool, error) {
	if k.epoch > s.epoch || s.pins.has(k.upload) {
		return false, nil
	}
	e, err := s.cat.Extent(ctx, k.extent)
	if isAbsent(err) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if e.Upload == k.upload && k.shard < len(e.Shards) && k.generation > e.Shards[k.shard].Generation && !s.hasShard(ctx, &e, k.shard) {
		return false, s.over(ctx) // of a repair that a log restored from an older copy has lost: there is no other
	}
	// A shard that is missing has no blob: one of its key came of a commit that nobody
	// waited for. The repair writes the next generation.
	named := k.shard < len(e.Shards) && e.Upload == k.upload && e.Epoch == k.epoch && !e.Shards[k.shard].Missing &&
		e.Shards[k.shard].Backend == d.id && e.Shards[k.shard].Generation == k.generation
	return !named, nil
}

// hasShard reports whether the blob is there that the catalog names.
func (s *Store) hasShard(ctx context.Context, e *Extent, i int) bool {
	if e.Shards[i].Missing {
		return false
	}
	l, err := s.lookAt(ctx, e, i)
	if err != nil {
		return false
	}
	l.close()
	return true
}

// parsedKey is what a key says.
type parsedKey struct {
	extent     ExtentID
	shard      int
	generation uint32
	epoch      uint64
	upload     UploadID
}

// parseKey reads a key. Only the one spelling that Key writes is a key.
func parseKey(key BackendKey) (k parsedKey, ok bool) {
	_, rest, _ := strings.Cut(string(key), "/")
	f := strings.Split(rest, "-")
	if len(f) != 5 || len(f[0]) != 32 || len(f[4]) != 32 {
		return k, false
	}
	_, err1 := hex.Decode(k.extent[:], []byte(f[0]))
	_, err2 := hex.Decode(k.upload[:], []byte(f[4]))
	shard, err3 := strconv.ParseUint(f[1], 16, 8)
	gen, err4 := strconv.ParseUint(f[2], 16, 32)
	epoch, err5 := strconv.ParseUint(f[3], 16, 64)
	if errors.Join(err1, err2, err3, err4, err5) != nil {
		return k, false
	}
	k.shard, k.generation, k.epoch = int(shard), uint32(gen), epoch
	return k, Key(k.extent, k.shard, k.generation, k.epoch, k.upload) == key
}

// Inspection is what a blob says of itself.
type Inspection struct {
	StoreID    string
	Extent     ExtentID
	Upload     UploadID
	Kind       Kind
	Shard      int
	Code       string
	Generation uint32
	Epoch      uint64
	Ordinal    int
	Offset     int64
	Length     int64
	Size       int64
	Hash       string // of the extent
	Header     string // "ok", or what is wrong
	Trailer    string
	Table      string
	BadBlocks  []int // stripes whose block does not match the table
	Blocks     int
	Manifests  []byte // JSON lines
}

// Inspect reads one shard blob by itself, without a store: what it is, of what
// object, and whether it is sound.
func Inspect(r BackendReader) (in Inspection, err error) {
	b := frame.Aligned(headerSize)
	h, herr := header{}, error(nil)
	if _, herr = readFull(r, b, 0); herr == nil {
		h, herr = decodeHeader(b)
	}
	t, terr := readTrailer(r)
	in.Header, in.Trailer = verdict(herr), verdict(terr)
	if terr != nil && herr != nil {
		return in, fmt.Errorf("neither header nor trailer can be read: %w", errors.Join(herr, terr))
	}
	if terr == nil {
		h = t.header
	}
	in.StoreID, in.Extent, in.Upload, in.Kind = hex.EncodeToString(h.storeID[:]), h.extent, h.upload, h.kind
	in.Shard, in.Code, in.Generation, in.Epoch = h.shard, h.code.String(), h.generation, h.epoch
	in.Ordinal, in.Offset, in.Size = h.ordinal, h.offset, r.Size()
	if terr != nil {
		in.Table = "unknown: the trailer says where it is"
		return in, nil
	}
	in.Length, in.Hash = t.length, hex.EncodeToString(t.hash[:])
	in.inspectParts(r, &t)
	return in, nil
}

func verdict(err error) string {
	if err != nil {
		return err.Error()
	}
	return "ok"
}

// inspectParts verifies table, manifests and blocks of a blob whose trailer is
// sound.
func (in *Inspection) inspectParts(r BackendReader, t *trailer) {
	e := Extent{ID: t.extent, Upload: t.upload, Offset: t.offset, Length: t.length, Whole: t.whole, Code: t.code,
		BlockSize: t.blockSize, Hash: t.hash, ParityRoot: t.parityRoot, Shards: make([]Shard, t.code.Shards())}
	x := newHandle(e)
	raw := make([]byte, t.table.len)
	_, err := readFull(r, raw, t.table.off)
	if err == nil {
		err = x.checkTable(raw)
	}
	in.Table = verdict(err)
	if lines := make([]byte, t.manifests.len); err == nil {
		if _, err := readFull(r, lines, t.manifests.off); err == nil && frame.Sum(lines) == t.maniHash {
			in.Manifests = lines
		}
	}
	if err != nil {
		return
	}
	x.setTable(raw)
	buf := frame.Aligned(BlockSize)
	for s := range x.g.Stripes() {
		if x.g.ShardBlockLen(t.shard, s) > 0 {
			in.Blocks++
			if !readColumn(r, x, t.shard, s, 1, buf)[0] {
				in.BadBlocks = append(in.BadBlocks, s)
			}
		}
	}
}
