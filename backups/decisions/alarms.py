"""Which message goes to which receiver when the state of the backups changes. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from backups.model import Finding
from backups.vocabulary.receivers import Receiver, ReceiverState, SentMessage

# That there is no restore point is no news on a new host, and where another problem says why.
_SYMPTOM = "no_restore_point"
# How long a host may be without its first set before that is an alarm.
FIRST_SET_WITHIN = timedelta(hours=2)

ALERTS_FAIL = "alerts_fail"
# The database that several hosts share is away: each of them sends it.
DATABASE_UNREACHABLE = "database_unreachable"
STATUS_UNKNOWN = "status_unknown"
# How long a process does not repeat that status cannot be determined.
REPEAT_UNKNOWN_AFTER = timedelta(hours=1)

# How long after the first, second, third and any later failure in a row a receiver is left alone.
PAUSES = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 60))
# After that long a message that a process began to send is taken over: the process is dead.
SENDING_TAKES_AT_MOST = timedelta(minutes=2)

_BROKEN_AFTER_FAILURES = 3
_BROKEN_AFTER = timedelta(minutes=10)
_ALERTS_FAIL_AFTER = timedelta(hours=1)
_NEW = ReceiverState()


# What a receiver may colour or sort messages by; the names are those of apprise.
MessageKind = Literal["failure", "success", "info"]


@dataclass(frozen=True)
class Message:
    """What a notification says."""

    title: str
    body: str
    kind: MessageKind = "failure"


@dataclass(frozen=True)
class News:
    """The alarms of now. If they are not `all_known`, none that was sent before is over."""

    alarms: tuple[Finding, ...]
    all_known: bool = True


@dataclass(frozen=True)
class Letter:
    """A message to a receiver. `told` is what it has been told of once that has arrived.

    `codes` are the alarms in the message; `told` is None for a message about no alarm.
    """

    receiver: Receiver
    message: Message
    codes: tuple[str, ...] = ()
    told: tuple[str, ...] | None = None


# --- what to say ------------------------------------------------------------------------


def active_alarms(problems: Sequence[Finding], *, new: bool = False) -> tuple[Finding, ...]:
    """The problems that are alarms, in the order of status: all but a mere symptom.

    `new` says that this host has not had the time to make its first set.
    """
    causes = tuple(found for found in problems if found.code != _SYMPTOM)
    return causes or (() if new else tuple(problems))


def status_unknown(message: str, hint: str) -> News:
    """What there is to say when status itself cannot be determined."""
    said = f"the state of the backups cannot be determined: {message}"
    return News((Finding(STATUS_UNKNOWN, said, hint),), all_known=False)


def message_for(
    before: Collection[str], now: Sequence[Finding], *, name: str, ended: Collection[str] = ()
) -> Message | None:
    """What to say when the alarms went from the codes `before` to `now`; None for nothing new.

    Each alarm is sent when it comes, and once that all are over: with those that `ended` earlier.
    """
    new = [found for found in now if found.code not in before]
    if new:
        lines = [f"{found.message}\n-> {found.hint}" for found in new]
        return Message(f"Backup problem on {name}: {new[0].code}", "\n\n".join(lines))
    if before and not now:
        over = sorted({*before, *ended})
        if over == [DATABASE_UNREACHABLE]:  # of all else, the host that leads sends messages
            return Message(
                f"The database is back on {name}", f"This problem is over: {over[0]}", "success"
            )
        return Message(
            f"Backups on {name} are healthy again",
            "Every problem that was reported is over: " + ", ".join(over),
            "success",
        )
    return None


def letter_for(receiver: Receiver, state: ReceiverState, news: News, *, name: str) -> Letter | None:
    """What this receiver has not been told yet; None for nothing."""
    message = message_for(state.told, news.alarms, name=name, ended=state.ended)
    if message is None or not (news.alarms or news.all_known):
        return None
    now = tuple(found.code for found in news.alarms)
    codes = tuple(code for code in now if code not in state.told) or tuple(
        dict.fromkeys((*state.told, *state.ended))
    )
    told = now if news.all_known else tuple(dict.fromkeys((*state.told, *now)))
    return Letter(receiver, message, codes, told)


def without_ended(state: ReceiverState, news: News) -> ReceiverState:
    """The same, without the alarms that ended while others last: no message says so yet.

    If they come again, that is news. Where all have ended, a message is owed, which names them.
    """
    now = {found.code for found in news.alarms}
    left = tuple(code for code in state.told if code in now)
    return _now_told(state, left) if news.all_known and left else state


def _now_told(state: ReceiverState, told: tuple[str, ...]) -> ReceiverState:
    """The state with other alarms that last; what it was told of before has ended."""
    before = dict.fromkeys((*state.ended, *state.told))
    return replace(state, told=told, ended=tuple(code for code in before if code not in told))


def success_message(name: str, set_id: str) -> Message:
    """For those who want to hear of every good run."""
    return Message(
        f"Backup done on {name}", f"Set {set_id} is stored, read back and proven.", "success"
    )


def test_message(name: str) -> Message:
    """For `doctor --notify`."""
    return Message(
        f"Test message from the backups on {name}", "If you read this, notifications work.", "info"
    )


# --- to whom, and when ------------------------------------------------------------------


def may_send(state: ReceiverState, now: datetime) -> bool:
    """Whether no process is sending to the receiver, and the pause after a failure is over.

    A clock that was set back ends a pause, and one that was set forward does: at most one
    attempt too many for each step, and no silence.
    """
    began = state.sending_since
    if began is not None and abs(now - began) < SENDING_TAKES_AT_MOST:
        return False
    if not state.failures or state.failed_at is None:
        return True
    pause = PAUSES[min(state.failures, len(PAUSES)) - 1]
    return not timedelta(0) <= now - state.failed_at < pause


def after_attempt(
    state: ReceiverState, attempt: SentMessage, told: tuple[str, ...] | None
) -> ReceiverState:
    """The state after an attempt; `told` as in `Letter`."""
    sending_since = state.sending_since if told is None else None
    if attempt.result == "sent":
        left = state if told is None else _now_told(state, told)
        ended = left.ended if left.told else ()
        return ReceiverState(left.told, sending_since=sending_since, ended=ended)
    return replace(
        state,
        failures=state.failures + 1,
        failing_since=min(state.failing_since or attempt.at, attempt.at),
        failed_at=attempt.at,
        sending_since=sending_since,
    )


def broken_receivers(
    receivers: Sequence[Receiver], states: Mapping[str, ReceiverState], now: datetime
) -> tuple[str, ...]:
    """The receivers that failed three times in a row, or for ten minutes; for a person."""
    return tuple(
        str(one)
        for one in receivers
        if states.get(one.id, _NEW).failures >= _BROKEN_AFTER_FAILURES
        or _failing_for(states.get(one.id, _NEW), now) >= _BROKEN_AFTER
    )


def alerts_that_fail(
    receivers: Sequence[Receiver], states: Mapping[str, ReceiverState], now: datetime
) -> tuple[Finding, ...]:
    """The problem that no message has reached anybody for more than an hour, if that is so."""
    failing = [_failing_for(states.get(one.id, _NEW), now) for one in receivers]
    if not failing or min(failing) <= _ALERTS_FAIL_AFTER:
        return ()
    return (
        Finding(
            ALERTS_FAIL,
            f"no message about the backups has arrived for {min(failing) // timedelta(minutes=1)} "
            f"minutes: {', '.join(str(one) for one in receivers)} of BACKUP_NOTIFY_URLS cannot be "
            "reached",
            "Test them: ./bot backups doctor --notify. Correct BACKUP_NOTIFY_URLS in .env, and "
            "restart.",
        ),
    )


def _failing_for(state: ReceiverState, now: datetime) -> timedelta:
    return now - state.failing_since if state.failing_since is not None else timedelta(0)
