package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/blockframe/blockframe/store"
)

func (a *app) inspectCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "inspect SHARDFILE...",
		Short: "Tell what a shard file says of itself, without its store",
		Long: `Tell what a shard file, which lies in data/ of a disk, says of itself, and whether
it is sound. What the shard is of may still be whole: its store computes what is
bad from the others, and scrub --deep --repair makes the file anew.

Exit codes: 0 all are sound, 1 one is no shard file, 5 one is damaged.`,
		Args: takes(1, -1),
		RunE: func(_ *cobra.Command, args []string) error {
			sound := true
			for _, name := range args {
				ok, err := a.inspect(name)
				if err != nil {
					return err
				}
				if !ok {
					a.remark("%s is damaged", name)
				}
				sound = sound && ok
			}
			if !sound {
				return status(exitDamaged)
			}
			return nil
		},
	}
}

// shardFile is a file as a blob of a backend.
type shardFile struct {
	*os.File
	size int64
}

func (f shardFile) Size() int64 { return f.size }

// inspectRow is what a shard says of itself.
type inspectRow struct {
	File       string `json:"file"`
	Store      string `json:"store"`
	Kind       string `json:"kind"` // object, pack, or another number
	Extent     string `json:"extent"`
	Upload     string `json:"upload"`
	Ordinal    int    `json:"ordinal"`
	Offset     int64  `json:"offset"`
	Length     int64  `json:"length"`
	Code       string `json:"code"`
	Shard      int    `json:"shard"`
	Generation uint32 `json:"generation"`
	Epoch      uint64 `json:"epoch"`
	Size       int64  `json:"size"`
	Hash       string `json:"hash,omitempty"`
	Header     string `json:"header"`
	Trailer    string `json:"trailer"`
	Table      string `json:"table"`
	Blocks     int    `json:"blocks"`
	BadBlocks  []int  `json:"bad_blocks,omitempty"` // stripes
	Manifests  string `json:"manifests,omitempty"`
	Sound      bool   `json:"sound"`
}

// inspect reports on one file, and whether it is sound.
func (a *app) inspect(name string) (bool, error) {
	f, size, err := openFile(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	in, err := store.Inspect(shardFile{f, size})
	if errors.Is(err, store.ErrCorrupt) {
		return false, fmt.Errorf("%s: not a shard file: it has neither the header nor the trailer of one", name)
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	row := newInspectRow(name, in)
	if a.json {
		return row.Sound, writeJSON(a.out, row)
	}
	return row.Sound, a.inspectText(row)
}

func newInspectRow(name string, in store.Inspection) *inspectRow {
	kind := fmt.Sprint(in.Kind)
	switch in.Kind {
	case store.KindObject:
		kind = "object"
	case store.KindPack:
		kind = "pack"
	case store.KindSegment:
		kind = "segment of the log"
	case store.KindSnapshot:
		kind = "snapshot of the index"
	}
	sound := in.Header == "ok" && in.Trailer == "ok" && in.Table == "ok" && len(in.BadBlocks) == 0
	return &inspectRow{File: name, Store: in.StoreID, Kind: kind, Extent: in.Extent.String(), Upload: in.Upload.String(), Ordinal: in.Ordinal,
		Offset: in.Offset, Length: in.Length, Code: in.Code, Shard: in.Shard, Generation: in.Generation, Epoch: in.Epoch, Size: in.Size, Hash: in.Hash,
		Header: in.Header, Trailer: in.Trailer, Table: in.Table, Blocks: in.Blocks, BadBlocks: in.BadBlocks, Manifests: string(in.Manifests), Sound: sound}
}

func (a *app) inspectText(r *inspectRow) error {
	fmt.Fprintf(a.out, "%s: shard %d of extent %s, code %s, generation %d\n", r.File, r.Shard, r.Extent, r.Code, r.Generation)
	fmt.Fprintf(a.out, "  store    %s\n", r.Store)
	of := "a pack"
	switch r.Kind {
	case "object":
		of = "an object"
	case "pack":
	default:
		of = "kind " + r.Kind
	}
	if r.Trailer == "ok" {
		fmt.Fprintf(a.out, "  extent   %d of %s, bytes [%d, %d)\n", r.Ordinal, of, r.Offset, r.Offset+r.Length)
		fmt.Fprintf(a.out, "  hash     %s\n", r.Hash)
	} else { // which says how long the extent is, and what it hashes to
		fmt.Fprintf(a.out, "  extent   %d of %s, from byte %d on\n", r.Ordinal, of, r.Offset)
	}
	fmt.Fprintf(a.out, "  header   %s\n  trailer  %s\n  table    %s\n", r.Header, r.Trailer, r.Table)
	if len(r.BadBlocks) > 0 {
		fmt.Fprintf(a.out, "  blocks   %d, %d of them bad: stripes %v\n", r.Blocks, len(r.BadBlocks), r.BadBlocks)
	} else if r.Table == "ok" {
		fmt.Fprintf(a.out, "  blocks   %d, all good\n", r.Blocks)
	}
	_, err := fmt.Fprint(a.out, r.Manifests)
	return err
}
