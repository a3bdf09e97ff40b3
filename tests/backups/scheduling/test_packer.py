"""Tests of `backups.scheduling.packer`: once an hour, and never in the way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backups.format import chain_keys
from backups.scheduling.packer import SECONDS_BETWEEN_LOOKS, Packer
from shared.store.directory import DirectoryStore
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.small_chain import SmallChain
from tests.support.store_wrappers import WatchedStore

BEGUN = datetime(2026, 11, 22, 1, tzinfo=UTC)


@pytest.fixture
def clock() -> FixedClock:
    """Stands still at the beginning of the chain."""
    return FixedClock(BEGUN)


@pytest.fixture
def bench(tmp_path: Path, clock: FixedClock) -> Iterator[Bench]:
    """A service over a folder."""
    with open_bench(tmp_path, WatchedStore(DirectoryStore(tmp_path / "store")), clock=clock) as it:
        yield it


@pytest.fixture
def chain(tmp_path: Path, bench: Bench) -> Iterator[SmallChain]:
    """A chain of this installation with three points."""
    instance = bench.directory.instance()
    with closing(
        SmallChain(tmp_path, bench.store, bench.known, begun=BEGUN, instance=instance)
    ) as chain:
        chain.grow(3)
        yield chain


@pytest.fixture
def packer(bench: Bench) -> Packer:
    """One that is not stopped."""
    return Packer(bench.service, threading.Event())


def packs(chain: SmallChain) -> list[str]:
    """The packs of a chain, by name."""
    prefix = f"{chain_keys.chain_prefix(PREFIX, chain.id)}p/"
    return [one.key.removeprefix(prefix) for one in chain.store.list(prefix)]


def test_an_hour_is_packed_when_it_is_over(
    bench: Bench, chain: SmallChain, packer: Packer, clock: FixedClock
) -> None:
    """Not before; and the store is asked for nothing until the next hour."""
    assert packer.step() == SECONDS_BETWEEN_LOOKS
    assert packs(chain) == []
    clock.advance(hours=1)
    packer.step()
    assert packs(chain) == ["0000000001-0000000002.pack"]
    bench.watched.calls.clear()

    packer.step()
    clock.advance(minutes=20)
    packer.step()

    assert bench.watched.calls == []
    assert not list((bench.directory.path / "packing" / "packs").iterdir())


def test_nothing_is_made_where_there_is_no_chain(bench: Bench, packer: Packer) -> None:
    """An installation that follows nothing has no folder for it."""
    packer.step()

    assert not (bench.directory.path / "packing").exists()


def test_a_store_that_is_away_is_asked_again(
    bench: Bench, chain: SmallChain, packer: Packer, clock: FixedClock
) -> None:
    """At the next look, and no thread fails for it."""
    clock.advance(hours=1)
    bench.watched.calls.clear()
    bench.watched.break_at("put", 0)
    assert packer.step() == SECONDS_BETWEEN_LOOKS
    bench.watched.mend()

    packer.step()

    assert packs(chain) == ["0000000001-0000000002.pack"]


def test_the_end_of_the_process_stops_it(
    bench: Bench, chain: SmallChain, clock: FixedClock
) -> None:
    """Between two requests; the next process goes on."""
    ended = threading.Event()
    clock.advance(hours=1)
    bench.watched.before("put", ".pack", ended.set)

    Packer(bench.service, ended).step()
    assert packs(chain) == ["0000000001-0000000002.pack"]
    bench.watched.calls.clear()
    Packer(bench.service, threading.Event()).step()

    assert len(bench.watched.keys("delete")) == 2


def test_a_chain_of_another_installation_is_not_packed(
    tmp_path: Path, bench: Bench, packer: Packer, clock: FixedClock
) -> None:
    """It may be written this moment by its own follower."""
    with ExitStack() as stack:
        other = stack.enter_context(
            closing(
                SmallChain(
                    tmp_path,
                    bench.store,
                    bench.known,
                    begun=BEGUN - timedelta(days=1),
                    instance="f" * 16,
                )
            )
        )
        other.grow(3)
        clock.advance(hours=30)

        packer.step()

        assert packs(other) == []
