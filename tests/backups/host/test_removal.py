"""Tests of `backups.host.removal`."""

from __future__ import annotations

import os
from errno import EIO
from pathlib import Path

import pytest

from backups.host.removal import STEP_BYTES, remove_file, remove_folder


@pytest.fixture
def cuts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes to which files were cut, in turn; they are really cut."""
    made: list[int] = []
    cut = os.truncate

    def truncate(path: Path, size: int) -> None:
        made.append(path.stat().st_size - size)
        cut(path, size)
        made[-1:] = [made[-1], size]

    monkeypatch.setattr(os, "truncate", truncate)
    return made


def test_a_large_file_goes_in_small_steps(tmp_path: Path, cuts: list[int]) -> None:
    """No step frees more than `STEP_BYTES`, none cuts to nothing, and in the end it is gone."""
    file = tmp_path / "tokens.db"
    file.write_bytes(b"x" * (3 * STEP_BYTES + 17))

    remove_file(file)

    assert not file.exists()
    freed, left = cuts[::2], cuts[1::2]
    assert freed == [STEP_BYTES] * 3
    assert left == [2 * STEP_BYTES + 17, STEP_BYTES + 17, 17]


def test_a_small_or_missing_file_is_just_removed(tmp_path: Path, cuts: list[int]) -> None:
    """Up to one step there is nothing to cut; a file that is not there is no error."""
    file = tmp_path / "sessions.db"
    file.write_bytes(b"x" * STEP_BYTES)

    remove_file(file)
    remove_file(file)

    assert not file.exists()
    assert cuts == []


def test_other_names_of_a_file_keep_its_bytes(tmp_path: Path) -> None:
    """A file with a second name, or behind a symbolic link, is never cut."""
    data = b"x" * (2 * STEP_BYTES)
    kept, second, link = tmp_path / "kept", tmp_path / "second", tmp_path / "link"
    kept.write_bytes(data)
    os.link(kept, second)
    link.symlink_to(kept)

    remove_file(second)
    remove_file(link)

    assert not second.exists()
    assert not link.is_symlink()
    assert kept.read_bytes() == data


def test_what_cannot_be_cut_is_removed_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cutting spares others a wait; a disk that refuses it does not keep a file from going."""

    def refuse(_path: Path, _size: int) -> None:
        raise OSError(EIO, "Input/output error")

    monkeypatch.setattr(os, "truncate", refuse)
    for name in ("tokens.db", "sessions.db"):
        (tmp_path / name).write_bytes(b"x" * (STEP_BYTES + 1))

    remove_file(tmp_path / "tokens.db")
    remove_folder(tmp_path)

    assert not tmp_path.exists()


def test_a_folder_goes_with_all_that_is_in_it(tmp_path: Path, cuts: list[int]) -> None:
    """Files in it go in steps, wherever they lie; what its links lead to stays."""
    folder, elsewhere = tmp_path / "gone", tmp_path / "elsewhere"
    (folder / "below").mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / "kept").write_bytes(b"kept")
    (folder / "link").symlink_to(elsewhere, target_is_directory=True)
    (folder / "below" / "tokens.db").write_bytes(b"x" * (STEP_BYTES + 1))

    remove_folder(folder)

    assert not folder.exists()
    assert (elsewhere / "kept").read_bytes() == b"kept"
    assert cuts == [STEP_BYTES, 1]
