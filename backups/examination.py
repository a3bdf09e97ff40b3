"""What the doctor found: lines with a level and a remedy. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Line:
    """One thing that was looked at; `hint` is the remedy when the level is not `ok`."""

    level: Level
    subject: str
    message: str
    hint: str = ""


@dataclass(frozen=True)
class Examination:
    """All lines, in the order in which they were looked at."""

    lines: tuple[Line, ...]

    @property
    def healthy(self) -> bool:
        """Whether no line is a problem."""
        return all(line.level != "problem" for line in self.lines)
