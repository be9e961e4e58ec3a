package main

import (
	"archive/tar"
	"embed"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// own are the sources of this program, for one that runs where no others are.
//
//go:embed *.go
var own embed.FS

// module begins the go.mod of the sources that are looked for.
const module = "module github.com/blockframe/blockframe\n"

// sources returns this module's sources: from the directory that the program runs
// in, or one above it; from where it was built; or else its own few files.
func sources() fs.FS {
	starts := []string{"."}
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		starts = append(starts, filepath.Dir(file))
	}
	for _, start := range starts {
		dir, err := filepath.Abs(start)
		if err != nil {
			continue
		}
		for {
			if b, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil && strings.HasPrefix(string(b), module) {
				return os.DirFS(dir)
			}
			up := filepath.Dir(dir)
			if up == dir {
				break
			}
			dir = up
		}
	}
	return own
}

// archive writes the sources into a tar file and returns its name.
func archive(name string) (string, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return "", err
	}
	w := tar.NewWriter(f)
	src := sources()
	err = fs.WalkDir(src, ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() != "." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir // histories and settings of tools
		case !d.Type().IsRegular():
			return nil
		}
		return add(w, src, path)
	})
	return name, errors.Join(err, w.Close(), f.Close())
}

// add adds one file.
func add(w *tar.Writer, src fs.FS, path string) error {
	b, err := fs.ReadFile(src, path)
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: path, Mode: 0o644, Size: int64(len(b))}); err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}
