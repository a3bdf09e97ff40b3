"""Tests of following changes: what is noticed, when a run is due, and what it protects."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.decisions.due import ChangeFacts, due_at
from backups.format import naming
from backups.model import Source
from backups.scheduling.change_follower import ChangeFollower
from backups.sources.change_watch import ChangeWatch
from shared.clock import SystemClock
from shared.databases.cipher import TokenCipher
from shared.databases.sessions import SessionStorage
from shared.databases.tokens import TokenStorage
from shared.databases.untrusted import open_untrusted
from shared.errors import DiskFull
from shared.process.lasting_work import Pulse, last
from shared.store.directory import DirectoryStore
from tests.support.app_process import AppProcess
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.databases import add_rows, connect, make_sources, write
from tests.support.installation import TOKEN_ENCRYPTION_KEY, Installation, bot_secrets
from tests.support.records import INSTANT
from tests.support.store_wrappers import WatchedStore
from tests.support.waiting import eventually

DELAY = timedelta(seconds=60)
MINUTE = timedelta(minutes=1)


# --- the watch --------------------------------------------------------------------------


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Source, ...]:
    return make_sources(tmp_path / "data")


@pytest.fixture
def tokens(sources: tuple[Source, ...]) -> Path:
    return sources[0].path


@pytest.fixture
def watch(sources: tuple[Source, ...]) -> Iterator[ChangeWatch]:
    """A watch of `tokens` alone, as the follower has it."""
    with closing(ChangeWatch(sources[:1])) as watch:
        yield watch


def write_apart(path: Path) -> None:
    """Commit a row in another process."""
    code = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute(\"INSERT INTO tokens VALUES (hex(randomblob(9)), 'v', 0)\")\n"
        "connection.close()\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


def set_age(database: Path, at: datetime) -> None:
    """Say that a database was written at an instant of the test's clock, in place of the disk's."""
    for path in (database, database.with_name(f"{database.name}-wal")):
        if path.exists():
            os.utime(path, times=(0, at.timestamp()))


def test_a_quiet_database_is_unchanged(watch: ChangeWatch) -> None:
    """However often it is asked, without a write there is no change."""
    assert [watch.poll() for _ in range(5)] == [False] * 5


def test_a_write_of_another_process_is_noticed_once(watch: ChangeWatch, tokens: Path) -> None:
    """A commit anywhere on the host is seen at the next poll, and not again."""
    write_apart(tokens)

    assert [watch.poll() for _ in range(3)] == [True, False, False]
    write_apart(tokens)
    assert watch.poll()


@pytest.mark.parametrize("statement", ["UPDATE tokens SET value = 'new'", "DELETE FROM tokens"])
def test_updates_and_deletes_are_changes(watch: ChangeWatch, tokens: Path, statement: str) -> None:
    """A token that was rotated or removed changes no count of rows, and is noticed."""
    write(tokens, statement)

    assert watch.poll()


def test_reading_is_no_change(watch: ChangeWatch, tokens: Path) -> None:
    """Readers, and transactions that were rolled back, ask for nothing."""
    with closing(connect(tokens)) as connection:
        connection.execute("SELECT count(*) FROM tokens").fetchone()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM tokens")
        connection.execute("ROLLBACK")

        assert not watch.poll()


@pytest.mark.parametrize("mode", ["PASSIVE", "FULL", "RESTART"])
def test_a_checkpoint_is_no_change(watch: ChangeWatch, tokens: Path, mode: str) -> None:
    """Moving what is committed from the `-wal` to the main file asks for nothing."""
    with closing(connect(tokens)) as connection:
        connection.execute("UPDATE tokens SET value = 'x'")
        assert watch.poll()
        connection.execute(f"PRAGMA wal_checkpoint({mode})")

        assert not watch.poll()
    assert not watch.poll()


def test_a_truncating_checkpoint_costs_one_set_at_the_most(
    watch: ChangeWatch, tokens: Path
) -> None:
    """SQLite counts `wal_checkpoint(TRUNCATE)` as a change; it is noticed once, like a write."""
    with closing(connect(tokens)) as connection:
        connection.execute("UPDATE tokens SET value = 'x'")
        watch.poll()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        watch.poll()

        assert not watch.poll()
        connection.execute("UPDATE tokens SET value = 'y'")
        assert watch.poll()


def test_our_own_snapshot_is_no_change(tmp_path: Path, sources: tuple[Source, ...]) -> None:
    """A run does not ask for the next one."""
    with (
        open_bench(
            tmp_path, DirectoryStore(tmp_path / "store"), clock=SystemClock(), sources=sources
        ) as bench,
        closing(ChangeWatch(sources[:1])) as watch,
    ):
        bench.made()
        bench.service.verify.begin().execute()

        assert not watch.poll()


def test_a_file_replaced_by_rename_is_noticed(
    watch: ChangeWatch, tokens: Path, tmp_path: Path
) -> None:
    """Another file under the same name is a change, and so is a write to the new file."""
    (other, _) = make_sources(tmp_path / "other", 5)
    other.path.rename(tokens)

    assert [watch.poll() for _ in range(2)] == [True, False]
    write_apart(tokens)
    assert watch.poll()


def test_a_file_that_comes_back_is_noticed(watch: ChangeWatch, tokens: Path) -> None:
    """A missing file is no reason for a run, its return is; nothing is raised meanwhile."""
    away = tokens.rename(tokens.with_name("away.db"))
    assert [watch.poll() for _ in range(2)] == [False, False]

    away.rename(tokens)
    assert watch.poll()


def test_a_locked_database_is_asked_again(watch: ChangeWatch, tokens: Path) -> None:
    """While somebody writes, polling neither waits nor fails; the commit is then seen."""
    with closing(connect(tokens)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("UPDATE tokens SET value = 'x'")
        began = time.monotonic()
        assert not watch.poll()
        assert time.monotonic() - began < 0.5
        connection.execute("COMMIT")

        assert watch.poll()


def test_a_file_that_is_no_database_raises_nothing(tmp_path: Path) -> None:
    """What cannot be asked is left to the run, which names it."""
    path = tmp_path / "tokens.db"
    path.write_bytes(b"this is not a database" * 400)
    with closing(ChangeWatch([Source("tokens", path)])) as watch:
        assert not watch.poll()


def test_a_watch_holds_no_lock_and_leaks_no_file(sources: tuple[Source, ...]) -> None:
    """The app writes and truncates the `-wal` while it is watched; all files are closed."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    with closing(ChangeWatch(sources)) as watch, closing(connect(sources[0].path)) as connection:
        for _ in range(20):
            connection.execute("UPDATE tokens SET value = value || 'x'")
            assert watch.poll()
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            assert busy == 0

    assert len(list(Path("/proc/self/fd").iterdir())) == before


# --- when a run is due ------------------------------------------------------------------

# By the monotonic clock.
AT = timedelta(days=3)
QUIET = ChangeFacts(changed_at=AT, last_started_at=None, last_finished_at=None, failures=0)


def after(took: float, ago: float, failures: int = 0) -> ChangeFacts:
    """A change now, and a last run of `took` seconds that ended `ago` seconds before it."""
    finished = AT - timedelta(seconds=ago)
    return ChangeFacts(AT, finished - timedelta(seconds=took), finished, failures)


@pytest.mark.parametrize(
    ("facts", "seconds"),
    [
        (QUIET, 60),
        (after(1, 3600), 60),
        (after(1, 0), 60),  # nineteen seconds of pause are over before the delay is
        (after(10, 0), 190),  # a run of 10 s is followed by 190 s without one
        (after(10, 150), 60),
        (after(10, 100), 90),
        (after(600, 0), 11_400),
        (after(1, 0, failures=1), 300),
        (after(1, 0, failures=2), 900),
        (after(1, 0, failures=3), 3600),
        (after(1, 0, failures=9), 3600),
        (after(1, 200, failures=1), 100),
        (after(1, 7200, failures=3), 60),
        (after(600, 0, failures=1), 11_400),
    ],
)
def test_when_a_change_run_is_due(facts: ChangeFacts, seconds: float) -> None:
    """The delay, a twentieth of the time at the most, and pauses after failures."""
    assert due_at(facts, DELAY) - AT == timedelta(seconds=seconds)


@given(st.lists(st.floats(0.01, 500), min_size=2, max_size=30), st.floats(1, 120))
def test_change_runs_take_a_twentieth_of_the_time(times: list[float], delay: float) -> None:
    """Under writes without an end, runs take at most 5 % of any stretch that begins with one."""
    now, started, finished = AT, None, None
    spans: list[tuple[timedelta, timedelta]] = []
    for took in times:
        facts = ChangeFacts(now, started, finished, 0)
        started = due_at(facts, timedelta(seconds=delay))
        finished = now = started + timedelta(seconds=took)
        spans.append((started, finished))
    for (began, ended), (following, _) in pairwise(spans):
        assert (ended - began) / (following - began) <= 1 / 20 + 1e-6


# --- the follower -----------------------------------------------------------------------


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(INSTANT)


@pytest.fixture
def store(tmp_path: Path) -> WatchedStore:
    return WatchedStore(DirectoryStore(tmp_path / "store"))


@pytest.fixture
def bench(tmp_path: Path, store: WatchedStore, clock: FixedClock) -> Iterator[Bench]:
    with open_bench(tmp_path, store, clock=clock) as bench:
        yield bench


@pytest.fixture
def follower(bench: Bench) -> Iterator[ChangeFollower]:
    with closing(ChangeFollower(bench.service, DELAY)) as follower:
        yield follower


def steps(follower: ChangeFollower, clock: FixedClock, seconds: int) -> list[str]:
    """Step once a second; when runs were made, and how they ended."""
    found = []
    for _ in range(seconds):
        clock.advance(seconds=1)
        run = follower.step()
        if run is not None:
            assert run.trigger == "change"
            found.append(f"{run.started_at - INSTANT} {run.status}")
    return found


def test_many_changes_become_one_run(
    follower: ChangeFollower, bench: Bench, clock: FixedClock
) -> None:
    """Whatever is written within the delay after the first write is in one set."""
    made = []
    for _ in range(120):
        if clock.now() - INSTANT < timedelta(seconds=30):
            add_rows(bench.tokens, 1)
        made += steps(follower, clock, 1)

    assert made == ["0:01:01 succeeded"]
    (only,) = bench.stored_ids()
    assert bench.service.catalogue.get(only).objects[0].rows == {"tokens": 90}
    assert bench.service.catalogue.get(only).trigger == "change"


def test_a_write_while_the_run_is_made_is_a_change_of_its_own(
    follower: ChangeFollower, bench: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """What comes after the snapshot is not lost: a second run follows."""
    add_rows(bench.tokens, 1)
    store.before("put", "tokens_", lambda: add_rows(bench.tokens, 1))

    assert len(steps(follower, clock, 200)) == 2
    newest = bench.service.catalogue.get(bench.stored_ids()[-1])
    assert newest.objects[0].rows == {"tokens": 62}


def test_sessions_alone_ask_for_nothing(
    follower: ChangeFollower, bench: Bench, clock: FixedClock
) -> None:
    """Sessions that come and go for an hour make no run; the next token does."""
    for _ in range(360):
        add_rows(bench.sessions, 1)
        assert steps(follower, clock, 10) == []
    add_rows(bench.tokens, 1)

    assert len(steps(follower, clock, 120)) == 1


def test_a_change_run_is_a_run_like_any_other(
    follower: ChangeFollower, bench: Bench, clock: FixedClock
) -> None:
    """It is complete and proven, is what `latest` means, and has keys with a time."""
    bench.made("scheduled")
    add_rows(bench.tokens, 1)
    steps(follower, clock, 90)

    newest = bench.service.own_sets.latest()
    assert newest is not None
    assert newest.protects
    assert newest.trigger == "change"
    assert [stored.key for stored in newest.objects] == [
        "backups/tokens_2026-11-22T010101Z.db",
        "backups/sessions_2026-11-22T010101Z.db",
    ]


def test_a_failed_change_run_is_tried_again_with_pauses(
    follower: ChangeFollower, bench: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """While the store does not answer: after 5, 15 and 60 minutes."""
    add_rows(bench.tokens, 1)
    store.go_away()

    found = steps(follower, clock, 90 * 60)

    assert found == ["0:01:01 failed", "0:06:01 failed", "0:21:01 failed", "1:21:01 failed"]


@pytest.mark.parametrize("minutes", [3, 30, 90])
def test_a_store_that_answers_again_is_noticed_within_two_minutes(
    follower: ChangeFollower, bench: Bench, store: WatchedStore, clock: FixedClock, minutes: int
) -> None:
    """By one small request a minute: the change is in a set although a delay is not over."""
    add_rows(bench.tokens, 1)
    store.go_away()
    steps(follower, clock, minutes * 60)
    before = len(store.calls)
    steps(follower, clock, 60)
    assert store.calls[before:] == [("head", instance_key(bench))]

    store.mend()

    assert [one.partition(" ")[2] for one in steps(follower, clock, 120)] == ["succeeded"]
    assert steps(follower, clock, 3601) == []


def test_a_store_that_answers_and_fails_the_run_all_the_same_is_not_hammered(
    follower: ChangeFollower, bench: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """An answer begins one run out of turn; when that fails too, the delays count again."""
    add_rows(bench.tokens, 1)
    store.break_at("put", 0)

    found = steps(follower, clock, 90 * 60)

    assert found == ["0:01:01 failed", "0:02:01 failed", "0:17:01 failed", "1:17:01 failed"]
    store.mend()
    assert steps(follower, clock, 3601) == ["2:17:01 succeeded"]


@pytest.mark.parametrize("hours", [-3, -24 * 365, 24 * 90])
def test_a_clock_that_is_set_does_not_move_a_change_run(
    follower: ChangeFollower, bench: Bench, clock: FixedClock, hours: int
) -> None:
    """The delay after a change passes by the monotonic clock, wherever the other one is set to."""
    add_rows(bench.tokens, 1)
    assert steps(follower, clock, 59) == []
    clock.step(hours=hours)

    assert len(steps(follower, clock, 3)) == 1


def instance_key(bench: Bench) -> str:
    """The key of the document that an installation has in the store."""
    return naming.instance_key(PREFIX, bench.directory.instance())


def test_a_run_log_that_cannot_be_written_is_not_hammered(
    follower: ChangeFollower, bench: Bench, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a run cannot even begin, that too is tried again with pauses, not every second."""

    asked: list[datetime] = []

    def full(_trigger: str) -> Any:
        asked.append(clock.now())
        raise DiskFull("the disk is full", "Make room.")

    monkeypatch.setattr(bench.service.backup, "begin", full)
    add_rows(bench.tokens, 1)

    assert steps(follower, clock, 1200) == []

    assert [at - INSTANT for at in asked] == [timedelta(seconds=s) for s in (61, 361)]
    monkeypatch.undo()
    assert steps(follower, clock, 400) == ["0:21:01 succeeded"]


def test_a_change_run_that_cannot_begin_is_a_failure_of_the_thread(
    follower: ChangeFollower, bench: Bench, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until one begins, with the remedy and since when; the polls in between do not hide it."""
    pulse = Pulse("follower", 180, clock.monotonic)

    def follow(seconds: int) -> None:
        stopping = threading.Event()

        def step() -> float:
            steps(follower, clock, seconds)
            stopping.set()
            return 0

        last("the follower", step, stopping, pulse)

    def full(_trigger: str) -> Any:
        raise DiskFull("the disk is full", "Make room.")

    monkeypatch.setattr(bench.service.backup, "begin", full)
    add_rows(bench.tokens, 1)
    follow(61)
    follow(100)
    assert pulse.sign().failure == "the disk is full [disk_full] Make room."
    assert pulse.sign().failing_for == 100

    monkeypatch.undo()
    follow(300)
    assert pulse.sign().failure is None


def test_a_run_that_holds_the_lease_only_delays(
    follower: ChangeFollower, bench: Bench, clock: FixedClock
) -> None:
    """While another run is in progress the change waits, and is then protected at once."""
    add_rows(bench.tokens, 1)
    steps(follower, clock, 59)
    other = bench.service.backup.begin()
    clock.advance(seconds=2)
    assert follower.step() is None
    other.execute()

    assert len(steps(follower, clock, 1)) == 1


def test_a_change_while_nobody_watched_is_followed_up(tmp_path: Path, store: WatchedStore) -> None:
    """A write after the newest set, made while the app was down, asks for a run at the start."""
    clock = FixedClock(datetime.now(UTC) - timedelta(hours=1))
    with open_bench(tmp_path, store, clock=clock) as bench:
        bench.made()
        for source in bench.sources:
            set_age(source.path, clock.now() - MINUTE)
        with closing(ChangeFollower(bench.service, DELAY)) as quiet:
            clock.advance(minutes=5)
            assert quiet.step() is None

        write_apart(bench.tokens)
        clock.advance(hours=1)
        set_age(bench.tokens, clock.now())
        clock.advance(hours=1)
        with closing(ChangeFollower(bench.service, DELAY)) as follower:
            assert follower.step() is None
            clock.advance(seconds=61)
            run = follower.step()

        assert run is not None
        assert run.status == "succeeded"


def test_a_change_right_after_a_set_is_followed_up_at_the_start(
    tmp_path: Path, store: WatchedStore
) -> None:
    """File systems stamp coarsely: a write after the set that seems to precede it is a change."""
    clock = FixedClock(INSTANT)
    with open_bench(tmp_path, store, clock=clock) as bench:
        made = bench.made()
        add_rows(bench.tokens, 1)
        for source in bench.sources:
            set_age(source.path, made.created_at - timedelta(milliseconds=10))
        with closing(ChangeFollower(bench.service, timedelta(0))) as follower:
            run = follower.step()

    assert run is not None
    assert (run.trigger, run.status) == ("change", "succeeded")


def test_a_clean_restart_is_no_change(tmp_path: Path, store: WatchedStore) -> None:
    """The last connection writes the `-wal` back as it is closed: a new age, and the same data."""
    clock = FixedClock(INSTANT)
    with open_bench(tmp_path, store, clock=clock) as bench:
        with closing(connect(bench.tokens)) as app:
            app.execute("PRAGMA journal_mode=WAL")
            add_rows(bench.tokens, 5)
            made = bench.made("change")
        clock.advance(minutes=5)
        set_age(bench.tokens, clock.now())
        with closing(ChangeFollower(bench.service, timedelta(0))) as follower:
            assert follower.step() is None
            assert [one.id for one in bench.service.catalogue.sets()] == [made.id]
            assert bench.staged() == []
        add_rows(bench.tokens, 1)
        set_age(bench.tokens, clock.now())
        with closing(ChangeFollower(bench.service, timedelta(0))) as follower:
            run = follower.step()
            assert run is not None
            assert (run.trigger, run.status) == ("change", "succeeded")


def test_a_first_start_leaves_the_first_set_to_the_schedule(
    follower: ChangeFollower, clock: FixedClock
) -> None:
    """Without a set the catch-up makes one, and the follower asks for nothing."""
    assert steps(follower, clock, 120) == []


@pytest.mark.slow
def test_a_day_of_hourly_rotation_leaves_hourly_sets(tmp_path: Path, store: WatchedStore) -> None:
    """A token that rotates each hour leaves 24 change sets after a day, and after two."""
    clock = FixedClock(INSTANT)
    with (
        open_bench(tmp_path, store, clock=clock) as bench,
        closing(ChangeFollower(bench.service, DELAY)) as follower,
    ):
        bench.made("scheduled")
        for hour in range(48):
            write(bench.tokens, "UPDATE tokens SET value = ? WHERE rowid = 1", str(hour))
            assert follower.step() is None
            clock.advance(minutes=1)
            assert follower.step() is not None
            clock.advance(minutes=59)
        bench.prune()
        kept = [one for one in bench.service.catalogue.sets() if one.trigger == "change"]

        assert len(kept) == 24
        assert len(bench.service.run_log.page(500)) >= 49


@pytest.mark.slow
def test_a_set_a_minute_is_thinned_by_the_runs_themselves(
    tmp_path: Path, store: WatchedStore
) -> None:
    """Writes in every minute: each run's prune leaves the last hour's sets and one of each hour."""
    clock = FixedClock(INSTANT)
    with open_bench(tmp_path, store, clock=clock) as bench:
        for _ in range(75):
            bench.service.backup.begin("change").execute()
            clock.advance(minutes=1)

        kept = bench.stored_ids()
        assert [one[9:13] for one in kept] == [
            *(f"01{minute:02}" for minute in range(14, 60)),  # the last prune was at 02:14
            *(f"02{minute:02}" for minute in range(15)),
        ]


# --- the real app -----------------------------------------------------------------------


def installed(tmp_path: Path, **settings: str) -> Installation:
    """An installation with both databases, which has no other reason for a run."""
    installation = Installation(tmp_path, {**bot_secrets(), **settings})
    installation.make_databases()
    return installation


def stored_triggers(installation: Installation) -> list[str]:
    """Why each set in the store was made, newest first."""
    return [str(one["trigger"]) for one in installation.json("list")["sets"]]


def rows_with(installation: Installation, key: str, value: str) -> Callable[[], str | None]:
    """Looks in the store alone for a proven set that has the token: its id, or None."""
    cipher = TokenCipher((TOKEN_ENCRYPTION_KEY,))

    def look() -> str | None:
        for manifest in sorted((installation.stored("backups/sets")).glob("*/manifest.json")):
            day = manifest.parent.name
            stamp = f"{day[:4]}-{day[4:6]}-{day[6:11]}{day[11:]}"
            path = installation.stored(f"backups/tokens_{stamp}.db")
            if not path.exists():
                path = installation.stored(f"backups/tokens_{stamp[:10]}.db")
            with open_untrusted(path, "a stored set") as connection:
                row = connection.execute(
                    "SELECT value FROM tokens WHERE key = ?", (key,)
                ).fetchone()
            if row is not None and cipher.decrypt(row[0]).endswith(value.encode()):
                return day
        return None

    return look


@pytest.mark.slow
def test_a_token_rotated_at_minute_0_is_in_a_proven_set_by_minute_2(tmp_path: Path) -> None:
    """With the delay of a real app scaled to 2 s: a change run stores it, while sessions churn."""
    installation = installed(tmp_path, BACKUP_CHANGE_DELAY="2", BACKUP_FOLLOW="off")
    stop = threading.Event()

    def churn() -> None:
        with closing(SessionStorage(installation.sessions_path, SystemClock())) as sessions:
            while not stop.is_set():
                sessions.delete(sessions.create("somebody"))
                stop.wait(0.01)

    churning = threading.Thread(target=churn)
    with AppProcess.start(installation):
        first = installation.stored("backups/sets")
        eventually(lambda: list(first.glob("*/manifest.json")), "the first set")
        churning.start()
        try:
            cipher = TokenCipher((TOKEN_ENCRYPTION_KEY,))
            with closing(TokenStorage(installation.tokens_path, cipher)) as tokens:
                tokens.put("ROTATED", "the refresh token of minute 0")
            # The watch may begin after the write: then the time of the file says that it came.
            set_age(installation.tokens_path, datetime.now(UTC))
            found = eventually(
                rows_with(installation, "ROTATED", "the refresh token of minute 0"),
                "a set with the rotated token",
                seconds=60,
            )
        finally:
            stop.set()
            churning.join()
    made = installation.json("list")["sets"][0]

    assert (made["id"], made["trigger"], made["proof"]) == (found, "change", "full")


@pytest.mark.slow
def test_sessions_alone_make_no_run_in_the_app(tmp_path: Path) -> None:
    """A churning `sessions` in a real app leaves the first set alone, whatever the delay."""
    installation = installed(tmp_path, BACKUP_CHANGE_DELAY="1")
    with AppProcess.start(installation):
        eventually(
            lambda: list(installation.stored("backups/sets").glob("*/manifest.json")), "a set"
        )
        with closing(SessionStorage(installation.sessions_path, SystemClock())) as sessions:
            deadline = time.monotonic() + 3.5
            while time.monotonic() < deadline:
                sessions.create("somebody")
                time.sleep(0.05)

    assert stored_triggers(installation) == ["catch-up"]


@pytest.mark.slow
def test_a_delay_of_zero_turns_it_off(tmp_path: Path) -> None:
    """With `BACKUP_CHANGE_DELAY=0` a write asks for nothing."""
    installation = installed(tmp_path, BACKUP_CHANGE_DELAY="0")
    with AppProcess.start(installation):
        eventually(
            lambda: list(installation.stored("backups/sets").glob("*/manifest.json")), "a set"
        )
        deadline = time.monotonic() + 2.5
        while time.monotonic() < deadline:
            write_apart(installation.tokens_path)
            time.sleep(0.1)

    assert stored_triggers(installation) == ["catch-up"]


def test_facts_of_a_change_are_replaceable() -> None:
    """The table above covers each field: none of them is ignored."""
    base = after(10, 0, failures=1)
    assert due_at(base, DELAY) != due_at(replace(base, failures=2), DELAY)
    assert due_at(QUIET, DELAY) != due_at(replace(QUIET, changed_at=AT + MINUTE), DELAY)


def test_an_empty_database_beside_backups_makes_no_point(tmp_path: Path) -> None:
    """What was created empty in place of a lost database must not become the newest point."""
    with open_bench(tmp_path, follow="compare", change_delay=DELAY, run_by="app") as bench:
        clock = bench.service.clock
        assert isinstance(clock, FixedClock)
        made = bench.made()
        bench.service.facts.note_started_empty("tokens", clock.advance(seconds=60))
        with closing(ChangeFollower(bench.service, DELAY)) as follower:
            for _ in range(3):
                clock.advance(seconds=120)
                write(bench.tokens, "DELETE FROM tokens")
                follower.step()
        assert [key for key in bench.all_keys() if "/i/" in key] == []
        latest = bench.service.own_sets.latest()
        assert latest is not None
        assert latest.id == made.id
