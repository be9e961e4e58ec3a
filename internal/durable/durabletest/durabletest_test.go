package durabletest_test

import (
	"io"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/internal/durable"
	"github.com/blockframe/blockframe/internal/durable/durabletest"
)

func TestLogOfWriteFile(t *testing.T) {
	hex := regexp.MustCompile("[0-9a-f]{8}")
	fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{
		Text: func(name string) string { return hex.ReplaceAllString(name, "ID") },
	})
	require.NoError(t, fsys.MkdirAll("/d"))
	require.NoError(t, durable.WriteFile(fsys, "/d/0badcafe", make([]byte, 5000)))
	require.NoError(t, fsys.RenameNew("/d/0badcafe", "/d/x"))
	b, err := durable.ReadFile(fsys, "/d/x", 5000) // looks, and is not recorded
	require.NoError(t, err)
	require.Len(t, b, 5000)
	require.Equal(t, `mkdirall /d
create /d/ID.tmp
write /d/ID.tmp 0+5000
sync /d/ID.tmp
rename /d/ID.tmp -> /d/ID
syncdir /d
renamenew /d/ID -> /d/x
`, fsys.Log())
	require.Equal(t, 7, fsys.Count())
	fsys.Reset()
	require.Empty(t, fsys.Log())
}

func TestHooksAreCalledAroundEachChange(t *testing.T) {
	var seen []string
	fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{
		Before: func(op durabletest.Op) { seen = append(seen, "before "+op.String()) },
		After:  func(op durabletest.Op) { seen = append(seen, "after "+op.String()) },
	})
	f, err := fsys.Create("/f", durable.CreateOptions{Direct: true})
	require.NoError(t, err)
	for range 2 {
		_, err = f.Write(make([]byte, 10))
		require.NoError(t, err)
	}
	_, err = f.WriteAt(make([]byte, 3), 4)
	require.NoError(t, err)
	_, err = f.ReadAt(make([]byte, 3), 4)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.Equal(t, []string{
		"before create /f direct", "after create /f direct",
		"before write /f 0+10", "after write /f 0+10", "before write /f 10+10", "after write /f 10+10",
		"before write /f 4+3", "after write /f 4+3",
	}, seen)
}

// WriteFile under a fault at each of its steps, in both arms: the old content
// or the new, and never another.
func TestFaultsInBothArms(t *testing.T) {
	for n := 1; n <= 5; n++ {
		for _, arm := range []durabletest.Arm{durabletest.Before, durabletest.After} {
			fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
			require.NoError(t, durable.WriteFile(fsys, "/f", []byte("old")))
			fsys.Reset()
			fsys.SetFault(durabletest.Nth(n, arm, syscall.ENOSPC))
			err := durable.WriteFile(fsys, "/f", []byte("new"))
			require.ErrorIs(t, err, durable.ErrNoSpace)
			require.ErrorIs(t, err, syscall.ENOSPC)
			fsys.SetFault(nil)
			b, err := durable.ReadFile(fsys, "/f", 10)
			require.NoError(t, err)
			want := "old"
			if n == 5 || n == 4 && arm == durabletest.After {
				want = "new"
			}
			require.Equal(t, want, string(b), "fault %s change %d", arm, n)
			require.NoError(t, durable.WriteFile(fsys, "/f", []byte("again")))
		}
	}
}

func TestFaultsOfReads(t *testing.T) {
	fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
	require.NoError(t, durable.WriteFile(fsys, "/f", []byte("content")))
	for _, kind := range []durabletest.Kind{durabletest.Open, durabletest.Read, durabletest.Stat} {
		fsys.SetFault(durabletest.All(kind, "f", durabletest.Before, syscall.EIO))
		_, err := durable.ReadFile(fsys, "/f", 10)
		require.ErrorIs(t, err, syscall.EIO, kind)
		fsys.SetFault(durabletest.All(kind, "g", durabletest.Before, syscall.EIO))
		_, err = durable.ReadFile(fsys, "/f", 10)
		require.NoError(t, err)
	}
	fsys.SetFault(durabletest.All(durabletest.Lock, "", durabletest.After, syscall.EIO))
	_, err := fsys.Lock("/LOCK")
	require.ErrorIs(t, err, syscall.EIO)
	fsys.SetFault(nil)
	l, err := fsys.Lock("/LOCK") // the failed one does not hold it
	require.NoError(t, err)
	require.NoError(t, l.Close())
}

// Every crash image of WriteFile holds the old content or the new (I5), and
// the durable one holds the new as soon as WriteFile has returned.
func TestCrashesOfWriteFile(t *testing.T) {
	m := vfs.NewCrashableMem()
	require.NoError(t, durable.WriteFile(durable.Mem(m), "/f", []byte(strings.Repeat("old", 5000))))
	images := 0
	visit := func(img durabletest.Image) {
		images++
		b, err := durable.ReadFile(durable.Mem(img.FS), "/f", 1<<20)
		require.NoError(t, err, img.Op)
		require.Contains(t, []string{strings.Repeat("old", 5000), strings.Repeat("new", 6000)}, string(b), "%s, seed %d", img.Op, img.Seed)
	}
	fsys := durabletest.New(durable.Mem(m), durabletest.Options{After: durabletest.Crashes(m, 3, visit)})
	require.NoError(t, durable.WriteFile(fsys, "/f", []byte(strings.Repeat("new", 6000))))
	require.Equal(t, 5*4, images)
	b, err := durable.ReadFile(durable.Mem(m.CrashClone(vfs.CrashCloneCfg{})), "/f", 1<<20)
	require.NoError(t, err)
	require.Equal(t, strings.Repeat("new", 6000), string(b))
}

// Pebble runs on the wrapped files, its changes are recorded like ours, and it
// meets the faults.
func TestPebbleGoesThroughTheSameDoor(t *testing.T) {
	fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
	db, err := pebble.Open("/db", &pebble.Options{FS: fsys.Pebble(), Logger: quiet{}})
	require.NoError(t, err)
	fsys.Reset()
	require.NoError(t, db.Set([]byte("k"), []byte("v"), pebble.Sync))
	require.NoError(t, db.Flush())
	require.NoError(t, db.Close())
	log := fsys.Log()
	for _, want := range []string{"create /db/", "write /db/", "sync /db/", ".sst", "syncdir /db"} {
		require.Contains(t, log, want)
	}
	fsys.SetFault(durabletest.All(durabletest.Open, "", durabletest.Before, syscall.EIO))
	_, err = pebble.Open("/db", &pebble.Options{FS: fsys.Pebble(), Logger: quiet{}})
	require.ErrorIs(t, err, syscall.EIO)
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(f string, a ...any) {
	panic(f)
}

func TestPebbleFaults(t *testing.T) {
	fsys := durabletest.New(durable.Mem(vfs.NewMem()), durabletest.Options{})
	p := fsys.Pebble()
	require.NoError(t, p.MkdirAll("/d", 0o700))
	for _, arm := range []durabletest.Arm{durabletest.Before, durabletest.After} {
		dir := path.Join("/d", arm.String())
		require.NoError(t, p.MkdirAll(dir, 0o700))
		fsys.SetFault(durabletest.All(durabletest.Write, "", arm, syscall.ENOSPC))
		f, err := p.Create(dir+"/f", vfs.WriteCategoryUnspecified)
		require.NoError(t, err)
		n, err := f.Write([]byte("hello"))
		require.Zero(t, n)
		require.ErrorIs(t, err, syscall.ENOSPC)
		require.NoError(t, f.Close())
		want := map[durabletest.Arm]string{durabletest.Before: "", durabletest.After: "hello"}[arm]
		r, err := p.Open(dir + "/f")
		require.NoError(t, err)
		b, err := io.ReadAll(r)
		require.NoError(t, err)
		require.Equal(t, want, string(b))
		require.NoError(t, r.Close())
	}
	_, err := p.Stat("/none")
	require.ErrorIs(t, err, fs.ErrNotExist)
}
