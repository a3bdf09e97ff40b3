"""How the rows of a live database differ from those of a restore point: counts alone. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class TableDifference:
    """What a restore would do to the rows of one table.

    `only_live` would be lost, `only_stored` would come back, and `changed` would have their values
    of then. `newest_at` is the newest time in the live rows that would be lost or changed, where
    the table has a column of times.
    """

    table: str
    only_live: int
    only_stored: int
    changed: int
    newest_at: datetime | None = None

    @property
    def is_equal(self) -> bool:
        """Whether a restore would change nothing in the table."""
        return not (self.only_live or self.only_stored or self.changed)


@dataclass(frozen=True)
class Comparison:
    """The tables of one source, or else `why_not`: why it was not compared."""

    tables: tuple[TableDifference, ...] = ()
    why_not: str = ""

    @property
    def differing(self) -> Sequence[TableDifference]:
        """The tables that a restore would change."""
        return [one for one in self.tables if not one.is_equal]
