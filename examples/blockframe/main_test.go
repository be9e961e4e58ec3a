package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/store"
)

// asProgram in the environment makes the test binary the program itself.
const asProgram = "BLOCKFRAME_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	if os.Getenv(asMinio) != "" {
		fakeMinio()
	}
	os.Unsetenv("BLOCKFRAME_STORE")
	os.Exit(m.Run())
}

// program returns a command that runs the program in a process of its own.
func program(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// result is what one command line did.
type result struct {
	code     int
	out, err string
}

// cli runs a command line in this process.
func cli(t testing.TB, args ...string) result { return cliIn(t, nil, args...) }

// cliIn is cli with standard input.
func cliIn(t testing.TB, stdin []byte, args ...string) result {
	t.Helper()
	var out, err bytes.Buffer
	a := &app{stdin: bytes.NewReader(stdin), stdout: &out, stderr: &err}
	code := a.run(context.Background(), args)
	return result{code, out.String(), err.String()}
}

// ok runs a command line that must succeed, and returns its output.
func ok(t testing.TB, args ...string) string {
	t.Helper()
	r := cli(t, args...)
	require.Equal(t, exitOK, r.code, "%v: %+v", args, r)
	return r.out
}

// exits runs a command line that must end with a code.
func exits(t testing.TB, code int, args ...string) result {
	t.Helper()
	r := cli(t, args...)
	require.Equal(t, code, r.code, "%v: %+v", args, r)
	return r
}

// newStore makes a store on so many disks, and returns the directory that leads
// to it and the disks.
func newStore(t testing.TB, disks int, flags ...string) (home string, dirs []string) {
	t.Helper()
	home = filepath.Join(t.TempDir(), "store")
	args := append([]string{"--store", home, "init"}, flags...)
	for i := range disks {
		dirs = append(dirs, filepath.Join(home, fmt.Sprint("disk", i)))
		args = append(args, "--disk", dirs[i])
	}
	ok(t, args...)
	return home, dirs
}

// content returns n bytes that depend on seed alone.
func content(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// write writes a file of n bytes and returns its path.
func write(t testing.TB, name string, seed byte, n int) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
	require.NoError(t, os.WriteFile(name, content(seed, n), 0o644))
	return name
}

// lines decodes one JSON object from each line.
func lines(t testing.TB, out string) (list []map[string]any) {
	t.Helper()
	for line := range strings.Lines(out) {
		var row map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &row), "line %q", line)
		list = append(list, row)
	}
	return list
}

// shard is a shard file on a disk.
type shard struct {
	path string
	store.Inspection
}

// shards returns the shards of the object whose name is in their manifests.
func shards(t testing.TB, dirs []string, name string) (list []shard) {
	t.Helper()
	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.Join(dir, "data"), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			f, size, err := openFile(path)
			require.NoError(t, err)
			defer f.Close()
			in, err := store.Inspect(shardFile{f, size})
			require.NoError(t, err)
			if bytes.Contains(in.Manifests, fmt.Appendf(nil, `"name":%q`, name)) {
				list = append(list, shard{path, in})
			}
			return nil
		})
		require.NoError(t, err)
	}
	require.NotEmpty(t, list)
	return list
}

// rot flips the bits of a byte in one block of a shard.
func (s shard) rot(t testing.TB, stripe int) {
	t.Helper()
	b, err := os.ReadFile(s.path)
	require.NoError(t, err)
	b[4096+stripe*store.BlockSize+100] ^= 0xff
	require.NoError(t, os.WriteFile(s.path, b, 0o600))
}

// digests returns the content of every file below dirs, the folders of log and
// view apart: to see that nothing was modified.
func digests(t testing.TB, dirs []string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.Join(dir, "data"), func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				var b []byte
				b, err = os.ReadFile(path)
				all[path] = string(b)
			}
			return err
		})
		require.NoError(t, err)
	}
	return all
}
