// Command blockframe keeps files in a store and gets them back bit for bit.
//
//	blockframe --store /srv/store init --disk /mnt/a --disk /mnt/b --disk /mnt/c
//	blockframe --store /srv/store put -r ~/Pictures
//	blockframe --store /srv/store get Pictures/2020/beach.jpg -o beach.jpg
//	blockframe --store /srv/store scrub --deep --repair
//
// Its exit code says how it went:
//
//	0  done and clean
//	1  error
//	2  usage
//	3  damage found, all of it repaired
//	4  data lost or tampered with: objects and ranges are named
//	5  damage left, nothing lost
//
// 3 comes from scrub and rebuild, 5 from these and inspect; 4 wins over 5 over 3. get exits 0
// when the bytes are right, with a line on standard error if something had to be
// repaired, and 4 when a range is lost.
//
// With --json each command prints one JSON object on each line, and errors as
// {"error":...} on standard error. Progress is shown on a terminal only.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/term"
)

func main() {
	moreProcs()
	// The first signal ends what is under way cleanly; a second one the process.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	a := &app{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		terminal: term.IsTerminal(int(os.Stderr.Fd())),
	}
	os.Exit(a.run(ctx, os.Args[1:]))
}

// moreProcs lets half as much Go code again run at once as there are CPUs, unless the
// environment says how much. A call that waits for a disk keeps its turn to run until the
// runtime notices, some hundred microseconds later; with two turns and eleven disks to
// write to, both CPUs would stand idle for a fifth of the time.
func moreProcs() {
	if os.Getenv("GOMAXPROCS") == "" {
		n := runtime.GOMAXPROCS(0)
		runtime.GOMAXPROCS(n + (n+1)/2)
	}
}
