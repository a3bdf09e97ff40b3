"""Which conversations of the second place the store lacks, or has otherwise."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from shared.errors import ObjectMissing
from shared.merchants.history.keys import DOCUMENTS, MOST_BYTES, exists_once
from shared.merchants.history.versions import Version
from shared.store.append_only import ObjectVersion, VersionedBucket
from shared.store.object_store import BoundedSink, ObjectInfo, ObjectStore


@dataclass(frozen=True)
class Lacking:
    """A conversation that the store lacks (`missing`), or has otherwise, and the version of it that
    the second place has."""

    version: Version
    stored: ObjectVersion
    missing: bool


def conversations_there(
    second: VersionedBucket, before: datetime | None = None
) -> Mapping[str, ObjectVersion]:
    """The newest version of each conversation, by its key, that the second place received before
    `before`; raises `StoreError`.

    Not of one whose newest version is empty: the bot has deleted it on request.
    """
    newest: dict[str, ObjectVersion] = {}
    for one in second.versions(DOCUMENTS):
        is_then = before is None or one.modified_at < before
        if one.size is not None and is_then and exists_once(one.key):
            newest.setdefault(one.key, one)
    return {key: one for key, one in newest.items() if one.size}


def lacking(
    first: ObjectStore, second: VersionedBucket, there: Mapping[str, ObjectVersion]
) -> Iterator[Lacking]:
    """Which of these to bring back, in the order of keys; raises `StoreError`."""
    here = {one.key: one for one in first.list(DOCUMENTS)}
    for key, stored in sorted(there.items()):
        version = Version.of_copy(key, stored.version or "", stored.modified_at)
        found = here.get(key)
        if version is not None and (found is None or not _is_same(first, second, found, stored)):
            yield Lacking(version, stored, found is None)


def _is_same(
    first: ObjectStore, second: VersionedBucket, found: ObjectInfo, stored: ObjectVersion
) -> bool:
    if found.size != stored.size or found.size > MOST_BYTES:
        return False
    if found.tag and found.tag == stored.tag:
        return True
    here, there = io.BytesIO(), io.BytesIO()  # two servers may tell the same bytes by other tags
    try:
        first.get(found.key, BoundedSink(here, found.key, MOST_BYTES))
        second.get(found.key, BoundedSink(there, found.key, MOST_BYTES), version=stored.version)
    except ObjectMissing:
        return False
    return here.getvalue() == there.getvalue()
