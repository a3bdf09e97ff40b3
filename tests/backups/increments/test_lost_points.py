"""Tests of what happens when the store loses objects of a chain that no prune of ours removed."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backups.format.chain_keys import chain_id, head_key, increment_key, set_of
from backups.increments.follower import Follower
from tests.support.bench import PREFIX, Bench
from tests.support.following import begun, clock_of, following, following_bench, rotate, step


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """An installation that follows changes."""
    with following_bench(tmp_path, follow="compare") as bench:
        yield bench


def with_points(bench: Bench, follower: Follower, points: int) -> str:
    """A chain that has so many points."""
    chain = begun(bench, follower)
    for number in range(points):
        rotate(bench, f"value-{number}")
        assert step(bench, follower) == "stored"
    return chain


def delete(bench: Bench, chain: str, number: int) -> None:
    bench.store.delete(increment_key(PREFIX, chain, number, sealed=False))


def cut(bench: Bench, chain: str, number: int) -> None:
    key = increment_key(PREFIX, chain, number, sealed=False)
    bench.replace_object(key, bench.bytes_of(key)[:-1])


def missing(bench: Bench) -> list[str]:
    return [one.id for one in bench.service.own_sets.missing_points()]


@pytest.mark.parametrize("spoil", [delete, cut])
def test_a_point_that_the_store_lost_is_a_problem_and_the_next_full_is_made(
    bench: Bench, spoil: Callable[[Bench, str, int], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Status names the first point of the gap, promises nothing that lies after it, and what is
    live is stored anew: red until the loss is accepted."""
    with following(bench) as follower:
        chain = with_points(bench, follower, 4)
        full = set_of(chain)
        before = bench.service.status()
        assert before.newest_restore_point is not None
        assert before.newest_restore_point.id == f"{full}.4"
        assert before.newest_point_at == before.newest_restore_point.created_at

        spoil(bench, chain, 3)
        with caplog.at_level(logging.ERROR):
            bench.service.catalogue.refresh()

        status = bench.service.status()
        assert missing(bench) == [f"{full}.3"]
        assert "points_missing" in bench.problems()
        assert f"point {full}.3 and all that follow it" in caplog.text
        assert status.newest_restore_point is not None
        assert status.newest_restore_point.id == f"{full}.2"
        assert status.newest_point_at == status.newest_restore_point.created_at
        assert status.newest_point_at < (before.newest_point_at or status.newest_point_at)

        assert step(bench, follower) == "needs_full"
        made = bench.made()
        follower.full_made()
        rotate(bench, "after")
        assert step(bench, follower) == "stored"
        assert follower.chain == chain_id(made.id, made.instance)

    bench.service.catalogue.refresh()
    assert missing(bench) == [f"{full}.3"]  # nobody has said yet that it is known
    bench.service.acceptance.accept_missing()
    assert missing(bench) == []
    assert "points_missing" not in bench.problems()


def test_a_chain_without_its_head_lost_its_points(bench: Bench) -> None:
    """Without its head nothing of a chain counts: its first point is named."""
    with following(bench) as follower:
        chain = with_points(bench, follower, 2)
        bench.store.delete(head_key(PREFIX, chain))
        bench.service.catalogue.refresh()
        assert missing(bench) == [f"{set_of(chain)}.1"]
        assert step(bench, follower) == "needs_full"


def test_what_is_stored_again_is_missing_no_more(bench: Bench) -> None:
    """The owner brings the object back from the bucket's older versions."""
    with following(bench) as follower:
        chain = with_points(bench, follower, 3)
    key = increment_key(PREFIX, chain, 2, sealed=False)
    body = bench.bytes_of(key)
    metadata = bench.store.head(key).metadata
    bench.store.delete(key)
    bench.service.catalogue.refresh()
    assert missing(bench) == [f"{set_of(chain)}.2"]

    bench.store.put(key, io.BytesIO(body), metadata)
    bench.service.catalogue.refresh()
    assert missing(bench) == []
    latest = bench.service.own_sets.latest()
    assert latest is not None
    assert latest.id == f"{set_of(chain)}.3"


def test_what_others_lose_is_not_ours(bench: Bench, tmp_path: Path) -> None:
    """A second installation in the same store loses a point: this one has lost nothing."""
    with following_bench(tmp_path / "other", follow="compare") as other, following(other) as theirs:
        chain = with_points(other, theirs, 2)
        for key in other.all_keys():
            if chain in key:
                bench.store.put(
                    key, io.BytesIO(other.bytes_of(key)), other.store.head(key).metadata
                )
    bench.made()
    bench.service.catalogue.refresh()
    bench.store.delete(increment_key(PREFIX, chain, 1, sealed=False))
    clock_of(bench).advance(minutes=1)
    bench.service.catalogue.refresh()
    assert missing(bench) == []
