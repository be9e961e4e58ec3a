package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The lines of README under a heading run as they stand there, in an empty directory.
func TestDiskDies(t *testing.T) {
	t.Parallel()
	out := runReadme(t, "## A disk dies")
	for _, piece := range []string{
		"store on 6 directories, code 4+2", "exit 5\n", "2 disks are not there", "blocks computed from others", "\nclean\n", "survives: any 2 disks\n", "restored ",
	} {
		require.Contains(t, out, piece)
	}
	require.Equal(t, 2, strings.Count(out, "exit 5\n"), out)
}

// runReadme runs the code under a heading of README, each line of which must succeed, and
// returns what it printed.
func runReadme(t *testing.T, heading string) string {
	t.Helper()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no shell to run the lines of README with")
	}
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	require.NoError(t, err)
	_, after, found := strings.Cut(string(readme), "\n"+heading+"\n")
	require.True(t, found)
	_, after, _ = strings.Cut(after, "```sh\n")
	script, _, found := strings.Cut(after, "```\n")
	require.True(t, found)

	bin, self := t.TempDir(), os.Args[0]
	self, err = filepath.Abs(self)
	require.NoError(t, err)
	wrapper := fmt.Sprintf("#!%s\n%s=1 exec '%s' \"$@\"\n", sh, asProgram, self)
	require.NoError(t, os.WriteFile(filepath.Join(bin, "blockframe"), []byte(wrapper), 0o755))
	cmd := exec.CommandContext(t.Context(), sh, "-e", "-c", script)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}
