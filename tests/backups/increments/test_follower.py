"""Tests of the follower: a change becomes a proven point, and what ends a chain."""

from __future__ import annotations

import io
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest
from cryptography.fernet import Fernet

from backups.config import SealConfig
from backups.errors import FollowerBusy, RunInterrupted
from backups.format.chain import Head, load
from backups.format.chain_keys import chain_id, end_key, head_key, increment_key, point_id, set_of
from backups.host.machine import boot_id
from backups.increments import capture
from backups.increments.compare import copy_pages
from backups.increments.follow_folder import FollowFolder
from backups.increments.lease import FollowLease
from backups.increments.outages import AWAY, read_outages
from backups.sets.chains import table
from backups.sets.seal import generate_key_pair
from backups.vocabulary.following import Outage
from shared.errors import DatabaseLocked
from tests.support.bench import PREFIX, Bench
from tests.support.databases import add_rows, connect, overwrite_leaf, write
from tests.support.following import (
    begun,
    clock_of,
    end_of,
    following,
    following_bench,
    increment_of,
    increments,
    replayed,
    rotate,
    rows_of,
    step,
)
from tests.support.marks import MARK_KEY, mark_key_of


@pytest.fixture(params=["compare", "wal"])
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """An installation that follows changes, by both ways to find them."""
    with following_bench(tmp_path, follow=request.param) as bench:
        yield bench


# --- what a chain is ------------------------------------------------------------------------


def test_a_chain_begins_with_a_full_that_was_handed_over(bench: Bench) -> None:
    """The head names the files of the full as they are stored, and is marked."""
    with following(bench) as follower:
        chain = begun(bench, follower)

    key = head_key(PREFIX, chain)
    document = bench.bytes_of(key)
    assert bench.service.config.marks.check(key, document).outcome == "valid"
    head = load(Head, document, key=key, chain=chain)
    full = bench.service.catalogue.get(head.set_id)
    assert {one.source: one.snapshot_sha256 for one in head.sources} == {
        one.source: one.snapshot_sha256 for one in full.objects
    }
    assert head.sequence == full.sequence
    metadata = bench.store.head(key).metadata
    assert (metadata["chain"], metadata["instance"]) == (chain, full.instance)
    assert increments(bench) == []  # nothing has changed since


def test_a_change_is_a_proven_point(bench: Bench) -> None:
    """A rotated token is in a marked object that was read back, and the shadow is as the source."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        rotate(bench, "new")
        assert step(bench, follower) == "stored"
        assert step(bench, follower) == "idle"

    found = increment_of(bench, chain, 1)
    assert [change.source for change in found.sources] == ["tokens"]
    assert len(bench.bytes_of(increments(bench)[0])) < 3000
    with bench.known.reading() as connection:
        row = table.last_point(connection, chain)
    assert row is not None
    assert (row.number, row.sequence, row.proven, row.mark) == (1, found.sequence, True, "valid")


def test_points_follow_one_another(bench: Bench) -> None:
    """Each point names the object before it, and changes what that one made."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        for value in "abc":
            rotate(bench, value)
            assert step(bench, follower) == "stored"

    first, second, third = (increment_of(bench, chain, number) for number in (1, 2, 3))
    assert (second.sources[0].before, third.sources[0].before) == (
        first.sources[0].after,
        second.sources[0].after,
    )
    assert first.sequence < second.sequence < third.sequence
    assert third.proven is not None
    assert third.proven.seq == 2


def test_sets_and_points_are_numbered_by_one_counter(bench: Bench) -> None:
    """A set that is made after a point has a higher number, and the next point one above that."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        rotate(bench, "a")
        step(bench, follower)
        first = increment_of(bench, chain, 1)
        clock_of(bench).advance(minutes=1)
        made = bench.made()
        assert made.sequence is not None
        assert made.sequence > first.sequence
        rotate(bench, "b")
        assert step(bench, follower) == "stored"
        assert follower.chain is not None
        assert increment_of(bench, follower.chain, 1).sequence > made.sequence


def test_a_step_that_waits_for_a_lock_ends_with_the_process(bench: Bench) -> None:
    """A shutdown does not wait for whoever holds a database."""
    stopping = threading.Event()
    with following(bench, stopping) as follower:
        begun(bench, follower)
        rotate(bench, "new")
        with closing(connect(bench.tokens)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            stopping.set()
            with pytest.raises(RunInterrupted):
                step(bench, follower)
            writer.execute("ROLLBACK")


def test_a_damaged_database_is_no_point(tmp_path: Path) -> None:
    """It is named at once, `latest` stays the point before it, and a cure is followed again."""
    with following_bench(tmp_path) as bench, following(bench) as follower:
        chain = begun(bench, follower)
        rotate(bench, "good")
        assert step(bench, follower) == "stored"
        cure = overwrite_leaf(bench.tokens)

        assert step(bench, follower) == "waiting"

        assert follower.failing == {"tokens"}
        assert "tokens.db) is damaged, and no point is made" in follower.following.damaged["tokens"]
        assert len(increments(bench)) == 1
        assert replayed(bench, chain, tmp_path)  # the newest point is sound
        cure()
        rotate(bench, "cured")
        assert step(bench, follower) == "stored"
        assert follower.failing == frozenset()
        assert follower.following.damaged == {}


@pytest.mark.parametrize("most_in_memory", [None, 0])
def test_a_copy_that_is_compared_is_in_memory_and_has_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_in_memory: int | None
) -> None:
    """On the disk of the databases, each second, the bot's commits would wait for it; what is large
    is on that disk. Whatever ends the process, no copy stays."""
    memory, folders = tmp_path / "memory", []
    memory.mkdir()

    def noted(connection: sqlite3.Connection, kept: Path | None, folder: Path) -> BinaryIO:
        folders.append((kept, folder))
        copy = copy_pages(connection, kept, folder)
        assert os.fstat(copy.fileno()).st_nlink == 0
        return copy

    monkeypatch.setattr(capture, "copy_pages", noted)
    monkeypatch.setattr(capture, "folder_in_memory", lambda _: memory)
    if most_in_memory is not None:
        monkeypatch.setattr(capture, "_MOST_BYTES_IN_MEMORY", most_in_memory)
    with following_bench(tmp_path, follow="compare") as bench, following(bench) as follower:
        chain = begun(bench, follower)
        step(bench, follower)  # each start compares all once
        folders.clear()
        rotate(bench, "new")
        assert step(bench, follower) == "stored"
        disk = bench.directory.path / "follow" / "work"
        assert folders == [(None, disk if most_in_memory == 0 else memory)]
        assert list(memory.iterdir()) == list(disk.iterdir()) == []
        assert replayed(bench, chain, tmp_path) == rows_of(bench.tokens, "tokens")


def test_without_room_in_memory_the_copy_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container whose shared memory is small."""
    monkeypatch.setattr(capture, "folder_in_memory", lambda _: None)
    with following_bench(tmp_path, follow="compare") as bench, following(bench) as follower:
        chain = begun(bench, follower)
        rotate(bench, "new")
        assert step(bench, follower) == "stored"
        assert replayed(bench, chain, tmp_path) == rows_of(bench.tokens, "tokens")


def test_a_volatile_source_causes_no_point_and_is_carried(bench: Bench) -> None:
    """Sessions come and go; what another source causes takes them along."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        write(bench.sessions, "DELETE FROM sessions WHERE rowid = 1")
        assert step(bench, follower) == "idle"
        assert increments(bench) == []

        rotate(bench, "a")
        assert step(bench, follower) == "stored"
    names = [change.source for change in increment_of(bench, chain, 1).sources]
    assert names == ["sessions", "tokens"]


def test_a_newer_full_begins_a_new_chain(bench: Bench) -> None:
    """The old chain has an end, and its folder is gone."""
    with following(bench) as follower:
        old = begun(bench, follower)
        rotate(bench, "a")
        step(bench, follower)
        new = begun(bench, follower)
        step(bench, follower)

    assert old != new
    assert (end_of(bench, old).reason, end_of(bench, old).last) == ("new_chain", 1)
    assert bench.store.head(end_key(PREFIX, old)).metadata["chain"] == old
    assert FollowFolder(bench.directory).begun() == [new]
    assert FollowFolder(bench.directory).ended() == []


# --- it goes on -----------------------------------------------------------------------------


def test_a_chain_goes_on_after_a_restart(bench: Bench) -> None:
    """What was written while nobody followed is in the next point."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        rotate(bench, "a")
        step(bench, follower)
    rotate(bench, "b")
    with following(bench) as follower:
        assert step(bench, follower) == "stored"
        assert follower.chain == chain
    assert len(increments(bench)) == 2


def test_a_shadow_that_is_torn_ends_the_chain(bench: Bench) -> None:
    """Its sum tells, and a full follows."""
    with following(bench) as follower:
        chain = begun(bench, follower)
    bench.forget_copies()
    path = bench.directory.path / "follow" / chain / "tokens.db"
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)

    with following(bench) as follower:
        rotate(bench, "a")
        assert step(bench, follower) == "needs_full"
        assert step(bench, follower) == "needs_full"
    assert end_of(bench, chain).reason == "differs"


def test_a_local_copy_begins_a_chain(bench: Bench) -> None:
    """Where nothing was handed over, the copy of the newest set is as good, if it is whole."""
    made = bench.made()
    FollowFolder(bench.directory).drop(chain_id(made.id, made.instance))
    rotate(bench, "a")
    with following(bench) as follower:
        assert step(bench, follower) == "stored"
        assert follower.chain == chain_id(made.id, made.instance)
    assert len(increments(bench)) == 1


# --- it ends --------------------------------------------------------------------------------


def test_a_small_step_back_of_the_clock_only_waits(bench: Bench) -> None:
    """Within five seconds the instants of a chain stand still, and never go back."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        rotate(bench, "a")
        step(bench, follower)
        clock_of(bench).step(seconds=-63)
        rotate(bench, "b")
        assert step(bench, follower) == "stored"
    first, second = (increment_of(bench, chain, number) for number in (1, 2))
    assert first.instant == second.instant
    assert first.sequence < second.sequence


def test_a_clock_that_goes_back_ends_the_chain(bench: Bench) -> None:
    """More than five seconds back: the next points have the true time, in a new chain."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        rotate(bench, "a")
        step(bench, follower)
        clock_of(bench).step(minutes=-5)
        rotate(bench, "b")
        assert step(bench, follower) == "needs_full"
        step(bench, follower)
    assert end_of(bench, chain).reason == "clock"


def test_a_restore_ends_the_chain(bench: Bench) -> None:
    """The end says what was restored, and the follower asks for a full."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        rotate(bench, "a")
        step(bench, follower)
        restored = bench.service.catalogue.latest()
        assert restored is not None
        bench.restored()
        assert step(bench, follower) == "needs_full"
    end = end_of(bench, chain)
    assert end.reason == "restore"
    assert end.restored_to is not None
    assert (end.restored_to.point, end.restored_to.sequence) == (restored.id, restored.sequence)


def test_another_writer_ends_the_chain(bench: Bench) -> None:
    """An object of somebody else under the next number is never overwritten or followed, and what
    follows it is not cut off by an end."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        key = increment_key(PREFIX, chain, 1, sealed=False)
        bench.store.put(key, io.BytesIO(b"somebody else's"), {"sha256": "x"})
        rotate(bench, "a")
        assert step(bench, follower) == "needs_full"
        step(bench, follower)
    assert bench.bytes_of(key) == b"somebody else's"
    assert end_key(PREFIX, chain) not in bench.all_keys()


def test_a_change_too_large_for_an_increment_needs_a_full(bench: Bench) -> None:
    """More than half of the pages of a file that is not small: the chain ends, and a full follows.

    That full begins the next chain.
    """
    with following(bench) as follower:
        add_rows(bench.tokens, 2000, padding=4000)
        chain = begun(bench, follower)
        write(bench.tokens, "UPDATE tokens SET value = value || hex(randomblob(2000))")
        assert step(bench, follower) == "needs_full"
        step(bench, follower)
        assert end_of(bench, chain).reason == "sources"
        begun(bench, follower)


@pytest.mark.parametrize(
    "statement",
    [
        "VACUUM",
        "DELETE FROM tokens",
        "CREATE TABLE other(x)",
        "PRAGMA user_version=7",
        "INSERT INTO tokens SELECT key || 'x', hex(randomblob(3000)), 0 FROM tokens",
        "PRAGMA wal_checkpoint(TRUNCATE)",
    ],
)
def test_whatever_is_written_is_replayed(bench: Bench, tmp_path: Path, statement: str) -> None:
    """Full and increments give what is live, after any statement."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        write(bench.tokens, statement)
        step(bench, follower)
        add_rows(bench.tokens, 1)
        assert step(bench, follower) == "stored"
    assert replayed(bench, chain, tmp_path) == rows_of(bench.tokens, "tokens")


# --- the store ------------------------------------------------------------------------------


def test_a_store_that_is_away_delays(bench: Bench, tmp_path: Path) -> None:
    """Nothing is queued; once it answers, the attempt and one comparison cover all of it."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        bench.watched.break_at("put", 0)
        rotate(bench, "a")
        assert step(bench, follower) == "waiting"
        noticed = clock_of(bench).now()
        for value in "bcd":
            rotate(bench, value)
            assert step(bench, follower, 1) == "waiting"
        bench.watched.mend()
        assert step(bench, follower, 600) == "stored"
        assert len(increments(bench)) == 2
        assert read_outages(FollowFolder(bench.directory)) == (
            Outage(noticed, clock_of(bench).now(), AWAY),
        )
        rotate(bench, "e")
        assert step(bench, follower) == "stored"
        assert len(read_outages(FollowFolder(bench.directory))) == 1
    assert replayed(bench, chain, tmp_path) == rows_of(bench.tokens, "tokens")


@pytest.mark.parametrize("operation", ["put", "get"])
def test_an_answer_that_is_lost_is_no_other_writer(
    bench: Bench, tmp_path: Path, operation: str
) -> None:
    """The object is there and is ours: the chain goes on, with it and with what came later."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        rotate(bench, "a")
        bench.watched.break_at(operation, 0, done=True)  # type: ignore[arg-type]
        assert step(bench, follower) == "waiting"
        assert len(increments(bench)) == 1
        bench.watched.mend()
        rotate(bench, "b")
        assert step(bench, follower, 600) == "stored"
        assert follower.chain == chain
        assert len(increments(bench)) == 2
    assert replayed(bench, chain, tmp_path) == rows_of(bench.tokens, "tokens")


def test_other_bytes_that_are_read_back_end_the_chain(bench: Bench) -> None:
    """A point is proven by what the store has, or it is none."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        key = increment_key(PREFIX, chain, 1, sealed=False)

        def spoil() -> None:
            path = Path(bench.store.location) / key
            content = bytearray(path.read_bytes())
            content[-3] ^= 1
            path.write_bytes(content)

        bench.watched.after("put", key, spoil)
        rotate(bench, "a")
        assert step(bench, follower) == "needs_full"
    with bench.known.reading() as connection:
        assert table.last_point(connection, chain) is None


# --- the lease ------------------------------------------------------------------------------


def test_a_restore_waits_for_the_follower_and_then_touches_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A holder that does not let go: `follower_busy`, and the live data is as it was."""
    monkeypatch.setattr("backups.increments.lease.PATIENCE_SECONDS", 0.1)
    bench.made()
    rotate(bench, "live")
    before = rows_of(bench.tokens, "tokens")
    held = bench.directory.follow_lease.try_acquire()
    assert held is not None
    run = bench.restore()
    assert run.error is not None
    assert run.error.code == FollowerBusy.code
    assert rows_of(bench.tokens, "tokens") == before
    assert bench.facts.restored_chain() is None
    held.release()
    bench.restored()


def test_the_follower_keeps_off_while_a_restore_asks(bench: Bench) -> None:
    """It reads the live databases again when nobody asks any more, or the one who did is dead."""
    with following(bench) as follower:
        begun(bench, follower)
        rotate(bench, "a")
        held = bench.directory.follow_lease.try_acquire()
        assert held is not None
        assert step(bench, follower) == "waiting"
        held.release()
        assert step(bench, follower) == "stored"


def test_an_undo_ends_the_chain_too(bench: Bench) -> None:
    """What an undo brings back is no point of a chain; nothing is set aside for it."""
    with following(bench) as follower:
        begun(bench, follower)
        rotate(bench, "a")
        step(bench, follower)
        bench.restored()
        step(bench, follower)
        chain = begun(bench, follower)
        bench.undo()
        assert step(bench, follower) == "needs_full"
    assert (end_of(bench, chain).reason, end_of(bench, chain).restored_to) == ("restore", None)


def test_a_source_that_cannot_be_read_stops_only_itself(bench: Bench) -> None:
    """The others are stored; its name is in status until it is back."""
    with following(bench) as follower:
        begun(bench, follower)
        away = bench.sessions.rename(bench.sessions.with_name("away.db"))
        rotate(bench, "a")
        assert step(bench, follower) == "stored"
        assert follower.failing == {"sessions"}
        assert "sessions" in follower.following.reason
        away.rename(bench.sessions)
        rotate(bench, "b")
        assert step(bench, follower) == "stored"
        assert follower.failing == set()


def test_a_writer_that_never_pauses_is_captured(bench: Bench, tmp_path: Path) -> None:
    """What is committed after the gates were opened is in the next point."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        with connect(bench.tokens) as writer:
            for number in range(5):
                writer.execute("UPDATE tokens SET value = ? WHERE rowid = 2", (str(number),))
                assert step(bench, follower) == "stored"
        writer.close()
    assert replayed(bench, chain, tmp_path) == rows_of(bench.tokens, "tokens")


def test_a_step_that_waits_for_the_store_keeps_no_restore_waiting(bench: Bench) -> None:
    """The lease is held while live databases are read, and not while an object is put."""
    free: list[bool] = []
    with following(bench) as follower:
        begun(bench, follower)
        rotate(bench, "a")
        bench.watched.before(
            "put", "/i/", lambda: free.append(bench.directory.follow_lease.is_free())
        )
        assert step(bench, follower) == "stored"
    assert free == [True]


def test_what_a_restore_put_there_is_never_in_the_chain_before_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restore between two looks of a step: the step captures nothing, and the chain ends."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        rotate(bench, "a")
        real = follower._parts.lease.take

        def restored_before() -> bool:
            monkeypatch.undo()
            bench.restored()
            return real()

        monkeypatch.setattr(follower._parts.lease, "take", restored_before)
        assert step(bench, follower) == "waiting"
        assert increments(bench) == []
        assert step(bench, follower) == "needs_full"
    assert end_of(bench, chain).reason == "restore"


@pytest.mark.parametrize(("at", "counts"), [(0.0, True), (-31.0, False), (5.0, False)])
def test_a_request_counts_for_some_seconds(bench: Bench, at: float, counts: bool) -> None:
    """Who asked the follower to let go, and died, keeps it off for half a minute at the most."""
    lease = FollowLease(bench.directory.follow_lease, bench.facts, lambda: 1000.0)
    bench.facts.ask_follower(f"{boot_id() or '-'} {1000.0 + at}")
    assert lease.take() is not counts
    lease.let_go()
    bench.facts.ask_follower("another-start 1000.0")
    assert lease.take()
    lease.let_go()


def test_what_is_written_until_the_gates_close_is_of_the_same_instant(bench: Bench) -> None:
    """A source that is written after the last look, and before the gates, goes along."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        rotate(bench, "a")
        real = follower._parts.lease.take

        def written_before() -> bool:
            write(bench.sessions, "DELETE FROM sessions WHERE rowid = 1")
            return real()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(follower._parts.lease, "take", written_before)
            assert step(bench, follower) == "stored"
    assert [one.source for one in increment_of(bench, chain, 1).sources] == ["sessions", "tokens"]


def test_records_that_cannot_be_written_delay_a_point(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shadow has it already: the next step finishes the same object, and the chain goes on."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        rotate(bench, "a")

        def locked(*_: object) -> None:
            monkeypatch.undo()
            raise DatabaseLocked("the catalogue is locked", "Try again.")

        monkeypatch.setattr("backups.increments.step.note_point", locked)
        with pytest.raises(DatabaseLocked):
            step(bench, follower)
        rotate(bench, "b")
        assert step(bench, follower) == "stored"
        assert follower.chain == chain
    assert replayed(bench, chain, tmp_path) == rows_of(bench.tokens, "tokens")


def test_encrypted_points_are_proven_by_their_bytes(tmp_path: Path) -> None:
    """Where no identity is on the host, other bytes that are read back still end the chain."""
    _, public = generate_key_pair()
    seal = SealConfig("zstd", (public,))
    with following_bench(tmp_path, seal=seal) as bench, following(bench) as follower:
        chain = begun(bench, follower)
        rotate(bench, "a")
        assert step(bench, follower) == "stored"
        (key,) = increments(bench)
        assert key.endswith(".inc.age")
        assert b'"sources"' in bench.bytes_of(key).partition(b"\n")[0]

        def spoil() -> None:
            path = Path(bench.store.location) / key.replace("0000000001", "0000000002")
            path.write_bytes(path.read_bytes()[:-3] + b"xyz")

        bench.watched.after("put", "0000000002", spoil)
        rotate(bench, "b")
        assert step(bench, follower) == "needs_full"
        with bench.known.reading() as connection:
            row = table.last_point(connection, chain)
        assert row is not None
        assert row.number == 1


def test_a_lost_shadow_is_no_lost_point(bench: Bench) -> None:
    """Without `BACKUP_DIR/follow` a full begins the next chain, and all points stay."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        rotate(bench, "one")
        assert step(bench, follower) == "stored"
    shutil.rmtree(bench.service.directory.path / "follow")

    with following(bench) as follower:
        rotate(bench, "two")
        assert step(bench, follower) == "needs_full"
        bench.made()
        step(bench, follower)
        assert follower.chain not in (None, chain)

    bench.service.own_sets.refresh()
    found = bench.service.catalogue.get(point_id(chain, 1))
    assert found.protects
    assert end_key(PREFIX, chain) not in bench.all_keys() or end_of(bench, chain).last >= 1


def test_an_end_is_never_before_a_stored_point(bench: Bench) -> None:
    """Where the folder of a chain says less than the records, these count."""
    with following(bench) as follower:
        chain = begun(bench, follower)
        for value in ("one", "two"):
            rotate(bench, value)
            assert step(bench, follower) == "stored"
    (bench.service.directory.path / "follow" / chain / "state.json").write_bytes(b"{}")
    with following(bench) as follower:
        step(bench, follower)
        step(bench, follower)
    assert end_of(bench, chain).last == 2


@pytest.mark.parametrize("more", [True, False], ids=["added", "taken away"])
def test_other_sources_begin_with_a_full(tmp_path: Path, *, more: bool) -> None:
    """At the start after it: a point of the old chain would lack a source, or have one too many."""
    with following_bench(tmp_path) as bench:
        few = bench.sources
        other = replace(few[0], name="orders", path=tmp_path / "orders.db")
        shutil.copyfile(few[0].path, other.path)
        before, after = (few, (*few, other)) if more else ((*few, other), few)
        with following_bench(tmp_path, sources=before) as old, following(old) as follower:
            chain = begun(old, follower)
        with following_bench(tmp_path, sources=after) as new, following(new) as follower:
            assert step(new, follower) == "needs_full"
            assert step(new, follower) == "needs_full"
            assert end_of(new, chain).reason == "sources"


def test_a_chain_with_a_key_that_was_rotated_away_is_not_gone_on_with(tmp_path: Path) -> None:
    """Its head counts for nothing any more, and so would all points that follow it."""
    key = mark_key_of(Fernet.generate_key().decode())
    with following_bench(tmp_path) as bench, following(bench) as follower:
        chain = begun(bench, follower)
        sources = bench.sources
    keys = (key, MARK_KEY)
    with following_bench(tmp_path, sources=sources, mark_keys=keys) as bench:
        with following(bench) as follower:
            assert step(bench, follower) in ("idle", "stored")
            assert follower.chain == chain
        bench.service.catalogue.note_rotated(key.fingerprint)
        with following(bench) as follower:
            rotate(bench, "new")
            assert step(bench, follower) == "needs_full"
            assert follower.chain is None


def test_what_the_headline_promises_is_what_turns_amber(bench: Bench) -> None:
    """A change that waits for longer than that is a fact that does not hold, and no sooner."""
    leading = bench.directory.scheduler_lease.try_acquire()
    assert leading is not None
    bench.directory.scheduler_lease.announce()
    promised = bench.service.status().stored_within
    leading.release()
    assert promised is not None
    with following(bench) as follower:
        begun(bench, follower)
        clock_of(bench).advance(seconds=60)
        held = bench.directory.follow_lease.try_acquire()
        assert held is not None
        rotate(bench, "late")
        assert follower.step() == "waiting"
        clock_of(bench).advance(seconds=promised.total_seconds())
        at_the_limit = follower.following.waiting_since
        clock_of(bench).advance(seconds=1)
        beyond_it = follower.following.waiting_since
        held.release()
    assert at_the_limit is None
    assert beyond_it is not None


def test_a_chain_whose_set_is_gone_is_not_gone_on_with(bench: Bench) -> None:
    """Nobody could restore its points: a full follows."""
    with following(bench) as follower:
        chain = begun(bench, follower)
    bench.store.delete(bench.manifest_key(set_of(chain)))
    bench.service.catalogue.refresh()
    with following(bench) as follower:
        rotate(bench, "new")
        assert step(bench, follower) == "needs_full"
        assert follower.chain is None
