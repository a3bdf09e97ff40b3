"""What the disk refuses beside a live database is said of that folder, not of `BACKUP_DIR`."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.support.bench import Bench


@pytest.mark.parametrize(
    ("number", "code", "hint"),
    [
        (errno.EACCES, "database_unreadable", "write access to"),
        (errno.EIO, "database_unreadable", "check that disk"),
        (errno.ENOSPC, "disk_full", "Make room on the disk of"),
    ],
)
def test_a_damaged_file_that_cannot_be_moved_aside_names_its_folder(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, number: int, code: str, hint: str
) -> None:
    """The error has the source and its folder, and the same command finishes it later."""
    made = bench.made()
    bench.tokens.write_bytes(b"this is no database" * 1000)
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if Path(target) == bench.tokens:
            raise OSError(number, os.strerror(number), str(path))
        return rename(path, target)

    with monkeypatch.context() as broken:
        broken.setattr(Path, "rename", refuse)
        run = bench.restore(made.id)

    assert run.error is not None
    assert run.error.code == code
    assert "source tokens" in run.error.message
    assert f"{hint} {bench.tokens.parent}" in run.error.hint or hint in run.error.hint
    assert "BACKUP_DIR" not in run.error.hint
    assert bench.restore(made.id).status == "succeeded"


def test_a_new_file_that_cannot_be_written_names_its_folder(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing database whose folder takes no file is an error of that folder."""
    made = bench.made()
    bench.tokens.unlink()
    link = os.link

    def refuse(source: Path, target: Path) -> None:
        if target == bench.tokens:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(target))
        link(source, target)

    with monkeypatch.context() as broken:
        broken.setattr(os, "link", refuse)
        run = bench.restore(made.id)

    assert run.error is not None
    assert run.error.code == "database_unreadable"
    assert str(bench.tokens.parent) in run.error.hint
    assert "BACKUP_DIR" not in run.error.hint
