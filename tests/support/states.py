"""The states of status, each made on a bench, and `Desk`: a person there who types commands.

One file, because a reader looks for a state by the code that it shows.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from backups.cli import main as cli
from backups.cli.main import main
from backups.decisions.health import AMBER_CODES, PROBLEM_CODES
from backups.model import DrillReport, Finding
from shared.crontab import Crontab
from shared.merchants.inbox import Event, Inbox, open_inbox
from shared.store.directory import DirectoryStore
from tests.support.bench import Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.databases import write
from tests.support.following import begun, following, following_bench, step
from tests.support.installation import settings_of
from tests.support.marks import MARK_KEY
from tests.support.store_wrappers import WatchedStore
from tests.support.warm_python import run_warm


@dataclass(frozen=True)
class Desk:
    """A person at the host of a bench, who types what they read."""

    bench: Bench
    clock: FixedClock
    folder: Path
    typed: list[str] = field(default_factory=list)

    def finding(self, code: str) -> Finding | None:
        """What status says of a code; a warning that lasts when a problem is over is no problem."""
        health = self.bench.service.status().health
        kinds = (health.problems, health.warnings)
        is_problem = code in PROBLEM_CODES and code not in AMBER_CODES
        return next(
            (one for kind in kinds[: 1 if is_problem else 2] for one in kind if one.code == code),
            None,
        )

    def type(self, arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> int:
        """Type `./bot …`, which means the service of the bench; the exit code."""
        self.typed.append(" ".join(arguments))
        package, *rest = arguments
        installation = self.bench.installation
        if package == "shared":
            line = [sys.executable, "-m", "shared", *rest]
            return run_warm(line, cwd=installation.folder, env=installation.environment).returncode
        service = self.bench.service

        @contextmanager
        def this_service(*_: object, **__: object) -> Iterator[object]:
            yield service

        before = signal.getsignal(signal.SIGTERM)
        with monkeypatch.context() as patched:
            patched.setattr(cli, "open_service", this_service)
            patched.setattr(cli, "load_settings", lambda _: settings_of(installation))
            patched.setattr(cli, "become_owner", lambda _: None)
            patched.setattr(cli, "configure_logging", lambda *_, **__: None)
            try:
                return main(rest)
            finally:
                signal.signal(signal.SIGTERM, before)


@contextmanager
def plain(folder: Path, **options: object) -> Iterator[Desk]:
    """An installation under cron with one set, an hour old."""
    clock = FixedClock()
    with open_bench(folder, clock=clock, **options) as bench:  # type: ignore[arg-type]
        if "settings" in options:
            bench.write("gengood")
        bench.made("scheduled")
        clock.advance(hours=1)
        yield Desk(bench, clock, folder)


def a_year_of_drills() -> dict[str, object]:
    return {"drill_schedule": Crontab("0 3 * * 0")}


# --- the states ---------------------------------------------------------------------------


@contextmanager
def last_run_failed(folder: Path) -> Iterator[Desk]:
    with plain(folder) as desk:
        away = desk.bench.tokens.with_name("away.db")
        desk.bench.tokens.rename(away)
        assert desk.bench.run().status == "failed"
        yield desk


@contextmanager
def no_restore_point(folder: Path) -> Iterator[Desk]:
    with open_bench(folder) as bench:
        yield Desk(bench, bench.service.clock, folder)  # type: ignore[arg-type]


@contextmanager
def overdue(folder: Path) -> Iterator[Desk]:
    with plain(folder) as desk:
        desk.clock.advance(days=1, hours=3)
        yield desk


@contextmanager
def points_missing(folder: Path) -> Iterator[Desk]:
    with plain(folder) as desk:
        for key in desk.bench.all_keys():
            desk.bench.store.delete(key)
        desk.bench.service.own_sets.refresh()
        yield desk


@contextmanager
def not_seen(folder: Path) -> Iterator[Desk]:
    with plain(folder, run_by="app") as desk:
        desk.clock.advance(hours=2)
        yield desk


@contextmanager
def started_empty(folder: Path) -> Iterator[Desk]:
    with plain(folder) as desk:
        desk.bench.tokens.unlink()
        desk.bench.service.restore_on_empty.note_missing()
        yield desk


@contextmanager
def suspect(folder: Path) -> Iterator[Desk]:
    with plain(folder) as desk:
        write(desk.bench.tokens, "DELETE FROM tokens WHERE rowid > 5")
        desk.bench.made()
        desk.clock.advance(minutes=1)
        yield desk


@contextmanager
def a_doubted_chain(folder: Path) -> Iterator[Desk]:
    with following_bench(folder) as bench:
        clock = bench.service.clock
        assert isinstance(clock, FixedClock)
        with following(bench) as follower:
            begun(bench, follower)
            write(bench.tokens, "UPDATE tokens SET value = 'one' WHERE rowid = 1")
            assert step(bench, follower) == "stored"
            write(bench.tokens, "DELETE FROM tokens WHERE rowid > 2")
            assert step(bench, follower) == "stored"
        clock.advance(minutes=1)
        yield Desk(bench, clock, folder)


@contextmanager
def a_chain_that_differs(folder: Path) -> Iterator[Desk]:
    with following_bench(folder) as bench, pytest.MonkeyPatch.context() as patched:
        clock = bench.service.clock
        assert isinstance(clock, FixedClock)
        with following(bench) as follower:
            begun(bench, follower)
            write(bench.tokens, "UPDATE tokens SET value = 'one' WHERE rowid = 1")
            assert step(bench, follower) == "stored"
            patched.setattr(
                "backups.increments.keeping.self_check.first_difference", lambda _shadow, _copy: 3
            )
            write(bench.tokens, "UPDATE tokens SET value = 'two' WHERE rowid = 1")
            assert step(bench, follower, 3600) == "needs_full"
        clock.advance(minutes=1)
        yield Desk(bench, clock, folder)


@contextmanager
def another_writer(folder: Path, *, marked: bool = True, later: bool = True) -> Iterator[Desk]:
    """Another installation has made a set in the same place: after ours, or before."""
    clock = FixedClock()
    store = WatchedStore(DirectoryStore(folder / "store"))
    keys = (MARK_KEY,) if marked else ()

    def theirs() -> None:
        with open_bench(folder / "theirs", store, clock=clock, mark_keys=keys) as other:
            other.made()
        clock.advance(hours=1)

    if not later:
        theirs()
        clock.advance(days=3)
    with open_bench(folder / "ours", store, clock=clock) as bench:
        bench.made()
        clock.advance(hours=1)
        if later:
            theirs()
        bench.service.own_sets.refresh()
        yield Desk(bench, clock, folder)


@contextmanager
def future_set(folder: Path) -> Iterator[Desk]:
    with plain(folder) as desk:
        desk.clock.advance(days=3)
        desk.bench.made()
        desk.clock.advance(days=-3)
        desk.clock.advance(minutes=1)
        yield desk


@contextmanager
def source_missing(folder: Path) -> Iterator[Desk]:
    with plain(folder) as desk:
        desk.bench.tokens.unlink()
        yield desk


@contextmanager
def source_unreadable(folder: Path) -> Iterator[Desk]:
    with plain(folder) as desk:
        desk.bench.tokens.write_bytes(b"no database, for a hundred bytes" * 4)
        yield desk


@contextmanager
def host_is_empty(folder: Path) -> Iterator[Desk]:
    clock = FixedClock()
    store = WatchedStore(DirectoryStore(folder / "store"))
    with open_bench(folder / "old", store, clock=clock) as old:
        old.made()
    clock.advance(hours=1)
    with open_bench(folder / "new", store, clock=clock) as bench:
        for source in bench.sources:
            source.path.unlink()
        bench.service.own_sets.refresh()
        yield Desk(bench, clock, folder)


@contextmanager
def drill_failed(folder: Path) -> Iterator[Desk]:
    with plain(folder, **a_year_of_drills()) as desk:
        newest = desk.bench.service.own_sets.required_latest()
        at = desk.clock.now()
        desk.bench.facts.set_last_drill(DrillReport(newest.id, at, 1.0, 0, 0, "no answer"))
        desk.clock.advance(minutes=1)
        yield desk


@contextmanager
def drill_overdue(folder: Path) -> Iterator[Desk]:
    with plain(folder, **a_year_of_drills()) as desk:
        desk.bench.service.drill.begin().execute()
        desk.clock.advance(days=40)
        yield desk


@contextmanager
def keys_unknown(folder: Path) -> Iterator[Desk]:
    """A set of a program that had no token key; today's process has one."""
    with plain(folder) as desk:
        pass
    again = {"sources": desk.bench.sources, "clock": desk.clock}
    with open_bench(folder, token_keys=("a key",), **again) as bench:  # type: ignore[arg-type]
        yield replace(desk, bench=bench)


@contextmanager
def attempts_unknown(folder: Path) -> Iterator[Desk]:
    with plain(folder) as desk:
        with desk.bench.records.transaction() as connection:
            connection.execute("DELETE FROM runs")
        yield desk


@contextmanager
def last_run_interrupted(folder: Path) -> Iterator[Desk]:
    with plain(folder) as desk:
        with desk.bench.records.transaction() as connection:
            connection.execute("UPDATE runs SET status = 'interrupted'")
        yield desk


@contextmanager
def kit_not_kept(folder: Path) -> Iterator[Desk]:
    with plain(folder, settings={}) as desk:
        yield desk


@contextmanager
def updates_set_aside(folder: Path) -> Iterator[Desk]:
    with plain(folder) as desk:
        path = settings_of(desk.bench.installation).inbox_db_path
        with closing(open_inbox(path)) as database:
            inbox = Inbox(database, desk.clock)
            inbox.add([Event("shopify", "1", "a.example", "products/update", "{}")])
            inbox.set_aside(1)
        yield desk
