"""Whatever lies in the bucket in place of a document: no fault, little memory, no stray file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backups.format import naming
from backups.format.document import MOST_BYTES, MOST_VALUES
from backups.format.manifest import Aside, dump_aside, dump_drill, dump_verdict
from backups.model import BackupSet, DrillReport, Verdict
from shared.store.directory import DirectoryStore
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.planted_process import Reader, Reading
from tests.support.records import INSTANT

MOST_ABOVE_IDLE = 64 * 1024 * 1024
STRANGER = "20261120T010000Z"
OTHER = "0" * 32


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """An installation with one good set in the store."""
    folder = tmp_path_factory.mktemp("fuzz")
    with open_bench(
        folder, DirectoryStore(folder / "store"), rows=3, clock=FixedClock(INSTANT)
    ) as bench:
        bench.made()
        yield bench


@pytest.fixture(scope="module")
def reader(bench: Bench) -> Iterator[Reader]:
    """Another host, in a process of its own, which reads the same store."""
    with Reader(bench.folder) as reader:
        yield reader


@pytest.fixture(scope="module")
def good(bench: Bench) -> dict[str, dict[str, Any]]:
    """A good document of each kind, by the key where it is planted."""
    (made,) = bench.service.catalogue.sets()
    return good_documents(bench, made)


def good_documents(bench: Bench, made: BackupSet) -> dict[str, dict[str, Any]]:
    """One of each kind that is read."""

    def at(kind: str) -> str:
        return naming.verdict_key(PREFIX, made.id, kind, INSTANT)

    manifest = bench.manifest_of(made.id) | {"id": STRANGER, "instant": "2026-11-20T01:00:00Z"}
    for stored in manifest["objects"]:
        stored["key"] = f"{PREFIX}{stored['source']}_2026-11-20.db"
    now = "2026-11-22T01:00:00Z"
    return {
        naming.manifest_key(PREFIX, STRANGER): manifest,
        at("proof"): json.loads(dump_verdict(Verdict(made.id, INSTANT, "full", ""))),
        at("drill"): json.loads(dump_drill(DrillReport(made.id, INSTANT, 1.5, 3, 0, None))),
        at("aside"): json.loads(
            dump_aside(Aside(1, made.id, INSTANT, "run", restored=STRANGER, aside=False))
        ),
        at("accept"): {"format": 1, "set_id": made.id, "at": now},
        at("mark"): {"format": 1, "set_id": made.id, "at": now, "documents": {"proof": "0" * 64}},
        naming.instance_document_key(PREFIX, OTHER, INSTANT): {
            "format": 1, "instance": OTHER, "host": "h", "machine": None, "directory": "/d",
            "succeeds": [], "at": now, "last_sets": {},
        },
    }  # fmt: skip


KINDS = ["manifest", "proof-", "drill-", "aside-", "accept-", "mark-", "instances/"]


def key_of(kind: str, good: dict[str, dict[str, Any]]) -> str:
    """Where a document of a kind is planted."""
    return next(key for key in good if kind in key)


def check(bench: Bench, found: Reading) -> None:
    """What every document costs at the most."""
    assert found.raised == ""
    assert found.above_idle < MOST_ABOVE_IDLE
    for path in found.written:
        assert path.startswith((f"{bench.folder}/reader", "/dev/", "/proc/")), path


NUMBERS = (
    st.integers()
    | st.sampled_from(
        [2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, 10**30, -1, -(2**63), 10**4000]
    )
    | st.floats()
)
TIMES = st.sampled_from(
    [
        "0001-01-01T00:00:00+14:00", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59.999999Z",
        "9999-12-31T23:59:59-14:00", "2026-11-20T01:00:00Z", "2026-11-22T01:00:00", "yesterday",
    ]
)  # fmt: skip
TEXTS = st.text(max_size=60) | st.sampled_from(
    ["\x1b[2J\x07", "\u202e", "\ud800", "../../x", "x" * 5000, "full", "none", "set", STRANGER]
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS | TIMES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def bent(document: Any, path: list[int], value: Any) -> Any:
    """The document with another value at a place that the numbers lead to."""
    if not path or not isinstance(document, dict | list) or not document:
        return value
    first, *rest = path
    if isinstance(document, list):
        at = first % len(document)
        return [bent(one, rest, value) if n == at else one for n, one in enumerate(document)]
    name = sorted(document)[first % len(document)]
    return {**document, name: bent(document[name], rest, value)}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(st.data())
def test_no_document_does_harm(
    bench: Bench, reader: Reader, good: dict[str, dict[str, Any]], kind: str, data: st.DataObject
) -> None:
    """A good document with other values at some places, other bytes, or no JSON at all."""
    key = key_of(kind, good)
    document: Any = good[key]
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.lists(st.integers(0, 20), min_size=1, max_size=3))
        document = bent(document, path, data.draw(VALUES))
    body = json.dumps(document).encode("utf-8", "surrogatepass")
    if data.draw(st.integers(0, 3)) == 0:
        at = data.draw(st.integers(0, len(body)))
        body = (
            body[:at]
            + data.draw(st.binary(max_size=30))
            + body[at + data.draw(st.integers(0, 9)) :]
        )
    check(bench, reader.read(key, body))


def full(opening: bytes, inner: bytes, closing: bytes) -> bytes:
    """As much of `inner`, between commas, as a document may have."""
    times = (MOST_BYTES - len(opening) - len(closing)) // (len(inner) + 1)
    return opening + b",".join([inner] * times) + closing


HUGE = {
    "empty lists": full(b'{"format":1,"objects":[', b"[]", b"]}"),
    "empty objects": full(b'{"format":1,"objects":[', b"{}", b"]}"),
    "small objects": full(b'{"format":1,"objects":[', b'{"a":1}', b"]}"),
    "numbers": full(b'{"format":1,"objects":[', b"1", b"]}"),
    "long numbers": full(b'{"format":1,"objects":[', b"9" * 4000, b"]}"),
    "fractions": full(b'{"format":1,"objects":[', b"1e9", b"]}"),
    "texts": full(b'{"format":1,"suspect":[', b'""', b"]}"),
    "wide texts": full(b'{"format":1,"suspect":[', '"😀"'.encode(), b"]}"),
    "one long text": b'{"format":1,"id":"' + "é😀".encode() * 160_000 + b'"}',
    "members": b'{"format":1,' + b",".join(b'"%d":0' % n for n in range(100_000)) + b"}",
    "as many faults as may be": b'{"format":1,"objects":['
    + b",".join([b"1"] * (MOST_VALUES - 10))
    + b"]}",
    "as many tables as may be": b'{"format":1,"objects":[{"rows":{'
    + b",".join(b'"%d":-1' % n for n in range(MOST_VALUES - 10))
    + b"}}]}",
    "as many documents as may be": b'{"format":1,"documents":{'
    + b",".join(b'"%d":-1' % n for n in range(MOST_VALUES - 10))
    + b"}}",
    "depth": b'{"a":' * 150_000,
    "depth of lists": b'{"a":' + b"[" * 900_000,
    "depth that ends": b'{"a":' + b"[" * 400_000 + b"]" * 400_000 + b"}",
    "a megabyte more": b'{"format":1}' + b" " * MOST_BYTES,
    "thirty megabytes": b'{"format":1,"objects":[' + b"{}," * 10_000_000 + b"{}]}",
    "UTF-16": '{"format":1}'.encode("utf-16"),
    "a BOM": b'\xef\xbb\xbf{"format":1}',
    "nothing": b"",
}


@pytest.mark.parametrize("name", HUGE)
@pytest.mark.parametrize("kind", ["manifest", "accept-"])
def test_no_size_does_harm(
    bench: Bench, reader: Reader, good: dict[str, dict[str, Any]], kind: str, name: str
) -> None:
    """What is as large, deep or full as it may be, and what is more than that."""
    check(bench, reader.read(key_of(kind, good), HUGE[name]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_document_is_read(
    bench: Bench, reader: Reader, good: dict[str, dict[str, Any]], kind: str
) -> None:
    """The documents that the tests bend are good ones, and the host has the set of the store."""
    key = key_of(kind, good)
    found = reader.read(key, json.dumps(good[key]).encode())
    check(bench, found)
    assert found.latest == naming.set_id(INSTANT)


@pytest.mark.parametrize(
    "name",
    [
        "tokens_9999-12-31.db", "tokens_0001-01-01.db", "tokens_1969-12-31.db.zst",
        "tokens_2025-02-30.db", "sets/00010101T000000Z/manifest.json",
        "sets/99991231T235959Z/manifest.json", "sets/legacy-9999-12-31/proof-99991231T235959Z.json",
        "sets/legacy-0001-01-01/proof-00010101T000000Z.json", "instances/00000000.json",
        "instances/00000000-99991231T235959Z.json", "\x1b[2J.db", "tokens_2026-11-22.db.zst.age",
    ],
)  # fmt: skip
def test_no_key_does_harm(bench: Bench, reader: Reader, name: str) -> None:
    """Keys at the edges of the calendar, of nothing, and of escape sequences."""
    check(bench, reader.read(f"{PREFIX}{name}", b"{}"))
