"""A copy of the source, in which a test can break a rule and see that the rule notices."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.architecture.source import ROOT


@pytest.fixture
def copied_tree(tmp_path: Path) -> Path:
    """`backups/`, `shared/` and the page of docs that the rules read, copied."""
    for house in ("backups", "shared"):
        shutil.copytree(ROOT / house, tmp_path / house, ignore=only_python)
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs/architecture.md", tmp_path / "docs")
    return tmp_path


def only_python(folder: str, names: list[str]) -> list[str]:
    """What `shutil.copytree` leaves out of a folder."""
    return [
        name
        for name in names
        if name == "__pycache__" or not (name.endswith(".py") or (Path(folder) / name).is_dir())
    ]
