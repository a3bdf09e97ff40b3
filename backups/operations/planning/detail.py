"""What a person decides a restore by: what it would lose and bring back, and what surrounds it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from sqlite3 import Error as SqliteError

from backups.config import BackupConfig
from backups.decisions.restore_plan import RestoreItem, RestorePlan
from backups.decisions.restoring.outlook import estimate, passed_over
from backups.host.directory import BackupDirectory
from backups.host.state import HostState
from backups.model import BackupSet, Source
from backups.operations.own_sets import OwnSets
from backups.runs.run import ignore_progress
from backups.sets.catalogue import Catalogue
from backups.sets.fetch import Fetcher
from backups.sets.proof import size_of
from backups.sources.checking.inspection import sha256_of
from backups.sources.comparing.rows import compare_rows
from backups.sources.live import rows_of
from backups.sources.room import Need, Room
from backups.vocabulary.comparison import Comparison
from shared.clock import Clock
from shared.errors import AppError

# More than this is not fetched, nor read on a page, to plan a restore.
_MOST_BYTES = 256_000_000
_MOST_ROWS = 1_000_000
_MOST_ROWS_OF_A_PAGE = 100_000
_MOST_PASSED_OVER = 5


@dataclass(frozen=True, kw_only=True)
class PlanDetail:
    """Completes plans; it changes nothing, and a failure of it never refuses a restore."""

    config: BackupConfig
    catalogue: Catalogue
    own_sets: OwnSets
    facts: HostState
    clock: Clock
    fetcher: Fetcher
    directory: BackupDirectory

    def of(self, plan: RestorePlan, *, compares: bool = True, fetches: bool = False) -> RestorePlan:
        """The plan with what surrounds it and, where it `compares`, how the live rows differ.

        The local copies serve for that; else, where it `fetches`, the objects of the store.
        """
        chosen = plan.backup_set
        drill = self.facts.last_drill()
        line = self.own_sets.ours() | {chosen.instance}
        newer = (one for one in self.catalogue.sets() if one.kind == "set" and one.instance in line)
        outlook = replace(
            plan,
            made_here=self.own_sets.made(chosen),
            place=self.fetcher.store.location,
            has_copies=all(self._copy(chosen, item) is not None for item in plan.items),
            estimate=estimate(chosen, drill, self._drilled(drill.set_id if drill else None)),
            passed_over=tuple(
                islice(passed_over(chosen, newer, self.clock.now()), _MOST_PASSED_OVER)
            ),
        )
        if not compares:
            return outlook
        return replace(outlook, items=tuple(self._compared(outlook, fetches=fetches)))

    def rows_now(self, plan: RestorePlan) -> dict[str, Mapping[str, int] | None]:
        """The rows of each live database that a plan is about, as they are now."""
        wanted = {item.stored.source for item in plan.items}
        return {
            source.name: rows_of(source, self.config.busy_timeout)
            for source in self.config.sources
            if source.name in wanted
        }

    def _drilled(self, set_id: str | None) -> BackupSet | None:
        try:
            return self.catalogue.get(set_id) if set_id else None
        except AppError:
            return None

    def _compared(self, plan: RestorePlan, *, fetches: bool) -> Iterator[RestoreItem]:
        sources = {source.name: source for source in self.config.sources}
        for item in plan.items:
            found = self._comparison(plan.backup_set, item, sources, fetches=fetches)
            yield replace(item, comparison=found)

    def _comparison(
        self, chosen: BackupSet, item: RestoreItem, sources: dict[str, Source], *, fetches: bool
    ) -> Comparison | None:
        """None where there is nothing to compare with, and nothing to say of it."""
        if item.live.state in ("missing", "empty", "leftover", "unknown"):
            return None
        if item.live.state != "healthy":
            return Comparison(why_not=f"the live database is {item.live.state}")
        try:
            with ExitStack() as stack:
                path = self._file(stack, chosen, item, fetches=fetches)
                if isinstance(path, str):
                    return Comparison(why_not=path)
                most = _MOST_ROWS if fetches else _MOST_ROWS_OF_A_PAGE
                source = sources[item.stored.source]
                return Comparison(compare_rows(path, source, self.config.busy_timeout, most))
        except AppError as error:
            return Comparison(why_not=error.message)
        except (OSError, SqliteError) as error:
            return Comparison(why_not=f"it could not be read ({type(error).__name__})")

    def _file(
        self, stack: ExitStack, chosen: BackupSet, item: RestoreItem, *, fetches: bool
    ) -> Path | str:
        """A file with the content of the point, or why there is none to compare with."""
        stored = item.stored
        on_host = f"compare it on the host: ./bot backups restore {chosen.id}"
        copy = self._copy(chosen, item)
        if copy is not None and not fetches and copy.stat().st_size > _MOST_BYTES:
            return f"it is large; {on_host}"
        if copy is not None and sha256_of(copy) == stored.snapshot_sha256:
            return copy
        if not fetches:
            return f"no copy of it is on this host; {on_host}"
        if stored.bytes > _MOST_BYTES:
            return (
                f"{stored.bytes:,} bytes would have to be fetched; look at it in a folder: "
                f"./bot backups restore {chosen.id} --to DIR"
            )
        folder = stack.enter_context(self.directory.staging(f"plan-{os.getpid()}-{stored.source}"))
        needs = [Need(folder, 2 * size_of(stored))]
        Room("the comparison", [needs], self.config.sources).refuse_lack()
        return self.fetcher.fetch(chosen, (stored,), folder, ignore_progress)[stored.source]

    def _copy(self, chosen: BackupSet, item: RestoreItem) -> Path | None:
        """The local copy of a source, which only a described set has, and no point of a chain."""
        path = self.directory.copy_of(chosen.id, item.stored.source)
        usable = item.stored.described and chosen.point is None and path.is_file()
        return path if usable else None
