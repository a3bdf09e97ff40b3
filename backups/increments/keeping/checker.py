"""When a chain checks itself: hourly by SQLite's own copies, each minute by how its rows look.

Only where something changed. The follower calls it between two steps, from its own thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from backups.decisions.suspicion import Measures
from backups.errors import BackupError
from backups.format.chain_keys import set_of
from backups.increments.keeping.differential import ChainTools, FollowedSource, FullNeeded
from backups.increments.keeping.self_check import (
    Differs,
    check_hour,
    last_good,
    look_at,
    note_suspicion,
)
from backups.increments.shadow import Shadow
from backups.model import ReadabilityCheck
from backups.sets.chains import objects_table, table
from shared.errors import StoreError
from shared.files import make_private_directory
from shared.process.lasting_work import beat

HOUR_SECONDS = 3600.0
MINUTE_SECONDS = 60.0

_log = logging.getLogger("backups.follow")


@dataclass(frozen=True, kw_only=True)
class CheckParts:
    """What a checker works with; `copy_of` has the local copy of a source of a set, if it is there.

    `measures` are what new sets are compared with; `volatile` names the sources whose rows come and
    go.
    """

    tools: ChainTools
    monotonic: Callable[[], float]
    now: Callable[[], datetime]
    copy_of: Callable[[str, str], Path]
    measures: Callable[[], Measures]
    volatile: frozenset[str] = frozenset()
    readable: Mapping[str, ReadabilityCheck] = field(default_factory=dict)


class ChainChecker:
    """Checks the chain that is being written. What the store refuses, it tries an hour later."""

    def __init__(self, parts: CheckParts) -> None:
        self._parts = parts
        began = parts.monotonic()
        self._checked_at = began
        self._looked_at = began
        self._good: dict[str, int] = {}
        self._said: tuple[str, int] | None = None

    @property
    def wants_copies(self) -> bool:
        """Whether the copies that the next step takes are to be kept for `after_step`."""
        return self._parts.monotonic() - self._checked_at >= HOUR_SECONDS

    def after_step(
        self, chain: str, shadows: Mapping[str, Shadow], copies: Mapping[str, Path]
    ) -> Differs | FullNeeded | None:
        """Check what is due, directly after a step; `copies` are those that it has kept.

        What the follower has to act on: a chain that `Differs` ends, and begins anew with a full.
        Raises `OSError`, `DatabaseError`.
        """
        if copies and self.wants_copies:
            self._checked_at = self._parts.monotonic()
            found = self._check(chain, shadows, copies)
            if found is not None:
                return found
        if self._parts.monotonic() - self._looked_at >= MINUTE_SECONDS:
            self._looked_at = self._parts.monotonic()
            self._look(chain, shadows)
        return None

    def _check(
        self, chain: str, shadows: Mapping[str, Shadow], copies: Mapping[str, Path]
    ) -> Differs | FullNeeded | None:
        make_private_directory(self._parts.tools.scratch)
        with self._parts.tools.known.reading() as connection:
            point = table.last_point(connection, chain)
        if point is None:
            return None
        sources = [
            FollowedSource(
                source, shadow, self._parts.copy_of(set_of(chain), source), copies.get(source)
            )
            for source, shadow in shadows.items()
        ]
        try:
            found = check_hour(self._parts.tools, point, sources, self._parts.now(), beat)
        except (StoreError, BackupError) as error:
            _log.warning("the hourly check of chain %s did not end: %s", chain, error.message)
            return None
        return found if isinstance(found, Differs | FullNeeded) else None

    def _look(self, chain: str, shadows: Mapping[str, Shadow]) -> None:
        tools = self._parts.tools
        with tools.known.reading() as connection:
            point = table.last_point(connection, chain)
        if point is None:
            return
        reasons = look_at(
            {source: shadow.path for source, shadow in shadows.items()},
            self._parts.measures(),
            self._parts.volatile,
            self._parts.readable,
        )
        if not reasons:
            self._good = {chain: point.number}
            return
        good = self._good.get(chain)
        if good is None:
            good = last_good(tools, chain)
        if self._said == (chain, good):  # the store has it: what came since is suspect here, too
            with tools.known.transaction() as connection:
                objects_table.suspect_after(connection, chain, good, "; ".join(reasons))
            return
        try:
            note_suspicion(tools, chain, good, reasons, self._parts.now())
            self._said = chain, good
        except StoreError as error:
            _log.warning("the verdict on chain %s is not stored yet: %s", chain, error.message)
