package blockframe_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
)

// holdDirs tells a re-executed test binary which store to open and to hold until
// its standard input ends.
const holdDirs = "BLOCKFRAME_TEST_HOLD"

// TestHoldStore is the other process of TestTwoProcesses.
func TestHoldStore(t *testing.T) {
	list := os.Getenv(holdDirs)
	if list == "" {
		t.Skip("runs as the other process of TestTwoProcesses")
	}
	st := open(t, blockframe.Options{Dirs: filepath.SplitList(list)})
	put(t, st, "of/the/other", []byte("1"))
	fmt.Println("holding")
	io.Copy(io.Discard, os.Stdin)
}

// A store that another process has open is refused, with the directory; when that
// process dies, even by kill -9, it opens, and what was acknowledged is there.
func TestTwoProcesses(t *testing.T) {
	opts := blockframe.Options{Dirs: dirs(t, 2)}
	cmd := exec.Command(os.Args[0], "-test.run=^TestHoldStore$", "-test.v")
	cmd.Env = append(os.Environ(), holdDirs+"="+strings.Join(opts.Dirs, string(filepath.ListSeparator)))
	_, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	killed := false
	defer func() {
		if !killed {
			cmd.Process.Kill()
			cmd.Wait()
		}
	}()
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "holding" {
	}
	require.Equal(t, "holding", lines.Text())

	for _, some := range [][]string{opts.Dirs, opts.Dirs[:1], opts.Dirs[1:]} {
		_, err = blockframe.Open(context.Background(), blockframe.Options{Dirs: some})
		require.ErrorIs(t, err, blockframe.ErrLocked)
		require.ErrorContains(t, err, some[0])
	}
	require.NoError(t, cmd.Process.Kill())
	cmd.Wait()
	killed = true
	require.Equal(t, "1", string(get(t, open(t, opts), "of/the/other", 0)))
}
