"""Putting a verdict on a chain into the store."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, timedelta
from hashlib import sha256

from backups.format import chain as chain_format
from backups.format.chain import Check
from backups.format.chain_keys import check_key, instance_of
from backups.format.mark import Marks
from backups.sets.chains import objects_table
from backups.sets.chains.objects_table import ObjectRow
from backups.sets.puts import put_document
from shared.databases.sqlite import Database
from shared.errors import ObjectExists
from shared.store.object_store import ObjectStore

# A second is the name of one verdict.
_MOST_TRIES = 10


def put_check(store: ObjectStore, known: Database, marks: Marks, check: Check) -> None:
    """Leave a verdict in the store, and note it here; its second is the first one that is free.

    Raises `StoreError`, `ProofFailed`, `DatabaseError`.
    """
    at = check.at.astimezone(UTC)
    for seconds in range(_MOST_TRIES):
        stamped = replace(check, at=at + timedelta(seconds=seconds))
        key = check_key(marks.prefix, check.chain, stamped.at)
        document = marks.sign(key, chain_format.dump(stamped))
        metadata = {"chain": check.chain, "instance": instance_of(check.chain)}
        try:
            put_document(store, key, document, metadata)
            break
        except ObjectExists:
            if seconds == _MOST_TRIES - 1:
                raise
    row = ObjectRow(key, check.chain, "check", 0, 0, len(document), "valid", document=document)
    row = replace(row, sha256=sha256(document).hexdigest())
    with known.transaction() as connection:
        objects_table.note_object(connection, row)
        if check.accepts is not None:
            objects_table.accept_to(connection, check.chain, check.good)
