package blockframe_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/blockframe/blockframe"
)

// scratch returns three directories for an example, and what removes them.
func scratch() (dirs []string, remove func()) {
	root, err := os.MkdirTemp("", "blockframe-example-")
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"d1", "d2", "d3"} {
		dirs = append(dirs, filepath.Join(root, name))
	}
	return dirs, func() { os.RemoveAll(root) }
}

// The five lines that embed a store.
func Example() {
	ctx := context.Background()
	dirs, remove := scratch()
	defer remove()
	must := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}

	st, err := blockframe.Open(ctx, blockframe.Options{Dirs: dirs}) // creates if absent
	must(err)
	obj, err := st.Put(ctx, "books/moby.epub", strings.NewReader("Call me Ishmael.\n"), blockframe.PutOptions{})
	must(err)
	fmt.Println(obj.ID) // what b3sum prints

	rd, err := st.Open(ctx, "books/moby.epub")
	must(err)
	_, err = io.Copy(os.Stdout, rd)
	must(err)
	must(rd.Close())

	rep, err := st.Scrub(ctx, blockframe.ScrubOptions{Deep: true, Repair: true})
	must(err)
	fmt.Println("clean:", rep.Clean())
	must(st.Close())

	// Output:
	// b3:c175199a22ba832a196df60b0cbed5bd86f9f573e5fe1a077c0e3dd8421c8333
	// Call me Ishmael.
	// clean: true
}

// A disk is lost; everything is read from the others.
func ExampleOpen_missingDisk() {
	ctx := context.Background()
	dirs, remove := scratch()
	defer remove()
	st, err := blockframe.Open(ctx, blockframe.Options{Dirs: dirs})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("survives any", st.Survives(), "of", len(st.Disks(ctx)), "disks")
	data := strings.Repeat("precious ", 100_000)
	if _, err := st.Put(ctx, "data", strings.NewReader(data), blockframe.PutOptions{}); err != nil {
		log.Fatal(err)
	}
	if err := st.Close(); err != nil {
		log.Fatal(err)
	}

	if err := os.RemoveAll(dirs[2]); err != nil {
		log.Fatal(err)
	}
	st, err = blockframe.Open(ctx, blockframe.Options{Dirs: dirs})
	if err != nil {
		log.Fatal(err)
	}
	defer st.Close()
	b, err := fs.ReadFile(st.FS(), "data")
	fmt.Println(string(b) == data, err)

	// Output:
	// survives any 1 of 3 disks
	// true <nil>
}

// Many small files go in together, or not at all.
func ExampleStore_Batch() {
	ctx := context.Background()
	dirs, remove := scratch()
	defer remove()
	st, err := blockframe.Open(ctx, blockframe.Options{Dirs: dirs[:1]})
	if err != nil {
		log.Fatal(err)
	}
	defer st.Close()

	b := st.Batch(ctx)
	for _, name := range []string{"a", "b", "c"} {
		if err := b.Put("letters/"+name, strings.NewReader("Dear "+name), blockframe.PutOptions{}); err != nil {
			b.Abort()
			log.Fatal(err)
		}
	}
	if _, err := b.Commit(); err != nil {
		log.Fatal(err)
	}
	for obj, err := range st.List(ctx, "letters", blockframe.ListOptions{}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(obj.Name, obj.Size)
	}

	// Output:
	// letters/a 6
	// letters/b 6
	// letters/c 6
}

// Content is written piece by piece, and is there after Commit alone.
func ExampleStore_Create() {
	ctx := context.Background()
	dirs, remove := scratch()
	defer remove()
	st, err := blockframe.Open(ctx, blockframe.Options{Dirs: dirs[:1]})
	if err != nil {
		log.Fatal(err)
	}
	defer st.Close()

	w, err := st.Create(ctx, "log.txt", blockframe.PutOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for i := range 3 {
		fmt.Fprintln(w, "line", i)
	}
	obj, err := w.Commit()
	fmt.Println(obj.Name, obj.Size, err)

	// Output:
	// log.txt 21 <nil>
}
