"""A restore is not blocked by what it does not touch, and not by a disk that cannot be read."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest

from backups.decisions.restore_plan import LiveState
from backups.errors import RestoreBlocked
from backups.model import Source
from backups.operations import restore as operation
from backups.sources.live import look_at
from backups.view import restore_text
from tests.support.bench import Bench, open_bench
from tests.support.failing_disk import run_with_failing_disk
from tests.support.generations import bring_into, checkpoint, generation_of
from tests.support.installation import REPOSITORY, Installation, installation_in

# No other file of an installation of the tests is as large as the live one is made.
UNREADABLE_FROM = 1_000_000

Spoil = Callable[[Path], AbstractContextManager[None]]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """A connection of another program that lets nobody read."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


@contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """Something that no user can open as a database."""
    checkpoint(path)
    aside = path.with_name("kept.db")
    path.rename(aside)
    path.mkdir()
    yield
    path.rmdir()
    aside.rename(path)


SPOILED = pytest.mark.parametrize("spoil", [locked, unreadable])


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A set with `genset` in the store, and `genlive` in the live databases."""
    with open_bench(tmp_path, settings={}, busy_timeout=0.1) as bench:
        bench.write("genset")
        bench.made()
        bench.write("genlive")
        yield bench


@SPOILED
def test_a_restore_into_a_folder_does_not_look_at_live_databases(
    bench: Bench, tmp_path: Path, spoil: Spoil
) -> None:
    """`--to DIR` works while a live database cannot be opened, and its plan does not name it."""
    with spoil(bench.tokens):
        plan = bench.service.restore.plan(in_place=False)
        assert plan.blockers == ()
        run = bench.service.restore.begin(plan, to=tmp_path / "to").execute()
    assert run.status == "succeeded", run.error
    assert generation_of(tmp_path / "to" / "tokens.db") == "genset"


@SPOILED
def test_a_restore_of_one_source_does_not_look_at_the_others(
    bench: Bench, spoil: Spoil, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--only sessions` is planned and done while `tokens` cannot be opened, which nobody tries."""
    looked_at: list[str] = []

    def watched(source: Source, busy_timeout: float) -> LiveState:
        looked_at.append(source.name)
        return look_at(source, busy_timeout)

    monkeypatch.setattr(operation, "look_at", watched)
    with spoil(bench.tokens):
        plan = bench.service.restore.plan(only="sessions")
        assert plan.blockers == ()
        assert [item.stored.source for item in plan.items] == ["sessions"]
        run = bench.service.restore.begin(plan).execute()
    assert run.status == "succeeded", run.error
    assert looked_at == ["sessions"]
    assert bench.generations() == {"tokens": "genlive", "sessions": "genset"}


@SPOILED
def test_what_cannot_be_replaced_is_a_blocker_by_name(
    bench: Bench, tmp_path: Path, spoil: Spoil
) -> None:
    """The plan of all sources is shown, names the one that cannot be opened and the ways around it,
    and its restore in place changes nothing; the same plan restores into a folder."""
    with spoil(bench.tokens):
        plan = bench.service.restore.plan()
        (blocker,) = plan.blockers
        assert blocker.code in ("database_locked", "database_unreadable")
        assert "source tokens" in blocker.message
        assert "--to DIR" in blocker.hint
        assert f"restore {plan.backup_set.id} --only sessions --in-place --yes" in blocker.hint
        shown = restore_text.plan(plan, to=None, ask=True)
        assert "blocked" in shown
        assert "sessions 12 rows" in shown
        with pytest.raises(RestoreBlocked, match="source tokens") as refusal:
            bench.service.restore.begin(plan)
        assert refusal.value.code == blocker.code
        run = bench.service.restore.begin(plan, to=tmp_path / "to").execute()
    assert run.status == "succeeded", run.error
    assert bench.generations() == {"tokens": "genlive", "sessions": "genlive"}


def test_each_source_that_is_spoiled_is_named(bench: Bench) -> None:
    """Garbage in one database and a missing other one are both in plan, status and doctor."""
    checkpoint(bench.tokens)
    bench.tokens.write_bytes(b"this is no database at all" * 400)
    bench.sessions.unlink()
    plan = bench.service.restore.plan()
    assert {item.stored.source: item.live.state for item in plan.items} == {
        "tokens": "corrupt",
        "sessions": "missing",
    }
    shown = restore_text.plan(plan, to=None, ask=True)
    assert "tokens.db now: corrupt\n" in shown
    assert "tokens.db) is not a SQLite database" in shown
    assert "sessions.db now: missing" in shown
    found = bench.service.status().health.problems
    assert {
        one.code: one.message.split()[1] for one in found if one.code.startswith("source_")
    } == {
        "source_unreadable": "tokens",
        "source_missing": "sessions",
    }


def test_a_database_of_zero_bytes_is_called_empty(bench: Bench) -> None:
    """A database that was truncated to nothing is not called corrupt, and is moved aside."""
    checkpoint(bench.tokens)
    os.truncate(bench.tokens, 0)
    plan = bench.service.restore.plan()
    item = next(item for item in plan.items if item.stored.source == "tokens")
    assert (item.live.state, item.action) == (
        "empty",
        "move the empty file aside, and install a new one",
    )
    shown = restore_text.plan(plan, to=None, ask=True)
    assert "tokens.db now: empty\n" in shown
    assert "has 0 bytes: something truncated it" in shown
    bench.restored()
    assert bench.generations() == {"tokens": "genset", "sessions": "genset"}
    (folder,) = bench.quarantined("tokens")
    assert (folder / "tokens.db").stat().st_size == 0


def spoil_disk(folder: Path, *, deleted: bool) -> None:
    """Make the live `tokens.db` so large that a part of it lies behind `UNREADABLE_FROM`: rows, or
    pages that no row uses any more."""
    with closing(sqlite3.connect(folder / "data" / "tokens.db", isolation_level=None)) as live:
        live.execute("CREATE TABLE large(x)")
        live.executemany("INSERT INTO large VALUES (?)", [("x" * 3000,)] * 1000)
        if deleted:
            live.execute("DELETE FROM large")
        live.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert (folder / "data" / "tokens.db").stat().st_size > 2 * UNREADABLE_FROM


@pytest.mark.parametrize("deleted", [False, True], ids=["rows", "free pages"])
def test_a_database_that_the_disk_cannot_read_is_moved_aside_and_restored(
    bench: Bench, *, deleted: bool
) -> None:
    """With EIO behind page 1 of a live database, rows or free pages, a restore in place moves it
    aside by renaming it, and succeeds; an undo brings the very file back."""
    spoil_disk(bench.folder, deleted=deleted)
    inode = bench.tokens.stat().st_ino
    installation = installation_in(bench.folder)
    plan = run_with_failing_disk(installation, UNREADABLE_FROM, "restore")
    assert plan.returncode == 0, plan.stderr
    if not deleted:
        assert "tokens.db now: corrupt\n" in plan.stdout
        assert "cannot be read: the disk returns an input/output error" in plan.stdout
        assert "move the damaged files aside, and install a new one" in plan.stdout
    done = run_with_failing_disk(installation, UNREADABLE_FROM, "restore", "--in-place", "--yes")
    assert done.returncode == 0, done.stderr
    assert bench.generations() == {"tokens": "genset", "sessions": "genset"}
    (folder,) = bench.quarantined("tokens")
    assert (folder / "tokens.db").stat().st_ino == inode
    assert installation.cli("restore", "--undo", "--yes").returncode == 0
    assert bench.tokens.stat().st_ino == inode


def test_a_disk_that_cannot_read_one_database_does_not_stop_what_leaves_it_alone(
    bench: Bench, tmp_path: Path
) -> None:
    """With EIO in `tokens.db`, `--only sessions` and `--to DIR` restore, and doctor names both
    databases."""
    spoil_disk(bench.folder, deleted=False)
    installation = installation_in(bench.folder)
    only = ("restore", "--only", "sessions", "--in-place", "--yes")
    for command in (only, ("restore", "--to", str(tmp_path / "to"))):
        done = run_with_failing_disk(installation, UNREADABLE_FROM, *command)
        assert done.returncode == 0, done.stderr
    assert generation_of(bench.sessions) == "genset"
    assert generation_of(tmp_path / "to" / "tokens.db") == "genset"
    doctor = run_with_failing_disk(installation, UNREADABLE_FROM, "doctor")
    assert "the disk returns an input/output error" in doctor.stdout
    assert "source sessions is sound, 12 rows" in doctor.stdout


def mounted_alone(installation: Installation, *command: str) -> subprocess.CompletedProcess[str]:
    """A command while `tokens.db` is a mount of its own, as a single file given to `-v` is."""
    script = 'mount --bind "$0" "$0" && exec "$@"'
    tokens = str(installation.tokens_path)
    return subprocess.run(
        [
            *("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, tokens),
            *(sys.executable, "-m", "backups", *command),
        ],
        cwd=installation.folder,
        env={**installation.environment, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
def test_a_database_that_is_mounted_as_a_file_is_replaced_in_place_or_named_in_the_plan(
    tmp_path: Path,
) -> None:
    """Nobody can rename a mount point: a sound one needs no rename, of a damaged one it is said."""
    installation = installation_in(tmp_path).make_databases()
    installation.json("run")

    sound = mounted_alone(installation, "restore", "--in-place", "--yes")
    assert sound.returncode == 0, sound.stderr

    bring_into("corrupt header", installation.tokens_path)
    before = installation.sessions_path.read_bytes()
    plan = mounted_alone(installation, "restore")
    assert "mounted as a single file" in plan.stdout
    assert "Mount its folder" in plan.stdout
    refused = mounted_alone(installation, "restore", "--in-place", "--yes")
    assert refused.returncode == 1
    assert "mounted as a single file" in refused.stderr
    assert installation.sessions_path.read_bytes() == before
