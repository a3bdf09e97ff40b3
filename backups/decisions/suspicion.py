"""Noticing that the data about to be protected is already damaged. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from backups.model import BackupSet, SnapshotFile, StoredObject
from shared.words import counted

# A table must lose more than half, and more than this many rows, to be suspicious.
FEW_ROWS = 20

# So long must a fall take to be no reason for suspicion.
_WINDOW = timedelta(days=1)

# For each source what it is compared with, newest first.
Measures = Mapping[str, Sequence[StoredObject]]


@dataclass(frozen=True)
class RestoredSource:
    """What a restore in place has put into the place of a source, and when; None: not known."""

    stored: StoredObject | None
    at: datetime


def measures(
    good: Iterable[BackupSet],
    now: datetime,
    *,
    restored: Mapping[str, RestoredSource],
    accepted: Collection[str],
) -> Measures:
    """What new snapshots are compared with, from the good sets of a line, newest first.

    Of each source: the last good set, and all before it up to the first that is at least a day
    old. One that a person has `accepted` ends the list: it is as it should be. What was made
    before a source was `restored` does not count for it, but what was restored does.
    """
    found: dict[str, list[StoredObject]] = {source: [] for source in restored}
    ended: set[str] = set()
    for one in good:
        if one.created_at > now:
            continue
        for stored in one.objects:
            if stored.source in ended:
                continue
            base = restored.get(stored.source)
            # What a restore passed over counts on for a source that it did not restore.
            if (one.set_aside is not None and (base is not None or not restored)) or (
                base is not None and one.created_at <= base.at
            ):
                continue
            found.setdefault(stored.source, []).append(stored)
            if one.id in accepted or now - one.created_at >= _WINDOW:
                ended.add(stored.source)
        if one.set_aside is None and (one.id in accepted or now - one.created_at >= _WINDOW):
            break
    for source, base in restored.items():
        if base.stored is not None and source not in ended:
            found[source].append(base.stored)
    return found


def suspicions(
    files: Sequence[SnapshotFile],
    compared: Measures,
    volatile: frozenset[str],
    unreadable: Mapping[str, int],
) -> tuple[str, ...]:
    """Why new snapshots should not be trusted, compared with the `measures`.

    Values and schema are compared with the last one, rows with the most that a table had in
    any. `volatile` names the sources whose rows come and go, `unreadable` has for a source how
    many sampled values nobody can read.
    """
    found: list[str] = []
    for file in files:
        known = compared.get(file.source, ())
        last = known[0] if known else None
        found += _unreadable(file.source, unreadable.get(file.source, 0), last)
        if last is not None:
            found += _schema(file, last)
            if file.source not in volatile:
                found += _rows(file, known)
    return tuple(found)


def _unreadable(source: str, now: int, known: StoredObject | None) -> list[str]:
    before = known.unreadable if known is not None else 0
    if now <= before:
        return []
    return [
        f"{now:,} of the checked values of {source} cannot be read with the current keys "
        f"({before:,} in the previous backup)"
    ]


def _schema(file: SnapshotFile, known: StoredObject) -> list[str]:
    same_version = file.facts.user_version == known.user_version
    if not known.schema or known.schema == file.facts.schema or not same_version:
        return []
    return [f"the schema of {file.source} changed, but its user_version did not"]


def _rows(file: SnapshotFile, known: Sequence[StoredObject]) -> list[str]:
    most: dict[str, int] = {}
    for stored in known:
        for table, rows in stored.rows.items():
            most[table] = max(rows, most.get(table, 0))
    all_before = max(sum(stored.rows.values()) for stored in known)
    if all_before and not sum(file.facts.rows.values()):
        return [f"{file.source} is empty, and had {counted(all_before, 'row')} before"]
    found = []
    for table, before in most.items():
        now = file.facts.rows.get(table, 0)
        if now * 2 < before and before - now > FEW_ROWS:
            found.append(f"{file.source}.{table} has {counted(now, 'row')}, {before:,} before")
    return found
