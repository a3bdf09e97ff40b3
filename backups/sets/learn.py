"""Learning what the store has: one listing, and a get for each document that is new.

The store is the truth. What this host has noted of it (`SetsTable`) follows.

One file, because one listing says what is new, what is gone, and what is only a part of a set.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from backups.errors import ManifestInvalid
from backups.format import manifest, naming
from backups.format.document import MOST_BYTES
from backups.format.notes.deletion import DELETED
from backups.sets import marks_table, points_table
from backups.sets.judging import LATER_MARK, READ_AS
from backups.sets.learning.dated import learn_dated, lost_legacy
from backups.sets.learning.deleted import is_deleted
from backups.sets.missing import UnreadDocument, UnreadDocuments, may_be_stored
from backups.sets.sets_table import SetsTable
from shared.clock import Clock, format_utc
from shared.errors import (
    AppError,
    ObjectMissing,
    ObjectTooLarge,
    StoreAccessDenied,
    StoreFailing,
    StoreListingIncomplete,
)
from shared.logs import fields
from shared.store.object_store import ObjectInfo, ObjectStore, get_document

_log = logging.getLogger(__name__)

# One object that the store cannot return must hide no other; but each costs the retries, and
# after so many the store has to return another one.
_FAILURES_BEFORE_A_PROBE = 3
_TOO_LARGE_HINT = "Look who wrote it, and delete it: this program writes no such document."


@dataclass(frozen=True)
class OwnPoints:
    """What `learn` asks about this installation when a restore point is not in the store.

    `ours` are the instances whose sets are this installation's (None: all); `is_doomed` says
    whether our prune is deleting a set. `owed` are the later marks (set id, name) that the store
    has yet to get, and `owe` adds one.
    """

    ours: Callable[[], Collection[str] | None]
    is_doomed: Callable[[str], bool]
    owed: Callable[[], Collection[tuple[str, str]]]
    owe: Callable[[str, str], None]


def learn(
    table: SetsTable,
    store: ObjectStore,
    clock: Clock,
    own: OwnPoints,
    unread: UnreadDocuments,
    *,
    take: Callable[[ObjectInfo], None],
) -> None:
    """Bring `table` up to what the store has now, and note when that was; `take` gets the listing.

    Raises `StoreError`; then the table is as it was, or a part further. A set is forgotten when the
    store, asked for its manifest by name, has none: a listing that lacks one that is there raises
    `StoreListingIncomplete`, after all that is new was learnt, and nothing is forgotten. What is
    gone without our prune is noted as missing, and logged once. A document that the store does not
    return, or that is invalid, is noted as unread, and stops nothing.
    """
    known = table.documents()  # before the listing: a set made during it must not be forgotten
    documents: dict[str, dict[str, ObjectInfo]] = {}
    dated, sizes = dict[str, ObjectInfo](), dict[str, int]()
    for listed in store.list(table.prefix):
        take(listed)
        sizes[listed.key] = listed.size
        parsed = naming.parse_set_key(table.prefix, listed.key)
        data = naming.parse_data_key(table.prefix, listed.key)
        if parsed and _is_read(*parsed):
            documents.setdefault(parsed[0], {})[parsed[1]] = listed
        elif data and data.instant is None:
            dated[listed.key] = listed
    read = {set_id: _of_set(set_id, names) for set_id, names in documents.items()}
    stored = {set_id: names for set_id, names in read.items() if names}
    gone, unlisted = _no_longer_stored(table, store, stored, known)
    before = table.not_believed()
    _read_new(table, store, stored, known, unread, forget=partial(_forget, table, clock, own))
    marks_table.report_not_believed(table.not_believed(), table.prefix, before)
    _drop_removed_verdicts(table, store, stored, known, own)
    lost, unlisted_legacy = lost_legacy(table, store, dated)
    unlisted += unlisted_legacy
    now = clock.now()
    if not unlisted:
        for set_id in gone:
            if naming.MANIFEST not in known[set_id] and not naming.is_legacy_id(set_id):
                _forget_deletion(table, store, set_id, known[set_id])
                continue
            if set_id not in stored:
                _take_in_deletion(table, store, set_id)
            _forget(table, clock, own, set_id)
        for group in table.note_lost_legacy(lost, now):
            _say_vanished(group)
        _end_vanished(table, sizes)
        _check_objects(table, store, sizes, now)
    learn_dated(table, store, dated, complete=not unlisted)
    if not known.keys() - {*gone} <= table.documents().keys():
        # The records were found damaged meanwhile, and made anew.
        learn(table, store, clock, own, unread, take=take)
        return
    table.note_listed(sizes, now)
    if unlisted:
        raise StoreListingIncomplete(
            "the store's listing lacks objects that the store returns by name: "
            + ", ".join(sorted(unlisted)[:5])
            + (" and others" if len(unlisted) > 5 else ""),
            "Nothing is removed until the listing is complete. Run: ./bot backups list; "
            "if it fails again, ask the store's provider.",
        )


def _no_longer_stored(
    table: SetsTable,
    store: ObjectStore,
    stored: Mapping[str, Collection[str]],
    known: Mapping[str, set[str]],
) -> tuple[list[str], list[str]]:
    """The sets that are gone, and those that the listing only lacks."""
    gone, unlisted = list[str](), list[str]()
    for set_id, names in sorted(known.items()):
        is_set, listed = naming.MANIFEST in names, stored.get(set_id, {})
        if naming.MANIFEST in listed if is_set else listed:
            continue
        key = naming.manifest_key(table.prefix, set_id)
        (unlisted if is_set and may_be_stored(store, key) else gone).append(set_id)
    return gone, unlisted


def _of_set(set_id: str, names: Mapping[str, ObjectInfo]) -> Mapping[str, ObjectInfo]:
    """The documents of a set that are read: of one without a manifest, that it was deleted."""
    if naming.MANIFEST in names or naming.is_legacy_id(set_id):
        return names
    return {name: info for name, info in names.items() if name.startswith(DELETED)}


def _forget_deletion(
    table: SetsTable, store: ObjectStore, set_id: str, names: Collection[str]
) -> None:
    """Forget that a set was deleted, once the store has the note no more."""
    for name in sorted(names):
        if not may_be_stored(store, naming.document_key(table.prefix, set_id, name)):
            table.forget_verdict(set_id, name)


def _take_in_deletion(table: SetsTable, store: ObjectStore, set_id: str) -> None:
    """Look again for the note that a set was deleted: it may be younger than the listing."""
    for info in store.list(naming.document_prefix(table.prefix, set_id, DELETED)):
        parsed = naming.parse_set_key(table.prefix, info.key)
        if parsed is not None and info.size <= MOST_BYTES:
            with suppress(StoreFailing):  # the next listing has the note
                _fetch(table, store, set_id, parsed[1], info)


def _read_new(
    table: SetsTable,
    store: ObjectStore,
    stored: Mapping[str, Mapping[str, ObjectInfo]],
    known: Mapping[str, set[str]],
    unread: UnreadDocuments,
    *,
    forget: Callable[[str], None],
) -> None:
    """Take in the documents that are not known yet, and those that were replaced since they were
    found invalid; note which of them nobody can read, and `forget` a set that lost its manifest."""
    before = {one.key: one for one in unread.all()}
    with table.reading() as connection:
        invalid = points_table.invalid(connection)
    found: list[UnreadDocument] = []
    failed: list[str] = []
    for set_id, documents in stored.items():
        for name in sorted(documents, key=_manifest_first):
            info = documents[name]
            if info.size > MOST_BYTES:
                found.append(
                    _refused(table, set_id, name, info, before.get(info.key), forget=forget)
                )
                continue
            is_invalid = name == naming.MANIFEST and set_id in invalid
            if name in known.get(set_id, ()) and not is_invalid:
                continue
            noted = before.get(info.key)
            if noted is None or noted.version != _version(info):
                try:
                    noted = _fetch(table, store, set_id, name, info)
                except StoreFailing as error:
                    failed.append(info.key)
                    if len(failed) % _FAILURES_BEFORE_A_PROBE == 0:
                        _probe(store, stored, failed, error)
                    noted = _unread(set_id, name, info, error)
            if noted is not None:
                found.append(noted)
    unread.write_anew(sorted(found, key=lambda one: one.key))


def _drop_removed_verdicts(
    table: SetsTable,
    store: ObjectStore,
    stored: Mapping[str, Mapping[str, ObjectInfo]],
    known: Mapping[str, set[str]],
    own: OwnPoints,
) -> None:
    """Forget the verdicts that the store, asked by name, no longer has: it is the truth.

    Not so a note that a set is set aside, nor a later mark, unless it was planted: this host may
    still owe it to the store. A later mark that is believed is owed again.
    """
    doubted = table.not_believed()
    owed = own.owed()
    for set_id, documents in stored.items():
        if naming.MANIFEST not in documents and not naming.is_legacy_id(set_id):
            continue  # it was deleted, and so were they
        for name in sorted(known.get(set_id, set()) - documents.keys() - {naming.MANIFEST}):
            planted = doubted.get((set_id, name)) in ("unsigned", "wrong")
            is_kept = name.startswith(("aside-", LATER_MARK)) and not planted
            believed = name.startswith(LATER_MARK) and (set_id, name) not in {*doubted, *owed}
            key = naming.document_key(table.prefix, set_id, name)
            if (is_kept and not believed) or may_be_stored(store, key):
                continue
            if not is_kept:
                table.forget_verdict(set_id, name)
                _log.warning("%s is gone from the store, and counts no more", key)
            elif may_be_stored(store, naming.manifest_key(table.prefix, set_id)):
                own.owe(set_id, name)
                _log.warning("%s is gone from the store; the next run stores it again", key)


def _probe(
    store: ObjectStore,
    stored: Mapping[str, Mapping[str, ObjectInfo]],
    failed: Collection[str],
    error: StoreFailing,
) -> None:
    """Raise unless the store returns the newest manifest that it has not failed to return yet."""
    manifests = (one[naming.MANIFEST].key for one in stored.values() if naming.MANIFEST in one)
    others = sorted(set(manifests) - set(failed))
    if not others:
        raise error
    with suppress(ObjectMissing, ObjectTooLarge, StoreAccessDenied):  # these are answers, too
        get_document(store, others[-1], MOST_BYTES)


def _version(info: ObjectInfo) -> str:
    """Changes when an object is replaced, or read by a program that reads another format."""
    return f"{manifest.FORMAT} {info.size} {format_utc(info.modified_at)}"


def _forget(table: SetsTable, clock: Clock, own: OwnPoints, set_id: str) -> None:
    """Drop what the store no longer has; one that no prune of ours removed is missing.

    A prune notes what it is about to delete before it does, and forgets the set before it
    drops that note: so the note is looked for first, and then the set.
    """
    if own.is_doomed(set_id) or naming.is_legacy_id(set_id):
        table.forget(set_id)
    elif is_deleted(table, set_id):
        table.forget(set_id)
        _log.info("a person has deleted it", extra=fields(set_id=set_id))
    elif table.note_vanished(set_id, clock.now(), own.ours()):
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
        if may_be_stored(store, key, size, set_id) or not may_be_stored(store, manifest_key):
            continue
        if table.note_hollow(set_id, now):
            _log.error(
                "restore point %s is hollow: %s is missing in the store, or has another size",
                set_id,
                key,
                extra=fields(set_id=set_id),
            )


def _end_vanished(table: SetsTable, sizes: Mapping[str, int]) -> None:
    """What vanished and is stored again, with its mark, is a restore point like any other."""
    with table.reading() as connection:
        believed = marks_table.believed_sets(connection)
    for one in (one for one in table.missing_points() if one.point.kind == "vanished"):
        is_back = one.keys <= sizes.keys() if one.keys else one.point.id in believed
        if is_back:
            table.end_missing(one.point.id)
            _log.info("a restore point is there again", extra=fields(set_id=one.point.id))


def _fetch(
    table: SetsTable, store: ObjectStore, set_id: str, name: str, info: ObjectInfo
) -> UnreadDocument | None:
    """Take in a document; what to note when it cannot be read. Raises `StoreFailing`."""
    try:
        document = get_document(store, info.key, info.size)
        if name == naming.MANIFEST:
            # Kept even when it cannot be read: `Catalogue.get` then says why.
            table.add_manifest(set_id, document)
            manifest.load_manifest(document, prefix=table.prefix, expected_id=set_id)
        else:
            for kind, load in READ_AS.items():
                if name.startswith(kind):
                    load(document, expected_id=set_id)
            table.add_verdict(set_id, name, document)
    except ObjectMissing:
        return None  # pruned since the listing
    except (StoreAccessDenied, ObjectTooLarge, ManifestInvalid) as error:
        return _unread(set_id, name, info, error)
    return None


def _refused(
    table: SetsTable,
    set_id: str,
    name: str,
    info: ObjectInfo,
    noted: UnreadDocument | None,
    *,
    forget: Callable[[str], None],
) -> UnreadDocument:
    """What to note of a document that is too large to be fetched; an earlier version may have
    taken it in."""
    if noted is not None and noted.version == _version(info):
        return noted
    if name == naming.MANIFEST:
        forget(set_id)
    else:
        table.forget_verdict(set_id, name)
    fault = f"it has {info.size:,} bytes, and a document at most {MOST_BYTES:,}"
    return _unread(set_id, name, info, ManifestInvalid(fault, _TOO_LARGE_HINT))


def _unread(set_id: str, name: str, info: ObjectInfo, error: AppError) -> UnreadDocument:
    _log.warning("%s", error.message, extra=fields(set_id=set_id, name=name))
    version = _version(info) if isinstance(error, ManifestInvalid) else None
    return UnreadDocument(info.key, set_id, name, error.message, version)


def _is_read(set_id: str, name: str) -> bool:
    """Whether a document says something about a set; a legacy group has no manifest."""
    if name == naming.MANIFEST:
        return not naming.is_legacy_id(set_id)
    return name.startswith(("drill-", *READ_AS))


def _manifest_first(name: str) -> tuple[bool, str]:
    return name != naming.MANIFEST, name
