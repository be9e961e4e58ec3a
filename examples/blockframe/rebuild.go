package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/dir"
)

func (a *app) rebuildCommand() *cobra.Command {
	var how blockframe.RebuildOptions
	cmd := &cobra.Command{
		Use:   "rebuild [--dry-run] [--accept]",
		Short: "Bring back what shards prove and the commit log does not name",
		Long: `Look at the shards of all disks for complete files that the commit log does not
name, and give them names below lost+found, never over one that is there. Where no
copy of the log is left (the folders log/ and view/ of all disks are gone), a new log
is made first. It goes on from the newest snapshot of the index, and the segments of
the log behind it, that the disks keep: all is as it was at the end of these. What was
purged and collected since is named as incomplete. What came later, or all where
nothing is kept yet, comes back as far as shards prove it, under the name that it was
put under. Shards know of no renames, deletions, versions, links, empty directories,
policies, retentions and holds, nor of files of up to 4 KiB that were put in the last
minute. Of several contents that had one name each gets a name of its own,
NAME.put-HEX. Where the log is there, the index is made anew from it if it has to.

No shard is changed. gc removes nothing from then on, until rebuild --accept says that
what was found, and what was not, is as it has to be.

Exit codes: 0 there was nothing to do, 3 all that was found has a name now, 4 the log
was lost, and some files are incomplete, or files that have a name cannot be read (they
are named, with what is missing), 5 shards or disks are missing, and nothing is lost.`,
		Args: takes(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.rebuild(cmd.Context(), how) },
	}
	cmd.Flags().BoolVar(&how.DryRun, "dry-run", false, "only tell what would be done, and write nothing")
	cmd.Flags().BoolVar(&how.Accept, "accept", false, "let gc work again")
	return cmd
}

// rebuildRow is what a rebuild found and did.
type rebuildRow struct {
	Type       string `json:"type"` // rebuild
	LogLost    bool   `json:"log_lost"`
	Records    uint64 `json:"records,omitempty"` // of a lost log that were found again
	Shards     int64  `json:"shards"`            // looked at
	Objects    int64  `json:"objects"`           // complete, that no record named
	Named      int64  `json:"named"`             // names given to them
	Bytes      int64  `json:"bytes"`             // of what has a name now
	Incomplete int64  `json:"incomplete"`        // objects
	Lost       int64  `json:"lost"`              // of them: versions that the log names
	Dead       int64  `json:"dead"`              // declared dead by the log
	Logs       int64  `json:"logs"`              // parts of a commit log
	Stray      int64  `json:"stray"`             // shards of which nothing comes
	Strange    int64  `json:"strange"`           // files that are none of ours
	Joined     int64  `json:"joined"`            // shards that count again
	Missing    int64  `json:"missing"`           // shards to be made anew
	Damaged    int64  `json:"damaged"`           // shards to be repaired
	Index      int64  `json:"index"`             // rows of it that were wrong: it was made anew
	Absent     int    `json:"absent"`            // disks
	Disks      int    `json:"disks"`             // taken in
	Accepted   bool   `json:"accepted"`
	DryRun     bool   `json:"dry_run,omitempty"`
	Exit       int    `json:"exit"`
}

func (a *app) rebuild(ctx context.Context, how blockframe.RebuildOptions) error {
	places, err := a.places()
	if err != nil {
		return err
	}
	dirs, err := locate(places)
	if err != nil {
		return err
	}
	bar := a.progress("rebuild", -1)
	defer bar.done()
	how.Progress = func(r blockframe.RebuildReport) { bar.set(r.Blobs) }
	var ferr error
	how.Found = func(f blockframe.Found) {
		if err := a.found(f); ferr == nil {
			ferr = err
		}
	}
	a.names = identities(dirs)
	log := &openLog{a: a}
	opts := blockframe.Options{Dirs: dirs, Logger: slog.New(logHandler{a: a, open: log})}
	r, err := blockframe.Rebuild(ctx, opts, how)
	bar.done()
	log.end(nil, nil)
	if err == nil {
		err = ferr
	}
	if err != nil {
		return explainOpen(err, places[0], dirs)
	}
	row := rebuildRow{"rebuild", r.LogLost, r.Records, r.Blobs, r.Objects, r.Named, r.Bytes, r.Incomplete, r.Lost, r.Dead, r.Logs, r.Stray, r.Strange,
		r.Joined, r.Missing, r.Damaged, r.Index, r.Absent, r.Disks, r.Accepted, how.DryRun, exitOK}
	row.Exit = row.exit()
	if a.json {
		err = writeJSON(a.out, row)
	} else {
		a.rebuildText(&row)
	}
	if err != nil || row.Exit == exitOK {
		return err
	}
	return status(row.Exit)
}

// identities is diskNames for directories of which there may be no store.
func identities(dirs []string) *strings.Replacer {
	var pairs []string
	for _, d := range dirs {
		if id, err := dir.ReadIdentity(nil, filepath.ToSlash(d)); err == nil {
			pairs = append(pairs, "backend "+id.Disk.String(), d, id.Disk.String(), d)
		}
	}
	return strings.NewReplacer(pairs...)
}

// exit returns the exit code: 4 wins over 5 over 3. Where the log was never lost, what is
// incomplete and has no name was never acknowledged, or is known to nobody.
func (r *rebuildRow) exit() int {
	switch {
	case r.Lost > 0, r.Incomplete > 0 && (r.LogLost || !r.Accepted):
		return exitLost
	case r.Missing+r.Damaged > 0 || r.Absent > 0:
		return exitDamaged
	case r.Named+r.Joined+r.Index > 0 || r.LogLost:
		return exitRepaired
	}
	return exitOK
}

// foundRow is something on the disks that no record names.
type foundRow struct {
	Type   string         `json:"type"` // object, incomplete, dead, log or stray
	Name   string         `json:"name,omitempty"`
	To     string         `json:"to,omitempty"` // its name now
	ID     *blockframe.ID `json:"id,omitempty"`
	Size   int64          `json:"size,omitempty"`
	Put    string         `json:"put"`
	Disk   string         `json:"disk,omitempty"`
	Shard  string         `json:"shard,omitempty"`
	Reason string         `json:"reason,omitempty"`
}

// found prints one of them.
func (a *app) found(f blockframe.Found) error {
	if a.json {
		row := foundRow{Type: string(f.State), Name: f.Name, To: f.To, Size: f.Size, Put: f.Upload.String(), Shard: string(f.Key)}
		if !f.ID.IsZero() {
			row.ID = &f.ID
		}
		if !f.Disk.IsZero() {
			row.Disk = f.Disk.String()
		}
		if f.Err != nil {
			row.Reason = f.Err.Error()
		}
		return writeJSON(a.out, row)
	}
	name := quoted(f.Name)
	if f.Name == "" {
		name = "put " + f.Upload.String()
	}
	var err error
	switch f.State {
	case store.FoundObject:
		_, err = fmt.Fprintf(a.out, "%s\n", quoted(f.To))
	case store.FoundIncomplete:
		_, err = fmt.Fprintf(a.out, "INCOMPLETE %s: %s\n", name, oneLine(f.Err.Error()))
	case store.FoundDead:
		_, err = fmt.Fprintf(a.out, "put %v was purged and collected: its shards, from an older copy of a disk, are left alone\n", f.Upload)
	case store.FoundLog:
		_, err = fmt.Fprintf(a.out, "put %v is part of a commit log or a snapshot of it: left alone\n", f.Upload)
	case store.FoundStray:
		_, err = fmt.Fprintf(a.out, "shard %s/data/%s is of no use: %s\n", a.named(f.Disk.String()), f.Key, oneLine(f.Err.Error()))
	}
	return err
}

// rebuildText prints what a person needs.
func (a *app) rebuildText(r *rebuildRow) {
	would := ""
	if r.DryRun {
		would = "would be "
	}
	if r.LogLost && r.Records > 0 {
		fmt.Fprintf(a.out, "no copy of the commit log was left: %smade anew from what the disks keep of it, up to record %d, and %s\n", would, r.Records, plural(r.Shards, "shard", "shards"))
	} else if r.LogLost {
		fmt.Fprintf(a.out, "no copy of the commit log was left: %smade anew from %s\n", would, plural(r.Shards, "shard", "shards"))
	}
	if r.Index > 0 {
		fmt.Fprintf(a.out, "the index was made anew from the log: %s wrong\n", plural(r.Index, "row of it was", "rows of it were"))
	}
	switch {
	case r.Objects+r.Joined == 0:
		fmt.Fprintf(a.out, "%s looked at: nothing to do\n", plural(r.Shards, "shard", "shards"))
	default:
		fmt.Fprintf(a.out, "%srestored below lost+found: %s, %s; %s count again\n", would, plural(r.Named, "file", "files"), human(r.Bytes), plural(r.Joined, "shard", "shards"))
	}
	if r.Incomplete > 0 {
		fmt.Fprintf(a.out, "%s not complete\n", plural(r.Incomplete, "file or put is", "files or puts are"))
	}
	if r.Lost > 0 {
		fmt.Fprintf(a.out, "%s of these have their names still, and not enough shards: the log ended before they were purged, or they are lost\n", plural(r.Lost, "version", "versions"))
	}
	if r.Disks > 0 {
		fmt.Fprintf(a.out, "%s %staken in\n", plural(r.Disks, "disk is", "disks are"), would)
	}
	if r.Absent > 0 {
		fmt.Fprintf(a.out, "%s not there: attach what is left of them and rebuild again\n", plural(r.Absent, "disk is", "disks are"))
	}
	if n := r.Missing + r.Damaged; n > 0 {
		fmt.Fprintf(a.out, "%s missing or damaged: scrub --deep --repair makes whole what can be made whole\n", plural(n, "shard is", "shards are"))
	}
	if !r.Accepted && !(r.DryRun && r.Objects+r.Joined == 0) {
		fmt.Fprintln(a.out, "gc removes nothing until blockframe rebuild --accept")
	}
}
