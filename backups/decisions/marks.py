"""What is said, and asked of a person, about sets that carry no mark of ours. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from backups.model import BackupSet, Finding, Mark
from shared.clock import format_utc
from shared.words import counted

ACCEPT = "--accept-unsigned"


@dataclass(frozen=True)
class MarkFacts:
    """What the mark of one set is compared with.

    `accepted`: a person named this set and said that it may be unsigned. `is_marking`: the store
    has sets with marks. `marking_since`: since when the installation of the set marks its sets.
    `checked`: this process has keys.
    """

    accepted: bool = False
    is_marking: bool = False
    marking_since: datetime | None = None
    checked: bool = True

    def forged_since(self, one: BackupSet) -> datetime | None:
        """Since when the installation that a set names marks its sets, where this one has none."""
        since = self.marking_since
        is_later = since is not None and one.created_at >= since
        return since if one.kind != "legacy" and one.mark == "unsigned" and is_later else None


NOT_MARKING = MarkFacts()


@dataclass(frozen=True)
class UnmarkedSets:
    """How many sets of an installation are marked in one way that is not valid, and the newest.

    `key` is the fingerprint that their marks name.
    """

    mark: Mark
    instance: str
    key: str | None
    count: int
    newest: str


@dataclass(frozen=True)
class UnmarkedPoint:
    """A set that only a person may choose, and what its installation calls its host, if known."""

    point: BackupSet
    host: str | None = None


def mark_blockers(one: BackupSet, facts: MarkFacts, only: str | None = None) -> Iterator[Finding]:
    """Why a set, or `only` a source of it, may not replace live data; any may go into a folder."""
    folder = (
        f"Into a folder, to look at it: ./bot backups restore {one.id}{only_option(only)} --to DIR"
    )
    yours = f"{_command(one, accept=True, only=only)}. {folder}"
    if one.kind == "legacy":
        if facts.is_marking and not facts.accepted:
            yield Finding(
                "unsigned",
                "it has no mark: anybody with a key of the bucket can have put it there",
                f"If you know that it is yours: {yours}",
            )
    elif one.mark == "wrong":
        yield Finding(
            "mark_wrong",
            "its mark is not that of its content: it was changed, or copied from another place",
            f"Choose another restore point (./bot backups list). {folder}",
        )
    elif one.mark == "unknown_key" and not facts.accepted:
        yield Finding(
            "mark_key_unknown",
            f"its mark cannot be checked: {_made_with(one.mark_key)}",
            f"{put_back(one.mark_key)} If that key is lost, and you know that the set is yours: "
            f"{yours}",
        )
    elif one.mark == "unsigned" and not facts.accepted:
        yield Finding(
            "unsigned",
            "it has no mark: anybody with a key of the bucket can have put it there",
            f"If you know that it is yours: {yours}",
        )


def mark_warnings(one: BackupSet, facts: MarkFacts) -> Iterator[Finding]:
    """What a person should know of the mark of a set that is restored all the same."""
    if not facts.checked:
        yield unchecked()
    elif one.kind != "legacy" and one.mark in ("unsigned", "unknown_key") and facts.accepted:
        yield Finding(
            "unsigned_accepted",
            "it is restored although it carries no valid mark"
            + (f" ({_made_with(one.mark_key)})" if one.mark == "unknown_key" else ""),
            "Afterwards, to count the sets of its installation: "
            f"./bot backups adopt {one.instance} {ACCEPT}",
        )


def adopting(one: BackupSet) -> str:
    """The imperative that makes the sets of the installation of `one` count as this one's."""
    adopt = f"./bot backups adopt {one.instance}"
    if one.mark == "unknown_key":
        return f"{put_back(one.mark_key)} Then: {adopt}"
    if one.mark == "wrong":
        return f"./bot backups restore {one.id} --to DIR (its mark is wrong: look at it first)"
    return f"{adopt} {ACCEPT}" if one.mark == "unsigned" else adopt


def unchecked() -> Finding:
    """What a process without keys says of all marks."""
    return Finding(
        "marks_unchecked",
        "TOKEN_ENCRYPTION_KEYS is not set, so marks were not checked: restore points are shown as "
        "they were last found",
        "Set TOKEN_ENCRYPTION_KEYS in .env to the keys of the app.",
    )


def nothing_marked(
    points: Sequence[UnmarkedPoint], *, is_marking: bool, unusable: BackupSet | None = None
) -> Finding:
    """What to say where there is no restore point but these: what they are, the line for each.

    `unusable` is the newest set with a valid mark, which protects nothing.
    """
    named = "; ".join(_named(one) for one in points)
    lines = [_remedy(one.point, is_marking=is_marking) for one in points]
    if unusable is not None:
        return Finding(
            "no_restore_point",
            f"the newest restore point with a valid mark, {unusable.id}, {_fault_of(unusable)}, so "
            f"nothing was chosen. Without a valid mark: {named}",
            " ".join(["See what is wrong: ./bot backups status.", *lines]),
        )
    return Finding(
        "no_restore_point",
        f"there is no restore point with a valid mark, so nothing was chosen. The newest: {named}",
        " ".join(lines),
    )


def _fault_of(one: BackupSet) -> str:
    if one.hollow:
        return "lacks objects in the store"
    if one.suspect:
        return "is suspect"
    return "is not complete" if not one.complete else "is not proven, or was set aside"


def unmarked_warnings(
    found: Collection[UnmarkedSets], verdicts: Collection[tuple[str, str]]
) -> tuple[Finding, ...]:
    """The warnings of status about sets, and `verdicts` (set id, name), that are not believed."""
    warnings = [_warning(one) for one in found]
    if verdicts:
        first = ", ".join(f"{name} of {set_id}" for set_id, name in sorted(verdicts)[:3])
        warnings.append(
            Finding(
                "verdicts_unsigned",
                f"not believed, for lack of a valid mark: {counted(len(verdicts), 'verdict')}, "
                f"{first}{', …' if len(verdicts) > 3 else ''}",
                "Find out who can write to the bucket. To prove a set again: "
                "./bot backups verify SET",
            )
        )
    return tuple(warnings)


def put_back(key: str | None) -> str:
    """What to do where a mark names a key that is not here."""
    return f"Put the key {key} back into TOKEN_ENCRYPTION_KEYS, after the first."


def _warning(one: UnmarkedSets) -> Finding:
    of = f"{counted(one.count, 'set')} of installation {one.instance} (the newest: {one.newest})"
    if one.mark == "unknown_key":
        return Finding(
            "mark_key_unknown",
            f"not counted: {of}: {_made_with(one.key)}",
            put_back(one.key),
        )
    if one.mark == "wrong":
        return Finding(
            "mark_wrong",
            f"not counted: {of}. A mark is not that of its content",
            "Find out who can write to the bucket. To look at one: "
            f"./bot backups restore {one.newest} --to DIR",
        )
    return Finding(
        "sets_unsigned",
        f"not counted, for lack of a mark: {of}",
        f"If they are yours: ./bot backups adopt {one.instance} {ACCEPT}",
    )


def _named(one: UnmarkedPoint) -> str:
    point = one.point
    if point.kind == "legacy":
        return f"{point.id}: the old scripts left it"
    what = {
        "unknown_key": _made_with(point.mark_key),
        "wrong": "its mark is not that of its content",
    }.get(point.mark, "it has no mark")
    host = f"host {one.host}" if one.host else f"installation {point.instance}"
    version = f", {point.application}" if point.application else ""
    return f"{point.id} of {format_utc(point.created_at)} ({host}{version}): {what}"


def _remedy(point: BackupSet, *, is_marking: bool) -> str:
    if point.mark == "unknown_key":
        return f"{put_back(point.mark_key)} If it is lost: {_command(point, accept=True)}."
    if point.mark == "wrong":
        return f"To look at {point.id}: ./bot backups restore {point.id} --to DIR."
    accept = is_marking or point.kind != "legacy"
    return f"If {point.id} is yours: {_command(point, accept=accept)}."


def _made_with(key: str | None) -> str:
    return f"its mark was made with key {key}, which is not in TOKEN_ENCRYPTION_KEYS"


def _command(one: BackupSet, *, accept: bool, only: str | None = None) -> str:
    more = f" {ACCEPT}" if accept else ""
    return f"./bot backups restore {one.id}{only_option(only)} --in-place --yes{more}"


def only_option(source: str | None) -> str:
    """What a command needs that restores one source alone."""
    return f" --only {source}" if source else ""
