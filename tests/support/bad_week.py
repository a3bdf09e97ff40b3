"""`BadWeek`: an installation to which random faults happen, and what must be true of its light."""

from __future__ import annotations

import base64
import random
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from backups.model import Run, Trigger
from shared.crontab import Crontab
from shared.databases.cipher import TokenCipher
from shared.databases.tokens import TokenStorage
from shared.errors import AppError, DatabaseCorrupt, StoreFailing, StoreUnreachable
from shared.store.object_store import ObjectStore
from tests.support.bench import Bench, open_bench
from tests.support.bucket_oracle import Bucket, Oracle
from tests.support.clock import FixedClock
from tests.support.generations import connect
from tests.support.installation import TOKEN_ENCRYPTION_KEY
from tests.support.records import INSTANT
from tests.support.store_wrappers import Operation, WatchedStore

SCHEDULE = "0 1 * * *"
# What status promises of age: the set of a due instant is there two hours later.
GRACE = timedelta(hours=2)
# Weaker than green, and still a promise that the data is protected.
AS_GOOD_AS_GREEN = {"not_offsite", "nobody_told", "kit_not_kept"}
_OTHER_KEY = base64.urlsafe_b64encode(bytes(32)).decode()
_CIPHER = TokenCipher((TOKEN_ENCRYPTION_KEY,))
_STEPS = [timedelta(minutes=-20), timedelta(hours=-3), timedelta(hours=-12), timedelta(days=-365)]
_STEPS += [-step for step in _STEPS]


class Killed(BaseException):
    """The process ends here."""


class FaultyStore(WatchedStore):
    """A store that can be away, have a full disk, or have something happen at a call of it."""

    away = full = False
    _calls_left = 0
    _act: Callable[[], object] | None = None

    @contextmanager
    def at_call(self, number: int, act: Callable[[], object]) -> Iterator[None]:
        """Let something happen at the call with this number, counted from 1."""
        self._calls_left, self._act = number, act
        try:
            yield
        finally:
            self._act = None

    @contextmanager
    def _watched(self, operation: Operation, key: str) -> Iterator[None]:
        self._calls_left -= 1
        if self._act is not None and self._calls_left == 0:
            self._act()
        if self.away:
            raise StoreUnreachable(f"{operation} {key}: there was no answer", "Check the network.")
        if self.full and operation == "put":
            raise StoreFailing(f"put {key}: no space left", "Make room.")
        yield


class Broken(AssertionError):
    """A promise is broken."""


class BadWeek:
    """One installation; `happen` lets something happen, and checks what status says then."""

    def __init__(
        self, folder: Path, chance: random.Random, store: ObjectStore, bucket: Bucket
    ) -> None:
        self._folder = folder
        self._chance = chance
        self._store = FaultyStore(store)
        self._bucket = bucket
        self._oracle = Oracle(bucket)
        self._schedule = Crontab(SCHEDULE)
        self.clock = FixedClock(INSTANT - timedelta(hours=chance.randrange(24)))
        self._skew = timedelta(0)
        self._prefix = "backups/"
        self._keys = TOKEN_ENCRYPTION_KEY
        self._scheduled = chance.random() < 0.7
        # Whether something was done in the bucket that only a refresh can show.
        self._unseen = False
        # When each row was committed, by the clock that nobody sets, and by the host's, which is
        # at most what that was set to since.
        self._committed: dict[str, float] = {}
        self._dated: dict[str, datetime] = {}
        # The rows that are in both live databases.
        self._live: set[str] = set()
        self._open = ExitStack()
        self.steps: list[str] = []
        self._restart()
        self.bench.write("genesis")
        self._write()
        self._run("manual")
        self.steps.append("with a schedule" if self._scheduled else "without a schedule")

    def close(self) -> None:
        """Close what is open."""
        self._open.close()

    # --- what happens -------------------------------------------------------------------

    def happen(self) -> None:
        """Let one thing happen, and judge what status says."""
        acts = list(self._acts())
        weights = [weight for weight, _, _ in acts]
        _, name, act = self._chance.choices(acts, weights)[0]
        self.steps.append(name)
        self.clock.advance(seconds=1)
        self._try(act)
        self.judge()

    def _acts(self) -> Iterator[tuple[int, str, Callable[[], object]]]:
        chance = self._chance
        yield 8, "rows are written", self._write
        hours = chance.choice([0.2, 1, 3, 8, 25, 49])
        yield 10, f"{hours} h pass", lambda: self._pass(timedelta(hours=hours))
        trigger: Trigger = chance.choice(["manual", "scheduled", "change", "change"])
        yield 6, f"run {trigger}", lambda: self._run(trigger)
        yield 1, "run --only tokens", lambda: self._finish(self.bench.run(only="tokens"))
        yield 2, "run on a full disk", self._run_on_full_disk
        call = chance.randrange(1, 16)
        yield 2, f"a run is killed at call {call}", partial(self._run_and_kill, call)
        yield 2, f"a run is stopped for {hours} h", partial(self._run_and_stop, call, hours)
        step = chance.choice(_STEPS)
        yield 3, f"the clock is set by {step}", lambda: self._step(step)
        if self._skew:
            yield 4, "the clock is put right", lambda: self._step(-self._skew)
        yield 2, "the schedule stops, or goes on", self._toggle_schedule
        keys = [key for key in self._bucket.list_keys() if "/instances/" not in key]
        for kind, ours in (("manifest", True), ("data object", False)):
            found = [key for key in keys if ("/sets/" in key) == ours]
            if found:
                key = max(found) if chance.random() < 0.5 else chance.choice(found)
                yield 2, f"the {kind} {key} is deleted", partial(self._delete, [key])
                yield 1, f"the {kind} {key} is cut short", partial(self._cut, key)
        yield 1, "the bucket is emptied", lambda: self._delete(self._bucket.list_keys())
        yield 1, "runs.db is deleted", lambda: self._spoil("runs.db", cut=False)
        yield 1, "runs.db is cut short", lambda: self._spoil("runs.db", cut=True)
        yield 1, "the catalogues are deleted", lambda: self._spoil("catalogues/*.db", cut=False)
        yield 1, "the catalogues are cut short", lambda: self._spoil("catalogues/*.db", cut=True)
        yield 1, "BACKUP_DIR is deleted", lambda: shutil.rmtree(self.bench.directory.path)
        yield 2, "the store is away, or back", self._toggle_store
        yield 1, "the store is full, or has room", self._toggle_room
        yield 2, "restart", self._restart
        yield 1, "another prefix", self._change_prefix
        yield 1, "other token keys", self._change_keys
        yield 2, "restore latest", lambda: self._finish(self.bench.restore())
        yield 2, "restore an older set", self._restore_older
        yield 2, "undo", lambda: self._finish(self.bench.service.undo.begin().execute())
        yield 1, "most rows are deleted", self._lose_rows
        yield 2, "accept", self._accept
        yield 1, "accept --missing", self.bench.service.acceptance.accept_missing
        yield 2, "verify", lambda: self._finish(self.bench.verify())
        yield 1, "prune", lambda: self._finish(self.bench.prune())
        yield 1, "drill", lambda: self._finish(self.bench.service.drill.begin().execute())
        yield 2, "refresh", self._refresh

    def _try(self, act: Callable[[], object]) -> None:
        try:
            act()
        except AppError as error:
            self.steps.append(f"  refused: {error.code}: {error.message}")
        self._look_at_live()

    def _finish(self, run: Run | None) -> None:
        if run is not None and run.error is not None:
            self.steps.append(f"  failed: {run.error.code}: {run.error.message}")

    def _write(self) -> None:
        row = f"row-{len(self._committed):05d}"
        with closing(TokenStorage(self.bench.tokens, _CIPHER)) as tokens:
            tokens.put(row, "a secret")
        with closing(connect(self.bench.sessions)) as sessions:
            sessions.execute("INSERT INTO sessions VALUES (?, 'user', 0)", (row,))
        self._committed[row] = self.clock.monotonic()
        self._dated[row] = self.clock.now()
        self._look_at_live()

    def _lose_rows(self) -> None:
        with closing(connect(self.bench.tokens)) as tokens:
            tokens.execute("DELETE FROM tokens WHERE rowid % 10")

    def _look_at_live(self) -> None:
        found = []
        for path, table in ((self.bench.tokens, "tokens"), (self.bench.sessions, "sessions")):
            with closing(connect(path)) as connection:
                rows = connection.execute(f"SELECT * FROM {table}").fetchall()
                found.append({str(row[0]) for row in rows})
        self._live = found[0] & found[1] & self._committed.keys()

    def _pass(self, time: timedelta) -> None:
        self._write()
        end = self.clock.now() + time
        while (now := self.clock.now()) < end:
            due = self._schedule.next_after(now)
            then = min(due, end, now + timedelta(hours=1))
            self.clock.advance(seconds=(then - now).total_seconds())
            if self._scheduled:
                trigger: Trigger = "scheduled" if then == due else "catch-up"
                self._try(partial(self._run_if_owed, trigger))

    def _step(self, by: timedelta) -> None:
        now = self.clock.step(seconds=by.total_seconds())
        self._skew += by
        self._dated = {row: min(at, now) for row, at in self._dated.items()}

    def _run(self, trigger: Trigger) -> None:
        self._finish(self.bench.run(trigger))

    def _run_if_owed(self, trigger: Trigger) -> None:
        self._finish(self.bench.service.backup.run_if_owed(trigger))

    def _run_on_full_disk(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            with suppress(AppError):
                self._run("scheduled")
            self.judge()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    def _run_and_kill(self, call: int) -> None:
        def kill() -> None:
            raise Killed

        try:
            with self._store.at_call(call, kill):
                self._run("scheduled")
        except Killed:
            self._restart()

    def _run_and_stop(self, call: int, hours: float) -> None:
        with self._store.at_call(call, lambda: self.clock.advance(hours=hours)):
            self._run("scheduled")

    def _toggle_schedule(self) -> None:
        self._scheduled = not self._scheduled

    def _toggle_store(self) -> None:
        self._store.away = not self._store.away

    def _toggle_room(self) -> None:
        self._store.full = not self._store.full

    def _delete(self, keys: list[str]) -> None:
        for key in keys:
            self._bucket.delete(key)
        self._unseen = True

    def _cut(self, key: str) -> None:
        body = self._bucket.read(key)
        self._bucket.write(key, body[: len(body) // 2])
        self._unseen = True

    def _spoil(self, pattern: str, *, cut: bool) -> None:
        for path in self.bench.directory.path.glob(pattern):
            if cut:
                with path.open("r+b") as file:
                    file.truncate(path.stat().st_size // 2)
            else:
                for side in path.parent.glob(f"{path.name}*"):
                    side.unlink()

    def _restart(self) -> None:
        self._open.close()
        settings = {
            "BACKUP_SCHEDULE": SCHEDULE,
            "BACKUP_PREFIX": self._prefix,
            "TOKEN_ENCRYPTION_KEYS": self._keys,
        }
        self.bench: Bench = self._open.enter_context(
            open_bench(
                self._folder, self._store, settings=settings, clock=self.clock, run_by="cron"
            )
        )

    def _change_prefix(self) -> None:
        self._prefix = self._chance.choice(["backups/", "other/"])
        self._restart()

    def _change_keys(self) -> None:
        self._keys = self._chance.choice([TOKEN_ENCRYPTION_KEY, _OTHER_KEY])
        self._restart()

    def _restore_older(self) -> None:
        found = [one.id for one in self.bench.service.list_sets(20)[0]]
        if found:
            chosen = self._chance.choice(found)
            self.steps.append(f"  {chosen}")
            self._finish(self.bench.restore(chosen))

    def _accept(self) -> None:
        made = self.bench.service.own_sets.newest_made()
        if made is not None:
            self.bench.service.acceptance.accept(made.id)

    def _refresh(self) -> None:
        """Ask the store; a catalogue that is found damaged is made anew, and then it is asked."""
        own_sets = self.bench.service.own_sets
        try:
            error = own_sets.refresh()
        except DatabaseCorrupt:
            error = own_sets.refresh()
        self._unseen = error is not None

    # --- what must be true --------------------------------------------------------------

    def judge(self) -> None:
        """Raise `Broken` if status says "protected", and the bucket says that it is not so.

        What somebody does in the bucket is seen when it is listed, which each scheduled run does:
        so it is listed first. While the store is away nobody can know.
        """
        if self._unseen:
            self._refresh()
        if self._unseen or not self._is_as_good_as_green():
            return
        row = self._owed()
        if row is None:
            return
        sets = self._oracle.sets(self._prefix)
        newest = self.bench.service.status().newest_restore_point
        now = self.clock.now()
        ago = timedelta(seconds=self.clock.monotonic() - self._committed[row])
        what = f"at {now:%F %T}, {row}, committed {ago} ago, is in "
        if not any(row in rows for rows in sets.values()):
            raise Broken(f"green, although {what}no set: {sorted(sets)}")
        if newest is None or row not in sets.get(newest.id, ()):
            raise Broken(f"green, although {what}another set than latest, {newest and newest.id}")

    def _is_as_good_as_green(self) -> bool:
        health = self.bench.service.status().health
        return (
            health.light != "red"
            and all(fact.holds for fact in health.facts)
            and {found.code for found in health.amber} <= AS_GOOD_AS_GREEN
        )

    def _owed(self) -> str | None:
        """The newest live row that was committed before the last due instant plus grace.

        By both clocks: one that was set back over the instant, or on over it, owes nothing.
        """
        now = self.clock.now()
        due = self._schedule.last_until(now - GRACE - timedelta(microseconds=1))
        then = self.clock.monotonic() - (now - due).total_seconds()
        return max(
            (row for row in self._live if self._committed[row] < then and self._dated[row] < due),
            default=None,
        )

    def heal(self) -> None:
        """End all faults, make a complete run, do what needs a person; raise `Broken` if red.

        A person accepts a loss and a suspect set, rehearses again after a drill that failed, and
        adopts the sets of the installation that was here before its BACKUP_DIR was lost.
        """
        self.steps.append("all is repaired")
        self._store.away = self._store.full = False
        self._scheduled = True
        self._keys = TOKEN_ENCRYPTION_KEY
        self._restart()
        self._step(-self._skew)
        self._refresh()  # as each scheduled run does, so that a loss is noticed before the run
        self.judge()  # and status is read, as cron does each hour, and the app each minute
        self.clock.advance(seconds=1)
        self._write()
        made = self.bench.run()
        if made.error is not None and made.error.code == DatabaseCorrupt.code:
            made = self.bench.run()  # the first one noticed it, and made anew what was damaged
        if made.error is not None:
            raise Broken(f"no run succeeds: {made.error.code}: {made.error.message}")
        self._refresh()
        service = self.bench.service
        problems = self.bench.problems()
        self.steps.append(f"  after a good run: {problems}")
        if "suspect" in problems:
            self._accept()
        if "points_missing" in problems:
            service.acceptance.accept_missing()
        if {"drill_failed", "drill_overdue"} & set(problems):
            service.drill.begin().execute()
        if "two_writers" in problems:
            mine = service.directory.instance()
            for one in service.catalogue.by_instance():
                if one.instance not in (mine, None):
                    service.adoption.adopt(one.instance)
        self.clock.advance(minutes=10)
        status = service.status()
        if status.health.light == "red":
            raise Broken(f"red although all is well: {status.health.problems}")
        self.judge()
