"""What a follower works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from backups.host.state import HostState
from backups.increments.follow_folder import FollowFolder
from backups.increments.keeping.checker import ChainChecker
from backups.increments.lease import FollowLease
from backups.increments.step import Steps
from backups.sets.catalogue import Catalogue
from shared.clock import Clock


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a follower works with."""

    steps: Steps
    folder: FollowFolder
    catalogue: Catalogue
    facts: HostState
    clock: Clock
    lease: FollowLease
    ours: Callable[[], frozenset[str]]
    copy_of: Callable[[str, str], Path]
    lasting: frozenset[str]  # the sources that are not volatile
    delay: float
    store_answers: Callable[[], bool] = lambda: False
    ask: Callable[[], None] = lambda: None  # raises `RunInterrupted` when the process ends
    checker: ChainChecker | None = None
