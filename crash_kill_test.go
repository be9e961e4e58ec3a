package blockframe_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
)

// killedDir is the environment variable that makes the test binary a program that
// puts until it is killed.
const killedDir = "BLOCKFRAME_TEST_PUT_UNTIL_KILLED"

// killedPut returns the name and content of the n-th put of a writer in a round: of
// every size class, some of them bytes that were put before.
func killedPut(round, writer, n int) (string, []byte) {
	size := []int{200, 9000, 5, 300_000, 60_000, 4096, 700_000, 0}[(n+writer)%8]
	seed := byte(n)
	if n%5 == 0 {
		seed, size = 0, 9000
	}
	return fmt.Sprintf("round%d/writer%d/%d", round, writer, n), content(seed, size)
}

// TestPutUntilKilled is the program that TestKill kills. It writes a line for every
// put that was acknowledged.
func TestPutUntilKilled(t *testing.T) {
	dir := os.Getenv(killedDir)
	if dir == "" {
		t.Skip("runs only as the child of TestKill")
	}
	ctx := context.Background()
	st, err := blockframe.Open(ctx, killOptions(dir))
	require.NoError(t, err)
	var round int
	_, err = fmt.Sscan(os.Getenv(killedDir+"_ROUND"), &round)
	require.NoError(t, err)
	fmt.Println("open")
	var mu sync.Mutex
	var wg sync.WaitGroup
	for writer := range 4 {
		wg.Go(func() {
			for n := 0; ; n++ {
				name, data := killedPut(round, writer, n)
				if _, err := st.Put(ctx, name, bytes.NewReader(data), blockframe.PutOptions{}); err != nil {
					fmt.Println("error", name, err)
					return
				}
				mu.Lock()
				fmt.Println("ack", writer, n)
				mu.Unlock()
				if writer == 0 && n%20 == 10 {
					st.PackInline(ctx)
					st.Collect(ctx, blockframe.CollectOptions{})
				}
			}
		})
	}
	wg.Wait()
}

func killOptions(dir string) blockframe.Options {
	return blockframe.WithSegment(blockframe.Options{Dirs: []string{dir + "/a", dir + "/b", dir + "/c"}, Grace: -1}, 256<<10)
}

// R6, I1: a program that puts is killed again and again, each time at another
// moment. What it was told is durable is there, all of it, with its bytes; and what
// else is there is whole.
func TestKill(t *testing.T) {
	dir, rounds := t.TempDir(), 8
	if testing.Short() {
		rounds = 2
	}
	if heavy {
		rounds = 200
	}
	acked := map[string][]byte{}
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	for round := range rounds {
		killOnce(t, dir, round, time.Duration(rng.IntN(500))*time.Millisecond, acked)
	}
	require.Greater(t, len(acked), rounds)
	st := open(t, killOptions(dir))
	checkAcked(t, st, acked)
	rep, err := st.Scrub(context.Background(), blockframe.ScrubOptions{Deep: true})
	require.NoError(t, err)
	require.True(t, rep.Clean(), "%+v", rep)
	t.Logf("%d rounds, %d puts were acknowledged", rounds, len(acked))
}

// killOnce runs the child until a moment after its first ack, and adds what it was
// told to acked. Then the store is opened and looked at.
func killOnce(t *testing.T, dir string, round int, after time.Duration, acked map[string][]byte) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestPutUntilKilled$", "-test.v")
	cmd.Env = append(os.Environ(), killedDir+"="+dir, fmt.Sprintf("%s_ROUND=%d", killedDir, round))
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	var killer *time.Timer
	for lines.Scan() {
		var writer, n int
		if k, _ := fmt.Sscanf(lines.Text(), "ack %d %d", &writer, &n); k == 2 {
			name, data := killedPut(round, writer, n)
			acked[name] = data
		}
		if strings.HasPrefix(lines.Text(), "open") && killer == nil {
			killer = time.AfterFunc(after, func() { cmd.Process.Kill() })
		}
		require.False(t, strings.HasPrefix(lines.Text(), "error"), lines.Text())
	}
	io.Copy(io.Discard, out)
	cmd.Wait()
	require.NotNil(t, killer, "the child did not open the store")
	st, err := blockframe.Open(context.Background(), killOptions(dir))
	require.NoError(t, err)
	require.NoError(t, st.ReadOnly())
	checkAcked(t, st, acked)
	require.NoError(t, st.Close())
}

// checkAcked reads all that was acknowledged, and all else that is listed.
func checkAcked(t *testing.T, st *blockframe.Store, acked map[string][]byte) {
	t.Helper()
	for name, data := range acked {
		requireBytes(t, data, get(t, st, name, 0), name)
	}
	for _, name := range names(t, st) {
		if strings.Count(name, "/") < 2 || acked[name] != nil {
			continue
		}
		var round, writer, n int
		_, err := fmt.Sscanf(name, "round%d/writer%d/%d", &round, &writer, &n)
		require.NoError(t, err)
		_, data := killedPut(round, writer, n)
		requireBytes(t, data, get(t, st, name, 0), "%s, not acknowledged", name)
	}
}
