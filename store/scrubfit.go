package store

import (
	"bytes"
	"encoding/json"
)

// stateJSON returns what is kept of scrubs as JSON. Names have it as they are, as far as
// they are text.
func stateJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// fit gives up entries until the pass is short enough to be kept: escaped, names and errors
// may be several times as long as they are.
func (p *savedPass) fit() {
	for {
		b, err := stateJSON(p)
		if err != nil || len(b) <= savedPassBytes || !p.halve() {
			return
		}
	}
}

// halve keeps half of what is listed, of disks only when nothing else is, and reports
// whether that is less than before.
func (p *savedPass) halve() bool {
	if len(p.Degraded)+len(p.Lost)+len(p.Errors)+len(p.Log.Lost) == 0 {
		less := len(p.Disks) > 0
		p.Disks = p.Disks[:len(p.Disks)/2]
		return less
	}
	p.DegradedMore += int64(len(p.Degraded) - len(p.Degraded)/2)
	p.LostMore += int64(len(p.Lost) - len(p.Lost)/2)
	p.Degraded, p.Lost = p.Degraded[:len(p.Degraded)/2], p.Lost[:len(p.Lost)/2]
	p.Errors, p.Log.Lost = p.Errors[:len(p.Errors)/2], p.Log.Lost[:len(p.Log.Lost)/2]
	return true
}
