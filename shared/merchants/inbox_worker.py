"""The work on the inbox: threads that hand its events to the platforms, and try again.

A thread works on one account at a time, and no two on the same one. Within an account the events
of one lane (a conversation, a document) are done in order; a lane that failed waits alone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress

from shared.clock import Clock
from shared.errors import AppError, DatabaseError, StoreError
from shared.logs import fields
from shared.merchants.http_client import one_short_try
from shared.merchants.inbox import Inbox, Provider, WaitingEvent
from shared.merchants.platform import Platform
from shared.merchants.protected.requests import ProtectedRequests
from shared.process.lasting_work import Supervisor, beat, describe

_log = logging.getLogger(__name__)

# Each lane of a batch costs its requests to the store once, however many events it has.
_BATCH = 2000
_POLL_SECONDS = 0.5
_PURGE_EVERY = 3600
_TAKE_UP_EVERY = 1
_LONGEST_WAIT_SECONDS = 60.0
_LONGEST_WAIT_AFTER_FAULT_SECONDS = 3600.0
_MOST_DOUBLINGS = 20
# A full batch of one account, with a slow platform and a slow store.
_MOST_SECONDS = 900.0

_Account = tuple[Provider, str]


class InboxWorker:
    """Works the inbox off while it is `running`, which one process of a host may be."""

    def __init__(
        self,
        inbox: Inbox,
        platforms: Mapping[Provider, Platform],
        clock: Clock,
        supervisor: Supervisor | None = None,
        *,
        workers: int = 1,
        requests: ProtectedRequests | None = None,
    ) -> None:
        self._clock = clock
        self._inbox = inbox
        self._platforms = platforms
        self._supervisor = supervisor or Supervisor()
        self._workers = workers
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._busy: set[_Account] = set()
        self._requests = requests
        self._next = dict.fromkeys((_PURGE_EVERY, _TAKE_UP_EVERY), time.monotonic())

    @contextmanager
    def running(self) -> Iterator[None]:
        """Work in threads for the length of a block; ends after the lanes in hand."""
        self._stopping.clear()
        with ExitStack() as stack:
            for number in range(1, self._workers + 1):
                stack.enter_context(
                    self._supervisor.running(
                        f"inbox-{number}", self._step, self._stopping, most=_MOST_SECONDS
                    )
                )
            try:
                yield
            finally:
                self._stopping.set()  # for all of them, before the first one is waited for

    def work(self) -> int:
        """Work off one batch of the account whose event is due for the longest; its size.

        An account that another thread is working on is left to that one.
        """
        account = self._claim()
        if account is None:
            return 0
        try:
            with one_short_try():
                return self._work(*account)
        finally:
            with self._lock:
                self._busy.discard(account)

    def _step(self) -> float:
        """Work off one batch; the seconds to wait before the next."""
        if self._requests is not None and self._is_time(_TAKE_UP_EVERY):
            with suppress(DatabaseError):  # status names it, and the work meets it too
                self._requests.take_up(self._platforms)
        found = self.work()
        if self._is_time(_PURGE_EVERY):
            self._inbox.purge()
        return 0 if found else _POLL_SECONDS

    def _is_time(self, every: int) -> bool:
        with self._lock:
            if time.monotonic() < self._next[every]:
                return False
            self._next[every] = time.monotonic() + every
            return True

    def _claim(self) -> _Account | None:
        with self._lock:
            for account in self._inbox.due_accounts(self._platforms):
                if account not in self._busy:
                    self._busy.add(account)
                    return account
        return None

    def _work(self, provider: Provider, account: str) -> int:
        """Do what is due of an account, a batch of it; how many events that were.

        A lane whose first event waits for its next attempt is held: the others wait with it.
        """
        platform, after = self._platforms[provider], 0
        held: dict[str, float] = {}
        now = self._clock.now().timestamp()
        while batch := self._inbox.waiting(provider, account, after, _BATCH):
            after = batch[-1].sequence
            due: defaultdict[str, list[WaitingEvent]] = defaultdict(list)
            for waiting in batch:
                lane = _lane(platform, waiting)
                if waiting.not_before > now:
                    held.setdefault(lane, waiting.not_before)
                due[lane].append(waiting)
            count = 0
            for lane, events in due.items():
                if self._stopping.is_set():
                    return count
                beat()
                if lane in held:
                    early = [one.sequence for one in events if one.not_before <= now]
                    self._inbox.hold(early, held[lane])
                    continue
                self._do(platform, account, events)
                count += len(events)
            if count:
                return count
        return 0

    def _do(self, platform: Platform, account: str, events: Sequence[WaitingEvent]) -> None:
        """Do the work of events of one lane, and note how that ended."""
        sequences = [waiting.sequence for waiting in events]
        about = fields(provider=platform.provider, account=account, events=len(events))
        attempts = min(max(waiting.attempts for waiting in events), _MOST_DOUBLINGS)
        try:
            platform.handle(account, events)
        except AppError as error:
            wait = min(2.0**attempts, _LONGEST_WAIT_SECONDS)
            _log.warning(
                "events failed and will be retried in %.0f s: %s [%s]",
                wait,
                error.message,
                error.code,
                extra=about,
            )
            # A store or a database that is away says nothing about the event.
            blamed = not isinstance(error, DatabaseError | StoreError)
        except Exception:
            # A fault of this program must not stop the work for the other accounts.
            wait = min(2.0**attempts, _LONGEST_WAIT_AFTER_FAULT_SECONDS)
            _log.exception("events failed and will be retried in %.0f s", wait, extra=about)
            blamed = True
        else:
            self._finish(platform, events)
            return
        if self._inbox.postpone(sequences, wait, blamed=blamed):
            self._set_one_aside(platform, account, events)

    def _finish(self, platform: Platform, events: Sequence[WaitingEvent]) -> None:
        if self._requests is not None:
            # First there: whoever dies in between does the work again, which does no harm.
            self._requests.finish(platform.provider, [one.event.event_id for one in events])
        self._inbox.finish([one.sequence for one in events])

    def _set_one_aside(
        self, platform: Platform, account: str, events: Sequence[WaitingEvent]
    ) -> None:
        """Of events that failed together for a day, set the first one aside that fails alone."""
        for waiting in events:
            try:
                platform.handle(account, [waiting])
            except (DatabaseError, StoreError):
                return
            except Exception as error:
                reason = describe(error)
            else:
                self._finish(platform, [waiting])
                continue
            self._inbox.set_aside(waiting.sequence)
            _log.error(
                "an event failed for a day and was set aside (%s); to try it again: "
                "./bot shared inbox retry",
                reason,
                extra=fields(
                    provider=platform.provider,
                    account=account,
                    topic=waiting.event.topic,
                    sequence=waiting.sequence,
                ),
            )
            return


def _lane(platform: Platform, waiting: WaitingEvent) -> str:
    try:
        return platform.lane(waiting.event)
    except Exception:
        return f"event {waiting.sequence}"
