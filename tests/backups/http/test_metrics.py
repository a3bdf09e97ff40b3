"""Tests of `backups.http.metrics`: each metric is there, and moves with what it is about."""

from __future__ import annotations

from pathlib import Path

import pytest

from backups.decisions.health import PROBLEM_CODES
from backups.wiring import open_service
from shared.settings.load import load_settings
from tests.support.bench import Bench
from tests.support.clock import FixedClock
from tests.support.exposition import METRICS, OF_SECOND, SERIES, Scrape, scrape
from tests.support.installation import Installation
from tests.support.listener import Listener
from tests.support.records import INSTANT
from tests.support.store_wrappers import WatchedStore, fail


def runs(found: Scrape, operation: str, status: str, trigger: str = "manual") -> float | None:
    """How many runs of a kind are counted."""
    return found.value("backup_runs_total", operation=operation, trigger=trigger, status=status)


def test_the_names_types_and_labels_are_those_that_are_promised(bench: Bench) -> None:
    """After a run and a drill every promised metric is there, with its labels, and no other."""
    empty = scrape(bench.service)
    assert empty.types == {name: kind for name, (kind, _) in METRICS.items()}
    bench.made()
    assert bench.service.drill.begin().execute().status == "succeeded"

    found = scrape(bench.service)
    assert found.types == empty.types
    assert {name for name, _ in found.samples} == SERIES - OF_SECOND
    for name, (kind, labels) in METRICS.items():
        if kind != "histogram" and name not in OF_SECOND:
            assert found.labels(name) == {frozenset(labels)}, name
    assert found.labels("backup_stage_seconds_count") == {frozenset({"stage"})}


def test_a_host_without_a_backup(bench: Bench) -> None:
    """Before the first run: not healthy, times are 0, and counters stand at 0."""
    found = scrape(bench.service)

    assert found.value("backup_healthy") == 0
    assert found.value("backup_problem", code="no_restore_point") == 1
    assert found.value("backup_problem", code="overdue") == 0
    assert found.value("backup_last_success_timestamp_seconds") == 0
    assert found.value("backup_last_proof_timestamp_seconds") == 0
    assert found.value("backup_next_run_timestamp_seconds") == INSTANT.timestamp() + 24 * 3600
    assert found.value("backup_restore_points") == 0
    assert found.value("backup_drill_rto_seconds") is None
    assert runs(found, "backup", "failed", "scheduled") == 0
    assert found.value("backup_notifications_total", result="failed") == 0
    assert not found.labels("backup_bytes")


def test_a_good_run(bench: Bench, clock: FixedClock) -> None:
    """A run moves its counter, the times, the sizes and rows, and the time of each stage."""
    made = bench.made()
    clock.advance(hours=1)

    found = scrape(bench.service)
    assert runs(found, "backup", "succeeded") == 1
    assert runs(found, "backup", "failed") == 0
    assert found.value("backup_last_success_timestamp_seconds") == INSTANT.timestamp()
    assert found.value("backup_last_proof_timestamp_seconds") == INSTANT.timestamp()
    assert found.value("backup_restore_points") == 1
    assert found.value("backup_healthy") == 1
    assert {found.value("backup_problem", code=code) for code in PROBLEM_CODES} == {0}
    for stored in made.objects:
        source = stored.source
        for kind, size in (("stored", stored.bytes), ("snapshot", stored.snapshot_bytes)):
            assert found.value("backup_bytes", source=source, kind=kind) == size > 0
        assert found.value("backup_rows", source=source, table=source) == 3
    for stage in ("check", "snapshot", "seal", "store", "proof", "manifest"):
        assert found.value("backup_stage_seconds_count", stage=stage) == 1
        assert found.value("backup_stage_seconds_bucket", stage=stage, le="+Inf") == 1
        seconds = found.value("backup_stage_seconds_sum", stage=stage)
        assert seconds is not None
        assert 0 < seconds < 60


def test_a_failed_run(bench: Bench, store: WatchedStore) -> None:
    """A run that fails is counted as that, and is a problem, while what is proven stays so."""
    bench.made()
    store.before("put", "tokens", fail)
    assert bench.run("scheduled").status == "failed"

    found = scrape(bench.service)
    assert runs(found, "backup", "failed", "scheduled") == 1
    assert runs(found, "backup", "succeeded") == 1
    assert found.value("backup_healthy") == 0
    assert found.value("backup_problem", code="last_run_failed") == 1
    assert found.value("backup_last_success_timestamp_seconds") == INSTANT.timestamp()
    assert found.value("backup_stage_seconds_count", stage="store") == 2
    assert found.value("backup_stage_seconds_count", stage="proof") == 1


def test_a_later_proof(bench: Bench, clock: FixedClock) -> None:
    """A verification moves the time of the last proof, and not that of the last backup."""
    bench.made()
    later = clock.advance(hours=5)
    assert bench.verify().status == "succeeded"

    found = scrape(bench.service)
    assert found.value("backup_last_proof_timestamp_seconds") == later.timestamp()
    assert found.value("backup_last_success_timestamp_seconds") == INSTANT.timestamp()
    assert runs(found, "verify", "succeeded") == 1


def test_a_drill(bench: Bench, store: WatchedStore) -> None:
    """A drill tells its time; one that failed has none, and is a problem."""
    bench.made()
    assert bench.service.drill.begin("scheduled").execute().status == "succeeded"
    good = scrape(bench.service)
    rto = good.value("backup_drill_rto_seconds")
    assert rto is not None
    assert 0 < rto < 60
    assert runs(good, "drill", "succeeded", "scheduled") == 1

    store.before("get", "tokens", fail)
    assert bench.service.drill.begin().execute().status == "failed"
    bad = scrape(bench.service)
    assert bad.value("backup_drill_rto_seconds") is None
    assert bad.value("backup_problem", code="drill_failed") == 1
    assert runs(bad, "drill", "failed") == 1


# What apprise imports warns of Python 3.13.
@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
def test_notifications(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that arrives is counted as sent, one that does not as failed."""
    monkeypatch.chdir(tmp_path)
    with Listener() as listener:
        url = f"json://127.0.0.1:{listener.port}/"
        settings = load_settings(Installation(tmp_path, {"BACKUP_NOTIFY_URLS": url}).environment)
        with open_service(settings) as service:
            assert service.alerts.send_test_message() == ()
            listener.status = 500
            assert service.alerts.send_test_message() != ()
            assert service.alerts.send_test_message() != ()
            found = scrape(service)
    assert found.value("backup_notifications_total", result="sent") == 1
    assert found.value("backup_notifications_total", result="failed") == 2


def test_a_scrape_asks_no_store_and_writes_nothing(bench: Bench, store: WatchedStore) -> None:
    """Metrics come from this host's records alone, and leave them as they are."""
    bench.made()
    calls = len(store.calls)
    with bench.records.reading() as connection:
        before = connection.execute("PRAGMA data_version").fetchone(), connection.total_changes

    scrape(bench.service)

    with bench.records.reading() as connection:
        after = connection.execute("PRAGMA data_version").fetchone(), connection.total_changes
    assert len(store.calls) == calls
    assert before == after
