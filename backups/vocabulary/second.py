"""The second place: what is known of it, and what its copies lack. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

FIRST: Final = "first"
SECOND: Final = "second"

# A copy that is older than this is a problem.
MOST_BEHIND = timedelta(days=1)
STAND_IN_GRACE = timedelta(minutes=10)


@dataclass(frozen=True)
class SecondConfig:
    """How copying is configured: where to, after which time, and for how long it is locked there;
    `mbit` is the most that it takes of the line, in Mbit/s, 0 for no limit."""

    location: str
    every: timedelta
    lock_days: int
    mbit: int


@dataclass(frozen=True)
class CopyError:
    """Why the last copying did not come to its end."""

    code: str
    message: str
    hint: str


@dataclass(frozen=True)
class CopyState:
    """What the last copying found: `at` is when it ended, `complete_at` when one last had copied
    all; `behind_since` is the time of the oldest object that is not there yet, and `waiting` how
    many are not. `refused` objects are not what a mark says, or have another one in their way.
    `hidden` and `covered` count the keys that somebody has changed in the second place.
    """

    at: datetime
    complete_at: datetime | None = None
    behind_since: datetime | None = None
    waiting: int = 0
    refused: int = 0
    hidden: int = 0
    covered: int = 0
    points: int = 0
    newest: str | None = None
    error: CopyError | None = None
    deletable: bool | None = None


@dataclass(frozen=True)
class DocumentsConfig:
    """Which documents of the application are copied: below `prefix` those of which `folder_of`
    names the folder of their account; of others it says None. Of some `exists_once` says that
    nothing makes them again. Those above `most_bytes` do not go."""

    prefix: str
    folder_of: Callable[[str], str | None]
    exists_once: Callable[[str], bool]
    most_bytes: int


@dataclass(frozen=True)
class DocumentsState:
    """What the last copying of documents found: `at` is when it ended, `complete_at` when one last
    had copied all; `behind_since` is the time of the oldest change that is not there yet.

    `documents` are in both places, `waiting` are not in the second as they are now, `too_large` of
    them never go. `gone` are missing in the first place, and nobody asked for their deletion.
    `versioned` says whether the bucket keeps versions: without it nothing is copied.
    """

    at: datetime
    complete_at: datetime | None = None
    behind_since: datetime | None = None
    documents: int = 0
    waiting: int = 0
    too_large: int = 0
    gone: int = 0
    versioned: bool = True
    error: CopyError | None = None


@dataclass(frozen=True)
class StandIn:
    """The second place at `location` takes the sets while the first is away, since `at`: those
    `sets` that the first has yet to get, the last one at `last_at`."""

    at: datetime
    last_at: datetime | None = None
    sets: tuple[str, ...] = ()
    location: str = ""


@dataclass(frozen=True)
class SecondFacts:
    """The second place as status shows it; `begun_at` is since when there is one."""

    config: SecondConfig
    state: CopyState | None
    begun_at: datetime | None = None
    stand_in: StandIn | None = None
    documents: DocumentsState | None = None

    def takes_sets(self, now: datetime) -> bool:
        """Whether it stands in for the first place, and has what is no older than that promises."""
        last = self.stand_in.last_at if self.stand_in else None
        # What a clock that was ahead has written says nothing.
        return last is not None and -STAND_IN_GRACE <= now - last <= (
            2 * self.config.every + STAND_IN_GRACE
        )


@dataclass(frozen=True)
class Differences:
    """What a comparison found: keys that the second place lacks, and that differ there."""

    compared: int
    missing: tuple[str, ...]
    different: tuple[str, ...]

    def and_these(self, more: Differences) -> Differences:
        """Both."""
        return Differences(
            self.compared + more.compared,
            (*self.missing, *more.missing),
            (*self.different, *more.different),
        )
