"""`AppendOnlyStore`: a bucket that is written once and read for years, and never deleted from.

Whoever has its key can hide an object behind a marker, or cover it with another version; in a
bucket that locks or keeps its versions, what was there is there. So of several versions the oldest
that is right counts, and what hides or covers it is reported.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Literal, Protocol
from uuid import uuid4

from shared.errors import ObjectExists, ObjectMissing, StoreAccessDenied, StoreError
from shared.store.object_store import ByteProgress, ObjectInfo, Sink, StoreKind, ignore_bytes

LockMode = Literal["COMPLIANCE", "GOVERNANCE"]

# Of these a listing is kept in memory; one that never ends must not take all of it.
MOST_VERSIONS = 1_000_000


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """One version of an object; `size` is None for a marker that hides those before it, and
    `version` in a store that has none. The latest of a key is what a plain request means."""

    key: str
    version: str | None
    size: int | None
    modified_at: datetime
    is_latest: bool = True
    tag: str = ""


class VersionedBucket(Protocol):
    """What `shared.store.spaces_versions` has; each method raises `StoreError`."""

    @property
    def location(self) -> str:
        """See `ObjectStore.location`."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ObjectStore.list`: the latest versions, without what is hidden."""

    def versions(self, prefix: str) -> Iterator[ObjectVersion]:
        """All versions of all objects below `prefix`, the newest of a key first."""

    def get(
        self,
        key: str,
        sink: Sink,
        progress: ByteProgress = ignore_bytes,
        *,
        version: str | None = None,
    ) -> None:
        """See `ObjectStore.get`."""

    def head(self, key: str, *, version: str | None = None) -> ObjectInfo:
        """See `ObjectStore.head`."""

    def put(
        self,
        key: str,
        body: BinaryIO,
        metadata: Mapping[str, str],
        progress: ByteProgress = ignore_bytes,
    ) -> None:
        """See `ObjectStore.put`."""

    def cover(self, key: str, body: BinaryIO, metadata: Mapping[str, str]) -> None:
        """Put an object whatever is there."""

    def check(self, key: str, body: bytes) -> None:
        """See `ObjectStore.check`."""

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`; in a bucket with versions it only hides the object."""

    def delete_version(self, key: str, version: str, *, bypass: bool = False) -> None:
        """Delete a version for good."""

    def versioning(self) -> str:
        """`Enabled`, `Suspended` or `Off`."""

    def lock_mode(self) -> LockMode | None:
        """How the bucket can lock objects."""

    def give_up(self, grace: float) -> None:
        """See `Interruptible.give_up`."""


# Reads a version of an object into a sink.
Read = Callable[[Sink], None]
# Whether what is read is what should be under this key; None where nobody can say.
IsRight = Callable[[str, Read], bool | None]


@dataclass(frozen=True)
class Disturbed:
    """The keys whose newest entry is a marker that hides an object, and those with several
    versions."""

    hidden: frozenset[str] = frozenset()
    covered: frozenset[str] = frozenset()

    @property
    def count(self) -> int:
        """How many keys somebody has changed."""
        return len(self.hidden | self.covered)

    def renewed(self, prefix: str, hidden: Iterable[str], covered: Iterable[str]) -> Disturbed:
        """The same, with what is below `prefix` as it was found now."""
        return Disturbed(
            frozenset({one for one in self.hidden if not one.startswith(prefix)}.union(hidden)),
            frozenset({one for one in self.covered if not one.startswith(prefix)}.union(covered)),
        )


class AppendOnlyStore:
    """An `ObjectStore` over `bucket`; `is_right` chooses among the versions of a key.

    With `before` only what the store itself received before that time is there.
    """

    kind: StoreKind = "spaces"
    offsite = True

    def __init__(
        self, bucket: VersionedBucket, is_right: IsRight, before: datetime | None = None
    ) -> None:
        self.bucket = bucket
        self._is_right = is_right
        self._before = before
        self._chosen: dict[str, ObjectVersion] = {}
        self._covered: dict[str, str] = {}  # the SHA-256 of what was put over what was there
        self._lock = threading.Lock()
        self.disturbed = Disturbed()

    @property
    def location(self) -> str:
        """See `ObjectStore.location`."""
        return self.bucket.location

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ObjectStore.list`: of each key the version that counts, behind what hides it."""
        found = self._choose(prefix)
        for key in sorted(found):
            one = found[key]
            yield ObjectInfo(key, one.size or 0, one.modified_at)

    def get(self, key: str, sink: Sink, progress: ByteProgress = ignore_bytes) -> None:
        """See `ObjectStore.get`."""
        self.bucket.get(key, sink, progress, version=self._version(key).version)

    def head(self, key: str) -> ObjectInfo:
        """See `ObjectStore.head`."""
        return self.bucket.head(key, version=self._version(key).version)

    def put(
        self,
        key: str,
        body: BinaryIO,
        metadata: Mapping[str, str],
        progress: ByteProgress = ignore_bytes,
    ) -> None:
        """See `ObjectStore.put`. What is there and wrong is covered, where it stays beneath."""
        # Metadata that a thief has copied must not pass for an echo of this put.
        metadata = {**metadata, "put": uuid4().hex}
        try:
            self.bucket.put(key, body, metadata, progress)
        except ObjectExists:
            if self._has_right(key) or self.bucket.versioning() != "Enabled":
                raise
            self.bucket.cover(key, body, metadata)
            self._covered[key] = metadata.get("sha256", "")
        with self._lock:
            self._chosen.pop(key, None)

    def check(self, key: str, body: bytes) -> None:
        """See `ObjectStore.check`."""
        self.bucket.check(key, body)

    def delete(self, key: str) -> None:
        """Refused: nothing is ever deleted here."""
        raise StoreAccessDenied(
            f"{key} was not deleted from {self.location}: copies are only added to",
            "A lifecycle rule of the bucket removes what is old; docs/two-places.md has one.",
        )

    def abort_unfinished(
        self,
        prefix: str,
        before: datetime,
        could_be_ours: Callable[[str], bool],
    ) -> None:
        """Nothing to do: nothing is sent in parts."""

    def give_up(self, grace: float) -> None:
        """See `Interruptible.give_up`."""
        self.bucket.give_up(grace)

    def _version(self, key: str) -> ObjectVersion:
        with self._lock:
            found = self._chosen.get(key)
        if found is None:
            found = self._choose(key).get(key)
        if found is None:
            raise ObjectMissing(f"{key} is not in {self.location}", "See: ./bot backups list")
        return found

    def _has_right(self, key: str) -> bool:
        return any(
            one.key == key and one.size is not None and self._fits(one)
            for one in self.bucket.versions(key)
        )

    def _choose(self, prefix: str) -> dict[str, ObjectVersion]:
        """The version that counts of each key below `prefix`, and notes what disturbs it."""
        by_key: dict[str, list[ObjectVersion]] = {}
        hidden = set()
        for number, one in enumerate(self.bucket.versions(prefix)):
            if number == MOST_VERSIONS:
                raise StoreError(
                    f"{self.location} lists more than {MOST_VERSIONS:,} versions below {prefix}",
                    "Let a lifecycle rule end what is old: docs/two-places.md has one.",
                )
            if self._before is not None and one.modified_at >= self._before:
                continue
            if one.size is not None:
                by_key.setdefault(one.key, []).append(one)
            elif one.is_latest:
                hidden.add(one.key)
        chosen = {key: self._best(versions) for key, versions in by_key.items()}
        covered = {key for key, versions in by_key.items() if len(versions) > 1}
        with self._lock:
            for key in [key for key in self._chosen if key.startswith(prefix)]:
                del self._chosen[key]
            self._chosen |= chosen
            self.disturbed = self.disturbed.renewed(prefix, hidden & by_key.keys(), covered)
        return chosen

    def _best(self, versions: MutableSequence[ObjectVersion]) -> ObjectVersion:
        """The oldest that is right, else the oldest of which nobody can say, else the oldest."""
        if len(versions) == 1:
            return versions[0]
        versions.reverse()  # the newest version comes first in a listing
        open_ones = []
        for one in sorted(versions, key=lambda one: one.modified_at):
            fits = self._fits(one)
            if fits:
                return one
            if fits is None:
                open_ones.append(one)
        return (open_ones or versions)[0]

    def _fits(self, one: ObjectVersion) -> bool | None:
        def read(sink: Sink) -> None:
            self.bucket.get(one.key, sink, version=one.version)

        if (sha256 := self._covered.get(one.key)) is not None:
            found = hashlib.sha256()
            read(_Hashed(found.update))
            return found.hexdigest() == sha256
        return self._is_right(one.key, read)


class _Hashed:
    """A sink that only hashes."""

    def __init__(self, update: Callable[[bytes], None]) -> None:
        self._update = update

    def write(self, chunk: bytes, /) -> None:
        self._update(chunk)
