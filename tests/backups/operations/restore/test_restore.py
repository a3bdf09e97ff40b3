"""Restores in place: every state of the live data, under load, and what can be undone."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from backups.errors import NoRestorePoint, NothingToUndo
from backups.model import Progress
from shared.errors import AppError
from tests.support.bench import Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.generations import (
    LIVE_STATES,
    SOURCES,
    LiveStateName,
    bring_into,
    checkpoint,
    connect,
    generation_of,
    generations_in,
    leave_wal_behind,
    rows_of,
    side_files,
)
from tests.support.storage_process import StorageProcess, hammering
from tests.support.waiting import eventually


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A set with `genset` in the embedded store, and `genlive` in the live databases."""
    with open_bench(tmp_path, settings={}) as bench:
        bench.write("genset")
        bench.made()
        bench.write("genlive")
        yield bench


def wrote(path: Path, key: str) -> bool:
    """Whether a token was written under `key`, as this process sees the file at the path."""
    with closing(connect(path)) as connection:
        return bool(connection.execute("SELECT 1 FROM tokens WHERE key = ?", (key,)).fetchone())


def user_exists(path: Path, user: str) -> bool:
    """Whether a user has a session, as this process sees the file at the path."""
    with closing(connect(path)) as connection:
        found = connection.execute("SELECT 1 FROM sessions WHERE uuid = ?", (user,)).fetchone()
        return bool(found)


# --- every state, with the app running --------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("state", LIVE_STATES)
def test_a_running_app_serves_what_was_restored_and_its_writes_land_at_the_path(
    bench: Bench, state: LiveStateName
) -> None:
    """In each state of the live files the app goes on without a restart, on the restored file."""
    with StorageProcess(bench.installation) as app:
        assert app.put("before-0") is None
        for source in SOURCES:
            bring_into(state, bench.live(source))
        bench.restored()
        assert bench.generations() == dict.fromkeys(SOURCES, "genset")
        assert app.put("after-1") is None
        assert wrote(bench.live("tokens"), "after-1")
        assert user_exists(bench.live("sessions"), "after-1")
    # And it is still there when the app has closed its files.
    assert wrote(bench.live("tokens"), "after-1")
    assert user_exists(bench.live("sessions"), "after-1")
    for source in SOURCES:
        assert bench.live(source).stat().st_mode & 0o077 == 0


def test_the_safety_copy_is_on_the_disk_before_the_live_data_changes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes, its name and the folders made for it are synced before the first page is in."""
    synced: list[Path] = []
    at_the_first_page: list[list[Path]] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    def progress(told: Progress) -> None:
        if told.stage == "install" and told.done:
            at_the_first_page.append(list(synced))

    monkeypatch.setattr(os, "fsync", watched)
    plan = bench.service.restore.plan()
    assert bench.service.restore.begin(plan, progress=progress).execute().status == "succeeded"

    (copy,) = bench.safety_copies("tokens")
    assert {copy, copy.parent, copy.parent.parent, bench.directory.path} <= set(
        at_the_first_page[0]
    )


@pytest.mark.parametrize("state", LIVE_STATES)
def test_what_was_replaced_is_kept_and_can_be_undone(bench: Bench, state: LiveStateName) -> None:
    """After a restore in any state the old files are on this host, private, and undo needs them."""
    old = {}
    for source in SOURCES:
        bring_into(state, bench.live(source))
        files = (bench.live(source), *side_files(bench.live(source)))
        old[source] = {file.name: file.read_bytes() for file in files if file.exists()}
    bench.restored()
    for source in SOURCES:
        for kept in (*bench.safety_copies(source), *bench.quarantined(source)):
            assert kept.stat().st_mode & 0o077 == 0
    if state == "missing":
        with pytest.raises(NothingToUndo):
            bench.service.undo.begin()
        return

    bench.undo()

    if state == "healthy":
        assert bench.generations() == dict.fromkeys(SOURCES, "genlive")
    elif state in ("corrupt header", "leftover", "zero bytes"):
        for source in SOURCES:
            files = (bench.live(source), *side_files(bench.live(source)))
            assert {f.name: f.read_bytes() for f in files if f.exists()} == old[source]
    bench.undo()  # of the undo
    assert bench.generations() == dict.fromkeys(SOURCES, "genset")


def test_undo_of_undo_of_undo(bench: Bench) -> None:
    """Each undo can be undone, over and over."""
    bench.restored()
    for expected in ("genlive", "genset", "genlive"):
        bench.undo()
        assert bench.generations() == dict.fromkeys(SOURCES, expected)


def test_undo_keeps_what_was_written_since_the_restore(bench: Bench) -> None:
    """Rows written between restore and undo are in the safety copy of the undo."""
    bench.restored()
    with StorageProcess(bench.installation) as app:
        assert app.put("between-0") is None
        bench.undo()
        assert app.put("after-0") is None
    assert not wrote(bench.live("tokens"), "between-0")
    assert wrote(bench.live("tokens"), "after-0")
    assert any(wrote(copy, "between-0") for copy in bench.safety_copies("tokens"))


def test_nothing_to_undo_is_said_before_anything_happens(bench: Bench) -> None:
    """Without a restore, or when what it replaced has gone, undo is refused by name."""
    with pytest.raises(NothingToUndo):
        bench.service.undo.begin()
    bench.restored()
    for copy in bench.safety_copies("sessions"):
        copy.unlink()
    with pytest.raises(NothingToUndo, match="sessions"):
        bench.service.undo.begin()
    assert bench.generations() == dict.fromkeys(SOURCES, "genset")


def test_what_was_replaced_becomes_a_restore_point(bench: Bench) -> None:
    """The safety copies are stored as a set that only its id reaches, and it can be restored."""
    bench.restored()
    bench.service.own_sets.refresh()
    (kept,) = (found for found in bench.service.catalogue.sets() if found.kind == "pre-restore")
    assert kept.trigger == "pre-restore"
    assert not kept.protects
    assert bench.service.restore.plan().backup_set.kind == "set"
    bench.restored(kept.id)
    assert bench.generations() == dict.fromkeys(SOURCES, "genlive")


@pytest.mark.parametrize("tokens_state", LIVE_STATES)
def test_sources_in_different_states(bench: Bench, tokens_state: LiveStateName) -> None:
    """One restore handles each source in its own state."""
    bring_into(tokens_state, bench.live("tokens"))
    bench.restored()
    assert bench.generations() == dict.fromkeys(SOURCES, "genset")
    assert [generation_of(copy) for copy in bench.safety_copies("sessions")] == ["genlive"]


def test_a_leftover_wal_is_never_applied(bench: Bench) -> None:
    """A `-wal` and `-shm` without their main file are moved aside before a new one comes."""
    for source in SOURCES:
        leave_wal_behind(bench.live(source))
        bench.live(source).unlink()
    bench.restored()
    assert bench.generations() == dict.fromkeys(SOURCES, "genset")
    for source in SOURCES:
        (aside,) = bench.quarantined(source)
        assert {f"{source}.db-wal", f"{source}.db-shm"} == {file.name for file in aside.iterdir()}


def test_a_leftover_journal_is_never_rolled_back_into_the_new_file(bench: Bench) -> None:
    """A hot `-journal` of a database that is gone does not reach the restored one."""
    live = bench.live("tokens")
    journal = live.with_name("tokens.db-journal")
    checkpoint(live)
    with closing(sqlite3.connect(live, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("PRAGMA cache_spill=1")
        connection.execute("PRAGMA cache_size=1")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE tokens SET value = zeroblob(9000)")
        hot = journal.read_bytes()
        connection.execute("ROLLBACK")
    assert len(hot) > 4096
    live.unlink()
    journal.write_bytes(hot)
    bench.restored()
    assert bench.generations() == dict.fromkeys(SOURCES, "genset")


def test_a_restore_without_the_app_twice_over(bench: Bench) -> None:
    """A file that a restore has just installed, which no app has opened yet, is restored again."""
    for source in SOURCES:
        bring_into("missing", bench.live(source))
    bench.restored()
    bench.restored()
    bench.undo()
    assert bench.generations() == dict.fromkeys(SOURCES, "genset")


def test_one_source_only(bench: Bench) -> None:
    """With `only`, the other database is not touched."""
    before = bench.live("sessions").stat().st_mtime_ns
    bench.restored(only="tokens")
    assert bench.generations() == {"tokens": "genset", "sessions": "genlive"}
    assert bench.live("sessions").stat().st_mtime_ns == before
    assert bench.safety_copies("sessions") == []


@pytest.mark.parametrize("state", ["healthy", "missing"])
@pytest.mark.parametrize("live_size", [1024, 65536])
def test_a_live_database_of_another_page_size(
    tmp_path: Path, live_size: int, state: LiveStateName
) -> None:
    """A live database of any page size is restored from a set of another, through the service."""
    with open_bench(tmp_path, settings={}) as bench:
        bench.write("genset")
        made = bench.made()
        assert {stored.page_size for stored in made.objects} == {4096}
        for source in SOURCES:
            with closing(connect(bench.live(source))) as connection:
                connection.execute("PRAGMA journal_mode=DELETE")
                connection.execute(f"PRAGMA page_size={live_size}")
                connection.execute("VACUUM")
        bench.write("genlive")
        with StorageProcess(bench.installation) as app:
            for source in SOURCES:
                bring_into(state, bench.live(source))
            bench.restored()
            assert app.put("after-1") is None
        assert wrote(bench.live("tokens"), "after-1")
        assert generations_in(bench.live("tokens")) == {"genset", "after"}


# --- under load ---------------------------------------------------------------------------


@pytest.mark.slow
def test_readers_and_writers_notice_nothing_and_no_row_is_lost(tmp_path: Path) -> None:
    """Four readers and four writers go through restores and undos without an error or a mixture.

    Every row that was acknowledged is in a safety copy or in the live file.
    """
    with open_bench(tmp_path, settings={"BACKUP_LOCAL_COPIES": "1"}) as bench:
        bench.write("genset", rows=2000, bytes_a_row=1000)
        made = bench.made()
        bench.write("genlive", rows=2000, bytes_a_row=1000)
        with hammering(bench.installation) as hammers:
            writers = [hammer for hammer in hammers if hammer.name.startswith("writer")]

            def all_write_on() -> None:
                before = [writer.rounds() for writer in writers]
                eventually(
                    lambda: all(w.rounds() > n for w, n in zip(writers, before, strict=True)),
                    "every writer writes on",
                )

            all_write_on()
            bench.restored(made.id)
            all_write_on()
            bench.undo()
            all_write_on()
            bench.restored(made.id)
            all_write_on()
        tokens: set[str] = set()
        sessions: set[str] = set()
        for path in (bench.live("tokens"), *bench.safety_copies("tokens")):
            with closing(connect(path)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                tokens |= {row[0] for row in connection.execute("SELECT key FROM tokens")}
        for path in (bench.live("sessions"), *bench.safety_copies("sessions")):
            with closing(connect(path)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                found = connection.execute("SELECT session_id FROM sessions")
                sessions |= {row[0] for row in found}
        acknowledged = [pair for writer in writers for pair in writer.acknowledged()]
    assert len(acknowledged) > 100
    assert [key for key, _ in acknowledged if key not in tokens] == []
    assert [session for _, session in acknowledged if session not in sessions] == []
    assert len(bench.safety_copies("tokens")) == 3


def test_what_restores_replaced_goes_after_a_week_but_for_the_last(tmp_path: Path) -> None:
    """Safety copies stay on this host for 7 days, as in the store; what undo needs stays."""
    clock = FixedClock()
    with open_bench(tmp_path, settings={}, clock=clock) as bench:
        bench.write("genset")
        bench.made()
        for name in ("genone", "gentwo", "genthree"):
            bench.write(name)
            bench.restored(bench.service.list_sets(9)[0][-1].id)
            clock.advance(days=3)
        assert len(bench.safety_copies("tokens")) == 3
        clock.advance(days=-1)
        bench.made()  # the newest prune comes after a good run
        assert bench.service.prune.begin().execute().status == "succeeded"
        assert [generation_of(copy) for copy in bench.safety_copies("tokens")] == [
            "gentwo",
            "genthree",
        ]
        clock.advance(days=60)
        bench.made()
        assert bench.service.prune.begin().execute().status == "succeeded"
        assert [generation_of(copy) for copy in bench.safety_copies("tokens")] == ["genthree"]
        bench.undo()
        assert bench.generations() == dict.fromkeys(SOURCES, "genthree")


def test_nothing_that_was_replaced_goes_after_a_failed_run(tmp_path: Path) -> None:
    """While pruning is frozen, safety copies stay, too."""
    clock = FixedClock()
    with open_bench(tmp_path, settings={}, clock=clock) as bench:
        bench.write("genset")
        bench.made()
        for name in ("genone", "gentwo"):
            bench.write(name)
            bench.restored(bench.service.list_sets(9)[0][-1].id)
            clock.advance(days=30)
        moved = bench.live("tokens").rename(tmp_path / "away.db")
        assert bench.service.backup.begin().execute().status == "failed"
        moved.rename(bench.live("tokens"))
        bench.service.prune.begin().execute()
        assert len(bench.safety_copies("tokens")) == 2


# --- which restore point ------------------------------------------------------------------


def test_at_restores_the_newest_one_not_after_that_time(tmp_path: Path) -> None:
    """`--at` picks by the sets' own instants, and names the time when there is none."""
    with open_bench(tmp_path, settings={}) as bench:
        bench.write("genone")
        first = bench.made()
        bench.write("gentwo")
        second = bench.made()
        bench.write("genlive")
        bench.restored(at=second.created_at)
        assert bench.generations() == dict.fromkeys(SOURCES, "gentwo")
        bench.restored(at=second.created_at - timedelta(milliseconds=1))
        assert bench.generations() == dict.fromkeys(SOURCES, "genone")
        with pytest.raises(NoRestorePoint):
            bench.restore(at=first.created_at - timedelta(seconds=1))


def test_the_instance_of_the_set_is_succeeded(tmp_path: Path) -> None:
    """A restore of another installation's set makes this host its successor."""
    with open_bench(tmp_path / "old", settings={}) as old:
        old.write("genset")
        made = old.made()
    store = str(tmp_path / "old" / "data" / "spaces")
    with open_bench(tmp_path / "new", settings={"BACKUP_LOCAL_STORE": store}) as new:
        new.restored()
        assert new.generations() == dict.fromkeys(SOURCES, "genset")
        with new.records.reading() as connection:
            facts = connection.execute(
                "SELECT value FROM facts WHERE name = ?", (f"successor_of:{made.instance}",)
            ).fetchall()
    ((text,),) = facts
    noted = json.loads(text)
    assert noted["sequence"] == 1
    assert datetime.fromisoformat(noted["at"]) == made.created_at


# --- where the bytes come from ------------------------------------------------------------


def data_gets(bench: Bench) -> list[str]:
    """The stored files that were fetched since the last look."""
    found = [key for key in bench.watched.keys("get") if "/sets/" not in key]
    bench.watched.calls.clear()
    return found


def test_a_local_copy_that_matches_is_used_and_the_store_is_not(bench: Bench) -> None:
    """A restore of a set with local copies fetches no stored file."""
    data_gets(bench)
    bench.restored()
    read_back = set(data_gets(bench))
    latest = bench.service.catalogue.latest()
    assert latest is not None
    assert not {stored.key for stored in latest.objects} & read_back


@pytest.mark.parametrize("harm", ["gone", "changed", "cut", "empty", "another database"])
def test_a_local_copy_that_differs_is_not_used(bench: Bench, harm: str) -> None:
    """A local copy that is gone or is not what the manifest describes gives way to the store."""
    made = bench.service.catalogue.latest()
    assert made is not None
    for stored in made.objects:
        copy = bench.directory.path / "copies" / made.id / f"{stored.source}.db"
        content = copy.read_bytes()
        if harm == "gone":
            copy.unlink()
        elif harm == "changed":
            copy.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        elif harm == "cut":
            copy.write_bytes(content[:4096])
        elif harm == "empty":
            copy.write_bytes(b"")
        else:
            checkpoint(bench.live(stored.source))
            copy.write_bytes(bench.live(stored.source).read_bytes())
    data_gets(bench)
    bench.restored()
    wanted = {stored.key for stored in made.objects}
    assert wanted <= set(data_gets(bench))
    assert bench.generations() == dict.fromkeys(SOURCES, "genset")


# --- it stops, and nothing has changed ------------------------------------------------------


@pytest.mark.parametrize("stage", ["check", "get", "install"])
def test_a_stop_leaves_each_database_whole_and_a_second_restore_finishes(
    bench: Bench, stage: str
) -> None:
    """Stopped in any stage, each database has its old or its new content; undo still works."""

    def stop(progress: Progress) -> None:
        if progress.stage == stage:
            bench.service.stop()

    run = bench.restore(progress=stop)
    assert run.status == "interrupted"
    expected = "genlive"
    assert bench.generations() == dict.fromkeys(SOURCES, expected)
    with open_bench(bench.folder, settings={}) as again:
        again.restored()
        assert again.generations() == dict.fromkeys(SOURCES, "genset")
        again.undo()
        assert again.generations() == dict.fromkeys(SOURCES, "genlive")


def test_a_fault_between_the_databases_is_finished_and_undone(bench: Bench) -> None:
    """With one database replaced and the other not, a second restore finishes; undo undoes it."""
    replaced = []

    def stop(progress: Progress) -> None:
        if progress.stage == "install" and progress.source == "sessions":
            replaced.append(bench.generations())
            raise OSError(5, "the disk has a fault", "staged")

    run = bench.restore(progress=stop)
    assert run.status == "failed"
    assert bench.generations() == {"tokens": "genset", "sessions": "genlive"}
    bench.restored()
    assert bench.generations() == dict.fromkeys(SOURCES, "genset")
    bench.undo()
    assert bench.generations() == dict.fromkeys(SOURCES, "genlive")


def test_a_locked_live_database_fails_by_name_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that never ends its transaction stops the restore, which says so."""
    monkeypatch.setattr("backups.wiring.BUSY_TIMEOUT_SECONDS", 0.1)
    with open_bench(tmp_path, settings={}) as bench:
        bench.write("genset")
        bench.made()
        bench.write("genlive")
        with closing(connect(bench.live("tokens"))) as writer:
            writer.execute("BEGIN IMMEDIATE")
            run = bench.restore()
        assert run.error is not None
        assert run.error.code == "database_locked"
        assert bench.generations() == dict.fromkeys(SOURCES, "genlive")


# --- into a folder --------------------------------------------------------------------------


def test_to_a_folder_writes_checked_private_files_and_touches_nothing_live(bench: Bench) -> None:
    """`--to` gives one self-contained 0600 file for each source, and the live ones stay."""
    target = bench.folder / "deep" / "target"
    bench.restored(to=target)
    assert sorted(file.name for file in target.iterdir()) == ["sessions.db", "tokens.db"]
    assert {generation_of(file) for file in target.iterdir()} == {"genset"}
    assert {file.stat().st_mode & 0o777 for file in target.iterdir()} == {0o600}
    assert bench.generations() == dict.fromkeys(SOURCES, "genlive")
    with pytest.raises(NothingToUndo):
        bench.service.undo.begin()


@pytest.mark.parametrize("end", ["", "-wal", "-shm", "-journal"])
def test_to_a_folder_overwrites_nothing(bench: Bench, end: str) -> None:
    """A file of that name, or one that SQLite would apply to it, refuses the whole restore."""
    target = bench.folder / "target"
    target.mkdir()
    (target / f"sessions.db{end}").write_bytes(b"mine")
    run = bench.restore(to=target)
    assert run.error is not None
    assert run.error.code == "target_occupied"
    assert [file.name for file in target.iterdir()] == [f"sessions.db{end}"]
    assert (target / f"sessions.db{end}").read_bytes() == b"mine"


def test_to_a_folder_overwrites_nothing_in_a_race(bench: Bench) -> None:
    """A file that appears after the check is not overwritten either."""
    target = bench.folder / "target"
    target.mkdir()

    def appear(progress: Progress) -> None:
        if progress.stage == "install":
            (target / "tokens.db").write_bytes(b"mine")

    run = bench.restore(to=target, progress=appear)
    assert run.error is not None
    assert run.error.code == "target_occupied"
    assert (target / "tokens.db").read_bytes() == b"mine"


def test_a_source_that_is_not_known_here_can_be_restored_to_a_folder(tmp_path: Path) -> None:
    """A set with a source of another installation is restored to a folder, whole or by name."""
    extra = tmp_path / "old" / "data" / "extra.db"
    extra.parent.mkdir(parents=True)
    with closing(sqlite3.connect(extra, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE extra(name)")
        connection.execute("INSERT INTO extra VALUES ('genset-0')")
    with open_bench(tmp_path / "old", settings={"BACKUP_EXTRA_SOURCES": f"extra={extra}"}) as old:
        old.write("genset")
        old.made()
    store = str(tmp_path / "old" / "data" / "spaces")
    with open_bench(tmp_path / "new", settings={"BACKUP_LOCAL_STORE": store}) as new:
        plan = new.service.restore.plan()
        assert plan.foreign == ("extra",)
        assert [found.code for found in plan.warnings] == ["foreign_source"]
        new.restored(to=tmp_path / "all")
        assert len(list((tmp_path / "all").iterdir())) == 3
        new.restored(to=tmp_path / "one", only="extra")
        assert [file.name for file in (tmp_path / "one").iterdir()] == ["extra.db"]
        with pytest.raises(AppError, match="extra"):
            new.restore(only="extra")
        new.restored()
        assert new.generations() == dict.fromkeys(SOURCES, "genset")


def test_no_restore_leaves_files_behind(bench: Bench) -> None:
    """After restores of every kind staging is empty, and beside the data is nothing new."""
    bench.restored(to=bench.folder / "target")
    bench.restored()
    bench.undo()
    assert list((bench.directory.path / "staging").iterdir()) == []
    names = {file.name.removesuffix("-wal").removesuffix("-shm") for file in data_files(bench)}
    assert names == {"tokens.db", "sessions.db"}
    for path in bench.directory.path.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def data_files(bench: Bench) -> list[Path]:
    """The files beside the live databases."""
    return [file for file in bench.live("tokens").parent.iterdir() if file.is_file()]


def test_a_restore_opens_and_closes_all_its_files(bench: Bench) -> None:
    """Restores leak no file descriptors."""
    bench.restored()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        bench.restored()
        bench.undo()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_rows_are_those_of_the_set(bench: Bench) -> None:
    """What is restored is, row by row, what was backed up."""
    target = bench.folder / "target"
    bench.restored(to=target)
    bench.restored()
    for source in SOURCES:
        assert rows_of(bench.live(source)) == rows_of(target / f"{source}.db")
