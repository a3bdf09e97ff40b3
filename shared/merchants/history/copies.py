"""Which conversations of the second place the store lacks, or has otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from shared.merchants.history.keys import DOCUMENTS, exists_once
from shared.merchants.history.versions import Version
from shared.store.append_only import ObjectVersion, VersionedBucket
from shared.store.object_store import ObjectStore


@dataclass(frozen=True)
class Lacking:
    """A conversation that the store lacks (`missing`), or has otherwise, and the version of it that
    the second place has."""

    version: Version
    stored: ObjectVersion
    missing: bool


def lacking(
    first: ObjectStore, second: VersionedBucket, before: datetime | None = None
) -> Iterator[Lacking]:
    """The conversations to bring back, in the order of keys; raises `StoreError`.

    Of each the newest version counts that the second place received before `before`. An empty one
    says that the bot has deleted the conversation: it does not come back.
    """
    here = {one.key: one for one in first.list(DOCUMENTS)}
    chosen: dict[str, ObjectVersion] = {}
    for one in second.versions(DOCUMENTS):
        is_then = before is None or one.modified_at < before
        if one.size is not None and is_then and exists_once(one.key):
            chosen.setdefault(one.key, one)
    for key, stored in sorted(chosen.items()):
        version = Version.of_copy(key, stored.version or "", stored.modified_at)
        if version is None or not stored.size:
            continue
        found = here.get(key)
        if found is not None and found.tag and found.tag == stored.tag:
            continue
        yield Lacking(version, stored, found is None)
