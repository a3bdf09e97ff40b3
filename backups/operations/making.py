"""The order of a backup and of a verification, step by step.

    backup   check the store -> snapshot (all sources, one instant) -> seal -> put (each)
             -> proof (each, from the stored bytes) -> MANIFEST, the commit point
    verify   proof (each) -> verdict beside the manifest

Inside a stage, the sources go side by side (where it computes, only if that leaves the bot a
processor); the next one begins when all are through. A backup that fails before its manifest has
published nothing, and takes back what it had put.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType

from backups.decisions.suspicion import suspicions
from backups.errors import ProofFailed
from backups.format import manifest, naming
from backups.host.removal import remove_file
from backups.model import (
    BackupSet,
    DrillReport,
    Progress,
    ProgressSink,
    ProofLevel,
    SetKind,
    SnapshotFile,
    Snapshots,
    Source,
    StoredObject,
    Trigger,
    Verdict,
)
from backups.operations.installation import APPLICATION, Installation, source_log
from backups.runs.parallel import cpu_workers, in_parallel
from backups.runs.run import Recorder
from backups.sets import proof
from backups.sets.seal import SealedFile, seal
from backups.sources.snapshot import take_snapshots
from shared.clock import format_utc
from shared.errors import AppError, ObjectExists, ObjectMissing, StoreError
from shared.logs import fields
from shared.store.object_store import ObjectStore

_log = logging.getLogger("backups.run")


@dataclass(frozen=True)
class SetFacts:
    """What a set is called and why it was made, apart from its files."""

    kind: SetKind
    trigger: Trigger
    complete: bool
    suspect: tuple[str, ...] | None


class Maker:
    """Makes sets and proves them; runs inside an operation, which holds the lease."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._plan = installation.plan
        self._store = installation.store
        self._directory = installation.directory
        self._catalogue = installation.catalogue
        self._clock = installation.clock

    def back_up(
        self,
        recorder: Recorder,
        sources: tuple[Source, ...],
        staging: Path,
        about: SetFacts,
        baseline: BackupSet | None,
    ) -> BackupSet:
        """A new set of `sources`, stored, proven and published.

        It is suspect when it looks damaged beside `baseline`, the last proven set.
        """
        recorder.stage("check")
        self.check_store()
        recorder.stage("snapshot")
        snapshots = self._take(sources, staging, recorder)
        about, unreadable = self._guard(snapshots, about, baseline)
        made = self.store_set(recorder, snapshots, staging, about, unreadable)
        if made.complete:
            self._directory.keep_copies(
                made.id, [file.path for file in snapshots.files], self._plan.local_copies
            )
        return made

    def _guard(
        self, snapshots: Snapshots, about: SetFacts, baseline: BackupSet | None
    ) -> tuple[SetFacts, dict[str, int]]:
        unreadable = {
            file.source: check(file.path).unreadable
            for file in snapshots.files
            if (check := dict(self._plan.readability_checks).get(file.source))
        }
        volatile = frozenset(source.name for source in self._plan.sources if source.volatile)
        found = suspicions(snapshots.files, baseline, volatile, unreadable)
        for reason in found:
            _log.warning("suspect: %s", reason)
        return replace(about, suspect=(*(about.suspect or ()), *found) or None), unreadable

    def check_store(self) -> None:
        """Raise `StoreError` unless the store takes objects and keeps what it has."""
        instance = self._directory.instance()
        self._store.check(
            naming.instance_key(self._plan.prefix, instance),
            json.dumps({"instance": instance}).encode() + b"\n",
        )

    def store_set(
        self,
        recorder: Recorder,
        snapshots: Snapshots,
        staging: Path,
        about: SetFacts,
        unreadable: Mapping[str, int] = MappingProxyType({}),
    ) -> BackupSet:
        """Seal, put and prove the files of `snapshots`, then publish them as a set."""
        set_id = naming.set_id(snapshots.instant)
        instance = self._directory.instance()
        recorder.stage("seal")
        files = self._seal(snapshots, recorder)
        recorder.stage("store")
        put = _Put(self._store, {"set-id": set_id, "instance": instance})
        try:
            objects = tuple(
                replace(stored, unreadable=unreadable.get(stored.source, 0))
                for stored in self._put_all(put, snapshots, files, recorder, about.kind)
            )
            for sealed in files.values():
                if sealed.suffix:  # the proof needs the room
                    remove_file(sealed.path)
            recorder.stage("proof")
            level = self._prove(objects, staging, recorder)
            made = BackupSet(
                id=set_id,
                kind=about.kind,
                created_at=snapshots.instant,
                trigger=about.trigger,
                instance=instance,
                complete=about.complete,
                proven_at=self._clock.now(),
                proof=level,
                suspect=about.suspect,
                objects=objects,
                recipients=self._plan.seal.recipients,
                token_key=self._plan.token_keys[0] if self._plan.token_keys else None,
            )
            recorder.stage("manifest")
        except BaseException:
            put.take_back()
            raise
        self._publish(made)
        return made

    def verify(self, recorder: Recorder, backup_set: BackupSet, staging: Path) -> str:
        """Prove a stored set again, and leave the verdict beside it."""
        recorder.concerns(backup_set.id)
        recorder.stage("proof")
        try:
            level = self._prove(backup_set.objects, staging, recorder)
        except ProofFailed as failure:
            self._give_verdict(Verdict(backup_set.id, self._clock.now(), "none", failure.message))
            raise
        self._give_verdict(Verdict(backup_set.id, self._clock.now(), level, "read back"))
        return backup_set.id

    def _take(self, sources: Sequence[Source], staging: Path, recorder: Recorder) -> Snapshots:
        """Take the snapshots in a second that has no set yet."""
        while True:
            self.free_instant()
            snapshots = take_snapshots(
                sources,
                staging,
                self._clock,
                recorder.progress,
                busy_timeout=self._plan.busy_timeout,
            )
            try:
                self._store.head(
                    naming.manifest_key(self._plan.prefix, naming.set_id(snapshots.instant))
                )
            except ObjectMissing:
                break
            for file in snapshots.files:
                remove_file(file.path)
            self._wait_for_next_second()
        for file in snapshots.files:
            source_log(file.source).info(
                "snapshot",
                extra=fields(
                    instant=naming.set_id(snapshots.instant),
                    bytes=file.bytes,
                    rows=sum(file.facts.rows.values()),
                    same_instant=file.same_instant,
                ),
            )
        return snapshots

    def free_instant(self) -> datetime:
        """The present instant, in a second that has no set yet on this host."""
        while self._catalogue.has(naming.set_id(self._clock.now())):
            self._wait_for_next_second()
        return self._clock.now()

    def _wait_for_next_second(self) -> None:
        now = self._clock.now()
        next_second = now.replace(microsecond=0) + timedelta(seconds=1)
        self._clock.sleep((next_second - now).total_seconds())

    def _seal(self, snapshots: Snapshots, recorder: Recorder) -> dict[str, SealedFile]:
        def seal_one(file: SnapshotFile, report: ProgressSink) -> SealedFile:
            def tick(done: int) -> None:
                report(Progress("seal", file.source, done, file.bytes))

            return seal(file.path, file.sha256, self._plan.seal, tick)

        sealed = in_parallel(seal_one, snapshots.files, recorder.progress, workers=cpu_workers())
        return {file.source: one for file, one in zip(snapshots.files, sealed, strict=True)}

    def _prove(
        self, objects: Sequence[StoredObject], staging: Path, recorder: Recorder
    ) -> ProofLevel:
        def prove_one(stored: StoredObject, report: ProgressSink) -> ProofLevel:
            tools = proof.ProofTools(self._store, staging, self._plan.identity_file, report)
            level = proof.prove_stored(tools, stored)
            source_log(stored.source).info("proven", extra=fields(key=stored.key, proof=level))
            return level

        levels = in_parallel(prove_one, objects, recorder.progress, workers=cpu_workers())
        return "sealed" if "sealed" in levels else "full"

    def _put_all(
        self,
        put: _Put,
        snapshots: Snapshots,
        files: dict[str, SealedFile],
        recorder: Recorder,
        kind: SetKind,
    ) -> tuple[StoredObject, ...]:
        """Put all files under the day's keys if these are free, else all under timed keys."""
        if kind == "set" and self._day_is_free(snapshots):
            try:
                return self._put_under(put, snapshots, files, recorder, dated=True)
            except ObjectExists:
                put.take_back()
        return self._put_under(put, snapshots, files, recorder, dated=False)

    def _day_is_free(self, snapshots: Snapshots) -> bool:
        prefix, instant = self._plan.prefix, snapshots.instant
        return not any(
            naming.takes_dated_stem(prefix, file.source, instant, found.key)
            for file in snapshots.files
            for found in self._store.list(naming.dated_stem(prefix, file.source, instant))
        )

    def _put_under(
        self,
        put: _Put,
        snapshots: Snapshots,
        files: dict[str, SealedFile],
        recorder: Recorder,
        *,
        dated: bool,
    ) -> tuple[StoredObject, ...]:
        def put_one(file: SnapshotFile, report: ProgressSink) -> StoredObject:
            sealed = files[file.source]
            key = naming.data_key(
                self._plan.prefix,
                file.source,
                snapshots.instant,
                dated=dated,
                suffix=sealed.suffix,
            )
            put.file(key, file.source, sealed, report)
            source_log(file.source).info("stored", extra=fields(key=key, bytes=sealed.bytes))
            return _stored(file, sealed, key)

        return tuple(in_parallel(put_one, snapshots.files, recorder.progress))

    def _publish(self, backup_set: BackupSet) -> None:
        """Write the manifest: from here on the set exists.

        When that fails, nothing is taken back: the answer may have been lost on its way, and
        a manifest without its objects would be worse than objects without a manifest.
        """
        key = naming.manifest_key(self._plan.prefix, backup_set.id)
        document = manifest.dump_manifest(
            backup_set, application=APPLICATION, sqlite=sqlite3.sqlite_version
        )
        self._put_document(key, document, backup_set.id, backup_set.instance)
        self._catalogue.add_manifest(backup_set.id, document)
        self._catalogue.note_contact()

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

    def note_drill(self, report: DrillReport) -> None:
        """Leave a drill's report beside the manifest; a failure is logged, never raised."""
        key = naming.verdict_key(self._plan.prefix, report.set_id, "drill", report.at)
        document = manifest.dump_drill(report)
        try:
            self._put_document(key, document, report.set_id, self._directory.instance())
        except AppError as error:
            _log.warning("the drill's report stays on this host: %s", error.message)
        else:
            self._note_verdict(report.set_id, key, document)

    def accept(self, set_id: str) -> None:
        """Leave beside a set that a person has looked at it, and clears it of suspicion."""
        try:
            self._put_acceptance(set_id)
        except ObjectExists:  # it was accepted in this second
            self._wait_for_next_second()
            self._put_acceptance(set_id)

    def _put_acceptance(self, set_id: str) -> None:
        at = self._clock.now()
        key = naming.verdict_key(self._plan.prefix, set_id, "accept", at)
        document = json.dumps({"format": manifest.FORMAT, "set_id": set_id, "at": format_utc(at)})
        encoded = document.encode() + b"\n"
        self._put_document(key, encoded, set_id, self._directory.instance())
        self._note_verdict(set_id, key, encoded)

    def _note_verdict(self, set_id: str, key: str, document: bytes) -> None:
        parsed = naming.parse_set_key(self._plan.prefix, key)
        assert parsed is not None  # noqa: S101 - naming reads what it writes
        self._catalogue.add_verdict(set_id, parsed[1], document)
        self._catalogue.note_contact()

    def _give_verdict(self, verdict: Verdict) -> None:
        try:
            key, document = self._put_verdict(verdict)
        except ObjectExists:  # there has been a verdict in this second
            self._wait_for_next_second()
            verdict = replace(verdict, at=self._clock.now())
            key, document = self._put_verdict(verdict)
        self._note_verdict(verdict.set_id, key, document)

    def _put_verdict(self, verdict: Verdict) -> tuple[str, bytes]:
        key = naming.verdict_key(self._plan.prefix, verdict.set_id, "proof", verdict.at)
        document = manifest.dump_verdict(verdict)
        self._put_document(key, document, verdict.set_id, self._directory.instance())
        return key, document


class _Put:
    """The puts of one run, and the way to take them back."""

    def __init__(self, store: ObjectStore, metadata: dict[str, str]) -> None:
        self._store = store
        self._metadata = metadata
        self._keys: list[str] = []

    def file(self, key: str, source: str, file: SealedFile, progress: ProgressSink) -> None:
        """Put a sealed file under a new key; raises `ObjectExists` when it is taken."""

        def report(done: int) -> None:
            progress(Progress("store", source, done, file.bytes))

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


def _stored(file: SnapshotFile, sealed: SealedFile, key: str) -> StoredObject:
    return StoredObject(
        source=file.source,
        key=key,
        bytes=sealed.bytes,
        sha256=sealed.sha256,
        snapshot_bytes=file.bytes,
        snapshot_sha256=file.sha256,
        page_size=file.facts.page_size,
        page_count=file.facts.page_count,
        user_version=file.facts.user_version,
        rows=file.facts.rows,
        same_instant=file.same_instant,
        journal_mode=file.journal_mode,
        schema=file.facts.schema,
    )


def _sha256(document: bytes) -> str:
    return hashlib.sha256(document).hexdigest()
