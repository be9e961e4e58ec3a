package store_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/store"
)

// Decoders never panic, and what they accept encodes to the same bytes. The fuzzer
// cannot find a hash, so each page is tried as it is and with its hash made right.

func FuzzDecodeHeader(f *testing.F) {
	for _, g := range goldens {
		f.Add(g.file(f, 0)[:page])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		recodesOrFails(t, b, store.RecodeHeader)
		recodesOrFails(t, sealHeader(paged(b)), store.RecodeHeader)
	})
}

func FuzzDecodeTrailer(f *testing.F) {
	for _, g := range goldens {
		b := g.file(f, g.code.K)
		f.Add(b[len(b)-page:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		recodesOrFails(t, b, store.RecodeTrailer)
		recodesOrFails(t, sealTrailer(paged(b)), store.RecodeTrailer)
	})
}

// paged returns b cut or filled up to the length of a page.
func paged(b []byte) []byte {
	p := make([]byte, page)
	copy(p, b)
	return p
}

func recodesOrFails(t *testing.T, b []byte, recode func([]byte) ([]byte, error)) {
	t.Helper()
	before := bytes.Clone(b)
	out, err := recode(b)
	require.True(t, bytes.Equal(before, b), "the decoder changed its input")
	if err == nil {
		fVersion.set(before, 1)
		fCompat.set(out, before[fCompat.off:fCompat.off+4]) // features that may be ignored are
		require.True(t, bytes.Equal(before, out))
	}
}

// A blob of any bytes can be inspected.
func FuzzInspect(f *testing.F) {
	for _, g := range goldens {
		f.Add(g.file(f, 0))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		store.Inspect(blobOf(b))
		if len(b) >= 2*page && len(b)%page == 0 {
			b = bytes.Clone(b)
			sealHeader(b[:page])
			sealTrailer(b[len(b)-page:])
			store.Inspect(blobOf(b))
		}
	})
}

func FuzzDecodeManifests(f *testing.F) {
	for _, g := range goldens {
		p, _ := g.plan(f)
		f.Add(p.manifests)
	}
	for _, c := range badManifests {
		f.Add([]byte(c))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		once, err := store.RecodeManifests(b)
		if err != nil {
			return
		}
		twice, err := store.RecodeManifests(once)
		require.NoError(t, err)
		require.Equal(t, string(once), string(twice))
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add(string(store.Key(store.ExtentID{1}, 2, 3, 4, store.UploadID{5})))
	f.Add("00/../../../etc/passwd")
	f.Add(strings.Repeat("-", 120))
	f.Fuzz(func(t *testing.T, s string) {
		key, ok := store.RecodeKey(store.BackendKey(s))
		require.Equal(t, ok, key == store.BackendKey(s))
		require.Equal(t, ok, store.BackendKey(s).Validate() == nil, "both readers of keys agree")
	})
}
