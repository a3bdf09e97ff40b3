"""What the doctor found, line by line. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from backups.model import Level


@dataclass(frozen=True)
class Line:
    """One thing that the doctor looked at; `hint` is the remedy when the level is not `ok`."""

    level: Level
    subject: str
    message: str
    hint: str = ""


@dataclass(frozen=True)
class Examination:
    """What the doctor found: all lines, in the order in which they were looked at."""

    lines: tuple[Line, ...]

    @property
    def healthy(self) -> bool:
        """Whether no line is a problem."""
        return all(line.level != "problem" for line in self.lines)


@dataclass(frozen=True)
class SettingsCheck:
    """An examination that a change of settings caused, and keyed hashes of the settings of then.

    `key` is the fingerprint of the token key that made the `digests`, name -> hex. `changed` has
    names, without values; it is empty where nothing was examined. `light` and `title` are the
    light's at its end.
    """

    at: datetime
    key: str
    digests: dict[str, str] = field(repr=False)
    changed: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()
    light: str = ""
    title: str = ""

    @property
    def reason(self) -> str:
        """Why it was made: "after SPACES_REGION changed"."""
        return f"after {', '.join(self.changed)} changed"

    @property
    def failed(self) -> tuple[Line, ...]:
        """The lines that are problems."""
        return tuple(line for line in self.lines if line.level == "problem")
