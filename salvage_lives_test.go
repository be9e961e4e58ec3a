package blockframe_test

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe"
	"github.com/blockframe/blockframe/internal/durable"
)

// Streams that were not readable when a store was rebuilt, and nothing was to be adopted:
// they must not win over those of the life that followed.
func TestLaterLifeWins(t *testing.T) {
	r := newKeepRig(t, 4)
	r.history(60)
	r.close()
	kept := func() map[string]bool {
		m := map[string]bool{}
		for _, d := range r.opts.Dirs {
			hhs, _ := r.fs.List(path.Join(d, "data"))
			for _, hh := range hhs {
				names, _ := r.fs.List(path.Join(d, "data", hh))
				for _, n := range names {
					if strings.Contains(n, "-62666b0") {
						m[path.Join(d, "data", hh, n)] = true
					}
				}
			}
		}
		return m
	}
	before := kept()
	for range 5 {
		r.open()
		r.close()
	}
	r.open()
	for i := range 200 { // records, and no shards
		_, err := r.st.Put(t.Context(), fmt.Sprintf("e/%d", i), bytes.NewReader(nil), blockframe.PutOptions{})
		require.NoError(t, err)
		if i%20 == 19 {
			require.NoError(t, r.st.KeepPass(t.Context()))
		}
	}
	r.close()
	loseLogs(t, r.fs, r.opts.Dirs)
	hidden := map[string]string{}
	for name := range kept() {
		if !before[name] {
			require.NoError(t, r.fs.MkdirAll("/hidden"))
			hidden[name] = fmt.Sprintf("/hidden/%d", len(hidden))
			require.NoError(t, r.fs.Rename(name, hidden[name]))
		}
	}
	rebuilt(t, blockframe.WithFS(r.opts, r.fs), blockframe.RebuildOptions{})
	rebuilt(t, blockframe.WithFS(r.opts, r.fs), blockframe.RebuildOptions{Accept: true})
	r.open()
	for i := range 60 {
		_, err := r.st.Put(t.Context(), fmt.Sprintf("life2/%d", i), bytes.NewReader(content(byte(i), 5000)), blockframe.PutOptions{})
		require.NoError(t, err)
		if i%5 == 4 {
			require.NoError(t, r.st.KeepPass(t.Context()))
		}
	}
	r.close()
	loseLogs(t, r.fs, r.opts.Dirs)
	for name, at := range hidden {
		require.NoError(t, r.fs.Rename(at, name))
	}
	rebuilt(t, blockframe.WithFS(r.opts, r.fs), blockframe.RebuildOptions{})
	r.open()
	for i := range 30 {
		_, err := r.st.Stat(t.Context(), fmt.Sprintf("life2/%d", i))
		require.NoError(t, err)
	}
	_, err := r.st.Stat(t.Context(), "e/199")
	require.Error(t, err, "a name of life 1 that life 2 did not know")
}

type keptFile struct {
	name                string
	number, first, last uint64
}

var keptRe = regexp.MustCompile(`"type":"segment","v":1,"put":"[0-9a-f]+","number":(\d+),"first":(\d+),"last":(\d+)`)

// keptSegments finds the blobs of kept segments.
func keptSegments(t testing.TB, fsys durable.FS, dirs []string) (list []keptFile) {
	for _, d := range dirs {
		hhs, err := fsys.List(path.Join(d, "data"))
		require.NoError(t, err)
		for _, hh := range hhs {
			names, _ := fsys.List(path.Join(d, "data", hh))
			for _, n := range names {
				name := path.Join(d, "data", hh, n)
				b, err := durable.ReadFile(fsys, name, 1<<30)
				if err != nil {
					continue
				}
				if m := keptRe.FindSubmatch(b); m != nil && bytes.Contains(b, []byte(`"complete"`)) {
					num := func(i int) uint64 { n, _ := strconv.ParseUint(string(m[i]), 10, 64); return n }
					list = append(list, keptFile{name, num(1), num(2), num(3)})
				}
			}
		}
	}
	return list
}

// A kept segment of a log that was lost, behind one that could not be read, is not taken for
// one of the log that went on from before it.
func TestLivesAreNotMixed(t *testing.T) {
	r := newKeepRig(t, 4)
	r.close()
	r.opts = blockframe.WithSnapshots(r.opts, 8)
	r.open()
	list := r.history(140)
	r.close()
	loseLogs(t, r.fs, r.opts.Dirs)
	segs := keptSegments(t, r.fs, r.opts.Dirs)
	top := uint64(0)
	for _, s := range segs {
		top = max(top, s.number)
	}
	// one kept segment is lost for good, the newest is there
	for _, s := range segs {
		if s.number == top-2 {
			require.NoError(t, r.fs.Remove(s.name))
		}
	}
	rep, _ := rebuilt(t, blockframe.WithFS(r.opts, r.fs), blockframe.RebuildOptions{})
	start := rep.Records
	rebuilt(t, blockframe.WithFS(r.opts, r.fs), blockframe.RebuildOptions{Accept: true})
	r.open()
	i := 0
	for i < len(list) && list[i].last <= start {
		i++
	}
	list = list[:i]
	r.want = map[string][]byte{}
	for o, err := range r.st.List(t.Context(), "", blockframe.ListOptions{}) {
		require.NoError(t, err)
		if o.Mode.IsRegular() && !bytes.HasPrefix([]byte(o.Name), []byte("lost+found/")) {
			b, err := readAll(t.Context(), r.st, o.Name, 0)
			require.NoError(t, err)
			r.want[o.Name] = append([]byte{}, b...)
		}
	}
	var gap uint64
	for _, s := range segs {
		if s.number == top {
			gap = s.first
		}
	}
	// life 2 writes until a segment of it is kept that ends within the last one of life 1
	kept := uint64(0)
	for kept+1 < gap {
		list = append(list, r.history(1)...)
		require.NoError(t, r.st.KeepPass(t.Context()))
		for _, s := range keptSegments(t, r.fs, r.opts.Dirs) {
			if s.number > top {
				kept = max(kept, s.last)
			}
		}
	}
	r.close()
	loseLogs(t, r.fs, r.opts.Dirs)
	rep, _ = rebuilt(t, blockframe.WithFS(r.opts, r.fs), blockframe.RebuildOptions{})
	require.LessOrEqual(t, rep.Records, kept, "records of life 1 were replayed over those of life 2")
	r.open()
	r.checkAt(list, rep.Records)
}
