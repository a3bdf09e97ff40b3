"""Learning which chains the store has, from the listing that `sets/learn.py` makes.

    documents that are new -> objects that are new -> objects that are gone -> what was lost

Heads, ends and checks are fetched, each once. Of an increment, a differential and a pack only the
key and the size are noted: what is in one is read when it is needed (`reading.py`). What this
host's follower has noted itself stays, while the store lists it with that size.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from backups.errors import ManifestInvalid
from backups.format import chain as chain_format
from backups.format.chain import ChainMark, Check, End, Head
from backups.format.chain_keys import (
    DOCUMENTS,
    ChainKey,
    head_key,
    instance_of,
    parse_chain_key,
)
from backups.format.document import MOST_BYTES
from backups.format.mark import Marks
from backups.format.pack import MOST_MEMBERS
from backups.model import Mark
from backups.sets.chains import objects_table, table
from backups.sets.chains.checks import known_verdicts
from backups.sets.chains.lost import Lost, lost_since, usable
from backups.sets.chains.objects_table import ObjectRow
from backups.sets.chains.vouched import judge_again
from backups.sets.missing import may_be_stored
from shared.databases.sqlite import Database
from shared.errors import ObjectMissing, ObjectTooLarge, StoreAccessDenied, StoreFailing
from shared.logs import fields
from shared.store.object_store import ObjectInfo, ObjectStore, get_document

_log = logging.getLogger(__name__)


@dataclass
class ChainListing:
    """The objects of chains in a listing, by chain and key; `take` is given all that is listed."""

    prefix: str
    chains: dict[str, dict[str, tuple[ChainKey, ObjectInfo]]] = field(default_factory=dict)

    def take(self, info: ObjectInfo) -> None:
        """Keep it if it is of a chain."""
        if (parsed := parse_chain_key(self.prefix, info.key)) is not None:
            self.chains.setdefault(parsed.chain, {})[info.key] = (parsed, info)


@dataclass(frozen=True)
class Known:
    """What is known of a chain: its objects, and the sizes of its points, by key."""

    objects: Mapping[str, ObjectRow]
    points: Mapping[str, int]

    def keys(self) -> set[str]:
        """The keys of both."""
        return {*self.objects, *self.points}


def known_chains(known: Database) -> dict[str, Known]:
    """What this host knows now of each chain: to be asked before the listing begins."""
    with known.reading() as connection:
        return {row.id: _known(connection, row.id) for row in table.chains(connection)}


def learn_chains(
    known: Database,
    store: ObjectStore,
    marks: Marks,
    listing: ChainListing,
    before: Mapping[str, Known],
) -> list[Lost]:
    """Bring the tables of chains up to a listing that went to the end; what the store lost.

    Raises `StoreError`. `before` is what `known_chains` said before the store was listed.
    """
    lost: list[Lost] = []
    for chain, listed in sorted(listing.chains.items()):
        _learn_documents(known, store, marks, chain, listed)
        with known.transaction() as connection:
            if table.chain(connection, chain) is not None:
                lost += _note_objects(connection, chain, listed)
    for chain, of_chain in before.items():
        lost += _forget_gone(known, store, listing, chain, of_chain)
    return lost


def _known(connection: sqlite3.Connection, chain: str) -> Known:
    return Known(
        {one.key: one for one in objects_table.objects(connection, chain)},
        {one.key: one.bytes for one in table.points(connection, chain)},
    )


def _learn_documents(
    known: Database,
    store: ObjectStore,
    marks: Marks,
    chain: str,
    listed: Mapping[str, tuple[ChainKey, ObjectInfo]],
) -> None:
    with known.reading() as connection:
        row = table.chain(connection, chain)
        others = {one.key: one for one in objects_table.objects(connection, chain)}
    new_mark = False
    for key, (parsed, info) in sorted(listed.items(), key=lambda one: one[1][0].kind != "head"):
        if parsed.kind not in DOCUMENTS:
            continue
        noted = others.get(key)
        have = noted.bytes if noted else None
        if parsed.kind == "head" and row is not None:
            have = len(row.head)
        elif parsed.kind == "end" and row is not None and row.end is not None:
            have = len(row.end)
        if have == info.size:
            continue
        found = _fetch(store, marks, chain, parsed, info)
        if found is not None:
            with known.transaction() as connection:
                _note_document(connection, chain, parsed, info, found)
            new_mark = new_mark or parsed.kind == "mark"
    with known.transaction() as connection:
        judge_again(connection, chain, marks, refused_too=new_mark)


def _fetch(
    store: ObjectStore, marks: Marks, chain: str, parsed: ChainKey, info: ObjectInfo
) -> tuple[bytes | None, Mark] | None:
    """A document (None for what is none) and its mark; None while the store does not return it."""
    try:
        if info.size > MOST_BYTES:
            raise ManifestInvalid(f"{info.key} has {info.size:,} bytes", "Delete it.")
        document = get_document(store, info.key, info.size)
        if parsed.kind == "head":
            chain_format.load(Head, document, key=info.key, chain=chain)
        elif parsed.kind == "end":
            chain_format.load(End, document, key=info.key, chain=chain)
        elif parsed.kind == "check":
            chain_format.load(Check, document, key=info.key, chain=chain)
        else:
            chain_format.load(ChainMark, document, key=info.key, chain=chain)
    except (ManifestInvalid, ObjectTooLarge) as error:
        _log.warning("%s", error.message, extra=fields(chain=chain))
        return None, "wrong"
    except ObjectMissing:
        return None
    except (StoreAccessDenied, StoreFailing) as error:
        _log.warning("%s", error.message, extra=fields(chain=chain))
        return None
    return document, marks.check(info.key, document).outcome


def _note_document(
    connection: sqlite3.Connection,
    chain: str,
    parsed: ChainKey,
    info: ObjectInfo,
    found: tuple[bytes | None, Mark],
) -> None:
    document, mark = found
    if document is not None and parsed.kind == "head":
        table.note_head(connection, chain, instance_of(chain), document, mark)
    elif document is not None and parsed.kind == "end":
        table.note_end(connection, chain, document, mark)
    else:
        row = ObjectRow(info.key, chain, parsed.kind, 0, 0, info.size, mark, document)
        objects_table.note_object(connection, row)
        if parsed.kind == "check":
            objects_table.accept_to(connection, chain, known_verdicts(connection, chain).accepted)


def _note_objects(
    connection: sqlite3.Connection,
    chain: str,
    listed: Mapping[str, tuple[ChainKey, ObjectInfo]],
) -> list[Lost]:
    known = _known(connection, chain)
    replaced = [
        key for key, (_, info) in listed.items() if known.points.get(key, info.size) != info.size
    ]
    before = usable(connection, chain) if replaced else None
    for key, (parsed, info) in listed.items():
        if parsed.kind in DOCUMENTS:
            continue
        if parsed.kind == "increment" and known.points.get(key) == info.size:
            continue
        noted = known.objects.get(key)
        if noted is not None and noted.bytes == info.size:
            continue
        new = ObjectRow(key, chain, parsed.kind, parsed.first, parsed.last, info.size)
        if parsed.kind == "pack" and parsed.last - parsed.first >= MOST_MEMBERS:
            new = replace(new, last=parsed.first, mark="wrong")  # no pack has so many
        if key in known.points:
            objects_table.forget_objects(connection, [key])
            _log.warning("%s is not what was stored", key, extra=fields(chain=chain))
            new = replace(new, mark="wrong")
        objects_table.note_object(connection, new)
    return lost_since(connection, chain, before) if before else []


def _forget_gone(
    known: Database,
    store: ObjectStore,
    listing: ChainListing,
    chain: str,
    before: Known,
) -> list[Lost]:
    """Forget what was known before the listing, is not in it, and is not there by name either."""
    listed = listing.chains.get(chain, {})
    packed = {
        number
        for parsed, _ in listed.values()
        if parsed.kind == "pack" and parsed.last - parsed.first < MOST_MEMBERS
        for number in range(parsed.first, parsed.last + 1)
    }
    with known.reading() as connection:
        numbers = {one.key: one.number for one in table.points(connection, chain)}
    gone = [
        key
        for key in sorted(before.keys() - listed.keys())
        if numbers.get(key) in packed or not may_be_stored(store, key)
    ]
    head = head_key(listing.prefix, chain)
    if head not in listed and not may_be_stored(store, head):
        _log.warning("%s is not in the store any more", head, extra=fields(chain=chain))
        with known.transaction() as connection:
            before_it = usable(connection, chain)
            objects_table.forget_chain(connection, chain)
            return lost_since(connection, chain, before_it)
    if not gone:
        return []
    with known.transaction() as connection:
        before_it = usable(connection, chain)
        objects_table.forget_objects(connection, gone)
        return lost_since(connection, chain, before_it)
