package main

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/blockframe/blockframe"
)

// explainOpen adds to an error of Open what can be done about it. place is what --store
// said, and dirs are the directories that it leads to.
func explainOpen(err error, place string, dirs []string) error {
	switch {
	case errors.Is(err, blockframe.ErrCorrupt):
		return &hinted{err, corruptHint(err)}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case slices.ContainsFunc(dirs, isDisk):
		return &hinted{err, "there are shards in these directories: make no new store there. Attach the disks that are missing, or bring back the folder log/ of a disk from a backup. Where none is left, blockframe rebuild restores what the shards alone prove"}
	}
	for _, dir := range dirs {
		if state(dir) == "there" && !strings.Contains(err.Error(), "was interrupted") {
			return &hinted{fmt.Errorf("open store: %s is not a directory of a store: it has no file id", dir), "is the path right, and is every disk attached?"}
		}
	}
	return &hinted{err, fmt.Sprintf("is the path right, and is every disk attached? blockframe --store %s init makes a new store", quoted(place))}
}

// corruptHint returns what can be done about damage that keeps a store from being opened.
func corruptHint(err error) string {
	switch text := err.Error(); {
	case strings.Contains(text, "records that were acknowledged"):
		return "" // it says so itself
	case strings.Contains(text, "log member"):
		return "nothing can be read without a whole copy of the commit log: bring back the folder log/ of a disk from a backup. The shards are as they were: make no new store there. Where no copy is left, move the folders log/ and view/ of all disks away, and blockframe rebuild restores what the shards alone prove"
	case strings.Contains(text, "id is missing"), strings.Contains(text, "no identity"):
		return "what the disks hold is as it was: make no new store there. Bring back the file id of a disk from a backup"
	}
	return "what the disks hold is as it was: make no new store there"
}
