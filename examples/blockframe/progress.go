package main

import (
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
)

// bar shows bytes, rate and time left of long work on a terminal, and nothing
// anywhere else. All methods work on nil, which shows nothing, and may be called
// concurrently.
type bar struct{ b *progressbar.ProgressBar }

// shows reports whether progress is shown.
func (a *app) shows() bool { return a.terminal && !a.quiet && !a.json }

// progress starts a bar over total bytes; -1 is not known.
func (a *app) progress(what string, total int64) *bar {
	if !a.shows() || total == 0 {
		return nil
	}
	return &bar{progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(a.stderr),
		progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(true),
		progressbar.OptionShowTotalBytes(true),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionSetWidth(24),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetRenderBlankState(true),
		progressbar.OptionClearOnFinish(),
	)}
}

func (p *bar) add(n int) {
	if p != nil {
		p.b.Add(n)
	}
}

func (p *bar) set(n int64) {
	if p != nil {
		p.b.Set64(n)
	}
}

// of sets what there is in all, once that is known.
func (p *bar) of(total int64) {
	if p != nil && total > 0 && p.b.GetMax64() != total {
		p.b.ChangeMax64(total)
	}
}

// done removes the bar.
func (p *bar) done() {
	if p != nil {
		p.b.Finish()
	}
}

// countedFile is a file that moves the bar while it is read. It stays an fs.File
// that the store watches for changes.
type countedFile struct {
	*os.File
	bar *bar
}

func (f countedFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	f.bar.add(n)
	return n, err
}

// countedReader is any other reader that moves the bar.
type countedReader struct {
	io.Reader
	bar *bar
}

func (r countedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.bar.add(n)
	return n, err
}

// countedWriter moves the bar while it is written to.
type countedWriter struct {
	io.Writer
	bar *bar
}

func (w countedWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.bar.add(n)
	return n, err
}
