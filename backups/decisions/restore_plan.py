"""What a restore would do, before anything is touched. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from backups.errors import NoRestorePoint, SetNotFound, SourceUnknown
from backups.format import naming
from backups.format.naming import is_encrypted
from backups.model import BackupSet, Finding, LiveState, SourceState, StoredObject
from shared.clock import format_utc

ACTIONS: Mapping[SourceState, str] = {
    "healthy": "replace its content in one transaction; readers and writers go on",
    "corrupt": "replace its content, or move the damaged files aside and install a new one",
    "missing": "install it",
    "leftover": "move the leftover -wal and -shm aside, and install it",
}


@dataclass(frozen=True)
class RestoreItem:
    """One source of a plan: what is stored, and what it would replace."""

    stored: StoredObject
    live: LiveState

    @property
    def action(self) -> str:
        """What would be done, in words."""
        return ACTIONS[self.live.state]


@dataclass(frozen=True)
class RestorePlan:
    """A restore point, its age, what it would replace, and what a person must know first.

    A `blocker` would stop the restore; a `warning` would not.
    """

    backup_set: BackupSet
    age: timedelta
    items: tuple[RestoreItem, ...]
    blockers: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    foreign: tuple[str, ...] = ()


@dataclass(frozen=True)
class KeyFacts:
    """Which keys this process has: an identity (None: no file; else whether it fits), and the
    fingerprints of the token keys (empty: unknown)."""

    identity: bool | None
    token_keys: tuple[str, ...]


def choose(sets: Iterable[BackupSet], target: str, at: datetime | None) -> BackupSet:
    """The restore point that `target` (an id or `latest`) and `at` mean, from newest-first sets.

    `latest` and `at` reach only what protects, or else whole legacy groups, and `latest` passes
    over what a restore has set aside. Raises `SetNotFound` and `NoRestorePoint`.
    """
    if target != "latest":
        named = next((one for one in sets if one.id == target), None)
        if named is None:
            raise SetNotFound(
                f"there is no restore point {target!r}",
                "List them with: python -m backups list",
            )
        return named
    legacy = None
    for one in sets:  # no further than needed: each is a manifest to be read
        if at is not None and one.created_at > at:
            continue
        if one.protects and (at is not None or one.set_aside is None):
            return one
        if legacy is None and _is_usable_legacy(one):
            legacy = one
    if legacy is not None:
        return legacy
    when = f" at or before {format_utc(at)}" if at else ""
    raise NoRestorePoint(
        f"there is no complete, proven, unsuspected restore point{when}",
        "List all of them, and restore one by its id: python -m backups list",
    )


def plan_restore(
    backup_set: BackupSet,
    live: Sequence[LiveState],
    only: str | None,
    keys: KeyFacts,
    now: datetime,
) -> RestorePlan:
    """Plan the restore of a set onto sources as they are; raises `SourceUnknown`."""
    states = {state.source: state for state in live}
    stored = [one for one in backup_set.objects if only in (None, one.source)]
    if not stored:
        raise SourceUnknown(
            f"restore point {backup_set.id} has no source {only!r}",
            f"It has: {', '.join(one.source for one in backup_set.objects)}.",
        )
    items = tuple(RestoreItem(one, states[one.source]) for one in stored if one.source in states)
    foreign = [one.source for one in stored if one.source not in states]
    return RestorePlan(
        backup_set=backup_set,
        age=now - backup_set.created_at,
        items=items,
        blockers=tuple(_blockers(backup_set, keys, stored)),
        warnings=(
            *(item.live.obstacle for item in items if item.live.obstacle),
            *_warnings(backup_set, keys, foreign),
        ),
        foreign=tuple(foreign),
    )


def _blockers(
    backup_set: BackupSet, keys: KeyFacts, stored: Sequence[StoredObject]
) -> list[Finding]:
    if not any(is_encrypted(naming.seal_suffix(one.key)) for one in stored):
        return []
    if keys.identity is None:
        return [
            Finding(
                "identity_missing",
                "it is encrypted, and the age identity that decrypts it is not on this host",
                "Copy the identity file to this host, and set BACKUP_AGE_IDENTITY_FILE to it.",
            )
        ]
    if not keys.identity and backup_set.recipients:
        return [
            Finding(
                "identity_wrong",
                "it is encrypted for other identities than the one in BACKUP_AGE_IDENTITY_FILE",
                "Set it to the identity file of one of these public keys: "
                f"{', '.join(backup_set.recipients)}",
            )
        ]
    return []


def _warnings(backup_set: BackupSet, keys: KeyFacts, foreign: Sequence[str]) -> list[Finding]:
    found = []
    if key_is_lost(backup_set, keys.token_keys):
        found.append(lost_key_finding(backup_set))
    if backup_set.hollow:
        found.append(
            Finding(
                "hollow",
                "objects of it are missing in the store, or have another size",
                "Choose another restore point (python -m backups list), or bring the objects back, "
                "from the bucket's older versions or a copy.",
            )
        )
    elif backup_set.proof == "none":
        found.append(
            Finding(
                "not_proven",
                "it has not been proven; the restore checks it before it touches anything",
                f"Prove it first: python -m backups verify {backup_set.id}",
            )
        )
    found += [
        Finding(
            "suspect",
            f"it is suspect (the data looks damaged): {reason}",
            "Choose another restore point: python -m backups list",
        )
        for reason in backup_set.suspect or ()
    ]
    found += [
        Finding(
            "foreign_source",
            f"it has the source {source}, which this installation does not know",
            "Add it to BACKUP_EXTRA_SOURCES, or use --to DIR.",
        )
        for source in foreign
    ]
    return found


def key_is_lost(backup_set: BackupSet, token_keys: tuple[str, ...]) -> bool:
    """Whether the token key in use when a set was made is none of today's."""
    return bool(token_keys) and backup_set.token_key not in (None, *token_keys)


def lost_key_finding(backup_set: BackupSet) -> Finding:
    """What to say when `key_is_lost`."""
    return Finding(
        "token_key_lost",
        f"the tokens in restore point {backup_set.id} are encrypted with key "
        f"{backup_set.token_key}, which is not in TOKEN_ENCRYPTION_KEYS",
        "Add that key in .env, after the current one: TOKEN_ENCRYPTION_KEYS=new,old",
    )


def _is_usable_legacy(found: BackupSet) -> bool:
    return found.kind == "legacy" and found.complete and not found.suspect
