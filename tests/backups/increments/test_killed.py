"""Tests of what kill -9 leaves, at each arrow of a step and of the beginning of a chain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backups.increments import chain as chain_module
from backups.increments import step as step_module
from backups.increments.follow_folder import FollowFolder
from backups.increments.shadow import Shadow
from backups.model import Source
from backups.sets.chains import table
from tests.support.bench import Bench
from tests.support.clock import FixedClock
from tests.support.databases import make_sources, write
from tests.support.following import (
    begun,
    chains_in,
    end_of,
    following,
    following_bench,
    increments,
    killed_at,
    replayed,
    rotate,
    rows_of,
    step,
)
from tests.support.records import INSTANT

OF_A_STEP = [
    (step_module, "fold", 1),
    (step_module, "get_document", 1),
    (step_module, "unfold", 1),
    (Shadow, "apply", 1),
    (Shadow, "apply", 2),
    (step_module, "note_point", 1),
    (FollowFolder, "set_state", 1),
    (FollowFolder, "note_seconds", 1),
]

OF_A_BEGINNING = [
    (chain_module, "put_document", 1),
    (table, "note_head", 1),
    (FollowFolder, "set_state", 1),
    (FollowFolder, "set_end", 1),
    (table, "note_end", 1),
    (FollowFolder, "drop", 1),
]


def at(hour: int) -> FixedClock:
    """A clock that stands at an hour of the first day."""
    clock = FixedClock(INSTANT)
    clock.advance(hours=hour)
    return clock


def converged(bench: Bench, tmp_path: Path) -> None:
    """A follower of the present brings all that is live into the newest chain."""
    with following(bench) as follower:
        step(bench, follower)
        step(bench, follower)
        assert follower.chain is not None
        newest = follower.chain
    for source in ("tokens", "sessions"):
        assert replayed(bench, newest, tmp_path, source) == rows_of(bench.live(source), source)
    assert FollowFolder(bench.directory).ended() == []
    assert FollowFolder(bench.directory).begun() == [newest]


@pytest.mark.parametrize(("module", "name", "call"), OF_A_STEP)
def test_a_step_that_is_killed_is_done_by_the_next_start(
    tmp_path: Path, module: Any, name: str, call: int
) -> None:
    """Wherever it dies, the chain goes on, and has what was written."""
    sources = make_sources(tmp_path / "data")
    with following_bench(tmp_path, sources=sources, clock=at(1)) as bench, following(bench) as one:
        chain = begun(bench, one)

    killed_at(module, name, lambda: _step(tmp_path, sources, 2), call=call)

    with following_bench(tmp_path, sources=sources, clock=at(3)) as bench:
        converged(bench, tmp_path)
        assert chains_in(bench) == [chain]
        assert 1 <= len(increments(bench)) <= 2


def _step(folder: Path, sources: tuple[Source, ...], hour: int) -> None:
    with (
        following_bench(folder, sources=sources, clock=at(hour)) as bench,
        following(bench) as follower,
    ):
        step(bench, follower)
        write(bench.sessions, "UPDATE sessions SET uuid = 'of this step'")
        rotate(bench, "of this step")
        step(bench, follower)


@pytest.mark.parametrize(("module", "name", "call"), OF_A_BEGINNING)
def test_a_chain_whose_beginning_is_killed_begins_or_the_old_one_goes_on(
    tmp_path: Path, module: Any, name: str, call: int
) -> None:
    """Wherever it dies, the next start has one open chain, with what was written."""
    sources = make_sources(tmp_path / "data")
    with following_bench(tmp_path, sources=sources, clock=at(1)) as bench, following(bench) as one:
        old = begun(bench, one)
        rotate(bench, "of the old chain")
        step(bench, one)

    killed_at(module, name, lambda: _begin(tmp_path, sources, 2), call=call)

    with following_bench(tmp_path, sources=sources, clock=at(3)) as bench:
        converged(bench, tmp_path)
        assert len(chains_in(bench)) == 2
        assert end_of(bench, old).reason == "new_chain"


def _begin(folder: Path, sources: tuple[Source, ...], hour: int) -> None:
    with (
        following_bench(folder, sources=sources, clock=at(hour)) as bench,
        following(bench) as follower,
    ):
        step(bench, follower)
        rotate(bench, "before the full")
        bench.made()
        rotate(bench, "after the full")
        step(bench, follower)
        step(bench, follower)


def test_a_full_that_is_killed_while_it_is_handed_over_changes_nothing(tmp_path: Path) -> None:
    """What was copied in part has no name of a chain: the old chain goes on."""
    sources = make_sources(tmp_path / "data")
    with following_bench(tmp_path, sources=sources, clock=at(1)) as bench, following(bench) as one:
        old = begun(bench, one)

    killed_at(Path, "rename", lambda: _begin(tmp_path, sources, 2))

    with following_bench(tmp_path, sources=sources, clock=at(3)) as bench:
        converged(bench, tmp_path)
        assert chains_in(bench) == [old]
