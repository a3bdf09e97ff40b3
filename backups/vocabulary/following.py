"""How the process that schedules stores changes, as all processes of a host say it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

# Changes become increments, found in the `wal` or by comparison, or `sets`.
FollowState = Literal["wal", "compare", "sets", "off", "stopped"]

# How much longer than BACKUP_CHANGE_DELAY a change may wait before status says so, in seconds.
GRACE = 5.0


@dataclass(frozen=True)
class Following:
    """How the leader stores changes.

    `stopped`: nothing is stored between two sets, for the `reason`. `waiting_since` is when the
    oldest change was noticed that should be stored by now, and is not. `damaged` says, by source,
    what is wrong with a live database of which no point is made for that.
    """

    mode: FollowState
    reason: str = ""
    waiting_since: datetime | None = None
    damaged: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outage:
    """A time in which changes were not stored, and why: `the store was away`."""

    start: datetime
    end: datetime
    reason: str
