package oracle_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/reedsolomon"
	"github.com/stretchr/testify/require"
	"github.com/zeebo/blake3"
)

func TestSelfTest(t *testing.T) {
	out, err := python(t, "read.py", "--self-test").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, "self-test ok\n", string(out))
}

// TestHashes compares hashes and non-root chaining values of all lengths at
// which the tree changes with those of two Go packages.
func TestHashes(t *testing.T) {
	data := random(1<<20 + 1)
	path := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.WriteFile(path, data, 0o644))
	var places strings.Builder
	var want strings.Builder
	for _, n := range []int{0, 1, 63, 64, 65, 127, 128, 1023, 1024, 1025, 2047, 2048, 2049, 3072, 4056, 4064, 4096, 65535, 65536, 65537, 1 << 18, 1<<20 + 1} {
		h := blake3.Sum256(data[:n])
		fmt.Fprintf(&want, "%x\n", h)
		for _, chunk := range []uint64{0, 64, 1 << 18, 1<<32 - 64, 1<<32 + 64} {
			if n > 0 && n <= blockSize {
				fmt.Fprintf(&places, "%d %d\n", n, chunk)
				fmt.Fprintf(&want, "%x\n", words(cv(data[:n], chunk)))
			}
		}
		fmt.Fprintf(&places, "%d -1\n", n)
	}
	cmd := python(t, "-c", `
import sys, read
data = open(sys.argv[1], "rb").read()
plain, cvs = [], []
for line in sys.stdin:
    n, chunk = map(int, line.split())
    if chunk < 0:
        print(read.blake3(data[:n]).hex())
        for h in (read.hashes(cvs) if cvs else []): print(h.hex())
        cvs = []
    else:
        cvs.append((data[:n], chunk))
`, path)
	cmd.Stdin = strings.NewReader(places.String())
	out, err := cmd.Output()
	require.NoError(t, err)
	require.Equal(t, want.String(), string(out))
}

// TestMatrix compares the coding matrix with what the library computes: the
// parity of a unit vector is a column of it.
func TestMatrix(t *testing.T) {
	for _, code := range [][2]int{{1, 1}, {2, 1}, {3, 2}, {8, 4}, {17, 3}, {30, 3}, {200, 55}} {
		k, m := code[0], code[1]
		out, err := python(t, "-c", "import sys, read\nfor row in read.coding_matrix(int(sys.argv[1]), int(sys.argv[2])): print(row.hex())",
			strconv.Itoa(k), strconv.Itoa(m)).Output()
		require.NoError(t, err)
		enc, err := reedsolomon.New(k, m)
		require.NoError(t, err)
		shards := make([][]byte, k+m)
		for i := range shards {
			shards[i] = make([]byte, k) // byte c of the shards is unit vector c
			if i < k {
				shards[i][i] = 1
			}
		}
		require.NoError(t, enc.Encode(shards))
		var want strings.Builder
		for _, row := range shards {
			fmt.Fprintf(&want, "%x\n", row)
		}
		require.Equal(t, want.String(), string(out), "%d+%d", k, m)
	}
}

// A sample is a store that the writer of this test wrote, and what is in it.
type sample struct {
	disks   []string
	want    map[string][]byte
	extents []*extent
}

// newSample writes objects of all sizes at which the layout changes, objects of
// several extents, and packs, over five disks.
func newSample(t testing.TB) *sample {
	t.Helper()
	s := &sample{want: map[string][]byte{}}
	for i := range 5 {
		s.disks = append(s.disks, filepath.Join(t.TempDir(), fmt.Sprintf("d%d", i)))
	}
	object := func(name string, size, k, m, extent int) {
		s.want[name] = random(size)
		s.extents = append(s.extents, putObject(t, s.disks, put{name: name, data: s.want[name], epoch: 1}, k, m, extent)...)
	}
	for _, size := range []int{1, 1024, 1025, blockSize - 1, blockSize, blockSize + 1, 3 * blockSize, 3*blockSize + 1} {
		object(fmt.Sprintf("sizes/%d", size), size, 3, 2, 1<<20)
	}
	object("many stripes", 13*blockSize+777, 3, 2, 256<<20)
	object("copies", 5*blockSize+5, 1, 1, 1<<20)
	object("copies of a block", 5000, 1, 4, 1<<20)
	object("extents/many", 2<<20+1025, 3, 2, 1<<20)
	object("extents/two", 1<<20+1, 2, 1, 1<<20)
	for k := 1; k <= 3; k += 2 {
		var members []put
		for i, size := range []int{1, 5000, 150_000, 70_000, 4097} {
			name := fmt.Sprintf("pack/%d/ünïcode \n%d", k, i)
			s.want[name] = random(size)
			members = append(members, put{name: name, data: s.want[name]})
		}
		s.extents = append(s.extents, putPack(t, s.disks, k, 2, members...))
	}
	return s
}

func (s *sample) path(e *extent, shard int) string {
	return filepath.Join(s.disks[shard], "data", e.key(shard))
}

// each calls f with every shard of every extent.
func (s *sample) each(f func(e *extent, shard int, path string)) {
	for _, e := range s.extents {
		for i := range e.k + e.m {
			f(e, i, s.path(e, i))
		}
	}
}

// requireAll checks that the reader restores every object of s.
func (s *sample) requireAll(t *testing.T, r result) {
	t.Helper()
	require.Equal(t, 0, r.exit, "%v\n%s", r.incomplete(), r.stderr)
	require.Len(t, r.objects, len(s.want))
	for name, data := range s.want {
		o := r.objects[name]
		require.Equal(t, object{Status: "ok", Name: name, ID: address(data), Size: int64(len(data)), Repaired: o.Repaired}, o)
		got, err := os.ReadFile(filepath.Join(r.dir, name))
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got), "bytes of %q", name)
	}
}

func TestHealthy(t *testing.T) {
	s := newSample(t)
	r := runReader(t, s.disks...)
	s.requireAll(t, r)
	require.Empty(t, r.stderr)
	for name, o := range r.objects {
		require.Zero(t, o.Repaired, name)
	}
}

// TestDamage damages all that the code can stand.
func TestDamage(t *testing.T) {
	damages := map[string]func(t *testing.T, s *sample){
		"every shard rotten in a stripe of its own": func(t *testing.T, s *sample) {
			s.each(func(e *extent, i int, path string) {
				if i < e.stripes {
					flip(t, path, grid+i*blockSize+i)
				}
			})
		},
		"m-1 shards gone, the others rotten in a stripe of their own": func(t *testing.T, s *sample) {
			s.each(func(e *extent, i int, path string) {
				if i < e.m-1 {
					require.NoError(t, os.Remove(path))
				} else if i < e.stripes {
					flip(t, path, grid+i*blockSize+i)
				}
			})
		},
		"headers": func(t *testing.T, s *sample) {
			s.each(func(e *extent, i int, path string) { flip(t, path, 60) })
		},
		"trailers but one": func(t *testing.T, s *sample) {
			s.each(func(e *extent, i int, path string) {
				if i != e.k {
					flip(t, path, -10)
				}
			})
		},
		"tables but one": func(t *testing.T, s *sample) {
			s.each(func(e *extent, i int, path string) {
				if i != e.k-1 {
					flip(t, path, tableAt(t, path))
				}
			})
		},
		"names, and what is not ours": func(t *testing.T, s *sample) {
			s.each(func(e *extent, i int, path string) {
				require.NoError(t, os.Rename(path, filepath.Join(filepath.Dir(path), fmt.Sprintf("%d-%x", i, e.put))))
			})
			require.NoError(t, os.WriteFile(filepath.Join(s.disks[0], "data", "README"), []byte("hello"), 0o644))
			require.NoError(t, os.MkdirAll(filepath.Join(s.disks[0], "data", "ff", "directory"), 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(s.disks[0], "data", "ff", "short"), []byte("hello"), 0o644))
		},
		"header and trailer of m shards": func(t *testing.T, s *sample) {
			s.each(func(e *extent, i int, path string) {
				if i < e.m {
					flip(t, path, 60)
					flip(t, path, -10)
				}
			})
		},
		"a tail cut off, a tail grown": func(t *testing.T, s *sample) {
			s.each(func(e *extent, i int, path string) {
				b, err := os.ReadFile(path)
				require.NoError(t, err)
				switch i {
				case 0:
					b = b[:len(b)-1]
				case 2:
					b = append(b, 0)
				}
				require.NoError(t, os.WriteFile(path, b, 0o644))
			})
		},
	}
	for r := range 5 {
		if testing.Short() && r%4 != 0 {
			continue
		}
		damages[fmt.Sprintf("m shards gone, from %d", r)] = func(t *testing.T, s *sample) {
			for _, e := range s.extents {
				for i := range e.m {
					require.NoError(t, os.Remove(s.path(e, (r+i)%(e.k+e.m))))
				}
			}
		}
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSample(t)
			damage(t, s)
			r := runReader(t, s.disks...)
			s.requireAll(t, r)
			if !strings.Contains(name, "gone") {
				require.NotEmpty(t, r.stderr)
			}
		})
	}
}

// TestRepairedCount: the count is that of the data blocks that were computed.
func TestRepairedCount(t *testing.T) {
	s := &sample{disks: []string{t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()}}
	e := putObject(t, s.disks, put{name: "a", data: random(9 * blockSize)}, 3, 2, 1<<20)[0]
	flip(t, s.path(e, 0), grid)
	flip(t, s.path(e, 1), grid+blockSize)
	flip(t, s.path(e, 4), grid)
	r := runReader(t, s.disks...)
	require.Equal(t, 2, r.objects["a"].Repaired)
	require.Equal(t, 3, strings.Count(r.stderr, "block of stripe"))
}

// TestGenerations: of one shard there are three blobs, each with a good block
// that the others lack, and no spare shard.
func TestGenerations(t *testing.T) {
	s := &sample{disks: []string{t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()}}
	data := random(9 * blockSize)
	s.want = map[string][]byte{"a": data}
	e := putObject(t, s.disks, put{name: "a", data: data}, 3, 2, 1<<20)[0]
	for g := range 3 {
		e.generation = uint32(g)
		e.write(t, s.disks, 0)
		for stripe := range 3 {
			if stripe != g {
				flip(t, s.path(e, 0), grid+stripe*blockSize)
			}
		}
	}
	e.generation = 0
	require.NoError(t, os.Remove(s.path(e, 1)))
	require.NoError(t, os.Remove(s.path(e, 3)))
	s.requireAll(t, runReader(t, s.disks...))
}

// TestLost: what cannot be restored is named with its range, is not written, and
// keeps nothing else from being restored.
func TestLost(t *testing.T) {
	s := newSample(t)
	for _, e := range s.extents {
		switch {
		case e.ordinal == 1 && e.k == 3: // extents/many: three blocks of stripe 2
			for i := range 3 {
				flip(t, s.path(e, i), grid+2*blockSize)
			}
		case e.kind == 2 && e.k == 3: // three blocks of stripe 0
			for i := range 3 {
				flip(t, s.path(e, i+2), grid)
			}
			require.NoError(t, os.Remove(s.path(e, 1)))
		case e.kind == 1 && e.k == 1 && e.m == 4: // copies of a block: no trailer is left
			for i := range 5 {
				flip(t, s.path(e, i), -1)
			}
		case e.k == 1 && e.m == 1: // copies: of the future
			for i := range 2 {
				flip(t, s.path(e, i), 9)
				flip(t, s.path(e, i), -grid+9)
			}
		}
	}
	r := runReader(t, s.disks...)
	require.Equal(t, 4, r.exit)
	lost := r.incomplete()
	require.Equal(t, "lost: [1441792, 1638400)", lost["extents/many"])
	require.NotContains(t, lost, "pack/3/ünïcode \n4", "its blocks are whole")
	require.Contains(t, lost["pack/3/ünïcode \n2"], "lost: ")
	require.Len(t, lost, 1+2+2, "%v", lost)
	for name := range lost {
		require.NoFileExists(t, filepath.Join(r.dir, name))
	}
	for name, reason := range lost {
		if strings.HasPrefix(name, "extent ") {
			require.Regexp(t, "^(no shard has trailer, table and manifests|format version )", reason)
		}
	}
	for name, o := range r.objects {
		if o.Status == "ok" {
			got, err := os.ReadFile(filepath.Join(r.dir, name))
			require.NoError(t, err)
			require.True(t, bytes.Equal(s.want[name], got), name)
		}
	}
}

// TestUnfinished: an object whose last extent was never written is incomplete,
// and so is one that lacks an extent in the middle.
func TestUnfinished(t *testing.T) {
	s := &sample{disks: []string{t.TempDir(), t.TempDir()}}
	for name, gone := range map[string]int{"middle": 1, "last": 2} {
		e := putObject(t, s.disks, put{name: name, data: random(2<<20 + 5)}, 1, 1, 1<<20)[gone]
		require.NoError(t, os.Remove(s.path(e, 0)))
		require.NoError(t, os.Remove(s.path(e, 1)))
	}
	r := runReader(t, s.disks...)
	require.Equal(t, 4, r.exit)
	require.Contains(t, r.incomplete()["middle"], "no shard is readable")
	require.Contains(t, r.incomplete()["last"], "its last extent is missing")
}

// TestHostile: names that lead out of the output directory, and manifests that
// lie, write nothing; what is beside them is restored.
func TestHostile(t *testing.T) {
	disks := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	members := []put{{name: "good", data: random(10)}}
	for _, name := range []string{"", ".", "..", "../evil", "/evil", "a/../../evil", "a//b", "a/", "nul\x00", strings.Repeat("x", 300), "good/below"} {
		members = append(members, put{name: name, data: random(100 + len(members))})
	}
	putPack(t, disks, 2, 1, members...)
	r := runReader(t, disks...)
	require.Equal(t, 4, r.exit)
	require.Len(t, r.incomplete(), len(members)-1)
	var files []string
	require.NoError(t, filepath.WalkDir(filepath.Dir(r.dir), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, strings.TrimPrefix(path, r.dir))
		}
		return err
	}))
	require.Equal(t, []string{"/good"}, files)
}

// TestVersions: of two puts of a name, that of the newer epoch gets it.
func TestVersions(t *testing.T) {
	disks := []string{t.TempDir(), t.TempDir()}
	old, young := random(5000), random(6000)
	id := putObject(t, disks, put{name: "a", data: old, epoch: 3}, 1, 1, 1<<20)[0].put
	putObject(t, disks, put{name: "a", data: young, epoch: 4}, 1, 1, 1<<20)
	s := &sample{want: map[string][]byte{"a": young, "a.put-" + hex.EncodeToString(id[:]): old}}
	s.requireAll(t, runReader(t, disks...))
}

// TestMonkey damages a small store at random, more than the code can stand, and
// checks that what the reader writes is right all the same.
func TestMonkey(t *testing.T) {
	rounds := 4
	if n, err := strconv.Atoi(os.Getenv("ORACLE_ROUNDS")); err == nil {
		rounds = n
	}
	restored := 0
	for seed := range rounds {
		rng := rand.New(rand.NewPCG(uint64(seed), 0))
		s := &sample{want: map[string][]byte{}}
		for range 5 {
			s.disks = append(s.disks, t.TempDir())
		}
		for i, size := range []int{5000, 4*blockSize + 9, 1<<20 + 70_000} {
			name := strconv.Itoa(i)
			s.want[name] = random(size)
			s.extents = append(s.extents, putObject(t, s.disks, put{name: name, data: s.want[name]}, 1+i, 2, 1<<20)...)
		}
		s.want["p"], s.want["q"] = random(90_000), random(30_000)
		s.extents = append(s.extents, putPack(t, s.disks, 2, 2, put{name: "p", data: s.want["p"]}, put{name: "q", data: s.want["q"]}))
		s.each(func(e *extent, i int, path string) { damage(t, rng, path, s.path(e, rng.IntN(e.k+e.m))) })
		r := runReader(t, s.disks...)
		for name, o := range r.objects {
			if o.Status == "ok" {
				restored++
				got, err := os.ReadFile(filepath.Join(r.dir, name))
				require.NoError(t, err)
				require.True(t, bytes.Equal(s.want[name], got), "seed %d: %q", seed, name)
				require.Equal(t, address(got), o.ID)
			}
		}
	}
	require.NotZero(t, restored)
}

// damage does one thing out of a list to a blob, or nothing; other is another
// blob of its extent.
func damage(t testing.TB, rng *rand.Rand, path, other string) {
	b, err := os.ReadFile(path)
	if err != nil || len(b) < 2*grid {
		return
	}
	at := rng.IntN(len(b)/grid) * grid
	if rng.IntN(3) == 0 {
		at = []int{0, len(b) - grid}[rng.IntN(2)]
	}
	switch rng.IntN(8) {
	case 0, 1:
		b[at+rng.IntN(400)] ^= 1 << rng.IntN(8)
	case 2:
		clear(b[at : at+grid])
	case 3:
		b = b[:at]
	case 4:
		b = append(b, make([]byte, grid)...)
	case 5:
		require.NoError(t, os.Remove(path))
		return
	case 6:
		if o, err := os.ReadFile(other); err == nil {
			require.NoError(t, os.WriteFile(other, b, 0o644))
			b = o
		}
	case 7: // a lie with the right hash
		last := b[len(b)-grid:]
		last[20+rng.IntN(372)] ^= 1 << rng.IntN(8)
		h := blake3.Sum256(last[:4056])
		copy(last[4056:], h[:])
	}
	require.NoError(t, os.WriteFile(path, b, 0o644))
}

// A result is what the reader said and wrote.
type result struct {
	exit    int
	objects map[string]object
	dir     string // OUTDIR, alone in its parent
	stderr  string // what is damaged
}

// An object is one line of the reader.
type object struct {
	Status, Name, ID, Reason string
	Size                     int64
	Repaired                 int
}

// incomplete returns the reasons by name.
func (r result) incomplete() map[string]string {
	out := map[string]string{}
	for name, o := range r.objects {
		if o.Status != "ok" {
			out[name] = o.Reason
		}
	}
	return out
}

// runReader restores what is on the disks into a new directory. It fails the
// test when the reader ends in any way but with 0 or 4.
func runReader(t testing.TB, disks ...string) result {
	t.Helper()
	r := result{objects: map[string]object{}, dir: filepath.Join(t.TempDir(), "out")}
	cmd := python(t, append([]string{"read.py", "--json", "-o", r.dir}, disks...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 4 {
		r.exit, err = 4, nil
	}
	require.NoError(t, err, "%s", stderr.Bytes())
	r.stderr = stderr.String()
	for line := range strings.Lines(string(out)) {
		var o object
		require.NoError(t, json.Unmarshal([]byte(line), &o))
		require.NotContains(t, r.objects, o.Name)
		r.objects[o.Name] = o
	}
	return r
}

// python returns the command that runs Python 3 in this directory.
func python(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		t.Skipf("the independent reader needs python3: %v", err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "PYTHONUTF8=1", "PYTHONPATH=.")
	return cmd
}

// random returns n bytes, the same for the same n.
func random(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)}).Read(b)
	return b
}

// flip inverts a bit of the byte at an offset, from the end when negative.
func flip(t testing.TB, path string, at int) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	if at < 0 {
		at += len(b)
	}
	b[at] ^= 0x10
	require.NoError(t, os.WriteFile(path, b, 0o644))
}

// tableAt returns the offset of the table as the trailer gives it.
func tableAt(t testing.TB, path string) int {
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return int(binary.BigEndian.Uint64(b[len(b)-grid+136:]))
}
