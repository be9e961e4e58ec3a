// Command quickstart is a tour of two minutes: it puts a real file into a new
// store on six directories, rots a block in every shard and deletes the shards of
// two directories, gets every byte back each time, and lets the store heal itself.
//
//	go run ./examples/quickstart
//	go run ./examples/quickstart FILE
//
// Without FILE it takes an archive of this module's own sources. It exits with 1
// unless everything was right. The store is removed at the end; -keep keeps it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
)

func main() {
	keep := flag.Bool("keep", false, "keep the store, to look at it")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "usage: quickstart [-keep] [FILE]\n")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() > 1 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(ctx, stop)
	if err := run(ctx, flag.Arg(0), *keep); err != nil {
		fmt.Fprintf(os.Stderr, "\nquickstart: SOMETHING IS NOT RIGHT: %v\n", err)
		os.Exit(1)
	}
}

// run makes a place for everything, takes the tour, and clears up.
func run(ctx context.Context, file string, keep bool) error {
	dir, err := os.MkdirTemp("", "blockframe-quickstart-")
	if err != nil {
		return err
	}
	if !keep {
		defer os.RemoveAll(dir)
	}
	if file == "" {
		if file, err = archive(filepath.Join(dir, "sources.tar")); err != nil {
			return err
		}
	}
	t := &tour{file: file, out: os.Stdout}
	for i := range directories {
		t.dirs = append(t.dirs, filepath.Join(dir, fmt.Sprintf("disk%d", i+1)))
	}
	if err := t.take(ctx); err != nil {
		return err
	}
	if keep {
		fmt.Printf("\nThe store is in %s.\n", dir)
	}
	return nil
}
