"""What the verdicts on a chain say together: what is in doubt, what a person accepted. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from backups.format.chain import Check


@dataclass(frozen=True)
class Verdicts:
    """The verdicts that leave points in `doubt`, of which no person has accepted any.

    What the increments up to the number `accepted` say against themselves is accepted, too.
    """

    doubts: tuple[Check, ...] = ()
    accepted: int = 0

    @property
    def worst(self) -> Check | None:
        """The one that leaves the fewest good points."""
        return min(self.doubts, key=lambda one: one.good, default=None)

    @property
    def last(self) -> Check | None:
        """The newest one."""
        return max(self.doubts, key=lambda one: one.at, default=None)


def together(checks: Mapping[str, Check]) -> Verdicts:
    """All verdicts on a chain, by the names of their keys: `check-20261122T130000Z.json`."""
    accepted = {name for one in checks.values() for name in one.accepts or ()}
    doubts = (one for name, one in checks.items() if one.reason and name not in accepted)
    return Verdicts(
        tuple(doubts),
        max((one.good for one in checks.values() if one.accepts is not None), default=0),
    )
