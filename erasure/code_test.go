package erasure_test

import (
	"encoding/json"
	"io/fs"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/erasure"
)

func TestCodeValidate(t *testing.T) {
	for _, c := range []erasure.Code{{1, 1}, {1, 254}, {254, 1}, {8, 3}, {250, 5}} {
		require.NoError(t, c.Validate(), "%v", c)
		require.Equal(t, c.K+c.M, c.Shards())
	}
	for _, c := range []erasure.Code{{}, {0, 1}, {1, 0}, {-1, 3}, {3, -1}, {1, 255}, {255, 1}, {128, 128}, {math.MaxInt, 1}, {1, math.MaxInt}, {math.MinInt, math.MinInt}, {math.MaxInt, math.MaxInt}} {
		require.ErrorIs(t, c.Validate(), fs.ErrInvalid, "%v", c)
		_, err := erasure.For(c)
		require.ErrorIs(t, err, fs.ErrInvalid, "For(%v)", c) // T7
	}
}

// Every valid code reads back from its text, and nothing else is one.
func TestParseCode(t *testing.T) {
	for k := range 257 {
		for m := range 257 {
			c := erasure.Code{K: k, M: m}
			got, err := erasure.ParseCode(c.String())
			if c.Validate() != nil {
				require.ErrorIs(t, err, fs.ErrInvalid, "ParseCode(%q)", c)
				continue
			}
			require.NoError(t, err)
			require.Equal(t, c, got)
		}
	}
	for _, s := range []string{"", "+", "8", "8+", "+3", "8-3", "8+3 ", " 8+3", "8 + 3", "08+3", "8+03", "+8+3", "8++3", "8+3+1", "-1+3", "1e1+2", "0x8+3", "99999999999999999999+1", "8+3\x00", "８+３"} {
		_, err := erasure.ParseCode(s)
		require.ErrorIs(t, err, fs.ErrInvalid, "ParseCode(%q)", s)
	}
}

func TestCodeText(t *testing.T) {
	b, err := json.Marshal(map[string]erasure.Code{"code": {K: 8, M: 3}})
	require.NoError(t, err)
	require.Equal(t, `{"code":"8+3"}`, string(b))
	var back map[string]erasure.Code
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, erasure.Code{K: 8, M: 3}, back["code"])
	require.Error(t, json.Unmarshal([]byte(`{"code":"8+0"}`), &back))
}

// The table of default codes, in full.
func TestDefaultCode(t *testing.T) {
	want := []string{"0+0", "8+2", "1+1", "2+1", "2+2", "3+2", "4+2", "4+2", "5+3", "5+3", "5+3", "5+3", "8+4", "8+4"}
	for n, code := range want {
		require.Equal(t, code, erasure.DefaultCode(n).String(), "DefaultCode(%d)", n)
	}
	require.Equal(t, "8+4", erasure.DefaultCode(1000).String())
	require.Zero(t, erasure.DefaultCode(-1))
	for n := 2; n < 100; n++ {
		require.LessOrEqual(t, erasure.DefaultCode(n).Shards(), n, "one shard of a stripe for each backend")
	}
}

// What parses is valid and canonical; the rest is fs.ErrInvalid.
func FuzzParseCode(f *testing.F) {
	for _, s := range []string{"8+3", "1+1", "250+5", "255+0", "08+3", "8+3+1", "+", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := erasure.ParseCode(s)
		if err != nil {
			require.ErrorIs(t, err, fs.ErrInvalid)
			require.Zero(t, c)
			return
		}
		require.NoError(t, c.Validate())
		require.Equal(t, s, c.String())
	})
}
