"""What the chains in a bucket hold, found out without this program: the format of docs/format.md.

It reads JSON, zstd, SHA-256 and HMAC by itself and imports nothing of `backups`. Each object has to
be marked with the token key, to follow the one before it, and to make of its source what it says.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import re
import sqlite3
import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import zstandard

from tests.support.bucket_oracle import Bucket

Document = dict[str, Any]
_NUMBERED = re.compile(
    r"(?P<folder>[id])/(?P<number>\d{10})\.inc(\.age)?|p/(?P<pack>\d{10}-\d{10})\.pack"
)


class Broken(AssertionError):
    """An object is not what the format promises."""


@dataclass(frozen=True, order=True)
class Point:
    """A state that the store holds: after `number` increments of a chain; 0 is a set itself.

    `sequence` is its place among all points, `instant` its time in milliseconds since 1970.
    """

    sequence: int
    instant: int
    set_id: str
    chain: str | None
    number: int
    counts: bool = True  # not suspect, and not refuted by a later verdict

    @property
    def id(self) -> str:
        """As lists have it."""
        return f"{self.set_id}.{self.number}" if self.number else self.set_id


@dataclass
class _State:
    """One source, while a chain is replayed: its pages, and their sum."""

    page_size: int
    data: bytearray

    @property
    def sum(self) -> int:
        """Of all pages, computed anew."""
        size = self.page_size
        pages = range(0, len(self.data), size)
        return sum(_page(at // size + 1, self.data[at : at + size]) for at in pages) % 2**128


@dataclass(frozen=True)
class _Chain:
    """The objects of one chain: its head, and its increments as they were stored, from 1."""

    id: str
    head: Document
    increments: Mapping[int, tuple[str, bytes]]  # with the key that it has outside a pack
    documents: Mapping[str, Document]  # `end` and the verdicts, by their name


class ChainOracle:
    """Reads a bucket; objects never change, so each is read once. Raises `Broken`.

    `token_keys` are the entries of TOKEN_ENCRYPTION_KEYS that count, `identity` an age identity.
    """

    def __init__(
        self,
        bucket: Bucket,
        *token_keys: str,
        prefix: str = "backups/",
        identity: str | None = None,
    ) -> None:
        self._bucket = bucket
        self._secrets = [_mark_key(key) for key in token_keys]
        self._prefix = prefix
        self._identity = identity
        self._read = cache(bucket.read)

    def points(self) -> list[Point]:
        """All points in their order, oldest first; their marks and places have been checked."""
        keys = self._bucket.list_keys()
        found = []
        for key in keys:
            if key.startswith(f"{self._prefix}sets/") and key.endswith("/manifest.json"):
                manifest = self._document(key)
                if manifest["kind"] == "set" and manifest["complete"]:
                    instant = datetime.fromisoformat(manifest["instant"]).timestamp() * 1000
                    good = not manifest["suspect"]
                    place = manifest["sequence"], round(instant), manifest["id"]
                    found.append(Point(*place, None, 0, good))
        for chain in self._chains(keys).values():
            found += self._points_of(chain)
        return sorted(found)

    def newest(self, at: int | None = None) -> Point:
        """The newest point that counts; with `at`, of those not later than these milliseconds."""
        return [one for one in self.points() if one.counts and (at is None or one.instant <= at)][
            -1
        ]

    def state(self, point: Point) -> dict[str, bytes]:
        """The databases at a point, by source; every object on the way is replayed and checked."""
        if point.chain is None:
            full = self._full(point.set_id)
            return {source: bytes(data) for source, data in full.items()}
        chain = self._chains(self._bucket.list_keys())[point.chain]
        for number, states in self._replayed(chain):
            if number == point.number:
                for source, state in states.items():
                    self._sound(f"{point.id}, {source}", state)
                return {source: bytes(state.data) for source, state in states.items()}
        raise Broken(f"{point.id} is not there")

    def rows(self, point: Point, query: str, source: str = "tokens") -> list[tuple[Any, ...]]:
        """What a query finds in a source at a point."""
        return rows_in(self.state(point)[source], query)

    def replayed(self) -> Iterator[tuple[Point, Mapping[str, bytearray]]]:
        """Each increment of each chain, with what the sources are after it, until the next."""
        for chain in self._chains(self._bucket.list_keys()).values():
            points = {point.number: point for point in self._points_of(chain)}
            for number, states in self._replayed(chain):
                if number:
                    yield points[number], {name: one.data for name, one in states.items()}

    def lines(self) -> list[Document]:
        """The lines of all increments, chain after chain, without their marks."""
        chains = self._chains(self._bucket.list_keys()).values()
        return [self._line(*one.increments[n]) for one in chains for n in sorted(one.increments)]

    def check(self) -> int:
        """Replay all that there is, differentials beside increments; how many increments."""
        count = 0
        keys = self._bucket.list_keys()
        for chain in self._chains(keys).values():
            sums = {}
            for number, states in self._replayed(chain):
                count += bool(number)
                sums[number] = {source: state.sum for source, state in states.items()}
            for number, key in self._numbered(keys, chain.id, "d"):
                states = self._base(chain)
                stored = self._read(key)
                self._apply(key, self._line(key, stored), stored, states)
                if sums.get(number) != {name: state.sum for name, state in states.items()}:
                    raise Broken(f"{key} makes another state than the increments before it")
        return count

    def _chains(self, keys: list[str]) -> dict[str, _Chain]:
        folders: dict[str, list[str]] = defaultdict(list)
        for key in keys:
            if key.startswith(f"{self._prefix}chains/"):
                folders[key.removeprefix(f"{self._prefix}chains/").partition("/")[0]].append(key)
        found = {}
        for chain, members in folders.items():
            names = {key.rpartition("/")[2]: key for key in members if key.endswith(".json")}
            # A listing may have passed its place just before it was stored.
            names.setdefault("head.json", self._key_of_head(chain))
            documents = {name: self._document(key) for name, key in names.items()}
            head = documents.pop("head.json")
            if head["chain"] != chain or chain != f"{head['set_id']}-{head['instance']}":
                raise Broken(f"the head of {chain} is that of another chain")
            increments = dict(self._stored_increments(keys, chain))
            found[chain] = _Chain(chain, head, increments, documents)
        return found

    def _stored_increments(
        self, keys: list[str], chain: str
    ) -> Iterator[tuple[int, tuple[str, bytes]]]:
        below = f"{self._prefix}chains/{chain}/"
        for number, key in self._numbered(keys, chain, "i"):
            yield number, (key, self._read(key))
        for _, key in self._numbered(keys, chain, "p"):
            stored = self._read(key)
            index = self._line(key, stored)
            start = stored.index(b"\n") + 1
            for member in index["members"]:
                body = stored[start : start + member["bytes"]]
                start += member["bytes"]
                if hashlib.sha256(body).hexdigest() != member["sha256"]:
                    raise Broken(f"increment {member['number']} in {key} is another")
                name = f"{below}i/{member['number']:010}.inc{'.age' if member['sealed'] else ''}"
                yield member["number"], (name, body)

    def _numbered(self, keys: list[str], chain: str, folder: str) -> list[tuple[int, str]]:
        below = f"{self._prefix}chains/{chain}/"
        named = ((key, _NUMBERED.fullmatch(key.removeprefix(below))) for key in keys)
        return [
            (int(name["number"] or 0), key)
            for key, name in named
            if name and (name["folder"] or "p") == folder
        ]

    def _points_of(self, chain: _Chain) -> Iterator[Point]:
        """The lines alone: marks, order, and no number missing or doubled."""
        before, last = (
            hashlib.sha256(self._read(self._key_of_head(chain.id))).hexdigest(),
            (
                chain.head["sequence"],
                0,
            ),
        )
        verdicts = [one for name, one in chain.documents.items() if name.startswith("check-")]
        good = min((one["good"] for one in verdicts if one.get("reason")), default=None)
        for number in range(1, max(chain.increments, default=0) + 1):
            if number not in chain.increments:
                raise Broken(f"{chain.id} lacks its increment {number}")
            key, stored = chain.increments[number]
            line = self._line(key, stored)
            if (line["chain"], line["seq"], line["base_seq"]) != (chain.id, number, number - 1):
                raise Broken(f"{key} is another increment than its key says")
            if line["prev"] != before:
                raise Broken(f"{key} does not follow the object before it")
            place = line["sequence"], line["instant"]
            if place[0] <= last[0] or place[1] < last[1]:
                raise Broken(f"{key} has the place {place}, and the one before it {last}")
            before, last = hashlib.sha256(stored).hexdigest(), place
            counts = not line.get("suspect") and (good is None or number <= good)
            yield Point(*place, chain.head["set_id"], chain.id, number, counts)
        end = chain.documents.get("end.json")
        if end is not None and end["last"] != max(chain.increments, default=0):
            raise Broken(f"{chain.id} ended at {end['last']}, and goes on")

    def _replayed(self, chain: _Chain) -> Iterator[tuple[int, dict[str, _State]]]:
        """The states after each number, 0 being the full; the same objects each time."""
        states = self._base(chain)
        yield 0, states
        for point in self._points_of(chain):
            key, stored = chain.increments[point.number]
            self._apply(key, self._line(key, stored), stored, states)
            yield point.number, states

    def _base(self, chain: _Chain) -> dict[str, _State]:
        full, states = self._full(chain.head["set_id"]), {}
        for source in chain.head["sources"]:
            data = full[source["source"]]
            state = _State(source["page_size"], bytearray(data))
            if hashlib.sha256(data).hexdigest() != source["snapshot_sha256"]:
                raise Broken(f"the full of {chain.id} is not the one that its head names")
            if (
                len(data) != source["pages"] * source["page_size"]
                or _text(state.sum) != source["sum"]
            ):
                raise Broken(f"the head of {chain.id} does not describe {source['source']}")
            states[source["source"]] = state
        return states

    def _apply(self, key: str, line: Document, stored: bytes, states: dict[str, _State]) -> None:
        start = stored.index(b"\n") + 1
        for part in line["sources"]:
            body = stored[start : start + part["bytes"]]
            start += part["bytes"]
            if hashlib.sha256(body).hexdigest() != part["sha256"]:
                raise Broken(f"{key}: the body of {part['source']} is another")
            raw = _unzstd(self._unsealed(body, key))
            state, size, count = states[part["source"]], part["page_size"], part["changed"]
            if len(raw) != count * (4 + size) or size != state.page_size:
                raise Broken(f"{key}: the body of {part['source']} is of another length")
            self._is(key, state, part["pages_before"], part["before"])
            numbers = struct.unpack(f">{count}I", raw[: 4 * count])
            if list(numbers) != sorted(set(numbers)):
                raise Broken(f"{key}: its pages are not in their order")
            end = part["pages_after"] * size
            state.data += bytes(max(0, end - len(state.data)))
            for place, number in enumerate(numbers):
                at, change = (number - 1) * size, raw[4 * count + place * size :][:size]
                old = state.data[at : at + size]
                mixed = int.from_bytes(old, "big") ^ int.from_bytes(change, "big")
                state.data[at : at + size] = mixed.to_bytes(size, "big")
            del state.data[end:]
            self._is(key, state, part["pages_after"], part["after"])
        if start != len(stored):
            raise Broken(f"{key} has bytes after its bodies")

    @staticmethod
    def _is(key: str, state: _State, pages: int, expected: str) -> None:
        if len(state.data) != pages * state.page_size or _text(state.sum) != expected:
            raise Broken(f"{key}: the database is not what it says")

    @staticmethod
    def _sound(what: str, state: _State) -> None:
        if rows_in(bytes(state.data), "PRAGMA integrity_check") != [("ok",)]:
            raise Broken(f"{what}: SQLite finds it damaged")

    def _full(self, set_id: str) -> dict[str, bytes]:
        manifest = self._document(f"{self._prefix}sets/{set_id}/manifest.json")
        found = {}
        for stored in manifest["objects"]:
            body = self._read(stored["key"])
            if hashlib.sha256(body).hexdigest() != stored["sha256"]:
                raise Broken(f"{stored['key']} is not what its manifest says")
            data = self._unsealed(body, stored["key"])
            if stored["key"].removesuffix(".age").endswith(".zst"):
                data = _unzstd(data)
            if hashlib.sha256(data).hexdigest() != stored["snapshot_sha256"]:
                raise Broken(f"what is in {stored['key']} is not what its manifest says")
            found[stored["source"]] = data
        return found

    def _unsealed(self, body: bytes, key: str) -> bytes:
        if not key.endswith(".age"):
            return body
        import pyrage  # noqa: PLC0415 - where something is sealed

        identity = pyrage.x25519.Identity.from_str(self._identity)
        opened = io.BytesIO()
        pyrage.decrypt_io(io.BytesIO(body), opened, [identity])
        return opened.getvalue()

    def _key_of_head(self, chain: str) -> str:
        return f"{self._prefix}chains/{chain}/head.json"

    def _line(self, key: str, stored: bytes) -> Document:
        return self._marked(key, stored.partition(b"\n")[0])

    def _document(self, key: str) -> Document:
        return self._marked(key, self._read(key))

    def _marked(self, key: str, text: bytes) -> Document:
        """The JSON object under a key, whose mark is right."""
        document: Document = json.loads(text)
        below = key.removeprefix(self._prefix)
        mac = document.pop("mac", {"hmac": ""})["hmac"]
        covered = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        told = "\n".join((_kind(below), below, covered)).encode()
        if not any(hmac.digest(secret, told, "sha256").hex() == mac for secret in self._secrets):
            raise Broken(f"{key} does not carry our mark")
        return document


def rows_in(database: bytes, query: str) -> list[tuple[Any, ...]]:
    """What a query finds in the bytes of a database, which may be one in WAL mode."""
    alone = database[:18] + b"\x01\x01" + database[20:]
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(alone)
        return connection.execute(query).fetchall()


def _kind(below: str) -> str:
    folder, _, name = below.rpartition("/")
    kinds = {"i": "increment", "d": "differential", "p": "pack"}
    if below.startswith("chains/") and (kind := kinds.get(folder.rpartition("/")[2])):
        return kind
    return name.removesuffix(".json").partition("-")[0]


def _mark_key(token_key: str) -> bytes:
    plain = base64.urlsafe_b64decode(token_key)
    extracted = hmac.digest(bytes(32), plain, "sha256")
    return hmac.digest(extracted, b"backup mark v1\x01", "sha256")


def _page(number: int, page: bytes | bytearray) -> int:
    return int.from_bytes(hashlib.sha256(number.to_bytes(4, "big") + page).digest()[:16], "big")


def _text(total: int) -> str:
    return f"{total:032x}"


def _unzstd(body: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(body)
