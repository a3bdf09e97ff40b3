"""The page size of a copy, which must be that of the live database it is written into."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from backups.errors import PageSizeDiffers
from shared.databases.untrusted import with_untrusted
from shared.files import create_private_file


def change_page_size(staged: Path, page_size: int, ask: Callable[[], None]) -> None:
    """Rewrite a copy into pages of another size; each row keeps its rowid.

    `VACUUM` renumbers the rows of a table without an INTEGER PRIMARY KEY, and `VACUUM INTO` does
    not; https://www.sqlite.org/lang_vacuum.html promises neither, so the rowids are compared.
    Raises `PageSizeDiffers`, and leaves the copy as it is, when that cannot be done; what `ask`
    raises, too.
    """
    beside = staged.with_name(f"{staged.name}.{page_size}")
    create_private_file(beside)

    def rewrite(copy: sqlite3.Connection) -> bool:
        try:
            copy.execute(f"PRAGMA page_size={page_size}")
            copy.execute("VACUUM INTO ?", (str(beside),))
            copy.execute("ATTACH ? AS rewritten", (str(beside),))
            return _has_same_rowids(copy)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
                raise
            # Its indexes need a collation or a function of the program that owns it.
            raise _page_size_differs(page_size, str(error)) from error

    try:
        if not with_untrusted(staged, str(staged), rewrite, ask, writes=True):
            raise _page_size_differs(page_size, "its rows get other rowids")
        beside.replace(staged)
    finally:
        beside.unlink(missing_ok=True)


def _page_size_differs(page_size: int, reason: str) -> PageSizeDiffers:
    return PageSizeDiffers(
        f"the live database has pages of {page_size} bytes, and the copy cannot be rewritten so: "
        f"{reason}",
        "Move the live files aside, then restore again.",
    )


def _has_same_rowids(copy: sqlite3.Connection) -> bool:
    tables = copy.execute(
        "SELECT name FROM main.sqlite_schema WHERE type = 'table'"
        " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND sql NOT LIKE 'CREATE VIRTUAL%'"
    ).fetchall()
    return all(_keeps_rowids(copy, str(name)) for (name,) in tables)


def _keeps_rowids(copy: sqlite3.Connection, table: str) -> bool:
    """Whether no rowid of a table is missing in the rewritten copy, which has as many rows."""
    columns = {
        str(row[0]).lower()
        for row in copy.execute("SELECT name FROM pragma_table_xinfo(?, 'main')", (table,))
    }
    rowid = next((one for one in ("rowid", "oid", "_rowid_") if one not in columns), None)
    quoted = '"' + table.replace('"', '""') + '"'
    try:
        missing = copy.execute(
            f"SELECT 1 FROM main.{quoted} WHERE {rowid} NOT IN"  # noqa: S608
            f" (SELECT {rowid} FROM rewritten.{quoted}) LIMIT 1"
        ).fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            raise
        return True  # WITHOUT ROWID, or all names for it are those of columns
    return missing is None
