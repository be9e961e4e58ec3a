package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// benchFlags are those of bench.
type benchFlags struct {
	dir    string
	size   sizeFlag
	rounds int
	quick  bool
	rows   []string
}

func (a *app) benchCommand() *cobra.Command {
	flags := benchFlags{dir: ".", size: 2 << 30, rounds: 7}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure this machine beside its own yardsticks",
		Long: `Measure stores in a temporary directory, each row beside a yardstick that is
measured in the same run, in alternating rounds: absolute times say little on a
machine that others use. The figures are medians. F is one fdatasync on the
directory. Rows beside a peer are skipped where that is not installed: restic,
kopia, par2, and minio with its client mc. The put beside par2 is of 16 MiB at
most, because par2 is slow.

Rows: ` + strings.Join(rowKeys, " "),
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if flags.quick {
				flags.makeQuick(cmd)
			}
			return a.bench(cmd.Context(), flags)
		},
	}
	cmd.Flags().StringVar(&flags.dir, "dir", flags.dir, "directory to measure in; needs four times the size")
	cmd.Flags().Var(&flags.size, "size", "size of the large object")
	cmd.Flags().IntVar(&flags.rounds, "rounds", flags.rounds, "rounds of each row")
	cmd.Flags().BoolVar(&flags.quick, "quick", false, "3 rounds of 256 MiB")
	cmd.Flags().StringSliceVar(&flags.rows, "rows", nil, "rows to measure (default all)")
	return cmd
}

// makeQuick sets what was not given to less.
func (f *benchFlags) makeQuick(cmd *cobra.Command) {
	if !cmd.Flags().Changed("size") {
		f.size = 256 << 20
	}
	if !cmd.Flags().Changed("rounds") {
		f.rounds = 3
	}
}

// check returns what cannot be measured.
func (f *benchFlags) check() error {
	if f.rounds < 1 || f.size < 1<<20 {
		return usagef("%d rounds of %s: at least one round and 1 MiB", f.rounds, human(int64(f.size)))
	}
	for _, key := range f.rows {
		if !slices.Contains(rowKeys, key) {
			return usagef("row %s is not known; there are %s", quoted(key), strings.Join(rowKeys, ", "))
		}
	}
	return nil
}

// bench is a run of measurements.
type bench struct {
	*app
	ctx   context.Context
	flags benchFlags
	dir   string
	size  int64
	src   string // file of size random bytes
	big   *bigStore
}

// benchRow is a row of the table.
type benchRow struct {
	key  string
	work string // %s is the size
	yard string
	run  func(b *bench) (benchResult, error)
}

// benchResult is what a row measured.
type benchResult struct {
	Type      string  `json:"type"` // row
	Row       string  `json:"row"`
	Work      string  `json:"work"`
	Yardstick string  `json:"yardstick"`
	Ours      float64 `json:"ours,omitempty"`
	Theirs    float64 `json:"theirs,omitempty"`
	Unit      string  `json:"unit,omitempty"`
	Rate      string  `json:"rate,omitempty"`  // of ours, for people
	Ratio     float64 `json:"ratio,omitempty"` // what Reach is about
	Reach     string  `json:"reach,omitempty"`
	Reached   bool    `json:"reached"`
	Rounds    int     `json:"rounds,omitempty"`
	Skipped   string  `json:"skipped,omitempty"`

	size int64 // of the object, where it is not that of the large one
}

// machineRow is the first line.
type machineRow struct {
	Type      string  `json:"type"` // machine
	CPUs      int     `json:"cpus"`
	Procs     int     `json:"gomaxprocs"`
	OS        string  `json:"os"`
	Arch      string  `json:"arch"`
	Go        string  `json:"go"`
	Dir       string  `json:"dir"`
	Size      int64   `json:"size"`
	Rounds    int     `json:"rounds"`
	Fdatasync float64 `json:"fdatasync_p50_us"`
}

// bench measures all rows that were asked for. A row that fails is an error; the
// ones before it were printed.
func (a *app) bench(ctx context.Context, flags benchFlags) error {
	if err := flags.check(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(flags.dir, "blockframe-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{app: a, ctx: ctx, flags: flags, dir: dir, size: int64(flags.size)}
	defer func() { b.big.close() }()
	if err := b.machine(); err != nil {
		return err
	}
	for _, row := range benchRows {
		if len(flags.rows) > 0 && !slices.Contains(flags.rows, row.key) {
			continue
		}
		if a.terminal {
			a.remark("measuring %s", row.key)
		}
		res, err := row.run(b)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("bench %s: %w", row.key, err)
		}
		res.Type, res.Row, res.Yardstick = "row", row.key, row.yard
		res.Work = strings.ReplaceAll(row.work, "%s", binarySize(cmp.Or(res.size, b.size)))
		if err := b.print(res); err != nil {
			return err
		}
	}
	return nil
}

// machine prints where the figures come from.
func (b *bench) machine() error {
	f, err := b.fdatasync()
	if err != nil {
		return err
	}
	abs, err := filepath.Abs(b.flags.dir)
	if err != nil {
		return err
	}
	row := machineRow{"machine", runtime.NumCPU(), runtime.GOMAXPROCS(0), runtime.GOOS, runtime.GOARCH, runtime.Version(), abs, b.size, b.flags.rounds, f * 1e6}
	if b.json {
		return writeJSON(b.out, row)
	}
	fmt.Fprintf(b.out, "%d CPUs (GOMAXPROCS %d), %s/%s, %s, in %s\nobject of %s, medians of %s, F = fdatasync p50 = %.0f µs\n\n", row.CPUs, row.Procs, row.OS, row.Arch, row.Go, row.Dir,
		binarySize(b.size), plural(b.flags.rounds, "round", "rounds"), row.Fdatasync)
	return b.out.Flush()
}

// print prints a row as soon as it is measured.
func (b *bench) print(r benchResult) error {
	if b.json {
		return errors.Join(writeJSON(b.out, r), b.out.Flush())
	}
	fmt.Fprintf(b.out, "%s\n", r.Work)
	if r.Skipped != "" {
		fmt.Fprintf(b.out, "    skipped: %s\n", r.Skipped)
		return b.out.Flush()
	}
	verdict := "reached"
	if !r.Reached {
		verdict = "NOT reached"
	}
	fmt.Fprintf(b.out, "    %s %s", figure(r.Ours), r.Unit)
	if r.Rate != "" {
		fmt.Fprintf(b.out, " (%s)", r.Rate)
	}
	fmt.Fprintf(b.out, "; %s: %s %s; %s, to reach %s: %s\n", r.Yardstick, figure(r.Theirs), r.Unit, figure(r.Ratio), r.Reach, verdict)
	return b.out.Flush()
}

// figure returns three digits that count.
func figure(f float64) string {
	switch {
	case f >= 100:
		return fmt.Sprintf("%.0f", f)
	case f >= 10:
		return fmt.Sprintf("%.1f", f)
	case f >= 1:
		return fmt.Sprintf("%.2f", f)
	}
	return fmt.Sprintf("%.3g", f)
}

// binarySize returns a size in the units of memory.
func binarySize(n int64) string {
	switch {
	case n >= 1<<30 && n%(1<<30) == 0:
		return fmt.Sprintf("%d GiB", n>>30)
	case n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return human(n)
}

// contest runs contestants in rounds, each first in turn, and returns the median
// of what each measured.
func (b *bench) contest(contestants ...func() (float64, error)) ([]float64, error) {
	samples := make([][]float64, len(contestants))
	for round := range b.flags.rounds {
		for i := range contestants {
			i = (i + round) % len(contestants)
			if err := b.ctx.Err(); err != nil {
				return nil, err
			}
			runtime.GC() // what one left behind is not the next one's cost
			v, err := contestants[i]()
			if err != nil {
				return nil, err
			}
			samples[i] = append(samples[i], v)
		}
	}
	medians := make([]float64, len(contestants))
	for i := range samples {
		medians[i] = median(samples[i])
	}
	return medians, nil
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	n := len(list)
	if n%2 == 1 {
		return list[n/2]
	}
	return (list[n/2-1] + list[n/2]) / 2
}

// source returns a file of size random bytes in the page cache.
func (b *bench) source() (string, error) {
	if b.src != "" {
		return b.src, nil
	}
	name := filepath.Join(b.dir, "source")
	if err := writeRandom(name, b.size, 1); err != nil {
		return "", err
	}
	b.src = name
	return name, nil
}

// writeRandom writes a file of random bytes.
func writeRandom(name string, size int64, seed byte) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	rnd, buf := rand.NewChaCha8([32]byte{seed}), make([]byte, 1<<20)
	for left := size; left > 0 && err == nil; left -= int64(len(buf)) {
		buf = buf[:min(left, int64(len(buf)))]
		rnd.Read(buf)
		_, err = f.Write(buf)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
