package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/blockframe/blockframe/erasure"
	"github.com/blockframe/blockframe/internal/frame"
)

// foundExtent is an extent as its blobs have it.
type foundExtent struct {
	e       Extent
	have    int    // shards that are there
	damaged []byte // of them, those whose trailers are bad
	why     string // it cannot be read, "" if it can
}

func (x *foundExtent) encode() []byte {
	var e frame.Encoder
	e.String(x.why)
	e.U16(uint16(x.have))
	e.Bytes(x.damaged)
	v := &x.e
	e.Raw(v.ID[:])
	e.Raw(v.Upload[:])
	e.U32(uint32(v.Ordinal))
	e.I64(v.Offset)
	e.I64(v.Length)
	e.U8(uint8(v.Kind))
	e.Bool(v.Whole)
	e.U8(uint8(v.Code.K))
	e.U8(uint8(v.Code.M))
	e.U32(uint32(v.BlockSize))
	e.U8(v.CodeID)
	e.U8(v.Transform)
	e.U32(v.KeyEpoch)
	e.Raw(v.Hash[:])
	e.Raw(v.ParityRoot[:])
	e.Raw(v.Descriptor[:])
	e.U64(v.Epoch)
	for _, s := range v.Shards {
		e.Raw(s.Backend[:])
		e.U32(s.Generation)
		e.Bool(s.Missing)
	}
	return e.B
}

func decodeFoundExtent(b []byte) (x foundExtent, err error) {
	d := frame.NewDecoder(b)
	x.why, x.have, x.damaged = d.String(1000), int(d.U16()), d.Bytes(erasure.MaxShards)
	v := &x.e
	v.ID, v.Upload, v.Ordinal = d.ID(), d.ID(), int(d.U32())
	v.Offset, v.Length, v.Kind, v.Whole = d.I64(), d.I64(), Kind(d.U8()), d.Bool()
	v.Code = erasure.Code{K: int(d.U8()), M: int(d.U8())}
	v.BlockSize, v.CodeID, v.Transform, v.KeyEpoch = int(d.U32()), d.U8(), d.U8(), d.U32()
	v.Hash, v.ParityRoot, v.Descriptor, v.Epoch = d.Hash(), d.Hash(), d.Hash(), d.U64()
	for range v.Code.Shards() {
		v.Shards = append(v.Shards, Shard{Backend: d.ID(), Generation: d.U32(), Missing: d.Bool()})
	}
	x.damaged = append([]byte(nil), x.damaged...)
	return x, d.Done()
}

// mostGenerations is how many blobs of one shard are looked at, the newest.
const mostGenerations = 8

// join puts the blobs of each extent together.
func (r *rebuild) join(ctx context.Context) error {
	var group []shardBlob
	same := 0
	err := r.each(ctx, []byte{'x'}, func(key, value []byte) error {
		b, err := parseBlob(key, value)
		if err != nil {
			return err
		}
		if len(group) > 0 && group[0].extent != b.extent {
			if err := r.extent(ctx, group); err != nil {
				return err
			}
			group, same = group[:0], 0
		}
		if len(group) > 0 && group[len(group)-1].shard == b.shard {
			same++
		} else {
			same = 0
		}
		if same >= mostGenerations {
			r.stray(&b, "there are newer ones of this shard")
			return nil
		}
		group = append(group, b)
		return nil
	})
	if err == nil && len(group) > 0 {
		err = r.extent(ctx, group)
	}
	if err == nil {
		err = r.flush()
	}
	return err
}

// stray tells of a blob of which nothing comes.
func (r *rebuild) stray(b *shardBlob, why string) {
	if b.err != nil {
		why = b.err.Error()
	}
	r.tell(Found{State: FoundStray, Upload: b.upload, Disk: b.disk, Key: Key(b.extent, b.shard, b.generation, b.epoch, b.upload), Err: fmt.Errorf("%s", why)})
}

// extent decides what the blobs of one extent are.
func (r *rebuild) extent(ctx context.Context, group []shardBlob) error {
	f, sound := agreed(group)
	if !sound {
		f = facts{header: header{extent: group[0].extent, upload: group[0].upload, epoch: group[0].epoch}}
	}
	v, err := r.verdict(ctx, f.upload)
	switch {
	case err != nil:
		return err
	case v == upDead:
		return r.set(append([]byte{'d'}, f.upload[:]...), nil)
	case v == upKnown:
		return r.known(ctx, group, &f)
	}
	key := append([]byte{'u'}, f.upload[:]...)
	if !sound {
		key = append(binary.BigEndian.AppendUint32(key, 1<<32-1), f.extent[:]...)
		x := foundExtent{e: Extent{ID: f.extent, Upload: f.upload}, why: fmt.Sprintf("extent %v: no shard of it has a sound trailer: %v", f.extent, group[0].err)}
		return r.set(key, x.encode())
	}
	x, used := r.assemble(group, &f)
	for i := range group {
		if !used[i] {
			r.stray(&group[i], "it is no shard of what its extent is adopted as")
		}
	}
	r.epoch = max(r.epoch, f.epoch)
	key = append(binary.BigEndian.AppendUint32(key, uint32(f.ordinal)), f.extent[:]...)
	return r.set(key, x.encode())
}

// agreed returns what most sound trailers of an extent say.
func agreed(group []shardBlob) (best facts, any bool) {
	votes, most := map[facts]int{}, 0
	for i := range group {
		if b := &group[i]; b.err == nil {
			if votes[b.facts]++; votes[b.facts] > most {
				best, most = b.facts, votes[b.facts]
			}
		}
	}
	return best, most > 0
}

// fits reports whether a blob can be a shard of the extent: its key says so, and, if it
// is not sound, it is long enough to hold its blocks.
func (b *shardBlob) fits(f *facts) bool {
	if b.shard >= f.code.Shards() || b.upload != f.upload || b.epoch != f.epoch {
		return false
	}
	if b.err == nil {
		return b.facts == *f
	}
	g := erasure.Geometry{Code: f.code, BlockSize: f.blockSize, Length: f.length}
	return b.size >= headerSize+g.ColumnLen(b.shard)
}

// choose returns the blob that is to be shard i, of those that fit: a sound one of the
// newest generation, or the newest; -1 if there is none.
func choose(group []shardBlob, f *facts, i int) int {
	best := -1
	for j := range group {
		b := &group[j]
		if b.shard != i || !b.fits(f) {
			continue
		}
		if b.err == nil {
			return j
		}
		if best < 0 {
			best = j
		}
	}
	return best
}

// assemble returns the extent, and which of the blobs are its shards.
func (r *rebuild) assemble(group []shardBlob, f *facts) (foundExtent, []bool) {
	x := foundExtent{e: Extent{ID: f.extent, Upload: f.upload, Ordinal: f.ordinal, Offset: f.offset, Length: f.length, Kind: f.kind, Whole: f.whole,
		Code: f.code, BlockSize: f.blockSize, CodeID: f.codeID, Transform: f.transform, KeyEpoch: f.keyEpoch,
		Hash: f.hash, ParityRoot: f.parityRoot, Descriptor: f.descriptor, Epoch: f.epoch, Shards: make([]Shard, f.code.Shards())}}
	used, newest := make([]bool, len(group)), uint32(0)
	on := map[BackendID]int{}
	for i := range group {
		newest = max(newest, group[i].generation)
	}
	for i := range x.e.Shards {
		j := choose(group, f, i)
		if j < 0 {
			// A repair writes the next generation: none that is on a disk somewhere.
			x.e.Shards[i] = Shard{Missing: true, Generation: newest}
			continue
		}
		used[j] = true
		x.have++
		on[group[j].disk]++
		x.e.Shards[i] = Shard{Backend: group[j].disk, Generation: group[j].generation}
		if group[j].err != nil {
			x.damaged = append(x.damaged, byte(i))
		}
	}
	if x.have < f.code.K {
		x.why = fmt.Sprintf("extent %d: %d of its %d shards are there, it takes %d to read it", f.ordinal, x.have, f.code.Shards(), f.code.K)
	}
	r.findPlaces(&x.e, on)
	return x, used
}

// findPlaces gives the missing shards of an extent places, on disks that are there if it
// can, and never on one that is draining: no more on one than already lie on some disk, so that what is known of the policy
// is kept. What has none gets one from a rebuild when there is another disk.
func (r *rebuild) findPlaces(e *Extent, on map[BackendID]int) {
	most := 1
	for _, n := range on {
		most = max(most, n)
	}
	if r.s.receivers() == 1 {
		most = erasure.MaxShards
	}
	for i := range e.Shards {
		if !e.Shards[i].Missing {
			continue
		}
		var to BackendID
		for _, id := range append(r.s.byPlace(), r.s.set.Load().absent...) {
			if !r.s.leaves(id) && on[id] < most && (to.IsZero() || on[id] < on[to] && r.s.here()[id] != nil) {
				to = id
			}
		}
		if !to.IsZero() {
			on[to]++
		}
		e.Shards[i].Backend = to
	}
}

// known compares the blobs of an extent with its record, and notes shards that records
// call missing, or of a generation that is not there, and that are: the disk of the one
// that they name may be gone, after its shards had moved.
func (r *rebuild) known(ctx context.Context, group []shardBlob, f *facts) error {
	e, err := r.s.cat.Extent(ctx, f.extent)
	if err != nil && !isAbsent(err) {
		return err
	}
	if err != nil || e.Descriptor != f.descriptor || e.Epoch != f.epoch || e.Upload != f.upload {
		f = &facts{} // they are strangers, or cannot be read: nothing is joined
	}
	used, joined := make([]bool, len(group)), false
	for i := range e.Shards {
		s := &e.Shards[i]
		at := named(group, i, s)
		if at < 0 { // a newer one counts wherever the record says that it is: it moved since
			j := choose(group, f, i)
			if j >= 0 && group[j].err == nil && (s.Missing || group[j].generation > s.Generation) {
				*s, at, joined = Shard{Backend: group[j].disk, Generation: group[j].generation}, j, true
				r.rep.Joined++
			}
		}
		if at >= 0 {
			used[at] = true
		}
	}
	joined = r.placeAgain(&e) || joined
	for i := range group {
		if !used[i] {
			r.stray(&group[i], "records name another one, or none")
		}
	}
	if !joined {
		return nil
	}
	x := foundExtent{e: e}
	return r.set(append([]byte{'j'}, f.extent[:]...), x.encode())
}

// placeAgain gives the missing shards of a known extent new places whose disk is no longer
// one of the store: it was never identified, and another took its place.
func (r *rebuild) placeAgain(e *Extent) bool {
	on, lost := map[BackendID]int{}, false
	for i := range e.Shards {
		s := &e.Shards[i]
		if s.Missing && r.s.here()[s.Backend] == nil && !slices.Contains(r.s.set.Load().absent, s.Backend) {
			s.Backend, lost = BackendID{}, true
			continue
		}
		on[s.Backend]++
	}
	if !lost {
		return false
	}
	was := slices.Clone(e.Shards)
	for i := range e.Shards { // the others keep theirs
		if s := &e.Shards[i]; s.Missing && !s.Backend.IsZero() {
			s.Missing = false
		}
	}
	r.findPlaces(e, on)
	any := false
	for i := range e.Shards {
		e.Shards[i].Missing = was[i].Missing
		any = any || e.Shards[i].Backend != was[i].Backend
	}
	return any
}

// named returns which of the blobs a record names as shard i, -1 if it is not there.
func named(group []shardBlob, i int, s *Shard) int {
	for j := range group {
		if b := &group[j]; !s.Missing && b.shard == i && b.generation == s.Generation && b.disk == s.Backend {
			return j
		}
	}
	return -1
}
