package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/blockframe/blockframe/internal/frame"
)

const (
	maxLine    = 1 << 20 // bytes of an "object" or "member" line: names and attributes have limits
	maxMembers = 64      // JSON members of a line, unknown ones included
)

// lineKind is the part of a line that says what it is.
type lineKind struct {
	Type string `json:"type"`
	V    int    `json:"v"`
}

// decodeManifests reads a manifests part and checks that its lines hang together:
// one object, perhaps with the line that proves it; or the members of a pack. Lines
// of unknown type are passed over. Memory is proportional to len(b).
func decodeManifests(b []byte) (list []manifest, done *complete, err error) {
	if len(b) > maxManifests {
		return nil, nil, fmt.Errorf("%w: manifests of %d bytes", frame.ErrCorrupt, len(b))
	}
	for n := 1; len(b) > 0; n++ {
		line, rest, ended := bytes.Cut(b, []byte("\n"))
		if b = rest; !ended {
			return nil, nil, fmt.Errorf("%w: manifest line %d has no end", frame.ErrCorrupt, n)
		}
		if list, done, err = decodeLine(list, done, line); err != nil {
			return nil, nil, fmt.Errorf("manifest line %d: %w", n, err)
		}
	}
	return list, done, nil
}

// decodeLine adds one line to what was read before it.
func decodeLine(list []manifest, done *complete, line []byte) ([]manifest, *complete, error) {
	var k lineKind
	if err := decodeJSON(line, &k); err != nil {
		return nil, nil, err
	}
	switch k.Type {
	case "object", "member", "complete":
		if k.V != 1 {
			return nil, nil, fmt.Errorf("%w: manifest version %d", frame.ErrVersion, k.V)
		}
	default:
		return list, done, nil
	}
	if k.Type == "complete" {
		c := &complete{}
		if err := decodeJSON(line, c); err != nil {
			return nil, nil, err
		}
		if done != nil || len(list) != 1 || list[0].Type != "object" || list[0].Put != c.Put {
			return nil, nil, fmt.Errorf("%w: it completes no object, or one for the second time", frame.ErrCorrupt)
		}
		return list, c, c.check()
	}
	if len(line) > maxLine {
		return nil, nil, fmt.Errorf("%w: %d bytes", frame.ErrCorrupt, len(line))
	}
	var m manifest
	if err := decodeJSON(line, &m); err != nil {
		return nil, nil, err
	}
	if len(list) > 0 && (m.Type != "member" || list[0].Type != "member" || list[0].Put != m.Put) {
		return nil, nil, fmt.Errorf("%w: a second object, or one of another put", frame.ErrCorrupt)
	}
	return append(list, m), done, m.check()
}

// decodeJSON decodes one object, in which no member may be there twice: two readers
// would take a different one of them.
func decodeJSON(line []byte, into any) error {
	if !utf8.Valid(line) {
		return fmt.Errorf("%w: not UTF-8", frame.ErrCorrupt)
	}
	if err := json.Unmarshal(line, into); err != nil {
		return fmt.Errorf("%w: %v", frame.ErrCorrupt, err)
	}
	d := json.NewDecoder(bytes.NewReader(line))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("%w: no JSON object", frame.ErrCorrupt)
	}
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return fmt.Errorf("%w: %v", frame.ErrCorrupt, err)
		}
		name := strings.ToLower(t.(string)) // as encoding/json matches them
		if seen[name] || len(seen) == maxMembers {
			return fmt.Errorf("%w: member %q is there twice, or one of too many", frame.ErrCorrupt, name)
		}
		seen[name] = true
		if err := d.Decode(&skipped{}); err != nil {
			return fmt.Errorf("%w: %v", frame.ErrCorrupt, err)
		}
	}
	return nil
}

// skipped is a JSON value of no interest.
type skipped struct{}

func (*skipped) UnmarshalJSON([]byte) error { return nil }

// check returns what is wrong with an object or member line.
func (m *manifest) check() error {
	bad := func(what string) error { return fmt.Errorf("%w: %s", frame.ErrCorrupt, what) }
	xattrs := 0
	for k, v := range m.Xattrs {
		xattrs += len(k) + len(v)
	}
	switch {
	case m.Put == (hexID{}):
		return bad("no put id")
	case !fs.ValidPath(m.Name) || m.Name == "." || len(m.Name) > MaxName:
		return bad(fmt.Sprintf("name %.100q", m.Name))
	case xattrs > MaxXattrBytes || len(m.Policy) > MaxComponent:
		return bad("attributes or name of the policy over the limit")
	case m.Type == "object" && (m.Ordinal == nil || m.Offset == nil || *m.Ordinal < 0 || *m.Offset < 0):
		return bad("no place in the object")
	case m.Type == "member" && (m.ID == nil || m.Size == nil || m.At == nil || *m.Size < 0 || *m.At < 0 || *m.At > MaxExtent-*m.Size):
		return bad("no content, or one outside of the pack")
	}
	return nil
}

// check returns what is wrong with the line that proves an object: the extents must
// follow one another and make up its size.
func (c *complete) check() error {
	at := int64(0)
	for i, e := range c.Extents {
		if e.Offset != at || e.Length < 1 || e.Length > MaxExtent || at > math.MaxInt64-e.Length {
			return fmt.Errorf("%w: extent %d covers [%d, +%d), the ones before end at %d", frame.ErrCorrupt, i, e.Offset, e.Length, at)
		}
		at += e.Length
	}
	if at != c.Size || at == 0 {
		return fmt.Errorf("%w: extents of %d bytes for an object of %d", frame.ErrCorrupt, at, c.Size)
	}
	return nil
}

// extentLines are the extents of an object in order. They are checked one by one as
// they are read, so that a list of nothing much cannot ask for much memory.
type extentLines []extentLine

// UnmarshalJSON reads the list.
func (l *extentLines) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return fmt.Errorf("extents are no list")
	}
	for d.More() {
		var e extentLine
		if err := d.Decode(&e); err != nil {
			return err
		}
		if e.Extent == (hexID{}) || e.Hash == (hexHash{}) || e.Length < 1 {
			return fmt.Errorf("extent %d has no id, hash or length", len(*l))
		}
		*l = append(*l, e)
	}
	return nil
}
