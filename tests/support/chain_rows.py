"""Chains as this host's records have them; in a store there are at most objects of their size."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable
from contextlib import closing
from datetime import UTC, datetime

from backups.format import chain as chain_format
from backups.format.chain import FORMAT, End, EndReason, Head, HeadSource
from backups.format.chain_keys import (
    chain_id,
    differential_key,
    end_key,
    head_key,
    increment_key,
)
from backups.host.catalogues import open_catalogue
from backups.host.records import open_records
from backups.sets.chains import objects_table, table
from backups.sets.chains.objects_table import ObjectRow
from backups.sets.chains.table import PointRow
from shared.databases.sqlite import Database
from shared.store.directory import DirectoryStore
from shared.store.object_store import ObjectStore
from tests.support.installation import Installation
from tests.support.marks import MARKS, PREFIX

_BYTES = 900


def milliseconds(at: datetime) -> int:
    """Since 1970."""
    return round(at.timestamp() * 1000)


def note_chain(
    known: Database,
    set_id: str,
    instance: str,
    instants: Iterable[datetime],
    *,
    numbers: Iterable[int] | None = None,
    unproven: Collection[int] = (),
    suspect: Collection[int] = (),
    unmarked: Collection[int] = (),
    end: EndReason | None = None,
    began: datetime | None = None,
    store: ObjectStore | None = None,
) -> str:
    """Enter a chain with points at `instants`, numbered from 1 unless it is said how; its id.

    With `store` it survives a listing: there are objects of the right size, which nobody may read.
    """
    chain = chain_id(set_id, instance)
    at = list(instants)
    noted = list(numbers or range(1, len(at) + 1))
    source = HeadSource("tokens", 4096, 1, "0" * 32, "0" * 64)
    first = began or (at[0] if at else datetime(2026, 11, 22, tzinfo=UTC))
    head = Head(FORMAT, chain, set_id, instance, first, 1, (source,))
    with known.transaction() as connection:
        table.note_head(
            connection, chain, instance, _signed(head_key(PREFIX, chain), head), "valid"
        )
        _put(store, head_key(PREFIX, chain), _signed(head_key(PREFIX, chain), head))
        for number, instant in zip(noted, at, strict=True):
            key = increment_key(PREFIX, chain, number, sealed=False)
            _put(store, key, bytes(_BYTES))
            table.note_point(
                connection,
                PointRow(
                    chain,
                    number,
                    number + 1,
                    milliseconds(instant),
                    key,
                    _BYTES,
                    "0" * 64,
                    "unsigned" if number in unmarked else "valid",
                    number not in unproven,
                    "half is gone" if number in suspect else None,
                ),
            )
        if end:
            highest = max(noted, default=0)
            last = End(FORMAT, chain, at[-1] if at else first, end, highest)
            signed = _signed(end_key(PREFIX, chain), last)
            table.note_end(connection, chain, signed, "valid")
            _put(store, end_key(PREFIX, chain), signed)
    return chain


def note_differential(
    known: Database, chain: str, number: int, store: ObjectStore | None = None
) -> None:
    """Enter a differential: the points after a gap can be restored from it on."""
    key = differential_key(PREFIX, chain, number, sealed=False)
    _put(store, key, bytes(_BYTES))
    with known.transaction() as connection:
        row = ObjectRow(key, chain, "differential", number, number, _BYTES, "valid")
        objects_table.note_object(connection, row)


def _signed(key: str, document: Head | End) -> bytes:
    return MARKS.sign(key, chain_format.dump(document))


def _put(store: ObjectStore | None, key: str, content: bytes) -> None:
    if store is not None:
        store.put(key, io.BytesIO(content), {})


def store_of(installation: Installation) -> DirectoryStore:
    """The embedded store of an installation."""
    return DirectoryStore(installation.folder / "data" / "spaces")


def known_of(installation: Installation) -> closing[Database]:
    """What an installation with the embedded store knows of it, as long as it is open."""
    directory = installation.backup_dir.path
    with closing(open_records(directory)) as records:
        return closing(open_catalogue(directory, store_of(installation), PREFIX, records))
