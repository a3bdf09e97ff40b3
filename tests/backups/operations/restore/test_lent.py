"""What a restore reads without copying it, and what it leaves for later: nothing is lost."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from backups.model import SnapshotFile
from backups.operations import replace
from backups.sources import snapshot
from shared.databases import sessions
from tests.support.bench import Bench, open_bench
from tests.support.generations import (
    LIVE_STATES,
    SOURCES,
    LiveStateName,
    bring_into,
    connect,
    generation_of,
)
from tests.support.small_disk import run_on_small_disk


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A set with `genset` in the embedded store, and `genlive` in the live databases."""
    with open_bench(tmp_path, settings={}) as bench:
        bench.write("genset")
        bench.made()
        bench.write("genlive")
        yield bench


def local_copies(bench: Bench) -> dict[Path, bytes]:
    """The local copies of sets, and what is in them."""
    found = (bench.directory.path / "copies").glob("*/*.db")
    return {path: path.read_bytes() for path in found}


@pytest.mark.parametrize("state", LIVE_STATES)
def test_a_local_copy_stays_as_it_is(bench: Bench, state: LiveStateName) -> None:
    """It is read where it is; what is live afterwards is a file of its own, which a bot changes."""
    before = local_copies(bench)
    assert len(before) == len(SOURCES)
    for source in SOURCES:
        bring_into(state, bench.live(source))
    bench.restored()
    assert bench.generations() == dict.fromkeys(SOURCES, "genset")
    for source in SOURCES:
        with closing(connect(bench.live(source))) as bot:
            bot.execute(f"DELETE FROM {source}")
            bot.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert bench.live(source).stat().st_nlink == 1
    assert local_copies(bench) == before


def test_a_local_copy_of_an_older_version_stays_as_it_is(tmp_path: Path) -> None:
    """The application opens a copy of it, in which it brings the schema to its newest version."""
    with open_bench(tmp_path, settings={}) as bench:
        bench.write("genset")
        with closing(connect(bench.live("sessions"))) as older:
            older.execute("PRAGMA user_version=0")  # from before versions were counted
        bench.made()
        before = local_copies(bench)
        bench.restored()
        assert local_copies(bench) == before
        with closing(connect(bench.live("sessions"))) as live:
            (version,) = live.execute("PRAGMA user_version").fetchone()
        assert version == len(sessions.MIGRATIONS)


@pytest.mark.parametrize("state", LIVE_STATES)
def test_an_undo_leaves_the_safety_copy_as_it_is(bench: Bench, state: LiveStateName) -> None:
    """Also where the live database was lost meanwhile, and the copy becomes the new one."""
    bench.restored()
    (kept,) = bench.safety_copies("tokens")
    before = kept.read_bytes()
    bring_into(state, bench.live("tokens"))
    bench.undo()
    with closing(connect(bench.live("tokens"))) as bot:
        bot.execute("DELETE FROM tokens")
        bot.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert bench.live("tokens").stat().st_nlink == 1
    assert kept.read_bytes() == before


@pytest.mark.parametrize("state", LIVE_STATES)
def test_what_was_seen_sound_may_be_damaged_since(bench: Bench, state: LiveStateName) -> None:
    """The plan has looked at the live databases; what became of them until then is met as it is."""
    plan = bench.service.restore.plan()
    assert {item.live.state for item in plan.items} == {"healthy"}
    for source in SOURCES:
        bring_into(state, bench.live(source))
    run = bench.service.restore.begin(plan).execute()
    assert run.status == "succeeded", run.error
    assert bench.generations() == dict.fromkeys(SOURCES, "genset")
    assert bench.live("tokens").stat().st_mode & 0o077 == 0


def test_no_writer_waits_until_the_safety_copy_is_measured(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its hash, its counts and SQLite's check come when all databases are replaced and free."""
    measured, seen = snapshot.measured, []

    def watched(file: SnapshotFile) -> SnapshotFile:
        for source in SOURCES:
            with closing(
                sqlite3.connect(bench.live(source), isolation_level=None, timeout=0)
            ) as writer:
                writer.execute("BEGIN IMMEDIATE")
                writer.execute("ROLLBACK")
            seen.append(generation_of(bench.live(source)))
        return measured(file)

    monkeypatch.setattr(replace, "measured", watched)
    bench.restored()
    assert seen == ["genset"] * 4
    bench.service.own_sets.refresh()
    (kept,) = (found for found in bench.service.catalogue.sets() if found.kind == "pre-restore")
    assert kept.proof == "full"
    assert [stored.rows[stored.source] for stored in kept.objects] == [12, 12]


def test_a_safety_copy_that_is_damaged_stays_on_this_host(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not stored as a restore point; the restore is done all the same, and can be undone."""
    plan = bench.service.restore.plan()
    bring_into("corrupt body", bench.live("tokens"))
    run = bench.service.restore.begin(plan).execute()
    assert run.status == "succeeded", run.error
    assert "could not be stored, and stays here" in caplog.text
    bench.service.own_sets.refresh()
    assert "pre-restore" not in {found.kind for found in bench.service.catalogue.sets()}
    assert bench.safety_copies("tokens") or bench.quarantined("tokens")


def test_a_folder_on_another_disk_is_written_once(tmp_path: Path) -> None:
    """The files are made on that disk, under a hidden name, of which nothing stays."""
    target = tmp_path / "disk"
    target.mkdir()
    printed = run_on_small_disk(target, "size=40m", "tests.support.other_disk", str(tmp_path))
    assert json.loads(printed) == {
        "staged": [],
        "hidden while it is fetched": True,
        "left": ["to"],
        "files": ["sessions.db", "tokens.db"],
        "rows": 12,
        "written once": True,
    }
