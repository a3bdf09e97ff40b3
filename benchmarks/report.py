"""`Measurement`, and how measurements are shown to a person and kept for a machine."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """One number against its target (the number must be below it), and what is behind it."""

    name: str
    value: float
    unit: str
    target: float
    details: Mapping[str, float] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        """Whether the number is below its target."""
        return self.value < self.target


def table(command: str, measurements: Sequence[Measurement]) -> str:
    """The measurements under the command that made them, each with its details below it."""
    rows = [("MEASURED", "VALUE", "TARGET", "")]
    for found in measurements:
        rows.append(
            (
                found.name,
                f"{found.value:.2f} {found.unit}",
                f"< {found.target:g} {found.unit}",
                "met" if found.met else "MISSED",
            )
        )
        rows += [(f"  {name}", f"{value:,.2f}", "", "") for name, value in found.details.items()]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}".rstrip()
        for row in rows
    ]
    return "\n".join((f"$ {command}", host(), "", *lines))


def host() -> str:
    """The host and the versions that decide about the numbers."""
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    )


def write_json(path: Path, command: str, measurements: Sequence[Measurement]) -> None:
    """The same as JSON, in place of the last."""
    document: dict[str, Any] = {
        "command": command,
        "host": host(),
        "measurements": [
            {
                "name": found.name,
                "value": found.value,
                "unit": found.unit,
                "target": found.target,
                "met": found.met,
                "details": dict(found.details),
            }
            for found in measurements
        ],
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which `part` (0 to 1) of the values lie."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)]
