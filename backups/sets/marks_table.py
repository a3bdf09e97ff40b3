"""The table of how the documents of the sets are marked, as a process with keys last found it.

A process without keys can check no mark: it believes what is noted here, and its own checks of
what is new are made again by the next process with keys (`SetsTable`).
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Collection, Mapping

from backups.format import naming
from backups.format.document import MOST_BYTES
from backups.format.mark import Checked, Marks
from backups.host.catalogues import read_fact, rotated_keys, write_fact
from backups.model import Mark
from backups.sets.judging import check_marks
from shared.logs import fields

_log = logging.getLogger(__name__)

_NOT_BELIEVED: Mapping[Mark, str] = {
    "unsigned": "it has no mark",
    "unknown_key": "its mark was made with a key that is not in TOKEN_ENCRYPTION_KEYS",
    "wrong": "its mark is not that of its content",
}


def were_noted(connection: sqlite3.Connection, reader: str, marks: Marks) -> bool:
    """Whether the `reader` of today has noted the points, and their marks with the keys of today.

    A process without keys takes the marks of whatever keys.
    """
    fact = read_fact(connection, "points") or ""
    return (
        fact == _fact(connection, reader, marks) if marks.keys else fact.partition(" ")[0] == reader
    )


def end_noting(connection: sqlite3.Connection, reader: str, marks: Marks) -> None:
    """Remember who has noted all points, and with which keys."""
    write_fact(connection, "points", _fact(connection, reader, marks))


def _fact(connection: sqlite3.Connection, reader: str, marks: Marks) -> str:
    return " ".join([reader, *sorted(set(_today(connection, marks).counting))])


def _today(connection: sqlite3.Connection, marks: Marks) -> Marks:
    """The same, without the keys that were rotated away."""
    return marks.since_rotation(rotated_keys(connection))


def documents(connection: sqlite3.Connection, set_id: str) -> dict[str, bytes]:
    """The manifest of a set, and the verdicts on it, by their names.

    An earlier version took in any size: a manifest that is larger than any may be is empty.
    """
    rows = connection.execute(
        "SELECT ?2, iif(length(manifest) > ?3, x'', manifest) FROM sets WHERE id = ?1"
        " UNION ALL SELECT name, document FROM verdicts WHERE set_id = ?1"
        " AND length(document) <= ?3",
        (set_id, naming.MANIFEST, MOST_BYTES),
    )
    return {row[0]: row[1] for row in rows}


def noted(connection: sqlite3.Connection, set_id: str) -> dict[str, Checked]:
    """How the documents of a set were marked, by their names."""
    rows = connection.execute("SELECT name, mark, key FROM marks WHERE set_id = ?", (set_id,))
    return {row[0]: Checked(row[1], row[2]) for row in rows}


def checked(
    connection: sqlite3.Connection, set_id: str, documents: Mapping[str, bytes], marks: Marks
) -> dict[str, Checked]:
    """How these documents of a set are marked: as noted, and what is not noted as `marks` say."""
    found = noted(connection, set_id)
    if documents.keys() <= found.keys():
        return found
    return {**check_marks(set_id, documents, _today(connection, marks)), **found}


def note(
    connection: sqlite3.Connection, set_id: str, documents: Mapping[str, bytes], marks: Marks
) -> tuple[dict[str, Checked], bool]:
    """Check the documents of a set, and enter the outcomes; with them, False if that has to be done
    again.

    Without keys only what is not known yet is entered.
    """
    known = {} if marks.keys else noted(connection, set_id)
    found = {**check_marks(set_id, documents, _today(connection, marks)), **known}
    connection.executemany(
        "INSERT OR REPLACE INTO marks(set_id, name, mark, key) VALUES (?, ?, ?, ?)",
        [
            (set_id, name, one.outcome, one.fingerprint)
            for name, one in found.items()
            if name not in known
        ],
    )
    return found, bool(marks.keys) or found.keys() == known.keys()


def forget(connection: sqlite3.Connection, set_id: str, name: str | None = None) -> None:
    """Drop what is noted of a document, or of all documents of a set."""
    connection.execute(
        "DELETE FROM marks WHERE set_id = ?1 AND (?2 IS NULL OR name = ?2)", (set_id, name)
    )


def believed(
    connection: sqlite3.Connection, kind: str, *, until: str = "~"
) -> list[tuple[str, bytes]]:
    """Set id and document of each verdict of a kind (`proof-`, …) that is believed, in the order of
    their times, up to the name `until`."""
    rows = connection.execute(
        "SELECT set_id, document FROM verdicts JOIN marks USING (set_id, name)"
        " WHERE name LIKE ? AND name <= ? AND mark = 'valid' ORDER BY name",
        (f"{kind}%", until),
    )
    return [(str(row[0]), bytes(row[1])) for row in rows]


def believed_sets(connection: sqlite3.Connection) -> frozenset[str]:
    """The ids of the sets with a valid mark."""
    rows = connection.execute(
        "SELECT set_id FROM marks WHERE name = ? AND mark = 'valid'", (naming.MANIFEST,)
    )
    return frozenset(str(row[0]) for row in rows)


def has_marked_set(connection: sqlite3.Connection) -> bool:
    """Whether a manifest has a mark, of whatever key."""
    row = connection.execute(
        "SELECT 1 FROM marks WHERE name = ? AND mark IN ('valid', 'unknown_key') LIMIT 1",
        (naming.MANIFEST,),
    ).fetchone()
    return row is not None


def unmarked_verdicts(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Set id and name of each verdict without a valid mark, on a set that has one."""
    rows = connection.execute(
        "SELECT verdict.set_id, verdict.name FROM marks AS verdict JOIN marks AS own"
        " ON own.set_id = verdict.set_id AND own.name = ? AND own.mark = 'valid'"
        " WHERE verdict.mark <> 'valid' ORDER BY verdict.set_id, verdict.name",
        (naming.MANIFEST,),
    )
    return [(str(row[0]), str(row[1])) for row in rows]


def not_believed(connection: sqlite3.Connection) -> dict[tuple[str, str], Mark]:
    """How those documents are marked that are not believed, by set id and name."""
    rows = connection.execute("SELECT set_id, name, mark FROM marks WHERE mark <> 'valid'")
    return {(row[0], row[1]): row[2] for row in rows}


def report_not_believed(
    found: Mapping[tuple[str, str], Mark], prefix: str, before: Collection[tuple[str, str]]
) -> None:
    """Log each document (set, name) that is not believed, and was not so `before`."""
    for (set_id, name), mark in sorted(found.items()):
        if (set_id, name) not in before:
            _log.warning(
                "%s counts for nothing: %s",
                naming.document_key(prefix, set_id, name),
                _NOT_BELIEVED[mark],
                extra=fields(set_id=set_id, name=name),
            )
