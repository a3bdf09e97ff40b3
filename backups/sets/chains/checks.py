"""The verdicts on a chain that this host knows of."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from backups.decisions.chains.verdicts import Verdicts, together
from backups.format import chain as chain_format
from backups.format.chain import Check
from backups.format.mark import Marks
from backups.sets.chains import objects_table
from backups.sets.chains.objects_table import ObjectRow


def verdicts_of(rows: Iterable[ObjectRow], marks: Marks | None = None) -> Verdicts:
    """What those among the objects of a chain say that are marked: by `marks`, or as was noted."""
    found = {}
    for row in rows:
        if row.kind != "check" or row.document is None:
            continue
        if marks is None:
            is_marked = row.mark == "valid"
        else:
            is_marked = marks.check(row.key, row.document).outcome == "valid"
        if is_marked:
            name = row.key.rpartition("/")[2]
            found[name] = chain_format.load(Check, row.document, key=row.key, chain=row.chain)
    return together(found)


def known_verdicts(connection: sqlite3.Connection, chain: str) -> Verdicts:
    """The verdicts on a chain that this host knows of."""
    return verdicts_of(objects_table.objects(connection, chain, "check"))
