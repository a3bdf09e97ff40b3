"""What a restore would do, before anything is touched. Pure.

One file, because a plan and all that it says about a restore point are read together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from backups.decisions.marks import (
    ACCEPT,
    NOT_MARKING,
    MarkFacts,
    mark_blockers,
    mark_warnings,
    only_option,
)
from backups.decisions.restoring.outlook import Estimate, PassedOver
from backups.errors import NoRestorePoint, SetNotFound, SourceUnknown
from backups.format import naming
from backups.format.naming import is_encrypted
from backups.model import BackupSet, Finding, StoredObject
from backups.vocabulary.comparison import Comparison
from shared.clock import format_utc

SourceState = Literal[
    "healthy", "corrupt", "empty", "missing", "leftover", "locked", "unreadable", "unknown"
]
ACTIONS: Mapping[SourceState, str] = {
    "healthy": "replaced in one transaction; the app keeps running",
    "corrupt": "replace its content, or move the damaged files aside and install a new one",
    "empty": "move the empty file aside, and install a new one",
    "missing": "install it",
    "leftover": "move the leftover -wal and -shm aside, and install it",
    "locked": "nothing, while it is locked",
    "unreadable": "nothing, while it cannot be opened",
    "unknown": "nothing: it is not looked at",
}

IN_PLACE = "--in-place --yes"
TO_FOLDER = "--to DIR"
_CANNOT_BE_REPLACED: Collection[SourceState] = ("locked", "unreadable")


@dataclass(frozen=True)
class LiveState:
    """How a source is found before a restore; `rows` only when it is healthy.

    `fault` says why one that is there is not healthy, and `on_disk` that its disk does not return
    what is in it. `unknown` is one that nobody has looked at.
    """

    source: str
    path: Path
    state: SourceState
    rows: Mapping[str, int] | None = None
    fault: Finding | None = None
    on_disk: bool = False


@dataclass(frozen=True)
class RestoreItem:
    """One source of a plan: what is stored, and what it would replace; `file` is that in hand."""

    stored: StoredObject
    live: LiveState
    comparison: Comparison | None = None
    file: str = ""

    @property
    def action(self) -> str:
        """What would be done, in words."""
        if self.live.on_disk:
            return "move the damaged files aside, and install a new one"
        return ACTIONS[self.live.state]


@dataclass(frozen=True)
class RestorePlan:
    """A restore point, its age, what it would replace, and what a person must know first.

    A `blocker` would stop the restore; a `warning` would not. Those of `in_place` do not stop a
    restore into a folder. `made_elsewhere` says whether another installation made it, on a `host`
    that may be known; `only` is the source that is meant, and `accepted` says that a person does
    without a valid mark. `forged_since` is since when the installation that it names marks its
    sets, where this one has no mark all the same. `from_path` are the files in hand that it is of,
    and `named` the command that names it with them; empty: by its id.
    """

    backup_set: BackupSet
    age: timedelta
    items: tuple[RestoreItem, ...]
    blockers: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    foreign: tuple[str, ...] = ()
    in_place: tuple[Finding, ...] = ()
    made_elsewhere: bool = False
    host: str | None = None
    forged_since: datetime | None = None
    only: str | None = None
    accepted: bool = False
    # What `operations/planning` adds: who made it, where it comes from, what is newer, how long.
    made_here: bool = False
    place: str = ""
    has_copies: bool = False
    passed_over: tuple[PassedOver, ...] = ()
    estimate: Estimate | None = None
    # Of files in hand, or with an identity for this once (`operations/planning/given.py`).
    from_path: Path | None = None
    named: str = ""

    def command(self, target: str) -> str:
        """What a person types to do this restore, and no other: `target` says where to."""
        accept = f" {ACCEPT}" if self.accepted and target != TO_FOLDER else ""
        named = self.named or f"./bot backups restore {self.backup_set.id}"
        return f"{named}{only_option(self.only)} {target}{accept}"

    def blocking(self, *, in_place: bool) -> tuple[Finding, ...]:
        """The blockers of a restore in place, or else of one into a folder."""
        return tuple(one for one in self.blockers if in_place or one not in self.in_place)


@dataclass(frozen=True)
class KeyFacts:
    """What this process can open: its identity (None: no file; else whether it fits), the
    fingerprints of its token keys (empty: unknown), and the newest `user_version` of the sources
    that it knows."""

    identity: bool | None
    token_keys: tuple[str, ...]
    schema_versions: tuple[tuple[str, int], ...] = ()


def choose(sets: Iterable[BackupSet], target: str, at: datetime | None) -> BackupSet:
    """The restore point that `target` (an id or `latest`) and `at` mean, from newest-first sets.

    `latest` and `at` reach only what protects, and `latest` passes over what a restore has set
    aside. Raises `SetNotFound` and `NoRestorePoint`.
    """
    if target != "latest":
        named = next((one for one in sets if one.id == target), None)
        if named is None:
            raise SetNotFound(
                f"there is no restore point {target!r}",
                "List them with: ./bot backups list",
            )
        return named
    for one in sets:  # no further than needed: each is a manifest to be read
        if at is not None and one.created_at > at:
            continue
        if one.protects and (at is not None or one.set_aside is None):
            return one
    when = f" at or before {format_utc(at)}" if at else ""
    raise NoRestorePoint(
        f"there is no complete, proven, unsuspected restore point{when}",
        "List all of them, and restore one by its id: ./bot backups list",
    )


def plan_restore(
    backup_set: BackupSet,
    live: Sequence[LiveState],
    only: str | None,
    keys: KeyFacts,
    now: datetime,
    *,
    unread: Sequence[str] = (),
    others: Iterable[BackupSet] = (),
    made_elsewhere: bool = False,
    host: str | None = None,
    marks: MarkFacts = NOT_MARKING,
    not_asked: Finding | None = None,
    uncovered: Finding | None = None,
) -> RestorePlan:
    """Plan the restore of a set onto sources as they are; raises `SourceUnknown`.

    `unread` are sets whose manifest nobody can read; a newer one is a warning. `others` are the
    other sets of this line, newest first: another schema than theirs is a warning. `made_elsewhere`
    and `host` say who made the set, `marks` what its mark is compared with, and `not_asked` why the
    store could not say what it has; `uncovered` of which time nothing is stored.
    """
    states = {state.source: state for state in live}
    stored = [one for one in backup_set.objects if only in (None, one.source)]
    if not stored:
        raise SourceUnknown(
            f"restore point {backup_set.id} has no source {only!r}",
            f"It has: {', '.join(one.source for one in backup_set.objects)}.",
        )
    items = tuple(RestoreItem(one, states[one.source]) for one in stored if one.source in states)
    foreign = [one.source for one in stored if one.source not in states]
    in_place = (
        *mark_blockers(backup_set, marks, only),
        *_live_blockers(backup_set, items, only, accepted=marks.accepted),
        *newer_schemas({one.source: one.user_version for one in stored}, keys.schema_versions),
    )
    return RestorePlan(
        backup_set=backup_set,
        age=now
        - (backup_set.created_at if backup_set.created_at > now else backup_set.holds_until),
        items=items,
        blockers=(*_blockers(backup_set, keys, stored), *in_place),
        warnings=(
            *mark_warnings(backup_set, marks),
            *(one for one in (not_asked, uncovered) if one),
            *_newer(backup_set, unread),
            *_changed_schemas(backup_set.id, stored, keys, others),
            *_warnings(backup_set, keys, foreign),
        ),
        foreign=tuple(foreign),
        in_place=in_place,
        made_elsewhere=made_elsewhere,
        host=host,
        only=only,
        accepted=marks.accepted,
        forged_since=marks.forged_since(backup_set),
    )


def _newer(backup_set: BackupSet, unread: Sequence[str]) -> Iterator[Finding]:
    for set_id in unread:
        if naming.instant_of(set_id) > backup_set.created_at:
            yield Finding(
                "newer_unread",
                f"the store has a newer restore point, {set_id}, whose manifest cannot be read",
                "Find out why, if there is time: ./bot backups list",
            )


def _changed_schemas(
    set_id: str, stored: Sequence[StoredObject], keys: KeyFacts, others: Iterable[BackupSet]
) -> Iterator[Finding]:
    """A finding for each source whose schema is not that of the last other set.

    Of the sources that this program makes itself, the restore compares the schema exactly.
    """
    known = {source for source, _ in keys.schema_versions}
    left = {one.source: one for one in stored if one.schema and one.source not in known}
    for other in others if left else ():
        for last in other.objects:
            if not last.schema or last.source not in left:
                continue
            if left.pop(last.source).schema != last.schema:
                yield Finding(
                    "schema_changed",
                    f"its {last.source} has other tables, indexes, views or triggers than in the "
                    f"last other set, {other.id}",
                    "If nobody has changed them on purpose, look at the file first: "
                    f"./bot backups restore {set_id} --only {last.source} --to DIR",
                )
        if not left:
            return


def _live_blockers(
    backup_set: BackupSet, items: Sequence[RestoreItem], only: str | None, *, accepted: bool
) -> Iterator[Finding]:
    """One for each live source that cannot be replaced now, with the ways around it."""
    accept = f" {ACCEPT}" if accepted else ""
    free = [item.live for item in items if item.live.state not in _CANNOT_BE_REPLACED]
    for live in (item.live for item in items):
        if live.state in _CANNOT_BE_REPLACED and live.fault is not None:
            ways = [f"{only_option(one.source)} {IN_PLACE}{accept}" for one in free]
            ways.append(f"{only_option(only)} {TO_FOLDER}")
            others = " or ".join(f"./bot backups restore {backup_set.id}{way}" for way in ways)
            yield replace(live.fault, hint=f"{live.fault.hint} Without it: {others}")


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
                "Copy the identity file to this host, and set BACKUP_AGE_IDENTITY_FILE to it, or "
                "add --identity FILE for this once.",
            )
        ]
    if not keys.identity and backup_set.recipients:
        return [
            Finding(
                "identity_wrong",
                "it is encrypted for other identities than the one in BACKUP_AGE_IDENTITY_FILE, or "
                "in the FILE of --identity",
                "Name the identity file of one of these public keys: "
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
                "Choose another restore point (./bot backups list), or bring the objects back, "
                "from the bucket's older versions or a copy.",
            )
        )
    elif backup_set.proof == "none":
        found.append(
            Finding(
                "not_proven",
                "it has not been proven; the restore checks it before it touches anything",
                f"Prove it first: ./bot backups verify {backup_set.id}",
            )
        )
    found += [
        Finding(
            "suspect",
            f"it is suspect (the data looks damaged): {reason}",
            "Choose another restore point: ./bot backups list",
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


def newer_schemas(
    found: Mapping[str, int], schema_versions: Sequence[tuple[str, int]]
) -> list[Finding]:
    """A finding for each source whose `user_version` is above what this program can open."""
    return [
        Finding(
            "schema_newer",
            f"its {source} has schema version {found[source]}, and this program supports {newest}",
            "Start the newer version of this program that wrote it, or choose an older restore "
            "point (./bot backups list). Into a folder: ./bot backups restore ID --to DIR",
        )
        for source, newest in schema_versions
        if found.get(source, 0) > newest
    ]


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
