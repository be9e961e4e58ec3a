package store

// The one hole through which the tests look at what is not exported.

// SlabsLent returns the bytes of the slab budget that are in use.
func (s *Store) SlabsLent() int64 { return s.slabs.inUse() }

// RecodeHeader decodes a header and encodes it again.
func RecodeHeader(b []byte) ([]byte, error) {
	h, err := decodeHeader(b)
	if err != nil {
		return nil, err
	}
	return appendHeader(nil, &h), nil
}

// RecodeTrailer decodes a trailer and encodes it again.
func RecodeTrailer(b []byte) ([]byte, error) {
	t, err := decodeTrailer(b)
	if err != nil {
		return nil, err
	}
	return appendTrailer(nil, &t), nil
}

// RecodeManifests decodes manifests and encodes them again.
func RecodeManifests(b []byte) (out []byte, err error) {
	list, done, err := decodeManifests(b)
	if err != nil {
		return nil, err
	}
	for _, m := range list {
		out = appendLine(out, m)
	}
	if done != nil {
		out = appendLine(out, done)
	}
	return out, nil
}

// RecodeKey parses a key and makes it again.
func RecodeKey(key BackendKey) (BackendKey, bool) {
	k, ok := parseKey(key)
	return Key(k.extent, k.shard, k.generation, k.epoch, k.upload), ok
}
