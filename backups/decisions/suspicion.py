"""Noticing that the data about to be protected is already damaged. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from backups.model import BackupSet, SnapshotFile, StoredObject

# A table must lose more than half, and more than this many rows, to be suspicious.
FEW_ROWS = 20


def suspicions(
    files: Sequence[SnapshotFile],
    baseline: BackupSet | None,
    volatile: frozenset[str],
    unreadable: Mapping[str, int],
) -> tuple[str, ...]:
    """Why new snapshots should not be trusted, compared with the last proven set.

    `volatile` names the sources whose rows come and go, `unreadable` has for a source how
    many sampled values no key opens.
    """
    before = {stored.source: stored for stored in baseline.objects} if baseline else {}
    found: list[str] = []
    for file in files:
        known = before.get(file.source)
        found += _unreadable(file.source, unreadable.get(file.source, 0), known)
        if known is not None:
            found += _schema(file, known)
            if file.source not in volatile:
                found += _rows(file, known)
    return tuple(found)


def _unreadable(source: str, now: int, known: StoredObject | None) -> list[str]:
    before = known.unreadable if known is not None else 0
    if now <= before:
        return []
    return [
        f"{now} sampled values of {source} cannot be decrypted with the current keys, "
        f"{before} before"
    ]


def _schema(file: SnapshotFile, known: StoredObject) -> list[str]:
    same_version = file.facts.user_version == known.user_version
    if not known.schema or known.schema == file.facts.schema or not same_version:
        return []
    return [f"the schema of {file.source} changed, but its user_version did not"]


def _rows(file: SnapshotFile, known: StoredObject) -> list[str]:
    if sum(known.rows.values()) and not sum(file.facts.rows.values()):
        return [f"{file.source} is empty, and had {sum(known.rows.values()):,} rows before"]
    found = []
    for table, before in known.rows.items():
        now = file.facts.rows.get(table, 0)
        if now * 2 < before and before - now > FEW_ROWS:
            found.append(f"{file.source}.{table} has {now:,} rows, {before:,} before")
    return found
