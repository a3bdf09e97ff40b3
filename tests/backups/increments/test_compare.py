"""A copy in memory leaves nothing behind, whatever ends it."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest

from backups.increments.compare import copy_pages


def open_files(folder: Path) -> list[str]:
    """What this process has open there, with a name or without."""
    found: list[str] = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of this very look
            found.append(str(link.readlink()))
    return [one for one in found if one.startswith(f"{folder}/")]


@pytest.mark.parametrize("kept", [True, False])
def test_a_copy_that_cannot_begin_leaves_no_open_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, kept: bool
) -> None:
    """Nor one with a name, unless it was to be kept."""
    folder = tmp_path / "memory"
    folder.mkdir()

    def refuse(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("no")

    with closing(sqlite3.connect(":memory:")) as connection:
        monkeypatch.setattr("backups.increments.compare.sqlite3.connect", refuse)
        with pytest.raises(sqlite3.OperationalError):
            copy_pages(connection, folder / "kept.db" if kept else None, folder)
    assert open_files(folder) == []
    assert [one.name for one in folder.iterdir()] == (["kept.db"] if kept else [])
