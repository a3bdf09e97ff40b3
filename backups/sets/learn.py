"""Learning what the store has: one listing, and a get for each document that is new.

The store is the truth. What this host has noted of it (`SetsTable`) follows.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping

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


def learn(table: SetsTable, store: ObjectStore, clock: Clock) -> None:
    """Bring `table` up to what the store has now, and note when that was.

    Raises `StoreError`; then the table is as it was, or a part further. A set is forgotten
    when the store, asked for its manifest by name, has none: a listing that lacks one that is
    there raises `StoreListingIncomplete`, after all else was learnt.
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
    unlisted = _learn_documents(table, store, documents, known)
    _learn_dated(table, store, dated)
    table.note_listed(sizes, clock.now())
    table.note_contact(clock.now())
    if unlisted:
        raise StoreListingIncomplete(
            "the store's listing lacks manifests that the store returns by name: "
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
) -> list[str]:
    """Take in what is new and forget what is gone; the sets that the listing only lacks."""
    stored = {
        set_id: names
        for set_id, names in listed.items()
        if naming.MANIFEST in names or naming.is_legacy_id(set_id)
    }
    unlisted = []
    for set_id in known.keys() - stored.keys():
        if naming.MANIFEST in known[set_id] and _may_be_stored(table, store, set_id):
            unlisted.append(set_id)
        else:
            table.forget(set_id)
    for set_id, names in stored.items():
        for name in sorted(names - known.get(set_id, set()), key=_manifest_first):
            _fetch(table, store, set_id, name)
    return unlisted


def _may_be_stored(table: SetsTable, store: ObjectStore, set_id: str) -> bool:
    """False only when the store, asked for the manifest by name, says that there is none."""
    try:
        store.head(naming.manifest_key(table.prefix, set_id))
    except ObjectMissing:
        return False
    except (StoreAccessDenied, StoreFailing) as error:
        _log.warning("%s", error.message, extra=fields(set_id=set_id))
    return True


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
            table.add_verdict(set_id, name, buffer.getvalue())
    except ObjectMissing:
        pass  # pruned since the listing
    except ManifestInvalid as error:
        _log.warning(error.message, extra=fields(set_id=set_id, name=name))


def _learn_dated(table: SetsTable, store: ObjectStore, stored: Mapping[str, ObjectInfo]) -> None:
    """Find the objects of the old scripts: dated, of no set, and without our metadata.

    Only a HEAD shows the metadata, so each object is asked once.
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
    table.note_dated(known.keys() - stored.keys(), learnt)


def _is_read(set_id: str, name: str) -> bool:
    """Whether a document says something about a set; a legacy group has no manifest."""
    if name == naming.MANIFEST:
        return not naming.is_legacy_id(set_id)
    return name.startswith(("proof-", "accept-", "drill-"))


def _manifest_first(name: str) -> tuple[bool, str]:
    return name != naming.MANIFEST, name
