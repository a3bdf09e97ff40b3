"""Tests of `backups.sources.faults`: what is wrong with a live database, told from outside."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backups.model import Source
from backups.sources import faults
from backups.sources.faults import source_faults
from tests.support.databases import add_rows, connect, make_sources

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Source, ...]:
    return make_sources(tmp_path / "data")


@pytest.fixture
def tokens(sources: tuple[Source, ...]) -> Path:
    return sources[0].path


def truncate(path: Path) -> None:
    path.write_bytes(b"")
    os.utime(path, times=(0, (NOW - timedelta(minutes=2)).timestamp()))


def overwrite(path: Path) -> None:
    path.write_bytes(b"this is no database" * 400)


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def behind_a_file(path: Path) -> None:
    path.unlink()
    path.parent.rename(path.parent.with_name("away"))
    path.parent.write_text("a file")


@pytest.mark.parametrize(
    ("damage", "code", "said"),
    [
        (Path.unlink, "source_missing", "does not exist any more"),
        (behind_a_file, "source_missing", "does not exist any more"),
        (truncate, "source_unreadable", "has zero bytes"),
        (overwrite, "source_unreadable", "does not begin as a SQLite database does"),
        (as_folder, "source_unreadable", "is no file"),
    ],
)
def test_what_is_gone_or_damaged_is_named_with_its_own_remedy(
    sources: tuple[Source, ...], tokens: Path, damage: Callable[[Path], None], code: str, said: str
) -> None:
    """The remedy replaces that database alone: the others are healthy, and newer than any set."""
    assert source_faults(sources, NOW) == ()
    damage(tokens)

    (found,) = source_faults(sources[:1], NOW)

    assert (found.code, said in found.message) == (code, True)
    assert f"source tokens ({tokens})" in found.message
    assert found.hint == ("Restore it: ./bot backups restore --only tokens --in-place --yes")


def test_a_damaged_header_is_seen_at_once(sources: tuple[Source, ...], tokens: Path) -> None:
    """What was read before is read again as soon as the file has changed."""
    assert source_faults(sources, NOW) == ()
    with tokens.open("r+b") as file:
        file.write(b"\0" * 16)
    found = [fault.code for fault in source_faults(sources, NOW)]
    assert found == ["source_unreadable"]


def test_a_database_that_is_just_made_is_no_fault(tokens: Path) -> None:
    """A program may leave its new file without bytes for a moment, but not for a minute."""
    tokens.write_bytes(b"")
    for age, count in ((0, 0), (59, 0), (61, 1), (-5, 1)):
        os.utime(tokens, times=(0, NOW.timestamp() - age))
        assert len(source_faults([Source("tokens", tokens)], NOW)) == count


def test_a_busy_database_has_no_fault(sources: tuple[Source, ...], tokens: Path) -> None:
    """Whoever writes it, holds it, or checkpoints it, and in either journal mode."""
    with closing(connect(tokens)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("UPDATE tokens SET value = 'x'")
        assert source_faults(sources, NOW) == ()
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert source_faults(sources, NOW) == ()
        connection.execute("PRAGMA journal_mode=DELETE")
    assert source_faults(sources, NOW) == ()


def test_a_file_that_was_replaced_by_another_database_is_no_fault(
    sources: tuple[Source, ...], tokens: Path, tmp_path: Path
) -> None:
    """It is followed as a change, and the bot opens it at its next transaction."""
    (other, _) = make_sources(tmp_path / "other", 5)
    other.path.rename(tokens)
    assert source_faults(sources, NOW) == ()


def test_looking_takes_no_lock_of_sqlite_away(sources: tuple[Source, ...], tokens: Path) -> None:
    """A lock that this process holds stays: no descriptor of the file is closed in it."""
    with closing(connect(tokens)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE tokens SET value = 'x'")
        faults._header.cache_clear()
        assert source_faults(sources, NOW) == ()
        done = subprocess.run(
            ["sqlite3", str(tokens), "UPDATE tokens SET value = 'y'"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert "database is locked" in done.stderr
        connection.execute("COMMIT")


def test_looking_leaves_nothing_behind(sources: tuple[Source, ...], tokens: Path) -> None:
    """No `-wal` and no `-shm` of a reader, and no open file."""
    add_rows(tokens, 1)
    before = sorted(path.name for path in tokens.parent.iterdir())
    files = len(list(Path("/proc/self/fd").iterdir()))
    faults._header.cache_clear()
    assert source_faults(sources, NOW) == ()
    assert sorted(path.name for path in tokens.parent.iterdir()) == before
    assert len(list(Path("/proc/self/fd").iterdir())) == files


def test_a_file_that_did_not_change_is_not_read_again(
    sources: tuple[Source, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status and metrics are asked often, and start no process each time."""
    faults._header.cache_clear()
    assert source_faults(sources, NOW) == ()
    monkeypatch.setattr(subprocess, "run", None)
    assert source_faults(sources, NOW) == ()


@pytest.mark.parametrize("stage", ["stat", "read"])
def test_what_this_user_may_not_read_is_named(
    sources: tuple[Source, ...], tokens: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """It may be healthy: the remedy is no restore."""
    if stage == "stat":
        real = Path.stat

        def refused(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
            if path == tokens:
                raise PermissionError(13, "Permission denied")
            return real(path, follow_symlinks=follow_symlinks)

        monkeypatch.setattr(Path, "stat", refused)
    else:
        faults._header.cache_clear()
        monkeypatch.setenv("PATH", "/nowhere")
    found = source_faults(sources[:1], NOW)
    assert [fault.code for fault in found] == ["source_unreadable"]
    assert "restore" not in found[0].hint
