"""The contract of `ObjectStore`, over a folder, a real S3 server, and the same over TLS."""

from __future__ import annotations

import io
import os
import random
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pytest

from shared.errors import AppError, ObjectExists, ObjectMissing, StoreError
from shared.store.directory import DirectoryStore
from shared.store.object_store import CHUNK_BYTES, DocumentStore
from shared.store.spaces import SpacesStore
from tests.support.s3_server import S3Server

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

METADATA = {"sha256": "5e884898da28", "set-id": "20261122T010000Z"}
OTHER_METADATA = {**METADATA, "sha256": "000000000000"}


@dataclass(frozen=True)
class Place:
    """A store under test, a prefix that no other test uses, and its objects seen from outside."""

    store: DocumentStore
    prefix: str
    stored_bytes: Callable[[str], bytes]
    outside: Path

    def put(self, name: str, body: bytes, metadata: dict[str, str] | None = None) -> str:
        key = self.prefix + name
        self.store.put(key, io.BytesIO(body), METADATA if metadata is None else metadata)
        return key

    def get(self, key: str) -> bytes:
        sink = io.BytesIO()
        self.store.get(key, sink)
        return sink.getvalue()

    def now(self) -> datetime:
        """By the clock that gives the objects their times: a folder has that of its files."""
        if isinstance(self.store, DirectoryStore):
            probe = self.outside / "probe"
            probe.touch()
            return datetime.fromtimestamp(probe.stat().st_mtime, UTC)
        return datetime.now(UTC)

    def keys(self, prefix: str = "") -> list[str]:
        return [found.key for found in self.store.list(self.prefix + prefix)]


@pytest.fixture(scope="module")
def contract_bucket(s3_server: S3Server) -> str:
    name = f"contract-{uuid.uuid4().hex}"
    s3_server.create_bucket(name)
    return name


@pytest.fixture(scope="module")
def http_store(s3_server: S3Server, contract_bucket: str) -> SpacesStore:
    return SpacesStore(s3_server.settings(contract_bucket))


@pytest.fixture(scope="module")
def tls_store(s3_tls_server: S3Server, contract_bucket: str) -> SpacesStore:
    return SpacesStore(s3_tls_server.settings(contract_bucket))


@pytest.fixture(scope="module")
def client(s3_server: S3Server) -> S3Client:
    return s3_server.client()


@pytest.fixture
def folder(tmp_path: Path) -> Place:
    root = tmp_path / "outside" / "store"
    return Place(
        DirectoryStore(root),
        f"{uuid.uuid4().hex}/",
        lambda key: (root / key).read_bytes(),
        tmp_path,
    )


@pytest.fixture
def spaces_place(
    http_store: SpacesStore, client: S3Client, contract_bucket: str, tmp_path: Path
) -> Place:
    return bucket_place(http_store, client, contract_bucket, tmp_path)


def bucket_place(store: SpacesStore, client: S3Client, bucket: str, outside: Path) -> Place:
    return Place(
        store,
        f"{uuid.uuid4().hex}/",
        lambda key: client.get_object(Bucket=bucket, Key=key)["Body"].read(),
        outside,
    )


@pytest.fixture(
    params=["directory", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("http", "tls"))]
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "directory":
        found: Place = request.getfixturevalue("folder")
        return found
    store: SpacesStore = request.getfixturevalue(f"{request.param}_store")
    client: S3Client = request.getfixturevalue("client")
    return bucket_place(store, client, request.getfixturevalue("contract_bucket"), tmp_path)


# --- round trips ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 9_000_000])
def test_the_bytes_come_back(place: Place, size: int) -> None:
    """What was put is got, byte for byte, and is stored as it is for anyone who looks."""
    body = random.Random(size).randbytes(size)

    key = place.put("a.db", body)

    assert place.get(key) == body
    assert place.stored_bytes(key) == body
    assert place.store.head(key).size == size


def test_head_tells_size_time_and_metadata(place: Place) -> None:
    """`head` gives what was put with the object, and when, with a time zone."""
    key = place.put("a.db", b"content")

    found = place.store.head(key)

    assert (found.key, found.size, dict(found.metadata)) == (key, 7, METADATA)
    assert abs(found.modified_at - place.now()) < timedelta(minutes=1)


def test_names_of_metadata_come_back_in_lower_case(place: Place) -> None:
    """S3 has no capitals in these names, so no store has; the same put again is still an echo."""
    key = place.put("a.db", b"content", {"Set-Id": "X", "SHA256": "Y"})

    place.put("a.db", b"content", {"Set-Id": "X", "SHA256": "Y"})

    assert dict(place.store.head(key).metadata) == {"set-id": "X", "sha256": "Y"}


def test_an_object_may_have_no_metadata(place: Place) -> None:
    """Without metadata there is none, rather than an error."""
    key = place.put("a.db", b"content", {})

    assert dict(place.store.head(key).metadata) == {}


@pytest.mark.parametrize("position", [3, 7])
def test_all_of_the_body_is_stored(place: Place, position: int) -> None:
    """A body that was read before, to hash it, is stored from its beginning."""
    body = io.BytesIO(b"content")
    body.seek(position)

    place.store.put(place.prefix + "a.db", body, METADATA)

    assert place.get(place.prefix + "a.db") == b"content"


def test_a_body_from_a_file_is_stored(place: Place, tmp_path: Path) -> None:
    """An open file is a body, and is left open for its owner to close."""
    path = tmp_path / "sealed"
    path.write_bytes(os.urandom(3 * CHUNK_BYTES))

    with path.open("rb") as body:
        place.store.put(place.prefix + "a.db", body, METADATA)
        assert not body.closed

    assert place.get(place.prefix + "a.db") == path.read_bytes()


@pytest.mark.parametrize(
    "name",
    [
        "a b.db",
        "%2F.db",
        "a+b&c=d?e#f.db",
        "ä€😀.db",
        "quote'\".db",
        "a.db.zst.age",
        ".hidden",
        "~",
    ],
)
def test_a_key_may_have_any_printable_character(place: Place, name: str) -> None:
    """A key comes back from the listing as it was put, whatever HTTP does with its characters."""
    key = place.put(name, b"content")

    assert place.get(key) == b"content"
    assert place.keys() == [key]


# --- listing ----------------------------------------------------------------------------


def test_a_listing_has_the_prefix_and_the_order_of_keys(place: Place) -> None:
    """Only keys that begin with the prefix, at any depth, in order, with size and time."""
    names = ["b", "a/2", "a/1", "a/deep/er", "ab", "c"]
    for name in names:
        place.put(name, name.encode())

    found = list(place.store.list(place.prefix))

    assert [info.key for info in found] == sorted(place.prefix + name for name in names)
    assert [info.size for info in found] == [len(info.key) - len(place.prefix) for info in found]
    assert all(dict(info.metadata) == {} for info in found)
    now = place.now()
    assert all(abs(info.modified_at - now) < timedelta(minutes=1) for info in found)
    assert place.keys("a/") == [place.prefix + name for name in ("a/1", "a/2", "a/deep/er")]
    assert place.keys("a") == [place.prefix + name for name in ("a/1", "a/2", "a/deep/er", "ab")]
    assert place.keys("a/de") == [place.prefix + "a/deep/er"]
    assert place.keys("nothing") == []


def test_more_than_a_thousand_keys_are_all_listed(spaces_place: Place) -> None:
    """A listing goes on behind the first thousand keys, which is where S3 ends a page."""
    names = [f"{number:04}" for number in range(1005)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: spaces_place.put(name, b"x"), names))

    assert spaces_place.keys() == [spaces_place.prefix + name for name in names]


# --- deleting ---------------------------------------------------------------------------


def test_a_deleted_object_is_gone_and_its_key_is_free(place: Place) -> None:
    """After `delete` the key can be put again, with other content and metadata."""
    key, kept = place.put("a.db", b"first"), place.put("b.db", b"kept")

    place.store.delete(key)

    assert place.keys() == [kept]
    with pytest.raises(ObjectMissing):
        place.store.head(key)
    place.put("a.db", b"second", OTHER_METADATA)
    assert place.get(key) == b"second"
    assert dict(place.store.head(key).metadata) == OTHER_METADATA


def test_deleting_what_is_not_there_is_fine(place: Place) -> None:
    """A key that is not there, also in a store that nobody has used, is a success."""
    place.store.delete(place.prefix + "a.db")
    place.store.delete(place.prefix + "a.db")

    assert place.keys() == []


# --- missing ----------------------------------------------------------------------------


def test_a_missing_object_is_named(place: Place) -> None:
    """`get` and `head` of a key that is not there raise `ObjectMissing` and write nothing."""
    sink = io.BytesIO()

    with pytest.raises(ObjectMissing, match=r"a\.db"):
        place.store.get(place.prefix + "a.db", sink)
    with pytest.raises(ObjectMissing, match=r"a\.db"):
        place.store.head(place.prefix + "a.db")

    assert sink.getvalue() == b""


def test_the_part_of_a_key_is_not_an_object(place: Place) -> None:
    """Neither the beginning of a key up to a slash, nor a key below an object, is an object."""
    key = place.put("a/b", b"content")

    for missing in (place.prefix + "a", f"{key}/c"):
        with pytest.raises(ObjectMissing):
            place.get(missing)
        with pytest.raises(ObjectMissing):
            place.store.head(missing)
        place.store.delete(missing)

    assert place.keys() == [key]


# --- nothing is overwritten -------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "metadata"),
    [
        (b"longer content", OTHER_METADATA),
        (b"CONTENT", OTHER_METADATA),
        (b"longer content", METADATA),
        (b"content", OTHER_METADATA),
        (b"content", {"sha256": METADATA["sha256"]}),
        (b"content", {**METADATA, "more": "1"}),
        (b"content", {}),
    ],
)
def test_a_taken_key_is_not_overwritten(
    place: Place, body: bytes, metadata: dict[str, str]
) -> None:
    """Another body, or the same size with other metadata: `ObjectExists`, and the first stays."""
    key = place.put("a.db", b"content")

    with pytest.raises(ObjectExists, match=r"a\.db"):
        place.put("a.db", body, metadata)

    assert place.get(key) == b"content"
    assert dict(place.store.head(key).metadata) == METADATA
    assert place.keys() == [key]


def test_an_object_without_metadata_is_nobodys_echo(place: Place) -> None:
    """Two equal bodies without metadata cannot be told apart, so the second is refused."""
    place.put("a.db", b"content", {})

    with pytest.raises(ObjectExists):
        place.put("a.db", b"content", {})


def test_ones_own_echo_is_a_success(place: Place) -> None:
    """The same put again, as after a lost answer, succeeds and changes nothing."""
    key = place.put("a.db", b"content")

    place.put("a.db", b"content")

    assert place.get(key) == b"content"
    assert place.keys() == [key]


def test_of_eight_racers_exactly_one_wins(place: Place) -> None:
    """Eight threads put eight bodies under one key: one succeeds, and its bytes are stored."""
    start = threading.Barrier(8)

    def race(number: int) -> int | None:
        start.wait()
        try:
            place.put("a.db", bytes([number]) * 100_000, {"sha256": f"{number}"})
        except ObjectExists:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        winners = [number for number in pool.map(race, range(8)) if number is not None]

    assert len(winners) == 1
    key = place.prefix + "a.db"
    assert place.get(key) == bytes(winners) * 100_000
    assert dict(place.store.head(key).metadata) == {"sha256": f"{winners[0]}"}


# --- documents are replaced -------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"short", b"x" * 300_000])
def test_a_document_is_replaced(place: Place, body: bytes) -> None:
    """The first time it is made; each later time all of it is new, shorter ones included."""
    key = place.prefix + "users/1/a.json"

    for each in (b"before, and longer than this", body, body):
        place.store.replace(key, each)

        assert place.get(key) == each
        assert place.stored_bytes(key) == each
        assert place.store.head(key).size == len(each)
    assert place.keys() == [key]


def test_a_document_takes_the_place_of_an_object_and_its_metadata(place: Place) -> None:
    """What described the bytes before does not describe these."""
    key = place.put("a.json", b"content")

    place.store.replace(key, b"replaced")

    assert place.get(key) == b"replaced"
    assert dict(place.store.head(key).metadata) == {}
    with pytest.raises(ObjectExists):
        place.put("a.json", b"content")


def test_readers_see_one_document_or_the_other(place: Place) -> None:
    """While it is being replaced, again and again, nobody reads a part of it, or nothing."""
    key = place.prefix + "a.json"
    bodies = [bytes([number]) * 200_000 for number in (1, 2)]
    place.store.replace(key, bodies[0])

    def write() -> None:
        for number in range(10):
            place.store.replace(key, bodies[number % 2])

    with ThreadPoolExecutor(2) as pool:
        writing = [pool.submit(write) for _ in range(2)]
        while not all(one.done() for one in writing):
            assert place.get(key) in bodies
        for one in writing:
            one.result()

    assert place.get(key) in bodies
    assert place.keys() == [key]


# --- keys -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/etc/escaped",
        "..",
        "../escaped",
        "a/../../escaped",
        "a/..",
        "./a",
        "a/./b",
        "a//b",
        "a/",
        "a\\b",
        "..\\escaped",
        "a\nb",
        "a\x00b",
        "a\x7fb",
        "a\u2028b",
        "x" * 1025,
        "ä" * 513,
    ],
)
def test_a_bad_key_is_refused_and_nothing_is_written(place: Place, key: str) -> None:
    """Keys that leave the folder, or that gateways differ on, are refused by every method."""
    methods: list[Callable[[str], object]] = [
        lambda key: place.store.put(key, io.BytesIO(b"escaped"), METADATA),
        lambda key: place.store.replace(key, b"escaped"),
        lambda key: place.store.get(key, io.BytesIO()),
        place.store.head,
        place.store.delete,
    ]
    before = tree(place.outside)
    for method in methods:
        with pytest.raises(StoreError) as caught:
            method(key)
        assert type(caught.value) is StoreError
        assert "is not a key" in caught.value.message

    assert tree(place.outside) == before
    assert place.keys() == []


def tree(root: Path) -> list[str]:
    return sorted(str(path) for path in root.rglob("*"))


# --- check ------------------------------------------------------------------------------


def test_check_passes_again_and_again(place: Place) -> None:
    """`check` of a good store passes the first time and every later one, and leaves its object."""
    key = place.prefix + "check"

    for _ in range(3):
        place.store.check(key, b"probe")

    assert place.get(key) == b"probe"
    assert place.keys() == [key]


# --- progress ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 1000, CHUNK_BYTES, CHUNK_BYTES + 1, 9_000_000])
def test_progress_rises_to_the_size(place: Place, size: int) -> None:
    """In one pass, the bytes reported never fall, and end with all of them."""
    put: list[int] = []
    got: list[int] = []
    key = place.prefix + "a.db"

    place.store.put(key, io.BytesIO(b"x" * size), METADATA, put.append)
    place.store.get(key, io.BytesIO(), got.append)

    for reported in (put, got):
        assert reported == sorted(reported)
        assert reported[-1] == size
        assert all(0 < done <= size for done in reported)
        assert len(reported) > 1 or size <= CHUNK_BYTES


FAULTS = [ValueError("mine"), OSError(28, "mine"), FileExistsError("mine"), AppError("mine")]


class Failing:
    """A progress that raises when it is told something, and a sink that cannot be written."""

    def __init__(self, fault: Exception) -> None:
        self.fault = fault
        self.calls = 0

    def progress(self, _: int) -> None:
        self.calls += 1
        raise self.fault

    def write(self, _: bytes, /) -> object:
        self.progress(0)
        return None


class FailingBody(io.BytesIO):
    """A body whose disk fails behind its first chunk."""

    def __init__(self, fault: Exception) -> None:
        super().__init__(b"x" * (3 * CHUNK_BYTES))
        self.fault = fault

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() >= CHUNK_BYTES:
            raise self.fault
        return super().read(size)


@pytest.fixture(params=FAULTS, ids=[type(fault).__name__ for fault in FAULTS])
def fault(request: pytest.FixtureRequest) -> Iterator[Exception]:
    found: Exception = request.param
    yield found
    found.__traceback__ = None


@pytest.mark.parametrize("size", [1000, 3_000_000])
def test_a_fault_of_the_callers_progress_comes_out_of_put(
    place: Place, fault: Exception, size: int
) -> None:
    """The very exception comes out, at once and not after retries, and nothing is stored."""
    failing = Failing(fault)

    with pytest.raises(type(fault)) as caught:
        place.store.put(place.prefix + "a.db", io.BytesIO(b"x" * size), METADATA, failing.progress)

    assert caught.value is fault
    assert failing.calls == 1
    assert place.keys() == []


def test_a_fault_of_the_body_comes_out_of_put(place: Place, fault: Exception) -> None:
    """A sealed file that cannot be read is not reported as the fault of the store."""
    body: BinaryIO = FailingBody(fault)

    with pytest.raises(type(fault)) as caught:
        place.store.put(place.prefix + "a.db", body, METADATA)

    assert caught.value is fault
    assert place.keys() == []


def test_a_fault_of_the_callers_progress_comes_out_of_get(place: Place, fault: Exception) -> None:
    """The very exception comes out of `get` too."""
    key = place.put("a.db", b"content")
    failing = Failing(fault)

    with pytest.raises(type(fault)) as caught:
        place.store.get(key, io.BytesIO(), failing.progress)

    assert caught.value is fault


def test_a_fault_of_the_sink_comes_out_of_get(place: Place, fault: Exception) -> None:
    """A full disk under the sink is not reported as the fault of the store."""
    key = place.put("a.db", b"content")

    with pytest.raises(type(fault)) as caught:
        place.store.get(key, Failing(fault))

    assert caught.value is fault


# --- what it says of itself -------------------------------------------------------------


def test_a_store_says_what_and_where_it_is(
    folder: Place, spaces_place: Place, s3_server: S3Server, contract_bucket: str
) -> None:
    """Kind and location are for a person, who sees no credential in them."""
    settings = s3_server.settings(contract_bucket)

    assert (folder.store.kind, folder.store.offsite) == ("directory", False)
    assert folder.store.location == str(folder.outside / "outside" / "store")
    assert (spaces_place.store.kind, spaces_place.store.offsite) == ("spaces", True)
    assert spaces_place.store.location == f"{contract_bucket} at {s3_server.endpoint}"
    assert settings.api_key not in spaces_place.store.location
