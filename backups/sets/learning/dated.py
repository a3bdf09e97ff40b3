"""Learning which objects of the old scripts the store has: dated, of no set, without metadata."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

from backups.format.legacy import DatedObject
from backups.sets.missing import may_be_stored
from backups.sets.sets_table import SetsTable
from shared.clock import format_utc
from shared.errors import ObjectMissing, StoreAccessDenied, StoreFailing
from shared.logs import fields
from shared.store.object_store import ObjectInfo, ObjectStore

_log = logging.getLogger(__name__)


def lost_legacy(
    table: SetsTable, store: ObjectStore, listed: Collection[str]
) -> tuple[list[str], list[str]]:
    """The objects of the old scripts that are gone, and those that the listing only lacks."""
    lost: list[str] = []
    unlisted: list[str] = []
    for key in sorted(table.legacy_keys() - set(listed)):
        (unlisted if may_be_stored(store, key) else lost).append(key)
    return lost, unlisted


def learn_dated(
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
        one
        for one in stored.values()
        if known.get(one.key) != (one.size, format_utc(one.modified_at))
    ]
    claimed = table.claimed_on({table.day(info.key) for info in new})
    learnt = []
    for info in new:
        try:
            ours = info.key in claimed or "set-id" in store.head(info.key).metadata
        except ObjectMissing:
            continue  # gone since the listing
        except (StoreAccessDenied, StoreFailing) as error:  # asked again the next time
            _log.warning(error.message, extra=fields(key=info.key))
            continue
        learnt.append(DatedObject(info.key, info.size, info.modified_at, legacy=not ours))
    table.note_dated(known.keys() - stored.keys() if complete else [], learnt)
