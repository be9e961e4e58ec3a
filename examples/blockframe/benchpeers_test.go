package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// asMinio in the environment makes the test binary a server that says it is ready
// and no more.
const asMinio = "BLOCKFRAME_TEST_AS_MINIO"

func fakeMinio() {
	addr := os.Args[slices.Index(os.Args, "--address")+1]
	fmt.Println(http.ListenAndServe(addr, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	os.Exit(1)
}

// fakes makes PATH a directory of shell scripts and nothing else. Each notes its
// process and its arguments in the log that is returned.
func fakes(t *testing.T, scripts map[string]string) (log string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the peers are shell scripts")
	}
	dir := t.TempDir()
	log = filepath.Join(dir, "log")
	for name, script := range scripts {
		script = fmt.Sprintf("#!/bin/sh\necho $$ %s \"$@\" >>'%s'\n%s\n", name, log, script)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755))
	}
	t.Setenv("PATH", dir)
	return log
}

// sleep returns a line of a script that sleeps, whose PATH has nothing.
func sleep(t *testing.T, seconds int) string {
	t.Helper()
	path, err := exec.LookPath("sleep")
	require.NoError(t, err)
	return fmt.Sprint(path, " ", seconds)
}

// requireGone checks that no process of a log is left.
func requireGone(t *testing.T, log string) {
	t.Helper()
	b, err := os.ReadFile(log)
	require.NoError(t, err)
	require.NotEmpty(t, b)
	for line := range strings.Lines(string(b)) {
		pid, err := strconv.Atoi(strings.Fields(line)[0])
		require.NoError(t, err)
		p, err := os.FindProcess(pid)
		require.NoError(t, err)
		require.Error(t, p.Signal(syscall.Signal(0)), "still there: %s", line)
	}
}

// measure runs rows on a small object, in a directory that must be empty then.
func measure(t *testing.T, code int, rows string) result {
	t.Helper()
	dir := t.TempDir()
	r := exits(t, code, "--json", "bench", "--dir", dir, "--size", "2MiB", "--rounds", "1", "--rows", rows)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
	return r
}

const peerRows = "restic,kopia,par2,minio,tree,treekopia"

func TestPeersAreNotInstalled(t *testing.T) {
	fakes(t, map[string]string{"minio": "exit 1"}) // mc is not
	rows := lines(t, measure(t, exitOK, peerRows).out)[1:]
	var skipped []string
	for _, row := range rows {
		skipped = append(skipped, fmt.Sprint(row["skipped"]))
	}
	require.Equal(t, []string{"restic is not installed", "kopia is not installed", "par2 is not installed", "mc is not installed",
		"restic is not installed", "kopia is not installed"}, skipped)

	fakes(t, map[string]string{"minio": "exit 1", "mc": "echo GNU Midnight Commander"})
	require.Contains(t, measure(t, exitOK, "minio").out, "mc is not MinIO's client")
}

// Each peer is measured, with a home of its own, and nothing is left of it.
func TestPeers(t *testing.T) {
	t.Setenv("RESTIC_REPOSITORY", "/mine")
	homely := `case $HOME in */blockframe-bench-*/peer-*) ;; *) exit 1 ;; esac; [ "$RESTIC_REPOSITORY" = "$HOME/repository" ]`
	log := fakes(t, map[string]string{
		"restic": homely, "kopia": homely, "par2": homely, "mc": "echo MinIO",
		"minio": fmt.Sprintf("%s=1 exec '%s' \"$@\"", asMinio, os.Args[0]),
	})
	wanted := "restic,kopia,par2,minio"
	if !testing.Short() {
		wanted = peerRows
	}
	rows := lines(t, measure(t, exitOK, wanted).out)[1:]
	require.Len(t, rows, strings.Count(wanted, ",")+1)
	for _, row := range rows {
		require.Positive(t, row["ours"], row)
		require.Positive(t, row["theirs"], row)
		require.Contains(t, row["reach"], ">= ", row)
	}
	requireGone(t, log)
}

func TestPeerFails(t *testing.T) {
	fakes(t, map[string]string{"par2": "echo no such thing; exit 3", "mc": "echo MinIO", "minio": "echo no drives; exit 3"})
	require.Contains(t, measure(t, exitError, "par2").err, "bench par2: par2 create: exit status 3: no such thing")
	require.Contains(t, measure(t, exitError, "minio").err, "bench minio: minio server: ended by itself: exit status 3: no drives")
}

// A server that never is ready is ended with what it said, after a while or when
// the bench is stopped.
func TestMinioIsNeverReady(t *testing.T) {
	script := map[string]string{"minio": "echo dreaming; exec " + sleep(t, 1000)}
	log := fakes(t, script)
	h, err := (&bench{ctx: t.Context(), dir: t.TempDir()}).newHome()
	require.NoError(t, err)
	_, err = h.startMinio(2 * time.Second)
	require.EqualError(t, err, "minio server: not ready after 2s: dreaming")
	requireGone(t, log)

	log = fakes(t, script)
	err = stopped(t, log, func(b *bench) error {
		h, err := b.newHome()
		if err == nil {
			_, err = h.startMinio(time.Hour)
		}
		return err
	})
	require.ErrorContains(t, err, "minio server: enough")
	requireGone(t, log)
}

// What is stopped while a peer works ends with it, even if a child of the peer has
// its output still.
func TestPeerIsStopped(t *testing.T) {
	log := fakes(t, map[string]string{"restic": sleep(t, 20) + " & wait"})
	begun := time.Now()
	err := stopped(t, log, func(b *bench) error {
		_, err := b.kept(peers["restic"], "none")
		return err
	})
	require.ErrorContains(t, err, "restic init: enough")
	require.Less(t, time.Since(begun), 20*time.Second)
	requireGone(t, log)
}

// stopped returns the error of what is stopped once a fake has begun.
func stopped(t *testing.T, log string, f func(b *bench) error) error {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	b := &bench{ctx: ctx, dir: t.TempDir()}
	done := make(chan error, 1)
	go func() { done <- f(b) }()
	require.Eventually(t, func() bool {
		said, _ := os.ReadFile(log)
		return len(said) > 0
	}, time.Minute, 10*time.Millisecond)
	cancel(errors.New("enough"))
	return <-done
}
