"""Chains as this host's records have them, without any objects in a store."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import closing
from datetime import UTC, datetime

from backups.format import chain as chain_format
from backups.format.chain import FORMAT, End, EndReason, Head, HeadSource
from backups.format.chain_keys import chain_id, end_key, head_key, increment_key
from backups.host.catalogues import open_catalogue
from backups.host.records import open_records
from backups.sets.chains import table
from backups.sets.chains.table import PointRow
from shared.databases.sqlite import Database
from shared.store.directory import DirectoryStore
from tests.support.installation import Installation
from tests.support.marks import MARKS, PREFIX


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
) -> str:
    """Enter a chain with points at `instants`, numbered from 1 unless it is said how; its id."""
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
        for number, instant in zip(noted, at, strict=True):
            table.note_point(
                connection,
                PointRow(
                    chain,
                    number,
                    number + 1,
                    milliseconds(instant),
                    increment_key(PREFIX, chain, number, sealed=False),
                    900,
                    "0" * 64,
                    "unsigned" if number in unmarked else "valid",
                    number not in unproven,
                    "half is gone" if number in suspect else None,
                ),
            )
        if end:
            highest = max(noted, default=0)
            last = End(FORMAT, chain, at[-1] if at else first, end, highest)
            table.note_end(connection, chain, _signed(end_key(PREFIX, chain), last), "valid")
    return chain


def _signed(key: str, document: Head | End) -> bytes:
    return MARKS.sign(key, chain_format.dump(document))


def known_of(installation: Installation) -> closing[Database]:
    """What an installation with the embedded store knows of it, as long as it is open."""
    directory = installation.backup_dir.path
    store = DirectoryStore(installation.folder / "data" / "spaces")
    with closing(open_records(directory)) as records:
        return closing(open_catalogue(directory, store, PREFIX, records))
