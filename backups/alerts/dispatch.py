"""Which message is sent to whom, by which process, and the record that it was.

One file, because the claim, the sending and the record of a message change the same states.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, replace
from datetime import datetime

from backups.alerts.notifier import Notifier
from backups.decisions import alarms
from backups.decisions.alarms import (
    Letter,
    Message,
    News,
)
from backups.decisions.health import Status
from backups.host.messages import Book
from backups.host.state import HostState
from backups.vocabulary.receivers import Receiver, ReceiverState, SentMessage
from shared.clock import Clock
from shared.errors import AppError

STEP_SECONDS = 60.0
# How long who asks for a message waits for it; a receiver that takes longer gets it all the same.
WAIT_SECONDS = 10.0
_TEST_WAIT_SECONDS = 60.0
_MOST_UNRECORDED = 500

_log = logging.getLogger("backups.run")

States = Mapping[str, ReceiverState]


@dataclass(frozen=True)
class _Attempt:
    """One attempt that is over: what the log says of it, and what the receiver knows by it."""

    logged: SentMessage
    told: tuple[str, ...] | None


class Alerts:
    """Sends to each receiver what it has not been told: each problem once, and once their end.

    1. Claim the message in `runs.db`, so that of several processes one sends it. If the process
       dies before it is sent, another sends it two minutes later.
    2. Send it, to all receivers side by side.
    3. Record the attempt: in `runs.db`, or, where that cannot be written, in this process until
       it can. A message that cannot be claimed is sent all the same, by each process.

    A message can arrive twice if a process dies between 2 and 3. Of several hosts, whose claims are
    in the database that they share, only the process that leads sends: see `may_send`.
    """

    def __init__(
        self,
        status: Callable[[], Status],
        facts: HostState,
        notifier: Notifier,
        clock: Clock,
        *,
        of_success: bool = False,
        book: Book | None = None,
    ) -> None:
        self.leads = False  # whoever schedules sets it
        self._status = status
        self._facts = facts
        self._book = book or facts.messages
        self.notifier = notifier
        self._clock = clock
        self._of_success = of_success
        self._lock = threading.Lock()
        self._ids = tuple(receiver.id for receiver in notifier.receivers)
        # What this process knows beyond the records.
        self._last_known: States = dict.fromkeys(
            self._ids, ReceiverState()
        )  # also if the records are made anew
        self._unrecorded: deque[_Attempt] = deque(maxlen=_MOST_UNRECORDED)
        self._sending: dict[str, tuple[float, Letter]] = {}
        self._told_unknown_at: dict[str, datetime] = {}
        self._logged_fault = ""

    def step(self) -> float:
        """Send what is owed; the seconds to wait before the next step. Any process may."""
        self.send_alerts()
        return STEP_SECONDS

    def send_alerts(self) -> None:
        """Send to each receiver what it has not been told, if this process may.

        Takes some seconds, never raises.
        """
        if self._ids and self.may_send():
            before = self._states()
            self._send(self._claim(self._news(), before), WAIT_SECONDS)

    def may_send(self) -> bool:
        """Whether this process sends messages now: of a host alone each, of several the leader."""
        return self.leads or not self._book.is_shared

    def send_success(self, set_id: str) -> None:
        """A sign of life after each good set, and a message if those are wanted here."""
        self.notifier.heartbeat()
        if self._of_success and self.may_send():
            now, states = self._clock.now(), self._states()
            free = [one for one in self.notifier.receivers if alarms.may_send(states[one.id], now)]
            self._send(_letters(free, alarms.success_message(_name(), set_id)), WAIT_SECONDS)

    def send_test_message(self) -> tuple[Receiver, ...]:
        """Send a test message; the receivers that it did not reach."""
        letters = _letters(self.notifier.receivers, alarms.test_message(_name()))
        return self._send(letters, _TEST_WAIT_SECONDS)

    # --- what there is to say -----------------------------------------------------------

    def _news(self) -> News:
        try:
            status, begun = self._status(), self._facts.begun_at()
        except AppError as error:
            return self._unknown(error, error.message, error.hint)
        except Exception as error:
            return self._unknown(
                error,
                f"a bug in this program ({type(error).__name__})",
                "The log of the app has the traceback. Look yourself: ./bot backups status",
            )
        self._logged_fault = ""
        now = self._clock.now()
        new = begun is None or now - begun < alarms.FIRST_SET_WITHIN
        problems = [one for one in status.health.problems if one.code != alarms.ALERTS_FAIL]
        # The records may not know yet what this process does: that a message has arrived.
        problems += alarms.alerts_that_fail(self.notifier.receivers, self._states(), now)
        shared = self._book.is_shared
        if shared and alarms.DATABASE_UNREACHABLE in (one.code for one in problems):
            return News((), all_known=False)  # this host knows only what it noted itself, long ago
        found = alarms.active_alarms(problems, new=new)
        last = status.last_run
        # A failure that is merely no longer the newest run is no recovery. Of several hosts, any
        # may have made the backup, and all know whether it failed.
        return News(found, bool(found) or shared or last is None or last.status == "succeeded")

    def _unknown(self, error: Exception, message: str, hint: str) -> News:
        if str(error) != self._logged_fault:  # not once a minute, for as long as it lasts
            self._logged_fault = str(error)
            _log.error("the state of the backups cannot be determined", exc_info=error)
        return alarms.status_unknown(message, hint)

    # --- who sends it -------------------------------------------------------------------

    def _claim(self, news: News, before: States) -> list[Letter]:
        """What this process is to send now; `before` are the states from before the news.

        A receiver that was told something since then waits: to it, the news may be old.
        """
        with self._lock:
            now = self._clock.now()
            self._note_those_that_hang(now)
            states = self._states()
            letters, changed = self._owed(states, before, news, now)
            if not changed and not self._unrecorded:
                return []
            claimed: list[Letter] = []

            def decide(known: States) -> States:
                claimed[:], changes = self._owed(known, before, news, now)
                return {**known, **changes}

            try:
                self._write(decide)
                letters = claimed
            except AppError as error:
                if self._book.is_shared:  # whoever leads when it can be claimed sends it
                    return []
                if letters:
                    _log.warning("a message is sent without a record of it: %s", error.message)
            for letter in letters:
                self._sending[letter.receiver.id] = (time.monotonic(), letter)
            return letters

    def _owed(
        self, states: States, before: States, news: News, now: datetime
    ) -> tuple[list[Letter], dict[str, ReceiverState]]:
        """The messages that may be sent now, and the states that change by their claim."""
        letters: list[Letter] = []
        changed: dict[str, ReceiverState] = {}
        for receiver in self.notifier.receivers:
            state = states[receiver.id]
            if state.told != before[receiver.id].told:
                continue
            letter = alarms.letter_for(receiver, state, news, name=_name())
            if letter is None:
                left = alarms.without_ended(state, news)
                if left != state:
                    changed[receiver.id] = left
            elif alarms.may_send(state, now) and not self._waits(receiver, news, now):
                letters.append(letter)
                changed[receiver.id] = replace(state, sending_since=now)
        return letters, changed

    def _waits(self, receiver: Receiver, news: News, now: datetime) -> bool:
        """Whether this process is sending to it, or told it lately that status is unknown."""
        if receiver.id in self._sending:
            return True
        told_at = self._told_unknown_at.get(receiver.id)
        if news.all_known or told_at is None:
            return False
        return told_at <= now and now - told_at < alarms.REPEAT_UNKNOWN_AFTER

    def _states(self) -> States:
        """The states as the records have them, or last had, with what they do not have yet."""
        try:
            self._last_known = {**self._last_known, **self._book.states(self._ids)}
        except AppError as error:
            _log.debug("the state of the receivers cannot be read: %s", error.message)
        return self._with_unrecorded(self._last_known)

    def _write(self, decide: Callable[[States], States]) -> None:
        """Change the states in the records, and add what they do not have yet."""
        changed: States = {}

        def change(stored: States) -> States:
            nonlocal changed
            changed = decide(self._with_unrecorded({**self._last_known, **stored}))
            return changed

        self._book.change(self._ids, change, [one.logged for one in self._unrecorded])
        self._unrecorded.clear()
        self._last_known = changed

    def _with_unrecorded(self, states: States) -> States:
        known = dict(states)
        for attempt in tuple(self._unrecorded):
            one = attempt.logged.receiver
            known[one] = alarms.after_attempt(known[one], attempt.logged, attempt.told)
        return known

    # --- sending it ---------------------------------------------------------------------

    def _send(self, letters: Sequence[Letter], patience: float) -> tuple[Receiver, ...]:
        """Send side by side, and wait a while; the receivers not known to be reached."""
        arrived: list[Letter] = []

        def deliver(letter: Letter) -> None:
            if self._deliver(letter):
                arrived.append(letter)

        # A daemon: a call that hangs must not keep the process from ending.
        threads = [
            threading.Thread(
                target=copy_context().run, args=(deliver, letter), name="alert", daemon=True
            )
            for letter in letters
        ]
        deadline = time.monotonic() + patience
        for thread, letter in zip(threads, letters, strict=True):
            try:
                thread.start()
            except RuntimeError:  # there are too many: without one, then
                deliver(letter)
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(deadline - time.monotonic(), 0))
        return tuple(letter.receiver for letter in letters if letter not in arrived)

    def _deliver(self, letter: Letter) -> bool:
        sent = False
        try:
            sent = self.notifier.send(letter.receiver, letter.message)
        finally:
            with self._lock:
                self._record(letter, self._clock.now(), sent=sent)
                if letter.told is not None:
                    self._sending.pop(letter.receiver.id, None)
        return sent

    def _note_those_that_hang(self, now: datetime) -> None:
        """An attempt without an end is a failure; should it arrive later, that is recorded too."""
        for began, letter in list(self._sending.values()):
            overdue = time.monotonic() - began >= alarms.SENDING_TAKES_AT_MOST.total_seconds()
            if overdue:
                self._record(letter, now, sent=False)
                self._sending[letter.receiver.id] = (float("inf"), letter)

    def _record(self, letter: Letter, now: datetime, *, sent: bool) -> None:
        """Note how an attempt ended, here until the records have it."""
        if sent and alarms.STATUS_UNKNOWN in letter.codes:
            self._told_unknown_at[letter.receiver.id] = now
        logged = SentMessage(
            now,
            letter.receiver.id,
            letter.message.title,
            letter.codes,
            "sent" if sent else "failed",
        )
        self._unrecorded.append(_Attempt(logged, letter.told))
        try:
            self._write(lambda known: known)
        except AppError as error:
            _log.warning("a message could not be recorded: %s", error.message)


def _letters(receivers: Sequence[Receiver], message: Message) -> list[Letter]:
    return [Letter(receiver, message) for receiver in receivers]


def _name() -> str:
    return socket.gethostname()
