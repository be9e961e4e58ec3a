package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The program itself, in a pipe: no progress, clean output, the exit code.
func TestNoProgressInPipe(t *testing.T) {
	t.Parallel()
	home, _ := newStore(t, 1)
	file := write(t, filepath.Join(t.TempDir(), "f"), 1, 20<<20)
	for _, args := range [][]string{{"put", file}, {"get", "f", "-o", filepath.Join(t.TempDir(), "g")}, {"scrub", "--deep"}} {
		var out, err bytes.Buffer
		cmd := program(t.Context(), append([]string{"--store", home}, args...)...)
		cmd.Stdout, cmd.Stderr = &out, &err
		require.NoError(t, cmd.Run(), err.String())
		require.Empty(t, err.String())
		require.NotContains(t, out.String(), "\r")
		require.NotContains(t, out.String(), "\x1b")
	}
	cmd := program(t.Context(), "--store", home, "get", "absent")
	require.Error(t, cmd.Run())
	require.Equal(t, exitError, cmd.ProcessState.ExitCode())
}

// On a terminal it is there, unless --quiet or --json.
func TestProgress(t *testing.T) {
	t.Parallel()
	home, _ := newStore(t, 1)
	file := write(t, filepath.Join(t.TempDir(), "f"), 1, 5<<20)
	for _, c := range []struct {
		shown bool
		flags []string
	}{{true, nil}, {false, []string{"--quiet"}}, {false, []string{"--json"}}} {
		var stderr bytes.Buffer
		a := &app{stdout: io.Discard, stderr: &stderr, terminal: true}
		require.Equal(t, exitOK, a.run(context.Background(), append(c.flags, "--store", home, "put", file)))
		require.Equal(t, c.shown, strings.Contains(stderr.String(), "\r"), "%v: %q", c.flags, stderr.String())
	}
}

// An interrupt ends a put cleanly: nothing of it is stored, and the store is as
// it was.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	home, _ := newStore(t, 1)
	cmd := program(t.Context(), "--store", home, "put", "-", "--name", "endless")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	// More than the pipe and a stripe hold: once it was taken, the put is under way.
	_, err = in.Write(content(1, 4<<20))
	require.NoError(t, err)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.Error(t, cmd.Wait())
	require.Equal(t, exitError, cmd.ProcessState.ExitCode(), stderr.String())
	require.Equal(t, "blockframe: interrupted: endless is not stored\n", stderr.String())
	exits(t, exitError, "--store", home, "get", "endless")
	require.Empty(t, ok(t, "--store", home, "ls"))
	require.Contains(t, ok(t, "--store", home, "scrub", "--deep"), "clean")
}

// bench prints every row as an object on a line, and clears up behind it.
func TestBench(t *testing.T) {
	if testing.Short() {
		t.Skip("measures nothing while others are measured")
	}
	dir := t.TempDir()
	rows := lines(t, ok(t, "--json", "bench", "--dir", dir, "--size", "2MiB", "--rounds", "1", "--rows", "put,degraded,scrub,put64k"))
	require.Equal(t, "machine", rows[0]["type"])
	require.Positive(t, rows[0]["fdatasync_p50_us"])
	require.Len(t, rows, 5)
	for _, row := range rows[1:] {
		require.Positive(t, row["ours"], row)
		require.Positive(t, row["theirs"], row)
		require.NotEmpty(t, row["reach"], row)
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
	var keys []string
	for _, r := range benchRows {
		keys = append(keys, r.key)
	}
	require.Equal(t, rowKeys, keys)
}

// What an interrupt broke off is not told shard by shard.
func TestInterruptSays(t *testing.T) {
	t.Parallel()
	home, _ := newStore(t, 3)
	ctx, stop := context.WithCancel(t.Context())
	var stdout, stderr bytes.Buffer
	a := &app{stdin: stopReader{stop}, stdout: &stdout, stderr: &stderr}
	require.Equal(t, exitError, a.run(ctx, []string{"--store", home, "put", "-", "--name", "x"}))
	require.Equal(t, "blockframe: interrupted: x is not stored\n", stderr.String())

	ended, end := context.WithCancel(t.Context())
	end()
	stderr.Reset()
	a = &app{stdout: &stdout, stderr: &stderr}
	require.Equal(t, exitError, a.run(ended, []string{"--store", home, "ls"}))
	require.Contains(t, stderr.String(), "blockframe: interrupted\n")
}

// stopReader interrupts whoever reads it.
type stopReader struct{ stop func() }

func (r stopReader) Read(p []byte) (int, error) {
	r.stop()
	return len(p), nil
}
