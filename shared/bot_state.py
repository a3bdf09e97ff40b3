"""How the bot does, for whoever looks from outside: read from `inbox.db`, which is not written."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from shared.databases.engines.database import Database
from shared.databases.translation import translated
from shared.errors import DatabaseError
from shared.merchants.inbox import InboxState, inbox_state
from shared.merchants.marks import last_sync

# Who looks at status waits for no longer than that, however much waits in the inbox.
MOST_SECONDS = 1.0
_STEPS_BETWEEN_LOOKS_AT_THE_TIME = 10_000


@dataclass(frozen=True)
class BotState:
    """What waits in the inbox, and when the last polling of everything began.

    `inbox` is None if that could not be read; `fault` says why.
    """

    inbox: InboxState | None
    last_sync: datetime | None = None
    fault: str = ""


def read_bot_state(path: Path, now: datetime, *, most_seconds: float = MOST_SECONDS) -> BotState:
    """The state as `inbox.db` has it, read within `most_seconds`; raises nothing.

    An inbox that nobody has made yet is an empty one.
    """
    with suppress(OSError):  # SQLite says what it is
        if not path.exists():
            return BotState(InboxState(waiting=0, oldest_seconds=0.0, set_aside=0))
    deadline = time.monotonic() + most_seconds
    try:
        with translated(str(path)), closing(read_only(path, most_seconds)) as connection:
            connection.set_progress_handler(
                lambda: time.monotonic() > deadline, _STEPS_BETWEEN_LOOKS_AT_THE_TIME
            )
            connection.execute("BEGIN")
            return BotState(inbox_state(connection, now), last_sync(connection))
    except (DatabaseError, ValueError, TypeError) as error:
        if time.monotonic() > deadline:
            return BotState(None, fault=f"{path} could not be read within {most_seconds:g} s")
        known = error.message if isinstance(error, DatabaseError) else f"{path} is damaged"
        return BotState(None, fault=known)


def read_shared_state(database: Database, now: datetime) -> BotState:
    """The state as the database of several hosts has it; raises nothing."""
    try:
        with database.reading() as connection:
            return BotState(inbox_state(connection, now), last_sync(connection))
    except DatabaseError as error:
        return BotState(None, fault=error.message)


def read_only(path: Path, seconds: float) -> sqlite3.Connection:
    """A connection that refuses to write, and makes no file; raises `sqlite3.Error`."""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=seconds, isolation_level=None
    )
