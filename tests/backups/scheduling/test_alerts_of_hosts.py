"""Which of several hosts sends messages: the leader, and of their database's absence each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from backups.alerts.dispatch import Alerts
from backups.alerts.outage import OutageAlerts
from backups.host.records import open_records
from backups.host.state import HostState
from backups.operations.own_sets import OwnSets
from backups.scheduling.scheduler import BackupScheduler
from backups.vocabulary.receivers import ReceiverState
from tests.support.bench import Bench, open_bench
from tests.support.memory_notifier import MemoryNotifier
from tests.support.records import INSTANT
from tests.support.shared_live import SharedLive, shared_live

TOLD = "SELECT value FROM facts WHERE name LIKE 'receiver:%'"


@pytest.fixture
def live(tmp_path: Path) -> Iterator[SharedLive]:
    """What the hosts share."""
    with shared_live(tmp_path / "shared") as live:
        yield live


@pytest.fixture
def host(tmp_path: Path, live: SharedLive, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """One of several hosts, which does not lead and has made a set."""
    with open_bench(tmp_path / "host", live=live) as bench:
        bench.made()
        monkeypatch.setattr(bench.service.directory, "scheduler_lease", live)
        yield bench


def turn(scheduler: BackupScheduler, bench: Bench) -> list[str]:
    """The topics of the messages that this host sends in one turn."""
    before = len(bench.notes.titles())
    scheduler._alert()
    return bench.notes.titles()[before:]


def break_something(bench: Bench) -> None:
    """A problem of which no backup is to blame."""
    later = bench.service.clock.now() + timedelta(seconds=1)
    bench.facts.note_started_empty("tokens", later)


def mend(bench: Bench) -> None:
    """Its end."""
    bench.facts.forget_started_empty("tokens")


@contextmanager
def beside(bench: Bench, live: SharedLive, folder: Path) -> Iterator[tuple[Alerts, MemoryNotifier]]:
    """The messages of another host, which sees the same problems; what it has sent."""
    folder.mkdir()
    with closing(open_records(folder)) as records:
        state, notes = HostState(records, live.database("inbox")), MemoryNotifier()
        state.note_begun(INSTANT)
        yield Alerts(bench.service.status, state, notes, bench.service.clock), notes


# --- while the database is away ---------------------------------------------------------


def test_a_host_that_does_not_lead_sends_only_that_the_database_is_away(
    host: Bench, live: SharedLive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And that it is back, whatever else it has noted; it looks at the store each time."""
    looked: list[int] = []
    monkeypatch.setattr(OwnSets, "refresh", lambda _: looked.append(1))
    scheduler = BackupScheduler(host.service)
    assert turn(scheduler, host) == []
    break_something(host)
    live.away = True
    assert turn(scheduler, host) == ["database_unreachable"]
    assert turn(scheduler, host) == []
    live.away = False
    assert turn(scheduler, host) == ["back"]
    assert turn(scheduler, host) == []
    assert turn(scheduler, host) == []
    assert len(looked) == 6


def test_what_a_leader_has_sent_before_an_outage_stays_sent(host: Bench, live: SharedLive) -> None:
    """The outage neither ends a problem nor repeats it, and its own end is not that of all."""
    scheduler = BackupScheduler(host.service)
    turn(scheduler, host)
    host.service.alerts.leads = True
    break_something(host)
    [code] = turn(scheduler, host)
    live.away = True
    assert turn(scheduler, host) == ["database_unreachable"]
    host.service.alerts.leads = False
    assert turn(scheduler, host) == []
    live.away = False
    host.service.alerts.leads = True
    assert turn(scheduler, host) == ["back"]
    mend(host)
    assert turn(scheduler, host) == ["well"]
    assert code in host.notes.messages[-1].body
    assert "database_unreachable" not in host.notes.messages[-1].body


def test_a_leader_sends_nothing_that_it_cannot_claim(
    host: Bench, live: SharedLive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database goes away after the look at status: whoever leads next sends it."""
    host.service.alerts.leads = True
    break_something(host)
    news = host.service.alerts._news()
    live.away = True
    monkeypatch.setattr(host.service.alerts, "_news", lambda: news)
    host.service.alerts.send_alerts()
    assert host.notes.messages == []


def test_news_of_while_the_database_was_away_are_not_sent_after_it(
    host: Bench, live: SharedLive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They rest on what this host has noted itself, whenever that was."""
    host.service.alerts.leads = True
    break_something(host)
    live.away = True
    news = host.service.alerts._news()
    live.away = False
    monkeypatch.setattr(host.service.alerts, "_news", lambda: news)
    host.service.alerts.send_alerts()
    assert host.notes.messages == []


def test_where_no_outage_was_sent_its_end_is_not_either(host: Bench) -> None:
    """As after a start, or while nobody could be reached."""
    service = host.service
    outage = OutageAlerts(lambda: None, service.status, service.facts, host.notes, service.clock)
    outage.send_alerts()
    assert host.notes.messages == []


# --- while it is there ------------------------------------------------------------------


def test_who_does_not_lead_sends_nothing_of_what_a_person_asked_it(
    tmp_path: Path, live: SharedLive
) -> None:
    """A run and an acceptance, by hand; the heartbeat of a good set is called all the same."""
    with open_bench(tmp_path / "host", live=live, notify_success=True) as bench:
        bench.made()
        assert bench.notes.heartbeats == 1
        bench.watched.break_at("put", 0)
        assert bench.run().status == "failed"
        bench.watched.mend()
        bench.service.acceptance.accept_missing()
        bench.service.acceptance.accept("latest")
        assert bench.notes.titles() == []
        bench.service.alerts.leads = True
        bench.service.acceptance.accept("latest")
        assert len(bench.notes.titles()) == 1


def test_whoever_leads_next_goes_on_from_what_was_sent(
    host: Bench, live: SharedLive, tmp_path: Path
) -> None:
    """It repeats no problem, and sends that all is well again; so does the first, if it is back."""
    first = host.service.alerts
    with beside(host, live, tmp_path / "other") as (other, notes):
        first.leads = True
        break_something(host)
        first.send_alerts()
        assert len(host.notes.messages) == 1
        receivers = [one.id for one in notes.receivers]
        known = other._facts.messages.states(receivers)
        assert known == host.facts.messages.states(receivers) != {}
        other.leads = True
        other.send_alerts()  # the first one is frozen, and may still believe that it leads
        assert notes.messages == []
        first.leads = False
        mend(host)
        other.send_alerts()
        assert notes.titles() == ["well"]
        first.leads = True
        first.send_alerts()
        assert len(host.notes.messages) == 1


def test_a_run_of_its_own_that_failed_long_ago_keeps_no_leader_from_sending_the_end(
    host: Bench, live: SharedLive, tmp_path: Path
) -> None:
    """Another host has made up for it since."""
    host.watched.break_at("put", 0)
    assert host.run().status == "failed"
    host.watched.mend()
    host.service.alerts.leads = True
    host.service.alerts.send_alerts()
    assert host.notes.titles() == ["last_run_failed"]
    with host.records.transaction() as connection:  # it is not of this host that all know
        connection.execute("DELETE FROM facts WHERE name = 'untold_outcome'")
    with live.transaction() as connection:
        at = host.service.clock.now().isoformat()
        outcome = f'{{"at": "{at}", "begun": "{at}", "host": "other", "failed": null}}'
        connection.execute("UPDATE facts SET value = ? WHERE name = 'last_outcome'", (outcome,))
    host.service.alerts.send_alerts()
    assert host.notes.titles() == ["last_run_failed", "well"]


def test_what_a_host_alone_had_sent_goes_on_with_several(tmp_path: Path, live: SharedLive) -> None:
    """It offers it at its start, to a database that knows nothing of messages; and only to such."""
    folder = tmp_path / "host"
    with open_bench(folder) as alone:
        alone.made()
        break_something(alone)
        alone.service.alerts.send_alerts()
        [code] = alone.notes.titles()
    with open_bench(folder, live=live, rows=0, sources=alone.service.config.sources) as bench:
        bench.service.facts.offer_what_is_common()
        bench.service.alerts.leads = True
        bench.service.alerts.send_alerts()
        assert bench.notes.messages == []
        with live.reading() as connection:
            [(before,)] = connection.execute(TOLD).fetchall()
        assert code in before
        mend(bench)
        bench.service.alerts.send_alerts()
        assert bench.notes.titles() == ["well"]
        with live.reading() as connection:
            after = connection.execute(TOLD).fetchall()
    with closing(open_records(tmp_path)) as records:
        later = HostState(records, live.database("inbox"))
        receivers = [one.id for one in bench.notes.receivers]
        HostState(records).messages.change(
            receivers, lambda _: dict.fromkeys(receivers, ReceiverState(("overdue",)))
        )
        later.offer_what_is_common()
        with live.reading() as connection:
            assert connection.execute(TOLD).fetchall() == after
