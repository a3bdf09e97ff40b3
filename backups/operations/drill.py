"""Rehearsing a full restore of the newest restore point, from the store and timed.

get (store only, unsealed, checked) -> open as the application would -> report
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from backups.config import BackupConfig
from backups.errors import DrillFailed
from backups.format.chain_keys import set_of
from backups.host.state import HostState
from backups.model import BackupSet, ContentReport, DrillReport, ProgressSink, Trigger
from backups.operations.own_sets import OwnSets
from backups.runs.run import Recorder, RunStarter, StartedRun, ignore_progress
from backups.sets.catalogue import Catalogue
from backups.sets.fetch import Fetcher
from backups.sets.proof import size_of
from backups.sets.seal import load_identities
from backups.sets.verdicts import Verdicts
from backups.sources.room import Need, Room
from shared.clock import Clock
from shared.errors import AppError
from shared.words import counted


@dataclass(frozen=True, kw_only=True)
class Drill:
    """Starts drills, and knows how the last one went."""

    config: BackupConfig
    catalogue: Catalogue
    own_sets: OwnSets
    facts: HostState
    clock: Clock
    starter: RunStarter
    fetcher: Fetcher
    verdicts: Verdicts

    def begin(
        self,
        trigger: Trigger = "manual",
        *,
        identity_file: Path | None = None,
        progress: ProgressSink = ignore_progress,
    ) -> StartedRun:
        """Start the rehearsal of a full restore of the newest restore point, from the store.

        An `identity_file` is read at once, whether or not the set is encrypted: who names one wants
        to know that it works. Raises `IdentityMissing`, `KeyMalformed`, `NoRestorePoint`,
        `StoreError`, `LeaseHeld`.
        """
        if identity_file is not None:
            load_identities(identity_file)
        self.catalogue.refresh()
        chosen = self.own_sets.required_latest()

        def work(recorder: Recorder, staging: Path) -> str:
            return self._drill(recorder, chosen, staging, identity_file)

        return self.starter.begin("drill", trigger, work, progress)

    def last_report(self) -> DrillReport | None:
        """The newest drill on this host."""
        return self.facts.last_drill()

    def _drill(
        self, recorder: Recorder, backup_set: BackupSet, staging: Path, identity_file: Path | None
    ) -> str:
        """The report is remembered either way; raises what stopped it, after recording that."""
        began = time.perf_counter()
        reports: list[ContentReport] = []
        failure: AppError | None = None
        try:
            for content in self._open_each(recorder, backup_set, staging, identity_file):
                reports.append(content)
        except AppError as error:
            failure = error
        rows = sum(content.rows for content in reports)
        unreadable = sum(content.unreadable for content in reports)
        if unreadable and failure is None:
            failure = _unreadable(backup_set.id, rows, unreadable, reports)
        report = DrillReport(
            set_id=backup_set.id,
            at=self.clock.now(),
            seconds=round(time.perf_counter() - began, 3),
            rows=rows,
            unreadable=unreadable,
            failure=failure.message if failure else None,
        )
        self.facts.set_last_drill(report)
        if failure is not None:
            raise failure
        # A point has no folder of its own: what was rehearsed was its full as well.
        full = set_of(backup_set.point.chain) if backup_set.point else backup_set.id
        self.verdicts.note_drill(replace(report, set_id=full))
        return report.set_id

    def _open_each(
        self, recorder: Recorder, backup_set: BackupSet, staging: Path, identity_file: Path | None
    ) -> Iterator[ContentReport]:
        """What the application finds in each file of a set."""
        need = Need(staging, sum(map(size_of, backup_set.objects)))
        recorder.stage("get")
        recorder.keep_room(Room("a drill", [[need]], self.config.sources))
        files = self.fetcher.fetch_to_install(
            backup_set,
            backup_set.objects,
            staging,
            recorder.progress,
            copies=False,
            check=True,
            identity_file=identity_file,
        )
        recorder.stage("open")
        for stored in backup_set.objects:
            check = self.config.content_check(stored.source)
            rows = sum(stored.rows.values())
            yield check(files[stored.source]) if check else ContentReport(rows, 0)


def _unreadable(
    set_id: str, rows: int, unreadable: int, reports: Sequence[ContentReport]
) -> DrillFailed:
    about = " ".join(content.about for content in reports if content.about)
    if about:
        return DrillFailed(
            f"{unreadable} of {counted(rows, 'row')} of set {set_id} cannot be read. {about}",
            "Drill an older set: ./bot backups list",
        )
    return DrillFailed(
        f"{unreadable} of {counted(rows, 'row')} of set {set_id} cannot be decrypted with "
        "today's keys",
        "Add the key that encrypted them to TOKEN_ENCRYPTION_KEYS, after the first.",
    )
