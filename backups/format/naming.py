"""Ids of sets and keys of objects, both ways. Pure.

PREFIX tokens_2026-11-22.db                           first set of a UTC day
PREFIX tokens_2026-11-22T153000Z.db                   every other set
PREFIX sets/20261122T010000Z/manifest.json            makes them a set
PREFIX sets/20261122T010000Z/proof-20261201T090000Z.json   a later verdict
PREFIX sets/20261122T010000Z/aside-20261201T090000Z.json   a restore passed it over
PREFIX sets/20261122T010000Z/deleted-20261201T090000Z.json a person has deleted it
PREFIX instances/<instance>.json                      an installation that writes here
PREFIX instances/<instance>-20261122T010000Z.json     who it is; the newest one counts
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime

from shared.bounded import FIRST_YEAR

_SET_ID = re.compile(r"\d{8}T\d{6}Z", re.ASCII)
_LEGACY_ID = re.compile(r"legacy-(\d{4}-\d{2}-\d{2})", re.ASCII)
_SET_KEY = re.compile(
    r"sets/(?P<set_id>\d{8}T\d{6}Z|legacy-\d{4}-\d{2}-\d{2})/"
    r"(?P<name>[a-z]+(-\d{8}T\d{6}Z)?)\.json",
    re.ASCII,
)
_DATA_KEY = re.compile(
    r"(?P<source>[a-z][a-z0-9_]{0,31})_(?P<day>\d{4}-\d{2}-\d{2})(?P<time>T\d{6}Z)?"
    r"\.db(?P<suffix>(\.zst)?(\.age)?)",
    re.ASCII,
)
_INSTANCE = re.compile(r"[0-9a-f]{8,64}", re.ASCII)
_INSTANCE_KEY = re.compile(
    r"instances/(?P<instance>[0-9a-f]{8,64})-(?P<stamp>\d{8}T\d{6}Z)\.json", re.ASCII
)
MANIFEST = "manifest"


@dataclass(frozen=True)
class DataKey:
    """What the key of a stored file says about it; `instant` is None under a dated key."""

    source: str
    day: date
    instant: datetime | None
    suffix: str


def stamp(instant: datetime) -> str:
    """`20261122T010000Z`: an instant to the second, as ids use it."""
    return instant.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def set_id(instant: datetime) -> str:
    """The id of the set that was taken at `instant`."""
    return stamp(instant)


def is_set_id(text: str) -> bool:
    """Whether `text` is an id that `set_id` can have made."""
    if not _SET_ID.fullmatch(text):
        return False
    try:
        return instant_of(text).year >= FIRST_YEAR
    except ValueError:
        return False


def instant_of(set_id: str) -> datetime:
    """The second that the id of a set names, or the day of a group; raises `ValueError`."""
    found = _LEGACY_ID.fullmatch(set_id)
    text = f"{found[1].replace('-', '')}T000000Z" if found else set_id
    return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def instant_or_none(set_id: str) -> datetime | None:
    """The same; None for a text that names no time."""
    try:
        return instant_of(set_id)
    except ValueError:
        return None


def legacy_id(day: date) -> str:
    """The id of the group of objects that the old scripts left on a day."""
    return f"legacy-{day:%Y-%m-%d}"


def is_legacy_id(text: str) -> bool:
    """Whether `text` is an id that `legacy_id` can have made."""
    found = _LEGACY_ID.fullmatch(text)
    if found is None:
        return False
    try:
        return date.fromisoformat(found[1]).year >= FIRST_YEAR
    except ValueError:
        return False


def dated_stem(prefix: str, source: str, instant: datetime) -> str:
    """The key of a source's first file of the UTC day, without its suffixes."""
    return f"{prefix}{source}_{instant.astimezone(UTC):%Y-%m-%d}"


def data_key(prefix: str, source: str, instant: datetime, *, dated: bool, suffix: str = "") -> str:
    """The key of a source's file: dated for the first set of the UTC day, else timed."""
    stem = dated_stem(prefix, source, instant)
    time = "" if dated else f"T{instant.astimezone(UTC):%H%M%S}Z"
    return f"{stem}{time}.db{suffix}"


def parse_data_key(prefix: str, key: str) -> DataKey | None:
    """What a key says, or None when it is not the key of a stored file below `prefix`."""
    found = _DATA_KEY.fullmatch(key.removeprefix(prefix)) if key.startswith(prefix) else None
    if found is None:
        return None
    try:
        day = date.fromisoformat(found["day"])
        instant = (
            datetime.strptime(found["day"] + found["time"], "%Y-%m-%dT%H%M%SZ").replace(tzinfo=UTC)
            if found["time"]
            else None
        )
    except ValueError:
        return None
    if day.year < FIRST_YEAR:
        return None
    return DataKey(found["source"], day, instant, found["suffix"])


def is_own_key(prefix: str, source: str, instant: datetime, key: str) -> bool:
    """Whether `key` is one that a file of a source has in a set of this instant, and in no other.

    A dated key fits each set of its UTC day.
    """
    found = parse_data_key(prefix, key)
    return found is not None and key in (
        data_key(prefix, source, instant, dated=dated, suffix=found.suffix)
        for dated in (True, False)
    )


def takes_dated_stem(prefix: str, source: str, instant: datetime, key: str) -> bool:
    """Whether `key` stands where the day's first file would, whatever its suffix."""
    stem = dated_stem(prefix, source, instant)
    return key == stem or key.startswith(f"{stem}.")


def sets_prefix(prefix: str) -> str:
    """Below which all manifests and verdicts are."""
    return f"{prefix}sets/"


def manifest_key(prefix: str, of_set: str) -> str:
    """The key of a set's manifest."""
    return f"{sets_prefix(prefix)}{of_set}/{MANIFEST}.json"


def verdict_key(prefix: str, of_set: str, kind: str, at: datetime) -> str:
    """The key of a verdict of some kind (`proof`, …) on a set."""
    return document_key(prefix, of_set, verdict_name(kind, at))


def verdict_name(kind: str, at: datetime) -> str:
    """What a verdict of some kind is called beside the manifest."""
    return f"{kind}-{stamp(at)}"


def document_key(prefix: str, of_set: str, name: str) -> str:
    """The key of a document beside the manifest of a set."""
    return f"{sets_prefix(prefix)}{of_set}/{name}.json"


def document_prefix(prefix: str, of_set: str, kind: str) -> str:
    """What the keys of the documents of a kind (`proof-`, …) beside a manifest begin with."""
    return f"{sets_prefix(prefix)}{of_set}/{kind}"


def parse_set_key(prefix: str, key: str) -> tuple[str, str] | None:
    """`(set id, "manifest" or the verdict's name)`, or None for any other key."""
    found = _SET_KEY.fullmatch(key.removeprefix(prefix)) if key.startswith(prefix) else None
    if found is None or not (is_set_id(found["set_id"]) or is_legacy_id(found["set_id"])):
        return None
    return found["set_id"], found["name"]


def seal_suffix(key: str) -> str:
    """What follows `.db` in the key of a stored file: how it was sealed."""
    return key.rpartition(".db")[2]


def is_encrypted(suffix: str) -> bool:
    """Whether a file with this suffix needs an identity to be opened."""
    return suffix.endswith(".age")


def instance_key(prefix: str, instance: str) -> str:
    """The key of the object that an installation leaves where it writes."""
    return f"{prefix}instances/{instance}.json"


def is_instance(text: str) -> bool:
    """Whether `text` can be the id of an installation."""
    return _INSTANCE.fullmatch(text) is not None


def instances_prefix(prefix: str) -> str:
    """Below which all installations say who they are."""
    return f"{prefix}instances/"


def instance_document_key(prefix: str, instance: str, at: datetime) -> str:
    """The key under which an installation says, at a time, who it is."""
    return f"{instances_prefix(prefix)}{instance}-{stamp(at)}.json"


def parse_instance_document_key(prefix: str, key: str) -> tuple[str, datetime] | None:
    """`(instance, when it was written)`, or None for any other key."""
    found = _INSTANCE_KEY.fullmatch(key.removeprefix(prefix)) if key.startswith(prefix) else None
    if found is None or not is_set_id(found["stamp"]):
        return None
    at = datetime.strptime(found["stamp"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return found["instance"], at
