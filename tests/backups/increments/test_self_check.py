"""Tests of `keeping.self_check` and of differentials: a chain that checks itself."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyrage
import pytest

from backups.errors import IncrementBroken, ProofFailed
from backups.format import chain as chains
from backups.format import chain_keys, increment
from backups.format.chain import Check
from backups.format.increment import Increment
from backups.increments.bodies import unfold
from backups.increments.keeping.differential import (
    ChainTools,
    FollowedSource,
    FullNeeded,
    changes_since,
    put_differential,
)
from backups.increments.keeping.self_check import (
    Differs,
    Good,
    check_hour,
    first_difference,
    last_good,
    look_at,
    note_suspicion,
)
from backups.increments.shadow import Delta, Shadow
from backups.model import ContentReport
from backups.sets.chains import objects_table, table
from backups.sets.chains.table import PointRow
from shared.databases.sqlite import Database
from shared.errors import StoreUnreachable
from shared.store.directory import DirectoryStore
from shared.store.object_store import get_document
from tests.support.marks import MARKS, PREFIX
from tests.support.records import INSTANT, a_stored_object
from tests.support.small_chain import PAGE_SIZE, SmallChain, open_known
from tests.support.store_wrappers import WatchedStore

AT = datetime(2026, 11, 22, 2, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> WatchedStore:
    """A folder."""
    return WatchedStore(DirectoryStore(tmp_path / "store"))


@pytest.fixture
def known(tmp_path: Path) -> Iterator[Database]:
    """What the host knows of the store."""
    with closing(open_known(tmp_path)) as known:
        yield known


@pytest.fixture
def chain(tmp_path: Path, store: WatchedStore, known: Database) -> Iterator[SmallChain]:
    """A chain of three points."""
    with closing(SmallChain(tmp_path, store, known)) as chain:
        chain.grow(3)
        yield chain


def tools_of(chain: SmallChain, tmp_path: Path, **other: object) -> ChainTools:
    """What checks the chain."""
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    tools = ChainTools(chain.store, chain.known, MARKS, chain.instance, scratch)
    return replace(tools, **other)  # type: ignore[arg-type]


@pytest.fixture
def tools(chain: SmallChain, tmp_path: Path) -> ChainTools:
    """What checks the chain."""
    return tools_of(chain, tmp_path)


def copy_of(chain: SmallChain, tmp_path: Path) -> Path:
    """SQLite's own copy of the live database, as a step takes it."""
    path = tmp_path / "copy.db"
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(chain.live)) as live, closing(sqlite3.connect(path)) as target:
        live.backup(target)
    return path


def followed(chain: SmallChain, tmp_path: Path) -> list[FollowedSource]:
    """The one source, with SQLite's copy of it."""
    return [FollowedSource("tokens", chain.shadow, chain.full, copy_of(chain, tmp_path))]


def newest(chain: SmallChain) -> PointRow:
    """The row of the newest point."""
    with chain.known.reading() as connection:
        found = table.last_point(connection, chain.id)
    assert found is not None
    return found


def suspects(chain: SmallChain) -> list[int]:
    """The numbers that this host suspects."""
    with chain.known.reading() as connection:
        return [one.number for one in table.points(connection, chain.id) if one.suspect]


def verdicts(chain: SmallChain) -> list[tuple[int, str | None]]:
    """What the verdicts in the store say, each with a valid mark."""
    found = []
    for one in chain.store.list(chain_keys.chain_prefix(PREFIX, chain.id)):
        parsed = chain_keys.parse_chain_key(PREFIX, one.key)
        if parsed is not None and parsed.kind == "check":
            document = get_document(chain.store, one.key, one.size)
            assert MARKS.check(one.key, document).outcome == "valid"
            check = chains.load(Check, document, key=one.key, chain=chain.id)
            found.append((check.good, check.reason))
    return found


def restored(chain: SmallChain, key: str, tmp_path: Path, identity: Path | None = None) -> bytes:
    """The full, with the differential under `key` applied to it."""
    stored = get_document(chain.store, key, 10**8)
    line = increment.line_of(stored, key)
    assert MARKS.check(key, line).outcome == "valid"
    parsed = chain_keys.parse_chain_key(PREFIX, key)
    assert parsed is not None
    found = increment.load_line(
        line, key=key, chain=chain.id, number=parsed.last, kind="differential"
    )
    path = tmp_path / "restored.db"
    shutil.copyfile(chain.full, path)
    with closing(Shadow(path, PAGE_SIZE)) as shadow:
        for change, body in zip(found.sources, increment.split(stored, found, key), strict=True):
            shadow.apply(change, unfold(body, change, key, identity))
    return path.read_bytes()


# --- a good hour ------------------------------------------------------------------------


def test_a_good_hour_leaves_a_differential(
    chain: SmallChain, tools: ChainTools, tmp_path: Path
) -> None:
    """With the full it gives the newest point; it has a row, and is the last good check."""
    (tools.scratch / "tokens.differential").write_bytes(b"of a process that died")

    found = check_hour(tools, newest(chain), followed(chain, tmp_path), AT)

    key = chain_keys.differential_key(PREFIX, chain.id, 3, sealed=False)
    assert found == Good(key)
    assert restored(chain, key, tmp_path) == chain.state(3)
    with chain.known.reading() as connection:
        [row] = objects_table.objects(connection, chain.id)
    assert (row.kind, row.first, row.last, row.mark) == ("differential", 3, 3, "valid")
    assert row.last_instant == chain.instant
    head = chain.store.head(key)
    assert (head.metadata["chain"], head.metadata["sha256"]) == (chain.id, row.sha256)
    assert last_good(tools, chain.id) == 3
    assert verdicts(chain) == []
    assert suspects(chain) == []
    assert not list((tmp_path / "scratch").iterdir())


def test_the_next_increment_follows_on_a_differential(
    chain: SmallChain, tools: ChainTools, tmp_path: Path
) -> None:
    """What a differential leads to is what the next increment changes, bit for bit."""
    check_hour(tools, newest(chain), followed(chain, tmp_path), AT)
    chain.grow(1)
    key = chain_keys.differential_key(PREFIX, chain.id, 3, sealed=False)
    restored(chain, key, tmp_path)
    row = newest(chain)
    stored = get_document(chain.store, row.key, row.bytes)
    line = increment.load_line(
        increment.line_of(stored, row.key),
        key=row.key,
        chain=chain.id,
        number=4,
        kind="increment",
    )
    with closing(Shadow(tmp_path / "restored.db", PAGE_SIZE)) as shadow:
        for change, body in zip(line.sources, increment.split(stored, line, row.key), strict=True):
            shadow.apply(change, unfold(body, change, row.key))
        assert (tmp_path / "restored.db").read_bytes() == chain.state(4)


def test_a_sealed_differential_can_be_opened(
    tmp_path: Path, store: WatchedStore, known: Database
) -> None:
    """With the identity here it is proven by applying it, and without by its bytes."""
    identity = pyrage.x25519.Identity.generate()
    file = tmp_path / "identity"
    file.write_text(str(identity))
    recipients = (str(identity.to_public()),)
    with closing(SmallChain(tmp_path, store, known, recipients=recipients)) as chain:
        for number, at_hand in ((2, file), (4, None)):
            chain.grow(2)
            tools = tools_of(chain, tmp_path, recipients=recipients, identity_file=at_hand)

            found = check_hour(tools, newest(chain), followed(chain, tmp_path), AT)

            key = chain_keys.differential_key(PREFIX, chain.id, number, sealed=True)
            assert found == Good(key)
            assert restored(chain, key, tmp_path, file) == chain.state(number)


def test_nothing_changed_since_the_full(
    chain: SmallChain, tools: ChainTools, tmp_path: Path
) -> None:
    """Then there is nothing to put but the verdict that all is well up to here."""
    shutil.copyfile(chain.shadow_path, chain.full)

    assert check_hour(tools, newest(chain), followed(chain, tmp_path), AT) == Good(None)

    assert verdicts(chain) == [(3, None)]
    assert last_good(tools, chain.id) == 3


def test_too_many_changes_ask_for_a_full(
    chain: SmallChain, tools: ChainTools, tmp_path: Path
) -> None:
    """More than half of the pages: a new full takes no more. The check was good all the same."""
    with closing(sqlite3.connect(chain.live)) as connection:
        connection.executemany(
            "INSERT INTO rows(text) VALUES (?)", [("x" * 3000,) for _ in range(400)]
        )
        connection.commit()
    chain.grow(1)

    found = check_hour(tools, newest(chain), followed(chain, tmp_path), AT)

    assert isinstance(found, FullNeeded)
    assert (found.source, found.changed_bytes > 0) == ("tokens", True)
    assert verdicts(chain) == [(4, None)]
    assert not [one for one in chain.store.list(PREFIX) if "/d/" in one.key]


# --- a bad one --------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["flipped", "cut", "longer"])
def test_a_shadow_that_differs_makes_all_since_the_last_check_suspect(
    chain: SmallChain, tools: ChainTools, tmp_path: Path, harm: str
) -> None:
    """Named by its page; the verdict is in the store, and there is no differential of it."""
    check_hour(tools, newest(chain), followed(chain, tmp_path), AT)
    chain.grow(3)
    with chain.shadow_path.open("r+b") as file:
        if harm == "flipped":
            file.seek(5 * PAGE_SIZE + 100)
            file.write(b"\xff\xfe")
        elif harm == "cut":
            file.truncate((chain.shadow.pages - 1) * PAGE_SIZE)
        else:
            file.seek(0, os.SEEK_END)
            file.write(bytes(PAGE_SIZE))
    chain.shadow.close()
    chain.shadow = Shadow(chain.shadow_path, PAGE_SIZE)

    found = check_hour(tools, newest(chain), followed(chain, tmp_path), AT)

    assert isinstance(found, Differs)
    assert found.good == 3
    assert "of tokens is not what the chain made it" in found.reason
    assert suspects(chain) == [4, 5, 6]
    assert verdicts(chain) == [(3, found.reason)]
    assert last_good(tools, chain.id) == 3


def test_a_damaged_database_makes_it_suspect(
    chain: SmallChain, tools: ChainTools, tmp_path: Path
) -> None:
    """What SQLite finds in its own copy is found within the hour, as the shadow has it, too."""
    sources = followed(chain, tmp_path)
    for path in (tmp_path / "copy.db", chain.shadow_path):
        with path.open("r+b") as file:
            file.seek(3 * PAGE_SIZE)
            file.write(b"\x0d" + bytes(200))

    found = check_hour(tools, newest(chain), sources, AT)

    assert isinstance(found, Differs)
    assert found.good == 0
    assert "tokens is damaged" in found.reason
    assert suspects(chain) == [1, 2, 3]


def test_the_points_are_suspect_although_the_store_is_away(
    chain: SmallChain, tools: ChainTools, store: WatchedStore
) -> None:
    """The verdict is owed to the store; what this host knows, it uses at once."""
    store.break_at("put", 0)

    with suppress(StoreUnreachable):
        note_suspicion(tools, chain.id, 1, ("rows are gone",), AT)

    assert suspects(chain) == [2, 3]


def test_two_verdicts_in_one_second_have_two_keys(chain: SmallChain, tools: ChainTools) -> None:
    """The second one is a second later by its name."""
    note_suspicion(tools, chain.id, 2, ("one",), AT)
    note_suspicion(tools, chain.id, 1, ("two",), AT)

    assert verdicts(chain) == [(2, "one"), (1, "two")]


def test_what_copying_sets_itself_is_no_difference(chain: SmallChain, tmp_path: Path) -> None:
    """Counters and versions in the first page; any other byte of it is one."""
    copy = copy_of(chain, tmp_path)
    assert first_difference(chain.shadow, copy) is None
    for place, expected in ((18, None), (24, None), (92, None), (60, 1), (20, 1), (100, 1)):
        with copy.open("r+b") as file:
            file.seek(place)
            before = file.read(1)
            file.seek(place)
            file.write(bytes([before[0] ^ 1]))
        assert first_difference(chain.shadow, copy) == expected, place
        with copy.open("r+b") as file:
            file.seek(place)
            file.write(before)


# --- a differential on its way ----------------------------------------------------------


def test_a_differential_that_reads_back_as_something_else_does_not_count(
    chain: SmallChain, tools: ChainTools, tmp_path: Path, store: WatchedStore
) -> None:
    """No row of it; what follows is restored from the increments."""
    key = chain_keys.differential_key(PREFIX, chain.id, 3, sealed=False)

    def flip() -> None:
        path = Path(store.location) / key
        stored = bytearray(path.read_bytes())
        stored[-1] ^= 1
        path.write_bytes(bytes(stored))

    store.after("put", key, flip)

    with pytest.raises(ProofFailed, match="other bytes"):
        check_hour(tools, newest(chain), followed(chain, tmp_path), AT)

    with chain.known.reading() as connection:
        assert objects_table.objects(connection, chain.id) == []


def test_a_full_that_is_another_one_is_no_base(
    chain: SmallChain, tools: ChainTools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The differential is applied to the full before it counts."""
    found = changes_since(followed(chain, tmp_path)[0])
    assert isinstance(found, Delta)
    real = Shadow.apply

    def apply(self: Shadow, change: object, raw: bytes) -> None:
        real(self, change, raw)  # type: ignore[arg-type]
        self._sum += 1

    monkeypatch.setattr(Shadow, "apply", apply)
    with pytest.raises(IncrementBroken, match="does not restore its shadow"):
        put_differential(tools, newest(chain), followed(chain, tmp_path))


def test_a_differential_is_made_once(chain: SmallChain, tools: ChainTools, tmp_path: Path) -> None:
    """A second check of the same point finds its own, or that of another, and leaves it."""
    sources = followed(chain, tmp_path)
    key = put_differential(tools, newest(chain), sources)
    assert put_differential(tools, newest(chain), sources) == key
    other = replace(tools, instance="f" * 16)
    assert put_differential(other, newest(chain), sources) is None
    with chain.known.reading() as connection:
        assert len(objects_table.objects(connection, chain.id)) == 1


def test_a_differential_says_what_it_is(
    chain: SmallChain, tools: ChainTools, tmp_path: Path
) -> None:
    """It changes the full, and names the increment whose state it gives."""
    row = newest(chain)
    key = put_differential(tools, row, followed(chain, tmp_path))
    assert isinstance(key, str)
    stored = get_document(chain.store, key, 10**8)
    found: Increment = increment.load_line(
        increment.line_of(stored, key), key=key, chain=chain.id, number=3, kind="differential"
    )

    assert (found.base_seq, found.prev, found.sequence) == (0, row.sha256, row.sequence)
    assert found.sources[0].before == chain.full_sum
    assert found.sources[0].after == chain.shadow.sum


# --- each minute ------------------------------------------------------------------------


def test_a_mass_deletion_is_seen_in_the_shadow(chain: SmallChain) -> None:
    """More than half of the rows of a table within a day; a volatile source loses what it likes."""
    stored = replace(a_stored_object("tokens", INSTANT), rows={"rows": 900}, schema="")
    shadows = {"tokens": chain.shadow_path}
    before = sorted(chain.shadow_path.parent.iterdir())

    assert look_at(shadows, {}).reasons({"tokens": [stored]}, frozenset()) == (
        "tokens.rows has 203 rows, 900 before",
    )
    assert look_at(shadows, {}).reasons({"tokens": [stored]}, frozenset({"tokens"})) == ()
    few = replace(stored, rows={"rows": 210})
    assert look_at(shadows, {}).reasons({"tokens": [few]}, frozenset()) == ()
    assert sorted(chain.shadow_path.parent.iterdir()) == before


def test_values_that_nobody_can_read_are_seen(chain: SmallChain) -> None:
    """The sample of a source is taken from its shadow."""
    stored = replace(a_stored_object("tokens", INSTANT), rows={"rows": 203}, schema="")
    readable = {"tokens": lambda _: ContentReport(203, 7)}

    look = look_at({"tokens": chain.shadow_path}, readable)
    [reason] = look.reasons({"tokens": [stored]}, frozenset())

    assert "7 of the checked values of tokens cannot be read" in reason


def test_a_shadow_that_is_no_database_is_a_reason(chain: SmallChain, tmp_path: Path) -> None:
    """It is named, and the others are looked at all the same."""
    odd = tmp_path / "odd.db"
    odd.write_bytes(b"no database" * 1000)
    stored = replace(a_stored_object("tokens", INSTANT), rows={"rows": 900}, schema="")
    shadows = {"sessions": odd, "tokens": chain.shadow_path}

    found = look_at(shadows, {}).reasons({"tokens": [stored]}, frozenset())

    assert len(found) == 2
    assert "the shadow of source sessions" in found[0]
