"""What the overview gathers: from local records alone, however many there are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backups.format import document
from backups.page import overview
from backups.view.chart import MOST_POINTS
from shared.clock import SystemClock, format_utc
from shared.errors import StoreUnreachable
from shared.store.directory import DirectoryStore
from shared.store.object_store import ObjectInfo
from tests.support.bench import Bench, open_bench
from tests.support.records import a_manifest, a_run, a_set

MANY = 10_000
STATUSES = {False: "succeeded", True: "failed"}


class StoreAway(DirectoryStore):
    """A store that must not be asked."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Raise."""
        raise StoreUnreachable(f"{prefix} was listed", "")

    def head(self, key: str) -> ObjectInfo:
        """Raise."""
        raise StoreUnreachable(f"{key} was asked for", "")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A service whose store does not answer."""
    with open_bench(tmp_path, StoreAway(tmp_path / "store"), clock=SystemClock()) as bench:
        yield bench


def test_the_store_is_not_asked(bench: Bench) -> None:
    """The page opens when the store is away, and tells what this host knows."""
    service = bench.service
    now = datetime.now(UTC).replace(microsecond=0)
    good = a_set(now - timedelta(hours=26), instance=service.directory.instance())
    bad = a_set(now - timedelta(hours=2), instance=good.instance, suspect=("half is gone",))
    for one in (good, bad):
        service.catalogue.add_manifest(one.id, a_manifest(one))
    run = a_run(started_at=bad.created_at, finished_at=now, set_id=bad.id)
    service.run_log.start(run)
    service.run_log.finish(run)
    found = overview.gather(service, now)
    assert [one.id for one in found.sets] == [bad.id, good.id]
    assert found.suspect_set == bad.id
    assert found.headline.code == "suspect"
    assert "newest proven" in found.reasons[good.id]
    assert {one.state for one in found.days[-3:]} >= {"suspect", "proven"}
    assert [one.seconds for one in found.points] == [None, 7200.0]
    assert found.runs == (run,)
    assert (found.more_sets, found.more_runs) == (False, False)


def test_an_empty_installation(bench: Bench) -> None:
    """There is nothing yet, and all of it can be shown."""
    found = overview.gather(bench.service, SystemClock().now())
    assert found.headline.code == "no_restore_point"
    assert {one.state for one in found.days} == {"none"}
    assert (found.points, found.sets, found.runs) == ((), (), ())


def count_documents(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """A list that gets each document of the store as it is parsed."""
    read: list[bytes] = []

    def count(text: bytes, **options: Any) -> Any:
        read.append(text)
        return json.loads(text, **options)

    monkeypatch.setattr(f"{document.__name__}.json", SimpleNamespace(loads=count))
    return read


@pytest.mark.slow
def test_ten_thousand_restore_points(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hourly sets of more than a year are gathered, and not all documents are read again."""
    read = count_documents(monkeypatch)
    service = bench.service
    now = datetime.now(UTC).replace(microsecond=0)
    instance = service.directory.instance()
    sets = [a_set(now - timedelta(hours=back), instance=instance) for back in range(1, MANY + 1)]
    with bench.known.transaction() as connection:  # as taken over from an older version
        connection.executemany(
            "INSERT INTO sets(id, manifest) VALUES (?, ?)",
            ((one.id, a_manifest(one)) for one in sets),
        )
    with bench.records.transaction() as connection:
        connection.executemany(
            "INSERT INTO runs(id, operation, trigger, status, started_at, finished_at, set_id)"
            " VALUES (?, 'backup', 'scheduled', ?, ?, ?, ?)",
            (
                (
                    f"run-{one.id}",
                    STATUSES[place % 50 == 0],
                    *[format_utc(one.created_at)] * 2,
                    one.id,
                )
                for place, one in enumerate(sets)
            ),
        )
    found = overview.gather(service, now)
    assert MANY <= len(read) < 2.5 * MANY  # as they are taken over; then the sets of the last days
    read.clear()
    overview.gather(service, now)
    assert len(read) < MANY / 4
    assert found.status.restore_points == MANY
    assert len(found.sets) == overview.SHOWN
    assert found.more_sets
    assert {one.state for one in found.days[:-1]} == {"proven"}
    assert len(found.points) == MOST_POINTS
