package blockframe_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/blake3"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/erasure"
)

// The rot monkey: rounds of puts, deletions, reads, scrubs and repairs at random,
// and of damage to the files beneath, checked against a model in memory. What is
// read is right or an error; while the damage is within what the codes can stand
// there is no error; and what an error says is lost really is. After a repair
// everything is as it was written.
//
// 20,000 rounds in the normal run, a tenth with -short, a million with
// BLOCKFRAME_HEAVY=1. The rounds are cut into lives of a store; a life that fails
// prints its seed, and BLOCKFRAME_SEED=CONFIG/SEED runs that life again, exactly.
func TestRotMonkey(t *testing.T) {
	const perLife = 500
	rounds := 20_000
	if testing.Short() {
		rounds /= 10
	}
	if os.Getenv("BLOCKFRAME_HEAVY") != "" {
		rounds = 1_000_000
	}
	base := uint64(time.Now().UnixNano())
	var only string
	if replay := os.Getenv("BLOCKFRAME_SEED"); replay != "" {
		var seed string
		only, seed, _ = strings.Cut(replay, "/")
		n, err := strconv.ParseUint(seed, 10, 64)
		require.NoError(t, err, "BLOCKFRAME_SEED is CONFIG/SEED")
		base, rounds = n, perLife
	}
	for _, c := range monkeyConfigs {
		t.Run(c.name, func(t *testing.T) {
			if only != "" && only != c.name {
				t.Skip("not the config of BLOCKFRAME_SEED")
			}
			t.Parallel()
			lives := (rounds + perLife*len(monkeyConfigs) - 1) / (perLife * len(monkeyConfigs))
			if only != "" {
				lives = 1
			}
			for i := range lives {
				seed := base + uint64(i)
				if !t.Run(fmt.Sprint(seed), func(t *testing.T) { newMonkey(t, c, seed).live(perLife) }) {
					return
				}
			}
		})
	}
}

// monkeyConfigs are the stores that a monkey lives in.
var monkeyConfigs = []struct {
	name     string
	dirs     int
	policies []blockframe.Policy
	cache    int64
}{
	{"one", 1, []blockframe.Policy{{Name: "cut", Prefix: "a", Extent: 1 << 20}, {Name: "copies", Prefix: "b", Code: erasure.Code{K: 1, M: 2}}}, -1},
	{"three", 3, []blockframe.Policy{{Name: "cut", Prefix: "a", Extent: 1 << 20}, {Name: "wide", Prefix: "b", Code: erasure.Code{K: 4, M: 2}, PerBackend: 2}}, 1 << 20},
	{"five", 5, []blockframe.Policy{{Name: "cut", Prefix: "a", Extent: 1 << 20, Code: erasure.Code{K: 2, M: 2}}}, 0},
}

// monkey is one life: a store, what it must hold, and the source of all decisions.
type monkey struct {
	*shelf
	rng   *rand.Rand
	names map[string]*monkeyName
	noise []byte // of which all contents are slices
	last  string // what it does
	round int
	diary []string // what it did, for the failure text
}

// monkeyName is a name of the model. Versions that were purged are nil.
type monkeyName struct {
	versions [][]byte // version i+1
	marks    []bool   // version i+1 is a deletion
	deleted  bool
}

func newMonkey(t *testing.T, c struct {
	name     string
	dirs     int
	policies []blockframe.Policy
	cache    int64
}, seed uint64) *monkey {
	m := &monkey{rng: rand.New(rand.NewPCG(seed, 0)), names: map[string]*monkeyName{}, noise: content(byte(seed), 4<<20)}
	opts := blockframe.Options{NoRepair: true, CacheBytes: c.cache, Policies: c.policies, Grace: -1}
	now := time.Unix(1e9, 0)
	opts = blockframe.WithClock(opts, func() time.Time { return now })
	m.shelf = newShelf(t, c.dirs, opts)
	t.Cleanup(func() {
		if t.Failed() && m.last != "was over" {
			t.Logf("%s\nround %d: %s\nagain with BLOCKFRAME_SEED=%s/%d", strings.Join(m.diary[max(0, len(m.diary)-100):], "\n"), m.round, m.last, c.name, seed)
		}
	})
	return m
}

// live plays so many rounds, and ends with a store that is whole.
func (m *monkey) live(rounds int) {
	for m.round = range rounds {
		m.step()
		if m.Failed() {
			m.FailNow()
		}
	}
	m.mend()
	m.reopen()
	m.readAll()
	require.NoError(m, m.st.Close())
	m.diary, m.last = nil, "was over"
}

// deeds and how often they are done.
var deeds = []struct {
	name   string
	weight int
	do     func(m *monkey)
}{
	{"put", 20, (*monkey).putNew}, {"put again", 6, (*monkey).putSame}, {"put elsewhere", 6, (*monkey).putElsewhere},
	{"batch", 4, (*monkey).putBatch}, {"delete", 4, (*monkey).remove}, {"purge", 6, (*monkey).purge},
	{"read a range", 60, (*monkey).readRange}, {"read all of one", 25, (*monkey).readOne},
	{"rot", 70, (*monkey).rot}, {"rot too much", 2, (*monkey).rotTooMuch},
	{"scrub", 3, (*monkey).look2}, {"mend", 4, (*monkey).mend}, {"repair", 8, (*monkey).repair},
	{"pack", 2, (*monkey).pack}, {"collect", 2, (*monkey).collect}, {"reopen", 1, (*monkey).again},
}

func (m *monkey) step() {
	total := 0
	for _, d := range deeds {
		total += d.weight
	}
	n := m.rng.IntN(total)
	for _, d := range deeds {
		if n -= d.weight; n < 0 {
			m.last = d.name
			d.do(m)
			m.diary = append(m.diary, fmt.Sprintf("%d: %s", m.round, m.last))
			m.look()
			return
		}
	}
}

// some returns a content of a size around a boundary, small ones most often.
func (m *monkey) some() []byte {
	sizes := []int{0, 1, 100, 4096, 4097, 20_000, block, block + 1, 150_000, 256 << 10, 256<<10 + 1, 600_000, 1 << 20, 1<<20 + 1, 1_500_000}
	i := min(m.rng.IntN(len(sizes)), m.rng.IntN(len(sizes)))
	n := max(0, sizes[i]+m.rng.IntN(3)-1)
	at := m.rng.IntN(len(m.noise) - n)
	if m.rng.IntN(4) == 0 {
		at = m.rng.IntN(4) << 16 // the same content is met again
	}
	return m.noise[at : at+n : at+n]
}

// name returns one of a few names; those of a and b have policies of their own.
func (m *monkey) name() string {
	return []string{"a/", "b/", "c/"}[m.rng.IntN(3)] + strconv.Itoa(m.rng.IntN(4))
}

// live ones, in order.
func (m *monkey) living() (list []string) {
	for _, name := range slices.Sorted(maps.Keys(m.names)) {
		if n := m.names[name]; !n.deleted {
			list = append(list, name)
		}
	}
	return list
}

var monkeyAttr = &blockframe.Attr{Mode: 0o640, ModTime: time.Unix(1e9, 5)}

// put puts data and checks which version it became.
func (m *monkey) put(name string, data []byte) {
	m.Helper()
	m.last += fmt.Sprintf(": %s %d", name, len(data))
	obj, err := m.st.Put(context.Background(), name, bytes.NewReader(data), blockframe.PutOptions{Attr: monkeyAttr})
	require.NoError(m, err)
	m.note(name, data, obj)
}

// note takes a put into the model.
func (m *monkey) note(name string, data []byte, obj blockframe.Object) {
	m.Helper()
	require.Equal(m, blockframe.ID(blake3.Sum256(data)), obj.ID)
	n := m.names[name]
	if n == nil {
		n = &monkeyName{}
		m.names[name] = n
	}
	if k := len(n.versions); k > 0 && !n.deleted && !n.marks[k-1] && n.versions[k-1] != nil && bytes.Equal(n.versions[k-1], data) {
		require.EqualValues(m, k, obj.Version, "%s: the same bytes are no new version", name)
		return
	}
	require.EqualValues(m, len(n.versions)+1, obj.Version, name)
	n.versions, n.marks, n.deleted = append(n.versions, data), append(n.marks, false), false
}

func (m *monkey) putNew() { m.put(m.name(), m.some()) }

// putSame puts what a name holds already, which mends it if it is damaged.
func (m *monkey) putSame() {
	if list := m.living(); len(list) > 0 {
		name := list[m.rng.IntN(len(list))]
		n := m.names[name]
		if data := n.versions[len(n.versions)-1]; data != nil {
			m.put(name, data)
			m.mustRead(name, 0, data)
		}
	}
}

// putElsewhere puts what one name holds under another.
func (m *monkey) putElsewhere() {
	if list := m.living(); len(list) > 0 {
		n := m.names[list[m.rng.IntN(len(list))]]
		if data := n.versions[len(n.versions)-1]; data != nil {
			to := m.name()
			m.put(to, data)
			m.mustRead(to, 0, data)
		}
	}
}

// putBatch puts several objects in one record, or none.
func (m *monkey) putBatch() {
	b := m.st.Batch(context.Background())
	var names []string
	var data [][]byte
	for range 1 + m.rng.IntN(4) {
		names, data = append(names, m.name()), append(data, m.some())
		require.NoError(m, b.Put(names[len(names)-1], bytes.NewReader(data[len(data)-1]), blockframe.PutOptions{Attr: monkeyAttr}))
	}
	if m.rng.IntN(4) == 0 {
		b.Abort()
		return
	}
	objects, err := b.Commit()
	require.NoError(m, err)
	for i := range names {
		m.note(names[i], data[i], objects[i])
	}
}

func (m *monkey) remove() {
	name := m.name()
	err := m.st.Delete(context.Background(), name, blockframe.DeleteOptions{})
	n := m.names[name]
	if n == nil || n.deleted {
		require.ErrorIs(m, err, fs.ErrNotExist)
		return
	}
	require.NoError(m, err)
	n.deleted = true
	n.versions, n.marks = append(n.versions, nil), append(n.marks, true)
}

// purge drops all versions of a name.
func (m *monkey) purge() {
	name := m.name()
	err := m.st.Delete(context.Background(), name, blockframe.DeleteOptions{All: true})
	if m.names[name] == nil {
		require.ErrorIs(m, err, fs.ErrNotExist)
		return
	}
	require.NoError(m, err)
	delete(m.names, name)
}

// pick chooses a version that can be read, nil if there is none.
func (m *monkey) pick() (name string, version uint64, data []byte) {
	list := slices.Sorted(maps.Keys(m.names))
	if len(list) == 0 {
		return "", 0, nil
	}
	name = list[m.rng.IntN(len(list))]
	n := m.names[name]
	i := m.rng.IntN(len(n.versions))
	return name, uint64(i + 1), n.versions[i]
}

func (m *monkey) readRange() {
	name, version, data := m.pick()
	if data == nil {
		return
	}
	rd, err := m.st.OpenVersion(context.Background(), name, version)
	require.NoError(m, err)
	defer rd.Close()
	for range 3 {
		off := m.rng.IntN(len(data) + 1)
		p := make([]byte, m.rng.IntN(min(len(data)-off, 2*block)+1))
		n, err := rd.ReadAt(p, int64(off))
		requireBytes(m, data[off:off+n], p[:n], "%s version %d at %d", name, version, off)
		if n < len(p) {
			m.mayFail(err, int64(off+n))
		}
	}
}

// mayFail checks an error of a read that ended at a position: the bytes there are
// really lost.
func (m *monkey) mayFail(err error, at int64) {
	m.Helper()
	var ce *blockframe.CorruptError
	require.ErrorAs(m, err, &ce)
	require.True(m, m.legit(ce), "not lost: %v", ce)
	require.True(m, ce.Offset <= at && at < ce.Offset+ce.Length, "read ended at %d: %v", at, ce)
}

func (m *monkey) readOne() {
	if name, version, data := m.pick(); data != nil {
		m.read(name, version, data)
	}
}

// read reads a version whole, in one of two ways, and reports whether it could.
func (m *monkey) read(name string, version uint64, data []byte) bool {
	m.Helper()
	rd, err := m.st.OpenVersion(context.Background(), name, version)
	require.NoError(m, err)
	defer rd.Close()
	var b bytes.Buffer
	if m.rng.IntN(2) == 0 {
		_, err = rd.WriteTo(&b)
	} else {
		_, err = io.Copy(&b, struct{ io.Reader }{rd})
	}
	require.LessOrEqual(m, b.Len(), len(data))
	requireBytes(m, data[:b.Len()], b.Bytes(), "%s version %d", name, version)
	if err != nil {
		m.mayFail(err, int64(b.Len()))
		return false
	}
	require.Equal(m, len(data), b.Len(), "%s version %d", name, version)
	return true
}

// mustRead reads what must be there whatever happened before.
func (m *monkey) mustRead(name string, version uint64, data []byte) {
	m.Helper()
	require.True(m, m.read(name, version, data), "%s was just put", name)
}

// readAll reads every version of every name.
func (m *monkey) readAll() {
	m.Helper()
	for _, name := range slices.Sorted(maps.Keys(m.names)) {
		for i, data := range m.names[name].versions {
			if data != nil {
				require.True(m, m.read(name, uint64(i+1), data), "%s version %d", name, i+1)
			}
		}
	}
	list := []string{}
	for obj, err := range m.st.List(context.Background(), "", blockframe.ListOptions{}) {
		require.NoError(m, err)
		if !obj.Mode.IsDir() {
			list = append(list, obj.Name)
		}
	}
	require.ElementsMatch(m, m.living(), list)
}

// rot damages a shard, unless that is more than the code can stand.
func (m *monkey) rot() {
	if len(m.order) == 0 {
		return
	}
	e := m.order[m.rng.IntN(len(m.order))]
	if !m.within(e) {
		return
	}
	touched := m.rotOne(e)
	for _, v := range touched {
		if !m.within(v.e) {
			for i := range touched { // undo
				m.files.write(m, touched[len(touched)-1-i].path, touched[len(touched)-1-i].before)
			}
			return
		}
	}
}

// victim is a file that was changed, and what it was before.
type victim struct {
	e      *extentImage
	path   string
	before []byte
}

// rotOne does one of many things to a shard of an extent.
func (m *monkey) rotOne(e *extentImage) (touched []victim) {
	shard := m.rng.IntN(len(e.shards))
	im := e.shards[shard]
	b := m.files.read(m, im.path)
	set := func(e *extentImage, im *shardImage, now []byte) {
		touched = append(touched, victim{e, im.path, m.files.read(m, im.path)})
		m.files.write(m, im.path, now)
	}
	other := e
	if m.rng.IntN(3) == 0 {
		other = m.order[m.rng.IntN(len(m.order))]
	}
	twin := other.shards[m.rng.IntN(len(other.shards))]
	at := 0
	if len(b) > 0 {
		at = m.spot(im, len(b))
	}
	switch kind := m.rng.IntN(12); {
	case kind == 0:
		m.last += fmt.Sprintf(": delete shard %d of %d", shard, e.n)
		set(e, im, nil)
	case kind == 1:
		m.last += fmt.Sprintf(": swap shard %d of %d with one of %d", shard, e.n, other.n)
		theirs := m.files.read(m, twin.path)
		set(e, im, theirs)
		set(other, twin, b)
	case kind == 2:
		m.last += fmt.Sprintf(": another shard in the place of shard %d of %d", shard, e.n)
		set(e, im, bytes.Clone(m.files.read(m, twin.path)))
	case len(b) == 0:
	case kind == 3:
		m.last += fmt.Sprintf(": truncate shard %d of %d to %d", shard, e.n, at)
		set(e, im, b[:at])
	case kind == 4:
		m.last += fmt.Sprintf(": extend shard %d of %d", shard, e.n)
		set(e, im, append(b, m.noise[:1+m.rng.IntN(2*4096)]...))
	case kind == 5:
		m.last += fmt.Sprintf(": zero all of shard %d of %d", shard, e.n)
		set(e, im, make([]byte, len(b)))
	case kind <= 7:
		m.last += fmt.Sprintf(": zero a piece of shard %d of %d at %d", shard, e.n, at)
		clear(b[at:min(len(b), at+[]int{1, 512, 4096, block}[m.rng.IntN(4)])])
		set(e, im, b)
	case kind == 8:
		m.last += fmt.Sprintf(": a piece of shard %d of %d twice", shard, e.n)
		from := m.spot(im, len(b))
		copy(b[at:], b[from:min(len(b), from+4096)])
		set(e, im, b)
	default:
		m.last += fmt.Sprintf(": flip a bit of shard %d of %d at %d", shard, e.n, at)
		b[at] ^= 1 << m.rng.IntN(8)
		set(e, im, b)
	}
	return touched
}

// spot chooses a place in a shard: in each of its parts as often as in the blocks.
func (m *monkey) spot(im *shardImage, size int) int {
	off, n := im.part(parts[m.rng.IntN(len(parts))])
	if n == 0 || off+n > size {
		return m.rng.IntN(size)
	}
	return off + m.rng.IntN(n)
}

// rotTooMuch destroys more than the code can stand, sees that nothing lies about
// it and nothing is modified, and mends it by putting the bytes again, or by
// bringing the files back.
func (m *monkey) rotTooMuch() {
	if len(m.order) == 0 {
		return
	}
	e := m.order[m.rng.IntN(len(m.order))]
	var touched []victim
	for range 200 {
		if !m.within(e) {
			break
		}
		touched = append(touched, m.rotOne(e)...)
		m.last = "rot too much"
	}
	ctx := context.Background()
	var lost []string
	for _, name := range slices.Sorted(maps.Keys(m.names)) {
		for i, data := range m.names[name].versions {
			if data != nil && !m.read(name, uint64(i+1), data) {
				lost = append(lost, name)
			}
		}
	}
	rep := m.scrub(m.rng.IntN(2) == 0)
	require.False(m, rep.Clean())
	for _, ce := range rep.Lost {
		require.True(m, m.legit(ce), "not lost: %v", ce)
	}
	for _, name := range lost {
		require.True(m, slices.ContainsFunc(rep.Lost, func(ce *blockframe.CorruptError) bool { return ce.Name == name }), "scrub does not name %s", name)
	}
	_, err := m.st.Repair(ctx)
	require.NoError(m, err)
	m.look()
	if m.rng.IntN(2) == 0 {
		for _, name := range slices.Compact(lost) {
			n := m.names[name]
			if data := n.versions[len(n.versions)-1]; data != nil && !n.deleted {
				m.put(name, data)
				m.mustRead(name, 0, data)
			}
		}
		m.look()
	}
	for i := range touched {
		v := touched[len(touched)-1-i]
		if x := m.extents[v.e.id]; x != nil && slices.ContainsFunc(x.shards, func(s *shardImage) bool { return s.path == v.path }) {
			m.files.write(m, v.path, v.before)
		}
	}
	for _, e := range m.order { // what was swapped with others, and healed there meanwhile
		for _, sh := range e.shards {
			if !m.within(e) {
				m.files.write(m, sh.path, sh.bytes)
			}
		}
	}
}

// look2 scrubs without repairing: what can be repaired is left, nothing is lost.
func (m *monkey) look2() {
	before := m.snapshot()
	rep := m.scrub(false)
	require.Empty(m, rep.Lost)
	require.Empty(m, rep.Errs)
	require.Equal(m, rep.Damaged, rep.Left)
	m.requireSame(before, "scrub without repair")
}

// mend scrubs with repair: everything is whole afterwards.
func (m *monkey) mend() {
	rep := m.scrub(true)
	require.Empty(m, rep.Lost)
	require.Zero(m, rep.Left, "%+v", rep)
	require.Empty(m, rep.Errs)
	require.Equal(m, rep.Damaged, rep.Repaired)
	m.requireClean()
	m.readAll()
}

// repair works off what reads came by.
func (m *monkey) repair() {
	rep, err := m.st.Repair(context.Background())
	require.NoError(m, err)
	require.Zero(m, rep.Left, "%v", errors.Join(rep.Errs...))
}

func (m *monkey) pack() { require.NoError(m, m.st.PackInline(context.Background())) }

func (m *monkey) collect() {
	rep, err := m.st.Collect(context.Background(), blockframe.CollectOptions{Unclaimed: true})
	require.NoError(m, err)
	require.NoError(m, rep.Skipped)
}

func (m *monkey) again() { m.reopen() }
