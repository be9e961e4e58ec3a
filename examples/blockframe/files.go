package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"runtime"
)

// tempName returns a name for a file that is renamed when it is complete.
func tempName() string {
	var b [8]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return ".blockframe-" + hex.EncodeToString(b[:])
}

// writeFile writes a small file, in place of one that is there. It is durable
// when writeFile returns; a crash before leaves the old one, and perhaps a file
// whose name begins with .blockframe-.
func writeFile(name string, content []byte) error {
	dir := filepath.Dir(name)
	temp := filepath.Join(dir, tempName())
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(temp, name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return syncDir(dir)
}

// syncDir makes changes of the names in a directory durable, where the system has
// a way to do that.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // directories cannot be synced there; renames are journaled
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
