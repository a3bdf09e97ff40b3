"""How the last backup of an installation went, on whichever of its hosts. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from backups.model import Run


@dataclass(frozen=True)
class Outcome:
    """`failed` is the run that failed at `at` on `host`; None where it was complete."""

    at: datetime
    host: str
    failed: Run | None = None
