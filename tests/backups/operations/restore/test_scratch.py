"""The scratch folder of `restore --from`: gone after a kill, and nobody else's is touched."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from backups.errors import DirectoryUnusable
from backups.operations.planning import in_hand
from backups.operations.planning.scratch import PREFIX, scratch_folder
from tests.support.bench import Bench, open_bench
from tests.support.following import killed_at
from tests.support.installation import REPOSITORY

IN_USE = """
import sys
from backups.operations.planning.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "part.db").write_bytes(b"a part of a database")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """TMPDIR, of this process and of those that it starts."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def hand_of(bench: Bench, folder: Path) -> Path:
    """A copy of a set in a folder."""
    made = bench.made()
    folder.mkdir()
    for key in (bench.manifest_key(made.id), *(one.key for one in made.objects)):
        (folder / Path(key).name).write_bytes(bench.bytes_of(key))
    return folder


def test_what_a_killed_restore_left_goes_with_the_next_one(temporary: Path, tmp_path: Path) -> None:
    """Copies of databases do not stay in TMPDIR until the host starts anew."""
    with open_bench(tmp_path / "host") as bench:
        hand = hand_of(bench, tmp_path / "hand")

        def plan() -> None:
            with bench.service.given.open(hand) as given:
                given.plan("latest", in_place=True, accept_unsigned=False, compares=False)

        killed_at(in_hand, "open_catalogue", plan)
        (left,) = temporary.iterdir()
        assert left.name.startswith(PREFIX)
        assert left.stat().st_mode & 0o777 == 0o700
        plan()
    assert list(temporary.iterdir()) == []


def test_what_is_in_use_or_of_others_stays(temporary: Path) -> None:
    """A restore that goes on in another process keeps its files, until that process dies."""
    others = [temporary / "restore-from-elsewhere", temporary / f"{PREFIX}file"]
    others[0].mkdir()
    others[1].write_text("a file of that name")
    (temporary / f"{PREFIX}link").symlink_to(others[0])
    child = subprocess.Popen(
        [sys.executable, "-c", IN_USE],
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        used = Path(child.stdout.readline().strip())
        with scratch_folder() as mine:
            assert mine != used
            assert (used / "part.db").read_bytes() == b"a part of a database"
    finally:
        child.kill()
        child.communicate()
    assert used.exists()
    with scratch_folder():
        assert not used.exists()
    assert all(other.exists() for other in others)
    assert list(others[0].iterdir()) == []


def test_without_a_place_it_says_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names TMPDIR."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(DirectoryUnusable) as caught, scratch_folder():
        pass
    assert "Set TMPDIR to a folder" in caught.value.hint
