"""Tests of pruning chains: with their fulls, after their days, and nothing that is not ours."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backups.decisions.retention import RetentionPolicy
from backups.format import chain_keys
from backups.format.chain import End, dump
from backups.format.mark import MarkKey
from backups.increments.keeping.pack import Packing, pack_chain
from backups.model import BackupSet
from backups.sets.chains import objects_table, table
from backups.view import documents, text
from shared.store.directory import DirectoryStore
from shared.store.object_store import ObjectStore
from shared.store.spaces import SpacesStore
from tests.backups.conftest import LogLines
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.marks import MARK_KEY, MARKS, a_token_key, mark_key_of
from tests.support.small_chain import SmallChain
from tests.support.store_wrappers import WatchedStore

NOTHING = RetentionPolicy(
    changes_hours=0, all_days=0, daily=0, weekly=0, monthly=0, yearly=0, points_days=0
)


@pytest.fixture
def clock() -> FixedClock:
    """The real time of now, standing still: objects have the times of the real clock."""
    return FixedClock(datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=10))


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


@dataclass
class House:
    """An installation with two sets, each with a chain: the older one is packed and ended."""

    bench: Bench
    stack: ExitStack
    folder: Path
    store: WatchedStore
    clock: FixedClock
    sets: list[BackupSet]
    chains: list[SmallChain]

    def begin(self) -> SmallChain:
        """Make a set, and a chain of three points on it."""
        self.clock.advance(minutes=1)
        made = self.bench.made()
        chain = self.stack.enter_context(
            closing(
                SmallChain(
                    self.folder,
                    self.store,
                    self.bench.known,
                    begun=made.created_at,
                    instance=made.instance,
                )
            )
        )
        chain.grow(3)
        self.sets.append(made)
        self.chains.append(chain)
        return chain

    def end(self, chain: SmallChain) -> None:
        """End a chain, as its follower does, and pack it."""
        key = chain_keys.end_key(PREFIX, chain.id)
        ended = End(1, chain.id, self.clock.now(), "new_chain", chain.number)
        document = MARKS.sign(key, dump(ended))
        chain.put(key, document)
        with chain.known.transaction() as connection:
            table.note_end(connection, chain.id, document, "valid")
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        packing = Packing(self.store, chain.known, MARKS, chain.instance, scratch)
        assert pack_chain(packing, chain.id, chain.instant, ended=True) >= 1

    def under(self, policy: RetentionPolicy, *keys: MarkKey) -> Bench:
        """The same installation under another policy, and with these keys, if they are given."""
        return self.stack.enter_context(
            open_bench(
                self.folder,
                self.store,
                clock=self.clock,
                sources=self.bench.sources,
                retention=policy,
                mark_keys=keys or (MARK_KEY,),
            )
        )

    def keys(self, chain: SmallChain) -> list[str]:
        """What the store has of a chain, below its prefix."""
        prefix = chain_keys.chain_prefix(PREFIX, chain.id)
        return [one.key.removeprefix(prefix) for one in self.store.list(prefix)]

    def rows(self, chain: SmallChain) -> int:
        """How many rows this host has of a chain."""
        with self.bench.known.reading() as connection:
            return (
                len(list(table.points(connection, chain.id)))
                + len(objects_table.objects(connection, chain.id))
                + (table.chain(connection, chain.id) is not None)
            )


@pytest.fixture
def house(tmp_path: Path, store: WatchedStore, clock: FixedClock) -> Iterator[House]:
    """Two chains; the service's policy is the default, and drops nothing yet."""
    with ExitStack() as stack:
        bench = stack.enter_context(open_bench(tmp_path, store, clock=clock))
        found = House(bench, stack, tmp_path, store, clock, [], [])
        found.end(found.begin())
        found.begin()
        yield found


PACKED = ["end.json", "head.json", "p/0000000001-0000000003.pack"]
LIVE = ["head.json", "i/0000000001.inc", "i/0000000002.inc", "i/0000000003.inc"]


def test_a_chain_goes_with_its_full(house: House) -> None:
    """All of it, and its rows; the chain that goes on is untouched, and its full with it."""
    strict = house.under(NOTHING)
    old, live = house.chains

    assert strict.prune().status == "succeeded"

    assert house.keys(old) == []
    assert house.rows(old) == 0
    assert house.keys(live) == LIVE
    assert strict.stored_ids() == [house.sets[1].id]


def test_a_full_stays_while_a_point_needs_it(house: House) -> None:
    """For BACKUP_KEEP_POINTS_DAYS, whatever the rules of sets say; then both go."""
    days = house.under(replace(NOTHING, points_days=7))
    old, live = house.chains

    assert days.prune().status == "succeeded"
    assert days.stored_ids() == [one.id for one in house.sets]
    assert house.keys(old) == PACKED

    house.clock.advance(days=8)
    assert days.prune().status == "succeeded"
    assert days.stored_ids() == [house.sets[1].id]
    assert house.keys(old) == []
    assert house.keys(live) == LIVE


def test_old_packs_go_although_their_full_stays(house: House) -> None:
    """The set is kept by a rule of sets; the seconds after it are over."""
    policy = house.under(replace(NOTHING, all_days=90, points_days=7))
    house.clock.advance(days=8)

    assert policy.prune().status == "succeeded"

    assert policy.stored_ids() == [one.id for one in house.sets]
    assert house.keys(house.chains[0]) == []


def test_nothing_is_removed_while_it_is_frozen(house: House) -> None:
    """After a run that failed, packs stay as sets do."""
    strict = house.under(NOTHING)
    house.bench.tokens.rename(house.bench.tokens.with_suffix(".away"))
    house.bench.sessions.rename(house.bench.sessions.with_suffix(".away"))
    assert strict.run().status == "failed"

    assert strict.prune().status == "succeeded"

    assert house.keys(house.chains[0]) == PACKED


def test_the_plan_says_what_goes_and_why(house: House) -> None:
    """On the command line and as JSON: objects, bytes, reason."""
    strict = house.under(NOTHING)

    plan = strict.service.own_sets.plan_prune()
    shown = text.retention(plan)
    document = json.loads(json.dumps(documents.retention_document(plan)))

    old, live = house.chains
    assert f"drop  chain of {old.set_id}  3 objects, " in shown
    assert f"it hangs on set {old.set_id}, which is not kept" in shown
    assert f"keep  chain of {live.set_id}  2 objects, " in shown  # the newest point, and the head
    [gone] = document["chains"]["drop"]
    assert (gone["chain"], gone["objects"]) == (old.id, 3)
    assert gone["bytes"] > 1000


@only_folder
@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(6))
def test_a_prune_that_is_interrupted_is_finished_by_the_next(
    house: House, store: WatchedStore, number: int, *, done: bool
) -> None:
    """Whichever delete fails: the next prune leaves nothing of the chain, and all of the other."""
    strict = house.under(NOTHING)
    old, live = house.chains
    store.calls.clear()
    store.break_at("delete", number, done=done)
    strict.prune()
    store.mend()
    assert house.keys(live) == LIVE
    if "head.json" in house.keys(old):
        assert house.keys(old) == PACKED

    assert strict.prune().status == "succeeded"

    assert house.keys(old) == []
    assert house.rows(old) == 0
    assert house.keys(live) == LIVE


@only_folder
def test_a_host_that_knows_nothing_finishes_it(
    house: House, store: WatchedStore, tmp_path: Path
) -> None:
    """With the records lost, the sweep removes what has no head any more."""
    strict = house.under(NOTHING)
    old, live = house.chains
    key = chain_keys.head_key(PREFIX, old.id)
    store.after("delete", key, lambda: store.break_at("delete", 0))
    strict.prune()
    store.mend()
    assert house.keys(old) == PACKED[:1] + PACKED[2:]
    with house.bench.known.transaction() as connection:
        objects_table.forget_chain(connection, old.id)

    assert strict.prune().status == "succeeded"

    assert house.keys(old) == []
    assert house.keys(live) == LIVE


@only_folder
def test_a_chain_that_was_marked_again_goes_with_its_marks(house: House) -> None:
    """Also where the records are lost, and only the later mark says that its head is ours."""
    new = mark_key_of(a_token_key("new"))
    old, live = house.chains
    house.under(NOTHING, new, MARK_KEY).service.rotation.mark_again()
    assert any(key.startswith("mark-") for key in house.keys(old))
    with house.bench.known.transaction() as connection:
        for chain in house.chains:
            objects_table.forget_chain(connection, chain.id)

    assert house.under(NOTHING, new).prune().status == "succeeded"

    assert house.keys(old) == []
    assert [key for key in house.keys(live) if not key.startswith("mark-")] == LIVE


# --- what is not ours -------------------------------------------------------------------


@pytest.mark.parametrize("metadata", [{}, {"chain": "another"}, {"instance": "f" * 16}])
def test_what_does_not_say_that_it_is_of_the_chain_is_kept_and_named(
    house: House, log_lines: LogLines, metadata: dict[str, str]
) -> None:
    """The rest of the chain goes, and the prune says which object it kept."""
    old = house.chains[0]
    key = chain_keys.chain_prefix(PREFIX, old.id) + PACKED[2]
    named = {**dict(house.store.head(key).metadata), **metadata} if metadata else {}
    body = house.bench.bytes_of(key)
    house.store.delete(key)
    house.store.put(key, io.BytesIO(body), named)

    run = house.under(NOTHING).prune()

    assert run.error is not None
    assert (run.error.code, key in run.error.message) == ("prune_incomplete", True)
    assert house.keys(old) == PACKED[2:]
    assert key in log_lines.text()


def renamed(house: House, key: str, body: bytes | None = None, **changed: str | None) -> None:
    """Put an object again with other metadata (None: without that name), or other bytes."""
    named = {**dict(house.store.head(key).metadata), **changed}
    body = house.bench.bytes_of(key) if body is None else body
    house.store.delete(key)
    metadata = {name: value for name, value in named.items() if value is not None}
    house.store.put(key, io.BytesIO(body), metadata)


@only_folder
def test_a_pack_that_names_no_chain_is_kept(house: House) -> None:
    """All that is not a head or an end has always named it."""
    old = house.chains[0]
    renamed(house, chain_keys.chain_prefix(PREFIX, old.id) + PACKED[2], chain=None)
    assert house.under(NOTHING).prune().error is not None
    assert house.keys(old) == PACKED[2:]


@only_folder
def test_heads_and_ends_of_earlier_versions_name_their_chain_inside(house: House) -> None:
    """They go with their chain, although their metadata has the installation alone."""
    old = house.chains[0]
    for name in PACKED[:2]:
        renamed(house, chain_keys.chain_prefix(PREFIX, old.id) + name, chain=None)
    assert house.under(NOTHING).prune().status == "succeeded"
    assert house.keys(old) == []


@only_folder
@pytest.mark.parametrize("name", PACKED[:2])
@pytest.mark.parametrize("theirs", ["instance", "body", "no document", "chain"])
def test_a_head_or_end_of_another_chain_is_kept(house: House, name: str, theirs: str) -> None:
    """One that another installation names, or that speaks of another chain, or is no document."""
    old, live = house.chains
    key = chain_keys.chain_prefix(PREFIX, old.id) + name
    own = house.bench.bytes_of(key)
    if theirs == "instance":
        renamed(house, key, chain=None, instance="f" * 16)
    elif theirs == "body":
        renamed(house, key, own.replace(old.id.encode(), live.id.encode()), chain=None)
    elif theirs == "no document":
        renamed(house, key, b"x" * len(own), chain=None)
    else:
        renamed(house, key, chain=live.id)

    assert house.under(NOTHING).prune().error is not None

    assert house.keys(old) == [name]
    assert house.keys(live) == LIVE


@only_folder
def test_the_sweep_leaves_what_is_not_ours_alone(house: House, log_lines: LogLines) -> None:
    """Chains of others, and keys that are none, stay however old they are, and are named."""
    theirs = chain_keys.head_key(PREFIX, f"20260101T000000Z-{'f' * 16}")
    increment = chain_keys.increment_key(PREFIX, f"20260101T000000Z-{'e' * 16}", 1, sealed=False)
    odd = f"{PREFIX}chains/notes.txt"
    for key in (theirs, increment, odd):
        house.store.put(key, io.BytesIO(b"{}"), {})
        os.utime(Path(house.store.location) / key, times=(1, 1))
    house.clock.advance(hours=25)

    assert house.under(replace(NOTHING, all_days=9, points_days=7)).prune().status == "succeeded"

    kept = [one.key for one in house.store.list(f"{PREFIX}chains/")]
    assert {theirs, increment, odd} <= set(kept)
    assert "2 objects below backups/chains/ are not of a chain" in log_lines.text()


@only_folder
def test_a_pack_of_which_only_the_name_is_known_is_read_first(house: House) -> None:
    """Without the times of its points it would stay for ever; one that is not ours is not used."""
    old = house.chains[0]
    with house.bench.known.transaction() as connection:
        [row] = objects_table.objects(connection, old.id, "pack")
        unread = replace(row, mark=None, first_instant=None, last_instant=None, points=None)
        objects_table.note_object(connection, unread)
    policy = house.under(replace(NOTHING, all_days=90, points_days=7))
    house.clock.advance(days=8)

    assert policy.prune().status == "succeeded"

    assert house.keys(old) == []


def test_what_a_prune_removes_is_never_missed(
    house: House, store: WatchedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks at the store after each delete of ours sees that nothing was lost."""
    strict = house.under(NOTHING)
    looks = 0
    inner = store.delete

    def delete_and_look(key: str) -> None:
        nonlocal looks
        inner(key)
        strict.service.catalogue.refresh()
        assert strict.service.own_sets.missing_points() == ()
        looks += 1

    monkeypatch.setattr(store, "delete", delete_and_look)
    assert strict.prune().status == "succeeded"

    assert house.keys(house.chains[0]) == []
    assert looks >= len(PACKED)


def test_what_a_packing_removes_is_never_missed(
    house: House, store: WatchedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The members of a pack go one by one, and their points stay."""
    live = house.chains[1]
    looks = 0
    inner = store.delete

    def delete_and_look(key: str) -> None:
        nonlocal looks
        inner(key)
        house.bench.service.catalogue.refresh()
        assert house.bench.service.own_sets.missing_points() == ()
        looks += 1

    monkeypatch.setattr(store, "delete", delete_and_look)
    house.end(live)
    assert looks == len([key for key in LIVE if key.endswith(".inc")])


@pytest.mark.parametrize("how", ["flipped", "gone"])
def test_a_member_that_is_not_what_was_proven_is_missing(
    house: House, store: WatchedStore, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The hourly packing reads each increment: one of the same size, that a bit is wrong in, ends
    what can be restored at the point before it, by name."""
    live = house.chains[1]
    key = chain_keys.increment_key(PREFIX, live.id, 2, sealed=False)
    body = bytearray(house.bench.bytes_of(key))
    body[-1] ^= 1
    if how == "gone":
        store.delete(key)
    else:
        house.bench.replace_object(key, bytes(body))

    house.end(live)

    missing = [one.id for one in house.bench.service.own_sets.missing_points()]
    assert missing == [f"{live.set_id}.2"]
    assert f"point {live.set_id}.2 and all that follow it" in caplog.text
    house.bench.service.catalogue.refresh()
    assert [one.id for one in house.bench.service.own_sets.missing_points()] == missing
