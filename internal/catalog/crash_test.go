package catalog_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/catalog"
	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/internal/journal"
	"github.com/blockframe/blockframe/store"
)

// tally is a row set: it notes the newest version put under each inode, as a
// ledger would.
type tally struct{}

func (tally) Name() string { return "tally" }

func (tally) Apply(rows catalog.RowTx, info catalog.Info, results []store.Result) error {
	for i, c := range info.Commands {
		if _, ok := c.(store.Put); !ok || results[i].Err != nil {
			continue
		}
		o := results[i].Object
		if !results[i].Changed || !o.Created.Equal(info.Time) {
			continue // the newest version has these bytes already
		}
		k := binary.BigEndian.AppendUint64(nil, o.Inode)
		old, ok, err := rows.Get(k)
		if err != nil {
			return err
		}
		if ok && binary.BigEndian.Uint64(old) > o.Version {
			return fmt.Errorf("inode %d went back to version %d", o.Inode, o.Version)
		}
		if err := rows.Set(k, binary.BigEndian.AppendUint64(nil, o.Version)); err != nil {
			return err
		}
	}
	return rows.Set([]byte("applied"), binary.BigEndian.AppendUint64(nil, info.Index))
}

func withTally(o *catalog.Options) { o.Rows = []catalog.RowSet{tally{}} }

// checkTally holds the row set against the catalog: it has the same record for
// its last, and knows of no version that is not there.
func (r *rig) checkTally() {
	r.t.Helper()
	rows := map[string]uint64{}
	require.NoError(r.t, r.cat.ReadRows(ctx, tally{}, func(reader catalog.RowReader) error {
		clear(rows)
		for row, err := range reader.Scan(nil, nil) {
			if err != nil {
				return err
			}
			rows[string(row.Key)] = binary.BigEndian.Uint64(row.Value)
		}
		return nil
	}))
	require.Equal(r.t, r.cat.Applied(), rows["applied"])
	delete(rows, "applied")
	for inode, version := range rows {
		o, err := r.cat.Inode(ctx, binary.BigEndian.Uint64([]byte(inode)))
		if !errors.Is(err, fs.ErrNotExist) { // purged
			require.NoError(r.t, err)
			require.LessOrEqual(r.t, version, o.Version)
		}
	}
}

// image is a copy of a file system as a power cut would leave it.
func image(m *vfs.MemFS, seed uint64) *vfs.MemFS {
	if seed == 0 {
		return m.CrashClone(vfs.CrashCloneCfg{})
	}
	return m.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(seed, seed))})
}

// reborn opens the catalog of an image.
func reborn(t testing.TB, m *vfs.MemFS) *rig { return newRig(t, durable.Mem(m), withTally) }

// TestCrash cuts the power after every record, and reopens to all that was acked.
// The content imitates frames and records of the log, and changes nothing.
func TestCrash(t *testing.T) {
	mem := vfs.NewCrashableMem()
	r := newRig(t, durable.Mem(mem), withTally, func(o *catalog.Options) { o.MemTable = 64 << 10 })
	first := encode(t, true, inline("ghost", "x", 1))
	records := 40
	if testing.Short() {
		records = 6
	}
	for i := range records {
		content := fmt.Sprintf("%d", i)
		switch i % 4 {
		case 1: // a record of ours
			content = string(first) + content
		case 2: // a frame of the log, header and all
			b, err := durable.ReadFile(r.fs, path.Join("log/a", must(r.fs.List("log/a"))[0]), 1<<20)
			require.NoError(t, err)
			content = string(b[8192:8192+3000]) + content
		}
		r.ok(inline(fmt.Sprintf("d%d/n%d", i%3, i%5), content, i+1))
		if i == records/2 {
			require.NoError(t, r.cat.Flush())
		}
		want := r.cat.Counts()
		for _, seed := range []uint64{0, 1, 2, 3} {
			again := reborn(t, image(mem, seed))
			require.Equal(t, want, again.cat.Counts())
			require.Equal(t, r.cat.Applied(), again.cat.Applied())
			o := again.object(fmt.Sprintf("d%d/n%d", i%3, i%5), 0)
			require.Equal(t, idOf(content), o.ID)
			require.Equal(t, content, string(again.content(content).Inline))
			again.absent("ghost")
			again.checkTally()
			if i%8 == 0 {
				require.Equal(t, r.dump(), again.dump())
				again.ok(inline("after", "crash", 1000))
			}
		}
	}
}

// TestViewDeleted comes back whole from the log, from whatever is left of it.
func TestViewDeleted(t *testing.T) {
	r := memRig(t, withTally)
	for i := range 30 {
		r.ok(inline(fmt.Sprintf("n%d", i%7), fmt.Sprint(i), i+1))
	}
	r.ok(store.OpenEpoch{})
	r.ok(located("big", "B", 5000, 99, 1))
	want := r.dump()
	for _, destroy := range []func() error{
		func() error { return r.fs.RemoveAll("view") },
		func() error { return r.fs.RemoveAll(path.Join("view", must(r.fs.List("view"))[0])) },
		func() error { // half of it
			dir := path.Join("view", must(r.fs.List("view"))[0])
			for i, name := range must(r.fs.List(dir)) {
				if i%2 == 0 {
					if err := r.fs.Remove(path.Join(dir, name)); err != nil {
						return err
					}
				}
			}
			return nil
		},
		func() error { // garbage for a view
			return durable.WriteFile(r.fs, "view/00000000000000ff/CURRENT", []byte("no"))
		},
	} {
		require.NoError(t, r.cat.Close())
		require.NoError(t, r.j.Close())
		_ = r.fs.MkdirAll("view/00000000000000ff")
		require.NoError(t, destroy())
		r.open(withTally)
		require.Equal(t, want, r.dump())
		r.checkTally()
	}
}

// TestOtherView makes the view of another store anew.
func TestOtherView(t *testing.T) {
	r := memRig(t)
	r.ok(inline("a", "1", 1))
	require.NoError(t, r.cat.Flush())
	r.reopen(func(o *catalog.Options) { o.StoreID[0]++ })
	require.Equal(t, uint64(1), r.cat.Applied())
	r.object("a", 0)
	require.Len(t, must(r.fs.List("view")), 1)
}

// TestLogLostRecords refuses a log that lacks what the view proves to have been
// acknowledged, and keeps the proof, until somebody moves it away.
func TestLogLostRecords(t *testing.T) {
	r := memRig(t)
	r.ok(inline("a", "1", 1))
	r.ok(inline("b", "2", 2))
	require.NoError(t, r.cat.Close())
	require.NoError(t, r.j.Close())
	lost := func(reason string) {
		t.Helper()
		want := must(r.fs.List("view"))
		j, err := openLog(r.fs)
		require.NoError(t, err)
		r.j = j
		for range 2 {
			_, err = catalog.Open(r.options())
			require.ErrorIs(t, err, frame.ErrCorrupt)
			require.ErrorContains(t, err, reason)
			require.ErrorContains(t, err, "acknowledged are gone")
			require.Equal(t, want, must(r.fs.List("view")), "the view is the proof")
		}
		require.NoError(t, j.Close())
	}
	// Logs of the same store: with fewer records, and with others.
	require.NoError(t, r.fs.RemoveAll("log"))
	lost("ends at record 0, the view holds 2")
	r.open(func(o *catalog.Options) { o.Dir = "elsewhere" })
	r.ok(inline("c", "3", 3))
	r.ok(inline("d", "4", 4))
	require.NoError(t, r.cat.Close())
	require.NoError(t, r.j.Close())
	lost("another record 2")

	require.NoError(t, r.fs.Rename("view", "aside"))
	r.open()
	r.absent("a")
	r.object("c", 0)
}

// TestFlippedBit flips one bit in each file of the view, under an image of a
// killed process. Everything acked is there, wherever the bit was.
func TestFlippedBit(t *testing.T) {
	rng := seeded(t)
	mem := vfs.NewCrashableMem()
	r := newRig(t, durable.Mem(mem), withTally)
	for i := range 60 {
		r.ok(inline(fmt.Sprintf("d%d/n%d", i%4, i), fmt.Sprintf("content %d", i), i+1))
		if i%20 == 15 {
			require.NoError(t, r.cat.Flush())
		}
	}
	// What a killed process leaves: all it wrote. Nobody works on this one.
	mem = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
	killed := durable.Mem(mem)
	dir := path.Join("view", must(killed.List("view"))[0])
	tries := 40
	if testing.Short() {
		tries = 2
	}
	for _, name := range must(killed.List(dir)) {
		info, err := killed.Stat(path.Join(dir, name))
		require.NoError(t, err)
		for n := int64(0); n < int64(tries) && info.Size > 0; n++ {
			m := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
			off := rng.Int64N(info.Size)
			if n < 4 { // both ends, where headers and footers are
				off = []int64{0, info.Size - 1, min(8, info.Size-1), max(0, info.Size-9)}[n]
			}
			flip(t, m, path.Join(dir, name), off, 1<<rng.IntN(8))
			again := reborn(t, m)
			for i := range 60 {
				o := again.object(fmt.Sprintf("d%d/n%d", i%4, i), 0)
				require.Equal(t, idOf(fmt.Sprintf("content %d", i)), o.ID, "%s byte %d", name, off)
			}
			require.Equal(t, r.cat.Counts(), again.cat.Counts())
			again.checkTally()
			again.ok(inline("more", "more", 99))
			require.NoError(t, again.cat.Close())
		}
	}
}

func flip(t testing.TB, m *vfs.MemFS, name string, off int64, bit byte) {
	t.Helper()
	f, err := durable.Mem(m).OpenWrite(name)
	require.NoError(t, err)
	b := make([]byte, 1)
	_, err = f.ReadAt(b, off)
	require.NoError(t, err)
	b[0] ^= bit
	_, err = f.WriteAt(b, off)
	require.NoError(t, err)
	require.NoError(t, errors.Join(f.Sync(), f.Close()))
}

// TestDeterminism applies the same records to two catalogs, in other groups, with other
// times at which rows are written to Pebble, one of them made anew in the middle: they
// hold the same bytes, but for those of contents that are inline, which are rows when
// each view likes.
func TestDeterminism(t *testing.T) {
	g := &gen{Rand: seeded(t), m: newModel()}
	front, limit := 1<<(4+g.IntN(16)), 1<<g.IntN(14)
	other := func(o *catalog.Options) { withTally(o); o.Front, o.Inline = front, limit }
	a, b := memRig(t, withTally), memRig(t, other)
	for i := range 200 {
		rec := g.record()
		_, err := a.cat.Commit(ctx, rec)
		require.NoError(t, err)
		g.m.now, g.m.epoch = a.cat.LogTime(), a.cat.Epoch()
		if i%50 == 49 {
			a.reopen(withTally)
		}
	}
	var records [][]byte
	for rec, err := range a.j.Records(1) {
		require.NoError(t, err)
		records = append(records, rec.Data)
	}
	rebuilt := false
	for len(records) > 0 {
		n := min(len(records), 1+g.IntN(20))
		first, err := b.j.Append(records[:n])
		require.NoError(t, err)
		_, err = b.cat.Apply(first, records[:n])
		require.NoError(t, err)
		records = records[n:]
		if len(records) < 100 && !rebuilt {
			rebuilt = true
			require.NoError(t, b.cat.Close())
			require.NoError(t, b.j.Close())
			require.NoError(t, b.fs.RemoveAll("view"))
			b.open(other)
		}
	}
	require.Equal(t, a.decided(), b.decided())
	require.Equal(t, a.dump(), b.dump())
}

// TestListAfterRecordWithoutRows goes on with a list in a view that is made anew, as no
// record came: the one before it changed nothing but the meta row.
func TestListAfterRecordWithoutRows(t *testing.T) {
	r := memRig(t)
	for i := range 300 {
		r.ok(inline(fmt.Sprintf("n%03d", i), fmt.Sprint(i), i+1))
	}
	require.NoError(t, r.cat.Flush())
	r.ok(store.OpenEpoch{})
	n := 0
	for _, err := range r.cat.List(ctx, ".", "") {
		require.NoError(t, err)
		if n++; n == 10 {
			require.NoError(t, r.cat.Renew())
		}
	}
	require.Equal(t, 300, n)
}

// decided is every row that the records alone decide, byte for byte: none of inline
// contents, and the meta row without the record of the oldest of them, at its end.
func (r *rig) decided() (out []string) {
	r.t.Helper()
	require.NoError(r.t, r.cat.Settle())
	for row, err := range r.cat.View().Scan(nil, nil) {
		require.NoError(r.t, err)
		switch row.Key[0] {
		case 'i', 'I':
			continue
		case 'm':
			row.Value = row.Value[:len(row.Value)-8]
		}
		out = append(out, fmt.Sprintf("%x=%x", row.Key, row.Value))
	}
	return out
}

// TestApplyOutOfTurn refuses a record out of turn rather than applying it
// twice, or one that it cannot read.
func TestApplyOutOfTurn(t *testing.T) {
	r := memRig(t)
	r.ok(inline("a", "1", 1))
	b := encode(t, true, inline("b", "2", 2))
	for _, index := range []uint64{0, 1, 3} {
		_, err := r.cat.Apply(index, [][]byte{b})
		require.Error(t, err)
	}
	r.absent("b")
	_, err := r.cat.Apply(2, [][]byte{b})
	require.NoError(t, err)
	r.object("b", 0)
	future := append([]byte{9}, b[1:]...)
	_, err = r.cat.Apply(3, [][]byte{future})
	require.ErrorIs(t, err, frame.ErrVersion)
	_, err = r.cat.Apply(3, [][]byte{b})
	require.ErrorIs(t, err, frame.ErrVersion, "and stays so")
	require.Equal(t, idOf("2"), r.object("b", 0).ID, "it can be read")
}

// wild is a Sequencer that reorders, refuses and repeats: raft's ways, without
// raft. Everything it acknowledges is in the log and was applied.
type wild struct {
	j   *journal.Journal
	rng *rand.Rand
	m   catalog.Machine

	mu      sync.Mutex
	waiting []*wildProposal
	n       int64
}

type wildProposal struct {
	rec  store.Record
	done chan error
	res  []store.Result
}

var errRefused = errors.New("refused by the leader")

func (w *wild) Start(m catalog.Machine) error { w.m = m; return nil }
func (w *wild) Close() error                  { return nil }

// Propose lets proposals gather, then orders them as it likes.
func (w *wild) Propose(ctx context.Context, rec store.Record) ([]store.Result, error) {
	p := &wildProposal{rec: rec, done: make(chan error, 1)}
	w.mu.Lock()
	w.waiting = append(w.waiting, p)
	if len(w.waiting) >= 4 {
		w.round()
	}
	w.mu.Unlock()
	return p.res, <-p.done
}

func (w *wild) round() {
	ps := w.waiting
	w.waiting = nil
	w.rng.Shuffle(len(ps), func(i, j int) { ps[i], ps[j] = ps[j], ps[i] })
	for _, p := range ps {
		switch w.rng.IntN(5) {
		case 0:
			p.done <- errRefused
		case 1: // logged twice, the first result is lost
			w.log(p)
			fallthrough
		default:
			err := w.log(p)
			if w.rng.IntN(5) == 0 {
				err = fmt.Errorf("%w: the answer was lost", journal.ErrUncertain)
			}
			p.done <- err
		}
	}
}

func (w *wild) log(p *wildProposal) error {
	commands, err := catalog.EncodeCommands(p.rec.Commands)
	if err != nil {
		return err
	}
	w.n++
	s := catalog.Stamp{Time: w.m.LogTime().Add(1e6), Elapsed: 1e6, Incarnation: uint64(w.n / 10)}
	b, err := catalog.EncodeRecord(s, catalog.Origin{Request: fmt.Sprint(w.n)}, p.rec.Each, commands)
	if err != nil {
		return err
	}
	first, err := w.j.Append([][]byte{b})
	if err != nil {
		return err
	}
	res, err := w.m.Apply(first, [][]byte{b})
	if err == nil {
		p.res = res[0]
	}
	return err
}

// TestWildSequencer drives the same Apply by another order: what was acked is
// there, what was refused is not, and a repetition changed nothing.
func TestWildSequencer(t *testing.T) {
	mem := vfs.NewCrashableMem()
	rng := seeded(t)
	var w *wild
	r := newRig(t, durable.Mem(mem), withTally, func(o *catalog.Options) {
		w = &wild{j: o.Journal, rng: rng}
		o.Sequencer = w
	})
	rounds := 60
	if testing.Short() {
		rounds = 8
	}
	for round := range rounds {
		type outcome struct {
			name, content string
			err           error
		}
		results := make(chan outcome)
		for i := range 4 {
			go func() {
				name, content := fmt.Sprintf("r%d/n%d", round, i), fmt.Sprint("c", round, i)
				res, err := r.cat.Commit(ctx, store.Record{Commands: []store.Command{inline(name, content, round*10+i)}})
				if err == nil {
					err = res[0].Err
				}
				results <- outcome{name, content, err}
			}()
		}
		for range 4 {
			out := <-results
			o, err := r.cat.Object(ctx, out.name, 0)
			switch {
			case out.err == nil:
				require.NoError(t, err)
				require.Equal(t, idOf(out.content), o.ID)
				require.Equal(t, uint64(1), o.Version, "a repetition is no second version")
			case errors.Is(out.err, errRefused):
				require.ErrorIs(t, err, fs.ErrNotExist)
			default:
				require.ErrorIs(t, out.err, journal.ErrUncertain)
			}
		}
		r.checkTally()
		again := reborn(t, image(mem, uint64(round%4)))
		require.Equal(t, r.cat.Counts(), again.cat.Counts())
		require.Equal(t, r.cat.Applied(), again.cat.Applied())
		again.checkTally()
		require.NoError(t, again.cat.Close())
		require.NoError(t, again.j.Close())
	}
}
