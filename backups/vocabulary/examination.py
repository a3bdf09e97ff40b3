"""What the doctor found, line by line. Pure."""

from __future__ import annotations

from dataclasses import dataclass

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
