"""How the last backup of an installation went, on whichever of its hosts. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from backups.model import Run


@dataclass(frozen=True)
class Outcome:
    """`failed` is the run that failed at `at` on `host`; None where it was complete.

    The run that `begun` last counts: a host that was frozen may end an older one later.
    """

    at: datetime
    host: str
    begun: datetime
    failed: Run | None = None
