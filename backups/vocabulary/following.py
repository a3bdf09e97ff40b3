"""The record of how the changes of the live databases are followed. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

# `wal` and `compare`: each change becomes a point (one source at least by its `-wal`). `sets`: a
# change starts a whole backup. `stopped`: nothing follows, and a change starts a whole backup, too.
How = Literal["wal", "compare", "sets", "stopped"]


@dataclass(frozen=True)
class Following:
    """How changes are followed by the process that leads, as it last said.

    `newest_point_at` is the instant of the newest proven point; `unstored_since` when the oldest
    change was noticed that is in no point yet; `reason` says why following is `stopped`, or why a
    change could not be stored the last time, and `hint` what to do.
    """

    how: How
    newest_point_at: datetime | None = None
    unstored_since: datetime | None = None
    reason: str = ""
    hint: str = ""
