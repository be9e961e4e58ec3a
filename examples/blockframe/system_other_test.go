//go:build !linux

package main

import "errors"

func setXattr(path, name, value string) error { return errors.ErrUnsupported }

func mkfifo(path string) error { return errors.ErrUnsupported }
