package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/blockframe/blockframe"
)

// usagef returns an error in the command line.
func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// code returns the exit code for an error.
func code(err error) int {
	var usage usageError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, blockframe.ErrUnavailable):
		return exitError // the bytes may be on a disk that is not there
	case errors.Is(err, blockframe.ErrCorrupt), errors.Is(err, blockframe.ErrUnrecoverable):
		return exitLost
	}
	return exitError
}

// hints say what to do about an error, the first that matches.
var hints = []struct {
	is   error
	hint string
}{
	{context.Canceled, "what was done before is done; doing it again is safe"},
	{blockframe.ErrUncertain, "it may or may not have happened: doing it again is safe"},
	{blockframe.ErrLocked, "another process has the store open: wait until it ends, or stop it"},
	{blockframe.ErrNoSpace, "make room there and do it again; what is stored stays readable"},
	{blockframe.ErrVersion, "a newer blockframe wrote this: use that one"},
	{blockframe.ErrChanged, "put it again when nothing writes to it, or put a snapshot of it"},
	{blockframe.ErrNotEmpty, "rm -r deletes a directory with all that is in it"},
	{blockframe.ErrUnavailable, "attach the disks that are missing and do it again"},
	{blockframe.ErrDiverged, "two copies of the log tell different stories: find out which disk was written to elsewhere, and give up the other with --assume-lost; what it alone held is set aside in its folder log/"},
	{blockframe.ErrCorrupt, "what else is stored stays readable; blockframe scrub --deep --repair repairs what can be repaired"},
	{fs.ErrPermission, "the user who runs blockframe must be allowed to do that"},
}

// hinted is an error whose hint is known where it is made.
type hinted struct {
	error
	hint string
}

func (e *hinted) Unwrap() error { return e.error }

// hint returns what to do about an error, or "".
func hint(err error) string {
	var h *hinted
	if errors.As(err, &h) {
		return h.hint
	}
	if errors.Is(err, blockframe.ErrRetained) {
		return keptHint(err)
	}
	if errors.Is(err, fs.ErrNotExist) && strings.Contains(err.Error(), ": deleted at ") {
		return "get --version N still reads it; stat --history NAME lists its versions"
	}
	for _, h := range hints {
		if errors.Is(err, h.is) {
			return h.hint
		}
	}
	return ""
}

// keptHint says how what is kept can go.
func keptHint(err error) string {
	if strings.Contains(err.Error(), "on hold") {
		return "hold NAME --off lifts it, with --version N that of an older version; stat --history NAME shows which are on hold"
	}
	return "a retention ends with its time, and not before: stat --history NAME shows when"
}

// fail says on standard error what went wrong and what to do.
func (a *app) fail(err error) {
	err = a.refused(err)
	if errors.Is(err, context.Canceled) && !errors.Is(err, blockframe.ErrUncertain) {
		err = &hinted{errors.New("interrupted"), hint(err)} // what broke off where is of no interest
	}
	if a.json {
		var lost *blockframe.CorruptError
		row := errorRow{Error: a.named(err.Error()), Hint: hint(err), Exit: code(err)}
		if errors.As(err, &lost) {
			row.Lost = &lostRow{lost.Name, lost.Offset, lost.Length, lost.Extent.String(), lost.Stripe}
		}
		writeJSON(a.stderr, row)
		return
	}
	msg := fmt.Sprintf("blockframe: %s\n", a.named(err.Error()))
	if h := hint(err); h != "" {
		msg += fmt.Sprintf("  %s\n", h)
	}
	io.WriteString(a.stderr, msg) // in one piece: others write there too
}

// named puts the directories of disks in the place of their identities.
func (a *app) named(text string) string {
	if a.names == nil {
		return text
	}
	return a.names.Replace(text)
}

// remark says something on standard error that is no error, unless --quiet.
func (a *app) remark(format string, args ...any) {
	if a.quiet {
		return
	}
	msg := oneLine(a.named(fmt.Sprintf(format, args...)))
	if a.json {
		writeJSON(a.stderr, remarkRow{msg})
		return
	}
	fmt.Fprintf(a.stderr, "blockframe: %s\n", msg)
}

// oneLine returns a message in one line: errors that were joined have several.
func oneLine(msg string) string { return strings.ReplaceAll(msg, "\n", "; ") }

type errorRow struct {
	Error string   `json:"error"`
	Hint  string   `json:"hint,omitempty"`
	Exit  int      `json:"exit"`
	Lost  *lostRow `json:"lost,omitempty"`
}

type remarkRow struct {
	Remark string `json:"remark"`
}

// lostRow is a range of an object that cannot be read any more.
type lostRow struct {
	Name   string `json:"name"`
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`
	Extent string `json:"extent"`
	Stripe int    `json:"stripe"`
}

// quoted returns a name in quotes where it would not be clear otherwise.
func quoted(name string) string {
	if q := strconv.Quote(name); q != `"`+name+`"` || name == "" {
		return q
	}
	return name
}
