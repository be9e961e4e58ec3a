package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/blockframe/blockframe"
)

// peer is another program that keeps files. It runs with its defaults, but for
// redundancy, and is not asked to sync what it does not sync by itself.
type peer struct {
	programs []string                         // looked up in PATH; without one the row is skipped
	most     int64                            // bytes of a put, for one that is slow; 0 is any number
	prepare  func(h *home) error              // makes an empty repository; nil if there is none to make
	keep     func(h *home, path string) error // keeps a file or a tree: this is measured
}

// peers are all that rows compare with. Ours has 3 bytes of redundancy for 8, and so
// have the others, as near as they can; restic has none.
var peers = map[string]peer{
	"restic": {
		programs: []string{"restic"},
		prepare:  func(h *home) error { return h.run("restic", "init", "-q") },
		keep:     func(h *home, path string) error { return h.run("restic", "backup", "-q", path) },
	},
	"kopia": {
		programs: []string{"kopia"},
		prepare: func(h *home) error {
			return h.run("kopia", "repository", "create", "filesystem", "--path", h.path("repository"), "--ecc-overhead-percent", "37")
		},
		keep: func(h *home, path string) error { return h.run("kopia", "snapshot", "create", "--no-progress", path) },
	},
	"par2": {
		programs: []string{"par2"},
		most:     16 << 20, // some megabytes a second
		keep: func(h *home, path string) error {
			return h.run("par2", "create", "-q", "-q", "-r37", "-B", filepath.Dir(path), h.path("out.par2"), path)
		},
	},
	"minio": {
		programs: []string{"minio", "mc"},
		prepare:  func(h *home) error { return h.run("mc", "mb", "--quiet", "bench/bucket") },
		keep:     func(h *home, path string) error { return h.run("mc", "cp", "--quiet", path, "bench/bucket/object") },
	},
}

// missing says which program is not installed, or nothing.
func (p peer) missing() string {
	for _, name := range p.programs {
		if _, err := exec.LookPath(name); err != nil {
			return name + " is not installed"
		}
	}
	return ""
}

func (b *bench) resticRow() (benchResult, error) { return b.putBeside(peers["restic"]) }
func (b *bench) kopiaRow() (benchResult, error)  { return b.putBeside(peers["kopia"]) }
func (b *bench) par2Row() (benchResult, error)   { return b.putBeside(peers["par2"]) }

// putBeside compares a put into a new store with what a peer does to keep the same
// file in a new repository.
func (b *bench) putBeside(p peer) (benchResult, error) {
	if missing := p.missing(); missing != "" {
		return benchResult{Skipped: missing}, nil
	}
	src, err := b.source()
	size := b.size
	if p.most > 0 && p.most < size {
		src, size = filepath.Join(b.dir, "part"), p.most
		err = writeRandom(src, size, 5)
	}
	if err != nil {
		return benchResult{}, err
	}
	m, err := b.contest(func() (float64, error) { return b.putOnce(src) }, func() (float64, error) { return b.kept(p, src) })
	if err != nil {
		return benchResult{}, err
	}
	r := b.speed(m, 1, size)
	r.size = size
	return r, nil
}

// kept returns the seconds in which a peer keeps a file or a tree in a new
// repository.
func (b *bench) kept(p peer, path string) (float64, error) {
	h, err := b.newHome()
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(h.dir)
	if p.prepare != nil {
		if err := p.prepare(h); err != nil {
			return 0, err
		}
	}
	start := time.Now()
	err = p.keep(h, path)
	return time.Since(start).Seconds(), err
}

// home is the directory in which a peer has all that it writes: settings, caches,
// temporary files and what it keeps. Of the settings of whoever measures it sees
// PATH alone.
type home struct {
	ctx context.Context // ends what runs
	dir string
	env []string
}

// newHome makes an empty home.
func (b *bench) newHome() (*home, error) {
	dir, err := os.MkdirTemp(b.dir, "peer-")
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err != nil {
		return nil, err
	}
	h := &home{ctx: b.ctx, dir: dir}
	h.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, "TMP=" + dir,
		"RESTIC_REPOSITORY=" + h.path("repository"), "RESTIC_CACHE_DIR=" + h.path("cache"), "RESTIC_PASSWORD=bench",
		"KOPIA_CONFIG_PATH=" + h.path("config"), "KOPIA_CACHE_DIRECTORY=" + h.path("cache"), "KOPIA_LOG_DIR=" + h.path("log"), "KOPIA_PASSWORD=bench",
		"KOPIA_CHECK_FOR_UPDATES=false", "KOPIA_PERSIST_CREDENTIALS_ON_CONNECT=false",
		"MC_UPDATE=off", "MINIO_UPDATE=off", "MINIO_BROWSER=off",
		"MINIO_STORAGE_CLASS_STANDARD=EC:3",
		"MINIO_ROOTDRIVE_THRESHOLD_SIZE=1", // else a directory on the disk of / is not taken for a drive
	}
	return h, nil
}

func (h *home) path(name string) string { return filepath.Join(h.dir, name) }

// command returns a program that is killed when the context ends.
func (h *home) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(h.ctx, name, args...)
	cmd.Env = h.env
	cmd.WaitDelay = time.Second // a child of its own may have the pipes still
	return cmd
}

// run runs a program to its end.
func (h *home) run(name string, args ...string) error {
	out, err := h.command(name, args...).CombinedOutput()
	return h.told(name, args[0], err, out)
}

// told returns the error of a program with what it said, or what ended it.
func (h *home) told(name, verb string, err error, said []byte) error {
	if err != nil && h.ctx.Err() != nil {
		err = context.Cause(h.ctx)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, verb, err, bytes.TrimSpace(said))
	}
	return nil
}

// minioReady is the time in which a MinIO server has to be ready.
const minioReady = 30 * time.Second

// minioRow compares reading the large object with what MinIO's client gets of the
// same content from its server, which has it in 8+3 too and verifies what it reads.
func (b *bench) minioRow() (benchResult, error) {
	p := peers["minio"]
	if missing := p.missing(); missing != "" {
		return benchResult{Skipped: missing}, nil
	}
	h, err := b.newHome()
	if err != nil {
		return benchResult{}, err
	}
	defer os.RemoveAll(h.dir)
	if out, err := h.command("mc", "--version").Output(); err != nil || !bytes.Contains(out, []byte("MinIO")) {
		return benchResult{Skipped: "mc is not MinIO's client"}, nil
	}
	big, err := b.filled()
	if err == nil {
		err = big.open(b, blockframe.Options{})
	}
	if err != nil {
		return benchResult{}, err
	}
	stop, err := h.startMinio(minioReady)
	if err != nil {
		return benchResult{}, err
	}
	defer stop()
	if err := p.prepare(h); err != nil {
		return benchResult{}, err
	}
	if err := p.keep(h, b.src); err != nil {
		return benchResult{}, err
	}
	ours := func() (float64, error) { return big.read(b.ctx) }
	for _, warm := range []func() (float64, error){ours, h.minioRead} { // into the page cache
		if _, err := warm(); err != nil {
			return benchResult{}, err
		}
	}
	m, err := b.contest(ours, h.minioRead)
	if err != nil {
		return benchResult{}, err
	}
	return b.speed(m, 4, b.size), nil
}

// startMinio starts a server on a port of the loopback interface and waits until
// it is ready. Then h's programs, which end with it, know it as bench. stop ends it
// and returns when it is gone.
func (h *home) startMinio(patience time.Duration) (stop func(), err error) {
	addr, err := freePort()
	if err != nil {
		return nil, err
	}
	secret := rand.Text()
	h.env = append(h.env, "MINIO_ROOT_USER=bench", "MINIO_ROOT_PASSWORD="+secret, "MC_HOST_bench=http://bench:"+secret+"@"+addr)
	ctx, end := context.WithCancelCause(h.ctx)
	h.ctx = ctx
	var said bytes.Buffer
	cmd := h.command("minio", "server", "--quiet", "--address", addr, h.path("drive{1...11}"))
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		end(err)
		return nil, err
	}
	gone := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		end(fmt.Errorf("ended by itself: %v", cmd.ProcessState))
		close(gone)
	}()
	stop = func() {
		end(errors.New("stopped"))
		<-gone
	}
	if err := minioAnswers(ctx, addr, patience); err != nil {
		end(err) // before stop does, so that it is the cause
		stop()
		return nil, h.told("minio", "server", err, said.Bytes())
	}
	return stop, nil
}

// freePort returns an address on the loopback interface that nobody listens on.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// minioAnswers returns when a server can be written to, or the reason why it never
// will.
func minioAnswers(ctx context.Context, addr string, patience time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("not ready after %v", patience))
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/minio/health/cluster", nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// minioRead returns the seconds in which the client gets the object, to nowhere.
func (h *home) minioRead() (float64, error) {
	var said bytes.Buffer
	cmd := h.command("mc", "cat", "--quiet", "bench/bucket/object")
	cmd.Stderr = &said
	start := time.Now()
	err := cmd.Run()
	return time.Since(start).Seconds(), h.told("mc", "cat", err, said.Bytes())
}
