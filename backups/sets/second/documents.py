"""Copying the application's documents to the second place, each overwritten one as a new version.

    list both places -> each document whose tag is not the one that was copied: put, read back
                     -> each that is there alone, and was to be deleted: an empty version

Documents have no marks, so whatever lies under the key of one is copied; what was there before
stays beneath it. The end of what was deleted on request goes there, too, so that nothing brings it
back; what is there alone otherwise was lost here.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from backups.errors import ProofFailed, RunInterrupted
from backups.vocabulary.second import Differences, DocumentsConfig
from shared.databases.sqlite import Database
from shared.errors import (
    AppError,
    ObjectArchived,
    ObjectMissing,
    ObjectTooLarge,
    StoreAccessDenied,
    StoreFailing,
)
from shared.store.append_only import VersionedBucket
from shared.store.object_store import BoundedSink, ObjectInfo, ObjectStore, Sink

# When what the second place does not show was received: nobody knows.
_LATEST = datetime.max.replace(tzinfo=UTC)

# See `backups.sets.second.copying`.
_OF_ONE = (ObjectMissing, StoreAccessDenied, StoreFailing)
_FAULTS_IN_A_ROW = 3
# After so many others are left for the next time.
_MOST_FAULTS = 60

_log = logging.getLogger("backups.copy")

# What is said of an account by its folder, about what the second place received at a time: it has
# its user, its documents were to be deleted since, or nobody knows.
Fate = Literal["kept", "forgotten", "unknown"]
FateOf = Callable[[str, datetime], Fate]


class _Tags(NamedTuple):
    """What changes with the bytes of a document, in either place."""

    first: str
    second: str


@dataclass
class CopiedDocuments:
    """What a copying did, and what it left; see `DocumentsState`. With `ran_out` of its time it did
    not come to all of it."""

    copied: int = 0
    documents: int = 0
    waiting: int = 0
    too_large: int = 0
    gone: int = 0
    behind_since: datetime | None = None
    error: AppError | None = None
    ran_out: bool = False

    def leave(self, info: ObjectInfo) -> None:
        """Note that a document waits."""
        self.waiting += 1
        self.behind_since = min(self.behind_since or info.modified_at, info.modified_at)


class DocumentCopying:
    """Copies from `first` to the bucket `second`; `known` is what this host knows of that.

    `fate_of` is None where nobody knows. `go_on` is called with the bytes that went: it keeps the
    pace, or raises to end.
    """

    def __init__(
        self,
        first: ObjectStore,
        second: VersionedBucket,
        config: DocumentsConfig,
        *,
        known: Database,
        fate_of: FateOf | None = None,
        go_on: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._first = first
        self._second = second
        self._config = config
        self._known = known
        self._fate_of = fate_of
        self._go_on = go_on

    def bring(self, is_late: Callable[[], bool] = lambda: False) -> CopiedDocuments:
        """Copy what is not there as it is now, until `is_late`.

        Raises `StoreError` where a place is away, `RunInterrupted` and `DatabaseError`.
        """
        found, noted = CopiedDocuments(), self._noted()
        there = {one.key: one for one in self._second.list(self._config.prefix)}
        listed, faults, all_faults = set[str](), 0, 0
        for info in self._first.list(self._config.prefix):
            self._go_on(0)
            if self._config.folder_of(info.key) is None or not info.size:  # no document is empty
                continue
            listed.add(info.key)
            if _is_copied(noted.get(info.key), info, there.get(info.key)):
                found.documents += 1
                continue
            found.ran_out = found.ran_out or is_late()
            if found.ran_out or info.size > self._config.most_bytes:
                found.leave(info)
                found.too_large += info.size > self._config.most_bytes
                continue
            try:
                self._copy(info, there.get(info.key))
            except RunInterrupted:
                raise
            except _OF_ONE as error:
                if type(error) is ObjectMissing:  # it was deleted since the listing
                    continue
                faults += not isinstance(error, ObjectArchived)
                self._leave(found, info, error)
                if faults == _FAULTS_IN_A_ROW:  # is it these, or the place?
                    self._second.versioning()
                    all_faults, faults = all_faults + faults, 0
                    found.ran_out = all_faults > _MOST_FAULTS
            except (ProofFailed, ObjectTooLarge) as error:
                self._leave(found, info, error)
            else:
                faults = 0
                found.copied += 1
                found.documents += 1
        self._end(found, sorted((noted.keys() | there.keys()) - listed), there)
        return found

    @staticmethod
    def _leave(found: CopiedDocuments, info: ObjectInfo, error: AppError) -> None:
        found.leave(info)
        found.error = error
        _log.warning("%s was not copied: %s", info.key, error.message)

    def _copy(self, info: ObjectInfo, there: ObjectInfo | None) -> None:
        body = self._read(self._first.get, info.key)
        sha256 = hashlib.sha256(body).hexdigest()
        if there is None or there.size != len(body) or self._sha256_there(info.key) != sha256:
            self._second.cover(info.key, io.BytesIO(body), {"sha256": sha256})
            self._go_on(len(body))
            there = self._head_there(info.key)
            if there is None or self._sha256_there(info.key) != sha256:
                raise ProofFailed(
                    f"{info.key} in {self._second.location} is not what was put",
                    "Do not trust the second place; see the status page of its provider.",
                )
        self._note(info.key, _Tags(_tag_of(info), _tag_of(there)))

    def _end(
        self, found: CopiedDocuments, keys: Collection[str], there: Mapping[str, ObjectInfo]
    ) -> None:
        """Of documents that the first place has no more, note the end where it was asked for.

        Of others those were lost that exist once, whatever the second place shows of them.
        """
        for key in keys:
            folder, info = self._config.folder_of(key), there.get(key)
            if folder is None or self._fate_of is None:
                continue
            fate = self._fate_of(folder, info.modified_at if info else _LATEST)
            if fate == "forgotten":
                if info is not None and info.size:
                    self._second.cover(key, io.BytesIO(b""), {"deleted": "true"})
                    self._go_on(0)
                self._forget(key)
            elif fate == "kept" and self._config.exists_once(key):
                found.gone += 1

    def compare(self) -> Differences:
        """Compare each document in both places by its bytes; reads all of them.

        One that has changed since it was copied is missing there as it is now.
        """
        noted = self._noted()
        there = {one.key: one for one in self._second.list(self._config.prefix)}
        missing, different, compared = list[str](), list[str](), 0
        for info in self._first.list(self._config.prefix):
            if self._config.folder_of(info.key) is None or info.size > self._config.most_bytes:
                continue
            compared += 1
            tags = noted.get(info.key)
            if info.key not in there or tags is None or tags.first != _tag_of(info):
                missing.append(info.key)
                continue
            try:
                body = self._read(self._first.get, info.key)
            except ObjectMissing:
                compared -= 1
                continue
            if self._sha256_there(info.key) != hashlib.sha256(body).hexdigest():
                different.append(info.key)
        return Differences(compared, tuple(missing), tuple(different))

    def _head_there(self, key: str) -> ObjectInfo | None:
        try:
            return self._second.head(key)
        except ObjectMissing:
            return None

    def _sha256_there(self, key: str) -> str:
        try:
            return hashlib.sha256(self._read(self._second.get, key)).hexdigest()
        except (ObjectMissing, ObjectTooLarge):
            return ""

    def _read(self, get: Callable[[str, Sink], None], key: str) -> bytes:
        sink = io.BytesIO()
        get(key, BoundedSink(sink, key, self._config.most_bytes))
        self._go_on(sink.tell())
        return sink.getvalue()

    # --- what this host has copied and read back --------------------------------------------

    def _noted(self) -> Mapping[str, _Tags]:
        with self._known.reading() as connection:
            rows = connection.execute("SELECT key, first_tag, second_tag FROM copied_documents")
            return {row[0]: _Tags(*row[1:]) for row in rows}

    def _note(self, key: str, tags: _Tags) -> None:
        with self._known.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO copied_documents VALUES (?, ?, ?)", (key, *tags)
            )

    def _forget(self, key: str) -> None:
        with self._known.transaction() as connection:
            connection.execute("DELETE FROM copied_documents WHERE key = ?", (key,))


def _is_copied(tags: _Tags | None, here: ObjectInfo, there: ObjectInfo | None) -> bool:
    """Whether both places have what was compared; a listing of the second alone is no proof."""
    return there is not None and tags == (_tag_of(here), _tag_of(there))


def _tag_of(info: ObjectInfo) -> str:
    return f"{info.size} {info.tag or info.modified_at.isoformat()}"
