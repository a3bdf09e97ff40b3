"""Learning what the store has: one listing, and a get for each document that is new.

The store is the truth. What this host has noted of it (`SetsTable`) follows.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from backups.errors import ManifestInvalid
from backups.format import manifest, naming
from backups.sets.sets_table import DatedObject, SetsTable
from shared.clock import Clock, format_utc
from shared.errors import (
    ObjectMissing,
    StoreAccessDenied,
    StoreFailing,
    StoreListingIncomplete,
)
from shared.logs import fields
from shared.store.object_store import ObjectInfo, ObjectStore

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OwnPoints:
    """What `learn` asks about this installation when a restore point is not in the store.

    `ours` are the instances whose sets are this installation's (None: all); `is_doomed` says
    whether our prune is deleting a set.
    """

    ours: Callable[[], Collection[str] | None]
    is_doomed: Callable[[str], bool]


def learn(table: SetsTable, store: ObjectStore, clock: Clock, own: OwnPoints) -> None:
    """Bring `table` up to what the store has now, and note when that was.

    Raises `StoreError`; then the table is as it was, or a part further. A set is forgotten
    when the store, asked for its manifest by name, has none: a listing that lacks one that is
    there raises `StoreListingIncomplete`, after all that is new was learnt, and nothing is
    forgotten. What is gone without our prune is noted as missing, and logged once.
    """
    known = table.documents()  # before the listing: a set made during it must not be forgotten
    documents: dict[str, set[str]] = {}
    dated: dict[str, ObjectInfo] = {}
    sizes: dict[str, int] = {}
    for listed in store.list(table.prefix):
        sizes[listed.key] = listed.size
        parsed = naming.parse_set_key(table.prefix, listed.key)
        data = naming.parse_data_key(table.prefix, listed.key)
        if parsed and _is_read(*parsed):
            documents.setdefault(parsed[0], set()).add(parsed[1])
        elif data and data.instant is None:
            dated[listed.key] = listed
    gone, unlisted = _learn_documents(table, store, documents, known)
    lost, unlisted_legacy = _lost_legacy(table, store, dated)
    unlisted += unlisted_legacy
    now = clock.now()
    if not unlisted:
        for set_id in gone:
            _forget(table, set_id, now, own)
        for group in table.note_lost_legacy(lost, now):
            _say_vanished(group)
        _end_vanished(table, sizes)
        _check_objects(table, store, sizes, now)
    _learn_dated(table, store, dated, complete=not unlisted)
    if not known.keys() - {*gone} <= table.documents().keys():
        # The records were found damaged meanwhile, and made anew: they know less than was listed.
        learn(table, store, clock, own)
        return
    table.note_listed(sizes, now)
    table.note_contact(now)
    if unlisted:
        raise StoreListingIncomplete(
            "the store's listing lacks objects that the store returns by name: "
            + ", ".join(sorted(unlisted)[:5])
            + (" and others" if len(unlisted) > 5 else ""),
            "Nothing is removed until the listing is complete. Run: python -m backups list; "
            "if it fails again, ask the store's provider.",
        )


def _learn_documents(
    table: SetsTable,
    store: ObjectStore,
    listed: Mapping[str, set[str]],
    known: Mapping[str, set[str]],
) -> tuple[list[str], list[str]]:
    """Take in what is new; the sets that are gone, and those that the listing only lacks."""
    stored = {
        set_id: names
        for set_id, names in listed.items()
        if naming.MANIFEST in names or naming.is_legacy_id(set_id)
    }
    gone: list[str] = []
    unlisted: list[str] = []
    for set_id in sorted(known.keys() - stored.keys()):
        is_set = naming.MANIFEST in known[set_id]
        key = naming.manifest_key(table.prefix, set_id)
        (unlisted if is_set and _may_be_stored(store, key) else gone).append(set_id)
    for set_id, names in stored.items():
        for name in sorted(names - known.get(set_id, set()), key=_manifest_first):
            _fetch(table, store, set_id, name)
    return gone, unlisted


def _may_be_stored(
    store: ObjectStore, key: str, size: int | None = None, set_id: str | None = None
) -> bool:
    """False only when the store, asked by name, has no such object.

    One of another `size`, or that says that it is of another set, is not the one.
    """
    try:
        found = store.head(key)
    except ObjectMissing:
        return False
    except (StoreAccessDenied, StoreFailing) as error:
        _log.warning("%s", error.message, extra=fields(key=key))
        return True
    owner = found.metadata.get("set-id")
    return size in (None, found.size) and (set_id is None or owner in (None, set_id))


def _forget(table: SetsTable, set_id: str, now: datetime, own: OwnPoints) -> None:
    """Drop what the store no longer has; one that no prune of ours removed is missing.

    A prune notes what it is about to delete before it does, and forgets the set before it
    drops that note: so the note is looked for first, and then the set.
    """
    if own.is_doomed(set_id) or naming.is_legacy_id(set_id):
        table.forget(set_id)
    elif table.note_vanished(set_id, now, own.ours()):
        _say_vanished(set_id)


def _say_vanished(point_id: str) -> None:
    _log.error(
        "restore point %s vanished from the store, and no prune of this installation removed it",
        point_id,
        extra=fields(set_id=point_id),
    )


def _check_objects(
    table: SetsTable, store: ObjectStore, sizes: Mapping[str, int], now: datetime
) -> None:
    """Find the sets whose objects are not in the listing as they were stored, or are again.

    The listing may be older than the set, or the set pruned since: so each is asked for by
    name, and is hollow only while its manifest is there.
    """
    lacking: dict[str, tuple[str, int]] = {}
    taken: dict[str, str] = {}
    for set_id, key, size in table.objects():
        # Nothing is overwritten: a newer set has a key only if the older one's object was gone.
        if sizes.get(key) != size or taken.setdefault(key, set_id) != set_id:
            lacking.setdefault(set_id, (key, size))
    hollow = {one.point.id for one in table.missing_points() if one.point.kind == "hollow"}
    for set_id in sorted(hollow - lacking.keys()):
        table.end_missing(set_id)
        _log.info("the objects are there again", extra=fields(set_id=set_id))
    for set_id in sorted(lacking.keys() - hollow):
        key, size = lacking[set_id]
        manifest_key = naming.manifest_key(table.prefix, set_id)
        if _may_be_stored(store, key, size, set_id) or not _may_be_stored(store, manifest_key):
            continue
        if table.note_hollow(set_id, now):
            _log.error(
                "restore point %s is hollow: %s is missing in the store, or has another size",
                set_id,
                key,
                extra=fields(set_id=set_id),
            )


def _end_vanished(table: SetsTable, sizes: Mapping[str, int]) -> None:
    """What vanished and is stored again is a restore point like any other."""
    vanished = [one for one in table.missing_points() if one.point.kind == "vanished"]
    known = table.documents() if vanished else {}
    for one in vanished:
        is_back = one.keys <= sizes.keys() if one.keys else one.point.id in known
        if is_back:
            table.end_missing(one.point.id)
            _log.info("a restore point is there again", extra=fields(set_id=one.point.id))


def _lost_legacy(
    table: SetsTable, store: ObjectStore, listed: Collection[str]
) -> tuple[list[str], list[str]]:
    """The objects of the old scripts that are gone, and those that the listing only lacks."""
    lost: list[str] = []
    unlisted: list[str] = []
    for key in sorted(table.legacy_keys() - set(listed)):
        (unlisted if _may_be_stored(store, key) else lost).append(key)
    return lost, unlisted


def _fetch(table: SetsTable, store: ObjectStore, set_id: str, name: str) -> None:
    buffer = io.BytesIO()
    try:
        store.get(f"{naming.sets_prefix(table.prefix)}{set_id}/{name}.json", buffer)
        if name == naming.MANIFEST:
            # Kept even when it cannot be read: `Catalogue.get` then says why.
            table.add_manifest(set_id, buffer.getvalue())
        else:
            if name.startswith("proof-"):
                manifest.load_verdict(buffer.getvalue(), expected_id=set_id)
            elif name.startswith("aside-"):
                manifest.load_aside(buffer.getvalue(), expected_id=set_id)
            table.add_verdict(set_id, name, buffer.getvalue())
    except ObjectMissing:
        pass  # pruned since the listing
    except ManifestInvalid as error:
        _log.warning(error.message, extra=fields(set_id=set_id, name=name))


def _learn_dated(
    table: SetsTable,
    store: ObjectStore,
    stored: Mapping[str, ObjectInfo],
    *,
    complete: bool,
) -> None:
    """Find the objects of the old scripts: dated, of no set, and without our metadata.

    Only a HEAD shows the metadata, so each object is asked once. Unless the
    listing is `complete`, none is dropped.
    """
    known = table.dated_objects()
    new = [
        info
        for info in stored.values()
        if known.get(info.key) != (info.size, format_utc(info.modified_at))
    ]
    claimed = table.claimed_on({table.day(info.key) for info in new})
    learnt = []
    for info in new:
        try:
            ours = info.key in claimed or "set-id" in store.head(info.key).metadata
        except ObjectMissing:
            continue  # gone since the listing
        learnt.append(DatedObject(info.key, info.size, info.modified_at, legacy=not ours))
    table.note_dated(known.keys() - stored.keys() if complete else [], learnt)


def _is_read(set_id: str, name: str) -> bool:
    """Whether a document says something about a set; a legacy group has no manifest."""
    if name == naming.MANIFEST:
        return not naming.is_legacy_id(set_id)
    return name.startswith(("proof-", "accept-", "drill-", "aside-"))


def _manifest_first(name: str) -> tuple[bool, str]:
    return name != naming.MANIFEST, name
