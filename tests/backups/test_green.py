"""No state in which green is shown and the data is not protected; and each state's way back.

Status, exit code, headline of the page, metric and alert are held against one another each time.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.exposition import generate_latest

from backups.cli import commands
from backups.format import naming
from backups.host.heartbeats import Heartbeats
from backups.http.metrics import BackupCollector
from backups.model import Light
from backups.page.overview import gather
from backups.view import documents
from backups.view.headline import AMBER_TITLES, TITLES
from backups.vocabulary.kit import fingerprint_of
from shared.crontab import Crontab
from shared.merchants.inbox import Event, Inbox, open_inbox
from shared.process.lasting_work import Sign
from shared.store.directory import DirectoryStore
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.databases import write
from tests.support.exposition import scrape
from tests.support.installation import settings_of
from tests.support.marks import signed
from tests.support.records import INSTANT
from tests.support.store_wrappers import WatchedStore

pytestmark = pytest.mark.filterwarnings("error")

METRIC = {"green": 2, "amber": 1, "red": 0}


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(INSTANT)


class Elsewhere(WatchedStore):
    """A folder that is taken for a place that outlives this host's disk."""

    @property
    def offsite(self) -> bool:
        """So that the light can be green."""
        return True


@pytest.fixture
def store(tmp_path: Path) -> WatchedStore:
    return Elsewhere(DirectoryStore(tmp_path / "store"))


@pytest.fixture
def bench(tmp_path: Path, store: WatchedStore, clock: FixedClock) -> Iterator[Bench]:
    """A protected installation: all that green rests on is known to hold."""
    with open_bench(
        tmp_path,
        store,
        settings={},
        clock=clock,
        schedule=Crontab("0 1 * * *"),
        change_delay=timedelta(seconds=1),
        run_by="app",
    ) as bench:
        bench.write("gengood")
        bench.facts.note_begun(clock.now())
        keep_kit(bench)
        with led(bench):
            bench.made("scheduled")
            bench.service.alerts.send_alerts()
            assert look(bench).light == "green"
            assert bench.notes.titles() == []
            yield bench


def keep_kit(bench: Bench) -> None:
    """A person confirms that the emergency kit is kept elsewhere."""
    config = bench.service.config
    fingerprint = fingerprint_of(config.token_keys, config.seal.recipients)
    bench.facts.kit.keep(fingerprint, bench.service.clock.now())


class led:  # noqa: N801 - reads as a sentence: with led(bench)
    """A process leads, with threads that are well; `beat` says how they are now."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._held = bench.directory.scheduler_lease.try_acquire()

    def __enter__(self) -> led:
        self._bench.directory.scheduler_lease.announce()
        beat(self._bench)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._held is not None
        self._held.release()


def beat(bench: Bench, name: str = "", **other: object) -> None:
    """Write how the threads are; of the one with this name, these fields are other ones."""
    values = {"age": 1.0, "most": 180.0, "failure": None, "failing_for": 0.0}
    bench.directory.heartbeats.write(
        [
            Sign(one, **{**values, **(other if one == name else {})})  # type: ignore[arg-type]
            for one in ("alerts", "follower", "scheduler")
        ]
    )


@dataclass(frozen=True)
class Seen:
    """What all five say."""

    light: Light
    problems: tuple[str, ...]


def look(bench: Bench) -> Seen:
    """Look at every interface, and hold them against one another."""
    status = bench.service.status()
    light = status.health.light
    document = documents.status_document(status)
    assert document["light"] == light
    assert document["healthy"] == (light != "red")
    code = commands.status(bench.service, argparse.Namespace(json=False))
    assert code == (3 if light == "red" else 0)
    first = gather(bench.service, bench.service.clock.now()).headline
    assert (first.title == "Protected") == (light == "green")
    assert first.light == light
    titles = {"green": {"Protected"}, "red": set(TITLES.values())}
    assert first.title in titles.get(light, set(AMBER_TITLES.values()))
    assert first.remedy or light == "green"

    class Registry:
        def collect(self) -> object:
            return BackupCollector(bench.service).collect()

    text = generate_latest(Registry()).decode()  # type: ignore[arg-type]
    assert f"\nbackup_light {float(METRIC[light])}\n" in text
    problems = tuple(found.code for found in status.health.problems)
    for problem in problems:
        assert f'backup_problem{{code="{problem}"}} 1.0' in text
    bench.service.alerts.send_alerts()
    if light == "red":
        sent = bench.facts.messages.messages_since(INSTANT - timedelta(days=1))
        told = {code for one in sent for code in one.codes}
        assert {*problems} - {"no_restore_point"} <= told  # it says no more than its cause
    return Seen(light, problems)


def is_red(bench: Bench, problem: str) -> None:
    """All five say so, and a second look sends nothing more."""
    seen = look(bench)
    assert seen.light == "red"
    assert problem in seen.problems
    before = bench.notes.titles()
    look(bench)
    assert bench.notes.titles() == before


def is_green_again(bench: Bench) -> None:
    """All five say so, and exactly one message says that it is over."""
    assert look(bench).light == "green"
    look(bench)
    assert bench.notes.titles().count("well") == 1
    assert bench.notes.titles()[-1] == "well"


# --- the clock --------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [{"hours": 8}, {"days": 365}], ids=str)
def test_the_clock_was_ahead_once(bench: Bench, clock: FixedClock, ahead: dict[str, float]) -> None:
    """A set of the future counts for nothing, and is red until a right one is proven."""
    clock.advance(**ahead)
    bench.made("scheduled")
    clock.advance(**{unit: -count for unit, count in ahead.items()})
    clock.advance(minutes=1)
    is_red(bench, "future_set")
    clock.advance(days=1)
    assert bench.service.own_sets.is_owed("catch-up")
    assert bench.service.backup.run_if_owed("catch-up") is not None
    is_green_again(bench)


def test_a_set_made_under_a_clock_ahead_gets_no_younger_when_its_time_has_come(
    bench: Bench, clock: FixedClock
) -> None:
    """It holds nothing of the day that its time names: a set is owed, and overdue without one."""
    clock.advance(hours=34)
    early = bench.made("scheduled")
    clock.advance(hours=-34)
    clock.advance(minutes=1)
    is_red(bench, "future_set")
    clock.advance(hours=35)
    beat(bench)
    assert bench.service.own_sets.is_owed("catch-up")
    is_red(bench, "overdue")
    newest = bench.service.status().newest_point_at
    assert newest is not None
    assert newest < early.created_at
    assert bench.service.backup.run_if_owed("catch-up") is not None
    is_green_again(bench)


def test_nobody_makes_the_set_of_the_day(bench: Bench, clock: FixedClock) -> None:
    """Overdue two hours after it was due, and over with the next set."""
    clock.advance(days=1, hours=3)
    beat(bench)
    is_red(bench, "overdue")
    bench.made("catch-up")
    is_green_again(bench)


# --- this host --------------------------------------------------------------------------


def test_a_full_run_failed_and_a_run_of_one_source_succeeded(
    bench: Bench, clock: FixedClock
) -> None:
    """`run --only sessions` makes up for nothing: tokens.db is missing still."""
    away = bench.tokens.with_name("away.db")
    bench.tokens.rename(away)
    assert bench.run().status == "failed"
    is_red(bench, "last_run_failed")
    clock.advance(minutes=1)
    assert bench.run(only="sessions").status == "succeeded"
    is_red(bench, "last_run_failed")
    assert bench.service.own_sets.frozen() is not None
    away.rename(bench.tokens)
    clock.advance(minutes=1)
    is_red(bench, "last_run_failed")
    bench.made()
    is_green_again(bench)


def test_a_database_is_gone_while_the_app_runs(bench: Bench) -> None:
    """The file is looked at in every light: what the app still writes into it is lost."""
    away = bench.tokens.with_name("away.db")
    bench.tokens.rename(away)
    is_red(bench, "source_missing")
    away.rename(bench.tokens)
    is_green_again(bench)


@pytest.mark.parametrize("name", ["scheduler", "follower", "alerts"])
def test_a_thread_is_stuck_or_fails(bench: Bench, name: str) -> None:
    """No sign of life, or only failures for ten minutes, is red; a failure of a moment is amber."""
    beat(bench, name, failure="the disk is full", failing_for=60.0)
    assert look(bench).light == "amber"
    beat(bench, name, failure="the disk is full", failing_for=601.0)
    is_red(bench, "thread_failing")
    beat(bench)
    is_green_again(bench)


@pytest.mark.parametrize("name", ["scheduler", "follower", "alerts"])
def test_a_thread_gives_no_sign_of_life(bench: Bench, name: str) -> None:
    """It has ended, or hangs: red by name."""
    beat(bench, name, age=181.0)
    is_red(bench, "thread_stuck")
    beat(bench)
    is_green_again(bench)


def test_no_process_leads(bench: Bench, clock: FixedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The app is gone: amber for the ten minutes of a deploy, then red."""
    file = bench.directory.path / "heartbeats"
    monkeypatch.setattr(Heartbeats, "read", lambda _: None)
    monkeypatch.setattr(Heartbeats, "written_at", lambda _: clock.now() - timedelta(minutes=9))
    monkeypatch.setattr(type(bench.directory.scheduler_lease), "announced", lambda _: None)
    assert look(bench).light == "amber"
    monkeypatch.setattr(Heartbeats, "written_at", lambda _: clock.now() - timedelta(minutes=10))
    is_red(bench, "not_scheduled")
    monkeypatch.undo()
    assert file.exists()
    is_green_again(bench)


# --- the store --------------------------------------------------------------------------


def test_the_bucket_was_emptied(bench: Bench, clock: FixedClock) -> None:
    """Every point has vanished: red at the next look, until a new set and a person say so."""
    for key in bench.all_keys():
        bench.store.delete(key)
    assert bench.service.own_sets.refresh() is None
    is_red(bench, "points_missing")
    clock.advance(minutes=1)
    bench.made()
    is_red(bench, "points_missing")
    bench.service.acceptance.accept_missing()
    is_green_again(bench)


def test_only_the_data_was_deleted(bench: Bench, clock: FixedClock) -> None:
    """The manifests are there, and protect nothing."""
    for key in bench.data_keys():
        bench.store.delete(key)
    assert bench.service.own_sets.refresh() is None
    is_red(bench, "points_missing")
    newest = next(bench.service.catalogue.sets())
    assert (newest.proof, newest.hollow) == ("none", True)
    clock.advance(minutes=1)
    bench.made()
    bench.service.acceptance.accept_missing()
    is_green_again(bench)


@pytest.mark.parametrize("marked", [True, False])
def test_a_set_was_planted_that_lies_in_the_future(
    bench: Bench, clock: FixedClock, *, marked: bool
) -> None:
    """Whatever its date: red by name until a right set is proven, and never the newest.

    One without our mark is named as such, too.
    """
    (first,) = bench.manifests()
    document = json.loads(bench.bytes_of(first))
    document |= {"id": "99991231T000000Z", "instant": "9999-12-31T00:00:00Z", "sequence": None}
    del document["mac"]
    for stored in document["objects"]:
        body = bench.bytes_of(stored["key"])
        stored["key"] = stored["key"].replace("2026-11-22", "9999-12-31")
        bench.store.put(stored["key"], io.BytesIO(body), {"set-id": document["id"]})
    key = naming.manifest_key(PREFIX, document["id"])
    body = json.dumps(document).encode()
    bench.store.put(key, io.BytesIO(signed(key, body) if marked else body), {})
    assert bench.service.own_sets.refresh() is None
    clock.advance(minutes=1)
    seen = look(bench)
    assert seen.light == "red"
    warnings = {one.code for one in bench.service.status().health.warnings}
    assert ("sets_unsigned" in warnings) == (not marked)
    assert bench.service.own_sets.required_latest().id == "20261122T010000Z"
    assert bench.made().id == bench.service.own_sets.required_latest().id


def test_the_keys_of_today_do_not_open_it(
    tmp_path: Path, bench: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """The newest point is encrypted with a key that is not configured."""
    with open_bench(
        tmp_path, store, settings={}, clock=clock, run_by="cron", token_keys=("another",)
    ) as other:
        is_red(other, "token_key_lost")
    with open_bench(tmp_path, store, settings={}, clock=clock, run_by="cron") as same:
        is_green_again(same) if same.notes.titles() else None


def test_backups_that_stay_on_this_disk_are_amber(tmp_path: Path, clock: FixedClock) -> None:
    """The local folder protects against nothing that takes the disk."""
    with open_bench(tmp_path, settings={}, clock=clock, run_by="cron") as bench:
        bench.write("gengood")
        bench.made("scheduled")
        assert look(bench) == Seen("amber", ())
        assert gather(bench.service, clock.now()).headline.title == "Backed up, on this disk only"


# --- the data ---------------------------------------------------------------------------


def test_rows_that_fall_by_less_than_half_each_minute(bench: Bench, clock: FixedClock) -> None:
    """From 1,000 rows to a few within an hour, in small steps: suspect, until it is accepted."""
    bench.write("gengood", rows=1000)
    clock.advance(minutes=1)
    bench.made("change")
    rows = 1000
    while rows > 100:
        rows = int(rows * 0.55)
        write(bench.tokens, f"DELETE FROM tokens WHERE rowid > {rows}")
        clock.advance(minutes=1)
        bench.made("change")
    is_red(bench, "suspect")
    newest = next(bench.service.catalogue.sets())
    bench.service.acceptance.accept(newest.id)
    is_green_again(bench)


def test_after_the_restore_of_an_older_smaller_set_all_is_well(
    bench: Bench, clock: FixedClock
) -> None:
    """What was restored is the measure, and what was restored away is not `latest` any more."""
    good = next(bench.service.catalogue.sets()).id
    clock.advance(minutes=1)
    bench.write("genjunk", rows=5000)
    junk = bench.made("change").id
    clock.advance(minutes=1)
    bench.restored(good)
    clock.advance(minutes=1)
    made = bench.made("change")
    assert made.suspect is None
    assert bench.service.own_sets.required_latest().id == made.id != junk
    assert look(bench).light == "green"
    assert bench.notes.titles() == []


# --- the bot ----------------------------------------------------------------------------


def test_the_inbox_of_the_bot_is_stuck(bench: Bench, clock: FixedClock) -> None:
    """An update that waits for more than a quarter of an hour is red by name, until it is done."""
    with inbox_of(bench, clock) as inbox:
        inbox.add([Event("shopify", "1", "a.example", "products/update", "{}")])
        clock.advance(minutes=15)
        beat(bench)
        assert look(bench).light == "green"
        clock.advance(seconds=1)
        is_red(bench, "inbox_stuck")
        assert inbox_shown(bench) == (1, 901.0, 0)
        inbox.finish([1])
        is_green_again(bench)
        assert inbox_shown(bench) == (0, 0.0, 0)


def test_an_update_was_set_aside(bench: Bench, clock: FixedClock) -> None:
    """It is red by name until a person has it tried again."""
    with inbox_of(bench, clock) as inbox:
        inbox.add([Event("shopify", "1", "a.example", "products/update", "{}")])
        inbox.set_aside(1)
        is_red(bench, "updates_set_aside")
        assert inbox_shown(bench) == (0, 0.0, 1)
        assert inbox.retry() == 1
        is_green_again(bench)


def test_whether_the_inbox_is_stuck_cannot_be_seen(bench: Bench) -> None:
    """That is said, and nothing in place of it: neither a number nor an alarm."""
    inbox_path(bench).write_bytes(b"no database, for a hundred bytes" * 4)
    assert look(bench).light == "green"
    status = bench.service.status()
    assert "inbox_unreadable" in [found.code for found in status.health.warnings]
    assert documents.status_document(status)["bot"]["inbox"] is None
    assert scrape(bench.service).value("bot_inbox_waiting") is None
    inbox_path(bench).unlink()
    assert "inbox_unreadable" not in [
        found.code for found in bench.service.status().health.warnings
    ]


def inbox_path(bench: Bench) -> Path:
    """The file of the bot beside the databases."""
    return settings_of(bench.installation).inbox_db_path


@contextmanager
def inbox_of(bench: Bench, clock: FixedClock) -> Iterator[Inbox]:
    """The inbox, as the app has it open."""
    with closing(open_inbox(inbox_path(bench))) as database:
        yield Inbox(database, clock)


def inbox_shown(bench: Bench) -> tuple[int, float, int]:
    """What waits, for how long, and what was set aside: in the document and in the metrics."""
    shown = documents.status_document(bench.service.status())["bot"]["inbox"]
    found = scrape(bench.service)
    for name, value in shown.items():
        assert found.value(f"bot_inbox_{name}") == value
    return shown["waiting"], shown["oldest_seconds"], shown["set_aside"]


# --- rehearsals -------------------------------------------------------------------------


def test_drills_that_do_not_take_place(
    tmp_path: Path, store: WatchedStore, clock: FixedClock
) -> None:
    """Amber after two intervals without one, red after four, over with a drill."""
    with open_bench(
        tmp_path,
        store,
        settings={},
        clock=clock,
        run_by="cron",
        schedule=Crontab("0 1 * * *"),
        drill_schedule=Crontab("0 3 * * 0"),
    ) as bench:
        keep_kit(bench)
        bench.write("gengood")
        bench.made("scheduled")
        bench.service.drill.begin().execute()
        lights: list[tuple[int, Light]] = []
        for day in range(1, 30):
            clock.advance(days=1)
            bench.made("scheduled")
            lights.append((day, look(bench).light))
        turns: dict[Light, int] = {}
        for day, light in lights:
            turns.setdefault(light, day)
        assert list(turns) == ["green", "amber", "red"]
        assert (turns["amber"], turns["red"]) == (8, 22)
        bench.service.drill.begin().execute()
        is_green_again(bench)
