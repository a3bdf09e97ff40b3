"""When a chain checks itself: hourly by SQLite's own copies, each minute by how its rows look.

Only where something changed. The follower calls it between two steps, from its own thread.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from backups.decisions.suspicion import Measures
from backups.errors import BackupError
from backups.format.chain_keys import checks_prefix, set_of
from backups.host.removal import remove_folder
from backups.increments.keeping.differential import ChainTools, FollowedSource, FullNeeded
from backups.increments.keeping.self_check import (
    Differs,
    Look,
    check_hour,
    last_good,
    look_at,
    note_suspicion,
)
from backups.increments.shadow import Shadow
from backups.model import ReadabilityCheck
from backups.sets.chains import objects_table, table
from backups.sets.chains.checks import known_verdicts
from shared.errors import AppError, StoreError
from shared.files import make_private_directory
from shared.process.lasting_work import beat

HOUR_SECONDS = 3600.0
MINUTE_SECONDS = 60.0

_log = logging.getLogger("backups.follow")


@dataclass(frozen=True, kw_only=True)
class CheckParts:
    """What a checker works with; `copy_of` has the local copy of a source of a set, if it is there.

    `measures` are what new sets are compared with; `volatile` names the sources whose rows come and
    go; `suspicions_of` says why a set, by its id, should not be trusted. `fetch_full` brings a set
    that has no local copy into a folder, by source; or nothing, where that would take too much.
    """

    tools: ChainTools
    monotonic: Callable[[], float]
    now: Callable[[], datetime]
    copy_of: Callable[[str, str], Path]
    measures: Callable[[], Measures]
    volatile: frozenset[str] = frozenset()
    readable: Mapping[str, ReadabilityCheck] = field(default_factory=dict)
    suspicions_of: Callable[[str], Sequence[str]] = lambda _: ()
    fetch_full: Callable[[str, Path], Mapping[str, Path]] = lambda _set_id, _folder: {}


class ChainChecker:
    """Checks the chain that is being written. What the store refuses, it tries an hour later."""

    def __init__(self, parts: CheckParts) -> None:
        self._parts = parts
        began = parts.monotonic()
        self._checked_at = began
        self._looked_at = began
        self._good: dict[str, int] = {}
        self._said: tuple[str, int] | None = None
        self._suspicions: tuple[str, int, tuple[str, ...]] | None = None
        self._accepted: tuple[str, int, Measures] | None = None

    def suspicions(self, chain: str) -> tuple[str, ...]:
        """Why the next point of a chain should not be trusted: its full, or the chain itself.

        What changes in the full is noticed within a minute, a verdict on the chain at once. Raises
        `DatabaseError`.
        """
        tools = self._parts.tools
        with tools.known.reading() as connection:
            count = objects_table.count_below(connection, checks_prefix(tools.marks.prefix, chain))
            if self._suspicions is not None and self._suspicions[:2] == (chain, count):
                return self._suspicions[2]
            last = known_verdicts(connection, chain).last
        reasons = [*self._parts.suspicions_of(set_of(chain))]
        reasons += [last.reason] if last is not None and last.reason else []
        self._suspicions = chain, count, tuple(dict.fromkeys(reasons))
        return self._suspicions[2]

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
        with self._fulls(set_of(chain), shadows) as fulls:
            sources = [
                FollowedSource(source, shadow, fulls[source], copies.get(source))
                for source, shadow in shadows.items()
            ]
            try:
                found = check_hour(self._parts.tools, point, sources, self._parts.now(), beat)
            except (StoreError, BackupError) as error:
                _log.warning("the hourly check of chain %s did not end: %s", chain, error.message)
                return None
        return found if isinstance(found, Differs | FullNeeded) else None

    @contextmanager
    def _fulls(self, set_id: str, sources: Iterable[str]) -> Iterator[dict[str, Path]]:
        """Where the files of a full are, or would be; those that are not here are fetched."""
        fulls = {source: self._parts.copy_of(set_id, source) for source in sources}
        if all(path.is_file() for path in fulls.values()):
            yield fulls
            return
        folder = self._parts.tools.scratch / "full"
        shutil.rmtree(folder, ignore_errors=True)  # of a process that died
        make_private_directory(folder)
        try:
            fulls |= self._parts.fetch_full(set_id, folder)
        except AppError as error:
            _log.warning("no differential is made: %s", error.message)
        try:
            yield fulls
        finally:
            remove_folder(folder, ignore_errors=True)

    def _look(self, chain: str, shadows: Mapping[str, Shadow]) -> None:
        tools = self._parts.tools
        with tools.known.reading() as connection:
            point = table.last_point(connection, chain)
        if point is None:
            return
        self._suspicions = None
        look = look_at(
            {source: shadow.path for source, shadow in shadows.items()}, self._parts.readable
        )
        reasons = look.reasons(self._measures(chain, look), self._parts.volatile)
        if not reasons:
            self._good = {chain: point.number}
            return
        good = self._good.get(chain)
        if good is None:
            good = last_good(tools, chain)
        good = max(good, self._accepted[1] if self._accepted else 0)
        if self._said == (chain, good):  # the store has it: what came since is suspect here, too
            with tools.known.transaction() as connection:
                objects_table.suspect_after(connection, chain, good, "; ".join(reasons))
            return
        try:
            note_suspicion(tools, chain, good, reasons, self._parts.now())
            self._said = chain, good
        except StoreError as error:
            _log.warning("the verdict on chain %s is not stored yet: %s", chain, error.message)

    def _measures(self, chain: str, look: Look) -> Measures:
        """What the newest point is compared with: what a person has accepted, if there is that.

        The acceptance says that the data was as it should be; how it was then, this look shows.
        """
        with self._parts.tools.known.reading() as connection:
            accepted = known_verdicts(connection, chain).accepted
        if not accepted:
            return self._parts.measures()
        if self._accepted is None or self._accepted[:2] != (chain, accepted):
            self._accepted = chain, accepted, look.as_measure
        return self._accepted[2]
