"""The order of things: what a backup and a verification do, step by step, and what is known.

    backup   check the store -> snapshot (all sources, one instant) -> put (each)
             -> proof (each, from the stored bytes) -> MANIFEST, the commit point
    verify   proof (each) -> verdict beside the manifest

A run that fails before its manifest has published nothing, and takes back what it had put.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, timedelta
from itertools import islice
from pathlib import Path

from backups import manifest, naming, proof, schedule
from backups.backup_directory import BackupDirectory
from backups.catalogue import Catalogue
from backups.errors import ProofFailed, SourceUnknown
from backups.health import HealthFacts, Status, assess
from backups.model import (
    BackupSet,
    Progress,
    ProgressSink,
    Run,
    SnapshotFile,
    Snapshots,
    Source,
    StoredObject,
    Trigger,
    Verdict,
)
from backups.operation import Operations, Recorder, StartedRun
from backups.runlog import RunLog
from backups.snapshot import take_snapshots
from shared.clock import Clock
from shared.crontab import Crontab
from shared.errors import ObjectExists, ObjectMissing, StoreError
from shared.logs import fields, log_files
from shared.object_store import ObjectStore

APPLICATION = "gpt-messenger-sales-bot 0.1.0"

_log = logging.getLogger("backups.run")


def ignore_progress(_: Progress) -> None:
    """The `ProgressSink` of a caller that does not watch."""


@dataclass(frozen=True)
class Plan:
    """What one installation backs up, how it calls it, and what it keeps nearby."""

    sources: tuple[Source, ...]
    schedule: Crontab
    prefix: str
    local_copies: int
    log_directory: Path | None
    busy_timeout: float


class BackupService:
    """Makes sets, proves them, and knows what there is.

    Its methods raise `AppError`s; a run that was started tells its failure in its `Run`.
    """

    def __init__(
        self,
        *,
        plan: Plan,
        store: ObjectStore,
        directory: BackupDirectory,
        runlog: RunLog,
        catalogue: Catalogue,
        clock: Clock,
    ) -> None:
        self.plan = plan
        self.catalogue = catalogue
        self.runlog = runlog
        self.directory = directory
        self._store = store
        self._clock = clock
        self._operations = Operations(runlog, directory, clock, self._log_files)

    # --- backup -------------------------------------------------------------------------

    def begin_backup(
        self,
        trigger: Trigger = "manual",
        *,
        only: str | None = None,
        progress: ProgressSink = ignore_progress,
    ) -> StartedRun:
        """Start a backup run of all sources, or of `only` one; the caller executes it.

        Raises `LeaseHeld` when another run is in progress, `SourceUnknown` for a bad `only`.
        """
        sources = self._chosen(only)
        started = self._operations.begin(
            "backup", trigger, self._backup_work(trigger, sources), progress
        )
        assert started is not None  # noqa: S101 - only a needless run is None
        return started

    def back_up_if_owed(self, trigger: Trigger) -> Run | None:
        """Run a backup unless a proven set is as young as the last due instant.

        Asked again under the lease, so that however many ask, one due instant gets one set.
        Raises `LeaseHeld` when another run is in progress.
        """
        if not self._owed(trigger):
            return None
        started = self._operations.begin(
            "backup",
            trigger,
            self._backup_work(trigger, self.plan.sources),
            ignore_progress,
            needless=lambda: not self._owed(trigger),
        )
        return started.execute() if started else None

    def _owed(self, trigger: Trigger) -> bool:
        now = self._clock.now()
        due = schedule.owed_since(self.plan.schedule, self.catalogue.newest_protecting(), now)
        if due is None:
            return False
        failures = self.runlog.automatic_failures_since(due)
        return trigger == "scheduled" or schedule.may_try(failures, now)

    def _chosen(self, only: str | None) -> tuple[Source, ...]:
        if only is None:
            return self.plan.sources
        chosen = tuple(source for source in self.plan.sources if source.name == only)
        if not chosen:
            names = ", ".join(source.name for source in self.plan.sources)
            raise SourceUnknown(f"there is no source {only!r}", f"The sources are: {names}.")
        return chosen

    def _backup_work(
        self, trigger: Trigger, sources: tuple[Source, ...]
    ) -> Callable[[Recorder], str]:
        def work(recorder: Recorder) -> str:
            with self.directory.staging(recorder.run.id) as staging:
                _log.info("backup begins", extra=fields(run=recorder.run.id, trigger=trigger))
                return self._back_up(recorder, trigger, sources, staging)

        return work

    def _back_up(
        self, recorder: Recorder, trigger: Trigger, sources: tuple[Source, ...], staging: Path
    ) -> str:
        recorder.stage("check")
        instance = self.directory.instance()
        self._store.check(
            naming.instance_key(self.plan.prefix, instance),
            json.dumps({"instance": instance}).encode() + b"\n",
        )
        recorder.stage("snapshot")
        snapshots = self._take(sources, staging, recorder)
        set_id = naming.set_id(snapshots.instant)
        recorder.stage("store")
        put = _Put(self._store, {"set-id": set_id, "instance": instance})
        try:
            objects = self._put_all(put, snapshots, recorder)
            recorder.stage("proof")
            for stored in objects:
                proof.prove_stored(self._store, stored, staging, recorder.progress)
                _source_log(stored.source).info("proven", extra=fields(key=stored.key))
            backup_set = BackupSet(
                id=set_id,
                kind="set",
                created_at=snapshots.instant,
                trigger=trigger,
                instance=instance,
                complete=sources == self.plan.sources,
                proven_at=self._clock.now(),
                proof="full",
                suspect=None,
                objects=objects,
            )
            recorder.stage("manifest")
        except BaseException:
            put.take_back()
            raise
        self._publish(backup_set)
        if backup_set.complete:
            self.directory.keep_copies(
                set_id, [file.path for file in snapshots.files], self.plan.local_copies
            )
        return set_id

    def _take(self, sources: Sequence[Source], staging: Path, recorder: Recorder) -> Snapshots:
        """Take the snapshots in a second that has no set yet."""
        while True:
            while self.catalogue.has(naming.set_id(self._clock.now())):
                self._wait_for_next_second()
            snapshots = take_snapshots(
                sources,
                staging,
                self._clock,
                recorder.progress,
                busy_timeout=self.plan.busy_timeout,
            )
            try:
                self._store.head(
                    naming.manifest_key(self.plan.prefix, naming.set_id(snapshots.instant))
                )
            except ObjectMissing:
                break
            for file in snapshots.files:
                file.path.unlink()
            self._wait_for_next_second()
        for file in snapshots.files:
            _source_log(file.source).info(
                "snapshot",
                extra=fields(
                    instant=naming.set_id(snapshots.instant),
                    bytes=file.bytes,
                    rows=sum(file.facts.rows.values()),
                    same_instant=file.same_instant,
                ),
            )
        return snapshots

    def _wait_for_next_second(self) -> None:
        now = self._clock.now()
        next_second = now.replace(microsecond=0) + timedelta(seconds=1)
        self._clock.sleep((next_second - now).total_seconds())

    def _put_all(
        self, put: _Put, snapshots: Snapshots, recorder: Recorder
    ) -> tuple[StoredObject, ...]:
        """Put all files under the day's keys if these are free, else all under timed keys."""
        if self._day_is_free(snapshots):
            try:
                return self._put_under(put, snapshots, recorder, dated=True)
            except ObjectExists:
                put.take_back()
        return self._put_under(put, snapshots, recorder, dated=False)

    def _day_is_free(self, snapshots: Snapshots) -> bool:
        prefix, instant = self.plan.prefix, snapshots.instant
        return not any(
            naming.takes_dated_stem(prefix, file.source, instant, found.key)
            for file in snapshots.files
            for found in self._store.list(naming.dated_stem(prefix, file.source, instant))
        )

    def _put_under(
        self, put: _Put, snapshots: Snapshots, recorder: Recorder, *, dated: bool
    ) -> tuple[StoredObject, ...]:
        objects = []
        for file in snapshots.files:
            key = naming.data_key(self.plan.prefix, file.source, snapshots.instant, dated=dated)
            put.file(key, file, recorder.progress)
            _source_log(file.source).info("stored", extra=fields(key=key, bytes=file.bytes))
            objects.append(_stored(file, key))
        return tuple(objects)

    def _publish(self, backup_set: BackupSet) -> None:
        """Write the manifest: from here on the set exists.

        When that fails, nothing is taken back: the answer may have been lost on its way, and
        a manifest without its objects would be worse than objects without a manifest.
        """
        key = naming.manifest_key(self.plan.prefix, backup_set.id)
        document = manifest.dump_manifest(
            backup_set, application=APPLICATION, sqlite=sqlite3.sqlite_version
        )
        self._put_document(key, document, backup_set.id, backup_set.instance)
        self.catalogue.add_manifest(backup_set.id, document)
        self.catalogue.note_contact()

    def _put_document(self, key: str, document: bytes, set_id: str, instance: str) -> None:
        metadata = {"set-id": set_id, "instance": instance, "sha256": _sha256(document)}
        self._store.put(key, io.BytesIO(document), metadata)
        found = io.BytesIO()
        with suppress(ObjectMissing):
            self._store.get(key, found)
        if found.getvalue() != document:
            raise ProofFailed(
                f"{key} was accepted by the store, and reads back as something else",
                "Do not trust this store; look at its provider's status, then run again.",
            )

    # --- verify -------------------------------------------------------------------------

    def begin_verify(
        self, set_id: str | None = None, progress: ProgressSink = ignore_progress
    ) -> StartedRun:
        """Start proving a stored set again, by default the newest; the caller executes it.

        Raises `SetNotFound`, `StoreError` when the catalogue cannot be refreshed, `LeaseHeld`.
        """
        self.catalogue.refresh()
        backup_set = self.catalogue.get(set_id) if set_id else self._latest()

        def work(recorder: Recorder) -> str:
            with self.directory.staging(recorder.run.id) as staging:
                return self._verify(recorder, backup_set, staging)

        started = self._operations.begin("verify", "manual", work, progress)
        assert started is not None  # noqa: S101 - only a needless run is None
        return started

    def _latest(self) -> BackupSet:
        newest = self.catalogue.newest_protecting()
        return newest if newest is not None else self.catalogue.get("latest")

    def _verify(self, recorder: Recorder, backup_set: BackupSet, staging: Path) -> str:
        recorder.stage("proof")
        try:
            for stored in backup_set.objects:
                proof.prove_stored(self._store, stored, staging, recorder.progress)
                _source_log(stored.source).info("proven again", extra=fields(key=stored.key))
        except ProofFailed as failure:
            self._give_verdict(Verdict(backup_set.id, self._clock.now(), "none", failure.message))
            raise
        self._give_verdict(Verdict(backup_set.id, self._clock.now(), "full", "read back"))
        return backup_set.id

    def _give_verdict(self, verdict: Verdict) -> None:
        try:
            key, document = self._put_verdict(verdict)
        except ObjectExists:  # there has been a verdict in this second
            self._wait_for_next_second()
            verdict = replace(verdict, at=self._clock.now())
            key, document = self._put_verdict(verdict)
        parsed = naming.parse_set_key(self.plan.prefix, key)
        assert parsed is not None  # noqa: S101 - naming reads what it writes
        self.catalogue.add_verdict(verdict, parsed[1], document)
        self.catalogue.note_contact()

    def _put_verdict(self, verdict: Verdict) -> tuple[str, bytes]:
        key = naming.verdict_key(self.plan.prefix, verdict.set_id, "proof", verdict.at)
        document = manifest.dump_verdict(verdict)
        self._put_document(key, document, verdict.set_id, self.directory.instance())
        return key, document

    # --- what there is ------------------------------------------------------------------

    def list_sets(self, limit: int, before: str | None = None) -> tuple[list[BackupSet], bool]:
        """At most `limit` restore points, newest first; whether there are more; no network."""
        found = list(islice(self.catalogue.sets(before), limit + 1))
        return found[:limit], len(found) > limit

    def list_runs(self, limit: int, before: str | None = None) -> tuple[list[Run], bool]:
        """At most `limit` runs, newest first; whether there are more."""
        self._operations.close_dead_runs()
        found = self.runlog.page(limit + 1, before)
        return found[:limit], len(found) > limit

    def refresh(self) -> StoreError | None:
        """Refresh the catalogue; the error when the store cannot be asked."""
        try:
            self.catalogue.refresh()
        except StoreError as error:
            return error
        return None

    def status(self) -> Status:
        """The state of the backups, without the network."""
        self._operations.close_dead_runs()
        now = self._clock.now()
        newest = self.catalogue.newest_protecting()
        last_run = self.runlog.last("backup", "succeeded", "failed", "interrupted")
        owner = self.directory.scheduler_lease.holder()
        health = assess(
            HealthFacts(
                now=now,
                schedule=self.plan.schedule,
                offsite=self._store.offsite,
                location=self._store.location,
                scheduled=owner is not None,
                newest=newest,
                last_run=last_run,
            )
        )
        return Status(
            health=health,
            cron=self.plan.schedule.expression,
            next_run_at=self.plan.schedule.next_after(now).astimezone(UTC),
            owner=owner,
            kind=self._store.kind,
            offsite=self._store.offsite,
            location=self._store.location,
            last_contact_at=self.catalogue.last_contact_at(),
            running=self.runlog.running(),
            last_run=last_run,
            last_success=self.runlog.last("backup", "succeeded"),
            newest_restore_point=newest,
            restore_points=self.catalogue.count(),
        )

    def stop(self) -> None:
        """Ask the work of this process to stop at the next safe place; for shutting down."""
        self._operations.stop()

    def _log_files(self) -> AbstractContextManager[None]:
        return log_files(
            self.plan.log_directory,
            {
                f"backup_{source.name}.log": ("backups.run", f"backups.{source.name}")
                for source in self.plan.sources
            },
        )


class _Put:
    """The puts of one run, and the way to take them back."""

    def __init__(self, store: ObjectStore, metadata: dict[str, str]) -> None:
        self._store = store
        self._metadata = metadata
        self._keys: list[str] = []

    def file(self, key: str, file: SnapshotFile, progress: ProgressSink) -> None:
        """Put a snapshot file under a new key; raises `ObjectExists` when it is taken."""

        def report(done: int) -> None:
            progress(Progress("store", file.source, done, file.bytes))

        with file.path.open("rb") as body:
            self._keys.append(key)  # before the put: it may succeed without our knowing
            self._store.put(key, body, {**self._metadata, "sha256": file.sha256}, report)

    def take_back(self) -> None:
        """Delete what this run put, and nothing else; a failure leaves it to the sweep."""
        while self._keys:
            key = self._keys.pop()
            try:
                found = self._store.head(key).metadata
                if all(found.get(name) == value for name, value in self._metadata.items()):
                    self._store.delete(key)
            except ObjectMissing:
                continue
            except StoreError as error:
                _log.warning("left behind: %s", error.message, extra=fields(key=key))


def _stored(file: SnapshotFile, key: str) -> StoredObject:
    return StoredObject(
        source=file.source,
        key=key,
        bytes=file.bytes,
        sha256=file.sha256,
        snapshot_bytes=file.bytes,
        snapshot_sha256=file.sha256,
        page_size=file.facts.page_size,
        page_count=file.facts.page_count,
        user_version=file.facts.user_version,
        rows=file.facts.rows,
        same_instant=file.same_instant,
        journal_mode=file.journal_mode,
    )


def _source_log(source: str) -> logging.Logger:
    return logging.getLogger(f"backups.{source}")


def _sha256(document: bytes) -> str:
    return hashlib.sha256(document).hexdigest()
