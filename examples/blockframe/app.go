package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/spf13/cobra"
)

// app is one run of the program. All that a command touches besides files and the
// store goes through it.
type app struct {
	stdin    io.Reader
	stdout   io.Writer
	stderr   io.Writer
	terminal bool // standard error is one: progress is shown there

	// The flags of every command.
	stores []string
	lost   []string // copies of the commit log that are given up
	json   bool
	quiet  bool

	out *bufio.Writer // of stdout; flushed when the command ends

	names   *strings.Replacer // of the disks; nil before the store is open
	ill     func() string     // why the store takes no changes, "" if it does; nil before it is open
	illTold bool              // standard error has that already
}

// Exit codes. They are part of the interface.
const (
	exitOK       = 0
	exitError    = 1
	exitUsage    = 2
	exitRepaired = 3
	exitLost     = 4
	exitDamaged  = 5
)

// status is an exit code without a message: the command has said it all.
type status int

func (s status) Error() string { return "exit" }

// usageError is a wrong command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// run runs one command line and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	a.out = bufio.NewWriter(a.stdout)
	a.stderr = &locked{w: a.stderr}
	root := a.command()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if ferr := a.out.Flush(); err == nil {
		err = ferr
	}
	var s status
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &s):
		return int(s)
	}
	a.fail(err)
	return code(err)
}

// locked lets several goroutines write: what the store logs comes from its own.
type locked struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// command builds the tree of commands.
func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:           "blockframe",
		Short:         "Keep files in a store and get them back bit for bit",
		Long:          rootHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          unknown,
	}
	root.SuggestionsMinimumDistance = 2
	root.SetOut(a.out)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	flags := root.PersistentFlags()
	flags.StringArrayVar(&a.stores, "store", nil, "directory of the store; one is enough, or all of them (default $BLOCKFRAME_STORE)")
	flags.StringArrayVar(&a.lost, "assume-lost", nil, "identity of a disk that is gone for good, with a copy of the commit log: go on without it")
	flags.BoolVar(&a.json, "json", false, "print one JSON object on each line")
	flags.BoolVar(&a.quiet, "quiet", false, "neither progress nor remarks")
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(a.helpCommand(root))
	root.AddCommand(
		a.initCommand(), a.putCommand(), a.getCommand(), a.lsCommand(), a.statCommand(), a.rmCommand(), a.mvCommand(),
		a.scrubCommand(), a.inspectCommand(), a.policyCommand(), a.retainCommand(), a.holdCommand(), a.gcCommand(), a.compactCommand(), a.reshapeCommand(), a.rebuildCommand(), a.diskCommand(), a.benchCommand(),
	)
	return root
}

// helpCommand tells about a command; one that is not there is a usage error.
func (a *app) helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Tell about a command",
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil {
				return usageError{err}
			}
			if len(rest) > 0 {
				return unknown(cmd, rest)
			}
			return cmd.Help()
		},
	}
}

const rootHelp = `Keep files in a store and get them back bit for bit.

Exit codes: 0 done and clean, 1 error, 2 usage, 3 damage found and all of it
repaired, 4 data lost or tampered with, 5 damage left and nothing lost.`

// unknown answers a command line without a command that there is.
func unknown(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		if err := cmd.Help(); err != nil {
			return err
		}
		return status(exitUsage)
	}
	msg := "unknown command " + quoted(args[0])
	if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
		msg += "; did you mean " + like[0] + "?"
	}
	return usagef("%s", msg)
}

// takes checks the number of operands, and makes a usage error of the wrong one.
// most -1 is any number.
func takes(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || most >= 0 && len(args) > most {
			return usagef("%d operands; usage: %s", len(args), cmd.UseLine())
		}
		return nil
	}
}
