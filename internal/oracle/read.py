#!/usr/bin/env python3
"""Restores the objects of a blockframe store from its shard blobs alone.

usage: read.py DISKDIR... -o OUTDIR [--json]
       read.py --self-test

An independent reader of format version 1: standard Python 3.9 or later and
nothing else, written from the text in the package comment of store/format.go,
from no other code. It reads every blob under DISKDIR/data, verifies all that
has a hash, decodes what is missing or bad, and writes each object that is
complete to OUTDIR/NAME. Disks are never written to.

One line goes to stdout for each object: "ok", name, id, size and the number of
data blocks that had to be computed, or "incomplete", name, id, size and the
reason. Of several objects with one name the one of the highest open epoch gets
the name, the others NAME.put-HEX: blobs do not know the order of versions.
What is damaged, though repaired in the output, is a line on stderr.
Exit code: 0 all complete, 4 something is not, 1 error, 2 usage.
"""
import argparse
import glob
import json
import os
import re
import struct
import sys
import tempfile
from collections import Counter, namedtuple

# BLAKE3 (github.com/BLAKE3-team/BLAKE3-specs). Many chunks are hashed at once:
# word i of all their states is one big integer of 64-bit lanes. A sum or a
# shift overflows into the upper half of its own lane and is masked off there.

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
START, END, PARENT, ROOT = 1, 2, 4, 8


def unrolled():
    """Returns the source of compress: seven rounds without a loop or an index."""
    names = ["v%d" % i for i in range(16)]
    src = ["def compress(h, m, counter, size, flags, one):", "M = one * 0xFFFFFFFF",
           ",".join(names[:8]) + " = h", ",".join("m%d" % i for i in range(16)) + " = m",
           "v8, v9, v10, v11 = %s" % ",".join("%d * one" % w for w in IV[:4]),
           "v12, v13, v14, v15 = counter & M, counter >> 32 & M, size, flags"]
    order = list(range(16))
    for _ in range(7):
        for g in range(8):
            # Four columns, then four diagonals.
            a, b, c, d = [names[4 * row + (g + row * (g // 4)) % 4] for row in range(4)]
            for word, right_d, right_b in ((2 * g, 16, 12), (2 * g + 1, 8, 7)):
                src += ["{a} = {a} + {b} + m{w} & M; {d} ^= {a}; {d} = ({d} >> {p} | {d} << {q}) & M; "
                        "{c} = {c} + {d} & M; {b} ^= {c}; {b} = ({b} >> {r} | {b} << {s}) & M".format(
                            a=a, b=b, c=c, d=d, w=order[word], p=right_d, q=32 - right_d, r=right_b, s=32 - right_b)]
        order = [order[i] for i in PERMUTATION]
    return "\n  ".join(src + ["return [%s]" % ", ".join("v%d ^ v%d" % (i, i + 8) for i in range(8))])


exec(unrolled())


def gather(words, first, step, lanes):
    """Returns words[first::step] as lanes."""
    spread = bytearray(8 * lanes)
    memoryview(spread).cast("I")[::2] = words[first::step]
    return int.from_bytes(spread, "little")


def scatter(h, lanes):
    """Returns the chaining values of all lanes, one behind the other."""
    out = bytearray(32 * lanes)
    for i, x in enumerate(h):
        memoryview(out).cast("I")[i::8] = memoryview(x.to_bytes(8 * lanes, "little")).cast("I")[::2]
    return bytes(out)


def every(lanes):
    return int.from_bytes(b"\1\0\0\0\0\0\0\0" * lanes, "little")


def hashes(items):
    """Hashes [(data, chunk)]: the non-root CV of data that begins at that chunk
    of its stream, or the plain hash where chunk is None."""
    padded, counters, sizes, ends = [], [], [], {}
    for data, chunk in items:
        n = max(1, -(-len(data) // 1024))
        tail = len(data) - 1024 * (n - 1)
        last = max(0, (tail - 1) // 64)  # the block where the last chunk ends
        ends.setdefault(last, []).append((len(counters) + n - 1, tail - 64 * last, n == 1 and chunk is None))
        counters += range(chunk or 0, (chunk or 0) + n)
        padded += [data, bytes(1024 - tail)]
        sizes.append(n)
    lanes = len(counters)
    words, one = memoryview(b"".join(padded)).cast("I"), every(lanes)
    counter = int.from_bytes(struct.pack("<%dQ" % lanes, *counters), "little")
    h, early = [w * one for w in IV], {}
    for block in range(16):
        size, flags = 64 * one, (START * (block == 0) | END * (block == 15)) * one
        for lane, short, root in ends.get(block, ()):
            size -= (64 - short) << 64 * lane
            flags |= (END | ROOT * root) << 64 * lane
        h = compress(h, [gather(words, 16 * block + w, 256, lanes) for w in range(16)], counter, size, flags, one)
        for lane, _, _ in ends.get(block, ()):
            early[lane] = b"".join((x >> 64 * lane & 0xFFFFFFFF).to_bytes(4, "little") for x in h)
    cvs, at, parts = bytearray(scatter(h, lanes)), 0, []
    for lane, cv in early.items():
        cvs[32 * lane:32 * lane + 32] = cv
    for (_, chunk), n in zip(items, sizes):
        parts.append((bytes(cvs[32 * at:32 * (at + n)]), chunk is None))
        at += n
    return folds(parts)


def folds(parts):
    """Folds [(cvs, root)] level by level, which is the same as left-full: an odd
    CV at the end waits for the level that it is a child of."""
    parts = [list(p) for p in parts]
    while any(len(cvs) > 32 for cvs, _ in parts):
        pairs = [len(cvs) // 64 for cvs, _ in parts]
        lanes, flags, at = sum(pairs), 0, 0
        words, one = memoryview(b"".join(cvs[:64 * n] for n, (cvs, _) in zip(pairs, parts))).cast("I"), every(sum(pairs))
        for n, (cvs, root) in zip(pairs, parts):
            flags |= (ROOT * (root and len(cvs) == 64)) << 64 * at
            at += n
        up = scatter(compress([w * one for w in IV], [gather(words, w, 16, lanes) for w in range(16)],
                              0, 64 * one, flags | PARENT * one, one), lanes)
        at = 0
        for n, part in zip(pairs, parts):
            part[0] = up[32 * at:32 * (at + n)] + part[0][64 * n:]
            at += n
    return [cvs for cvs, _ in parts]


def fold(cvs, root):
    return folds([(cvs, root)])[0]


def blake3(data):
    """Hashes data of any length, half a MiB at a time."""
    step = 1 << 19
    if len(data) <= step:
        return hashes([(data, None)])[0]
    return fold(b"".join(hashes([(bytes(data[i:i + step]), i // 1024)])[0] for i in range(0, len(data), step)), True)


# GF(2^8) with polynomial 0x11D: EXP[i] is 2 to the power i, MUL[a][b] a times b.

EXP, LOG = [1], {}
for _ in range(254):
    EXP.append(EXP[-1] << 1 ^ (0x11D if EXP[-1] & 0x80 else 0))
for _i, _x in enumerate(EXP):
    LOG[_x] = _i
MUL = [bytes(EXP[(LOG[a] + LOG[b]) % 255] if a and b else 0 for b in range(256)) for a in range(256)]


def power(a, n):
    return 1 if n == 0 else 0 if a == 0 else EXP[LOG[a] * n % 255]


def combine(factors, rows, size):
    """Returns the sum of factor times row, byte by byte."""
    total = 0
    for f, row in zip(factors, rows):
        if f:
            total ^= int.from_bytes(row.translate(MUL[f]), "little")
    return total.to_bytes(size, "little")


def invert(matrix):
    k = len(matrix)
    rows = [row + bytes(i == j for j in range(k)) for i, row in enumerate(matrix)]
    for c in range(k):
        pivot = next(r for r in range(c, k) if rows[r][c])
        rows[c], rows[pivot] = rows[pivot], rows[c]
        rows[c] = rows[c].translate(MUL[EXP[-LOG[rows[c][c]] % 255]])
        for r in range(k):
            if r != c and rows[r][c]:
                rows[r] = combine((1, rows[r][c]), (rows[r], rows[c]), 2 * k)
    return [row[k:] for row in rows]


def coding_matrix(k, m):
    v = [bytes(power(r, c) for c in range(k)) for r in range(k + m)]
    top = invert(v[:k])
    return [combine(row, top, k) for row in v]


# The blob.

GRID, BLOCK, MAX_EXTENT = 4096, 1 << 16, 256 << 20
MAGIC, MAGIC_END = bytes.fromhex("894246530D0A1A0A"), bytes.fromhex("424653454E440D0A")
OBJECT, PACK = 1, 2
HEAD = struct.Struct(">8sHHII16s16s16sIQ8BIIQ")
TAIL = struct.Struct(">QB7x9Q32s32s32s32s32s32sQ")
Head = namedtuple("Head", "magic version zero incompatible compatible store extent put generation epoch "
                  "kind shard k m block code transform hash key_epoch ordinal offset")
Tail = namedtuple("Tail", "length whole blocks_at blocks table_at table manifests_at manifests extra_at extra size "
                  "extent_hash parity_root descriptor table_hash manifests_hash extra_hash packs_at")
NAME = re.compile(r"[0-9a-f]{2}/([0-9a-f]{32})-([0-9a-f]{2})-([0-9a-f]{8})-([0-9a-f]{16})-([0-9a-f]{32})$")
EMPTY = blake3(b"")


class Refused(Exception):
    """What was written by a newer version, or is of a kind this reader has no text for."""


def note(place, what):
    print("damage: %s: %s" % (place, what), file=sys.stderr)


def align(n):
    return -(-n // GRID) * GRID


def parse_head(page, hashed):
    """Returns the Head a page begins with, None if the page is damaged. Its
    version is compared before its hash."""
    if page[:8] != MAGIC:
        return None
    head = Head(*HEAD.unpack_from(page))
    if head.version != 1:
        raise Refused("format version %d" % head.version)
    if blake3(page[:hashed]) != page[hashed:hashed + 32]:
        return None
    if head.incompatible:
        raise Refused("incompatible feature bits %#x" % head.incompatible)
    if (head.block, head.code, head.transform, head.hash, head.key_epoch) != (16, 1, 0, 1, 0):
        raise Refused("block size, code, transform, hash or key epoch not of version 1")
    return head


class Geometry:
    """Where the blocks of an extent are. Block b is column b % k of stripe b // k."""

    def __init__(self, k, m, length):
        self.k, self.m, self.length = k, m, length
        self.blocks = -(-length // BLOCK)
        self.stripes = -(-self.blocks // k)
        self.table = 32 * (self.blocks + (self.stripes * m if k > 1 else 0))

    def block(self, b):
        return max(0, min(BLOCK, self.length - b * BLOCK))

    def shard(self, i, s):
        """Returns the length of the block of shard i in stripe s."""
        return self.block(s * self.k + (i if i < self.k else 0))

    def entry(self, i, s):
        """Returns the index of that block in the table."""
        if i < self.k or self.k == 1:
            return s * self.k + i % self.k
        return self.blocks + s * self.m + i - self.k

    def layout(self, i, manifests, extra):
        """Returns offset and length of the four parts of shard i, and the length of the blob."""
        at, out = GRID, []
        for size in ((self.stripes - 1) * BLOCK + self.shard(i, self.stripes - 1), self.table, manifests, extra):
            out += [at, size]
            at = align(at + size)
        return tuple(out + [at + GRID])


class Blob:
    """One file of a disk. extent, shard and generation are those of its trailer or
    header, and where both are lost those of its name: blocks are verified anyway."""

    def __init__(self, path):
        self.path, self.size, self.file = path, os.path.getsize(path), None
        self.head = self.tail = self.extent = self.refused = None
        name = NAME.search(path.replace(os.sep, "/"))
        if self.size < 2 * GRID and not name:
            return
        first = self.read(0, GRID) or b""
        last = self.read(max(0, self.size - GRID), GRID) or b""
        top = self.part("header", first, 4064)
        self.head = self.part("trailer", last, 4056) if last[4088:] == MAGIC_END else None
        self.tail = self.checked(self.head, Tail(*TAIL.unpack_from(last, 104))) if self.head else None
        known = name or top or self.tail
        self.complain(known and not top and not self.refused, "header")
        self.complain(known and not self.tail and not self.refused, "trailer")
        self.complain(top and any(first[104:4064] + first[4096:]), "header: bytes that should be zero")
        self.complain(self.tail and any(last[113:120] + last[392:4056]), "trailer: bytes that should be zero")
        self.complain(self.tail and top and self.head != top, "header and trailer differ")
        self.head = h = self.head if self.tail else top
        if h:
            self.extent, self.shard, self.generation = h.extent, h.shard, h.generation
            key = "%s/%s-%02x-%08x-%016x-" % (blake3(h.extent)[:1].hex(), h.extent.hex(), h.shard, h.generation, h.epoch)
            self.complain(not name or not name.group().startswith(key), "its name should begin with " + key)
        elif name:
            self.extent, self.shard, self.generation = bytes.fromhex(name.group(1)), int(name.group(2), 16), int(name.group(3), 16)

    def complain(self, wrong, what):
        if wrong:
            note(self.path, what)

    def part(self, what, page, hashed):
        try:
            return parse_head(page, hashed)
        except Refused as e:
            self.refused = str(e)
            note(self.path, "%s: %s" % (what, e))

    def checked(self, h, t):
        """Returns t if all that it says agrees, else None."""
        if not (h.k and h.m and h.k + h.m <= 255 and h.shard < h.k + h.m and 0 < t.length <= MAX_EXTENT) \
                or h.offset % (1 << 20) or t.whole > 1 or t.whole and (h.ordinal or h.offset):
            return note(self.path, "trailer: impossible geometry")
        if t[2:11] != Geometry(h.k, h.m, t.length).layout(h.shard, t.manifests, t.extra) or t.size != self.size:
            return note(self.path, "trailer: offsets and lengths do not fit")
        if blake3(h.extent + struct.pack(">BBIBBQ", h.k, h.m, 1 << h.block, h.code, h.transform, t.length)
                  + t.extent_hash + t.parity_root) != t.descriptor:
            return note(self.path, "trailer: descriptor")
        return t

    def read(self, at, size):
        """Returns the bytes at [at, at+size), None if they cannot be read."""
        try:
            self.file = self.file or open(self.path, "rb")
            self.file.seek(at)
            data = self.file.read(size) if at + size <= self.size else b""
            return data if len(data) == size else None
        except OSError as e:
            note(self.path, e)

    def close(self):
        self.file = self.file and self.file.close()


class Extent:
    """All blobs of an extent, and what the best of their trailers says of them:
    head, tail, and the table; None if no table proves itself."""

    def __init__(self, blobs):
        self.blobs = sorted(blobs, key=lambda b: (b.shard, -b.generation, b.path))
        self.head = self.tail = self.table = None
        self.manifests, self.codes = [], {}
        votes = Counter(self.common(b) for b in self.blobs if b.tail)
        for common, _ in votes.most_common():
            self.table or self.adopt(next(b for b in self.blobs if b.tail and self.common(b) == common))
        if self.table:
            self.blobs = [b for b in self.blobs if b.shard < self.head.k + self.head.m]
            for b in self.blobs:
                if b.tail and self.common(b) != self.common(self):
                    b.tail = note(b.path, "trailer: not that of the other shards")
            self.read_manifests()
        for b in self.blobs:
            b.close()

    @staticmethod
    def common(b):
        """Returns what the trailers of all shards of an extent have in common."""
        h, t = b.head, b.tail
        return (h.store, h.extent, h.put, h.kind, h[12:], t.length, t.whole, t.table, t[11:15], t.packs_at)

    def part(self, b, index, size, want, seen):
        """Returns a part of a blob if its hash is as wanted, else None."""
        data = b.read(self.geometry.layout(b.shard, 0, 0)[index], size)
        if data is not None and (data in seen or blake3(data) == want):
            seen.add(data)
            return data
        return note(b.path, {2: "table", 4: "manifests"}[index])

    def adopt(self, blob):
        """Takes the first table that proves itself against the trailer of blob."""
        h, t = blob.head, blob.tail
        g, seen = Geometry(h.k, h.m, t.length), set()
        self.geometry = g
        for b in self.blobs:
            if b.shard < h.k + h.m:
                self.part(b, 2, g.table, t.table_hash, seen)
        for table in seen:
            if fold(table[:32 * g.blocks], t.whole == 1) != t.extent_hash or blake3(table[32 * g.blocks:]) != t.parity_root:
                return note(blob.path, "table contradicts extent hash or parity root")
            self.head, self.tail, self.table = h, t, table

    def read_manifests(self):
        """Collects the lines of all manifest parts. The part of a shard without a
        trailer has the length and hash of another's."""
        full, seen = max((b.tail for b in self.blobs if b.tail), key=lambda t: t.manifests), set()
        for b in self.blobs:
            has = self.head.kind == OBJECT or b.shard == 0 or b.shard >= self.head.k
            t = b.tail or full
            self.part(b, 4, t.manifests if has else 0, t.manifests_hash if has else EMPTY, seen)
            if b.tail:
                b.complain(t.extra or t.extra_hash != EMPTY, "extra part: not empty")
                for at, size in zip(t[2:10:2], t[3:10:2]):
                    b.complain(any(b.read(at + size, align(at + size) - at - size) or b""), "gap after the part at %d: not zero" % at)
        lines = dict.fromkeys(line for part in sorted(seen) for line in part.split(b"\n"))
        self.manifests = list(parse_lines(b"\n".join(lines), self.head.extent.hex()))

    def verify(self, blocks):
        """Returns those of {(shard, stripe): data} that their table entries prove."""
        g, items = self.geometry, []
        for (i, s), data in blocks.items():
            e = g.entry(i, s)
            plain = e >= g.blocks or (self.tail.whole == 1 and g.blocks == 1)
            items.append((data, None if plain else (self.head.offset + e * BLOCK) // 1024))
        ok = {}
        for (place, data), got in zip(blocks.items(), hashes(items) if items else ()):
            e = g.entry(*place)
            if got == self.table[32 * e:32 * e + 32]:
                ok[place] = data
        return ok

    def stripe(self, s):
        """Returns {shard: block} of the blocks of stripe s that are good in some
        blob, the newest generation first. Absent data blocks are good and empty."""
        g, good = self.geometry, {}
        waiting = [b for b in self.blobs if g.shard(b.shard, s)]
        good.update((i, b"") for i in range(g.k) if not g.shard(i, s))
        while waiting:
            turn, later = {}, []
            for b in waiting:
                if b.shard in turn:
                    later.append(b)
                elif b.shard not in good:
                    turn[b.shard] = b
            read = {(i, s): b.read(GRID + s * BLOCK, g.shard(i, s)) for i, b in turn.items()}
            ok = self.verify({place: data for place, data in read.items() if data is not None})
            for i, b in turn.items():
                if (i, s) in ok:
                    good[i] = ok[i, s]
                else:
                    note(b.path, "block of stripe %d" % s)
            waiting = later
        return good

    def decode(self, i, s, good):
        """Returns data block i of stripe s from any k good blocks, None if there
        are fewer or the result is not what the table says."""
        g = self.geometry
        rows = tuple(sorted(good)[:g.k])
        if len(rows) < g.k:
            return None
        if rows not in self.codes:
            matrix = coding_matrix(g.k, g.m)
            self.codes[rows] = invert([matrix[r] for r in rows])
        size = g.block(s * g.k)
        data = combine(self.codes[rows][i], [good[r].ljust(size, b"\0") for r in rows], size)[:g.shard(i, s)]
        if not self.verify({(i, s): data}):
            return note(self.head.extent.hex(), "stripe %d: the code and the table disagree" % s)
        return data

    def blocks(self):
        """Yields (data, computed) for every data block in order, data None if lost."""
        g = self.geometry
        for s in range(g.stripes):
            good = self.stripe(s)
            for i in range(min(g.k, g.blocks - s * g.k)):
                yield (good[i], False) if i in good else (self.decode(i, s, good), True)
        for b in self.blobs:
            b.close()


# Manifests and objects.

LINES = {"object": {"put": str, "name": str},
         "complete": {"put": str, "id": str, "size": int, "extents": list},
         "member": {"put": str, "name": str, "id": str, "size": int, "at": int}}


def parse_lines(data, place):
    for line in filter(None, bytes(data).split(b"\n")):
        try:
            value = json.loads(line.decode("utf-8"))
            fields = LINES.get(value["type"], {"v": int})
            if not all(isinstance(value[f], kind) for f, kind in fields.items()):
                raise ValueError("a member is of the wrong type")
            if value["type"] in LINES and value["v"] == 1:
                yield value
        except (ValueError, KeyError, TypeError, RecursionError) as e:
            note(place, "manifest line: %r" % e)


class Lost(Exception):
    """Why an object is not complete."""


def content_id(value):
    if not isinstance(value, str) or not re.match("b3:[0-9a-f]{64}$", value):
        raise Lost("malformed content id")
    return bytes.fromhex(value[3:])


def ranges(lost):
    """Writes a list of block offsets as ranges of bytes."""
    out = []
    for at in lost:
        if out and out[-1][1] == at:
            out[-1][1] = at + BLOCK
        else:
            out.append([at, at + BLOCK])
    return "lost: " + ", ".join("[%d, %d)" % (lo, hi) for lo, hi in out)


class Store:
    """The extents of the disks, and the objects that their manifests name."""

    def __init__(self, disks, out, as_json):
        self.out, self.as_json, self.failed = out, as_json, False
        found = {}
        for disk in disks:
            for path in sorted(glob.glob(os.path.join(glob.escape(disk), "data", "*", "*"))):
                blob = Blob(path) if os.path.isfile(path) else None
                if blob is None or blob.extent is None:
                    note(path, "stray: not a blob")
                else:
                    blob.close()
                    found.setdefault(blob.extent, []).append(blob)
        self.extents = {id: Extent(blobs) for id, blobs in sorted(found.items())}

    def restore(self):
        """Restores everything. What has name, put and id in common is one object,
        of which the first that is complete counts."""
        jobs = sorted(self.objects() + self.members(), key=lambda j: (j["name"], -j["epoch"], j["put"]))
        files, results, pack = {}, {}, None
        for j in jobs:
            j["key"], name = (j["name"], j["put"], j["id"]), j["name"]
            while j["key"] not in files and name in files.values():
                name += ".put-" + j["put"]
            files.setdefault(j["key"], name)
        for j in sorted(jobs, key=lambda j: j["pack"].head.extent if j["pack"] else b""):  # a pack is decoded once
            if results.get(j["key"], {}).get("status") == "ok":
                continue
            result = results[j["key"]] = {"status": "ok", "name": files[j["key"]], "id": j["id"], "size": j["size"], "repaired": 0}
            try:
                if j["pack"] and (pack is None or pack[0] is not j["pack"]):
                    pack = (j["pack"],) + self.stream(j["pack"])
                self.write(result["name"], self.member(j, pack[1:], result) if j["pack"] else self.object(j, result))
            except (Lost, OSError, ValueError, KeyError, TypeError, AttributeError) as e:
                result.update(status="incomplete", reason=str(e) if isinstance(e, (Lost, OSError)) else repr(e))
        for key in sorted(results):
            self.say(results[key])
        self.unnamed({j["put"] for j in jobs} | {j["pack"].head.put.hex() for j in jobs if j["pack"]})
        return 4 if self.failed else 0

    def unnamed(self, puts):
        """Reports the extents of which not even the names of objects are left."""
        for id, x in self.extents.items():
            heads = [b.head for b in x.blobs if b.head]
            if not any(h.put.hex() in puts or h.kind not in (OBJECT, PACK) for h in heads):
                why = next((b.refused for b in x.blobs if b.refused), "no shard has trailer, table and manifests")
                self.say({"status": "incomplete", "name": "extent " + id.hex(), "id": "", "size": 0, "reason": why})

    def say(self, result):
        self.failed |= result["status"] != "ok"
        if self.as_json:
            print(json.dumps(result, sort_keys=True))
        else:
            last = result["repaired"] if result["status"] == "ok" else result["reason"]
            name = json.dumps(result["name"])[1:-1]
            print("%s\t%s\t%s\t%d\t%s" % (result["status"], name, result["id"], result["size"], last))

    def objects(self):
        """Returns a job for each put that the lines of an extent name."""
        puts = {}
        for x in self.extents.values():
            for line in x.manifests if x.table and x.head.kind == OBJECT else ():
                put = puts.setdefault(x.head.put, {"put": x.head.put.hex(), "epoch": x.head.epoch, "pack": None,
                                                   "name": "", "id": "", "size": 0, "extents": None})
                if line["type"] == "object":
                    put["name"] = line["name"]
                    if [line["put"], line.get("ordinal"), line.get("offset")] != [put["put"], x.head.ordinal, x.head.offset]:
                        note(x.head.extent.hex(), "object line: put, ordinal or offset")
                elif line["type"] == "complete":
                    put.update(extents=line["extents"], id=line["id"], size=line["size"])
        return list(puts.values())

    def members(self):
        """Returns a job for each member line of each pack. Where no manifest part
        is left, the lines come out of the coded stream."""
        jobs = []
        for x in self.extents.values():
            if x.table and x.head.kind == PACK:
                x.manifests = x.manifests or list(parse_lines(self.stream(x)[0][x.tail.packs_at:], x.head.extent.hex()))
                jobs += [dict(line, epoch=x.head.epoch, pack=x) for line in x.manifests if line["type"] == "member"]
        return jobs

    def object(self, job, result):
        """Yields the bytes of an object, once its extents are proven to be all of it."""
        if job["extents"] is None:
            raise Lost("no line that completes it: its last extent is missing")
        want, at, hashed, list_ = content_id(job["id"]), 0, b"", job["extents"]
        for n, e in enumerate(list_):
            x = self.extents.get(bytes.fromhex(e["extent"]))
            if x is None or x.table is None:
                raise Lost("extent %s at %d: no shard is readable" % (e["extent"], at))
            if (x.head.ordinal, x.head.offset, e["offset"]) != (n, at, at) or x.tail.length != e["length"] \
                    or x.tail.extent_hash.hex() != e["hash"] or x.tail.whole != (len(list_) == 1):
                raise Lost("extent %s at %d is not the one of the manifest" % (e["extent"], at))
            first = list_[0]["length"]
            if len(list_) > 1 and (first & first - 1 or first < 1 << 20 or e["length"] > first
                                   or e["length"] < first and n < len(list_) - 1):
                raise Lost("extent lengths are not equal powers of two")
            at, hashed = at + x.tail.length, hashed + x.tail.extent_hash
        if at != job["size"] or fold(hashed, True) != want:
            raise Lost("extents do not fold to the id")
        lost = []
        for e in list_:
            for n, (data, computed) in enumerate(self.extents[bytes.fromhex(e["extent"])].blocks()):
                result["repaired"] += computed
                if data is None:
                    lost.append(e["offset"] + n * BLOCK)
                yield data or b""
        if lost:
            raise Lost(ranges(lost))

    def stream(self, x):
        """Returns the stream of a pack, lost blocks as zeros, the numbers of computed
        blocks, and the offsets of lost ones."""
        data, computed, lost = bytearray(), set(), []
        for n, (block, was) in enumerate(x.blocks()):
            if was:
                computed.add(n)
            if block is None:
                lost.append(n * BLOCK)
            data += block or bytes(x.geometry.block(n))
        if not lost and x.manifests and list(parse_lines(data[x.tail.packs_at:], x.head.extent.hex())) != x.manifests:
            note(x.head.extent.hex(), "manifests in the stream and beside it differ")
        return data, computed, lost

    def member(self, job, stream, result):
        """Yields the bytes of a member of a pack, hashed whole."""
        data, computed, lost = stream
        lo, hi = job["at"], job["at"] + job["size"]
        if not 0 <= lo <= hi <= job["pack"].tail.packs_at:
            raise Lost("member lies outside of its pack")
        if blake3(data[lo:hi]) != content_id(job["id"]):
            hit = [at for at in lost if at < hi and at + BLOCK > lo]
            raise Lost(ranges(hit) + " of the pack" if hit else "its bytes do not have its id")
        result["repaired"] = sum(n * BLOCK < hi and (n + 1) * BLOCK > lo for n in computed)
        yield bytes(data[lo:hi])

    def write(self, name, pieces):
        """Writes OUTDIR/name, whole or not at all, and nothing outside of OUTDIR."""
        parts = name.split("/")
        if any(p in ("", ".", "..") or "\0" in p or (os.sep != "/" and (os.sep in p or ":" in p)) for p in parts):
            raise Lost("hostile name refused")
        os.makedirs(self.out, exist_ok=True)
        handle, partial = tempfile.mkstemp(prefix=".partial-", dir=self.out)
        try:
            with os.fdopen(handle, "wb") as f:
                for piece in pieces:
                    f.write(piece)
            path = os.path.join(self.out, *parts)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.replace(partial, path)
        except BaseException:
            os.unlink(partial)
            raise


# Official vectors (BLAKE3 repository, test_vectors.json): byte i of the input is i % 251.
VECTORS = {
    0: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
    1: "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
    1023: "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11",
    1024: "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
    1025: "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
    2048: "e776b6028c7cd22a4d0ba182a8bf62205d2ef576467e838ed6f2529b85fba24a",
    2049: "5f4d72f40d7a5f82b15ca2b2e44b1de3c2ef86c426c95c1af0b6879522563030",
    3073: "7124b49501012f81cc7f11ca069ec9226cecb8a2c850cfe644e327d22d3e1cd3",
    7169: "a003fc7a51754a9b3c7fae0367ab3d782dccf28855a03d435f8cfe74605e7817",
    31744: "62b6960e1a44bcc1eb1a611a8d6235b6b4b78f32e7abc4fb4c6cdcce94895c47",
    102400: "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085",
}


def self_test():
    for n, want in VECTORS.items():
        data = bytes(i % 251 for i in range(n))
        assert blake3(data).hex() == want, "BLAKE3 of %d bytes" % n
        # The same in pieces: the CVs of halves, each at its own offset, fold to it.
        for cut in (1 << 10, 1 << 11, 1 << 14, 1 << 16):
            if cut < n <= 2 * cut:
                halves = hashes([(data[:cut], 0), (data[cut:], cut // 1024)])
                assert fold(b"".join(halves), True).hex() == want, "CVs at %d of %d bytes" % (cut, n)
    assert len(set(EXP)) == 255, "2 generates the field"
    for a in range(256):
        assert not a or MUL[a][EXP[-LOG[a] % 255]] == 1, "inverse of %d" % a
    for k, m in ((1, 1), (1, 3), (2, 1), (3, 2), (8, 4), (30, 3), (200, 55)):
        matrix = coding_matrix(k, m)
        assert all(matrix[r] == bytes(r == c for c in range(k)) for r in range(k)), "systematic %d+%d" % (k, m)
        rows = list(matrix[m:])  # the last k rows: as many parity rows as there are
        assert [combine(r, rows, k) for r in invert(rows)] == matrix[:k], "inverse of %d+%d" % (k, m)
    print("self-test ok")


def main():
    parser = argparse.ArgumentParser(description="Restore the objects of a blockframe store from its shard blobs.")
    parser.add_argument("disks", nargs="*", metavar="DISKDIR", help="directory of a disk, holding data/")
    parser.add_argument("-o", metavar="OUTDIR", help="where to write the objects")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("--self-test", action="store_true", help="check BLAKE3 and the code, then exit")
    args = parser.parse_args()
    if args.self_test:
        return self_test()
    if not args.disks or not args.o:
        parser.error("need DISKDIR... and -o OUTDIR")
    for disk in args.disks:
        if not os.path.isdir(disk):
            note(disk, "not a directory")
    return Store(args.disks, args.o, args.json).restore()


if __name__ == "__main__":
    sys.exit(main())
