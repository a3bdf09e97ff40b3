"""A full disk where the shadows are: following stops by name, and comes back by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.small_disk import run_on_small_disk


@pytest.mark.slow
@pytest.mark.parametrize("follow", ["compare", "wal"])
def test_following_waits_for_room_while_fulls_go_on(tmp_path: Path, follow: str) -> None:
    """On a real disk: a set has what changed, the chain goes on when there is room, and has all."""
    shadows = tmp_path / "data" / "backups" / "follow"
    shadows.mkdir(parents=True)
    printed = run_on_small_disk(
        shadows, "size=4m,mode=700", "tests.support.full_shadow_disk", str(tmp_path), follow
    )
    states = json.loads(printed.splitlines()[-1])
    names = ("before", "full", "nothing changed", "more changed", "room", "after")
    assert [states[name]["follow"] for name in names] == [follow, *["stopped"] * 3, follow, follow]
    assert [states[name]["sets"] for name in names] == [1, 2, 2, 3, 3, 3]
    assert [states[name]["increments"] for name in names] == [1, 1, 1, 1, 2, 3]
    assert [states[name]["chains"] for name in names] == [1] * 6
    assert [len(states[name]["stopped"]) for name in names] == [0, 1, 1, 1, 0, 0]
    assert f"{shadows}/work has 0 bytes free" in states["full"]["stopped"][0]
    assert states["restored"]
