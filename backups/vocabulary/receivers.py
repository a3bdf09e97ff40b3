"""The records of who is sent messages, and of what was sent to whom. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Literal


@dataclass(frozen=True)
class Receiver:
    """A URL of `BACKUP_NOTIFY_URLS`: a hash of it, its place from 1, and its scheme; no secret."""

    id: str
    number: int
    scheme: str

    def __str__(self) -> str:
        """For a person: `URL number 2 (mailtos)`."""
        return f"URL number {self.number} ({self.scheme})"


@dataclass(frozen=True)
class ReceiverState:
    """What a receiver has been told, and how the last attempts to reach it went.

    `told` are the codes of the alarms that it was told of and that last; `ended` those that it was
    told of and whose end it will be told with the end of the others. `failures`
    counts the attempts in a row that failed; `sending_since` is when a process began to send.
    """

    told: tuple[str, ...] = ()
    failures: int = 0
    failing_since: datetime | None = None
    failed_at: datetime | None = None
    sending_since: datetime | None = None
    ended: tuple[str, ...] = ()


@dataclass(frozen=True)
class SentMessage:
    """One attempt to reach a receiver, as the log of messages has it.

    `codes` are the alarms that were new to the receiver, or over; a test or a success has none.
    """

    at: datetime
    receiver: str
    title: str
    codes: tuple[str, ...]
    result: Literal["sent", "failed"]


def receivers_of(urls: Sequence[str]) -> tuple[Receiver, ...]:
    """The receivers of `BACKUP_NOTIFY_URLS`, each once, in its order."""
    found: dict[str, Receiver] = {}
    for number, url in enumerate(urls, 1):
        name = sha256(url.encode()).hexdigest()[:16]
        found.setdefault(name, Receiver(name, number, url.partition("://")[0]))
    return tuple(found.values())
