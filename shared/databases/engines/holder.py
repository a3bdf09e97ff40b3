"""`Holder`: who holds a lease, of this host or of one of several."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, and for how long; `stopped` by a signal, if it is on this host.

    `signs` is what a holder on whichever host has said of itself, `signs_age` ago; None where that
    is not said in the lease.
    """

    host: str
    pid: int
    held_for: timedelta
    stopped: bool = False
    signs: str | None = None
    signs_age: timedelta = timedelta()
