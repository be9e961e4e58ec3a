package store_test

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/store"
)

func TestKeysAreValid(t *testing.T) {
	for i := range 300 {
		k := store.Key(store.ExtentID{byte(i), byte(i >> 8)}, 255, 1<<32-1, 1<<64-1, store.UploadID{2})
		require.NoError(t, k.Validate())
		require.True(t, fs.ValidPath(string(k)))
		require.LessOrEqual(t, len(k), 128)
	}
}

// Every key with one byte changed, cut or added is refused, unless it is the key
// of another shard of the extent.
func TestKeysThatAreNot(t *testing.T) { // R14
	good := string(store.Key(store.ExtentID{1}, 0, 0, 0, store.UploadID{2}))
	bad := []string{"", "/", "ab", "ab/", "../x", "/etc/passwd", "00/../../x", good + "0", good + "/x", strings.ToUpper(good), "00" + good[2:]}
	for i := range good {
		bad = append(bad, good[:i], good[:i]+"/"+good[i+1:]+"", good[:i]+"\x00"+good[i+1:], good[:i]+"g"+good[i+1:])
		if i < 35 { // folder and extent
			bad = append(bad, good[:i]+"5"+good[i+1:])
		}
	}
	for _, k := range bad {
		if k == good {
			continue
		}
		require.ErrorIs(t, store.BackendKey(k).Validate(), fs.ErrInvalid, k)
	}
}
