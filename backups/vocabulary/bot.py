"""What is known of the bot beside the backups, without knowing the bot. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class InboxFacts:
    """How many updates wait, for how many seconds the oldest does, how many were set aside.

    `attempts` is how often the oldest of those that wait was tried.
    """

    waiting: int
    oldest_seconds: float
    set_aside: int
    attempts: int = 0


@dataclass(frozen=True)
class BotFacts:
    """How the bot does. `inbox` is None if that is not known, `fault` says why.

    `last_sync` is when the last polling of all accounts began, None for never.
    """

    inbox: InboxFacts | None = None
    last_sync: datetime | None = None
    fault: str = ""


NO_BOT = BotFacts()
