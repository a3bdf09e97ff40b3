"""Polling: once a day everything is fetched, so that what a webhook missed is not missed long.

`Polling` works in rounds: several accounts at once, first whose last turn is longest ago. A round
that a restart ends goes on where it was.
`FirstSyncs` fetches an account that was just connected, in threads of their own.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import copy_context
from typing import Literal

from shared.clock import Clock
from shared.crontab import Crontab
from shared.errors import AppError
from shared.logs import fields
from shared.merchants.errors import (
    PermissionMissing,
    PlatformBusy,
    PlatformPreparing,
    PlatformUnreachable,
    TokenRefused,
)
from shared.merchants.http_client import soon_given_up
from shared.merchants.inbox import Provider
from shared.merchants.marks import FirstSync, Marks
from shared.merchants.platform import Platform
from shared.process.lasting_work import Supervisor, has_to_end

_log = logging.getLogger(__name__)

_SECONDS_AFTER_A_FAILURE = 15.0
_LOOK_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 3600.0
_MOST_DOUBLINGS = 20
# One that has to wait for a slow shop does not hold the next one up.
_FIRST_SYNCS_AT_ONCE = 2
_POLLED_AT_ONCE = 4
# Each request is a sign of life; this is for what a large document takes.
_MOST_SECONDS = 900.0

_Outcome = Literal["well", "preparing", "reconnect", "silent", "failed"]
_Account = tuple[Platform, str]


class Polling:
    """Polls all accounts when the schedule says so, or when somebody asked for it.

    After each round `tidy` deletes what was kept for long enough, and returns how much that was.
    """

    def __init__(
        self,
        platforms: Iterable[Platform],
        marks: Marks,
        schedule: Crontab,
        clock: Clock,
        *,
        workers: int = _POLLED_AT_ONCE,
        tidy: Callable[[], int] = lambda: 0,
    ) -> None:
        self._platforms: Sequence[Platform] = tuple(platforms)
        self._marks = marks
        self._schedule = schedule
        self._clock = clock
        self._workers = workers
        self._tidy = tidy
        self._busy = threading.Lock()
        self._not_before = 0.0
        self._stopping = threading.Event()

    def poll_if_owed(self) -> bool:
        """Poll if a due instant has passed since the last polling, or it was asked for.

        Whether it did; it does not while a polling is going on, and not right after one that
        could not even begin (a database that is being restored), which is logged.
        """
        if not self._busy.acquire(blocking=False):
            return False
        try:
            if self._clock.monotonic() < self._not_before or not self._owed():
                return False
            self.poll()
        except AppError as error:
            self._not_before = self._clock.monotonic() + _SECONDS_AFTER_A_FAILURE
            _log.error("polling failed: %s [%s] %s", error.message, error.code, error.hint)
            return False
        except Exception:  # the top of the thread's work
            self._not_before = self._clock.monotonic() + _SECONDS_AFTER_A_FAILURE
            _log.exception("polling failed")
            return False
        finally:
            self._busy.release()
        return True

    def poll(self) -> int:
        """Poll what this round has not polled yet; how many failed. The others go on all the same.

        An account whose platform does not answer keeps one worker for a short while, and is asked
        again, with all patience, when all others are done.
        """
        this_round = self._marks.polling_round()
        accounts = [
            (platform, account) for platform in self._platforms for account in platform.accounts()
        ]
        left: deque[_Account] = deque(
            sorted(
                (one for one in accounts if _name(*one) not in this_round.done),
                key=lambda one: this_round.turns.get(_name(*one), 0),
            )
        )
        silent: deque[_Account] = deque()
        failed = self._at_once(left, silent.append)
        failed += self._at_once(silent, None)
        if self._is_ending():
            return failed  # still owed
        self._marks.note_sync(this_round.began_at)
        _log.info("polled", extra=fields(accounts=len(accounts), failed=failed))
        self._tidy_up()
        return failed

    def _tidy_up(self) -> None:
        """Its failure is no reason to poll again: the next round does it."""
        try:
            count = self._tidy()
        except AppError as error:
            _log.error("%s [%s] %s", error.message, error.code, error.hint)
        else:
            if count:
                _log.info("old versions were deleted", extra=fields(versions=count))

    def _at_once(self, left: deque[_Account], later: Callable[[_Account], None] | None) -> int:
        """Poll all of these in workers; how many failed. See `_work_off`."""
        with ThreadPoolExecutor(self._workers, "polling") as pool:
            # Each sign of life of a worker is one of the thread that waits for them.
            work = [
                pool.submit(copy_context().run, self._work_off, left, later)
                for _ in range(min(self._workers, len(left)))
            ]
        return sum(one.result() for one in work)

    def _work_off(self, left: deque[_Account], later: Callable[[_Account], None] | None) -> int:
        """Poll one account after the other until none is left; how many failed.

        Those that do not answer soon are handed to `later`; without it, all have all patience.
        """
        failed = 0
        while not self._is_ending():
            try:
                platform, account = left.popleft()
            except IndexError:
                break
            with soon_given_up() if later else nullcontext():
                outcome = _poll(self._marks, platform, account)
            if self._is_ending():
                break  # it may have failed for that
            if outcome == "silent" and later:
                later((platform, account))
                continue
            failed += outcome not in ("well", "preparing")
            self._marks.note_polled(platform.provider, account)
        return failed

    def stop(self) -> None:
        """End after the accounts in hand."""
        self._stopping.set()

    def _is_ending(self) -> bool:
        """Whether this process stops, or does not lead any more."""
        return self._stopping.is_set() or has_to_end()

    def _owed(self) -> bool:
        last = self._marks.last_sync()
        due = self._schedule.last_until(self._clock.now())
        return last is None or last < due or self._marks.sync_is_wanted()


class FirstSyncs:
    """Fetches what `Marks.want_first_sync` names, while it is `running`, in one process of a host.

    What fails is tried again after a wait that doubles, up to an hour, also after a restart.
    """

    def __init__(
        self,
        platforms: Mapping[Provider, Platform],
        marks: Marks,
        supervisor: Supervisor | None = None,
    ) -> None:
        self._platforms = platforms
        self._marks = marks
        self._supervisor = supervisor or Supervisor()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._busy: set[tuple[Provider, str]] = set()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Work in threads for the length of a block; ends after the accounts in hand."""
        self._stopping.clear()
        with ExitStack() as stack:
            for number in range(1, _FIRST_SYNCS_AT_ONCE + 1):
                stack.enter_context(
                    self._supervisor.running(
                        f"sync-{number}", self._step, self._stopping, most=_MOST_SECONDS
                    )
                )
            try:
                yield
            finally:
                self._stopping.set()  # for all of them, before the first one is waited for

    def work(self) -> bool:
        """Fetch the next account that no other thread is fetching; whether there was one."""
        wish = self._claim()
        if wish is None:
            return False
        try:
            outcome = _poll(self._marks, self._platforms[wish.provider], wish.account)
            if outcome in ("failed", "silent"):
                wait = min(2.0 ** min(wish.attempts, _MOST_DOUBLINGS), _LONGEST_WAIT_SECONDS)
                self._marks.postpone_first_sync(wish.sequence, wait)
            elif outcome != "preparing":
                self._marks.finish_first_sync(wish.sequence)
        finally:
            with self._lock:
                self._busy.discard((wish.provider, wish.account))
        return True

    def _step(self) -> float:
        return 0 if self.work() else _LOOK_SECONDS

    def _claim(self) -> FirstSync | None:
        with self._lock:
            for wish in self._marks.first_syncs():
                account = (wish.provider, wish.account)
                if wish.provider in self._platforms and account not in self._busy:
                    self._busy.add(account)
                    return wish
        return None


def _name(platform: Platform, account: str) -> tuple[Provider, str]:
    return platform.provider, account


def _poll(marks: Marks, platform: Platform, account: str) -> _Outcome:
    """Poll an account, and note whether it has to be connected again."""
    about = fields(provider=platform.provider, account=account)
    try:
        platform.poll(account)
    except (TokenRefused, PermissionMissing) as error:
        if marks.mark_reconnect(platform.provider, account, error.message):
            _log.warning("reconnect: %s. %s", error.message, error.hint, extra=about)
        return "reconnect"
    except PlatformPreparing as error:
        _log.info("%s", error.message, extra=about)
        marks.owe_sync(platform.provider, account, error.wait or 0.0)
        marks.clear_reconnect(platform.provider, account)
        return "preparing"
    except AppError as error:
        _log.error("%s [%s] %s", error.message, error.code, error.hint, extra=about)
        if isinstance(error, PlatformBusy):  # what its limits cut short is made up for
            marks.owe_sync(platform.provider, account, error.wait or 0.0)
        return "silent" if isinstance(error, PlatformUnreachable) else "failed"
    except Exception:
        _log.exception("polling failed", extra=about)
        return "failed"
    marks.clear_reconnect(platform.provider, account)
    return "well"
