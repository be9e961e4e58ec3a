package dir_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/blockframe/blockframe/store/dir"
)

// A directory is made once, and opened by one process at a time.
func Example() {
	root, err := os.MkdirTemp("", "dir")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(root)
	disk := filepath.Join(root, "d1")
	if err := dir.Init(nil, disk, dir.InitOptions{Store: [16]byte{1, 2, 3}}); err != nil {
		log.Fatal(err)
	}
	b, err := dir.Open(nil, disk, dir.Options{})
	if err != nil {
		log.Fatal(err)
	}
	id, err := dir.ReadIdentity(nil, disk)
	fmt.Println(id.Disk == b.ID(), err, b.Close())
	// Output: true <nil> <nil>
}
