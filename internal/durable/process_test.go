package durable_test

import (
	"io"
	"os"
	"os/exec"
	"path"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/durable"
)

// lockEnv names the file that a re-executed test binary locks. It then writes a
// byte and waits to be killed.
const lockEnv = "BLOCKFRAME_TEST_LOCK"

func TestMain(m *testing.M) {
	if name := os.Getenv(lockEnv); name != "" {
		if _, err := durable.OS().Lock(name); err != nil {
			os.Exit(1)
		}
		os.Stdout.Write([]byte{1})
		io.Copy(io.Discard, os.Stdin) // until the parent goes
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A lock excludes other processes, and ends with the one that holds it.
func TestLockExcludesOtherProcesses(t *testing.T) {
	name := path.Join(t.TempDir(), "LOCK")
	exe, err := os.Executable()
	require.NoError(t, err)
	other := exec.Command(exe)
	other.Env = append(os.Environ(), lockEnv+"="+name)
	out, err := other.StdoutPipe()
	require.NoError(t, err)
	_, err = other.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, other.Start())
	_, err = io.ReadFull(out, make([]byte, 1))
	require.NoError(t, err)

	_, err = durable.OS().Lock(name)
	require.ErrorIs(t, err, durable.ErrLocked)
	require.NoError(t, other.Process.Kill())
	require.Error(t, other.Wait())
	l, err := durable.OS().Lock(name)
	require.NoError(t, err)
	require.NoError(t, l.Close())
}
