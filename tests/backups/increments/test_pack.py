"""Tests of `keeping.pack`: increments become a pack, and none is lost on the way."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from backups.errors import IncrementBroken, ManifestInvalid
from backups.format import chain_keys, pack
from backups.increments.keeping.pack import Packing, finish, pack_chain
from backups.sets.chains import objects_table, table
from backups.sets.chains.objects_table import ObjectRow
from backups.sets.chains.pack_reader import fetch_pack, read_index, read_pack
from shared.databases.sqlite import Database
from shared.errors import StoreUnreachable
from shared.store.directory import DirectoryStore
from shared.store.object_store import ObjectStore, get_document
from shared.store.spaces import SpacesStore
from tests.support.marks import MARKS, PREFIX
from tests.support.small_chain import BEGUN, SmallChain, open_known
from tests.support.store_wrappers import WatchedStore

HOUR = 3_600_000


@pytest.fixture(params=["directory", pytest.param("spaces", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> WatchedStore:
    """Both stores, one after the other: the folder, and a bucket of a real S3 server."""
    inner: ObjectStore
    if request.param == "directory":
        inner = DirectoryStore(tmp_path / "store")
    else:
        server, name = (request.getfixturevalue(fixture) for fixture in ("s3_server", "bucket"))
        inner = SpacesStore(server.settings(name))
    return WatchedStore(inner)


only_folder = pytest.mark.parametrize("store", ["directory"], indirect=True)


@pytest.fixture
def known(tmp_path: Path) -> Iterator[Database]:
    """What the host knows of the store."""
    with closing(open_known(tmp_path)) as known:
        yield known


@pytest.fixture
def chain(tmp_path: Path, store: WatchedStore, known: Database) -> Iterator[SmallChain]:
    """A chain with five points of its first hour."""
    with closing(SmallChain(tmp_path, store, known)) as chain:
        chain.grow(5)
        yield chain


def packing_of(chain: SmallChain, tmp_path: Path) -> Packing:
    """What packs the objects of a chain."""
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    return Packing(chain.store, chain.known, MARKS, chain.instance, scratch)


@pytest.fixture
def packing(chain: SmallChain, tmp_path: Path) -> Packing:
    """What packs the chain."""
    return packing_of(chain, tmp_path)


def members(chain: SmallChain) -> dict[int, bytes]:
    """The increments that are in no pack, as stored."""
    prefix = chain_keys.increments_prefix(PREFIX, chain.id)
    found = {}
    for one in chain.store.list(prefix):
        parsed = chain_keys.parse_chain_key(PREFIX, one.key)
        assert parsed is not None
        found[parsed.first] = get_document(chain.store, one.key, one.size)
    return found


def packs(chain: SmallChain) -> list[str]:
    """The keys of the packs of a chain."""
    prefix = chain_keys.chain_prefix(PREFIX, chain.id)
    return [one.key for one in chain.store.list(f"{prefix}p/")]


def rows(chain: SmallChain) -> list[int]:
    """The numbers of the points that have a row."""
    with chain.known.reading() as connection:
        return [one.number for one in table.points(connection, chain.id)]


def noted(chain: SmallChain) -> list[ObjectRow]:
    """The rows of packs."""
    with chain.known.reading() as connection:
        return objects_table.objects(connection, chain.id, "pack")


def everything(chain: SmallChain, tmp_path: Path) -> dict[int, bytes]:
    """Each increment of the chain as it can be read now: by itself, or from a pack."""
    found = members(chain)
    for place, key in enumerate(packs(chain)):
        with closing(fetch_pack(chain.store, MARKS, key, tmp_path / f"read-{place}")) as opened:
            for member in opened.index.members:
                found[member.number] = opened.member(member.number)
        (tmp_path / f"read-{place}").unlink()
    return found


# --- what becomes of an hour ------------------------------------------------------------


def test_a_chain_that_ended_becomes_a_pack(
    chain: SmallChain, packing: Packing, tmp_path: Path
) -> None:
    """Each member as it was stored; its members and their rows are gone, one row stands for all."""
    before = members(chain)

    assert pack_chain(packing, chain.id, chain.instant, ended=True) == 1

    assert members(chain) == {}
    assert rows(chain) == []
    assert everything(chain, tmp_path) == before
    [row] = noted(chain)
    assert packs(chain) == [row.key] == [chain_keys.pack_key(PREFIX, chain.id, 1, 5)]
    assert (row.first, row.last, row.points, row.mark) == (1, 5, 5, "valid")
    assert (row.first_instant, row.last_instant) == (chain.instant - 4000, chain.instant)
    head = chain.store.head(row.key)
    assert (head.size, head.metadata["sha256"]) == (row.bytes, row.sha256)
    assert head.metadata["chain"] == chain.id
    assert not list((tmp_path / "scratch").iterdir())


def test_an_hour_that_goes_on_is_left_alone(chain: SmallChain, packing: Packing) -> None:
    """What is over is packed, but for the newest point: the follower goes on from its row."""
    assert pack_chain(packing, chain.id, chain.instant, ended=False) == 0
    chain.wait(HOUR)
    assert pack_chain(packing, chain.id, chain.instant, ended=False) == 1
    assert rows(chain) == [5]
    chain.grow(3)
    assert pack_chain(packing, chain.id, chain.instant, ended=False) == 1

    assert rows(chain) == [6, 7, 8]
    assert [(one.first, one.last) for one in noted(chain)] == [(1, 4), (5, 5)]


def test_each_hour_has_a_pack_of_its_own(chain: SmallChain, packing: Packing) -> None:
    """Also where several were not packed for a while."""
    for _ in range(2):
        chain.wait(HOUR)
        chain.grow(2)

    assert pack_chain(packing, chain.id, chain.instant, ended=True) == 3

    assert [(one.first, one.last) for one in noted(chain)] == [(1, 5), (6, 7), (8, 9)]


def test_two_chains_are_packed_each_for_itself(
    chain: SmallChain, packing: Packing, tmp_path: Path, known: Database
) -> None:
    """The numbers of both are the same, and neither takes from the other."""
    later = BEGUN + timedelta(days=1)
    with closing(SmallChain(tmp_path, chain.store, known, begun=later)) as other:
        other.grow(4)
        before = members(chain), members(other)

        pack_chain(packing, chain.id, other.instant, ended=True)
        assert (members(chain), members(other)) == ({}, before[1])
        pack_chain(packing, other.id, other.instant, ended=True)

        assert (everything(chain, tmp_path), everything(other, tmp_path)) == before


def test_a_pack_is_read_no_further_than_is_needed(
    chain: SmallChain, packing: Packing, tmp_path: Path
) -> None:
    """A replay to an early second of an hour takes the beginning of its pack."""
    before = members(chain)
    pack_chain(packing, chain.id, chain.instant, ended=True)

    with closing(
        fetch_pack(chain.store, MARKS, packs(chain)[0], tmp_path / "part", upto=2)
    ) as part:
        assert [part.member(number) for number in (1, 2)] == [before[1], before[2]]
        assert (tmp_path / "part").stat().st_size == len(before[1]) + len(before[2])
        assert part.key_of(2) == chain_keys.increment_key(PREFIX, chain.id, 2, sealed=False)
        for number in (3, 99):
            with pytest.raises(IncrementBroken):
                part.member(number)
    assert read_index(chain.store, MARKS, packs(chain)[0]).last == 5


# --- interruptions ----------------------------------------------------------------------


@only_folder
@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("operation", "number"),
    [("get", 0), ("get", 3), ("put", 0), ("get", 5), ("head", 0), ("head", 2), ("delete", 0)]
    + [("delete", number) for number in range(1, 5)],
)
def test_an_interrupted_packing_is_finished_by_the_next(
    chain: SmallChain,
    packing: Packing,
    store: WatchedStore,
    tmp_path: Path,
    operation: str,
    number: int,
    *,
    done: bool,
) -> None:
    """Whichever request is the last, done or not: each point is there, and packed by the next."""
    before = members(chain)
    store.calls.clear()
    store.break_at(operation, number, done=done)  # type: ignore[arg-type]
    with suppress(StoreUnreachable):
        pack_chain(packing, chain.id, chain.instant, ended=True)
    store.mend()

    assert everything(chain, tmp_path) == before
    assert set(rows(chain)) | {
        found for one in noted(chain) for found in range(one.first, one.last + 1)
    } == set(before)

    pack_chain(packing, chain.id, chain.instant, ended=True)

    assert members(chain) == {}
    assert rows(chain) == []
    assert everything(chain, tmp_path) == before
    assert len(packs(chain)) == 1


@only_folder
@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", [0, 4, 5, 6, 7, 8, 10, 15])
def test_a_packing_that_is_killed_is_finished_by_the_next(
    chain: SmallChain, packing: Packing, tmp_path: Path, number: int, when: str
) -> None:
    """kill -9 at a get of a member, the put, the proof, a head and a delete: nothing is lost."""
    before = members(chain)
    arguments = [str(tmp_path), chain.id, str(chain.instant), str(number), when]

    killed = subprocess.run(
        [sys.executable, "-m", "tests.support.packing_process", *arguments], check=False
    )

    assert killed.returncode == -signal.SIGKILL
    assert everything(chain, tmp_path) == before

    pack_chain(packing, chain.id, chain.instant, ended=True)

    assert members(chain) == {}
    assert rows(chain) == []
    assert everything(chain, tmp_path) == before
    assert [(one.first, one.last) for one in noted(chain)] == [(1, 5)]


@only_folder
def test_seven_days_of_every_second_are_few_rows(chain: SmallChain) -> None:
    """A row for each pack, and one for each point of two hours: what a host knows stays small."""
    [row] = list(chain.grow(1))
    with chain.known.transaction() as connection:
        for day in range(7):
            for hour in range(24):
                number = day * 86_400 + hour * 3600
                objects_table.note_object(
                    connection,
                    ObjectRow(
                        chain_keys.pack_key(PREFIX, chain.id, number + 1, number + 3600),
                        chain.id,
                        "pack",
                        number + 1,
                        number + 3600,
                        4_000_000,
                        "valid",
                        None,
                        number * 1000,
                        (number + 3600) * 1000,
                        3600,
                        row.sha256,
                    ),
                )
        for number in range(604_800, 612_000):
            key = chain_keys.increment_key(PREFIX, chain.id, number, sealed=True)
            table.note_point(connection, replace(row, number=number, sequence=number, key=key))
    chain.known.close()

    assert sum(one.stat().st_size for one in chain.known.path.parent.glob("known.db*")) < 20_000_000


@only_folder
def test_the_row_of_a_pack_comes_before_the_first_delete(
    chain: SmallChain, packing: Packing, store: WatchedStore
) -> None:
    """From then on readers take the pack; so no reader looks for what is just being deleted."""
    seen: list[int] = []
    store.before("delete", "/i/", lambda: seen.append(len(noted(chain))))

    pack_chain(packing, chain.id, chain.instant, ended=True)

    assert seen == [1]


# --- what cannot be packed --------------------------------------------------------------


def replace_object(store: ObjectStore, key: str, body: bytes, metadata: dict[str, str]) -> None:
    """Put other bytes in the place of an object."""
    store.delete(key)
    store.put(key, io.BytesIO(body), metadata)


@pytest.mark.parametrize("harm", ["flipped", "cut", "longer", "missing"])
def test_a_member_that_is_not_what_was_proven_stays_out(
    chain: SmallChain, packing: Packing, tmp_path: Path, harm: str
) -> None:
    """What is before it and after it is packed; it is left as it is, and counts for nothing."""
    before = members(chain)
    key = chain_keys.increment_key(PREFIX, chain.id, 3, sealed=False)
    metadata = dict(chain.store.head(key).metadata)
    body = bytearray(before[3])
    body[-1] ^= 1
    bodies = {"flipped": bytes(body), "cut": before[3][:-1], "longer": before[3] + b"x"}
    if harm == "missing":
        chain.store.delete(key)
    else:
        replace_object(chain.store, key, bodies[harm], metadata)

    assert pack_chain(packing, chain.id, chain.instant, ended=True) == 2

    assert rows(chain) == []
    with packing.known.reading() as connection:
        [broken] = objects_table.objects(connection, chain.id, "increment")
    assert (broken.key, broken.mark) == (key, "wrong")
    assert [(one.first, one.last) for one in noted(chain)] == [(1, 2), (4, 5)]
    good = {number: stored for number, stored in before.items() if number != 3}
    assert good.items() <= everything(chain, tmp_path).items()
    assert pack_chain(packing, chain.id, chain.instant, ended=True) == 0


def test_a_fork_is_not_packed(chain: SmallChain, packing: Packing, known: Database) -> None:
    """An increment that does not follow on the one before it is no member of one pack with it."""
    key = chain_keys.increment_key(PREFIX, chain.id, 3, sealed=False)
    with known.transaction() as connection:
        [row] = [one for one in table.points(connection, chain.id) if one.number == 2]
    stored = get_document(chain.store, key, 10**6)
    line, _, body = stored.partition(b"\n")
    forged = MARKS.sign_line(key, line.replace(row.sha256.encode(), b"0" * 64)) + b"\n" + body
    replace_object(chain.store, key, forged, {})
    with known.transaction() as connection:
        [found] = [one for one in table.points(connection, chain.id) if one.number == 3]
        digest = sha256(forged).hexdigest()
        table.note_point(connection, replace(found, sha256=digest, bytes=len(forged)))

    pack_chain(packing, chain.id, chain.instant, ended=True)

    assert [(one.first, one.last) for one in noted(chain)] == [(1, 2), (4, 5)]


@pytest.mark.parametrize(
    "metadata", [{}, {"chain": "another"}, {"sha256": "0" * 64}, {"instance": "f" * 16}]
)
def test_what_does_not_say_that_it_is_ours_is_not_deleted(
    chain: SmallChain, packing: Packing, metadata: dict[str, str]
) -> None:
    """Its bytes are in the pack; who put it there again is named, and the object stays."""
    before = members(chain)
    key = chain_keys.increment_key(PREFIX, chain.id, 2, sealed=False)
    named = {**dict(chain.store.head(key).metadata), **metadata} if metadata else {}
    replace_object(chain.store, key, before[2], named)

    assert pack_chain(packing, chain.id, chain.instant, ended=True) == 1

    assert members(chain) == {2: before[2]}


@pytest.mark.parametrize("harm", ["other bytes", "unmarked", "cut"])
def test_a_pack_that_is_in_the_way_keeps_its_members(
    chain: SmallChain, packing: Packing, tmp_path: Path, harm: str
) -> None:
    """What is under the key of the pack is not it: nothing is noted, and nothing deleted."""
    before = members(chain)
    key = chain_keys.pack_key(PREFIX, chain.id, 1, 5)
    index = pack.index_of(
        chain.id,
        [
            pack.Member(number, len(stored), sha256(stored).hexdigest(), 1, 9 + number)
            for number, stored in before.items()
        ],
    )
    line = pack.dump_line(index)
    if harm != "unmarked":
        line = MARKS.sign_line(key, line)
    body = b"".join(before.values())
    if harm == "cut":
        body = body[:-1]
    chain.store.put(key, io.BytesIO(line + b"\n" + body), {})

    assert pack_chain(packing, chain.id, chain.instant, ended=True) == 0

    assert members(chain) == before
    assert rows(chain) == [1, 2, 3, 4, 5]
    assert noted(chain) == []


def test_a_pack_that_was_damaged_keeps_what_is_left_of_its_members(
    chain: SmallChain, packing: Packing, store: WatchedStore
) -> None:
    """It is read again before a packing that was interrupted is finished."""
    store.before("delete", "/i/", _away)
    pack_chain(packing, chain.id, chain.instant, ended=True)
    left = members(chain)
    assert left
    [row] = noted(chain)
    stored = bytearray(get_document(store, row.key, row.bytes))
    stored[-1] ^= 1
    replace_object(store, row.key, bytes(stored), {})

    finish(packing, chain.id)

    assert members(chain) == left
    assert rows(chain) == list(left)


def _away() -> None:
    raise StoreUnreachable("there was no answer", "Check the network.")


# --- a pack that is hostile -------------------------------------------------------------


@pytest.fixture
def packed(chain: SmallChain, packing: Packing) -> tuple[str, bytes]:
    """The key of a good pack, and its bytes."""
    pack_chain(packing, chain.id, chain.instant, ended=True)
    [row] = noted(chain)
    return row.key, get_document(chain.store, row.key, row.bytes)


@only_folder
@pytest.mark.parametrize(
    "harm",
    [
        "empty",
        "cut",
        "cut line",
        "longer",
        "swapped",
        "flipped",
        "re-signed",
        "other key",
        "endless",
    ],
)
def test_a_pack_that_was_changed_is_refused(
    chain: SmallChain, packed: tuple[str, bytes], harm: str
) -> None:
    """By name, wherever it was changed, and in bounded memory."""
    key, stored = packed
    line, _, body = stored.partition(b"\n")
    flipped = bytearray(stored)
    flipped[-5] ^= 1
    index = pack.load_line(line, key=key, chain=chain.id, first=1, last=5)
    one, two = index.members[0].bytes, index.members[1].bytes
    swapped = body[one : one + two] + body[:one] + body[one + two :]
    harmed = {
        "empty": b"",
        "cut": stored[:-1],
        "cut line": stored[:100],
        "longer": stored + b"x",
        "swapped": line + b"\n" + swapped,
        "flipped": bytes(flipped),
        "re-signed": pack.dump_line(index) + b"\n" + body,
        "endless": b"x" * (pack.MOST_LINE_BYTES + 100),
    }
    other = chain_keys.pack_key(PREFIX, chain.id, 6, 10)
    if harm == "other key":
        key = other
        chain.store.put(other, io.BytesIO(stored), {})
    else:
        replace_object(chain.store, key, harmed[harm], {})

    with pytest.raises((ManifestInvalid, IncrementBroken), match=r"\.pack"):
        read_pack(chain.store, MARKS, key)


@only_folder
def test_a_pack_that_is_gone_is_named(chain: SmallChain, packed: tuple[str, bytes]) -> None:
    """A gap is an error that names it."""
    chain.store.delete(packed[0])

    with pytest.raises(IncrementBroken, match="is not in the store"):
        read_pack(chain.store, MARKS, packed[0])


@only_folder
def test_the_key_of_no_pack_is_refused(chain: SmallChain) -> None:
    """Whatever is under it is not read as one."""
    with pytest.raises(ManifestInvalid, match="no key of a pack"):
        read_pack(chain.store, MARKS, chain_keys.head_key(PREFIX, chain.id))
