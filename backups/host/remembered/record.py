"""One remembered value: its name in the table `facts`, and how it becomes text and comes back.

A value that cannot be read counts as absent, and a line of the log names it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from backups.format.instance import LastSet
from backups.model import Baseline, DrillReport
from backups.vocabulary.examination import SettingsCheck
from backups.vocabulary.kit import KeptKit
from backups.vocabulary.outcome import Outcome
from backups.vocabulary.replaced import RestoreRecord, Switch
from backups.vocabulary.second import CopyState, DocumentsState, StandIn
from shared.adapters import adapter_of
from shared.clock import format_utc, parse_utc
from shared.databases.engines.database import Connection

_log = logging.getLogger("backups.host.state")

# Beginning of the name that says of a run that it was an undo; the run log reads it.
UNDO = "undo:"

T = TypeVar("T")
D = TypeVar(
    "D",
    Baseline,
    CopyState,
    DocumentsState,
    DrillReport,
    KeptKit,
    LastSet,
    Outcome,
    RestoreRecord,
    SettingsCheck,
    StandIn,
    Switch,
)


@dataclass(frozen=True)
class Record(Generic[T]):
    """One remembered value: its name in the table, and how it becomes text and comes back.

    `load` raises `ValueError` for a text that `dump` did not write.
    """

    name: str
    dump: Callable[[T], str]
    load: Callable[[str], T]

    def read(self, connection: Connection) -> T | None:
        """The value; None when there is none, or none that can be read."""
        text = self.text(connection)
        return None if text is None else self.parse(text)

    def text(self, connection: Connection) -> str | None:
        """The stored text, whether or not it can be read."""
        row = connection.execute("SELECT value FROM facts WHERE name = ?", (self.name,)).fetchone()
        return str(row[0]) if row else None

    def write(self, connection: Connection, value: T) -> None:
        """Replace the value; within a transaction."""
        connection.execute(
            "INSERT INTO facts(name, value) VALUES (?, ?)"
            " ON CONFLICT(name) DO UPDATE SET value = excluded.value",
            (self.name, self.dump(value)),
        )

    def forget(self, connection: Connection) -> None:
        """Remove the value; within a transaction."""
        connection.execute("DELETE FROM facts WHERE name = ?", (self.name,))

    def parse(self, text: str) -> T | None:
        """The value of a stored text; None, and a line of the log, when it cannot be read."""
        try:
            return self.load(text)
        except ValueError:
            _log.warning("%s in runs.db cannot be read, and counts as absent", self.name)
            return None


def document(name: str, kind: type[D]) -> Record[D]:
    """A record of a class that has the time `at`, as JSON."""
    hashable: Any = kind  # mypy takes the class of a dataclass for one that has no hash

    def load(text: str) -> D:
        document: D = adapter_of(hashable).validate_json(text)
        if document.at.tzinfo is None:
            raise ValueError("a time without a zone has no instant")
        return document

    return Record(name, lambda value: adapter_of(hashable).dump_json(value).decode(), load)


def time_of(name: str) -> Record[datetime]:
    """A record of an instant."""
    return Record(name, format_utc, parse_utc)
