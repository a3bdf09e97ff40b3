"""Rows that a restore of an older point does not take back: they are carried over into it.

What they are, the owner of the source knows (`CarryOver`): here it is only asked. They come from
what is replaced, of which a copy is made while nobody can write. Where that is damaged, missing or
was begun empty, they come from the newest restore point of this installation.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backups.config import BackupConfig
from backups.errors import RunInterrupted, RunTimedOut
from backups.host.state import HostState
from backups.model import BackupSet, Source
from backups.operations.own_sets import OwnSets
from backups.runs.log_files import source_log
from backups.runs.run import Recorder
from backups.sets.fetch import Fetcher
from backups.sources.install import make_own
from backups.sources.live import look_at
from shared.errors import AppError
from shared.files import make_private_directory
from shared.logs import fields

_log = logging.getLogger("backups.run")


@dataclass(frozen=True, kw_only=True)
class CarriedRows:
    """Carries rows over. What cannot be read is no obstacle to a restore: the log names it."""

    config: BackupConfig
    own_sets: OwnSets
    facts: HostState
    fetcher: Fetcher

    def from_former(
        self, source: str, former: Path, coming: Path, own: Callable[[Path], None] = make_own
    ) -> None:
        """Carry the rows of a copy of what is replaced over into the file that replaces it.

        `own` makes that one that may be written to, or raises.
        """
        carry = dict(self.config.carry_overs).get(source)
        if carry is None:
            return
        try:
            count = carry(former, coming, lambda: own(coming))
        except AppError as error:
            source_log(source).warning(
                "what came after the restored point was not carried over into it: %s [%s]",
                error.message,
                error.code,
            )
            return
        if count:
            source_log(source).info("rows were carried over", extra=fields(rows=count))

    def from_newest(
        self,
        recorder: Recorder,
        chosen: BackupSet,
        sources: Sequence[Source],
        files: Mapping[str, Path],
        staging: Path,
    ) -> None:
        """The same from the newest restore point, for the sources whose live data has nothing.

        `files` are what is to be installed of the restore point that was `chosen`.
        """
        wanted = {source.name for source in sources if self._has_nothing(source)}
        folder = staging / "newest"
        try:
            if not wanted:
                return
            away = self.own_sets.refresh()  # a restore of files in hand has not asked the store
            newest = self.own_sets.asked_latest()
            if newest is None and away is not None:
                raise away
            if newest is None or newest.id == chosen.id:
                return
            objects = [one for one in newest.objects if one.source in wanted]
            make_private_directory(folder)
            found = self.fetcher.fetch_to_install(newest, objects, folder, recorder.progress)
        except (RunInterrupted, RunTimedOut):
            raise
        except AppError as error:
            _log.error(
                "what came after the restored point may be missing from it: the newest restore "
                "point could not be read: %s [%s]",
                error.message,
                error.code,
            )
        else:
            for source, path in found.items():
                self.from_former(source, path, files[source])
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _has_nothing(self, source: Source) -> bool:
        if source.name not in dict(self.config.carry_overs):
            return False
        if source.name in self.facts.started_empty():
            return True
        return look_at(source, self.config.busy_timeout).state != "healthy"
