"""What a host says and does that does not lead: by what the leader says, and by what is live."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from backups.host.heartbeats import dump_signs
from backups.host.records import open_records
from backups.host.state import HostState
from backups.model import DrillReport, Finding, Run
from backups.scheduling.scheduler import BackupScheduler
from shared.databases.engines.holder import Holder
from shared.errors import DatabaseUnreachable
from shared.process.lasting_work import Sign
from tests.support.bench import Bench, open_bench
from tests.support.records import INSTANT
from tests.support.shared_live import SharedLive, shared_live

WELL = (Sign("scheduler", age=2, most=180), Sign("alerts", age=2, most=180))
SINCE = timedelta(days=1)
NAMES = "SELECT name FROM facts WHERE value LIKE '%20261122T010000Z-ab12%'"


@pytest.fixture
def live(tmp_path: Path) -> Iterator[SharedLive]:
    """What the hosts share."""
    with shared_live(tmp_path / "shared") as live:
        yield live


@pytest.fixture
def host(tmp_path: Path, live: SharedLive, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """One of several hosts, which does not lead and has made a set."""
    with open_bench(tmp_path / "host", live=live, run_by="app") as bench:
        bench.made()
        monkeypatch.setattr(bench.service.directory, "scheduler_lease", live)
        monkeypatch.setattr(live, "is_kept", lambda: True, raising=False)
        yield bench


def leader(*signs: Sign, finding: Finding | None = None) -> Holder:
    """A leader on another host, which says how its threads are, and what it finds."""
    said = dump_signs(signs, (finding,) if finding else ())
    return Holder("fox", 17, SINCE, signs=said, signs_age=timedelta(seconds=5))


def test_while_the_leader_is_well_so_is_the_page(host: Bench, live: SharedLive) -> None:
    """This host schedules nothing, and never did."""
    live.leader = leader(*WELL)
    assert not {"not_scheduled", "thread_stuck"} & set(host.problems())


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (leader(), "not_scheduled"),
        (leader(Sign("scheduler", age=900, most=180), WELL[1]), "thread_stuck"),
        (
            leader(Sign("scheduler", age=2, most=180, failure="disk full", failing_for=900)),
            "thread_failing",
        ),
    ],
)
def test_a_leader_that_does_not_work_is_a_problem_on_each_host(
    host: Bench, live: SharedLive, said: Holder, code: str
) -> None:
    """It has no threads, one is stuck, or one fails."""
    live.leader = said
    assert code in host.problems()


def test_what_only_the_leader_can_find_is_said_with_its_name(host: Bench, live: SharedLive) -> None:
    """Its disk is full; this one has room."""
    full = Finding("records_unusable", "the disk of BACKUP_DIR is full", "Make room.")
    live.leader = leader(*WELL, finding=full)
    [found] = [one for one in host.service.status().health.problems if one.code == full.code]
    assert found.message == "the disk of BACKUP_DIR is full (on the host fox)"


def test_the_files_of_this_host_are_copies(host: Bench, live: SharedLive) -> None:
    """One that is gone is made anew: to restore it would set all hosts back."""
    live.leader = leader(*WELL)
    host.live("tokens").unlink()
    assert "source_missing" not in host.problems()


def test_a_run_looks_first_what_other_hosts_have_made(host: Bench) -> None:
    """It compares with the newest set, whoever has made it."""
    [known] = host.stored_ids()
    with host.known.transaction() as connection:
        for table in ("sets", "points"):
            connection.execute(f"DELETE FROM {table}")
    assert not host.service.catalogue.has(known)
    host.made()
    assert host.service.catalogue.has(known)


def test_each_minute_a_host_notes_what_all_know_and_tells_what_they_do_not(
    host: Bench, live: SharedLive, tmp_path: Path
) -> None:
    """So that it is not far behind when the database is away, nor alone with what it did then."""
    drill = DrillReport("20261122T010000Z", INSTANT, 6.25, 12, 0, None)
    with closing(open_records(tmp_path)) as records:
        HostState(records, live.database("inbox")).set_last_drill(drill)
        other = HostState(records, live.database("inbox"))
        failed = Run(
            "20261122T010000Z-ab12", "backup", "manual", "failed", host.service.clock.now()
        )
        live.away = True
        with pytest.raises(DatabaseUnreachable):
            host.service.own_sets.attempts.note(failed)
        live.away = False

        BackupScheduler(host.service)._alert()

        assert "last_outcome" in {
            name for (name,) in other.common.read(lambda one: one.execute(NAMES).fetchall())
        }
        live.away = True
        assert host.service.facts.last_drill() == drill
