"""What later marks of a chain vouch for: what was marked with a key that was rotated away since."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from backups.errors import ManifestInvalid
from backups.format import chain as chain_format
from backups.format.chain import ChainMark
from backups.format.chain_keys import DOCUMENTS, chain_prefix, end_key, head_key
from backups.format.mark import Marks
from backups.sets.chains import objects_table, table
from backups.sets.chains.objects_table import ObjectRow


def vouched(marks: Marks, chain: str, objects: Iterable[ObjectRow]) -> Marks:
    """`marks`, by which that counts, too, which those later marks name that count by `marks`."""
    below = chain_prefix("", chain)
    named: dict[str, str] = {}
    for one in objects:
        if one.kind != "mark" or one.document is None:
            continue
        if marks.check(one.key, one.document).outcome != "valid":
            continue
        with suppress(ManifestInvalid):
            found = chain_format.load(ChainMark, one.document, key=one.key, chain=chain)
            named |= {below + name: digest for name, digest in found.documents.items()}
    return marks.vouching(named) if named else marks


def judge_again(
    connection: sqlite3.Connection, chain: str, marks: Marks, *, refused_too: bool
) -> None:
    """Take for valid what a later mark vouches for.

    With `refused_too` also read again what was refused, and is named by one.
    """
    row = table.chain(connection, chain)
    objects = objects_table.objects(connection, chain)
    if row is None or not any(one.kind == "mark" for one in objects):
        return
    marks = vouched(marks, chain, objects)

    def is_valid(key: str, document: bytes | None) -> bool:
        return document is not None and marks.check(key, document).outcome == "valid"

    if row.head_mark != "valid" and is_valid(head_key(marks.prefix, chain), row.head):
        table.note_head(connection, chain, row.instance, row.head, "valid")
    end = row.end
    if end is not None and row.end_mark != "valid" and is_valid(end_key(marks.prefix, chain), end):
        table.note_end(connection, chain, end, "valid")
    for one in objects:
        if one.mark in (None, "valid"):
            continue
        if one.kind in DOCUMENTS:
            if is_valid(one.key, one.document):
                objects_table.note_object(connection, replace(one, mark="valid"))
        elif refused_too and marks.vouches_for(one.key):
            objects_table.note_object(connection, replace(one, mark=None))
