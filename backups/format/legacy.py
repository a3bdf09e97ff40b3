"""Groups of objects that the old cron scripts left: one restore point for each day. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from backups.format import naming
from backups.model import BackupSet, StoredObject


@dataclass(frozen=True)
class LegacyObject:
    """One object of a group."""

    source: str
    day: date
    key: str
    size: int
    modified_at: datetime


def legacy_object(source: str, key: str, size: int) -> StoredObject:
    """An object that the old cron scripts left: a copy of which nothing was noted."""
    return StoredObject(
        source=source,
        key=key,
        bytes=size,
        sha256="",
        snapshot_bytes=0,
        snapshot_sha256="",
        page_size=0,
        page_count=0,
        user_version=0,
        rows={},
        same_instant=False,
        journal_mode="unknown",
    )


def legacy_object_at(
    prefix: str, key: str, size: int, modified_at: datetime
) -> LegacyObject | None:
    """A dated object as the member of a group, if its key is one of the old scripts."""
    parsed = naming.parse_data_key(prefix, key)
    return LegacyObject(parsed.source, parsed.day, key, size, modified_at) if parsed else None


def legacy_set(members: Sequence[LegacyObject]) -> BackupSet:
    """A group as a restore point, which nobody has proven yet."""
    # Of one source there may be several files of a day, differently sealed: the first key counts.
    by_source = {one.source: one for one in sorted(members, key=lambda m: m.key, reverse=True)}
    return BackupSet(
        id=naming.legacy_id(members[0].day),
        kind="legacy",
        created_at=_made_at(members),
        trigger="scheduled",
        instance="",
        complete={"tokens", "sessions"} <= by_source.keys(),
        proven_at=None,
        proof="none",
        suspect=None,
        objects=tuple(
            legacy_object(one.source, one.key, one.size)
            for one in sorted(by_source.values(), key=lambda one: one.source, reverse=True)
        ),
    )


def _made_at(members: Sequence[LegacyObject]) -> datetime:
    """When the old scripts made a group: its modification, if that fits its date.

    A bucket that was copied has younger modification times than the dates in its keys.
    """
    day = datetime.combine(members[0].day, time(), UTC)
    last = datetime.combine(members[0].day, time(23, 59, 59), UTC)
    return min(max(day, *(one.modified_at for one in members)), last)


@dataclass(frozen=True)
class DatedObject:
    """An object under a dated key; `legacy` when the old scripts left it."""

    key: str
    bytes: int
    modified_at: datetime
    legacy: bool
