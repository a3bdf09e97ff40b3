"""Hostile increments, in a process of bounded memory: restore and crash recovery refuse them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.hostile_process import CASES
from tests.support.installation import REPOSITORY

# How a refusal names each: of a restore, and of the follower that starts after a crash.
NAMED = {
    "huge page count": ("lacks pages that tokens has grown by",) * 2,
    "many pages, none there": ("bytes inside, not",) * 2,
    "a bomb": ("more than the 4100 bytes it should have",) * 2,
    "page beyond the end": ("names page", "names page"),
    "nested header": ("the newest point of this chain is 2", "it is nested more than 16 deep"),
    "wrong sum": ("its pages do not make tokens what it says",) * 2,
    "of another line": ("does not follow the object before it", "does not follow what this host"),
    "unsigned": ("the newest point of this chain is 2", "does not follow what this host has"),
    "unsigned and large": ("the newest point of this chain is 2", "does not follow what this host"),
}


@pytest.mark.slow
def test_a_hostile_increment_is_refused_by_name(tmp_path: Path) -> None:
    """Within 150 MiB of memory; the command that the refusal names restores the point before it."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.hostile_process", str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["true"]["goes_on"], found["true"]  # it is the hostile part that is refused
    assert NAMED.keys() == CASES.keys() - {"true"}
    for name, (of_restore, of_follower) in NAMED.items():
        one = found[name]
        assert of_restore in one["message"], (name, one)
        assert one["hint"].startswith("The newest good second before it: ./bot backups restore ")
        assert one["hint"].endswith(".2")
        assert one["good"], name
        assert not one["goes_on"], name
        assert of_follower in one["says"], (name, one)
