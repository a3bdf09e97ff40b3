"""What SQLite's own check says of a copy: sound, damaged, or not wholly checked, and why.

An index with wrong entries, or with damaged pages, loses nothing: the rows are in their table.
`REINDEX` makes the index anew; where pages are damaged, only another file does. A schema that
needs a collation or a function of the owner's program cannot be evaluated here: its pages are
checked, and its rows counted, as far as that needs neither.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from backups.errors import SnapshotDamaged
from backups.model import Snapshots
from backups.runs.log_files import source_log
from backups.sources.checking.deep_check import LEAST_BYTES, is_sound
from backups.sources.checking.inspection import Check, fault_of
from shared.databases.schema import KnownSchema, foreign_parts
from shared.databases.translation import harmless_text, primary_code
from shared.databases.untrusted import open_untrusted, with_untrusted
from shared.errors import DatabaseCorrupt, DatabaseError

_MOST_FINDINGS = 100
_LONGEST = 200
# What integrity_check says of an index whose table is sound (sqlite3 source, pragma.c).
_INDEX_ONLY = re.compile(
    r"row \d+ missing from index .+|wrong # of entries in index .+"
    r"|non-unique entry in index .+|row \d+ values differ from index .+"
    r"|rowid not at end-of-record for row \d+ of index .+"
)
# What the check says of a page, of the tree that the page is in, and of a tree that it cannot read
# to its end (sqlite3 source, btree.c).
_OF_A_PAGE = re.compile(r"[Pp]age (\d+)")
_UNREACHED = re.compile(r"Page \d+ is never used|\*\*\* in database main \*\*\*")
_OF_TYPE = "SELECT name FROM sqlite_schema WHERE type = ? AND rootpage > 0"


@dataclass(frozen=True)
class Soundness:
    """`fault`: it is damaged. `wrong_index`: only an index is. `unchecked`: what SQLite lacks."""

    fault: str | None = None
    wrong_index: str = ""
    unchecked: str = ""

    @property
    def finding(self) -> str:
        """What a manifest says of a file that is stored all the same."""
        return self.wrong_index or self.unchecked

    def suspicion(self, source: str) -> str | None:
        """A reason to suspect the set, if there is one."""
        if not self.wrong_index:
            return None
        return (
            f"an index of {source} is damaged ({self.wrong_index}), its table is not: run REINDEX "
            f"on it; where that fails, restore {source}"
        )


def soundness_of(connection: sqlite3.Connection, check: Check) -> Soundness:
    """Run SQLite's check; what lacks a function or a collation is checked without expressions.

    Raises what sqlite3 raises for a file that it cannot read.
    """
    connection.text_factory = lambda text: text.decode("utf-8", "backslashreplace")
    try:
        if check == "quick_check":
            fault = fault_of(connection, check)
            index = _damaged_index(connection) if fault else ""
            return Soundness(wrong_index=index) if index else Soundness(fault)
        rows = connection.execute(f"PRAGMA {check}({_MOST_FINDINGS})").fetchall()
    except sqlite3.DatabaseError as error:
        if primary_code(error) == sqlite3.SQLITE_CORRUPT and (index := _damaged_index(connection)):
            return Soundness(wrong_index=index)
        if primary_code(error) != sqlite3.SQLITE_ERROR or not harmless_text(error):
            raise
        return Soundness(
            _fault_of_pages(connection), unchecked=f"SQLite answers: {harmless_text(error)}"
        )
    found = [str(row[0]) for row in rows]
    if found == ["ok"]:
        return Soundness()
    if found and all(_INDEX_ONLY.fullmatch(text) for text in found):
        return Soundness(wrong_index=found[0][:_LONGEST])
    if index := _damaged_index(connection):
        return Soundness(wrong_index=index)
    return Soundness(next((text for text in found if not _INDEX_ONLY.fullmatch(text)), "no answer"))


def examine(source: str, path: Path, ask: Callable[[], None]) -> Soundness:
    """What SQLite finds in a snapshot, said in the log too; what `ask` raises stops it.

    Raises `SnapshotDamaged`.
    """
    copy = f"the copy of source {source}"
    if path.stat().st_size >= LEAST_BYTES and is_sound(path, ask):
        return Soundness()
    try:
        soundness = with_untrusted(
            path, copy, lambda connection: soundness_of(connection, "integrity_check"), ask
        )
        fault = soundness.fault
    except DatabaseCorrupt as error:
        fault = error.message
    if fault:
        raise SnapshotDamaged(source, fault)
    log = source_log(source)
    if reason := soundness.suspicion(source):
        log.warning("suspect: %s", reason)
    elif soundness.unchecked:
        log.warning("not wholly checked: %s", soundness.unchecked)
    return soundness


def foreign_schemas(snapshots: Snapshots, schemas: Mapping[str, KnownSchema]) -> list[str]:
    """Reasons to suspect a set whose files a restore in place refuses."""
    reasons = []
    for file in snapshots.files:
        known = schemas.get(file.source)
        if known is None:
            continue
        try:
            with open_untrusted(file.path, f"the copy of source {file.source}") as connection:
                parts = foreign_parts(connection, known)
        except DatabaseError:
            parts = ["has a schema that SQLite cannot read"]
        if parts:
            reasons.append(
                f"{file.source} {parts[0]}, which this program has not made: no restore in place "
                "takes it"
            )
            source_log(file.source).warning("suspect: %s", reasons[-1])
    return reasons


def _damaged_index(connection: sqlite3.Connection) -> str:
    """Which index has damaged pages, if nothing else is damaged; empty for any other damage.

    SQLite names the pages, and the table `dbstat` the trees in which they are; where it was built
    without that, nothing is known. Every row of every table is read without an index.
    """
    try:
        rows = connection.execute(f"PRAGMA quick_check({_MOST_FINDINGS})").fetchall()
        lines = [line for row in rows for line in str(row[0]).splitlines()]
        lines = [line for line in lines if not _UNREACHED.fullmatch(line)]
        pages = {int(found[1]) for line in lines if (found := _OF_A_PAGE.search(line))}
        if not pages or len(lines) >= _MOST_FINDINGS or not all(map(_is_of_index, lines)):
            return ""
        indexes = {str(row[0]) for row in connection.execute(_OF_TYPE, ("index",))}
        trees = {
            number: str(name)
            for name, number in connection.execute("SELECT name, pageno FROM dbstat")
        }
        owners = {trees.get(page, "") for page in pages}
        if not owners <= indexes:
            return ""
        for (name,) in connection.execute(_OF_TYPE, ("table",)).fetchall():
            quoted = str(name).replace('"', '""')
            for _ in connection.execute(f'SELECT * FROM "{quoted}" NOT INDEXED'):  # noqa: S608
                pass
    except sqlite3.Error:
        return ""
    return f"pages of {', '.join(sorted(owners))}"[:_LONGEST]


def _is_of_index(line: str) -> bool:
    return bool(_OF_A_PAGE.search(line) or _INDEX_ONLY.fullmatch(line))


def _fault_of_pages(connection: sqlite3.Connection) -> str | None:
    """The first fault that is found without evaluating expressions of the schema."""
    connection.execute("PRAGMA ignore_check_constraints=ON")
    try:
        return fault_of(connection, "quick_check")
    except sqlite3.OperationalError as error:
        if primary_code(error) != sqlite3.SQLITE_ERROR:
            raise
        return None  # counting the rows has read the pages of every table that can be read
