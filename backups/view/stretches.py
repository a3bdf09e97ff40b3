"""Which time can be restored without a break, and why each break is there. Pure.

A stretch has points of one chain; a run is what several of them give together: the next hour of a
chain, or the chain that took over. All instants are aware.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from backups.format.chain import EndReason
from backups.vocabulary.following import Outage

NOT_FOLLOWED = "changes were not followed"
NOT_PROVEN = "its points are not proven"
MISSING = "a point is missing in the store"
NOTHING_NEWER = "nothing newer is stored"
ENDS: Mapping[EndReason, str] = {
    "new_chain": NOT_FOLLOWED,
    "restore": "a restore replaced the live data",
    "clock": "the clock of the host was set back",
    "two_writers": "another process wrote to the same chain",
    "sources": "the databases to follow changed",
    "differs": "the stored points differed from the live database",
}


@dataclass(frozen=True)
class Stretch:
    """Points of one chain of which none is missing between the first and the last one.

    `follows` says that its first point is the next one after the last of the stretch before it in
    its chain; `ended` why nothing follows in the chain, None while something may.
    """

    chain: str
    start: datetime
    end: datetime
    follows: bool = False
    proven: bool = True
    ended: EndReason | None = None


@dataclass(frozen=True)
class Run:
    """Good time without a break, and why it breaks off."""

    start: datetime
    end: datetime
    reason: str


def joined(stretches: Sequence[Stretch], followed_until: datetime | None) -> list[Run]:
    """Stretches that follow one another are one run."""
    runs: list[Run] = []
    last: Stretch | None = None
    for one in sorted(stretches, key=lambda each: (each.start, each.end)):
        if not one.proven:
            if runs:
                runs[-1] = replace(runs[-1], reason=NOT_PROVEN)
            last = None
            continue
        end, reason = one.end, ENDS[one.ended] if one.ended else MISSING
        if runs and (one.start <= runs[-1].end or (last and _goes_on(last, one))):
            ahead = end >= runs[-1].end
            end, reason = max(end, runs[-1].end), reason if ahead else runs[-1].reason
            runs[-1] = Run(runs[-1].start, end, reason)
        else:
            if runs and last and last.chain != one.chain and last.ended is None:
                runs[-1] = replace(runs[-1], reason=NOT_FOLLOWED)
            runs.append(Run(one.start, end, reason))
        last = one
    if runs and last and last.ended in (None, "new_chain"):
        until = max(runs[-1].end, followed_until or runs[-1].end)
        runs[-1] = replace(runs[-1], end=until, reason=NOTHING_NEWER)
    return runs


def _goes_on(before: Stretch, after: Stretch) -> bool:
    """Whether nothing was lost between the two."""
    if before.chain == after.chain:
        return after.follows
    return before.ended == "new_chain"


def cut_by(runs: Iterable[Run], outages: Iterable[Outage]) -> Iterator[Run]:
    """What outages leave of each run; the reason of a part that ends with one is the outage's."""
    known = sorted(outages, key=lambda each: each.start)
    for run in runs:
        left = run
        for one in known:
            if one.end <= left.start or one.start >= left.end:
                continue
            if one.start >= left.start:
                yield Run(left.start, one.start, one.reason)
            left = replace(left, start=one.end)
        if left.start <= left.end:
            yield left
