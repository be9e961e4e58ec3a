package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/durable/durabletest"
	"github.com/blockframe/blockframe/internal/frame"
	"github.com/blockframe/blockframe/internal/journal"
)

// history is what a program knows of its log: the records acknowledged, and
// those of an Append that is under way or whose outcome is unknown.
type history struct {
	mu     sync.Mutex
	acked  [][]byte
	flight [][]byte
}

// append appends through j, or to nothing if it fails.
func (h *history) append(j *journal.Journal, records ...[]byte) error {
	if j.ReadOnly() != nil {
		_, err := j.Append(records)
		return err
	}
	h.mu.Lock()
	h.flight = records
	h.mu.Unlock()
	_, err := j.Append(records)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil:
		h.acked, h.flight = append(h.acked, records...), nil
	case !errors.Is(err, journal.ErrUncertain):
		h.flight = nil // said to be not written
	}
	return err
}

// opened learns from a log just opened what became of the records in flight.
func (h *history) opened(j *journal.Journal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if int(j.Last()) == len(h.acked)+len(h.flight) {
		h.acked = append(h.acked, h.flight...)
	}
	h.flight = nil
}

// check says what is wrong with what a log holds: all that was acknowledged and
// at most what was under way, whole, is right.
func (h *history) check(got [][]byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	want := h.acked
	if len(got) != len(want) && len(h.flight) > 0 {
		want = append(want[:len(want):len(want)], h.flight...)
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d records, want %d acknowledged and perhaps %d under way", len(got), len(h.acked), len(h.flight))
	}
	for i := range got {
		if !bytes.Equal(got[i], want[i]) {
			return fmt.Errorf("record %d differs", i+1)
		}
	}
	return nil
}

// script runs a log through creation, frames of many sizes, rotations, empty
// frames and a second opening. It goes on after errors, as a program that opens
// its log again would.
func script(fsys durable.FS, sequential bool, h *history) error {
	var errs error
	sizes := []int{10, 5000, 0, 12000, 300, 20000, 9, 8000, 1, 24000, 77}
	for round := range 2 {
		opts := options(fsys)
		opts.Sequential = sequential
		j, err := journal.Open(opts)
		if err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		h.opened(j)
		for i, n := range sizes[:len(sizes)-5*round] {
			recs := [][]byte{record(round*100+i, n)}
			if n < 100 {
				recs = append(recs, record(round*100+i+50, 3*n))
			}
			errs = errors.Join(errs, h.append(j, recs...))
			if i%4 == 1 {
				errs = errors.Join(errs, j.Prove())
			}
		}
		errs = errors.Join(errs, j.Close())
	}
	return errs
}

// recovered opens the log of an image, checks it, and returns its records.
func recovered(t testing.TB, fsys durable.FS, h *history, what string) [][]byte {
	t.Helper()
	j, err := journal.Open(options(fsys))
	require.NoError(t, err, what)
	defer j.Close()
	require.NoError(t, j.ReadOnly(), what)
	got, err := collect(j, 1)
	require.NoError(t, err, what)
	require.NoError(t, h.check(got), what)
	return got
}

// A power cut after every operation, with all that was not synced gone or random
// halves of it kept, leaves what was acknowledged, and the log takes more. So
// does a second cut at any operation of that recovery; and what the first
// recovery served is there after the second.
func TestCrashEverywhere(t *testing.T) {
	m := vfs.NewCrashableMem()
	var h history
	seeds, images, every := 3, 0, 16
	if testing.Short() {
		seeds = 1
	}
	if heavy() {
		every = seeds + 1
	}
	visit := func(img durabletest.Image) {
		if images++; testing.Short() && img.Op.N%7 != 0 {
			return
		}
		what := fmt.Sprintf("after %d %s, seed %d", img.Op.N, img.Op, img.Seed)
		recoverTwice(t, img.FS, &h, what, img.Op.N%every == img.Seed)
	}
	fsys := durabletest.New(durable.Mem(m), durabletest.Options{After: durabletest.Crashes(m, seeds, visit)})
	require.NoError(t, script(fsys, true, &h))
	require.Greater(t, images, 100)
	t.Logf("%d images", images)
}

// The same where the members are written at once, as they are by default.
func TestCrashInParallel(t *testing.T) {
	m := vfs.NewCrashableMem()
	var h history
	visit := func(img durabletest.Image) {
		recovered(t, durable.Mem(img.FS), &h, fmt.Sprintf("after %d %s, seed %d", img.Op.N, img.Op, img.Seed))
	}
	fsys := durabletest.New(durable.Mem(m), durabletest.Options{After: durabletest.Crashes(m, 1, visit)})
	require.NoError(t, script(fsys, false, &h))
}

// recoverTwice opens the log on m; if nested, cuts the power at every operation
// of that, too.
func recoverTwice(t testing.TB, m *vfs.MemFS, h *history, what string, nested bool) {
	t.Helper()
	var opts durabletest.Options
	if nested {
		opts.After = durabletest.Crashes(m, 1, func(img durabletest.Image) {
			recovered(t, durable.Mem(img.FS), h, fmt.Sprintf("%s; then after %d %s, seed %d", what, img.Op.N, img.Op, img.Seed))
		})
	}
	fsys := durabletest.New(durable.Mem(m), opts)
	j, err := journal.Open(options(fsys))
	require.NoError(t, err, what)
	got, err := collect(j, 1)
	require.NoError(t, err, what)
	require.NoError(t, h.check(got), what)
	require.NoError(t, j.ReadOnly(), what)

	// What has been served stays, whatever is dropped.
	served := &history{acked: got}
	recovered(t, durable.Mem(m.CrashClone(vfs.CrashCloneCfg{})), served, what+"; served")
	if nested {
		require.NoError(t, j.Close(), what)
		return // it was checked at each operation against h, which knows of no more
	}
	require.NoError(t, served.append(j, []byte("after")), what)
	recovered(t, durable.Mem(m.CrashClone(vfs.CrashCloneCfg{})), served, what+"; and one more")
	require.NoError(t, j.Close(), what)
}

// The operations of a small log's life, in order.
func TestOperations(t *testing.T) {
	fsys := durabletest.New(durable.Mem(vfs.NewCrashableMem()), durabletest.Options{})
	opts := options(fsys)
	opts.SegmentSize = 16 << 10
	j := open(t, opts)
	created := fsys.Log()
	fsys.Reset()
	add(t, j, []byte("one")) // half full: spares are made
	require.NoError(t, j.Prove())
	add(t, j, []byte("two"))
	appended := fsys.Log()
	fsys.Reset()
	j = reopen(t, j, opts)
	requireGolden(t, "operations.txt", strings.Join([]string{"# create", created, "# append, prove, append in a new segment", appended, "# close and open", fsys.Log()}, "\n"))
}

// Every operation failing once, in both arms, as a broken disk and as a full
// one: what was acknowledged is there, before and after a power cut, what was
// refused is not.
func TestEveryFault(t *testing.T) {
	var clean history
	count := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
	require.NoError(t, script(count, true, &clean))
	combo, every := 0, 4 // of the four ways to fail, each operation fails in one
	if testing.Short() {
		every = 23
	}
	if heavy() {
		every = 1
	}
	for n, op := range count.Ops() {
		for _, arm := range []durabletest.Arm{durabletest.Before, durabletest.After} {
			for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
				if combo++; (combo+n)%every == 0 {
					oneFault(t, fmt.Sprintf("%v %s of %s", cause, arm, op), durabletest.Nth(n+1, arm, cause), cause)
				}
			}
		}
	}
}

func oneFault(t *testing.T, what string, fault func(durabletest.Op) *durabletest.Fault, cause error) {
	t.Helper()
	m := vfs.NewCrashableMem()
	fsys := durabletest.New(durable.Mem(m), durabletest.Options{Fault: fault})
	var h history
	err := script(fsys, true, &h)
	if err != nil {
		require.ErrorIs(t, err, cause, what)
	}
	if h.flight != nil {
		require.ErrorIs(t, err, journal.ErrUncertain, what)
	}
	cut := durable.Mem(m.CrashClone(vfs.CrashCloneCfg{}))
	got := recovered(t, cut, &h, what)
	require.Equal(t, got, recovered(t, durable.Mem(m), &h, what), what)
}

// heavy reports whether there is time for everything.
func heavy() bool { return os.Getenv("BLOCKFRAME_HEAVY") != "" }

// TestModel runs random operations against a slice.
func TestModel(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 6
	}
	if heavy() {
		rounds = 2000
	}
	seed := rand.Uint64()
	for i := range rounds {
		runModel(t, seed+uint64(i))
	}
}

func runModel(t *testing.T, seed uint64) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	rng := rand.New(rand.NewPCG(seed, 0))
	m := vfs.NewCrashableMem()
	opts := options(durable.Mem(m))
	opts.Sequential = rng.IntN(2) == 0
	opts.SegmentSize = int64(4+rng.IntN(20)) * frame.Grid
	if rng.IntN(3) == 0 {
		opts.Members = append(opts.Members, journal.Member{FS: opts.Members[0].FS, Dir: "third", Name: "c"})
	}
	onto := func(fsys durable.FS) {
		for i := range opts.Members {
			opts.Members[i].FS = fsys
		}
	}
	j, err := journal.Open(opts)
	require.NoError(t, err)
	want := [][]byte{}
	for range 60 {
		switch rng.IntN(10) {
		default:
			limit := int(opts.SegmentSize) - 8192 - 200
			var recs [][]byte
			for limit > 0 && (len(recs) == 0 || rng.IntN(2) == 0) {
				n := min(rng.IntN(1<<rng.IntN(17)), limit)
				limit -= n + 4
				recs = append(recs, record(len(want)+len(recs), n))
			}
			add(t, j, recs...)
			want = append(want, recs...)
		case 0:
			require.NoError(t, j.Prove())
		case 1:
			require.NoError(t, j.Close())
			j, err = journal.Open(opts)
			require.NoError(t, err)
		case 2: // the power goes
			cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(2) * 50, RNG: rng}
			next := m.CrashClone(cfg)
			require.NoError(t, j.Close())
			m = next
			onto(durable.Mem(m))
			j, err = journal.Open(opts)
			require.NoError(t, err)
		case 3: // rot, in one copy, while the log is open
			rot(t, rng, opts, j)
			if rng.IntN(2) == 0 {
				rep, err := j.Verify(t.Context())
				require.NoError(t, err)
				require.Empty(t, rep.Lost)
			} else {
				require.Equal(t, want, append([][]byte{}, all(t, j, 1)...))
				require.NoError(t, j.Prove())
				require.NoError(t, j.Close())
				j, err = journal.Open(opts)
				require.NoError(t, err)
				_, err = j.Verify(t.Context())
				require.NoError(t, err)
			}
		case 4:
			from := uint64(rng.IntN(len(want) + 2))
			require.Equal(t, want[min(max(int(from), 1)-1, len(want)):], append([][]byte{}, all(t, j, from)...))
		}
		require.NoError(t, j.ReadOnly())
		require.EqualValues(t, len(want), j.Last())
	}
	require.Equal(t, want, append([][]byte{}, all(t, j, 1)...))
	require.NoError(t, j.Close())
}

// rot damages one copy of one segment.
func rot(t testing.TB, rng *rand.Rand, opts journal.Options, j *journal.Journal) {
	segs := j.Segments()
	s := segs[rng.IntN(len(segs))]
	m := opts.Members[rng.IntN(len(opts.Members))]
	name := m.Dir + "/" + s.Name
	// No more than one place becomes zeros: a copy that ends with two frames
	// less is stale.
	if rng.IntN(3) == 0 {
		patch(t, m.FS, name, rng.Int64N(s.Size/4096)*4096, make([]byte, 4096))
		return
	}
	for range 1 + rng.IntN(3) {
		if rng.IntN(2) == 0 {
			flip(t, m.FS, name, rng.Int64N(s.Size*8))
		} else {
			patch(t, m.FS, name, rng.Int64N(s.Size-600), bytes.Repeat([]byte{byte(rng.Uint32()) | 1}, 600))
		}
	}
}

// Readers and a verifier go on beside the writer.
func TestConcurrent(t *testing.T) {
	opts := options(durable.Mem(vfs.NewMem()))
	opts.Sequential = false
	j := open(t, opts)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				before := int(j.Last())
				got, err := collect(j, 1)
				if err != nil || len(got) < before || len(j.Segments()) == 0 {
					t.Errorf("%d records, want at least %d: %v", len(got), before, err)
					return
				}
				if rep, err := j.Verify(t.Context()); err != nil || len(rep.Lost) > 0 || int(rep.Records) < before {
					t.Errorf("verify: %+v, %v", rep, err)
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for i := range 300 {
		add(t, j, record(i, i*37%9000))
		if i%9 == 0 {
			require.NoError(t, j.Prove())
		}
	}
	close(done)
	wg.Wait()
	require.Empty(t, j.Repairs())
}

// A crash while a segment is restored leaves no frames of it in what becomes the
// next segment.
func TestCrashInRebuild(t *testing.T) {
	m := vfs.NewCrashableMem()
	fsys := durable.Mem(m)
	want := longLog(t, fsys)
	require.NoError(t, fsys.Remove("log/b/"+goldenNames[0]))
	// The spare of the next segment waits, as it does in a log that is half full.
	require.NoError(t, durable.WriteFile(fsys, "log/b/spare", make([]byte, smallSegment)))
	images := 0
	visit := func(img durabletest.Image) {
		images++
		what := fmt.Sprintf("after %d %s, seed %d", img.Op.N, img.Op, img.Seed)
		crashed := durable.Mem(img.FS)
		if b, err := durable.ReadFile(crashed, "log/b/spare", smallSegment); err == nil {
			require.True(t, frame.Zero(b), what)
		}
		j := open(t, options(crashed))
		for i := range perSegment {
			add(t, j, record(i, 10))
		}
		require.NoError(t, j.Close())
		a, b := readFile(t, crashed, "log/a/0000000000000003.log"), readFile(t, crashed, "log/b/0000000000000003.log")
		require.True(t, bytes.Equal(a, b), what)
	}
	j := open(t, options(durabletest.New(fsys, durabletest.Options{After: durabletest.Crashes(m, 3, visit)})))
	require.Equal(t, want, all(t, j, 1))
	require.Greater(t, images, 10)
}
