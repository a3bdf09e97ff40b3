"""What a chain found when it checked itself, as a problem of status. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from backups.format.chain_keys import point_id, set_of
from backups.model import Finding


@dataclass(frozen=True)
class Doubt:
    """Why the points of the newest chain after number `good` should not be trusted, found `at`.

    `differs` when it has ended for that: what it had made was not the live database.
    """

    chain: str
    good: int
    reason: str
    at: datetime
    differs: bool

    @property
    def newest_good(self) -> str:
        """The id of the newest point before it."""
        return point_id(self.chain, self.good) if self.good else set_of(self.chain)


def finding_of(doubt: Doubt) -> Finding:
    """The problem that it is until a set that protects was made after it."""
    if doubt.differs:
        return Finding(
            "chain_differs",
            f"the points after {doubt.newest_good} are not what the databases were: {doubt.reason}",
            "Check the disk and memory of this host. Make a new full if the app has not yet: "
            f"./bot backups run. The newest good point: {doubt.newest_good}",
        )
    return Finding(
        "points_suspect",
        f"what was stored after {doubt.newest_good} looks damaged: {doubt.reason}",
        f"To get back what was there before: ./bot backups restore {doubt.newest_good} "
        "--in-place --yes. If the data is fine: ./bot backups run, then mark that backup as good: "
        "./bot backups accept SET",
    )
