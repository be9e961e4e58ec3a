package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A store is found by one of its directories. init writes a small text file into
// each of them, and into the directory given with --store if that is none of the
// disks: the list of all disks, a path on each line. A line that is no absolute
// path is relative to the directory of the list; lines that begin with # are
// comments. Nothing but this program reads the list, and --store given several
// times takes its place.
//
// Mounts may have changed places since: so the lists of the others count too.

// listName is the name of the list of disks.
const listName = "disks"

// maxList is the size of a list at most, in bytes.
const maxList = 1 << 20

// places returns what --store says, or else the environment.
func (a *app) places() ([]string, error) {
	if len(a.stores) > 0 {
		return a.stores, nil
	}
	if env := os.Getenv("BLOCKFRAME_STORE"); env != "" {
		return filepath.SplitList(env), nil
	}
	return nil, usagef("which store? Give --store DIR, or set BLOCKFRAME_STORE")
}

// locate returns the directories of the store at places.
func locate(places []string) ([]string, error) {
	if len(places) != 1 {
		return places, nil
	}
	dir := places[0]
	disks, err := readList(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return places, nil
	}
	if err != nil {
		return nil, err
	}
	// A disk that was moved, and so is not in its own list, counts all the same.
	if isDisk(dir) && !listed(disks, dir) {
		disks = append(disks, dir)
	}
	for _, d := range slices.Clone(disks) {
		others, err := readList(d)
		if err != nil {
			continue // it is not there, or has no list
		}
		for _, other := range others {
			if isDisk(other) && !listed(disks, other) {
				disks = append(disks, other)
			}
		}
	}
	return once(disks), nil
}

// isDisk reports whether dir has the identity of a disk.
func isDisk(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "id"))
	return err == nil
}

// once drops directories that are in the list already, by whatever path.
func once(disks []string) (list []string) {
	for _, d := range disks {
		if !listed(list, d) {
			list = append(list, d)
		}
	}
	return list
}

// listed reports whether dir is one of disks.
func listed(disks []string, dir string) bool {
	info, err := os.Stat(dir)
	return slices.ContainsFunc(disks, func(d string) bool {
		other, oerr := os.Stat(d)
		return err == nil && oerr == nil && os.SameFile(info, other) || filepath.Clean(d) == filepath.Clean(dir)
	})
}

// readList reads the list of disks in dir.
func readList(dir string) (disks []string, err error) {
	name := filepath.Join(dir, listName)
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxList {
		return nil, fmt.Errorf("%s: %v of %d bytes is no list of disks", name, info.Mode().Type(), info.Size())
	}
	for sc := bufio.NewScanner(f); sc.Scan(); {
		line := strings.TrimRight(sc.Text(), "\r")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if !filepath.IsAbs(line) {
			line = filepath.Join(dir, line)
		}
		disks = append(disks, line)
	}
	if len(disks) == 0 {
		return nil, fmt.Errorf("%s: names no disk", name)
	}
	return disks, nil
}

// writeLists writes the list of disks into each of them and into home.
func writeLists(home string, disks []string) error {
	dirs := slices.Clone(disks)
	if home != "" && !listed(disks, home) {
		if err := os.MkdirAll(home, 0o777); err != nil {
			return err
		}
		dirs = append(dirs, home)
	}
	return writeListIn(dirs, disks)
}

// writeListIn writes the list of disks into each of dirs.
func writeListIn(dirs, disks []string) error {
	for _, dir := range dirs {
		if err := writeFile(filepath.Join(dir, listName), listText(dir, disks)); err != nil {
			return err
		}
	}
	return nil
}

// listText returns the list as it is in dir: what lies beneath it is relative, so
// that all of it can be moved together.
func listText(dir string, disks []string) []byte {
	var b bytes.Buffer
	b.WriteString("# The disks of this blockframe store, one on each line.\n")
	for _, d := range disks {
		if rel, err := filepath.Rel(dir, d); err == nil && filepath.IsLocal(rel) {
			d = rel
		}
		b.WriteString(d + "\n")
	}
	return b.Bytes()
}
