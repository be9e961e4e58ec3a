package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blockframe/blockframe/store"
	"github.com/blockframe/blockframe/store/mem"
)

// nth makes the nth operation of a kind fail, in one arm, and every later one too if
// sticky. It reports whether it struck.
func nth(kind mem.Kind, n int, arm mem.Arm, err error, sticky bool) (fault func(mem.Op) *mem.Fault, struck func() bool) {
	var mu sync.Mutex
	seen := 0
	return func(op mem.Op) *mem.Fault {
			mu.Lock()
			defer mu.Unlock()
			if op.Kind != kind {
				return nil
			}
			if seen++; seen == n || seen > n && sticky {
				return &mem.Fault{Arm: arm, Err: err}
			}
			return nil
		}, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return seen >= n
		}
}

// missing returns the shards that the catalog knows to be missing.
func (r *rig) missing() (n int) {
	for _, e := range r.cat.allExtents() {
		for _, s := range e.Shards {
			if s.Missing {
				n++
			}
		}
	}
	return n
}

// Each operation of one backend fails in turn, before it happened and after. The
// put succeeds with that shard on the repair queue, which makes it whole; or it fails
// and nothing is to be seen. I1, I2, I3, I5
func TestEveryOperationOfAPutFails(t *testing.T) {
	for name, put := range map[string]func(r *rig) (store.Object, []byte, error){
		"stream": func(r *rig) (store.Object, []byte, error) {
			data := content(1, miB+600_000)
			o, err := r.Put(t.Context(), "x", bytes.NewReader(data), store.PutOptions{Expect: store.AnyVersion})
			return o, data, err
		},
		"small": func(r *rig) (store.Object, []byte, error) {
			data := content(1, 100_000)
			o, err := r.Put(t.Context(), "x", bytes.NewReader(data), store.PutOptions{Expect: store.AnyVersion})
			return o, data, err
		},
		"batch": func(r *rig) (store.Object, []byte, error) {
			data := content(1, 100_000)
			b := r.NewBatch(t.Context())
			b.Put("x", bytes.NewReader(data), store.PutOptions{Expect: store.AnyVersion})
			res, err := b.Commit()
			if err != nil {
				return store.Object{}, data, err
			}
			return res[0].Object, data, nil
		},
	} {
		for _, code := range [][2]int{{2, 1}, {2, 2}} {
			for _, kind := range []mem.Kind{mem.Usage, mem.Create, mem.Write, mem.Commit, mem.Abort, mem.Remove} {
				for _, arm := range []mem.Arm{mem.Before, mem.After} {
					t.Run(fmt.Sprintf("%s %v %s %d", name, code, kind, arm), func(t *testing.T) {
						for n := 1; ; n++ {
							struck := false
							t.Run(fmt.Sprint(n), func(t *testing.T) { struck = putWithFault(t, code, kind, n, arm, put) })
							if !struck || t.Failed() {
								break
							}
						}
					})
				}
			}
		}
	}
}

func putWithFault(t *testing.T, code [2]int, kind mem.Kind, n int, arm mem.Arm, put func(r *rig) (store.Object, []byte, error)) bool {
	r := newRig(t, code[0]+code[1], uncached(code[0], code[1], miB))
	fault, struck := nth(kind, n, arm, errBroken, false)
	r.mems[0].SetFault(fault)
	o, data, err := put(r)
	for _, m := range r.mems {
		m.SetFault(nil)
	}
	if err != nil {
		require.ErrorIs(t, err, errBroken)
		require.Empty(t, r.cat.names)
		if kind != mem.Remove && len(r.cat.extents) == 0 {
			require.Zero(t, r.blobs(), "blobs of a put that failed")
		}
		return struck()
	}
	if code[1] == 1 && struck() && kind != mem.Usage && kind != mem.Abort && kind != mem.Remove && len(r.mems) == len(r.extents(o)[0].Shards) {
		t.Errorf("a put succeeded with fewer than k+1 shards")
	}
	r.reads(o, data)
	if r.missing() > 0 {
		require.Len(t, r.cat.repairs, r.missing(), "missing shards are on the repair queue")
		rep, err := r.Repair(t.Context())
		require.NoError(t, err)
		require.Zero(t, rep.Left, "%v", rep.Errs)
		require.Zero(t, r.missing())
	}
	require.Empty(t, r.cat.repairs)
	r.cleanScrub()
	_, err = r.Collect(t.Context(), store.CollectOptions{})
	require.NoError(t, err)
	r.cleanScrub()
	return struck()
}

// With more failures than the code can do without, or any at all under WriteAll, a
// put fails and leaves nothing.
func TestTooFewShards(t *testing.T) {
	for _, all := range []bool{false, true} {
		t.Run(fmt.Sprint(all), func(t *testing.T) {
			r := newRig(t, 4, func(o *store.Options) { coded(2, 2, miB)(o); o.WriteAll = all })
			failing := 2
			if all {
				failing = 1
			}
			for _, m := range r.mems[:failing] {
				f, _ := nth(mem.Write, 1, mem.Before, errBroken, true)
				m.SetFault(f)
			}
			_, err := r.Put(t.Context(), "x", bytes.NewReader(content(1, 700_000)), store.PutOptions{Expect: store.AnyVersion})
			require.ErrorIs(t, err, errBroken)
			r.nothingLeft()
		})
	}
}

// A full backend is a clear error; what is stored stays readable, and the store
// takes puts again as soon as there is space.
func TestNoSpace(t *testing.T) {
	for _, announced := range []bool{false, true} {
		t.Run(fmt.Sprint(announced), func(t *testing.T) {
			r := newRig(t, 3, uncached(2, 1, miB))
			data, big := content(1, 900_000), content(2, 2*miB)
			o := r.put("old", data)
			opts := store.PutOptions{Expect: store.AnyVersion}
			if announced {
				opts.Size = int64(len(big))
			}
			used := r.blobs()
			for _, m := range r.mems {
				m.SetCapacity(600_000)
			}
			for range 3 {
				_, err := r.Put(t.Context(), "big", bytes.NewReader(big), opts)
				require.ErrorIs(t, err, store.ErrNoSpace)
				_, err = r.Put(t.Context(), "small", bytes.NewReader(big[:200_000]), store.PutOptions{Expect: store.AnyVersion})
				require.ErrorIs(t, err, store.ErrNoSpace)
			}
			require.Equal(t, used, r.blobs())
			r.reads(o, data)
			for _, m := range r.mems {
				m.SetCapacity(1 << 30)
			}
			r.reads(r.put("big", big), big)
			r.reads(r.put("small", big[:200_000]), big[:200_000])
			r.cleanScrub()
		})
	}
}

// Below two healthy backends of several puts are refused, also when the others were
// absent from the beginning; contents in the record itself are not.
func TestTooFewBackends(t *testing.T) {
	t.Run("offline", func(t *testing.T) {
		r := newRig(t, 3, nil)
		r.mems[1].SetOffline(true)
		d := content(1, 700_000)
		for i := range 4 { // the first ones find out
			r.Put(t.Context(), fmt.Sprint(i), bytes.NewReader(d), store.PutOptions{Expect: store.AnyVersion})
		}
		o, err := r.Put(t.Context(), "two left", bytes.NewReader(content(2, 700_000)), store.PutOptions{Expect: store.AnyVersion})
		require.NoError(t, err)
		require.Equal(t, "1+1", r.extents(o)[0].Code.String(), "the default code of two")
		r.mems[2].SetOffline(true)
		for i, n := range []int{100_000, 700_000} {
			_, err := r.Put(t.Context(), "one left", bytes.NewReader(content(uint64(i+3), n)), store.PutOptions{Expect: store.AnyVersion})
			require.Error(t, err)
			_, err = r.Put(t.Context(), "one left", bytes.NewReader(content(uint64(i+3), n)), store.PutOptions{Expect: store.AnyVersion})
			require.ErrorIs(t, err, store.ErrUnavailable, "%d bytes", n)
		}
		r.put("tiny", []byte("in the log"))
	})
	t.Run("absent", func(t *testing.T) {
		r := newRig(t, 1, func(o *store.Options) { o.Absent = []store.BackendID{{8}, {9}} })
		for i, n := range []int{100_000, 700_000} {
			_, err := r.Put(t.Context(), "x", bytes.NewReader(content(uint64(i), n)), store.PutOptions{Expect: store.AnyVersion})
			require.ErrorIs(t, err, store.ErrUnavailable, "%d bytes", n)
		}
		r.nothingLeft()
	})
}

// What a record that may yet take effect relies on is never removed: neither by the
// put that does not know, nor by a collection of the same process.
func TestUncertainPuts(t *testing.T) {
	puts := map[string]func(r *rig) error{
		"stream": func(r *rig) error {
			_, err := r.Put(t.Context(), "x", bytes.NewReader(content(1, 700_000)), store.PutOptions{Expect: store.AnyVersion})
			return err
		},
		"small": func(r *rig) error {
			_, err := r.Put(t.Context(), "x", bytes.NewReader(content(1, 70_000)), store.PutOptions{Expect: store.AnyVersion})
			return err
		},
		"batch": func(r *rig) error {
			b := r.NewBatch(t.Context())
			b.Put("x", bytes.NewReader(content(1, 70_000)), store.PutOptions{Expect: store.AnyVersion})
			b.Put("y", bytes.NewReader(content(2, 700_000)), store.PutOptions{Expect: store.AnyVersion})
			_, err := b.Commit()
			return err
		},
		"inline": func(r *rig) error { return r.PackInline(t.Context()) },
	}
	for name, put := range puts {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 3, coded(2, 1, miB))
			r.put("tiny", []byte("tiny"))
			var late []store.Record
			r.cat.commit = func(rec store.Record) (bool, error) {
				late = append(late, rec)
				return false, fmt.Errorf("log: %w", store.ErrUncertain)
			}
			require.ErrorIs(t, put(r), store.ErrUncertain)
			r.cat.commit = nil
			_, err := r.Collect(t.Context(), store.CollectOptions{})
			require.NoError(t, err)
			for _, rec := range late { // it does take effect
				_, err := r.cat.Commit(t.Context(), rec)
				require.NoError(t, err)
			}
			r.cleanScrub()
			for _, o := range r.cat.names {
				rd := r.open(o)
				_, err := rd.WriteTo(new(bytes.Buffer))
				require.NoError(t, err)
			}
		})
	}
}

// A repair whose commit is uncertain leaves both blobs, whatever becomes of it.
func TestUncertainRepair(t *testing.T) {
	for _, takesEffect := range []bool{false, true} {
		t.Run(fmt.Sprint(takesEffect), func(t *testing.T) {
			r := newRig(t, 3, uncached(2, 1, miB))
			data := content(1, 700_000)
			o := r.put("x", data)
			e := r.extents(o)[0]
			m, key := r.shard(&e, 1)
			m.Flip(key, page+77, 1)
			r.reads(o, data)
			r.cat.commit = func(rec store.Record) (bool, error) {
				if _, ok := rec.Commands[0].(store.Replace); ok {
					return takesEffect, store.ErrUncertain
				}
				return true, nil
			}
			rep, err := r.Repair(t.Context())
			require.NoError(t, err)
			require.EqualValues(t, 1, rep.Left)
			require.ErrorIs(t, errors.Join(rep.Errs...), store.ErrUncertain)
			_, err = r.Collect(t.Context(), store.CollectOptions{})
			require.NoError(t, err)
			require.Equal(t, 4, r.blobs(), "the old one and the new one")
			r.cat.commit = nil
			r.reads(o, data)
			_, err = r.Repair(t.Context())
			require.NoError(t, err)
			r.cleanScrub()
		})
	}
}

// A put that the catalog refuses or cannot take removes what it wrote, or leaves it
// to the next collection.
func TestRefusedByTheCatalog(t *testing.T) {
	r := newRig(t, 3, coded(2, 1, miB))
	o := r.put("x", content(1, 700_000))
	want := r.blobs()
	_, err := r.Put(t.Context(), "x", bytes.NewReader(content(2, 700_000)), store.PutOptions{Expect: 7})
	require.ErrorIs(t, err, errConflict)
	r.cat.commit = func(store.Record) (bool, error) { return false, errBroken }
	for _, n := range []int{10, 70_000, 700_000, 3 * miB} {
		_, err = r.Put(t.Context(), "y", bytes.NewReader(content(3, n)), store.PutOptions{Expect: store.AnyVersion})
		require.ErrorIs(t, err, errBroken)
	}
	r.cat.commit = nil
	rep, err := r.Collect(context.Background(), store.CollectOptions{Unclaimed: true})
	require.NoError(t, err)
	require.EqualValues(t, 3, rep.Orphans, "of the put that was refused")
	require.Equal(t, want, r.blobs())
	r.reads(o, content(1, 700_000))
	require.Len(t, r.cat.names, 1)
}

// A put of several extents that cannot be proposed is given up: those that are recorded
// need not wait for the next open to be collected.
func TestLongPutThatIsNotProposed(t *testing.T) {
	r := newRig(t, 3, coded(2, 1, miB))
	r.cat.commit = func(rec store.Record) (bool, error) {
		if _, ok := rec.Commands[0].(store.Put); ok {
			return false, errBroken
		}
		return true, nil
	}
	_, err := r.Put(t.Context(), "x", bytes.NewReader(content(1, 3*miB)), store.PutOptions{Expect: store.AnyVersion})
	require.ErrorIs(t, err, errBroken)
	var upload store.UploadID
	for _, e := range r.cat.extents {
		upload = e.Upload
	}
	require.Len(t, r.cat.extents, 2)
	last := r.cat.records[len(r.cat.records)-1]
	require.Equal(t, []store.Command{store.Abandon{Upload: upload}}, last.Commands)
}

// A put that fails since it is not certain whether an extent of it was recorded, and that
// could be given up, leaves nothing that a collection does not remove.
func TestUncertainExtent(t *testing.T) {
	for _, takesEffect := range []bool{false, true} {
		for _, given := range []bool{false, true} {
			t.Run(fmt.Sprint(takesEffect, given), func(t *testing.T) {
				r := newRig(t, 3, coded(2, 1, miB))
				r.cat.commit = func(rec store.Record) (bool, error) {
					switch c := rec.Commands[0].(type) {
					case store.AddExtent:
						if c.Extent.Ordinal == 1 {
							return takesEffect, store.ErrUncertain
						}
					case store.Abandon:
						if !given {
							return false, errBroken
						}
					}
					return true, nil
				}
				_, err := r.Put(t.Context(), "x", bytes.NewReader(content(1, 3*miB)), store.PutOptions{Expect: store.AnyVersion})
				require.ErrorIs(t, err, store.ErrUncertain)
				_, err = r.Collect(t.Context(), store.CollectOptions{})
				require.NoError(t, err)
				if given {
					require.Zero(t, r.blobs())
				} else {
					require.Equal(t, 2*3, r.blobs(), "a record may name them yet")
				}
			})
		}
	}
}
