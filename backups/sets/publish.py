"""How snapshots become a set in the store.

    seal -> put (each) -> proof (each, from the stored bytes) -> MANIFEST, the commit point

SQLite checks the snapshots meanwhile; what it finds counts before the manifest. Inside a stage, the
sources go side by side (where it computes, only if that leaves the bot a processor); the next one
begins when all are through. What fails before its manifest has published nothing, and takes back
what it had put.

One file, because what is taken back, and when, depends on each of these steps.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile
from pathlib import Path

from backups.config import APPLICATION, BackupConfig
from backups.format import manifest, naming
from backups.host.directory import BackupDirectory
from backups.host.removal import remove_file
from backups.model import (
    BackupSet,
    Progress,
    ProgressSink,
    ProofLevel,
    SetKind,
    SnapshotFile,
    Snapshots,
    Source,
    StoredObject,
    Trigger,
)
from backups.runs.log_files import source_log
from backups.runs.parallel import cpu_workers, in_parallel
from backups.runs.run import Recorder
from backups.sets import proof
from backups.sets.catalogue import Catalogue
from backups.sets.puts import Puts, Upload, put_document
from backups.sets.seal import SealedFile, most_sealed_bytes, seal
from backups.sets.second.noted import may_have
from backups.sources.checking.soundness import Soundness
from backups.sources.checking.soundness_checks import SoundnessChecks
from backups.sources.room import Need, Room, bytes_of, to_prove
from shared.clock import Clock
from shared.databases.sqlite import Database
from shared.errors import ObjectExists
from shared.logs import fields
from shared.store.object_store import ObjectStore

_log = logging.getLogger("backups.run")


@dataclass(frozen=True)
class SetFacts:
    """What a set is called and why it was made, apart from its files.

    `unreadable` has, by source, how many sampled values cannot be decrypted.
    """

    kind: SetKind
    trigger: Trigger
    complete: bool
    suspect: tuple[str, ...] | None
    unreadable: Mapping[str, int] = field(default_factory=dict)


def _least(
    prove: Callable[[proof.ProofTools, StoredObject], ProofLevel],
    tools: proof.ProofTools,
    objects: Sequence[StoredObject],
) -> ProofLevel:
    """The least level that the objects of a set reach; raises what `prove` does."""

    def prove_one(stored: StoredObject, report: ProgressSink) -> ProofLevel:
        level = prove(replace(tools, progress=report), stored)
        source_log(stored.source).info("proven", extra=fields(key=stored.key, proof=level))
        return level

    return (
        "sealed"
        if "sealed" in in_parallel(prove_one, objects, tools.progress, workers=cpu_workers())
        else "full"
    )


def _all_reasons(about: SetFacts, soundness: Mapping[str, Soundness]) -> tuple[str, ...] | None:
    """Why the set is suspect: what was known before, and what SQLite has found."""
    found = (one.suspicion(source) for source, one in soundness.items())
    return (*(about.suspect or ()), *(reason for reason in found if reason)) or None


def _take_back(puts: Puts, files: Sequence[SealedFile]) -> None:
    """Leave nothing of a set that is not published; of one that is, the scratch goes at the end."""
    puts.take_back()
    for sealed in files:
        if sealed.suffix:
            remove_file(sealed.path)


class Publisher:
    """Stores, proves and publishes sets; runs inside a run, which holds the lease."""

    def __init__(
        self,
        config: BackupConfig,
        store: ObjectStore,
        *,
        directory: BackupDirectory,
        catalogue: Catalogue,
        clock: Clock,
    ) -> None:
        self._config = config
        self._store = store
        self._directory = directory
        self._catalogue = catalogue
        self._clock = clock
        # What this host knows of the second place, if there is one.
        self.second_known: Database | None = None

    def check_store(self) -> None:
        """Raise `StoreError` unless the store takes objects and keeps what it has."""
        instance = self._directory.instance()
        self._store.check(
            naming.instance_key(self._config.prefix, instance),
            json.dumps({"instance": instance}).encode() + b"\n",
        )

    def ask_store(self) -> None:
        """One small request; raises `StoreError`, `ObjectMissing` for one that was answered."""
        key = naming.instance_key(self._config.prefix, self._directory.instance())
        self._store.head(key)

    def known_sequence(self) -> int:
        """The highest number that the catalogue knows to be taken. Raises `StoreError`."""
        return self._catalogue.next_sequence() - 1

    def room_for_backup(self, sources: Sequence[Source], staging: Path) -> Room:
        """The room that a backup of live databases needs, from its first copy to its proof."""
        sizes = [bytes_of(source) for source in sources]
        return self._room(sizes, staging, copies=sum(sizes))

    def _room(self, sizes: Sequence[int], staging: Path, *, copies: int) -> Room:
        """The room to publish snapshots of these sizes, which are `copies` bytes themselves.

        The proof writes no file. A store in a folder keeps what is put on a disk of this host.
        """
        sealed = sum(most_sealed_bytes(size, self._config.seal) for size in sizes)
        stored = sealed or sum(sizes)
        kept = [Need(Path(self._store.location), stored)] if self._store.kind == "directory" else []
        steps = [[Need(staging, copies + sealed), *kept]]
        return Room("a backup", steps, self._config.sources)

    def store_set(
        self,
        recorder: Recorder,
        snapshots: Snapshots,
        staging: Path,
        about: SetFacts,
        checks: SoundnessChecks,
    ) -> BackupSet:
        """Seal, put and prove the files of `snapshots`, then publish them as a set.

        The `checks` of all of them have begun.
        Raises `StoreError`, `ProofFailed`; `ObjectExists` when another installation has made a set
        in the same second.
        """
        set_id = naming.set_id(snapshots.instant)
        instance = self._directory.instance()
        recorder.stage("seal")
        recorder.keep_room(self._room([file.bytes for file in snapshots.files], staging, copies=0))
        sequence = snapshots.sequence or self._directory.next_sequence(self.known_sequence())
        puts = Puts(self._store, {"set-id": set_id, "instance": instance})

        files = self._seal(snapshots, recorder)
        recorder.stage("store")
        try:
            stored = self._put_all(puts, snapshots, files, recorder, about.kind)
            recorder.stage("proof")
            level = _least(proof.read_back, self._proof_tools(recorder, staging), stored)
            soundness = checks.results(
                [file.source for file in snapshots.files],
                partial(recorder.progress, Progress("proof")),
            )
            made = BackupSet(
                id=set_id,
                kind=about.kind,
                created_at=snapshots.instant,
                trigger=about.trigger,
                instance=instance,
                complete=about.complete,
                proven_at=self._clock.now(),
                # Of what SQLite cannot confirm, the proof is that it is what was copied.
                proof="sealed" if any(one.finding for one in soundness.values()) else level,
                suspect=_all_reasons(about, soundness),
                objects=tuple(
                    replace(
                        one,
                        unreadable=about.unreadable.get(one.source, 0),
                        finding=soundness[one.source].finding,
                    )
                    for one in stored
                ),
                recipients=self._config.seal.recipients,
                token_key=self._config.token_keys[0] if self._config.token_keys else None,
                sequence=sequence,
            )
            recorder.stage("manifest")
            document = self._manifest(made)
        except BaseException:
            _take_back(puts, files)
            raise
        try:
            self._publish(made, document)
        except ObjectExists:  # what is there is another's, so ours is not
            _take_back(puts, files)
            raise
        return made

    def prove(
        self,
        recorder: Recorder,
        objects: Sequence[StoredObject],
        staging: Path,
        *,
        restorable: bool = False,
    ) -> ProofLevel:
        """Open all objects of a set from the stored bytes; the least level that was reached.

        Raises `ProofFailed` for a definite verdict on the bytes; with `restorable`, also for what
        a restore in place refuses. A backup stores what the databases have, and names that itself.
        """
        identity = self._config.identity_file
        sizes = [proof.size_to_prove(stored, identity) for stored in objects]
        need = Need(staging, to_prove(sizes, cpu_workers()))
        recorder.keep_room(Room("a proof", [[need]], self._config.sources))
        tools = self._proof_tools(recorder, staging)
        if restorable:
            tools = replace(tools, schemas=dict(self._config.schemas))
        return _least(proof.prove_stored, tools, objects)

    def _proof_tools(self, recorder: Recorder, staging: Path) -> proof.ProofTools:
        return proof.ProofTools(self._store, staging, self._config.identity_file, recorder.progress)

    def _seal(self, snapshots: Snapshots, recorder: Recorder) -> list[SealedFile]:
        def seal_one(file: SnapshotFile, report: ProgressSink) -> SealedFile:
            def tick(done: int) -> None:
                report(Progress("seal", file.source, done, file.bytes))

            return seal(file.path, file.sha256, self._config.seal, tick)

        return in_parallel(seal_one, snapshots.files, recorder.progress, workers=cpu_workers())

    def _put_all(
        self,
        puts: Puts,
        snapshots: Snapshots,
        files: Sequence[SealedFile],
        recorder: Recorder,
        kind: SetKind,
    ) -> list[StoredObject]:
        """Put all files under the day's keys if these are free, else all under timed keys.

        Whether they are free in a store that is away nobody can say.
        """
        if kind == "set" and not self._config.is_stand_in and self._day_is_free(snapshots):
            try:
                uploads = self._uploads(snapshots, files, dated=True)
                return in_parallel(puts.put, uploads, recorder.progress)
            except ObjectExists:
                puts.take_back()
        uploads = self._uploads(snapshots, files, dated=False)
        return in_parallel(puts.put, uploads, recorder.progress)

    def _day_is_free(self, snapshots: Snapshots) -> bool:
        """Whether no object has the day's keys. Only the first set of a day asks the store."""
        prefix, instant = self._config.prefix, snapshots.instant
        stems = [naming.dated_stem(prefix, file.source, instant) for file in snapshots.files]

        def is_taken(file: SnapshotFile, keys: Iterable[str]) -> bool:
            return any(naming.takes_dated_stem(prefix, file.source, instant, key) for key in keys)

        day = instant.replace(hour=0, minute=0, second=0, microsecond=0)
        of_the_day = takewhile(lambda one: one.created_at >= day, self._catalogue.sets())
        known = [stored.key for one in of_the_day if not one.hollow for stored in one.objects]
        if any(is_taken(file, known) for file in snapshots.files):
            return False
        # Nothing is deleted there: what was under today's keys here, and is gone, still is there.
        if self.second_known is not None and may_have(self.second_known, stems):
            return False
        return not any(
            is_taken(file, (listed.key for listed in self._store.list(stem)))
            for file, stem in zip(snapshots.files, stems, strict=True)
        )

    def _uploads(
        self, snapshots: Snapshots, files: Sequence[SealedFile], *, dated: bool
    ) -> list[Upload]:
        return [
            Upload(
                file,
                sealed,
                naming.data_key(
                    self._config.prefix,
                    file.source,
                    snapshots.instant,
                    dated=dated,
                    suffix=sealed.suffix,
                ),
            )
            for file, sealed in zip(snapshots.files, files, strict=True)
        ]

    def _manifest(self, backup_set: BackupSet) -> bytes:
        """The manifest to be stored; raises `ManifestInvalid` for one that nobody would read."""
        key = naming.manifest_key(self._config.prefix, backup_set.id)
        document = manifest.dump_manifest(
            backup_set, application=APPLICATION, sqlite=sqlite3.sqlite_version
        )
        for mark in (False, True):  # what cannot be read cannot be marked, and a mark adds to it
            document = self._config.marks.sign(key, document) if mark else document
            manifest.load_manifest(document, prefix=self._config.prefix, expected_id=backup_set.id)
        return document

    def _publish(self, backup_set: BackupSet, document: bytes) -> None:
        """Write the manifest: from here on the set exists.

        When that fails, nothing is taken back: the answer may have been lost on its way, and
        a manifest without its objects would be worse than objects without a manifest.
        """
        key = naming.manifest_key(self._config.prefix, backup_set.id)
        metadata = {"set-id": backup_set.id, "instance": backup_set.instance}
        put_document(self._store, key, document, metadata)
        self._catalogue.add_manifest(backup_set.id, document)
        self._catalogue.note_contact()
