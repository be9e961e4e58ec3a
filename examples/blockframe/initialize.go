package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/blockframe/blockframe"
)

func (a *app) initCommand() *cobra.Command {
	var disks []string
	var text string
	cmd := &cobra.Command{
		Use:   "init [--disk DIR]... [--code K+M]",
		Short: "Create a store",
		Long: `Create a store on the directories given with --disk, each best on a disk of its
own, or on the directory given with --store alone. Directories must be empty or
absent. Every one of them, and --store, leads to the whole store afterwards.

With one directory the store survives rot, but not the loss of the disk.`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.init(cmd.Context(), disks, text) },
	}
	cmd.Flags().StringArrayVar(&disks, "disk", nil, "directory that takes shards")
	cmd.Flags().StringVar(&text, "code", "", "K data and M parity blocks in each stripe, as 8+3 (default by the number of disks)")
	return cmd
}

// init creates a store. A crash before the lists of disks are written leaves a
// store that is found by all its directories, and init again writes them.
func (a *app) init(ctx context.Context, disks []string, text string) error {
	home, disks, err := a.newPlaces(disks)
	if err != nil {
		return err
	}
	opts := blockframe.Options{Dirs: disks, Logger: a.logger(), Upkeep: blockframe.Upkeep{Off: true}}
	if text != "" {
		if opts.Code, err = blockframe.ParseCode(text); err != nil {
			return usageError{err}
		}
	}
	if err := a.mustBeNew(ctx, home, disks); err != nil {
		return err
	}
	st, err := blockframe.Open(ctx, opts)
	if err != nil {
		return err
	}
	defer st.Close()
	if err := writeLists(home, disks); err != nil {
		return err
	}
	return errors.Join(a.tellInit(st, disks), st.Close())
}

// newPlaces returns the directory that is to lead to the store, "" if there is
// none besides the disks, and the disks, all as absolute paths.
func (a *app) newPlaces(disks []string) (home string, abs []string, err error) {
	places, err := a.places()
	switch {
	case err != nil && len(disks) == 0:
		return "", nil, err
	case len(disks) == 0:
		disks = places
	case len(places) > 1:
		return "", nil, usagef("--disk and more than one --store")
	case len(places) == 1:
		if home, err = filepath.Abs(places[0]); err != nil {
			return "", nil, err
		}
	}
	for _, d := range disks {
		if d, err = filepath.Abs(d); err != nil {
			return "", nil, err
		}
		abs = append(abs, d)
	}
	return home, abs, nil
}

// mustBeNew returns an error if there is a store already.
func (a *app) mustBeNew(ctx context.Context, home string, disks []string) error {
	if home != "" {
		if old, err := readList(home); err == nil {
			return fmt.Errorf("%s leads to a store already, on %s", home, strings.Join(old, ", "))
		}
	}
	st, err := blockframe.Open(ctx, blockframe.Options{Dirs: disks, NoCreate: true, NoRepair: true})
	if errors.Is(err, fs.ErrNotExist) {
		return nil // what is wrong with the directories is told when it is created
	}
	if err != nil {
		return err
	}
	err = fmt.Errorf("%s holds a store already", disks[0])
	if _, lerr := readList(disks[0]); errors.Is(lerr, fs.ErrNotExist) {
		// Its creation was interrupted just before the end, or a program
		// that embeds the library made it.
		if lerr = writeLists(home, disks); lerr == nil {
			err = fmt.Errorf("%w; it can now be found by each of its directories", err)
		}
	}
	return errors.Join(err, st.Close())
}

// initRow is what init prints.
type initRow struct {
	Disks    []string `json:"disks"`
	Code     string   `json:"code"`
	Survives int      `json:"survives"`
}

func (a *app) tellInit(st *blockframe.Store, disks []string) error {
	row := initRow{disks, blockframe.DefaultCode(len(disks)).String(), st.Survives()}
	for _, p := range st.Policies() {
		if p.Prefix == "" && p.MaxSize == 0 {
			row.Code = p.Code.String()
		}
	}
	if a.json {
		return writeJSON(a.out, row)
	}
	fmt.Fprintf(a.out, "store on %s, code %s\n", plural(len(disks), "directory", "directories"), row.Code)
	if row.Survives == 0 {
		fmt.Fprintln(a.out, "survives rot of any block, but not the loss of the disk")
		return nil
	}
	fmt.Fprintf(a.out, "survives the loss of any %s\n", plural(row.Survives, "disk", "disks"))
	return nil
}
