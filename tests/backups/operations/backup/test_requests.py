"""How many requests to the store a run needs, counted on their way to a real S3 server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.counting_proxy import CountingProxy
from shared.store.spaces import SpacesStore
from tests.support.bench import Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.s3_server import S3Server
from tests.support.store_wrappers import WatchedStore

pytestmark = pytest.mark.slow


@pytest.fixture
def counted(tmp_path: Path, s3_server: S3Server) -> Iterator[tuple[Bench, CountingProxy]]:
    """A bench with two sources that has made its first set, over a bucket of its own."""
    bucket = f"requests-{uuid.uuid4().hex}"
    s3_server.create_bucket(bucket)
    clock = FixedClock()
    with CountingProxy(s3_server.endpoint) as proxy:
        store = SpacesStore(s3_server.settings(bucket, endpoint=proxy.endpoint))
        with open_bench(tmp_path, WatchedStore(store), clock=clock) as bench:
            bench.made()
            clock.advance(hours=1)
            proxy.take()
            yield bench, proxy


def test_a_run_asks_the_store_six_times(counted: tuple[Bench, CountingProxy]) -> None:
    """Each file and the manifest is put and read back."""
    bench, proxy = counted
    bench.made()
    assert proxy.take().requests == {"PUT": 3, "GET": 3}


def test_the_first_run_of_a_day_and_one_after_a_failure_ask_more(
    counted: tuple[Bench, CountingProxy],
) -> None:
    """Before anything is copied: whether the store is there, takes objects, and overwrites none."""
    bench, _ = counted
    assert isinstance(bench.service.clock, FixedClock)
    asked = []
    bench.service.clock.advance(days=1)
    for away in (False, True, False, False):
        bench.watched.calls.clear()
        if away:
            bench.watched.go_away()
        bench.run()
        asked.append(len(bench.watched.keys("check")))
        bench.watched.mend()
    assert asked == [1, 0, 1, 0]


def test_the_first_run_of_a_day_asks_for_its_keys(counted: tuple[Bench, CountingProxy]) -> None:
    """Another program's object may have the name of the day, with any ending: two more requests."""
    bench, _ = counted
    assert isinstance(bench.service.clock, FixedClock)
    bench.service.clock.advance(days=1)
    bench.watched.calls.clear()
    made = bench.made()
    day = made.created_at.date().isoformat()
    asked = [key for key in bench.watched.keys("list") if day in key]
    assert asked == [f"backups/tokens_{day}", f"backups/sessions_{day}"]
    assert [stored.key for stored in made.objects] == [f"{key}.db" for key in asked]
