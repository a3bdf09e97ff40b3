"""What is written beside a manifest: verdicts, the reports of drills, acceptances."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from backups.errors import SetNotFound
from backups.format import manifest, naming
from backups.format.acceptance import Acceptance, dump_acceptance
from backups.format.mark import Marks, sha256_of
from backups.format.notes.deletion import Deletion, dump_deletion
from backups.format.pin import Pin, dump_pin
from backups.host.directory import BackupDirectory
from backups.model import DrillReport, ProofLevel, Verdict
from backups.sets.catalogue import Catalogue
from backups.sets.judging import LIST
from backups.sets.puts import put_document, wait_for_next_second
from shared.clock import Clock
from shared.errors import AppError, ObjectExists
from shared.store.object_store import ObjectStore

_log = logging.getLogger("backups.run")


class Verdicts:
    """Writes documents beside the manifests in the store, and into the catalogue."""

    def __init__(
        self,
        prefix: str,
        store: ObjectStore,
        *,
        marks: Marks,
        directory: BackupDirectory,
        catalogue: Catalogue,
        clock: Clock,
    ) -> None:
        self._prefix = prefix
        self._store = store
        self._marks = marks
        self._directory = directory
        self._catalogue = catalogue
        self._clock = clock

    def note_proof(self, set_id: str, level: ProofLevel, detail: str) -> None:
        """Leave the outcome of a later proof of a set. Raises `StoreError`, `ProofFailed`."""
        of = self._manifest_sha256(set_id)
        self._put_now(
            set_id,
            "proof",
            lambda at: manifest.dump_verdict(Verdict(set_id, at, level, detail, of)),
        )
        if level != "none":
            self._catalogue.note_seen(set_id)

    def note_acceptance(self, set_id: str) -> None:
        """Leave that a person has looked at a set, and clears it of what is known now.

        Raises `ManifestInvalid`, `StoreError`, `ProofFailed`.
        """
        documents = self._catalogue.documents(set_id)
        own = documents.get(naming.MANIFEST)
        reasons = (
            manifest.load_manifest(own, prefix=self._prefix, expected_id=set_id).suspect
            if own
            else None
        )
        proofs = tuple(sorted(name for name in documents if name.startswith("proof-")))

        def acceptance(at: datetime) -> bytes:
            return dump_acceptance(
                Acceptance(
                    set_id,
                    at,
                    manifest=sha256_of(own) if own else None,
                    reasons=reasons or (),
                    proofs=proofs,
                )
            )

        self._put_now(set_id, "accept", acceptance)

    def note_pin(self, set_id: str, label: str | None) -> None:
        """Leave that a person keeps a set, with a label; None: no longer.

        Raises `StoreError`, `ProofFailed`.
        """
        self._put_now(
            set_id, "pin", lambda at: dump_pin(Pin(set_id, at, label is not None, label or ""))
        )

    def note_deletion(self, set_id: str) -> None:
        """Leave that a person has deleted a set: from now on it is none.

        Raises `SetNotFound` where its manifest is not known, `StoreError`, `ProofFailed`.
        """
        of = self._manifest_sha256(set_id)
        if of is None:
            raise SetNotFound(f"the manifest of {set_id} is not known", LIST)
        self._put_now(set_id, "deleted", lambda at: dump_deletion(Deletion(set_id, at, of)))

    def _manifest_sha256(self, set_id: str) -> str | None:
        own = self._catalogue.documents(set_id).get(naming.MANIFEST)
        return sha256_of(own) if own else None

    def note_drill(self, report: DrillReport) -> None:
        """Leave the report of a drill; a failure is logged, never raised."""
        try:
            self._put(report.set_id, "drill", report.at, manifest.dump_drill(report))
        except AppError as error:
            _log.warning(
                "the drill's report could not be stored, and stays on this host: %s", error.message
            )

    def _put_now(self, set_id: str, kind: str, dump: Callable[[datetime], bytes]) -> None:
        at = self._clock.now()
        try:
            self._put(set_id, kind, at, dump(at))
        except ObjectExists:  # there has been one in this second
            wait_for_next_second(self._clock)
            at = self._clock.now()
            self._put(set_id, kind, at, dump(at))

    def _put(self, set_id: str, kind: str, at: datetime, document: bytes) -> None:
        key = naming.verdict_key(self._prefix, set_id, kind, at)
        document = self._marks.sign(key, document)
        metadata = {"set-id": set_id, "instance": self._directory.instance()}
        put_document(self._store, key, document, metadata)
        parsed = naming.parse_set_key(self._prefix, key)
        assert parsed is not None  # noqa: S101 - naming reads what it writes
        self._catalogue.add_verdict(set_id, parsed[1], document)
        self._catalogue.note_contact()
